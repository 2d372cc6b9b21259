//! Literal text for every line that contract/firewall.md §8 gives as an example.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::time::Instant;

use super::*;
use crate::config::nat::Redirect;
use crate::config::rule::{
    Action, AdaptiveTimeouts, Direction, Endpoint, IpVersion, Protocol, StateOptions, StatePolicy,
    StateTracking,
};
use crate::config::settings::DefaultPolicy;
use crate::config::system::WanMode;
use crate::config::{
    Address, Alias, AliasKind, GeoIpAction, GeoIpRule, NatKind, PortRange, Schedule, Status, Timestamp,
};
use crate::pf::expand::{NoInterfaces, expand};
use crate::pf::parse::parse;

fn id(number: u128) -> Id {
    Id::from_u128(0x4000_8000_0000_0000_0000 + number)
}
fn name(text: &str) -> InterfaceName {
    InterfaceName::new(text).unwrap()
}
fn address(text: &str) -> Address {
    text.parse().unwrap()
}
fn ports(start: u16, end: u16) -> Option<PortRange> {
    Some(PortRange::new(start, end).unwrap())
}
fn end(text: &str, port: Option<PortRange>) -> Endpoint {
    Endpoint { addr: address(text), invert: false, port, port_alias: None }
}

fn rule(action: Action, direction: Direction, protocol: Protocol) -> Rule {
    Rule {
        id: id(1),
        priority: 100,
        action,
        direction,
        ip_version: IpVersion::Both,
        interface: None,
        protocol,
        src: Endpoint::default(),
        dst: Endpoint::default(),
        log: false,
        quick: true,
        label: None,
        description: None,
        gateway: None,
        state: StateOptions::default(),
        status: Status::Active,
        schedule_id: None,
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    }
}

fn nat(kind: NatKind, protocol: Protocol, src: &str, dst: &str, redirect: &str) -> NatRule {
    NatRule {
        id: id(7),
        position: 1,
        nat_type: kind,
        interface: name("em0"),
        protocol,
        src_addr: address(src),
        src_port: None,
        dst_addr: address(dst),
        dst_port: None,
        redirect: Redirect { address: address(redirect), port: None },
        label: None,
        status: Status::Active,
        static_port: false,
        associated_filter: true,
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    }
}

fn alias(number: u128, alias_name: &str, kind: AliasKind, entries: &[&str]) -> Alias {
    Alias {
        id: id(number),
        name: alias_name.parse().unwrap(),
        alias_type: kind,
        entries: entries.iter().map(|entry| (*entry).to_owned()).collect(),
        description: None,
        enabled: true,
        refresh_secs: None,
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    }
}

/// WAN em0 with 203.0.113.2/24, LAN em1 with 192.168.1.1/24; country CN has two networks.
fn world() -> (Config, Environment) {
    let mut config = Config::default();
    let system = Arc::make_mut(&mut config.system);
    system.wan_interface = Some(name("em0"));
    system.lan_interface = Some(name("em1"));
    system.wan_mode = WanMode::Dhcp;
    let nets = |list: &[&str]| list.iter().map(|net| net.parse().unwrap()).collect::<Vec<IpNet>>();
    let cn = Arc::new(nets(&["1.0.1.0/24", "2001:250::/32"]));
    let none = Arc::new(Vec::new());
    let environment = Environment {
        interfaces: vec![
            InterfaceFacts::of("em0", &nets(&["203.0.113.2/24"])).unwrap(),
            InterfaceFacts::of("em1", &nets(&["192.168.1.1/24"])).unwrap(),
        ],
        countries: Arc::new(move |country| if country == "CN" { cn.clone() } else { none.clone() }),
        ..Environment::empty()
    };
    (config, environment)
}

fn line_in(config: &Config, environment: &Environment, rule: &Rule) -> String {
    rule_line(config, environment, rule).unwrap()
}

/// The line without the label every rule ends in.
fn line(rule: &Rule) -> String {
    let (mut config, environment) = world();
    Arc::make_mut(&mut config.firewall).block_logging = false;
    config.aliases.insert(alias(20, "webservers", AliasKind::Network, &["10.1.0.0/16"]));
    config.aliases.insert(alias(21, "web", AliasKind::Port, &["80", "443", "8080-8090"]));
    let text = line_in(&config, &environment, rule);
    text.strip_suffix(&format!(" label \"rule:{}\"", rule.id)).expect("label").to_owned()
}

fn nat_text(rule: &NatRule) -> Vec<String> {
    let (config, environment) = world();
    nat_lines(&config, &environment, rule).unwrap()
}

