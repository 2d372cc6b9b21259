//! Whatever rule the configuration accepts compiles to text that our parser reads back as the same rules and that
//! pf would take; hostile text stays between its quotes.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use aifw::compile::{Environment, InterfaceFacts, firewall, nat_lines, rule_line};
use aifw::config::nat::Redirect;
use aifw::config::rule::{
    Action, AdaptiveTimeouts, Direction, Endpoint, IpVersion, Protocol, StateOptions, StatePolicy,
    StateTracking,
};
use aifw::config::{
    Address, Alias, AliasKind, Config, GeoIpAction, GeoIpRule, Id, InterfaceName, Label, NatKind, NatRule,
    PortRange, Rule, Status, TableName, Timestamp,
};
use aifw::pf::ast::{Item, Ruleset};
use aifw::pf::expand::{NoInterfaces, expand};
use aifw::pf::parse::parse;
use ipnet::IpNet;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

fn interface() -> BoxedStrategy<InterfaceName> {
    let known = select(vec!["em0", "em1", "em2"]).prop_map(str::to_owned);
    // Reserved words and odd names, which pf takes between quotes only.
    let odd = select(vec!["in", "pass", "to", "12", "-x", "any.1", "all"]).prop_map(str::to_owned);
    prop_oneof![6 => known, 1 => odd, 1 => "[A-Za-z][A-Za-z0-9_.-]{0,14}"]
        .prop_map(|name| InterfaceName::new(&name).unwrap())
        .boxed()
}
fn lettered() -> BoxedStrategy<InterfaceName> {
    prop_oneof![Just("em1".to_owned()), Just("in".to_owned()), "[A-Za-z][A-Za-z0-9_.-]{0,14}".boxed()]
        .prop_map(|name| InterfaceName::new(&name).unwrap())
        .boxed()
}
fn network() -> BoxedStrategy<IpNet> {
    prop_oneof![
        (any::<[u8; 4]>(), 0u8..=32).prop_map(|(a, p)| IpNet::new(a.into(), p).unwrap()),
        (any::<[u16; 8]>(), 0u8..=128).prop_map(|(a, p)| IpNet::new(a.into(), p).unwrap()),
        any::<u8>().prop_map(|host| IpNet::new([192, 168, 1, host].into(), 32).unwrap()),
    ]
    .boxed()
}
/// Names of the aliases that [`config`] makes, and of the product's own tables.
fn table() -> BoxedStrategy<TableName> {
    select(vec!["hosts", "nets", "urls", "off", "bruteforce", "ai_blocked", "geoip_cn", "geoip_xx"])
        .prop_map(|name| TableName::new(name).unwrap())
        .boxed()
}
fn address() -> BoxedStrategy<Address> {
    prop_oneof![
        3 => Just(Address::Any),
        4 => network().prop_map(|net| Address::Host(net.addr())),
        4 => network().prop_map(Address::Network),
        2 => table().prop_map(Address::Table),
        1 => Just(Address::This),
        1 => lettered().prop_map(Address::Interface),
        1 => lettered().prop_map(Address::InterfaceNetwork),
    ]
    .boxed()
}
fn port_range() -> BoxedStrategy<PortRange> {
    (1u16.., 1u16..).prop_map(|(a, b)| PortRange::new(a.min(b), a.max(b)).unwrap()).boxed()
}
fn protocol() -> BoxedStrategy<Protocol> {
    use Protocol::{Ah, Any, Esp, Gre, Icmp, Icmp6, Tcp, TcpUdp, Udp};
    select(vec![Any, Tcp, Tcp, Udp, TcpUdp, Icmp, Icmp6, Esp, Ah, Gre]).boxed()
}
fn label() -> BoxedStrategy<Label> {
    prop_oneof!["\\PC{0,20}", any::<String>().boxed(), Just("$srcaddr { } # <x> ! = / ( ) é".to_owned())]
        .prop_filter_map("a label", |text| Label::new(&text).ok())
        .boxed()
}
fn endpoint() -> BoxedStrategy<Endpoint> {
    let alias = of(select(vec!["web", "none"]).prop_map(|name| TableName::new(name).unwrap()));
    (address(), any::<bool>(), of(port_range()), alias)
        .prop_map(|(addr, invert, port, alias)| Endpoint {
            invert: invert && addr != Address::Any,
            addr,
            port_alias: alias.filter(|_| port.is_none()),
            port,
        })
        .boxed()
}
fn state() -> BoxedStrategy<StateOptions> {
    use StateTracking::{KeepState, ModulateState, None, SynproxyState};
    (
        select(vec![None, KeepState, ModulateState, SynproxyState]),
        of(select(vec![StatePolicy::IfBound, StatePolicy::Floating])),
        of(any::<(u32, u32)>()),
        of(0u32..1 << 31),
        of(0u32..1 << 31),
        of(0u32..1 << 31),
    )
        .prop_map(|(tracking, policy, adaptive, timeout_tcp, timeout_udp, timeout_icmp)| StateOptions {
            tracking,
            policy,
            adaptive_timeouts: adaptive.map(|(a, b)| AdaptiveTimeouts { start: a.min(b), end: a.max(b) }),
            timeout_tcp,
            timeout_udp,
            timeout_icmp,
        })
        .boxed()
}
fn rule() -> BoxedStrategy<Rule> {
    let action =
        select(vec![Action::Pass, Action::Pass, Action::Block, Action::BlockDrop, Action::BlockReturn]);
    let direction = select(vec![Direction::In, Direction::Out, Direction::Any]);
    let version =
        select(vec![IpVersion::Inet, IpVersion::Inet6, IpVersion::Both, IpVersion::Both, IpVersion::Inet46]);
    let gateway = of(select(vec!["203.0.113.1", "198.51.100.1", "2001:db8::1"]).prop_map(str::to_owned));
    let first = (any::<u128>(), 0u16..=10_000, action, direction, version, of(interface()), protocol());
    let second = (endpoint(), endpoint(), any::<bool>(), any::<bool>(), of(label()), gateway, state());
    (first, second)
        .prop_map(|(first, second)| {
            let mut rule = Rule {
                id: Id::from_u128(first.0),
                priority: first.1,
                action: first.2,
                direction: first.3,
                ip_version: first.4,
                interface: first.5,
                protocol: first.6,
                src: second.0,
                dst: second.1,
                log: second.2,
                quick: second.3,
                label: second.4,
                description: None,
                gateway: second.5,
                state: second.6,
                status: Status::Active,
                schedule_id: None,
                created_at: Timestamp::UNIX_EPOCH,
                updated_at: Timestamp::UNIX_EPOCH,
            };
            // What is most often refused is mostly taken away.
            if !rule.id.as_u128().is_multiple_of(8) {
                if !rule.protocol.has_ports() {
                    for end in [&mut rule.src, &mut rule.dst] {
                        (end.port, end.port_alias) = (None, None);
                    }
                }
                if rule.action.blocks() || rule.direction == Direction::Any {
                    rule.gateway = None;
                }
            }
            rule
        })
        .boxed()
}
/// Addresses of one family, or of none.
fn address_in(six: bool) -> BoxedStrategy<Address> {
    address()
        .prop_map(move |address| match address.family() {
            Some(family) if (family == aifw::config::value::Family::Inet6) != six => Address::Any,
            _ => address,
        })
        .boxed()
}
/// What each kind needs: mostly right, sometimes not.
fn nat() -> BoxedStrategy<NatRule> {
    use NatKind::{Binat, Dnat, Masquerade, Nat46, Nat64, Snat};
    (select(vec![Snat, Dnat, Masquerade, Binat, Nat64, Nat46]), any::<bool>(), any::<bool>())
        .prop_flat_map(|(kind, six, with_ports)| {
            let outer = match kind {
                Nat64 => true,
                Nat46 => false,
                _ => six,
            };
            let ports = with_ports && kind != Binat;
            let port = move || if ports { of(port_range()).boxed() } else { Just(None).boxed() };
            let protocol = match ports {
                true => select(vec![Protocol::Tcp, Protocol::Udp, Protocol::TcpUdp]).boxed(),
                false => protocol(),
            };
            let prefix = if outer { 0u8..=128 } else { 0u8..=32 };
            let fixed =
                (any::<[u8; 4]>(), any::<[u16; 8]>(), prefix).prop_map(move |(four, eight, prefix)| {
                    Address::Network(
                        IpNet::new(if outer { eight.into() } else { four.into() }, prefix).unwrap(),
                    )
                });
            let pair = (fixed.clone(), fixed).prop_map(|(source, target)| match (&source, &target) {
                (Address::Network(a), Address::Network(b)) => {
                    (source.clone(), Address::Network(IpNet::new(b.addr(), a.prefix_len()).unwrap()))
                }
                _ => (source, target),
            });
            let destination = match kind {
                Nat64 => (any::<[u16; 8]>(), 96u8..=128)
                    .prop_map(|(a, p)| Address::Network(IpNet::new(a.into(), p).unwrap()))
                    .boxed(),
                _ => address_in(outer),
            };
            let redirect = match kind {
                Masquerade => Just(Address::Any).boxed(),
                Nat64 => {
                    prop_oneof![Just(Address::Any), any::<[u8; 4]>().prop_map(|a| Address::Host(a.into()))]
                        .boxed()
                }
                Nat46 => (any::<[u16; 8]>(), any::<bool>())
                    .prop_map(|(a, host)| match host {
                        true => Address::Host(a.into()),
                        false => Address::Network(IpNet::new(a.into(), 96).unwrap()),
                    })
                    .boxed(),
                _ => address_in(outer),
            };
            let redirect_port = match kind {
                Nat64 | Nat46 => Just(None).boxed(),
                // As long as the destination's range, or one port.
                _ => prop_oneof![
                    port(),
                    (1u16..).prop_map(move |p| PortRange::new(p, p).ok().filter(|_| ports))
                ]
                .boxed(),
            };
            let first = (
                any::<u128>(),
                any::<u64>(),
                lettered(),
                protocol,
                address_in(outer),
                destination,
                redirect,
                pair,
            );
            let second = (port(), port(), redirect_port, of(label()), any::<bool>(), any::<bool>());
            (Just(kind), first, second)
        })
        .prop_map(|(kind, first, second)| {
            let (source, redirect) = if kind == Binat { first.7 } else { (first.4, first.6) };
            NatRule {
                id: Id::from_u128(first.0),
                position: first.1,
                nat_type: kind,
                interface: first.2,
                protocol: first.3,
                src_addr: source,
                src_port: second.0,
                dst_addr: first.5,
                dst_port: second.1,
                redirect: Redirect { address: redirect, port: second.2 },
                label: second.3,
                status: Status::Active,
                static_port: second.4 && matches!(kind, Snat | Masquerade),
                associated_filter: second.5,
                created_at: Timestamp::UNIX_EPOCH,
                updated_at: Timestamp::UNIX_EPOCH,
            }
        })
        .boxed()
}

