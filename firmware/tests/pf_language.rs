//! Whatever rule can be built prints as text that reads back as the same rule; no text leaves its quotes.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::IpAddr;

use aifw::config::InterfaceName;
use aifw::pf::ast::*;
use aifw::pf::parse::parse;
use ipnet::IpNet;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

/// Any name the type allows; pf.conf has no plain word for some of them.
fn interface() -> BoxedStrategy<InterfaceName> {
    let reserved = select(vec!["in", "to", "pass", "12", "-x", ".a", "self"]).prop_map(str::to_owned);
    prop_oneof![4 => "[A-Za-z0-9_.-]{1,15}", 1 => reserved]
        .prop_map(|name| InterfaceName::new(&name).unwrap())
        .boxed()
}
/// An address that begins with a digit would not be an interface.
fn lettered() -> impl Strategy<Value = InterfaceName> {
    "[a-z][A-Za-z0-9_.-]{0,14}".prop_map(|name| InterfaceName::new(&name).unwrap())
}
fn table() -> BoxedStrategy<Table> {
    let reserved = select(vec!["in", "to", "pass", "12", "-x", ".a"]).prop_map(str::to_owned);
    prop_oneof![4 => "[A-Za-z0-9_.-]{1,31}", 1 => reserved]
        .prop_map(|name| Table::new(&name).unwrap())
        .boxed()
}
fn text(most: usize) -> BoxedStrategy<Text> {
    proptest::collection::vec(select(" #{}()<>!=/,;$'`*%&|:.aZ0é".chars().collect::<Vec<_>>()), 1..most)
        .prop_map(|chars| Text::new(&chars.into_iter().collect::<String>()).unwrap())
        .prop_filter("63 bytes", |text| text.as_str().len() <= 63)
        .boxed()
}
fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u16; 8]>().prop_map(IpAddr::from)]
}
fn net() -> impl Strategy<Value = IpNet> {
    (address(), any::<u8>()).prop_map(|(address, prefix)| {
        let most = if address.is_ipv4() { 32 } else { 128 };
        IpNet::new(address, prefix % (most + 1)).unwrap()
    })
}
fn interface_host() -> impl Strategy<Value = InterfaceHost> {
    (lettered(), any::<bool>(), 0..4, any::<bool>(), of(0u8..=128)).prop_map(
        |(interface, dynamic, modifier, no_alias, prefix)| InterfaceHost {
            dynamic,
            network: modifier == 1,
            broadcast: modifier == 2,
            peer: modifier == 3,
            no_alias,
            prefix: prefix.filter(|_| dynamic || modifier == 0),
            ..InterfaceHost::named(&interface)
        },
    )
}
fn range() -> impl Strategy<Value = Host> {
    prop_oneof![
        any::<([u8; 4], [u8; 4])>().prop_map(|(a, b)| Host::Range(a.into(), b.into())),
        any::<([u16; 8], [u16; 8])>().prop_map(|(a, b)| Host::Range(a.into(), b.into())),
    ]
}
fn pool_host() -> BoxedStrategy<Host> {
    prop_oneof![
        4 => net().prop_map(Host::Net),
        1 => table().prop_map(Host::Table),
        2 => interface_host().prop_map(Host::Interface),
    ]
    .boxed()
}
fn host() -> BoxedStrategy<Host> {
    prop_oneof![
        6 => pool_host(),
        1 => range(),
        1 => Just(Host::NoRoute),
        1 => (any::<[u16; 8]>(), lettered()).prop_map(|(a, i)| Host::Scoped(IpNet::from(IpAddr::from(a)), i)),
    ]
    .boxed()
}
fn item() -> impl Strategy<Value = HostItem> {
    (any::<bool>(), host()).prop_map(|(negate, host)| HostItem { negate, host })
}
fn port() -> impl Strategy<Value = Port> {
    (any::<u16>(), any::<u16>(), 0..9).prop_filter_map("order", |(a, b, kind)| {
        let (low, high) = (a.min(b), a.max(b));
        match kind {
            0 => Some(Port::Equal(a)),
            1 => Some(Port::NotEqual(a)),
            2 => Some(Port::Less(a)),
            3 => Some(Port::LessOrEqual(a)),
            4 => Some(Port::Greater(a)),
            5 => Some(Port::GreaterOrEqual(a)),
            _ if low == high => None,
            6 => Some(Port::Range(low, high)),
            7 => Some(Port::Between(low, high)),
            _ => Some(Port::Outside(low, high)),
        }
    })
}
fn list<T: std::fmt::Debug>(item: impl Strategy<Value = T>) -> impl Strategy<Value = Vec<T>> {
    proptest::collection::vec(item, 0..4)
}
fn endpoint() -> impl Strategy<Value = Endpoint> {
    (list(item()), list(port())).prop_map(|(hosts, ports)| Endpoint { hosts, ports })
}
fn family() -> impl Strategy<Value = Family> {
    select(Family::ALL)
}
fn interface_match() -> impl Strategy<Value = InterfaceMatch> {
    (any::<bool>(), interface()).prop_map(|(negate, name)| InterfaceMatch { negate, name })
}
fn criteria() -> BoxedStrategy<Criteria> {
    let between = prop_oneof![
        Just(FromTo::All),
        (endpoint(), endpoint()).prop_map(|(from, to)| FromTo::Between { from, to })
    ];
    (
        of(select(Direction::ALL)),
        list(interface_match()),
        of(family()),
        list((1u8..=255).prop_map(Protocol)),
        between,
    )
        .prop_map(|(direction, on, family, protocols, between)| Criteria {
            direction,
            on,
            family,
            protocols,
            between,
        })
        .boxed()
}
fn pool() -> impl Strategy<Value = PoolOptions> {
    let kind = prop_oneof![
        Just(PoolKind::Bitmask),
        Just(PoolKind::Random),
        Just(PoolKind::RoundRobin),
        of(any::<u128>()).prop_map(PoolKind::SourceHash)
    ];
    (of(kind), any::<[bool; 4]>(), of((1u8..=8, 1u8..=8, any::<u16>()))).prop_map(|(kind, bits, map_e)| {
        PoolOptions {
            kind,
            sticky_address: bits[0],
            static_port: bits[1],
            map_e: map_e.filter(|_| kind.is_none()),
            endpoint_independent: bits[2],
            prefer_ipv6_nexthop: bits[3],
        }
    })
}
fn target_port() -> impl Strategy<Value = TargetPort> {
    (any::<u16>(), any::<u16>(), 0..3).prop_filter_map("order", |(a, b, kind)| match kind {
        0 => Some(TargetPort::One(a)),
        1 => Some(TargetPort::From(a)),
        _ if a == b => None,
        _ => Some(TargetPort::Range(a.min(b), a.max(b))),
    })
}
fn translation() -> BoxedStrategy<Translation> {
    (proptest::collection::vec(pool_host(), 1..4), of(target_port()), pool())
        .prop_map(|(hosts, port, pool)| Translation { hosts, port, pool })
        .boxed()
}
fn log() -> impl Strategy<Value = Log> {
    (any::<[bool; 3]>(), of(0u8..=9)).prop_map(|(bits, to)| Log {
        all: bits[0],
        matches: bits[1],
        user: bits[2],
        to: to.map(|number| InterfaceName::new(&format!("pflog{number}")).unwrap()),
    })
}
fn state_option() -> impl Strategy<Value = StateOption> {
    prop_oneof![
        any::<u32>().prop_map(StateOption::Max),
        Just(StateOption::NoSync),
        Just(StateOption::IfBound),
        Just(StateOption::Floating),
        Just(StateOption::Sloppy),
        Just(StateOption::Pflow),
        Just(StateOption::AllowRelated),
        of(select(SourceTrack::ALL)).prop_map(StateOption::SourceTrack),
        (1..u32::MAX).prop_map(StateOption::MaxSrcStates),
        (1..u32::MAX).prop_map(StateOption::MaxSrcConn),
        (1..u32::MAX, 1..u32::MAX).prop_map(|(n, s)| StateOption::MaxSrcConnRate(n, s)),
        (1..u32::MAX).prop_map(StateOption::MaxSrcNodes),
        (table(), of(select(vec![Flush::Rule, Flush::Global])))
            .prop_map(|(table, flush)| StateOption::Overload { table, flush }),
        (select(Timeout::ALL), any::<u32>())
            .prop_filter("state time-outs", |(timeout, _)| timeout.as_str().contains('.'))
            .prop_map(|(timeout, number)| StateOption::Timeout(timeout, number)),
    ]
}
fn state() -> BoxedStrategy<State> {
    (select(StateKind::ALL), list(state_option()))
        .prop_map(|(kind, options)| State {
            kind,
            options: if kind == StateKind::None { Vec::new() } else { options },
        })
        .boxed()
}
fn icmp() -> impl Strategy<Value = IcmpMatch> {
    let types = proptest::collection::vec((any::<u8>(), of(any::<u8>())), 1..4);
    (family(), types).prop_map(|(family, types)| IcmpMatch {
        family,
        types: types.into_iter().map(|(kind, code)| IcmpType { kind, code }).collect(),
    })
}
fn scrub() -> impl Strategy<Value = ScrubOptions> {
    (any::<[bool; 3]>(), of(any::<u8>()), of(any::<u16>()), of(any::<u8>())).prop_map(
        |(bits, min_ttl, max_mss, set_tos)| ScrubOptions {
            no_df: bits[0],
            random_id: bits[1],
            reassemble_tcp: bits[2],
            min_ttl,
            max_mss,
            set_tos,
        },
    )
}
fn tagged() -> impl Strategy<Value = Tagged> {
    (any::<bool>(), text(20)).prop_map(|(negate, name)| Tagged { negate, name })
}
fn flags() -> impl Strategy<Value = TcpFlags> {
    prop_oneof![
        Just(TcpFlags::Any),
        (0u16..512, 1u16..512).prop_map(|(set, of)| TcpFlags::Set { set: set & of, of })
    ]
}
fn options() -> BoxedStrategy<FilterOptions> {
    let translations = prop_oneof![
        3 => Just((None, None, None)),
        1 => translation().prop_map(|nat| (Some(nat), None, None)),
        1 => translation().prop_map(|binat| (None, Some(binat), None)),
        1 => (family(), translation(), of(translation()))
            .prop_map(|(family, from, to)| (None, None, Some(AfTo { family, from, to }))),
    ];
    let first =
        (of(interface_match()), of(flags()), of(icmp()), of(any::<u8>()), any::<bool>(), any::<bool>());
    let second = (
        proptest::collection::vec(text(63), 0..5),
        of(any::<u32>()),
        of(text(20)),
        of(tagged()),
        of(any::<(u32, u32)>()),
    );
    let third =
        (of(any::<u16>()), of(1u32..=1_000_000), of(0u32..65536), of(0u8..8), of((0u8..8, of(0u8..8))));
    let fourth = (of(any::<u8>()), of(scrub()), translations, of(translation()), of(state()));
    (first, second, third, fourth)
        .prop_map(|(first, second, third, fourth)| FilterOptions {
            received_on: first.0,
            flags: first.1,
            icmp: first.2,
            tos: first.3,
            allow_opts: first.4,
            fragment: first.5,
            labels: second.0,
            ridentifier: second.1,
            tag: second.2,
            tagged: second.3,
            max_pkt_rate: second.4,
            max_pkt_size: third.0,
            probability: third.1,
            rtable: third.2,
            prio: third.3,
            set_prio: third.4,
            set_tos: fourth.0,
            scrub: fourth.1,
            nat_to: fourth.2.0.map(Box::new),
            binat_to: fourth.2.1.map(Box::new),
            af_to: fourth.2.2.map(Box::new),
            rdr_to: fourth.3.map(Box::new),
            state: fourth.4,
        })
        .boxed()
}
fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        Just(Action::Pass),
        Just(Action::Match),
        Just(Action::Block(Block::Default)),
        Just(Action::Block(Block::Drop)),
        Just(Action::Block(Block::Return)),
        of(any::<u8>()).prop_map(|ttl| Action::Block(Block::ReturnRst { ttl })),
        of((any::<u8>(), of(any::<u8>()))).prop_map(|codes| Action::Block(Block::ReturnIcmp {
            inet: codes.map(|(inet, _)| inet),
            inet6: codes.and_then(|(_, inet6)| inet6),
        })),
        of(any::<u8>()).prop_map(|code| Action::Block(Block::ReturnIcmp6 { code })),
    ]
}
fn route() -> impl Strategy<Value = Route> {
    let hop = (interface(), of(pool_host())).prop_map(|(interface, address)| Hop { interface, address });
    (select(RouteKind::ALL), proptest::collection::vec(hop, 1..4), pool())
        .prop_map(|(kind, hops, pool)| Route { kind, hops, pool })
}
fn filter_rule() -> BoxedStrategy<FilterRule> {
    (action(), of(log()), any::<bool>(), criteria(), of(route()), options())
        .prop_map(|(action, log, quick, criteria, route, options)| FilterRule {
            action,
            log,
            quick,
            criteria,
            route,
            options,
        })
        .boxed()
}
fn nat_rule() -> impl Strategy<Value = NatRule> {
    let kind = select(vec![NatKind::Nat, NatKind::Rdr]);
    (
        kind,
        of(translation()),
        any::<bool>(),
        of(log()),
        criteria(),
        of(text(20)),
        of(tagged()),
        of(0u32..65536),
    )
        .prop_map(|(kind, target, pass, log, criteria, tag, tagged, rtable)| NatRule {
            kind,
            no: target.is_none(),
            pass: pass && target.is_some(),
            log,
            criteria: Criteria { direction: None, ..criteria },
            tag,
            tagged,
            rtable,
            target,
        })
}
fn anchor() -> impl Strategy<Value = AnchorRule> {
    let name = select(vec!["aifw", "aifw-nat", "relayd"]).prop_map(|name| Text::new(name).unwrap());
    let body = proptest::collection::vec(filter_rule(), 0..3).prop_map(|rules| Ruleset {
        statements: rules.into_iter().map(|rule| Item::Filter(rule).into()).collect(),
    });
    (of(name), any::<bool>(), criteria(), options(), body).prop_map(
        |(name, quick, criteria, options, body)| AnchorRule {
            kind: AnchorKind::Filter,
            name,
            quick,
            criteria,
            options: FilterOptions { state: None, ..options },
            body: Some(body),
        },
    )
}
fn read_back(item: Item) -> Result<(), TestCaseError> {
    let text = item.to_string();
    let ruleset = parse(&text).map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
    prop_assert_eq!(ruleset.statements.len(), 1, "{}", text);
    prop_assert_eq!(&ruleset.statements[0].item, &item, "{}", text);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn filter_rules_read_back(rule in filter_rule()) {
        read_back(Item::Filter(rule))?;
    }
    #[test]
    fn translation_rules_read_back(rule in nat_rule()) {
        read_back(Item::Nat(rule))?;
    }
    #[test]
    fn anchors_read_back(anchor in anchor()) {
        read_back(Item::Anchor(anchor))?;
    }
    #[test]
    fn tables_read_back(name in table(), flags in any::<[bool; 3]>(), nets in list((any::<bool>(), net())), file in of(text(40))) {
        let entries = nets.into_iter().map(|(negate, net)| HostItem { negate, host: Host::Net(net) }).collect();
        let mut contents = vec![TableContents::Entries(entries)];
        contents.extend(file.map(TableContents::File));
        read_back(Item::Table(TableDefinition { name, persist: flags[0], constant: flags[1], counters: flags[2], contents }))?;
    }

    /// Any text at all, made into a label, stays one label.
    #[test]
    fn hostile_labels_stay_labels(hostile in any::<String>()) {
        let mut rule = FilterRule::new(Action::Pass);
        rule.options.labels = vec![Text::nearest(&hostile, 63)];
        let line = Item::Filter(rule.clone()).to_string();
        prop_assert_eq!(line.lines().count(), 1);
        prop_assert_eq!(line.matches('"').count(), 2);
        prop_assert!(!line.contains('$') && !line.contains('\\'));
        read_back(Item::Filter(rule))?;
    }
    /// Whatever a label type accepts cannot leave its quotes either.
    #[test]
    fn accepted_text_stays_between_its_quotes(hostile in any::<String>()) {
        if let Ok(text) = Text::new(&hostile) {
            let printed = text.to_string();
            prop_assert!(!printed[1..printed.len() - 1].contains(['"', '\\', '\n', '\r', '\0']));
        }
    }
    /// The reader never panics.
    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        let _ = parse(&text);
    }
    #[test]
    fn any_words_are_read_or_refused(words in proptest::collection::vec(select(vec![
        "pass", "block", "in", "on", "{", "}", "em0", "\n", "from", "to", "any", "!", "<t>", "port", "80:", "\\", "\"", "a=", "$a",
        "table", "set", "limit", "label", "(", ")", "nat", "->", "anchor", "keep state", "proto", "tcp", "10/8", "-", "1",
    ]), 0..60)) {
        let _ = parse(&words.join(" "));
    }
}

