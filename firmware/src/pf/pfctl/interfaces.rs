//! pf's counters by interface. Interface groups (`all`, `vlan` …) are listed among the interfaces.

use crate::pf::InterfaceCounters;

pub const SHOW: &[&str] = &["-v", "-v", "-s", "Interfaces"];

/// A name stands at the start of a line, ` (skip)` behind it where pf leaves the interface alone; the counters
/// follow on indented lines: `In4/Pass:    [ Packets: 0   Bytes: 0   ]`.
pub fn read(text: &str) -> Vec<InterfaceCounters> {
    let mut interfaces: Vec<InterfaceCounters> = Vec::new();
    for line in text.lines() {
        if !line.starts_with(['\t', ' ']) {
            let name = line.split_whitespace().next().unwrap_or_default();
            if !name.is_empty() {
                interfaces.push(InterfaceCounters { name: name.into(), ..InterfaceCounters::default() });
            }
        } else if let Some(interface) = interfaces.last_mut() {
            read_counter(line, interface);
        }
    }
    interfaces
}

fn read_counter(line: &str, sums: &mut InterfaceCounters) {
    let Some((name, rest)) = line.trim().split_once(':') else { return };
    let after = |key: &str| -> u64 {
        let mut words = rest.split_whitespace().skip_while(|word| *word != key).skip(1);
        words.next().and_then(|number| number.parse().ok()).unwrap_or(0)
    };
    let (packets, bytes) = match name {
        "In4/Pass" | "In6/Pass" => (&mut sums.packets_in, &mut sums.bytes_in),
        "Out4/Pass" | "Out6/Pass" => (&mut sums.packets_out, &mut sums.bytes_out),
        "In4/Block" | "In6/Block" | "Out4/Block" | "Out6/Block" => {
            (&mut sums.packets_blocked, &mut sums.bytes_blocked)
        }
        _ => return,
    };
    *packets += after("Packets:");
    *bytes += after("Bytes:");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_are_summed() {
        let text = "\
all
\tCleared:     Mon Nov 23 21:42:22 2026
\tReferences:  0                 
\tIn4/Pass:    [ Packets: 0                  Bytes: 0                  ]
lo0 (skip)
\tCleared:     Mon Nov 23 21:42:23 2026
\tReferences:  2                 
vtnet0
\tCleared:     Mon Nov 23 21:42:23 2026
\tReferences:  7                 
\tIn4/Pass:    [ Packets: 5                  Bytes: 332                ]
\tIn4/Block:   [ Packets: 1                  Bytes: 40                 ]
\tOut4/Pass:   [ Packets: 10                 Bytes: 900                ]
\tOut4/Block:  [ Packets: 2                  Bytes: 50                 ]
\tIn6/Pass:    [ Packets: 3                  Bytes: 300                ]
\tIn6/Block:   [ Packets: 0                  Bytes: 0                  ]
\tOut6/Pass:   [ Packets: 1                  Bytes: 76                 ]
\tOut6/Block:  [ Packets: 4                  Bytes: 60                 ]
";
        let interfaces = read(text);
        let names: Vec<_> = interfaces.iter().map(|i| i.name.as_str()).collect();
        assert_eq!(names, ["all", "lo0", "vtnet0"]);
        let vtnet0 = InterfaceCounters {
            name: "vtnet0".into(),
            packets_in: 8,
            packets_out: 11,
            bytes_in: 632,
            bytes_out: 976,
            packets_blocked: 7,
            bytes_blocked: 150,
        };
        assert_eq!(interfaces[2], vtnet0);
    }
}
