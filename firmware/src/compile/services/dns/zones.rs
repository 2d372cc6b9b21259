//! Zone files of rDNS: one for each overridden name, one for each network with names of hosts in it, and the
//! policy zone `hosts`, which holds what can change while the daemon runs. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::World;
use crate::compile::services::{File, rpz};
use crate::config::Config;
use crate::config::dns::records::MX_PRIORITY;
use crate::config::dns::{HostOverride, RecordType};

/// Seconds that answers about our own names may be kept.
pub const TTL: u32 = 300;

/// A name of ours with an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Named {
    pub name: String,
    pub ip: IpAddr,
}

/// Enabled overrides, by name.
pub fn overrides(config: &Config) -> BTreeMap<String, Vec<&HostOverride>> {
    let mut names: BTreeMap<String, Vec<&HostOverride>> = BTreeMap::new();
    for host in config.dns_hosts.iter().filter(|host| host.enabled) {
        names.entry(host.name()).or_default().push(host);
    }
    for hosts in names.values_mut() {
        hosts.sort_by(|a, b| (a.record_type, &a.value).cmp(&(b.record_type, &b.value)));
    }
    names
}

fn soa(origin: &str) -> String {
    // The serial means nothing: nobody transfers these zones.
    format!(
        "$TTL {TTL}\n{origin}. IN SOA localhost. hostmaster.{origin}. 1 3600 900 604800 {TTL}\n{origin}. IN NS localhost.\n"
    )
}

/// A zone file for `origin` with these record lines.
fn zone(origin: &str, records: &[String]) -> File {
    let mut text = soa(origin);
    for record in records {
        text.push_str(record);
        text.push('\n');
    }
    File::new(format!("zones/{origin}.zone"), text)
}

/// The zone by whose one record the daemon is known to answer, and to be ours.
pub fn ready(name: &str, token: &str) -> File {
    zone(name, &[format!("{name}. IN TXT \"{token}\"")])
}

/// A zone for each overridden name but those that are a domain itself.
pub fn hosts(config: &Config, world: &World, warnings: &mut Vec<String>) -> Vec<File> {
    let names = overrides(config);
    let mut files = Vec::new();
    for (name, hosts) in &names {
        if hosts.iter().any(|host| host.hostname.is_apex()) {
            continue;
        }
        let mut records = Vec::new();
        for host in hosts {
            let value = host.value.trim_end_matches('.');
            let data = match host.record_type {
                RecordType::A | RecordType::Aaaa => host.value.clone(),
                RecordType::Cname | RecordType::Ns | RecordType::Ptr => format!("{value}."),
                RecordType::Mx => format!("{} {value}.", host.mx_priority.unwrap_or(MX_PRIORITY)),
                RecordType::Txt => text(&host.value).unwrap_or_else(|| {
                    warnings.push(format!("{name}: rDNS cannot keep all blanks of its TXT record"));
                    text(&host.value.split_whitespace().collect::<Vec<_>>().join(" ")).unwrap_or_default()
                }),
            };
            records.push(format!("{name}. IN {} {data}", host.record_type.word()));
            if host.record_type == RecordType::Cname {
                // rDNS does not follow an alias out of the zone: what it leads to stands beside it.
                let addresses = addresses_of(&value.to_ascii_lowercase(), &names, world);
                if addresses.is_empty() {
                    warnings
                        .push(format!("{name}: no address of {value} is known; clients get the alias alone"));
                }
                records.extend(addresses.iter().map(|ip| format!("{name}. IN {} {ip}", address_type(ip))));
            }
        }
        files.push(zone(name, &records));
    }
    files
}

/// Addresses of an alias's target: of the overrides if it is one, else what was found out.
pub fn addresses_of(
    target: &str,
    names: &BTreeMap<String, Vec<&HostOverride>>,
    world: &World,
) -> Vec<IpAddr> {
    match names.get(target) {
        Some(hosts) => hosts.iter().filter_map(|host| host.value.parse().ok()).collect(),
        None => world.aliases.get(target).cloned().unwrap_or_default(),
    }
}

