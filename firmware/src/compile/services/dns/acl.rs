//! Who may ask rDNS, which knows an allow list alone: the rows of the configuration, where the most specific one
//! decides, as the fewest networks that say the same.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::compile::InterfaceFacts;
use crate::config::dns::Acl;
use crate::config::dns::settings::private_networks;

/// Networks whose hosts may ask, loopback always among them. Without a row that allows, these are the private
/// networks and those that the appliance is in, less what rows refuse.
pub fn allowed(rows: &[&Acl], interfaces: &[InterfaceFacts]) -> Vec<IpNet> {
    let loopback = [
        IpNet::V4(Ipv4Net::new_assert(std::net::Ipv4Addr::new(127, 0, 0, 0), 8)),
        IpNet::V6(Ipv6Net::new_assert(std::net::Ipv6Addr::LOCALHOST, 128)),
    ];
    let mut decided: Vec<(IpNet, bool)> = Vec::new();
    if !rows.iter().any(|row| row.action.allows()) {
        let connected = interfaces.iter().flat_map(|interface| &interface.networks).map(IpNet::trunc);
        decided.extend(private_networks().into_iter().chain(connected).map(|network| (network, true)));
    }
    decided.extend(rows.iter().map(|row| (row.network, row.action.allows())));
    // Nothing within loopback is decided otherwise.
    decided.retain(|(network, _)| !loopback.iter().any(|own| own.contains(network)));
    decided.extend(loopback.map(|network| (network, true)));
    [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())]
        .into_iter()
        .flat_map(|all| {
            let within: Vec<_> =
                decided.iter().filter(|(network, _)| all.contains(network)).copied().collect();
            cover(all, false, &within)
        })
        .collect()
}

/// The networks within `all` that are allowed; `rows` lie within it, the last of equal ones decides.
fn cover(all: IpNet, inherited: bool, rows: &[(IpNet, bool)]) -> Vec<IpNet> {
    let own =
        rows.iter().rev().find(|(network, _)| *network == all).map_or(inherited, |(_, allowed)| *allowed);
    let inside = || rows.iter().filter(|(network, _)| *network != all);
    let halves: Vec<IpNet> = match all.subnets(all.prefix_len() + 1) {
        Ok(halves) if inside().next().is_some() => halves.collect(),
        _ => return if own { vec![all] } else { Vec::new() },
    };
    let covered: Vec<IpNet> = halves
        .iter()
        .flat_map(|half| {
            let within: Vec<_> = inside().filter(|(network, _)| half.contains(network)).copied().collect();
            cover(*half, own, &within)
        })
        .collect();
    if covered == halves { vec![all] } else { covered }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::dns::AclAction;
    use crate::config::{Id, Timestamp};

    fn rows(rows: &[(&str, AclAction)]) -> Vec<String> {
        let rows: Vec<Acl> = rows
            .iter()
            .map(|(network, action)| Acl {
                id: Id::new_v4(),
                network: network.parse().unwrap(),
                action: *action,
                description: None,
                created_at: Timestamp::UNIX_EPOCH,
            })
            .collect();
        let rows: Vec<&Acl> = rows.iter().collect();
        let interfaces = [InterfaceFacts::of("em0", &["203.0.113.2/24".parse().unwrap()]).unwrap()];
        allowed(&rows, &interfaces).iter().map(IpNet::to_string).collect()
    }

    #[test]
    fn without_rows_private_and_connected_networks_may_ask() {
        assert_eq!(
            rows(&[]),
            [
                "10.0.0.0/8",
                "127.0.0.0/8",
                "169.254.0.0/16",
                "172.16.0.0/12",
                "192.168.0.0/16",
                "203.0.113.0/24",
                "::1/128",
                "fd00::/8",
                "fe80::/10"
            ]
        );
    }

    #[test]
    fn the_most_specific_row_decides() {
        let cut = rows(&[("10.0.0.0/8", AclAction::Allow), ("10.1.0.0/16", AclAction::Deny)]);
        assert_eq!(
            cut,
            [
                "10.0.0.0/16",
                "10.2.0.0/15",
                "10.4.0.0/14",
                "10.8.0.0/13",
                "10.16.0.0/12",
                "10.32.0.0/11",
                "10.64.0.0/10",
                "10.128.0.0/9",
                "127.0.0.0/8",
                "::1/128"
            ]
        );
        let back = rows(&[
            ("10.0.0.0/8", AclAction::Refuse),
            ("10.1.0.0/16", AclAction::AllowSnoop),
            ("10.1.2.0/24", AclAction::Deny),
            ("10.1.2.0/25", AclAction::Allow),
            ("10.1.2.128/25", AclAction::Allow),
        ]);
        // Both halves of what was denied are allowed again: one network says it all.
        assert_eq!(back, ["10.1.0.0/16", "127.0.0.0/8", "::1/128"]);
    }

    #[test]
    fn rows_that_only_refuse_cut_from_what_may_ask_by_default() {
        let cut = rows(&[("192.168.0.0/17", AclAction::Deny), ("127.0.0.0/8", AclAction::Deny)]);
        assert!(cut.contains(&"192.168.128.0/17".to_owned()) && cut.contains(&"127.0.0.0/8".to_owned()));
        assert!(!cut.contains(&"192.168.0.0/16".to_owned()));
        assert_eq!(rows(&[("0.0.0.0/0", AclAction::Allow)]), ["0.0.0.0/0", "::1/128"]);
    }
}
