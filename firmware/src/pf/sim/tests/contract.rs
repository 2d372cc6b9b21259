//! firewall.md §8: the main ruleset of the example and the lines of its tables, decided as they are meant.

use super::*;

/// The main ruleset of §8, policy *standard*.
const MAIN: &str = r#"
set skip on lo0
set skip on pfsync0
set block-policy drop
set state-policy floating
set limit states 100000
set limit table-entries 1000000
set reassemble yes no-df
table <bruteforce> persist
table <ai_blocked> persist
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
"#;

fn standard(anchors: &[(&str, &str)]) -> Simulator {
    let sim = loaded(MAIN);
    for (anchor, text) in anchors {
        sim.load(Some(anchor), text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    }
    sim
}

/// Verdict and labels of the deciding rule.
fn decided(sim: &Simulator, interface: &str, packet: &Packet) -> (&'static str, Vec<String>) {
    let explanation = sim.explain(interface, Direction::In, packet);
    (explanation.verdict, explanation.rule.map(|r| r.labels).unwrap_or_default())
}

fn label(text: &str) -> Vec<String> {
    vec![text.to_owned()]
}

#[test]
fn the_main_ruleset_defaults() {
    let sim = standard(&[]);
    let wan = syn("198.51.100.7", 40000, "203.0.113.2", 22);
    assert_eq!(decided(&sim, "em0", &wan), ("block", label("default-deny-in")));
    let ssh = syn("192.168.1.50", 40000, "192.168.1.1", 22);
    assert_eq!(decided(&sim, "em1", &ssh), ("pass", label("anti-lockout")));
    // Somebody outside with an inside address, and the router's own address from outside.
    let spoofed = syn("192.168.1.50", 40000, "203.0.113.2", 22);
    assert_eq!(decided(&sim, "em0", &spoofed), ("block", label("antispoof")));
    let own = syn("203.0.113.2", 40000, "203.0.113.2", 22);
    assert_eq!(decided(&sim, "em0", &own), ("block", label("antispoof")));
    let nd = Packet::icmp(ip("fe80::1"), ip("ff02::1:ff00:2"), 135, 0, 0);
    assert_eq!(decided(&sim, "em0", &nd), ("pass", label("icmp6-nd")));
    let echo6 = Packet::icmp(ip("2001:db8:9::1"), ip("2001:db8:0:1::2"), 128, 0, 1);
    assert_eq!(decided(&sim, "em0", &echo6), ("block", label("default-deny-in")));
    assert_eq!(
        decided(&sim, "em1", &udp("0.0.0.0", 68, "255.255.255.255", 67)),
        ("pass", label("dhcp-server"))
    );
    // The loopback is left alone.
    let lo = sim.explain("lo0", Direction::In, &syn("127.0.0.1", 1, "127.0.0.1", 2));
    assert_eq!((lo.verdict, lo.legs[0].reason), ("pass", "skip"));
    // Nobody on the LAN passes without a user rule, except to the router.
    assert_eq!(
        decided(&sim, "em1", &syn("192.168.1.50", 1, "198.51.100.7", 80)),
        ("block", label("default-deny-in"))
    );
}

#[test]
fn tables_of_the_main_ruleset_block() {
    let sim = standard(&[("aifw", "pass in quick on em0 proto tcp from any to any port 443 label \"open\"")]);
    let packet = syn("198.51.100.7", 40000, "203.0.113.2", 443);
    assert_eq!(decided(&sim, "em0", &packet), ("pass", label("open")));
    let name = "bruteforce".parse().unwrap();
    sim.replace_table(&name, &["198.51.100.0/24".into(), "!198.51.100.9".into()]).unwrap();
    assert_eq!(decided(&sim, "em0", &packet), ("block", label("bruteforce")));
    let spared = syn("198.51.100.9", 40000, "203.0.113.2", 443);
    assert_eq!(decided(&sim, "em0", &spared), ("pass", label("open")));
    assert_eq!(sim.table(&name).unwrap(), ["198.51.100.0/24", "!198.51.100.9"]);
    assert_eq!(sim.tables().unwrap(), ["ai_blocked", "bruteforce"]);
}

#[test]
fn the_filter_lines_of_8_1() {
    let sim = standard(&[(
        "aifw",
        r#"
pass in quick on em1 inet proto tcp from 192.168.1.0/24 to any port 443 keep state label "web" label "rule:1"
block drop in log quick inet from ! 10.0.0.0/8 to <webservers> label "rule:2"
block return in quick inet6 proto udp from any port 1024:65535 to 2001:db8::/32 port 53 label "rule:3"
block in log quick proto { tcp, udp } from any to any port { 80, 443, 8080:8090 } label "rule:4"
pass in quick on em1 route-to (em0 203.0.113.1) inet from 192.168.1.0/24 to any keep state label "rule:5"
pass in quick inet proto udp from any to any port 161 no state label "rule:6"
pass in quick on em0 inet proto tcp from any to 203.0.113.5 port 25 synproxy state label "rule:7"
pass quick on em1 inet6 proto icmp6 from any to any keep state label "rule:8"
"#,
    )]);
    let name = "webservers".parse().unwrap();
    sim.replace_table(&name, &["203.0.113.80".into()]).unwrap();
    let rule = |n: &str| label(&format!("rule:{n}"));
    let web = vec!["web".to_owned(), "rule:1".to_owned()];
    assert_eq!(decided(&sim, "em1", &syn("192.168.1.5", 1000, "198.51.100.1", 443)), ("pass", web));
    assert_eq!(decided(&sim, "em0", &syn("198.51.100.1", 1000, "203.0.113.80", 25)), ("block", rule("2")));
    // 10/8 is spared by the inversion and meets the next rule that fits.
    assert_eq!(decided(&sim, "em0", &syn("10.1.1.1", 1000, "203.0.113.80", 80)), ("block", rule("4")));
    let dns6 = udp("2001:db8:9::1", 2000, "2001:db8::53", 53);
    assert_eq!(decided(&sim, "em0", &dns6), ("block", rule("3")));
    assert_eq!(sim.explain("em0", Direction::In, &dns6).legs[0].answer, "return-icmp");
    assert_eq!(decided(&sim, "em0", &udp("198.51.100.1", 2000, "203.0.113.9", 8085)), ("block", rule("4")));
    assert_eq!(
        decided(&sim, "em0", &udp("198.51.100.1", 2000, "203.0.113.9", 8091)).1,
        label("default-deny-in")
    );
    let routed = sim.explain("em1", Direction::In, &udp("192.168.1.5", 2000, "198.51.100.1", 9999));
    assert_eq!((routed.verdict, routed.rule.unwrap().labels), ("pass", rule("5")));
    let route = routed.route.unwrap();
    assert_eq!(
        (route.interface.as_str(), route.gateway, route.by),
        ("em0", Some(ip("203.0.113.1")), "route-to")
    );
    assert_eq!(decided(&sim, "em0", &udp("198.51.100.1", 2000, "203.0.113.9", 161)), ("pass", rule("6")));
    assert!(
        !sim.explain("em0", Direction::In, &udp("198.51.100.1", 2000, "203.0.113.9", 161)).legs[0]
            .keeps_state
    );
    assert_eq!(decided(&sim, "em0", &syn("198.51.100.1", 2000, "203.0.113.5", 25)), ("pass", rule("7")));
    let echo6 = Packet::icmp(ip("2001:db8:0:2::7"), ip("2001:db8:0:2::1"), 128, 0, 1);
    assert_eq!(decided(&sim, "em1", &echo6), ("pass", rule("8")));
}

#[test]
fn the_nat_lines_of_8_2() {
    let sim = standard(&[
        (
            "aifw-nat",
            r#"
nat on em0 inet proto { tcp, udp } from 192.168.1.0/24 to any port 53 -> 203.0.113.3 port 40000:50000
nat on em1 inet proto tcp from (em1:network) to 192.168.1.10 port 80 -> (em1:0)
rdr on em0 inet proto tcp from any to 203.0.113.2 port 8080 -> 192.168.1.10 port 80
rdr on em0 inet proto udp from any to 203.0.113.2 port 2000:2099 -> 192.168.1.10 port 4000:*
rdr on em1 inet proto tcp from (em1:network) to 203.0.113.2 port 8080 -> 192.168.1.10 port 80
binat on em0 inet from 192.168.1.20 to any -> 203.0.113.3
pass in quick on em1 inet6 from any to 64:ff9b::/96 af-to inet from (em0:0) keep state label "nat:64"
"#,
        ),
        (
            "aifw",
            r#"
pass in quick on em1 from (em1:network) to any keep state label "lan"
pass in quick on em0 inet proto tcp from any to 192.168.1.10 port 80 keep state label "nat:1"
pass in quick on em0 inet proto udp from any to 192.168.1.10 port 4000:4099 keep state label "nat:2"
pass in quick on em0 inet from any to 192.168.1.20 keep state label "nat:3"
"#,
        ),
    ]);
    // Port forward: the filter sees the translated destination.
    let seen = sim.explain("em0", Direction::In, &syn("198.51.100.7", 40000, "203.0.113.2", 8080));
    assert_eq!((seen.verdict, seen.rule.clone().unwrap().labels), ("pass", label("nat:1")));
    let after = seen.legs[0].translation.clone().unwrap().after;
    assert_eq!((after.dst, after.dst_port), (ip("192.168.1.10"), 80));
    assert_eq!(seen.route.unwrap().interface, "em1");
    // A range keeps its place in the range.
    let range = inside(&sim, "em0", &udp("198.51.100.7", 40000, "203.0.113.2", 2017), 0.0);
    assert!(range.passed);
    assert_eq!((range.packet.dst, range.packet.ports().1), (ip("192.168.1.10"), 4017));
    // Reflection: rdr in, nat out of the same interface.
    let back = inside(&sim, "em1", &syn("192.168.1.50", 40000, "203.0.113.2", 8080), 0.0);
    assert!(back.passed);
    assert_eq!((back.packet.src, back.packet.dst), (ip("192.168.1.1"), ip("192.168.1.10")));
    assert_eq!(&*back.left.unwrap().interface, "em1");
    // User NAT wins over the automatic one; other traffic takes the first address of em0.
    let dns = inside(&sim, "em1", &udp("192.168.1.50", 40000, "198.51.100.53", 53), 0.0);
    assert_eq!(dns.packet.src, ip("203.0.113.3"));
    assert!((40000..=50000).contains(&dns.packet.ports().0));
    let web = inside(&sim, "em1", &syn("192.168.1.50", 40001, "198.51.100.80", 80), 0.0);
    assert_eq!(web.packet.src, ip("203.0.113.2"));
    assert!(web.packet.ports().0 >= 50001);
    // binat, both ways, ports kept.
    let out = inside(&sim, "em1", &syn("192.168.1.20", 40002, "198.51.100.80", 80), 0.0);
    assert_eq!((out.packet.src, out.packet.ports().0), (ip("203.0.113.3"), 40002));
    let into = inside(&sim, "em0", &syn("198.51.100.7", 40003, "203.0.113.3", 99), 0.0);
    assert!(into.passed);
    assert_eq!((into.packet.dst, into.packet.ports().1), (ip("192.168.1.20"), 99));
    // nat64: the answer comes back as IPv6.
    let v6 = inside(&sim, "em1", &syn("2001:db8:0:2::7", 40004, "64:ff9b::c633:6450", 80), 0.0);
    assert!(v6.passed);
    assert_eq!((v6.packet.src, v6.packet.dst), (ip("203.0.113.2"), ip("198.51.100.80")));
    assert_eq!(v6.left.unwrap().interface.as_ref(), "em0");
    let mut answer = v6.packet.reversed();
    if let Transport::Tcp(tcp) = &mut answer.transport {
        (tcp.flags, tcp.ack) = (flag::SYN | flag::ACK, 1);
    }
    let back = inside(&sim, "em0", &answer, 0.1);
    assert!(back.passed, "{back:?}");
    assert_eq!((back.packet.src, back.packet.dst), (ip("64:ff9b::c633:6450"), ip("2001:db8:0:2::7")));
    assert_eq!(back.packet.ports(), (80, 40004));
    assert_eq!(back.left.unwrap().interface.as_ref(), "em1");
    // Forwarding all TCP of the LAN away leaves the way to the router.
    sim.load(Some("aifw-nat"), "rdr on em1 inet proto tcp from any to any -> 192.168.1.10").unwrap();
    let ssh = sim.explain("em1", Direction::In, &syn("192.168.1.50", 40000, "192.168.1.1", 22));
    assert_eq!((ssh.verdict, ssh.rule.unwrap().labels), ("pass", label("anti-lockout")));
    assert_eq!(ssh.legs[0].translation, None);
}

#[test]
fn nat46_maps_into_a_prefix() {
    let sim = standard(&[(
        "aifw-nat",
        "pass in quick on em1 inet from 192.168.1.0/24 to 198.51.100.0/24 af-to inet6 from 2001:db8::1 to 2001:db8:64::/96 keep state label \"nat:46\"",
    )]);
    let mut echo = Packet::icmp(ip("192.168.1.9"), ip("198.51.100.80"), 8, 0, 77);
    echo.length = 84;
    let out = inside(&sim, "em1", &echo, 0.0);
    assert!(out.passed);
    assert_eq!((out.packet.src, out.packet.dst), (ip("2001:db8::1"), ip("2001:db8:64::c633:6450")));
    assert_eq!((out.packet.protocol, out.packet.length), (58, 104));
    let Transport::Icmp(icmp) = &out.packet.transport else { panic!() };
    let mut reply = out.packet.clone();
    (reply.src, reply.dst) = (out.packet.dst, out.packet.src);
    if let Transport::Icmp(answer) = &mut reply.transport {
        (answer.kind, answer.id) = (129, icmp.id);
    }
    let back = inside(&sim, "em0", &reply, 0.1);
    assert!(back.passed);
    assert_eq!((back.packet.src, back.packet.dst), (ip("198.51.100.80"), ip("192.168.1.9")));
    assert!(matches!(&back.packet.transport, Transport::Icmp(i) if i.kind == 0 && i.id == 77));
}

#[test]
fn geoip_of_8_3() {
    let sim = standard(&[]);
    sim.set_file_contents(
        [
            ("/db/cn.txt".to_owned(), "# China\n198.51.100.0/25\n2001:db8:cccc::/48\n".to_owned()),
            ("/db/allow.txt".to_owned(), "198.51.100.0/24\n10.0.0.0/8\n192.168.0.0/16\n".to_owned()),
        ]
        .into(),
    );
    let text = r#"
table <geoip_cn> persist file "/db/cn.txt"
table <geoip_allow> persist file "/db/allow.txt"
block drop in log quick from <geoip_cn> to any label "geoip-block-CN" label "geoip:1"
block drop in log quick on em0 from ! <geoip_allow> to any label "geoip-not-allowed"
"#;
    sim.load(Some("aifw-geoip"), text).unwrap();
    sim.load(Some("aifw"), "pass in quick proto tcp from any to any port 443 label \"open\"").unwrap();
    let from = |src: &str| decided(&sim, "em0", &syn(src, 1000, "203.0.113.2", 443));
    assert_eq!(from("198.51.100.7").1[0], "geoip-block-CN");
    assert_eq!(from("198.51.100.200"), ("pass", label("open")));
    assert_eq!(from("192.0.2.1"), ("block", label("geoip-not-allowed")));
    // The table belongs to the anchor, not to the main ruleset.
    assert!(!sim.tables().unwrap().contains(&"geoip_cn".to_owned()));
    let logged = sim.logged();
    assert!(!inside(&sim, "em0", &syn("198.51.100.7", 1000, "203.0.113.2", 443), 0.0).passed);
    let packet = logged.try_recv().unwrap();
    assert_eq!((packet.passed, packet.inbound, packet.anchor.as_str()), (false, true, "aifw-geoip"));
    assert_eq!((packet.rule_number, packet.reason.as_str()), (Some(0), "match"));
    assert_eq!(packet.labels, ["geoip-block-CN", "geoip:1"]);
    assert_eq!((packet.protocol.as_str(), packet.src, packet.dst_port), ("tcp", ip("198.51.100.7"), 443));
    // A file that is not there refuses the text, and the old rules stay.
    let error = sim.load(Some("aifw-geoip"), "table <x> persist file \"/db/none.txt\"\n").unwrap_err();
    assert!(error.to_string().contains("/db/none.txt"), "{error}");
    assert_eq!(from("198.51.100.7").1[0], "geoip-block-CN");
}

#[test]
fn explain_tells_the_path() {
    let sim = standard(&[
        ("aifw-geoip", "block in quick from 192.0.2.0/24 to any label \"geo\""),
        ("aifw", "pass in on em1 all label \"one\"\npass in quick on em1 proto udp all label \"two\""),
    ]);
    let seen = sim.explain("em1", Direction::In, &udp("192.168.1.5", 1000, "198.51.100.1", 123));
    assert_eq!(seen.rule.as_ref().unwrap().labels, ["two"]);
    let path: Vec<_> = seen.legs[0]
        .path
        .iter()
        .map(|s| match s.rule.labels.first() {
            Some(label) => format!("{} {label}", s.kind),
            None => format!("{} {}", s.kind, s.rule.text),
        })
        .collect();
    assert_eq!(
        path,
        [
            "anchor binat-anchor \"aifw-nat\" all",
            "anchor rdr-anchor \"aifw-nat\" all",
            "anchor rdr-anchor \"aifw-tls\" all",
            "rule default-deny-in",
            "anchor anchor \"aifw-geoip\" all",
            "anchor anchor \"aifw-ha\" all",
            "anchor anchor \"aifw-vpn\" all",
            "anchor anchor \"aifw-pbr\" all",
            "anchor anchor \"aifw-mwan-leak\" all",
            "anchor anchor \"aifw-mwan-reply\" all",
            "anchor anchor \"aifw-nat\" all",
            "anchor anchor \"aifw-ratelimit\" all",
            "anchor anchor \"aifw\" all",
            "rule one",
            "rule two",
        ]
    );
    assert_eq!(seen.legs[1].interface, "em0");
    assert_eq!(seen.legs[1].rule.as_ref().unwrap().labels, ["default-pass-out"]);
    assert_eq!(seen.legs[1].translation.as_ref().unwrap().after.src, ip("203.0.113.2"));
    // Nothing has changed by asking.
    assert_eq!(sim.info().unwrap().states, 0);
    let (_, rules) = sim.rules(Some("aifw")).unwrap();
    assert!(rules.iter().all(|r| r.evaluations == 0 && r.packets == 0));
    let json = serde_json::to_value(&seen).unwrap();
    assert_eq!(json["legs"][0]["path"][13]["kind"], "rule");
    assert_eq!(json["legs"][0]["path"][13]["anchor"], "aifw");
}
