//! States: how flows begin, are followed, printed, counted and end.

use super::*;
use crate::pf::packet::Fragment;

const OUT: &str = "block in all\npass out on em0 proto tcp all keep state label \"out\"\npass out on em0 proto { udp, icmp, esp } all keep state\n";

fn handshake(sim: &Simulator) {
    let client = |flags, s, a, len| seq(tcp("203.0.113.2", 5000, "198.51.100.1", 80, flags), s, a, len);
    let server = |flags, s, a, len| seq(tcp("198.51.100.1", 80, "203.0.113.2", 5000, flags), s, a, len);
    assert!(outside(sim, "em0", &client(flag::SYN, 100, 0, 0), 0.0).passed);
    assert_eq!(printed_state(sim), "SYN_SENT:CLOSED");
    assert!(inside(sim, "em0", &server(flag::SYN | flag::ACK, 900, 101, 0), 0.1).passed);
    assert_eq!(printed_state(sim), "ESTABLISHED:SYN_SENT");
    assert!(outside(sim, "em0", &client(flag::ACK, 101, 901, 0), 0.2).passed);
    assert_eq!(printed_state(sim), "ESTABLISHED:ESTABLISHED");
    assert!(outside(sim, "em0", &client(flag::ACK | flag::PSH, 101, 901, 50), 0.3).passed);
    assert!(inside(sim, "em0", &server(flag::ACK, 901, 151, 1000), 0.4).passed);
}

#[test]
fn a_connection_is_followed_to_its_end() {
    let sim = loaded(OUT);
    handshake(&sim);
    let client = |flags, s, a| seq(tcp("203.0.113.2", 5000, "198.51.100.1", 80, flags), s, a, 0);
    let server = |flags, s, a| seq(tcp("198.51.100.1", 80, "203.0.113.2", 5000, flags), s, a, 0);
    assert!(outside(&sim, "em0", &client(flag::FIN | flag::ACK, 151, 1901), 1.0).passed);
    assert_eq!(printed_state(&sim), "CLOSING:ESTABLISHED");
    assert!(inside(&sim, "em0", &server(flag::ACK, 1901, 152), 1.1).passed);
    assert_eq!(printed_state(&sim), "FIN_WAIT_2:ESTABLISHED");
    assert!(inside(&sim, "em0", &server(flag::FIN | flag::ACK, 1901, 152), 1.2).passed);
    assert_eq!(printed_state(&sim), "FIN_WAIT_2:CLOSING");
    assert!(outside(&sim, "em0", &client(flag::ACK, 152, 1902), 1.3).passed);
    assert_eq!(printed_state(&sim), "FIN_WAIT_2:FIN_WAIT_2");
    let state = one_state(&sim);
    assert_eq!((state.packets, state.bytes), ((5, 4), (5 * 40 + 50, 4 * 40 + 1000)));
    assert_eq!((state.src, state.dst), ((ip("203.0.113.2"), 5000), (ip("198.51.100.1"), 80)));
    assert_eq!((state.protocol.as_str(), state.interface), ("tcp", None));
    let (_, rules) = sim.rules(None).unwrap();
    let rule = rules.iter().find(|r| r.labels == ["out"]).unwrap();
    assert_eq!((rule.packets, rule.states), (9, 1));
    // tcp.closed: 90 s.
    inside(&sim, "em0", &udp("192.0.2.1", 1, "203.0.113.2", 1), 90.0);
    assert_eq!(sim.info().unwrap().states, 1);
    inside(&sim, "em0", &udp("192.0.2.1", 1, "203.0.113.2", 1), 92.0);
    assert_eq!(sim.info().unwrap().states, 0);
    let info = sim.info().unwrap();
    assert_eq!((info.inserts, info.removals), (1, 1));
}