/// Line, column, what was expected and what was there.
#[test]
fn errors_say_where_and_what() {
    let cases = [
        (
            "pass in\nblock in port 80 frm any\n",
            "line 2, column 10: expected an option of the rule, or the end of the line, found \"port\"",
        ),
        (
            "pass from 10.0.0.0/33\n",
            "line 1, column 11: expected a prefix length that the family has, found 10.0.0.0/33",
        ),
        (
            "pass proto tcp to port 90:80",
            "line 1, column 24: expected a port range whose start is not above its end, found 90:80",
        ),
        ("\n\npass label \"a\n", "line 3, column 12: expected a closing quote, found end of text"),
        ("pass from $lan", "line 1, column 11: expected the name of a macro defined above, found $lan"),
        (
            "pass\nnat on em0 from any to any -> 1.2.3.4\n",
            "line 2, column 1: expected statements in order: options, normalization, translation, filtering, found a statement that comes too late",
        ),
        (
            "anchor \"_x\"",
            "line 1, column 8: expected an anchor name that does not begin with _, found \"_x\"",
        ),
        (
            "anchor a {\n pass\n",
            "line 3, column 1: expected a filter rule, an anchor or \"}\", found end of text",
        ),
        ("pass queue q", "line 1, column 6: expected a rule without queues or pipes, found \"queue\""),
        (
            "table <a> { <b> }",
            "line 1, column 11: expected addresses, networks and interfaces in a table, found <b>",
        ),
        ("no pass", "line 1, column 1: expected no scrub, no nat, no rdr or no binat, found \"no\""),
        ("pass ; block", "line 1, column 6: expected a word, a number or a sign of the grammar, found ';'"),
    ];
    for (text, message) in cases {
        assert_eq!(parse(text).unwrap_err().to_string(), message, "{text}");
    }
}