fn alias(number: u128, name: &str, alias_type: AliasKind, entries: &[&str]) -> Alias {
    Alias {
        id: Id::from_u128(number),
        name: TableName::new(name).unwrap(),
        alias_type,
        entries: entries.iter().map(|entry| (*entry).to_owned()).collect(),
        description: None,
        enabled: name != "off",
        refresh_secs: None,
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    }
}

fn config() -> Config {
    let mut config = Config::default();
    for alias in [
        alias(1, "hosts", AliasKind::Host, &["10.0.0.1"]),
        alias(2, "nets", AliasKind::Network, &["10.0.0.0/8", "!10.1.0.0/16"]),
        alias(3, "urls", AliasKind::UrlTable, &["https://example.org/list"]),
        alias(4, "off", AliasKind::Host, &["10.0.0.2"]),
        alias(5, "web", AliasKind::Port, &["80", "8000-8080", "443:444"]),
        alias(6, "none", AliasKind::Port, &[]),
    ] {
        config.aliases.insert(alias);
    }
    let system = Arc::make_mut(&mut config.system);
    system.wan_interface = Some(InterfaceName::new("em0").unwrap());
    system.lan_interface = Some(InterfaceName::new("em1").unwrap());
    config
}

fn environment() -> Environment {
    let nets = |list: &[&str]| list.iter().map(|net| net.parse().unwrap()).collect::<Vec<IpNet>>();
    let cn = Arc::new(nets(&["1.0.1.0/24", "2001:250::/32"]));
    let none = Arc::new(Vec::new());
    Environment {
        interfaces: vec![
            InterfaceFacts::of("em0", &nets(&["203.0.113.2/24", "2001:db8::2/64"])).unwrap(),
            InterfaceFacts::of("em1", &nets(&["192.168.1.1/24"])).unwrap(),
        ],
        countries: Arc::new(move |country| if country == "CN" { cn.clone() } else { none.clone() }),
        ..Environment::empty()
    }
}