fn address_type(ip: &IpAddr) -> &'static str {
    if ip.is_ipv4() { "A" } else { "AAAA" }
}

/// Character strings of a TXT record (RFC 1035 §3.3.14), each byte beyond ASCII as the character of its number,
/// which is how rDNS reads them back. `None` where the daemon would lose blanks.
fn text(value: &str) -> Option<String> {
    let lost = value.starts_with(' ') || value.ends_with(' ') || value.contains("  ");
    let wide = value.bytes().any(|byte| matches!(byte, 0x85 | 0xa0));
    if lost || wide {
        return None;
    }
    let strings = value.as_bytes().chunks(255).map(|chunk| {
        let escaped: String = chunk
            .iter()
            .flat_map(|byte| {
                let escape = matches!(byte, b'"' | b'\\').then_some('\\');
                escape.into_iter().chain([char::from(*byte)])
            })
            .collect();
        format!("\"{escaped}\"")
    });
    let strings: Vec<String> = strings.collect();
    Some(if strings.is_empty() { "\"\"".into() } else { strings.join(" ") })
}

/// Names of DHCP clients: reservations first, then leases; an overridden name is nobody else's.
pub fn dhcp_names(config: &Config, world: &World) -> Vec<Named> {
    let settings = &config.dns_resolver;
    if !settings.register_dhcp {
        return Vec::new();
    }
    let domain = settings.dhcp_domain.plain();
    let taken = overrides(config);
    let reserved = config.dhcp_reservations.iter().filter_map(|reservation| {
        Some((reservation.hostname.clone()?, reservation.ip_address.parse::<IpAddr>().ok()?))
    });
    let leased = world.leases.iter().map(|lease| (lease.name.clone(), lease.ip));
    let mut seen = BTreeSet::new();
    reserved
        .chain(leased)
        .filter_map(|(name, ip)| {
            let name = format!("{}.{domain}", label(&name)?);
            (!taken.contains_key(&name) && seen.insert(name.clone())).then_some(Named { name, ip })
        })
        .collect()
}

/// The first label, as a host name may be written (RFC 1123 §2.1).
fn label(name: &str) -> Option<String> {
    let first = name.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let ends = first.starts_with('-') || first.ends_with('-');
    ((1..=63).contains(&first.len()) && first.bytes().all(fine) && !ends).then_some(first)
}

/// `hosts.rpz`: names of DHCP clients, and overrides of whole domains. rDNS keeps one record a name here.
pub fn policy(config: &Config, world: &World, warnings: &mut Vec<String>) -> File {
    let mut text = rpz::header("hosts");
    for (name, hosts) in
        overrides(config).iter().filter(|(_, hosts)| hosts.iter().any(|h| h.hostname.is_apex()))
    {
        let best = hosts
            .iter()
            .find(|host| matches!(host.record_type, RecordType::A | RecordType::Aaaa | RecordType::Cname));
        match best {
            Some(host) => {
                let dot = if host.record_type == RecordType::Cname { "." } else { "" };
                let value = host.value.trim_end_matches('.');
                text.push_str(&format!("{name} {} {value}{dot}\n", host.record_type.word()));
            }
            None => warnings
                .push(format!("{name}: of a domain itself, rDNS can only override an address or CNAME")),
        }
        if best.is_some() && hosts.len() > 1 {
            warnings.push(format!(
                "{name}: of a domain itself, rDNS can override one record; the others are left out"
            ));
        }
    }
    for named in dhcp_names(config, world) {
        text.push_str(&format!("{} {} {}\n", named.name, address_type(&named.ip), named.ip));
    }
    File { mode: 0o644, ..File::new("rpz/hosts.rpz", text) }
}