fn anchor<'a>(firewall: &'a Firewall, wanted: &str) -> &'a Ruleset {
    &firewall.anchors.iter().find(|(name, _)| name == wanted).unwrap().1
}

#[test]
fn main_ruleset_of_policy_standard() {
    let (config, environment) = world();
    let firewall = firewall(&config, &environment).unwrap();
    assert_eq!(
        firewall.main.to_string(),
        r#"set skip on lo0
set skip on pfsync0
set block-policy drop
set state-policy floating
set limit states 100000
set limit table-entries 1000000
set reassemble yes no-df
table <bruteforce> persist
table <ai_blocked> persist
table <aifw_ids_block> persist counters
no rdr on em1 inet proto tcp from any to (em1) port { 22, 8080 }
nat-anchor "aifw-nat"
rdr-anchor "aifw-nat"
binat-anchor "aifw-nat"
nat-anchor "aifw-vpn"
rdr-anchor "aifw-tls"
nat on em0 inet from (em1:network) to any -> (em0:0)
block drop in log all label "default-deny-in"
pass out all keep state label "default-pass-out"
pass in quick on em1 inet proto tcp from any to (em1) port { 22, 8080 } keep state label "anti-lockout"
antispoof log quick for { (em0), (em1) } label "antispoof"
pass quick inet6 proto icmp6 from any to any icmp6-type { neighbrsol, neighbradv, routersol, routeradv } no state label "icmp6-nd"
pass in quick on em1 inet proto udp from any port 68 to any port 67 keep state label "dhcp-server"
block drop in log quick from <bruteforce> to any label "bruteforce"
block drop in log quick from <ai_blocked> to any label "ai-blocked"
anchor "aifw-ids"
anchor "aifw-dhcp"
anchor "aifw-time"
anchor "aifw-geoip"
anchor "aifw-ha"
anchor "aifw-vpn"
anchor "aifw-pbr"
anchor "aifw-mwan-leak"
anchor "aifw-mwan-reply"
anchor "aifw-nat"
anchor "aifw-ratelimit"
anchor "aifw"
anchor "aifw-tls"
"#
    );
    assert!(firewall.warnings.is_empty());
    let names: Vec<&str> = firewall.anchors.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["aifw-ids", "aifw-dhcp", "aifw-time", "aifw-geoip", "aifw-nat", "aifw"]);
    // pf takes it.
    expand(&parse(&firewall.main.to_string()).unwrap(), &NoInterfaces).unwrap();
}