#[test]
fn a_reset_ends_both_ends() {
    let sim = loaded(OUT);
    handshake(&sim);
    // A reset outside the window is not believed.
    let wrong = seq(tcp("198.51.100.1", 80, "203.0.113.2", 5000, flag::RST), 5_000_000, 0, 0);
    let refused = inside(&sim, "em0", &wrong, 1.0);
    assert!(!refused.passed && refused.reason.as_str() == "state-mismatch");
    let reset = seq(tcp("198.51.100.1", 80, "203.0.113.2", 5000, flag::RST | flag::ACK), 1901, 151, 0);
    assert!(inside(&sim, "em0", &reset, 1.1).passed);
    assert_eq!(printed_state(&sim), "TIME_WAIT:TIME_WAIT");
    let info = sim.info().unwrap();
    assert!(info.counters.contains(&("state-mismatch".into(), 1)));
    // A new SYN on the same ports begins a new flow at once.
    assert!(outside(&sim, "em0", &seq(syn("203.0.113.2", 5000, "198.51.100.1", 80), 7000, 0, 0), 2.0).passed);
    assert_eq!(printed_state(&sim), "SYN_SENT:CLOSED");
}

#[test]
fn window_scaling_is_followed() {
    let sim = loaded(OUT);
    let with_scale = |mut p: Packet, scale, window| {
        if let Transport::Tcp(tcp) = &mut p.transport {
            (tcp.wscale, tcp.window) = (scale, window);
        }
        p
    };
    let client = |flags, s, a, len| seq(tcp("203.0.113.2", 5000, "198.51.100.1", 80, flags), s, a, len);
    let server = |flags, s, a, len| seq(tcp("198.51.100.1", 80, "203.0.113.2", 5000, flags), s, a, len);
    outside(&sim, "em0", &with_scale(client(flag::SYN, 0, 0, 0), Some(7), 64240), 0.0);
    inside(&sim, "em0", &with_scale(server(flag::SYN | flag::ACK, 0, 1, 0), Some(7), 65160), 0.0);
    outside(&sim, "em0", &with_scale(client(flag::ACK, 1, 1, 0), None, 4000), 0.0);
    // 4000 << 7 = 512,000 bytes may come unacknowledged, in any order.
    for start in (0u32..340).rev() {
        let segment = with_scale(server(flag::ACK, 1 + start * 1460, 1, 1460), None, 501);
        assert!(inside(&sim, "em0", &segment, 0.1).passed, "segment {start}");
    }
    let beyond = with_scale(server(flag::ACK, 1 + 600_000, 1, 1460), None, 501);
    assert!(!inside(&sim, "em0", &beyond, 0.1).passed);
}

#[test]
fn udp_and_others() {
    let sim = loaded(OUT);
    let query = udp("203.0.113.2", 5353, "198.51.100.53", 53);
    assert!(outside(&sim, "em0", &query, 0.0).passed);
    assert_eq!(printed_state(&sim), "SINGLE:NO_TRAFFIC");
    assert!(inside(&sim, "em0", &query.reversed(), 0.1).passed);
    assert_eq!(printed_state(&sim), "MULTIPLE:SINGLE");
    assert!(outside(&sim, "em0", &query, 0.2).passed);
    assert_eq!(printed_state(&sim), "MULTIPLE:MULTIPLE");
    // Somebody else's answer belongs to no state.
    assert!(!inside(&sim, "em0", &udp("198.51.100.54", 53, "203.0.113.2", 5353), 0.3).passed);
    // udp.multiple: 60 s.
    outside(&sim, "em0", &Packet::other(ip("203.0.113.2"), ip("198.51.100.9"), 50), 61.0);
    let states = sim.states().unwrap();
    assert_eq!(states.len(), 1);
    assert_eq!((states[0].protocol.as_str(), states[0].state.as_str()), ("esp", "SINGLE:NO_TRAFFIC"));
    assert_eq!((states[0].src.1, states[0].dst.1), (0, 0));
}