/// Reads back as the same rules, and pf would keep them.
fn loads(name: &str, ruleset: &Ruleset) -> Result<(), TestCaseError> {
    let text = ruleset.to_string();
    let read = parse(&text).map_err(|error| TestCaseError::fail(format!("{name}: {error}\n{text}")))?;
    prop_assert_eq!(&read, ruleset, "{}: {}", name, text);
    prop_assert_eq!(text.lines().count(), ruleset.statements.len(), "{}: {}", name, text);
    match expand(&read, &NoInterfaces) {
        Ok(_) => Ok(()),
        Err(error) => Err(TestCaseError::fail(format!("{name}: {error}\n{text}"))),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_global_rejects: 100_000, failure_persistence: None, ..ProptestConfig::with_cases(600) })]

    #[test]
    fn accepted_filter_rules_load(rules in vec(rule(), 1..6), logging in any::<bool>()) {
        let mut config = config();
        Arc::make_mut(&mut config.firewall).block_logging = logging;
        for rule in rules {
            if rule.check().is_ok() && rule.check_references(&config).is_ok() {
                let line = rule_line(&config, &environment(), &rule).unwrap();
                prop_assert_eq!(line.lines().count(), 1);
                prop_assert!(line.starts_with("# ") || line.ends_with(&format!("label \"rule:{}\"", rule.id)), "{}", line);
                config.rules.insert(rule);
            }
        }
        let compiled = firewall(&config, &environment()).unwrap();
        let left = compiled.warnings.iter().filter(|warning| warning.text.starts_with("left out")).count();
        for (name, ruleset) in &compiled.anchors {
            loads(name, ruleset)?;
        }
        let lines = compiled.anchors.last().unwrap().1.statements.iter().filter(|one| matches!(one.item, Item::Filter(_))).count();
        prop_assert_eq!(lines + left, config.rules.len());
    }

    #[test]
    fn accepted_nat_rules_load(rules in vec(nat(), 1..6)) {
        let mut config = config();
        for rule in rules {
            if rule.check().is_ok() && rule.check_references(&config).is_ok() {
                prop_assert!(!nat_lines(&config, &environment(), &rule).unwrap().is_empty());
                config.nat.insert(rule);
            }
        }
        let compiled = firewall(&config, &environment()).unwrap();
        for (name, ruleset) in &compiled.anchors {
            loads(name, ruleset)?;
        }
    }

    #[test]
    fn countries_and_main_rulesets_load(
        allow in any::<bool>(), label in of(label()), wan in of(interface()), lan in of(interface()), ports in any::<(u16, u16)>(),
    ) {
        let mut config = config();
        config.geoip.insert(GeoIpRule {
            id: Id::from_u128(9),
            country: "CN".parse().unwrap(),
            action: if allow { GeoIpAction::Allow } else { GeoIpAction::Block },
            label,
            status: Status::Active,
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
        });
        let system = Arc::make_mut(&mut config.system);
        system.wan_interface = wan;
        system.lan_interface = lan;
        (system.ssh_port, system.api_port) = ports;
        let compiled = firewall(&config, &environment()).unwrap();
        loads("main", &compiled.main)?;
        for (name, ruleset) in &compiled.anchors {
            loads(name, ruleset)?;
        }
    }
}