/// Keeps questions about unknown names of DHCP clients from going upstream.
pub fn dhcp_domain(config: &Config, warnings: &mut Vec<String>) -> Option<File> {
    let settings = &config.dns_resolver;
    let domain = settings.dhcp_domain.plain();
    let below = |name: &str| name == domain || name.ends_with(&format!(".{domain}"));
    let forwarded = config.dns_domains.iter().find(|row| row.enabled && below(&row.domain.plain()));
    match forwarded {
        _ if !settings.register_dhcp => None,
        Some(row) => {
            let other = row.domain.plain();
            warnings
                .push(format!("{other} is forwarded, so unknown names of {domain} are asked for upstream"));
            None
        }
        None if overrides(config).contains_key(&domain) => None,
        None => Some(zone(&domain, &[])),
    }
}

/// Every name with its addresses that a question by address is answered with.
pub fn addressed(config: &Config, world: &World) -> Vec<Named> {
    let of_overrides = overrides(config).into_iter().flat_map(|(name, hosts)| {
        let ips: Vec<IpAddr> = hosts
            .iter()
            .filter(|host| matches!(host.record_type, RecordType::A | RecordType::Aaaa))
            .filter_map(|host| host.value.parse().ok())
            .collect();
        ips.into_iter().map(move |ip| Named { name: name.clone(), ip })
    });
    let mut named: Vec<Named> = of_overrides.chain(dhcp_names(config, world)).collect();
    let mut seen = BTreeSet::new();
    named.retain(|named| seen.insert((named.ip, named.name.clone())));
    named
}

/// One zone for each /24 and /64 with hosts in it (RFC 1035 §3.5, RFC 3596 §2.5).
pub fn reverse(config: &Config, world: &World) -> Vec<File> {
    let mut zones: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for named in addressed(config, world) {
        let (origin, owner) = match named.ip {
            IpAddr::V4(ip) => reverse_v4(ip),
            IpAddr::V6(ip) => reverse_v6(ip),
        };
        zones.entry(origin).or_default().push(format!("{owner}. IN PTR {}.", named.name));
    }
    zones.iter().map(|(origin, records)| zone(origin, records)).collect()
}

fn reverse_v4(ip: Ipv4Addr) -> (String, String) {
    let [a, b, c, d] = ip.octets();
    let origin = format!("{c}.{b}.{a}.in-addr.arpa");
    let owner = format!("{d}.{origin}");
    (origin, owner)
}

fn reverse_v6(ip: Ipv6Addr) -> (String, String) {
    let nibbles: Vec<String> =
        ip.octets().iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|n| format!("{n:x}")).rev().collect();
    (format!("{}.ip6.arpa", nibbles[16..].join(".")), format!("{}.ip6.arpa", nibbles.join(".")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn text_records_come_back_as_they_were() {
        assert_eq!(text("v=spf1 -all").unwrap(), "\"v=spf1 -all\"");
        assert_eq!(text("a\"b\\").unwrap(), "\"a\\\"b\\\\\"");
        assert_eq!(text("é").unwrap(), "\"\u{c3}\u{a9}\"");
        assert_eq!(text(&"x".repeat(300)).unwrap().matches('"').count(), 4);
        assert!(text("a  b").is_none() && text(" a").is_none());
    }

    #[test]
    fn addresses_have_names_of_their_own() {
        let v4 = reverse_v4("192.168.1.7".parse().unwrap());
        assert_eq!(v4, ("1.168.192.in-addr.arpa".into(), "7.1.168.192.in-addr.arpa".into()));
        let (origin, owner) = reverse_v6("2001:db8::7".parse().unwrap());
        assert_eq!(origin, "0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa");
        assert_eq!(owner, format!("7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.{origin}"));
    }

    #[test]
    fn only_a_host_name_becomes_one() {
        assert_eq!(label("PC1.office").unwrap(), "pc1");
        for bad in ["", "-a", "a_b", "a b", "é"] {
            assert!(label(bad).is_none(), "{bad}");
        }
    }
}
