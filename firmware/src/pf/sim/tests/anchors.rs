//! Anchors: order, nesting, wildcards, quick, tables of their own, loading as a whole.

use super::*;
use crate::pf::PfError;

fn decides(sim: &Simulator, packet: &Packet) -> Option<(String, u32)> {
    sim.explain("em0", Direction::In, packet).rule.map(|r| (r.anchor, r.number))
}

fn probe() -> Packet {
    udp("198.51.100.1", 1000, "203.0.113.2", 9)
}

#[test]
fn last_match_wins_across_anchors() {
    let sim = loaded("block in all\nanchor \"a\"\npass in proto tcp all\nanchor \"b\"\n");
    sim.load(Some("a"), "pass in proto udp all").unwrap();
    assert_eq!(decides(&sim, &probe()), Some(("a".into(), 0)));
    sim.load(Some("b"), "block in from 198.51.100.0/24 to any").unwrap();
    assert_eq!(decides(&sim, &probe()), Some(("b".into(), 0)));
    sim.load(Some("a"), "pass in quick proto udp all").unwrap();
    assert_eq!(decides(&sim, &probe()), Some(("a".into(), 0)), "quick leaves the anchor and ends it");
    sim.load(Some("a"), "").unwrap();
    assert_eq!(decides(&sim, &probe()), Some(("b".into(), 0)));
}

#[test]
fn nested_and_wildcard() {
    let sim = loaded("block in all\nanchor \"x/*\"\nanchor \"y\"\n");
    sim.load(Some("x"), "pass in all label \"not through the wildcard\"").unwrap();
    assert_eq!(decides(&sim, &probe()), Some(("".into(), 0)));
    sim.load(Some("x/b"), "pass in all").unwrap();
    sim.load(Some("x/a"), "block in all").unwrap();
    sim.load(Some("x/b/deep"), "block in quick all").unwrap();
    assert_eq!(decides(&sim, &probe()), Some(("x/b".into(), 0)), "by name, one level");
    sim.load(Some("y"), "anchor \"inner\"\n").unwrap();
    sim.load(Some("y/inner"), "block in proto udp all").unwrap();
    assert_eq!(decides(&sim, &probe()), Some(("y/inner".into(), 0)));
    assert_eq!(sim.anchors().unwrap(), ["x", "x/a", "x/b", "x/b/deep", "y", "y/inner"]);
}

#[test]
fn an_anchor_has_criteria_and_quick() {
    let sim = loaded(
        "block in all\nanchor \"a\" in on em0 proto udp from 198.51.100.0/24\nanchor \"b\" quick\nblock in all\n",
    );
    sim.load(Some("a"), "pass in all").unwrap();
    assert_eq!(decides(&sim, &probe()), Some(("".into(), 3)));
    sim.load(Some("b"), "pass in proto udp all").unwrap();
    assert_eq!(decides(&sim, &probe()), Some(("b".into(), 0)), "anchor quick ends it when something matched");
    assert_eq!(decides(&sim, &syn("198.51.100.1", 1, "203.0.113.2", 1)), Some(("".into(), 3)));
    let steps =
        sim.explain("em0", Direction::In, &udp("192.0.2.1", 1, "203.0.113.2", 1)).legs[0].path.clone();
    assert!(steps.iter().all(|s| !s.rule.text.contains("\"a\"")), "not entered from elsewhere");
}

#[test]
fn inline_anchors() {
    let sim = loaded(
        "block in all\nanchor \"in\" in on em0 {\n pass in proto udp all\n anchor {\n block in from 198.51.100.1 to any\n }\n}\n",
    );
    assert_eq!(decides(&sim, &probe()), Some(("in/_1".into(), 0)));
    assert_eq!(decides(&sim, &udp("198.51.100.2", 1, "203.0.113.2", 9)), Some(("in".into(), 0)));
    sim.load(None, "block in all\n").unwrap();
    assert_eq!(sim.anchors().unwrap(), Vec::<String>::new());
}

#[test]
fn tables_of_an_anchor_hide_those_of_the_main_ruleset() {
    let sim = loaded("table <t> persist { 198.51.100.1 }\nblock in all\nanchor \"a\"\n");
    sim.load(Some("a"), "pass in from <t> to any\n").unwrap();
    assert_eq!(decides(&sim, &probe()), Some(("a".into(), 0)), "falls back to the main ruleset's");
    sim.load(Some("a"), "table <t> { 192.0.2.1 }\npass in from <t> to any\n").unwrap();
    assert_eq!(decides(&sim, &probe()), Some(("".into(), 0)));
    // Without its rules the anchor's table goes, being not persistent.
    sim.load(Some("a"), "").unwrap();
    sim.load(Some("a"), "pass in from <t> to any\n").unwrap();
    assert_eq!(decides(&sim, &probe()), Some(("a".into(), 0)));
    // Tables that nobody has filled match nothing, and their negation everything.
    sim.load(Some("a"), "pass in from <none> to any\n").unwrap();
    assert_eq!(decides(&sim, &probe()), Some(("".into(), 0)));
    sim.load(Some("a"), "pass in from ! <none> to any\n").unwrap();
    assert_eq!(decides(&sim, &probe()), Some(("a".into(), 0)));
}