#[test]
fn echo_by_identifier() {
    let sim = loaded(OUT);
    let echo = |id| Packet::icmp(ip("203.0.113.2"), ip("198.51.100.9"), 8, 0, id);
    let reply = |id| Packet::icmp(ip("198.51.100.9"), ip("203.0.113.2"), 0, 0, id);
    assert!(outside(&sim, "em0", &echo(31750), 0.0).passed);
    let state = one_state(&sim);
    assert_eq!((state.src.1, state.dst.1, state.state.as_str()), (31750, 8, "0:0"));
    assert!(inside(&sim, "em0", &reply(31750), 0.1).passed);
    assert!(!inside(&sim, "em0", &reply(31751), 0.1).passed);
    assert!(
        !inside(&sim, "em0", &Packet::icmp(ip("198.51.100.9"), ip("203.0.113.2"), 8, 0, 31750), 0.1).passed
    );
}

#[test]
fn icmp_errors_belong_to_their_flow() {
    let sim = loaded(OUT);
    let query = udp("203.0.113.2", 5353, "198.51.100.53", 53);
    let unreachable = Packet::icmp_error(ip("198.51.100.1"), ip("203.0.113.2"), 3, 3, query.clone());
    assert!(!inside(&sim, "em0", &unreachable, 0.0).passed, "no flow yet");
    assert!(outside(&sim, "em0", &query, 0.0).passed);
    assert!(inside(&sim, "em0", &unreachable, 0.1).passed);
    let other = Packet::icmp_error(
        ip("198.51.100.1"),
        ip("203.0.113.2"),
        3,
        3,
        udp("203.0.113.2", 5354, "198.51.100.53", 53),
    );
    assert!(!inside(&sim, "em0", &other, 0.1).passed);
    assert_eq!(sim.info().unwrap().states, 1);
}

#[test]
fn incoming_states_print_the_local_end_first() {
    let sim = loaded("block all\npass in on em0 proto tcp from any to any port 22 keep state\n");
    assert!(inside(&sim, "em0", &syn("198.51.100.1", 5000, "203.0.113.2", 22), 0.0).passed);
    let state = one_state(&sim);
    assert_eq!(state.state, "CLOSED:SYN_SENT");
    assert_eq!((state.src, state.dst), ((ip("198.51.100.1"), 5000), (ip("203.0.113.2"), 22)));
}

#[test]
fn only_a_syn_begins_a_connection() {
    let sim =
        loaded("block all\npass in proto tcp all\npass in proto tcp from any to any port 99 flags any\n");
    for flags in [flag::ACK, flag::SYN | flag::ACK, flag::FIN, 0, flag::RST] {
        assert!(!inside(&sim, "em0", &tcp("198.51.100.1", 5000, "203.0.113.2", 22, flags), 0.0).passed);
        assert!(
            inside(&sim, "em0", &tcp("198.51.100.1", 5000 + u16::from(flags), "203.0.113.2", 99, flags), 0.0)
                .passed
        );
    }
    assert!(
        inside(
            &sim,
            "em0",
            &tcp("198.51.100.1", 5000, "203.0.113.2", 22, flag::SYN | flag::ECE | flag::CWR),
            0.0
        )
        .passed
    );
}

#[test]
fn timeouts_of_a_rule_and_of_the_ruleset() {
    let sim = loaded(
        "set timeout udp.first 5\nblock all\npass out proto udp all\npass out proto udp from any to any port 53 keep state (udp.first 20)\n",
    );
    outside(&sim, "em0", &udp("203.0.113.2", 1, "198.51.100.1", 1), 0.0);
    outside(&sim, "em0", &udp("203.0.113.2", 1, "198.51.100.1", 53), 0.0);
    outside(&sim, "em0", &syn("203.0.113.2", 1, "198.51.100.1", 53), 6.5);
    assert_eq!(one_state(&sim).dst.1, 53);
}

