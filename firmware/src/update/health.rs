//! Whether a firmware that is being tried is healthy: store open and migrated, packet filter loaded, API answering,
//! interfaces as before (DESIGN.md, "The image"). Pure; the composition gathers the signs.

use std::time::Duration;

use super::state::Link;
use crate::platform::Interface;

/// A new firmware has so long to become healthy, from its start on.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// What is seen of a running firmware. Each `Err` says what is wrong.
#[derive(Debug, Clone)]
pub struct Signs {
    pub store: Result<(), String>,
    pub packet_filter: Result<(), String>,
    pub api: Result<(), String>,
    pub links: Vec<Link>,
}

/// An interface as it is compared.
pub fn links(interfaces: &[Interface]) -> Vec<Link> {
    let link = |interface: &Interface| Link {
        name: interface.name.clone(),
        up: interface.up,
        addressed: !interface.addresses.is_empty(),
    };
    interfaces.iter().map(link).collect()
}

/// What is wrong, in words; nothing = healthy. An interface may be more than it was before, not less.
pub fn faults(signs: &Signs, before: &[Link]) -> Vec<String> {
    let mut faults = Vec::new();
    for (what, sign) in
        [("store", &signs.store), ("packet filter", &signs.packet_filter), ("API", &signs.api)]
    {
        if let Err(reason) = sign {
            faults.push(format!("{what}: {reason}"));
        }
    }
    for old in before {
        let name = &old.name;
        match signs.links.iter().find(|link| link.name == *name) {
            None => faults.push(format!("interface {name} is missing")),
            Some(new) if old.up && !new.up => faults.push(format!("interface {name} is down")),
            Some(new) if old.addressed && !new.addressed => {
                faults.push(format!("interface {name} has no address"));
            }
            Some(_) => {}
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_a_firmware_unhealthy() {
        let link = |name: &str, up, addressed| Link { name: name.into(), up, addressed };
        let before = [link("em0", true, true), link("em1", true, false), link("em2", false, false)];
        let good = Signs { store: Ok(()), packet_filter: Ok(()), api: Ok(()), links: before.to_vec() };
        assert_eq!(faults(&good, &before), [""; 0]);
        let more = Signs { links: vec![link("em0", true, true); 1], ..good.clone() };
        assert_eq!(faults(&more, &before[..1]), [""; 0]);
        let bad = Signs {
            store: Err("emergency".into()),
            packet_filter: Err("anchor aifw is missing".into()),
            api: Err("no answer".into()),
            links: vec![link("em0", true, false), link("em1", false, true)],
        };
        let expected = [
            "store: emergency",
            "packet filter: anchor aifw is missing",
            "API: no answer",
            "interface em0 has no address",
            "interface em1 is down",
            "interface em2 is missing",
        ];
        assert_eq!(faults(&bad, &before), expected);
    }
}