#[test]
fn main_ruleset_follows_its_settings() {
    let (mut config, mut environment) = world();
    environment.interfaces[0].networks.push("fe80::1/64".parse().unwrap());
    environment.interfaces[1].networks.push("2001:db8::1/64".parse().unwrap());
    let settings = Arc::make_mut(&mut config.firewall);
    settings.block_logging = false;
    settings.automatic_nat = false;
    settings.default_policy = DefaultPolicy::Strict;
    settings.max_states = 5000;
    Arc::make_mut(&mut config.system).ssh_port = 2222;
    let text = firewall(&config, &environment).unwrap().main.to_string();
    for line in [
        "set limit states 5000",
        "no rdr on em1 inet proto tcp from any to (em1) port { 2222, 8080 }",
        "no rdr on em1 inet6 proto tcp from any to (em1) port { 2222, 8080 }",
        "block drop all label \"default-deny\"",
        "pass in quick on em1 inet6 proto tcp from any to (em1) port { 2222, 8080 } keep state label \"anti-lockout\"",
        "antispoof quick for { (em0), (em1) } label \"antispoof\"",
        "block drop in quick from <bruteforce> to any label \"bruteforce\"",
        "pass in quick on em0 inet6 proto udp from fe80::/10 port 547 to fe80::/10 port 546 keep state label \"dhcp6-client\"",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(!text.contains(" log ") && !text.contains("nat on") && !text.contains("default-pass"));

    Arc::make_mut(&mut config.firewall).default_policy = DefaultPolicy::Permissive;
    let text = firewall(&config, &environment).unwrap().main.to_string();
    assert!(
        text.contains("\npass all keep state label \"default-pass\"\n") && !text.contains("default-deny")
    );

    Arc::make_mut(&mut config.firewall).anti_lockout = false;
    let text = firewall(&config, &environment).unwrap().main.to_string();
    assert!(!text.contains("anti-lockout") && !text.contains("no rdr"));
}

#[test]
fn without_a_lan_the_wan_is_where_the_administrator_comes_from() {
    let (mut config, environment) = world();
    Arc::make_mut(&mut config.system).lan_interface = None;
    let text = firewall(&config, &environment).unwrap().main.to_string();
    assert!(text.contains("pass in quick on em0 inet proto tcp from any to (em0) port { 22, 8080 } keep state label \"anti-lockout\"\n"));
    assert!(text.contains("antispoof log quick for (em0) label \"antispoof\"\n"));
    assert!(!text.contains("nat on") && !text.contains("dhcp-server"));

    // Nothing is known of the machine: it must be reachable to be set up.
    let bare = firewall(&Config::default(), &Environment::empty()).unwrap();
    let text = bare.main.to_string();
    assert!(text.contains("pass in quick inet proto tcp from any to (self) port { 22, 8080 } keep state label \"anti-lockout\"\n"));
    assert_eq!(bare.warnings.len(), 1);
    expand(&parse(&text).unwrap(), &NoInterfaces).unwrap();
}

#[test]
fn filter_rules_as_in_the_contract() {
    let mut web = rule(Action::Pass, Direction::In, Protocol::Tcp);
    web.interface = Some(name("em1"));
    web.ip_version = IpVersion::Inet;
    web.src = end("192.168.1.0/24", None);
    web.dst = end("any", ports(443, 443));
    web.label = Some("web".parse().unwrap());
    assert_eq!(
        line(&web),
        "pass in quick on em1 inet proto tcp from 192.168.1.0/24 to any port 443 keep state label \"web\""
    );

    let mut drop = rule(Action::BlockDrop, Direction::In, Protocol::Any);
    drop.log = true;
    drop.src = Endpoint { invert: true, ..end("10.0.0.0/8", None) };
    drop.dst = end("<webservers>", None);
    assert_eq!(line(&drop), "block drop in log quick inet from ! 10.0.0.0/8 to <webservers>");

    let mut dns = rule(Action::BlockReturn, Direction::In, Protocol::Udp);
    dns.src = end("any", ports(1024, 65535));
    dns.dst = end("2001:db8::/32", ports(53, 53));
    assert_eq!(
        line(&dns),
        "block return in quick inet6 proto udp from any port 1024:65535 to 2001:db8::/32 port 53"
    );

    let mut many = rule(Action::Block, Direction::In, Protocol::TcpUdp);
    many.log = true;
    many.dst.port_alias = Some("web".parse().unwrap());
    assert_eq!(
        line(&many),
        "block in log quick proto { tcp, udp } from any to any port { 80, 443, 8080:8090 }"
    );

    let mut routed = rule(Action::Pass, Direction::In, Protocol::Any);
    routed.interface = Some(name("em1"));
    routed.gateway = Some("203.0.113.1".into());
    routed.src = end("192.168.1.0/24", None);
    assert_eq!(
        line(&routed),
        "pass in quick on em1 route-to (em0 203.0.113.1) inet from 192.168.1.0/24 to any keep state"
    );

    let mut stateless = rule(Action::Pass, Direction::In, Protocol::Udp);
    stateless.ip_version = IpVersion::Inet;
    stateless.dst = end("any", ports(161, 161));
    stateless.state.tracking = StateTracking::None;
    assert_eq!(line(&stateless), "pass in quick inet proto udp from any to any port 161 no state");

    let mut proxied = rule(Action::Pass, Direction::In, Protocol::Tcp);
    proxied.interface = Some(name("em0"));
    proxied.dst = end("203.0.113.5", ports(25, 25));
    proxied.state.tracking = StateTracking::SynproxyState;
    assert_eq!(
        line(&proxied),
        "pass in quick on em0 inet proto tcp from any to 203.0.113.5 port 25 synproxy state"
    );
    proxied.direction = Direction::Out;
    assert!(line(&proxied).ends_with("port 25 modulate state"));

    let mut ping6 = rule(Action::Pass, Direction::Any, Protocol::Icmp6);
    ping6.interface = Some(name("em1"));
    assert_eq!(line(&ping6), "pass quick on em1 inet6 proto icmp6 from any to any keep state");

    let mut tuned = rule(Action::Pass, Direction::Out, Protocol::Any);
    tuned.quick = false;
    tuned.state = StateOptions {
        tracking: StateTracking::KeepState,
        policy: Some(StatePolicy::IfBound),
        adaptive_timeouts: Some(AdaptiveTimeouts { start: 6000, end: 12000 }),
        timeout_tcp: Some(3600),
        timeout_udp: Some(60),
        timeout_icmp: Some(20),
    };
    assert_eq!(
        line(&tuned),
        "pass out from any to any keep state (if-bound, tcp.established 3600, udp.multiple 60, icmp.first 20, \
         adaptive.start 6000, adaptive.end 12000)"
    );

    let mut own = rule(Action::Pass, Direction::In, Protocol::Any);
    own.src = end("em1:network", None);
    own.dst = end("self", None);
    assert_eq!(line(&own), "pass in quick from (em1:network) to (self) keep state");

    // A label is text, whatever is in it.
    let mut labelled = rule(Action::Pass, Direction::In, Protocol::Any);
    labelled.label = Some("a $nr {b} # <c> é".parse().unwrap());
    assert_eq!(line(&labelled), "pass in quick from any to any keep state label \"a _nr {b} # <c> _\"");
}

#[test]
fn b01_block_ssh_is_logged_and_labelled() {
    let (config, environment) = world();
    let mut ssh = rule(Action::Block, Direction::In, Protocol::Tcp);
    ssh.dst.port = ports(22, 22);
    ssh.label = Some("block-ssh".parse().unwrap());
    assert_eq!(
        line_in(&config, &environment, &ssh),
        format!(
            "block in log quick proto tcp from any to any port 22 label \"block-ssh\" label \"rule:{}\"",
            ssh.id
        )
    );
}

#[test]
fn only_rules_in_force_are_in_the_anchor_in_their_order() {
    let (mut config, mut environment) = world();
    config.aliases.insert(Alias { enabled: false, ..alias(20, "off", AliasKind::Host, &["10.0.0.1"]) });
    config.aliases.insert(alias(21, "empty", AliasKind::Port, &[]));
    let base = rule(Action::Pass, Direction::In, Protocol::Tcp);
    let put = |config: &mut Config, number: u128, change: &dyn Fn(&mut Rule)| {
        let mut rule = Rule { id: id(number), ..base.clone() };
        change(&mut rule);
        config.rules.insert(rule);
    };
    put(&mut config, 1, &|rule| rule.priority = 300);
    put(&mut config, 2, &|rule| rule.priority = 200);
    put(&mut config, 3, &|rule| rule.status = Status::Disabled);
    put(&mut config, 4, &|rule| rule.schedule_id = Some(id(50)));
    put(&mut config, 5, &|rule| rule.src = Endpoint { invert: true, ..end("<off>", None) });
    put(&mut config, 6, &|rule| rule.dst.port_alias = Some("empty".parse().unwrap()));
    put(&mut config, 7, &|rule| rule.gateway = Some("198.51.100.1".into()));
    put(&mut config, 8, &|rule| rule.src = end("<geoip_xx>", None));
    let labels = |environment: &Environment| {
        let firewall = firewall(&config, environment).unwrap();
        let text = anchor(&firewall, "aifw").to_string();
        let order: Vec<u128> = text
            .lines()
            .map(|line| {
                line.split("rule:").nth(1).unwrap().trim_end_matches('"').parse::<Id>().unwrap().as_u128()
            })
            .map(|number| number & 0xff)
            .collect();
        let mut warned: Vec<String> = firewall.warnings.iter().map(ToString::to_string).collect();
        warned.sort();
        (order, warned)
    };
    let (order, warned) = labels(&environment);
    assert_eq!(order, [7, 2, 1]);
    assert_eq!(
        warned,
        [
            format!("rule {}: left out: alias off is disabled", id(5)),
            format!("rule {}: left out: alias empty holds no ports", id(6)),
            format!(
                "rule {}: no interface is in the network of gateway 198.51.100.1: passed without routing",
                id(7)
            ),
            format!("rule {}: left out: no networks are known for country XX", id(8)),
        ]
    );
    environment.open_schedules.insert(id(50));
    assert_eq!(labels(&environment).0, [4, 7, 2, 1]);
}

#[test]
fn b17_a_rule_that_cannot_be_said_is_named() {
    let (mut config, environment) = world();
    let base = rule(Action::Pass, Direction::In, Protocol::Tcp);
    let refused = |config: &Config, change: &dyn Fn(&mut Rule)| {
        let mut bad = base.clone();
        bad.label = Some("bad one".parse().unwrap());
        change(&mut bad);
        let mut config = config.clone();
        config.rules.insert(bad);
        let error = firewall(&config, &environment).unwrap_err();
        assert_eq!(error.step(), "filter");
        error.to_string()
    };
    let named = |reason: &str| format!("rule {} (bad one): {reason}", base.id);
    config.aliases.insert(alias(21, "web", AliasKind::Port, &["80"]));
    assert_eq!(
        refused(&config, &|rule| rule.src = end("<nowhere>", None)),
        named("there is no alias nowhere")
    );
    assert_eq!(
        refused(&config, &|rule| rule.src = end("<web>", None)),
        named("web is a port alias and no table")
    );
    assert_eq!(
        refused(&config, &|rule| {
            rule.src = end("10.0.0.1", None);
            rule.dst = end("::1", None);
        }),
        named("its parts belong to different address families")
    );
    assert_eq!(
        refused(&config, &|rule| {
            rule.protocol = Protocol::Icmp;
            rule.dst.port = ports(1, 1);
        }),
        named("only tcp, udp and tcp/udp have ports")
    );
    assert_eq!(refused(&config, &|rule| rule.src.invert = true), named("not any (source) matches nothing"));
    assert_eq!(
        refused(&config, &|rule| rule.gateway = Some("wan2".into())),
        named("there is no gateway \"wan2\"")
    );
    assert_eq!(
        refused(&config, &|rule| rule.src = end("(9x)", None)),
        named("interface 9x cannot stand for its addresses: the name must begin with a letter")
    );
}

#[test]
fn snat_and_masquerade_as_in_the_contract() {
    let mut snat = nat(NatKind::Snat, Protocol::Any, "192.168.1.0/24", "any", "203.0.113.1");
    assert_eq!(nat_text(&snat), ["nat on em0 inet from 192.168.1.0/24 to any -> 203.0.113.1"]);
    snat.protocol = Protocol::TcpUdp;
    snat.dst_port = ports(53, 53);
    snat.redirect.port = ports(40000, 50000);
    assert_eq!(
        nat_text(&snat),
        [
            "nat on em0 inet proto { tcp, udp } from 192.168.1.0/24 to any port 53 -> 203.0.113.1 port 40000:50000"
        ]
    );
    let pool = nat(NatKind::Snat, Protocol::Any, "192.168.1.0/24", "any", "203.0.113.0/28");
    assert_eq!(
        nat_text(&pool),
        ["nat on em0 inet from 192.168.1.0/24 to any -> 203.0.113.0/28 round-robin sticky-address"]
    );
    let mut fixed = nat(NatKind::Snat, Protocol::Any, "any", "any", "any");
    fixed.static_port = true;
    assert_eq!(nat_text(&fixed), ["nat on em0 inet from any to any -> (em0:0) static-port"]);
    let masquerade = nat(NatKind::Masquerade, Protocol::Any, "192.168.1.0/24", "any", "any");
    assert_eq!(nat_text(&masquerade), ["nat on em0 inet from 192.168.1.0/24 to any -> (em0:0)"]);
    let six = nat(NatKind::Masquerade, Protocol::Any, "2001:db8::/64", "any", "any");
    assert_eq!(nat_text(&six), ["nat on em0 inet6 from 2001:db8::/64 to any -> (em0:0)"]);
}

#[test]
fn dnat_with_reflection_and_pass_as_in_the_contract() {
    let mut forward = nat(NatKind::Dnat, Protocol::Tcp, "any", "203.0.113.1", "192.168.1.10");
    forward.dst_port = ports(8080, 8080);
    forward.redirect.port = ports(80, 80);
    let pass = format!(
        "pass in quick on em0 inet proto tcp from any to 192.168.1.10 port 80 keep state label \"nat:{}\"",
        forward.id
    );
    assert_eq!(
        nat_text(&forward),
        [
            "rdr on em0 inet proto tcp from any to 203.0.113.1 port 8080 -> 192.168.1.10 port 80",
            "rdr on em1 inet proto tcp from (em1:network) to 203.0.113.1 port 8080 -> 192.168.1.10 port 80",
            "nat on em1 inet proto tcp from (em1:network) to 192.168.1.10 port 80 -> (em1:0)",
            &pass,
        ]
    );
    forward.associated_filter = false;
    forward.dst_addr = Address::Any;
    assert_eq!(
        nat_text(&forward)[1..],
        [
            "rdr on em1 inet proto tcp from (em1:network) to (em0) port 8080 -> 192.168.1.10 port 80",
            "nat on em1 inet proto tcp from (em1:network) to 192.168.1.10 port 80 -> (em1:0)",
        ]
    );

    // The target is on the side the packet comes from.
    let mut hairpin = nat(NatKind::Dnat, Protocol::Tcp, "any", "203.0.113.2", "203.0.113.7");
    hairpin.dst_port = ports(80, 80);
    hairpin.associated_filter = false;
    assert_eq!(
        nat_text(&hairpin),
        [
            "rdr on em0 inet proto tcp from any to 203.0.113.2 port 80 -> 203.0.113.7",
            "nat on em0 inet proto tcp from any to 203.0.113.7 port 80 -> (em0:0)",
        ]
    );

    // Behind a router: neither.
    let mut range = nat(NatKind::Dnat, Protocol::Tcp, "any", "203.0.113.2", "10.9.9.9");
    range.dst_port = ports(2000, 2099);
    range.redirect.port = ports(4000, 4099);
    assert_eq!(
        nat_text(&range),
        [
            "rdr on em0 inet proto tcp from any to 203.0.113.2 port 2000:2099 -> 10.9.9.9 port 4000:*"
                .to_owned(),
            format!(
                "pass in quick on em0 inet proto tcp from any to 10.9.9.9 port 4000:4099 keep state label \"nat:{}\"",
                range.id
            ),
        ]
    );
    range.redirect.port = ports(4000, 4000);
    assert_eq!(
        nat_text(&range)[0],
        "rdr on em0 inet proto tcp from any to 203.0.113.2 port 2000:2099 -> 10.9.9.9 port 4000"
    );
}

#[test]
fn binat_takes_one_protocol_a_line() {
    let mut one = nat(NatKind::Binat, Protocol::Any, "192.168.1.10", "any", "203.0.113.10");
    assert_eq!(nat_text(&one), ["binat on em0 inet from 192.168.1.10 to any -> 203.0.113.10"]);
    one.protocol = Protocol::TcpUdp;
    assert_eq!(
        nat_text(&one),
        [
            "binat on em0 inet proto tcp from 192.168.1.10 to any -> 203.0.113.10",
            "binat on em0 inet proto udp from 192.168.1.10 to any -> 203.0.113.10",
        ]
    );
    let net = nat(NatKind::Binat, Protocol::Any, "192.168.1.0/24", "any", "203.0.113.0/24");
    assert_eq!(nat_text(&net), ["binat on em0 inet from 192.168.1.0/24 to any -> 203.0.113.0/24"]);
}

#[test]
fn nat64_and_nat46_as_in_the_contract() {
    let mut six = nat(NatKind::Nat64, Protocol::Any, "any", "any", "any");
    six.interface = name("em1");
    assert_eq!(
        nat_text(&six),
        [format!(
            "pass in quick on em1 inet6 from any to 64:ff9b::/96 af-to inet from (em0:0) keep state label \"nat:{}\"",
            six.id
        )]
    );
    six.redirect.address = address("203.0.113.9");
    assert!(nat_text(&six)[0].contains(" af-to inet from 203.0.113.9 keep state "));
    let mut four = nat(NatKind::Nat46, Protocol::Any, "192.168.1.0/24", "198.51.100.0/24", "2001:db8::1");
    four.interface = name("em1");
    assert_eq!(
        nat_text(&four),
        [format!(
            "pass in quick on em1 inet from 192.168.1.0/24 to 198.51.100.0/24 af-to inet6 from 2001:db8::1 keep state \
             label \"nat:{}\"",
            four.id
        )]
    );
    four.redirect.address = address("2001:db8:64::/96");
    assert!(nat_text(&four)[0].contains(" af-to inet6 from (em0:0) to 2001:db8:64::/96 keep state "));

    // The translation stands in aifw-nat, where the anchor of the same name evaluates it.
    let (mut config, environment) = world();
    config.nat.insert(six);
    let firewall = firewall(&config, &environment).unwrap();
    let text = anchor(&firewall, "aifw-nat").to_string();
    expand(&parse(&text).unwrap(), &NoInterfaces).unwrap();
    assert!(anchor(&firewall, "aifw").statements.is_empty());
}

#[test]
fn b13_pass_rules_of_forwards_stand_before_the_final_block_and_behind_earlier_blocks() {
    let (mut config, environment) = world();
    let mut early = rule(Action::Block, Direction::In, Protocol::Any);
    early.priority = 10;
    early.src = end("198.51.100.0/24", None);
    let mut last = rule(Action::Block, Direction::In, Protocol::Any);
    last.id = id(2);
    last.priority = 1000;
    let mut after = rule(Action::Pass, Direction::In, Protocol::Any);
    after.id = id(3);
    after.priority = 2000;
    for rule in [early, last, after] {
        config.rules.insert(rule);
    }
    let mut forward = nat(NatKind::Dnat, Protocol::Tcp, "any", "203.0.113.1", "192.168.1.10");
    forward.dst_port = ports(8080, 8080);
    config.nat.insert(forward);
    let kinds = |config: &Config| -> Vec<String> {
        let firewall = firewall(config, &environment).unwrap();
        let text = anchor(&firewall, "aifw").to_string();
        text.lines()
            .map(|line| {
                line.split_whitespace().take(1).chain([&line[line.len() - 3..line.len() - 1]]).collect()
            })
            .collect()
    };
    assert_eq!(kinds(&config), ["block01", "pass07", "block02", "pass03"]);
    // A block of IPv6 alone does not catch it.
    let mut only_six = (**config.rules.get(&id(2)).unwrap()).clone();
    only_six.ip_version = IpVersion::Inet6;
    config.rules.insert(only_six);
    assert_eq!(kinds(&config), ["block01", "block02", "pass03", "pass07"]);
}

fn country(number: u128, code: &str, action: GeoIpAction) -> GeoIpRule {
    GeoIpRule {
        id: id(number),
        country: code.parse().unwrap(),
        action,
        label: None,
        status: Status::Active,
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    }
}

#[test]
fn countries_as_in_the_contract() {
    let (mut config, environment) = world();
    config.geoip.insert(country(30, "CN", GeoIpAction::Block));
    config.geoip.insert(country(31, "XX", GeoIpAction::Block));
    let made = firewall(&config, &environment).unwrap();
    assert_eq!(
        anchor(&made, "aifw-geoip").to_string(),
        format!(
            "table <geoip_cn> persist file \"/var/db/aifw/geoip/tables/cn.txt\"\n\
             block drop in log quick from <geoip_cn> to any label \"geoip-block-CN\" label \"geoip:{}\"\n",
            id(30)
        )
    );
    assert_eq!(
        made.files,
        [(
            "/var/db/aifw/geoip/tables/cn.txt".to_owned(),
            vec!["1.0.1.0/24".to_owned(), "2001:250::/32".to_owned()]
        )]
    );
    assert_eq!(
        made.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [format!("rule {}: left out: no networks are known for country XX", id(31))]
    );

    config.geoip.clear();
    config.geoip.insert(country(32, "CN", GeoIpAction::Allow));
    let made = firewall(&config, &environment).unwrap();
    assert_eq!(
        anchor(&made, "aifw-geoip").to_string(),
        "table <geoip_allow> persist file \"/var/db/aifw/geoip/tables/allow.txt\"\n\
         block drop in log quick on em0 from ! <geoip_allow> to any label \"geoip-not-allowed\"\n"
    );
    let (_, lines) = &made.files[0];
    for expected in ["1.0.1.0/24", "10.0.0.0/8", "fe80::/10", "::1"] {
        assert!(lines.iter().any(|line| line == expected), "{expected}");
    }

    // Without a database an allow-list would lock everyone out.
    let blind = Environment { countries: Environment::empty().countries, ..environment.clone() };
    let made = firewall(&config, &blind).unwrap();
    assert!(anchor(&made, "aifw-geoip").statements.is_empty());

    // A user rule that names a country finds its table in its own anchor.
    let mut named = rule(Action::Pass, Direction::In, Protocol::Any);
    named.src = end("<geoip_cn>", None);
    config.rules.insert(named);
    let made = firewall(&config, &environment).unwrap();
    assert!(anchor(&made, "aifw").to_string().starts_with(
        "table <geoip_cn> persist file \"/var/db/aifw/geoip/tables/cn.txt\"\npass in quick from <geoip_cn> "
    ));
}

#[test]
fn what_differs_is_what_would_be_loaded_differently() {
    let (mut base, environment) = world();
    base.rules.insert(rule(Action::Pass, Direction::In, Protocol::Tcp));
    base.nat.insert(nat(NatKind::Masquerade, Protocol::Any, "192.168.1.0/24", "any", "any"));
    let nothing = Differs::default();
    let firewall_only = Differs { firewall: true, nat: false };
    let nat_only = Differs { firewall: false, nat: true };
    let after = |change: &dyn Fn(&mut Config)| {
        let mut changed = base.clone();
        change(&mut changed);
        differs(&base, &changed, &environment)
    };
    let edit_rule = |edit: &dyn Fn(&mut Rule)| {
        after(&|config: &mut Config| {
            let mut rule = (**config.rules.get(&id(1)).unwrap()).clone();
            edit(&mut rule);
            config.rules.insert(rule);
        })
    };
    assert_eq!(after(&|_| {}), nothing);
    assert_eq!(edit_rule(&|rule| rule.description = Some("words".into())), nothing);
    assert_eq!(edit_rule(&|rule| rule.priority = 5), nothing);
    assert_eq!(edit_rule(&|rule| rule.status = Status::Disabled), firewall_only);
    assert_eq!(edit_rule(&|rule| rule.schedule_id = Some(id(50))), firewall_only);
    assert_eq!(edit_rule(&|rule| rule.dst.port = ports(22, 22)), firewall_only);
    assert_eq!(after(&|config| config.nat.clear()), nat_only);
    assert_eq!(
        after(&|config| config.aliases.insert(alias(20, "a", AliasKind::Host, &["10.0.0.1"]))),
        firewall_only
    );
    assert_eq!(after(&|config| config.geoip.insert(country(30, "CN", GeoIpAction::Block))), firewall_only);
    assert_eq!(after(&|config| Arc::make_mut(&mut config.system).api_port = 8443), firewall_only);
    assert_eq!(after(&|config| Arc::make_mut(&mut config.system).hostname = "fw".into()), nothing);
    let schedule = Schedule {
        id: id(50),
        name: "office".into(),
        description: None,
        time_ranges: vec!["08:00-17:00".into()],
        days_of_week: vec!["mon".into()],
        enabled: true,
        created_at: Timestamp::UNIX_EPOCH,
    };
    assert_eq!(after(&|config| config.schedules.insert(schedule.clone())), nothing);
    base.rules.insert(Rule { schedule_id: Some(id(50)), ..rule(Action::Pass, Direction::In, Protocol::Tcp) });
    let mut changed = base.clone();
    changed.schedules.insert(schedule);
    assert_eq!(differs(&base, &changed, &environment), firewall_only);
}

/// Ten thousand rules and aliases: time grows with their number, not with its square.
#[test]
fn ten_thousand_rules_compile_in_no_time() {
    let (mut config, environment) = world();
    for number in 0..10_000 {
        config.aliases.insert(alias(100_000 + number, &format!("a{number}"), AliasKind::Host, &["10.0.0.1"]));
        let mut rule = rule(Action::Pass, Direction::In, Protocol::Tcp);
        rule.id = id(number);
        rule.src = end(&format!("<a{number}>"), None);
        rule.dst.port = ports(80, 80);
        config.rules.insert(rule);
    }
    let started = Instant::now();
    let made = firewall(&config, &environment).unwrap();
    let text = anchor(&made, "aifw").to_string();
    let compiled = started.elapsed();
    let read = parse(&text).unwrap();
    println!(
        "compiled and printed in {compiled:?}, read in {:?}, {} bytes",
        started.elapsed() - compiled,
        text.len()
    );
    assert_eq!(&read, anchor(&made, "aifw"));
    // Unoptimised, on a busy machine; squared work would take minutes.
    assert!(compiled.as_secs() < 5);
}

#[test]
fn before_setup_nothing_comes_in_but_through_lo0() {
    use crate::pf::Pf;
    use crate::pf::packet::Direction::{In, Out};
    use crate::pf::sim::{Question, SimInterface, Simulator};
    let text = closed().to_string();
    let expected = "set skip on lo0\nset block-policy drop\nblock drop in all\npass out all keep state\n";
    assert_eq!(text, expected);
    let net = |text: &str| [text.parse::<IpNet>().unwrap()];
    let simulator = Simulator::new(vec![
        SimInterface::new("vtnet0", net("203.0.113.2/24")),
        SimInterface::new("lo0", net("127.0.0.1/8")),
    ]);
    simulator.load(None, &text).unwrap();
    let passes = |interface: &str, direction, src: &str, dst: &str, port| {
        let question = Question {
            interface: interface.into(),
            direction,
            protocol: "tcp".into(),
            src: src.parse().unwrap(),
            src_port: Some(40_000),
            dst: dst.parse().unwrap(),
            dst_port: Some(port),
            flags: None,
            icmp_type: None,
            icmp_code: None,
        };
        simulator.explain(interface, direction, &question.packet().unwrap()).passed()
    };
    for port in [22, 80, 443, 8080] {
        assert!(!passes("vtnet0", In, "203.0.113.9", "203.0.113.2", port), "{port}");
    }
    assert!(passes("vtnet0", Out, "203.0.113.2", "203.0.113.9", 443));
    assert!(passes("lo0", In, "127.0.0.1", "127.0.0.1", 8080));
}