#[test]
fn states_of_idle_flows_end_by_the_wall_clock_too() {
    let sim = loaded("set timeout udp.first 1\npass out proto udp all\n");
    outside(&sim, "em0", &udp("203.0.113.2", 1, "198.51.100.1", 1), 0.0);
    assert_eq!(sim.info().unwrap().states, 1);
    let now = sim.with(|engine| engine.now());
    sim.with(|engine| engine.purge(now + 1_000_000));
    assert_eq!(sim.info().unwrap().states, 0);
    assert!(sim.with(|engine| engine.now()) >= now);
}

#[test]
fn adaptive_timeouts_and_the_limit() {
    let sim = loaded(
        "set limit states 100\nset timeout { adaptive.start 10, adaptive.end 110 }\nset timeout udp.first 100\nblock all\npass out proto udp all\n",
    );
    for port in 1..=60 {
        assert!(outside(&sim, "em0", &udp("203.0.113.2", port, "198.51.100.1", 1), 0.0).passed);
    }
    // 60 states: timeouts are cut to (110 - 60) / (110 - 10) = half.
    outside(&sim, "em0", &udp("203.0.113.2", 61, "198.51.100.1", 1), 48.0);
    assert_eq!(sim.info().unwrap().states, 61);
    outside(&sim, "em0", &udp("203.0.113.2", 62, "198.51.100.1", 1), 50.5);
    assert_eq!(sim.info().unwrap().states, 2);
    for port in 100..300 {
        outside(&sim, "em0", &udp("203.0.113.2", port, "198.51.100.1", 1), 50.6);
    }
    let info = sim.info().unwrap();
    assert_eq!((info.states, sim.state_limit().unwrap()), (100, 100));
    assert!(info.counters.contains(&("memory".into(), 102)));
}

#[test]
fn if_bound_and_floating() {
    let sim = loaded(
        "block all\npass out on em0 proto udp all keep state (if-bound)\npass out on em2 proto udp all\n",
    );
    let one = udp("203.0.113.2", 1, "198.51.100.1", 1);
    let two = udp("203.0.113.2", 2, "198.51.100.1", 1);
    outside(&sim, "em0", &one, 0.0);
    outside(&sim, "em2", &two, 0.0);
    assert!(inside(&sim, "em0", &one.reversed(), 0.1).passed);
    assert!(!inside(&sim, "em2", &one.reversed(), 0.1).passed);
    assert!(inside(&sim, "em0", &two.reversed(), 0.1).passed, "floating");
    let bound: Vec<_> = sim.states().unwrap().into_iter().map(|s| s.interface).collect();
    assert_eq!(bound, [Some("em0".to_owned()), None]);
}

#[test]
fn killing_and_flushing() {
    let sim = loaded(
        "block all\npass out proto udp all label \"rule:a\"\npass out proto tcp all label \"rule:b\"\n",
    );
    for port in 1..=3 {
        outside(&sim, "em0", &udp("203.0.113.2", port, "198.51.100.1", 1), 0.0);
    }
    outside(&sim, "em0", &syn("203.0.113.2", 9, "198.51.100.1", 1), 0.0);
    assert_eq!(sim.kill_states_with_label("rule:a").unwrap(), 3);
    assert_eq!(sim.kill_states_with_label("rule:a").unwrap(), 0);
    assert_eq!(one_state(&sim).protocol, "tcp");
    assert_eq!(sim.flush_states().unwrap(), 1);
    let (_, rules) = sim.rules(None).unwrap();
    assert!(rules.iter().all(|r| r.states == 0));
}