/// What can be read and yet contradicts itself, as in pfctl(8).
#[test]
fn contradictions_are_refused() {
    use aifw::pf::expand::{NoInterfaces, expand};
    let cases = [
        ("pass to port 80", "line 1: ports are only for the protocols tcp, udp and sctp"),
        (
            "pass\npass inet proto tcp icmp-type echoreq",
            "line 2: icmp-type is only for the protocol of its family (icmp, icmp6)",
        ),
        ("pass proto icmp icmp-type echoreq", "line 1: icmp-type needs the address family (inet, inet6)"),
        ("pass inet6 proto icmp", "line 1: protocol icmp does not match the address family"),
        ("pass from 10.0.0.1 to ::1", "line 1: the rule expands to no valid combination"),
        ("block keep state", "line 1: state is only kept for pass rules"),
        ("pass route-to (em0 10.0.0.1)", "line 1: routing needs a direction (in, out)"),
        ("block in route-to (em0 10.0.0.1)", "line 1: routing is only for pass rules"),
        ("pass in inet6 route-to (em0 10.0.0.1)", "line 1, column 15"),
        (
            "pass in route-to (em0 10.0.0.1) inet6",
            "line 1: no routing address with a matching address family",
        ),
        (
            "pass in inet af-to inet from 10.0.0.1",
            "line 1: af-to needs another address family than the rule's",
        ),
        ("match in inet af-to inet6 from ::1", "line 1: af-to is not for match rules"),
        ("pass in nat-to 10.0.0.1 no state", "line 1: nat-to, rdr-to and af-to need state"),
        ("pass nat-to 10.0.0.1", "line 1: nat-to, rdr-to and af-to need a direction (in, out)"),
        ("pass proto udp flags S/SA", "line 1: flags are only for tcp"),
        ("block return-rst", "line 1: return-rst is only for tcp"),
        ("pass keep state (overload <a>)", "line 1: overload needs max-src-conn or max-src-conn-rate"),
        ("pass keep state (max 1, max 2)", "line 1: the state option max is given twice"),
        ("pass synproxy state (sloppy)", "line 1: sloppy does not go with modulate state or synproxy state"),
        (
            "nat on em0 -> { 10.0.0.1, 10.0.0.2 } random",
            "line 1: only round-robin goes with several addresses",
        ),
        ("nat on em0 inet6 -> 10.0.0.1", "line 1: no translation address with a matching address family"),
        (
            "rdr on em0 inet proto tcp to port > 5 -> 10.0.0.1",
            "line 1: rdr can only match one destination port or a range",
        ),
        (
            "rdr on em0 inet to any -> 10.0.0.1 port 80",
            "line 1: ports are only for the protocols tcp, udp and sctp",
        ),
        (
            "binat on em0 from 10.0.0.0/24 to any -> 10.1.0.0/25",
            "line 1: binat needs one source and one target with the same prefix length, and no direction",
        ),
        ("pass from em0", "line 1: no address is known for em0"),
    ];
    for (text, message) in cases {
        let refused = match parse(text) {
            Err(error) => error.to_string(),
            Ok(ruleset) => expand(&ruleset, &NoInterfaces).unwrap_err().to_string(),
        };
        assert!(refused.starts_with(message), "{text}: {refused}");
    }
}