#[test]
fn reloading_the_main_ruleset_leaves_anchors_and_tables() {
    let sim = loaded("table <t> persist\nblock in all\nanchor \"a\"\n");
    sim.load(Some("a"), "pass in from <t> to any").unwrap();
    sim.replace_table(&"t".parse().unwrap(), &["198.51.100.1".into()]).unwrap();
    sim.load(None, "table <t> persist\nblock in log all\nanchor \"a\"\n").unwrap();
    assert_eq!(decides(&sim, &probe()), Some(("a".into(), 0)));
}

#[test]
fn a_refused_text_changes_nothing_and_says_where() {
    let sim = loaded("block in all\nanchor \"a\"\n");
    sim.load(Some("a"), "pass in all\n").unwrap();
    let before = sim.rules(Some("a")).unwrap();
    let bad = "block in all\npass in quick on em0 port 80 all\n";
    let Err(PfError::Refused { anchor, message }) = sim.check(Some("a"), bad) else { panic!() };
    assert_eq!(anchor, "a");
    assert!(message.starts_with("line 2, column "), "{message}");
    assert!(sim.load(Some("a"), bad).is_err());
    assert!(
        sim.load(Some("a"), "pass in on em0 from em9 to any\n").is_err(),
        "an interface without addresses"
    );
    assert!(sim.load(Some("a"), "pass in from any to any port 80\n").is_err(), "ports without a protocol");
    assert_eq!(sim.rules(Some("a")).unwrap(), before);
    sim.check(Some("a"), "block in all").unwrap();
    assert_eq!(sim.rules(Some("a")).unwrap(), before);
    assert!(matches!(sim.table(&"nope".parse().unwrap()), Err(PfError::NoTable(_))));
    let many: Vec<String> = (0..200_001u32).map(|n| std::net::Ipv4Addr::from(n).to_string()).collect();
    assert!(sim.replace_table(&"big".parse().unwrap(), &many).is_err(), "set limit table-entries");
}

#[test]
fn rules_print_as_pfctl_shows_them() {
    let sim = loaded(
        "set block-policy return\nnat on em0 inet from 192.168.1.0/24 to any -> (em0)\n\
         nat-anchor \"aifw-nat\"\nanchor \"aifw\"\nblock log label \"default-deny\"\nantispoof quick for em1 inet\n\
         pass in on em0 proto tcp to any port ssh\npass out\n",
    );
    let (nat, filter) = sim.rules(None).unwrap();
    let text = |rules: Vec<crate::pf::LoadedRule>| rules.into_iter().map(|r| r.text).collect::<Vec<_>>();
    assert_eq!(
        text(nat),
        ["nat on em0 inet from 192.168.1.0/24 to any -> (em0) round-robin", "nat-anchor \"aifw-nat\" all"]
    );
    assert_eq!(
        text(filter),
        [
            "anchor \"aifw\" all",
            "block return log all label \"default-deny\"",
            "block drop in quick on ! em1 inet from 192.168.1.0/24 to any",
            "block drop in quick inet from 192.168.1.1 to any",
            "pass in on em0 proto tcp from any to any port = ssh flags S/SA keep state",
            "pass out all flags S/SA keep state",
        ]
    );
    assert_eq!(sim.rules(Some("aifw")).unwrap(), (Vec::new(), Vec::new()));
}

#[test]
fn tags_and_match_rules() {
    let sim = loaded(
        "match in proto udp all tag MARK rtable 3 label \"matched\"\nblock in all\npass in all tagged MARK label \"marked\"\nblock in quick all ! tagged MARK\n",
    );
    let seen = sim.explain("em0", Direction::In, &probe());
    assert_eq!(seen.rule.unwrap().labels, ["marked"]);
    assert_eq!((seen.legs[0].rtable, seen.legs[0].tag.as_deref()), (Some(3), Some("MARK")));
    assert!(inside(&sim, "em0", &probe(), 0.0).passed);
    assert_eq!(one_state(&sim).rtable, Some(3));
    let (_, rules) = sim.rules(None).unwrap();
    assert_eq!((rules[0].packets, rules[2].packets, rules[2].states), (1, 1, 1));
    assert!(!inside(&sim, "em0", &syn("198.51.100.1", 1, "203.0.113.2", 1), 0.0).passed);
}
