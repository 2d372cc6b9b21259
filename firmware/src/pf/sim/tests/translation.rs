//! Translation there and back.

use proptest::prelude::*;

use super::*;

const NAT: &str = "nat on em0 inet from 192.168.1.0/24 to any -> (em0:0)\n\
    rdr on em0 inet proto { tcp, udp } from any to 203.0.113.2 port 8000:8009 -> 192.168.1.10 port 9000:*\n\
    block in on em0 all\npass in on em1 all\npass out all\npass in on em0 inet from any to 192.168.1.10\n";

#[test]
fn nat_and_its_icmp_errors() {
    let sim = loaded(NAT);
    let out = inside(&sim, "em1", &udp("192.168.1.5", 1000, "10.2.0.200", 53), 0.0);
    assert!(out.passed);
    // 10.2.0/24 is em2's: no nat there.
    assert_eq!(out.packet.src, ip("192.168.1.5"));
    let out = inside(&sim, "em1", &udp("192.168.1.5", 1000, "192.0.2.53", 53), 0.0);
    let (port, _) = out.packet.ports();
    assert_eq!(out.packet.src, ip("203.0.113.2"));
    let error = Packet::icmp_error(ip("192.0.2.1"), ip("203.0.113.2"), 3, 1, out.packet.clone());
    let back = inside(&sim, "em0", &error, 0.1);
    assert!(back.passed);
    assert_eq!((back.packet.src, back.packet.dst), (ip("192.0.2.1"), ip("192.168.1.5")));
    let Transport::Icmp(icmp) = back.packet.transport else { panic!() };
    let quoted = icmp.quoted.unwrap();
    assert_eq!((quoted.src, quoted.ports()), (ip("192.168.1.5"), (1000, 53)));
    // The state shows the outer address.
    let state = sim.states().unwrap().into_iter().find(|s| s.src.1 == port).unwrap();
    assert_eq!((state.src.0, state.dst), (ip("203.0.113.2"), (ip("192.0.2.53"), 53)));
    // A capture taken on the LAN shows the answer with the inner address.
    let answer = udp("192.0.2.53", 53, "192.168.1.5", 1000);
    let outer = sim.with(|engine| engine.before_translation(&answer)).unwrap();
    assert_eq!((outer.dst, outer.ports()), (ip("203.0.113.2"), (53, port)));
}

#[test]
fn two_clients_with_one_port() {
    let sim = loaded("nat on em0 inet from 192.168.1.0/24 to any -> (em0:0) static-port\npass all\n");
    assert!(inside(&sim, "em1", &udp("192.168.1.5", 500, "192.0.2.9", 500), 0.0).passed);
    let second = inside(&sim, "em1", &udp("192.168.1.6", 500, "192.0.2.9", 500), 0.0);
    assert_eq!((second.passed, second.reason.as_str()), (false, "map-failed"));
    assert!(inside(&sim, "em1", &udp("192.168.1.6", 500, "192.0.2.10", 500), 0.0).passed);
}

#[test]
fn pools() {
    let sim = loaded(
        "table <pool> { 192.168.1.10 192.168.1.11 192.168.1.12 }\nrdr on em0 inet proto tcp from any to any port 80 -> <pool> round-robin\npass all\n",
    );
    let to = |sim: &Simulator, src: &str, port| {
        inside(sim, "em0", &syn(src, port, "203.0.113.2", 80), 0.0).packet.dst.to_string()
    };
    let got: Vec<_> = (1..=4).map(|p| to(&sim, "192.0.2.1", p)).collect();
    assert_eq!(got, ["192.168.1.10", "192.168.1.11", "192.168.1.12", "192.168.1.10"]);
    sim.load(None, "rdr on em0 inet proto tcp from any to any port 80 -> { 192.168.1.10, 192.168.1.11 } round-robin sticky-address\npass all\n").unwrap();
    let asked = [("192.0.2.1", 11), ("192.0.2.1", 12), ("192.0.2.2", 1), ("192.0.2.1", 13)];
    let got: Vec<_> = asked.iter().map(|(src, port)| to(&sim, src, *port)).collect();
    assert_eq!(got, ["192.168.1.10", "192.168.1.10", "192.168.1.11", "192.168.1.10"]);
}