#[test]
fn limits_of_a_rule() {
    let sim = loaded(
        "table <bad> persist\nblock all\nblock in quick from <bad> to any\npass in proto udp all keep state (max 2)\n\
         pass in proto tcp from any to any port 22 keep state (max-src-conn-rate 3/30, overload <bad> flush global)\n",
    );
    for port in 1..=3 {
        let passed = inside(&sim, "em0", &udp("198.51.100.1", port, "203.0.113.2", 1), 0.0);
        assert_eq!(passed.passed, port <= 2);
    }
    // Three connections in 30 s are fine, the fourth fills the table and ends them all.
    for n in 0u16..5 {
        let c = |flags, s, a| seq(tcp("192.0.2.9", 4000 + n, "203.0.113.2", 22, flags), s, a, 0);
        let s = |flags, q, a| seq(tcp("203.0.113.2", 22, "192.0.2.9", 4000 + n, flags), q, a, 0);
        let t = f64::from(n);
        let first = inside(&sim, "em0", &c(flag::SYN, 10, 0), t).passed;
        outside(&sim, "em0", &s(flag::SYN | flag::ACK, 50, 11), t);
        let last = inside(&sim, "em0", &c(flag::ACK, 11, 51), t).passed;
        assert_eq!((first, last), (n < 4, n < 3), "connection {n}");
    }
    assert_eq!(sim.table(&"bad".parse().unwrap()).unwrap(), ["192.0.2.9"]);
    assert!(sim.states().unwrap().iter().all(|s| s.protocol == "udp"));
}

#[test]
fn fragments() {
    let part = |offset, more, port: u16| {
        let mut p = udp("198.51.100.1", 1000, "203.0.113.2", port);
        p.fragment = Some(Fragment { id: 7, offset, more });
        if offset > 0 {
            p.transport = Transport::Other;
        }
        p.length = 1000;
        p
    };
    // Reassembled: later parts go the way of the first.
    let sim = loaded("set reassemble yes\nblock all\npass in proto udp from any to any port 53\n");
    assert!(inside(&sim, "em0", &part(0, true, 53), 0.0).passed);
    assert!(inside(&sim, "em0", &part(976, false, 53), 0.0).passed);
    assert_eq!(one_state(&sim).bytes, (2000, 0));
    let mut stray = part(976, false, 53);
    stray.src = ip("192.0.2.1");
    let dropped = inside(&sim, "em0", &stray, 0.0);
    assert_eq!((dropped.passed, dropped.reason.as_str()), (false, "fragment"));
    // Not reassembled: a rule with ports does not see later parts.
    let sim = loaded("block all\npass in proto udp from any to any port 53\n");
    assert!(!inside(&sim, "em0", &part(976, false, 53), 0.0).passed);
    let sim = loaded("block all\npass in proto udp all\nblock in quick proto udp all fragment\n");
    assert!(!inside(&sim, "em0", &part(976, false, 53), 0.0).passed);
    assert!(inside(&sim, "em0", &udp("198.51.100.1", 1000, "203.0.113.2", 53), 0.0).passed);
}

#[test]
fn options_need_leave() {
    let sim = loaded("pass in proto udp all\npass in proto igmp all allow-opts\n");
    let logged = sim.logged();
    let mut packet = udp("198.51.100.1", 1000, "203.0.113.2", 53);
    packet.options = true;
    let dropped = inside(&sim, "em0", &packet, 0.0);
    assert_eq!((dropped.passed, dropped.reason.as_str()), (false, "ip-option"));
    assert_eq!(logged.try_recv().unwrap().reason, "ip-option");
    let mut igmp = Packet::other(ip("198.51.100.1"), ip("224.0.0.22"), 2);
    igmp.options = true;
    assert!(inside(&sim, "em0", &igmp, 0.0).passed);
}

#[test]
fn without_state_each_direction_is_decided() {
    let sim = loaded("block all\npass out proto udp all no state\n");
    let query = udp("203.0.113.2", 1, "198.51.100.1", 53);
    assert!(outside(&sim, "em0", &query, 0.0).passed);
    assert!(!inside(&sim, "em0", &query.reversed(), 0.0).passed);
    assert_eq!(sim.info().unwrap().states, 0);
}