/// The main ruleset's line without `inet` would translate IPv6, too: what is left open stays open.
#[test]
fn interfaces_in_parentheses_leave_the_family_open() {
    use aifw::pf::expand::{NoInterfaces, expand};
    use aifw::pf::print::Loaded;
    let loaded = |text: &str| Loaded(&expand(&parse(text).unwrap(), &NoInterfaces).unwrap()).to_string();
    assert_eq!(
        loaded("nat on em0 from 10.0.0.0/8 to any -> (em0:0)"),
        "nat on em0 inet from 10.0.0.0/8 to any -> (em0:0)\n"
    );
    assert_eq!(loaded("nat on em0 -> (em0)"), "nat on em0 all -> (em0) round-robin\n");
    assert_eq!(loaded("pass from 0.0.0.0/0"), "pass inet all flags S/SA keep state\n");
    assert_eq!(
        loaded("antispoof log quick for { (em0), (lo0) } label \"antispoof\""),
        "block drop in log quick on ! em0 from (em0:network) to any label \"antispoof\"\n\
         block drop in log quick from (em0) to any label \"antispoof\"\n\
         block drop in log quick on ! lo0 from (lo0:network) to any label \"antispoof\"\n"
    );
    assert_eq!(
        loaded("set state-policy if-bound\nset block-policy return\npass in synproxy state\nblock"),
        "set state-policy if-bound\nset block-policy return\npass in all flags S/SA synproxy state (if-bound)\nblock return all\n"
    );
}

/// Anchors in anchors: as deep as pfctl goes, and not deeper.
#[test]
fn nested_anchors_have_an_end() {
    let nested = |depth: usize| format!("{}pass\n{}", "anchor {\n".repeat(depth), "}\n".repeat(depth));
    assert!(parse(&nested(64)).is_ok());
    assert_eq!(
        parse(&nested(65)).unwrap_err().to_string(),
        "line 65, column 9: expected anchors nested at most 64 deep, found end of line"
    );
}