#[test]
fn no_rules_and_rdr_pass() {
    let sim = loaded(
        "no nat on em0 inet from 192.168.1.7 to any\nnat on em0 inet from 192.168.1.0/24 to any -> (em0:0)\n\
         no rdr on em0 inet proto tcp from 192.0.2.9 to any port 80\nrdr pass on em0 inet proto tcp from any to any port 80 -> 192.168.1.10\n\
         block in on em0 all\npass in on em1 all\npass out all\n",
    );
    assert_eq!(
        inside(&sim, "em1", &udp("192.168.1.7", 1, "192.0.2.1", 1), 0.0).packet.src,
        ip("192.168.1.7")
    );
    assert_eq!(
        inside(&sim, "em1", &udp("192.168.1.8", 1, "192.0.2.1", 1), 0.0).packet.src,
        ip("203.0.113.2")
    );
    let open = inside(&sim, "em0", &syn("192.0.2.8", 1, "203.0.113.2", 80), 0.0);
    assert!(
        open.passed && open.packet.dst == ip("192.168.1.10"),
        "passed without a look at the filter rules"
    );
    assert!(!inside(&sim, "em0", &syn("192.0.2.9", 1, "203.0.113.2", 80), 0.0).passed);
}

#[test]
fn binat_of_networks() {
    let sim = loaded("binat on em0 inet from 192.168.1.0/28 to any -> 203.0.113.16/28\npass all\n");
    let out = inside(&sim, "em1", &udp("192.168.1.5", 7, "192.0.2.1", 8), 0.0);
    assert_eq!((out.packet.src, out.packet.ports()), (ip("203.0.113.21"), (7, 8)));
    let into = inside(&sim, "em0", &udp("192.0.2.9", 7, "203.0.113.30", 8), 0.0);
    assert_eq!(into.packet.dst, ip("192.168.1.14"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever goes out through nat or comes in through rdr, the answer finds its way back, with the addresses
    /// that the asker knows.
    #[test]
    fn there_and_back(host in 2u8..250, port in 1024u16.., far in 1u8..250, far_port in 1u16.., kind in 0u8..3, inward in any::<bool>(), offset in 0u16..10) {
        let sim = loaded(NAT);
        let lan = format!("192.168.1.{host}");
        let wan = format!("192.0.2.{far}");
        let asked = if inward {
            let to = 8000 + offset;
            if kind == 0 { syn(&wan, port, "203.0.113.2", to) } else { udp(&wan, port, "203.0.113.2", to) }
        } else {
            match kind {
                0 => syn(&lan, port, &wan, far_port),
                1 => udp(&lan, port, &wan, far_port),
                _ => Packet::icmp(ip(&lan), ip(&wan), 8, 0, port),
            }
        };
        let (first, second) = if inward { ("em0", "em1") } else { ("em1", "em0") };
        let there = inside(&sim, first, &asked, 0.0);
        prop_assert!(there.passed, "{:?}", there);
        prop_assert_eq!(&*there.left.as_ref().unwrap().interface, second);
        if inward {
            prop_assert_eq!((there.packet.dst, there.packet.ports().1), (ip("192.168.1.10"), 9000 + offset));
        } else {
            prop_assert_eq!(there.packet.src, ip("203.0.113.2"));
        }
        let mut answer = there.packet.reversed();
        match &mut answer.transport {
            Transport::Tcp(tcp) => { tcp.flags = flag::SYN | flag::ACK; tcp.ack = 1; }
            Transport::Icmp(icmp) => icmp.kind = 0,
            _ => {}
        }
        let back = inside(&sim, second, &answer, 0.1);
        prop_assert!(back.passed, "{:?}", back);
        prop_assert_eq!(&*back.left.as_ref().unwrap().interface, first);
        prop_assert_eq!((back.packet.src, back.packet.dst), (asked.dst, asked.src));
        prop_assert_eq!(back.packet.ports(), asked.reversed().ports());
        if let (Transport::Icmp(a), Transport::Icmp(b)) = (&back.packet.transport, &asked.transport) {
            prop_assert_eq!(a.id, b.id);
        }
    }
}