#[test]
fn interface_counters_and_disabling() {
    let sim = loaded("block in all\npass out all\n");
    let query = udp("203.0.113.2", 1, "198.51.100.1", 53);
    outside(&sim, "em0", &query, 0.0);
    inside(&sim, "em0", &query.reversed(), 0.0);
    inside(&sim, "em0", &udp("192.0.2.1", 1, "203.0.113.2", 9), 0.0);
    let em0 = sim.interfaces().unwrap().into_iter().find(|i| i.name == "em0").unwrap();
    assert_eq!((em0.packets_in, em0.packets_out, em0.packets_blocked), (1, 1, 1));
    assert_eq!((em0.bytes_in, em0.bytes_out, em0.bytes_blocked), (28, 28, 28));
    sim.set_enabled(false).unwrap();
    assert!(!sim.info().unwrap().enabled);
    assert!(inside(&sim, "em0", &udp("192.0.2.1", 1, "203.0.113.2", 9), 0.0).passed);
}

#[test]
fn forwarding_is_decided_twice() {
    let sim =
        loaded("block all\npass in on em1 all label \"in\"\npass out on em0 proto tcp all label \"out\"\n");
    let near = sim.explain("em1", Direction::In, &syn("192.168.1.5", 1000, "10.2.0.80", 80));
    assert_eq!(
        (near.verdict, near.legs[1].interface.as_str()),
        ("block", "em2"),
        "a connected network is nearer"
    );
    let web = inside(&sim, "em1", &syn("192.168.1.5", 1000, "192.0.2.80", 80), 0.0);
    assert!(web.passed && web.left.unwrap().gateway == Some(ip("203.0.113.1")));
    assert_eq!(sim.info().unwrap().states, 2);
    let dns = inside(&sim, "em1", &udp("192.168.1.5", 1000, "192.0.2.53", 53), 0.0);
    assert!(!dns.passed && dns.left.is_none());
    // To the router itself: one decision.
    assert!(inside(&sim, "em1", &udp("192.168.1.5", 1000, "192.168.1.1", 53), 0.0).passed);
}

#[test]
fn reply_to_sends_answers_back_where_they_came_from() {
    let sim = loaded(
        "block all\npass in on em2 reply-to (em2 10.2.0.1) inet proto tcp from any to any port 80 keep state\npass out on em1 all\n",
    );
    let came = syn("192.0.2.9", 1000, "192.168.1.10", 80);
    assert!(inside(&sim, "em2", &came, 0.0).passed);
    let mut answer = came.reversed();
    if let Transport::Tcp(tcp) = &mut answer.transport {
        (tcp.flags, tcp.ack) = (flag::SYN | flag::ACK, 1);
    }
    let back = inside(&sim, "em1", &answer, 0.1);
    assert!(back.passed);
    let left = back.left.unwrap();
    assert_eq!((&*left.interface, left.gateway), ("em2", Some(ip("10.2.0.1"))));
}

#[test]
fn probability_is_about_right_and_repeatable() {
    let run = || {
        let sim = loaded("pass in all no state\nblock in proto udp all probability 25%\n");
        (0..2000u16)
            .map(|n| !inside(&sim, "em0", &udp("198.51.100.1", n, "203.0.113.2", 9), 0.0).passed)
            .collect::<Vec<_>>()
    };
    let first = run();
    assert_eq!(first, run());
    let blocked = first.iter().filter(|b| **b).count();
    assert!((400..600).contains(&blocked), "{blocked} of 2000");
}

#[test]
fn a_reader_of_the_log_that_sleeps_loses_the_oldest() {
    let sim = loaded("block in log all\n");
    let reader = sim.logged();
    for n in 0..5000u16 {
        inside(&sim, "em0", &udp("198.51.100.1", n, "203.0.113.2", 9), 0.0);
    }
    assert_eq!(reader.len(), 4096);
    assert_eq!(reader.try_recv().unwrap().src_port, 5000 - 4096);
}
