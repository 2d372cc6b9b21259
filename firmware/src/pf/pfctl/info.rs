//! Whether pf runs, its totals, its limits and time-outs.

use crate::pf::PfInfo;

pub const SHOW: &[&str] = &["-s", "info"];
pub const SHOW_LIMITS: &[&str] = &["-s", "memory"];
pub const SHOW_TIMEOUTS: &[&str] = &["-s", "timeouts"];

/// `-s info`: a status line, then sections of indented lines `name   number   rate/s`.
pub fn read(text: &str) -> PfInfo {
    let mut info = PfInfo::default();
    let mut section = "";
    for line in text.lines() {
        if let Some(status) = line.strip_prefix("Status: ") {
            info.enabled = status.starts_with("Enabled");
        } else if !line.starts_with(' ') {
            section = line.trim_end();
        } else if let Some((name, number)) = read_number(line) {
            match (section.split("  ").next().unwrap_or(section), name.as_str()) {
                ("State Table", "current entries") => info.states = number,
                ("State Table", "searches") => info.searches = number,
                ("State Table", "inserts") => info.inserts = number,
                ("State Table", "removals") => info.removals = number,
                ("Counters", _) => info.counters.push((name, number)),
                _ => {}
            }
        }
    }
    info
}

fn read_number(line: &str) -> Option<(String, u64)> {
    let mut words: Vec<&str> = line.split_whitespace().collect();
    words.pop_if(|last| last.ends_with("/s"));
    let number = words.pop()?.parse().ok()?;
    Some((words.join(" "), number))
}

/// One limit of `-s memory`: `states        hard limit    50000`. No limit at all is the largest number.
pub fn read_limit(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.split_whitespace().next() == Some(name));
    match lines.next()?.split_whitespace().last()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// All limits of `-s memory`.
pub fn read_limits(text: &str) -> Vec<(String, u64)> {
    let names = text.lines().filter(|line| line.contains(" hard limit "));
    let names = names.filter_map(|line| line.split_whitespace().next());
    names.filter_map(|name| Some((name.to_owned(), read_limit(text, name)?))).collect()
}

/// `tcp.first   120s` and `adaptive.start   30000 states`.
pub fn read_timeouts(text: &str) -> Vec<(String, u64)> {
    let pair = |line: &str| {
        let mut words = line.split_whitespace();
        let (name, value) = (words.next()?, words.next()?);
        Some((name.to_owned(), value.strip_suffix('s').unwrap_or(value).parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

/// pfctl's complaint that pf is enabled (or disabled) already.
pub fn is_already(stderr: &str, enabled: bool) -> bool {
    stderr.contains(if enabled { "pf already enabled" } else { "pf not enabled" })
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "\
Status: Enabled for 0 days 00:00:18           Debug: Urgent

State Table                          Total             Rate
  current entries                        7               
  searches                              32            1.8/s
  inserts                                9            0.5/s
  removals                               2            0.1/s
Counters
  match                                  9            0.5/s
  bad-offset                             0            0.0/s
  ip-option                              1            0.1/s
";

    #[test]
    fn totals_and_counters() {
        let expected = PfInfo {
            enabled: true,
            states: 7,
            searches: 32,
            inserts: 9,
            removals: 2,
            counters: vec![("match".into(), 9), ("bad-offset".into(), 0), ("ip-option".into(), 1)],
        };
        assert_eq!(read(INFO), expected);
    }

    #[test]
    fn other_tables_do_not_mix_in() {
        let text = "Status: Disabled for 0 days 00:00:01           Debug: Urgent\n\nHostid:   0x7cb1045f\n\n\
                    State Table                          Total             Rate\n  current entries                        7               \n\
                    Source Tracking Table\n  current entries                        5               \n  searches                               4            0.0/s\n\
                    Limit Counters\n  max states per rule                    3            0.0/s\n";
        assert_eq!(read(text), PfInfo { states: 7, ..PfInfo::default() });
    }

    #[test]
    fn limits() {
        let text = "states        hard limit    50000\nsrc-nodes     hard limit    20000\ntable-entries hard limit   400000\nfrags         hard limit unlimited\n";
        assert_eq!(read_limit(text, "states"), Some(50000));
        assert_eq!(read_limit(text, "table-entries"), Some(400_000));
        assert_eq!(read_limit(text, "frags"), Some(u64::MAX));
        assert_eq!(read_limit(text, "anchors"), None);
    }

    /// Literal output of FreeBSD 15.1.
    #[test]
    fn all_limits_as_freebsd_prints_them() {
        let text = "states        hard limit    50000\nsrc-nodes     hard limit    20000\nfrags         hard limit     5000\n\
                    table-entries hard limit   400000\nanchors       hard limit        0\neth-anchors   hard limit        0\n";
        let expected = [
            ("states", 50_000),
            ("src-nodes", 20_000),
            ("frags", 5_000),
            ("table-entries", 400_000),
            ("anchors", 0),
            ("eth-anchors", 0),
        ];
        assert_eq!(read_limits(text), expected.map(|(name, limit)| (name.to_owned(), limit)));
    }

    #[test]
    fn timeouts() {
        let text = "tcp.first                   120s\nadaptive.start            30000 states\nsrc.track                     0s\n";
        let expected =
            [("tcp.first".to_owned(), 120), ("adaptive.start".into(), 30000), ("src.track".into(), 0)];
        assert_eq!(read_timeouts(text), expected);
    }

    #[test]
    fn already_as_wanted() {
        assert!(
            is_already("pfctl: pf already enabled\n", true) && is_already("pfctl: pf not enabled\n", false)
        );
        assert!(!is_already("pfctl: pf not enabled\n", true));
    }
}
