//! What a write says and does at once: it is tried in pf before it is stored, warns, fills one table, and leaves
//! its line in the audit log.

use std::net::IpAddr;
use std::sync::Arc;

use aifw::config::Timestamp;
use aifw::pf::packet::{Direction, Packet, flag};
use futures_lite::future::block_on;
use serde_json::{Value, json};

use crate::rig::{Rig, id};
use crate::watched::Watched;

fn rule(label: &str) -> Value {
    json!({"action": "pass", "direction": "in", "protocol": "tcp", "dst_port_start": 443, "label": label})
}

fn watched(refused: Option<&'static str>) -> (Rig, Arc<Watched>) {
    let mut kept = None;
    let rig = Rig::around(|simulator| {
        let watched = Watched::new(simulator);
        let watched = Arc::new(match refused {
            Some(word) => watched.refusing(word),
            None => watched,
        });
        kept = Some(watched.clone());
        watched
    });
    (rig, kept.unwrap())
}

#[test]
fn what_pf_refuses_is_refused_at_the_write() {
    block_on(async {
        let (rig, _) = watched(Some("forbidden"));
        let kept = rig.create("/rules", rule("good")).await;
        let (status, answer) = rig.post("/rules", rule("forbidden")).await;
        assert_eq!(status, 400);
        assert_eq!(answer["error"], "pf cannot have this rule: line 1: no forbidden");
        let path = format!("/rules/{}", id(&kept));
        assert_eq!(rig.put(&path, rule("forbidden")).await.0, 400);
        let audited = rig.audit().len();
        assert_eq!(rig.list("/rules").await, [rig.get(&path).await.1["data"].clone()]);
        assert_eq!(rig.column("/rules", "label").await, ["good"]);
        assert_eq!(rig.audit().len(), audited);
        // What is switched off loads nothing, and so must be possible to store.
        let mut off = rule("forbidden");
        off["status"] = json!("disabled");
        assert_eq!(rig.put(&path, off.clone()).await.0, 200);
        off["status"] = json!("active");
        assert_eq!(rig.put(&path, off).await.0, 400);
    });
}

#[test]
fn nat_and_countries_are_tried_too() {
    block_on(async {
        let (rig, _) = watched(Some("192.168.1.66"));
        let forward = |target: &str| {
            json!({"nat_type": "dnat", "interface": "em0", "protocol": "tcp", "dst_port_start": 80,
                "redirect_addr": target})
        };
        let (status, answer) = rig.post("/nat", forward("192.168.1.66")).await;
        assert_eq!(status, 400);
        assert!(answer["error"].as_str().unwrap().ends_with("line 1: no 192.168.1.66"), "{answer}");
        let one = rig.create("/nat", forward("192.168.1.10")).await;
        assert_eq!(rig.put(&format!("/nat/{}", id(&one)), forward("192.168.1.66")).await.0, 400);
        assert_eq!(rig.list("/nat").await.len(), 1);
        let (rig, _) = watched(Some("<geoip_cn>"));
        assert_eq!(rig.post("/geoip", json!({"country_code": "CN", "action": "block"})).await.0, 400);
        rig.create("/geoip", json!({"country_code": "DE", "action": "block"})).await;
    });
}

#[test]
fn only_the_written_rule_is_tried_however_many_there_are() {
    block_on(async {
        let (rig, watched) = watched(None);
        for number in 0..20 {
            rig.create("/rules", rule(&format!("r{number}"))).await;
        }
        watched.take_checks();
        let one = rig.create("/rules", rule("last")).await;
        let checks = watched.take_checks();
        assert_eq!(checks.len(), 1);
        let (anchor, text) = &checks[0];
        let line = format!(
            "pass in quick proto tcp from any to any port 443 keep state label \"last\" label \"rule:{}\"",
            id(&one)
        );
        // The candidate has an id of its own until it is stored.
        assert_eq!((anchor.as_str(), text.lines().count()), ("aifw", 1));
        assert_eq!(text.split("rule:").next(), line.split("rule:").next());
    });
}

#[test]
fn without_pf_nothing_is_tried() {
    block_on(async {
        let rig = Rig::without_pf();
        rig.create("/rules", rule("x")).await;
        let forward = json!({"nat_type": "dnat", "interface": "em0", "protocol": "tcp", "dst_port_start": 80,
            "redirect_addr": "192.168.1.10"});
        rig.create("/nat", forward).await;
        rig.create("/geoip", json!({"country_code": "CN", "action": "block"})).await;
    });
}

#[test]
fn counters_are_shown_to_those_who_ask() {
    block_on(async {
        let rig = Rig::new();
        let mut both = rule("both");
        both["protocol"] = json!("tcp/udp");
        let both = rig.create("/rules", both).await;
        rig.reload().await;
        let waiting = rig.create("/rules", rule("waiting")).await;
        let (src, dst): (IpAddr, IpAddr) = ("198.51.100.9".parse().unwrap(), "203.0.113.2".parse().unwrap());
        let first = Packet::tcp(src, 40_000, dst, 443, flag::SYN);
        let second = Packet::udp(src, 40_000, dst, 443);
        for packet in [&first, &second] {
            assert!(rig.simulator.inject("em0", Direction::In, packet, Timestamp::now()).passed);
        }
        let plain = rig.list("/rules").await;
        assert!(plain[0].get("packets").is_none());
        let counted = rig.list("/rules?counters=true").await;
        // One rule of two protocols is two lines in pf.
        let bytes = u64::from(first.length + second.length);
        assert_eq!(
            (&counted[0]["packets"], &counted[0]["states"], &counted[0]["bytes"]),
            (&json!(2), &json!(2), &json!(bytes))
        );
        assert!(counted[0]["evaluations"].as_u64().unwrap() >= 2, "{}", counted[0]);
        for figure in ["evaluations", "packets", "bytes", "states"] {
            assert_eq!(counted[1][figure], Value::Null);
        }
        // All else is as without them.
        for (row, with) in plain.iter().zip(&counted) {
            let mut with = with.clone();
            for figure in ["evaluations", "packets", "bytes", "states"] {
                with.as_object_mut().unwrap().remove(figure).unwrap();
            }
            assert_eq!(*row, with);
        }
        let page = rig.list("/rules?counters=true&limit=1&offset=1").await;
        assert_eq!((page.len(), &page[0]["id"]), (1, &waiting["id"]));
        let one = rig.get(&format!("/rules/{}?counters=true", id(&both))).await.1;
        assert_eq!(one["data"], counted[0]);
        assert_eq!(rig.list("/rules?counters=false").await, plain);
        assert_eq!(rig.get("/rules?counters=maybe").await.0, 400);
        let rig = Rig::without_pf();
        rig.create("/rules", rule("x")).await;
        assert_eq!(rig.column("/rules?counters=true", "packets").await, [Value::Null]);
    });
}

#[test]
fn a_rule_that_is_never_reached_is_warned_of() {
    block_on(async {
        let rig = Rig::new();
        let (_, quiet) = rig.post("/rules", rule("web")).await;
        assert_eq!(quiet["warnings"], json!([]));
        let all =
            json!({"action": "block", "direction": "in", "protocol": "any", "priority": 5, "label": "all"});
        let all = rig.create("/rules", all).await;
        let path = format!("/rules/{}", quiet["data"]["id"].as_str().unwrap());
        let (status, answer) = rig.put(&path, rule("web")).await;
        assert_eq!(status, 200);
        let warnings = answer["warnings"].as_array().unwrap();
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].as_str().unwrap().starts_with(&format!("rule {} (all)", id(&all))), "{answer}");
        assert!(rig.get(&path).await.1.get("warnings").is_none());
        let mut synproxy = rule("out");
        synproxy["direction"] = json!("out");
        synproxy["state_tracking"] = json!("synproxy_state");
        let (_, answer) = rig.post("/rules", synproxy).await;
        assert!(answer["warnings"][0].as_str().unwrap().contains("synproxy"), "{answer}");
    });
}

#[test]
fn the_audit_log_shows_the_line_with_the_machines_interfaces() {
    block_on(async {
        let rig = Rig::new().with_roles().await;
        let body = json!({"action": "pass", "direction": "in", "protocol": "any", "interface": "em1",
            "gateway": "203.0.113.1"});
        let one = rig.create("/rules", body).await;
        let line = "pf: pass in quick on em1 route-to (em0 203.0.113.1) inet from any to any keep state";
        assert!(rig.audit()[0].details.starts_with(line), "{}", rig.audit()[0].details);
        rig.delete(&format!("/rules/{}", id(&one))).await;
        assert!(rig.audit()[0].details.starts_with(line), "{}", rig.audit()[0].details);
        let forward = json!({"nat_type": "dnat", "interface": "em0", "protocol": "tcp", "dst_port_start": 80,
            "redirect_addr": "192.168.1.10"});
        rig.create("/nat", forward).await;
        let details = &rig.audit()[0].details;
        // The reflection, which only the machine's networks tell.
        assert!(details.contains("rdr on em1 inet proto tcp from (em1:network) to (em0)"), "{details}");
    });
}

#[test]
fn a_gateway_is_not_dropped_in_silence() {
    block_on(async {
        let rig = Rig::new();
        let mut body = rule("routed");
        body["gateway"] = json!("203.0.113.1");
        let one = rig.create("/rules", body).await;
        let path = format!("/rules/{}", id(&one));
        for (field, word) in [("action", "block"), ("direction", "any")] {
            let mut body = rule("routed");
            body[field] = json!(word);
            let (status, answer) = rig.put(&path, body.clone()).await;
            assert_eq!(status, 400, "{answer}");
            assert!(answer["error"].as_str().unwrap().starts_with("gateway"), "{answer}");
            assert_eq!(rig.get(&path).await.1["data"]["gateway"], "203.0.113.1");
            body["gateway"] = Value::Null;
            body["status"] = json!("disabled");
            let (status, answer) = rig.put(&path, body).await;
            assert_eq!((status, &answer["data"]["gateway"]), (200, &Value::Null), "{answer}");
            let mut back = rule("routed");
            back["gateway"] = json!("203.0.113.1");
            assert_eq!(rig.put(&path, back).await.0, 200);
        }
    });
}

fn hosts(name: &str, entries: &[&str]) -> Value {
    json!({"name": name, "alias_type": "host", "entries": entries})
}

#[test]
fn an_alias_write_fills_its_own_table_only() {
    block_on(async {
        let (rig, watched) = watched(None);
        let mut aliases = Vec::new();
        for number in 0..5 {
            aliases.push(rig.create("/aliases", hosts(&format!("a{number}"), &["192.0.2.1"])).await);
        }
        watched.take_tables();
        let path = format!("/aliases/{}", id(&aliases[2]));
        assert_eq!(rig.put(&path, hosts("a2", &["192.0.2.1", "192.0.2.2"])).await.0, 200);
        assert_eq!(watched.take_tables(), [("a2".to_owned(), 2)]);
        assert_eq!(rig.put(&path, hosts("b2", &["192.0.2.1", "192.0.2.2"])).await.0, 200);
        assert_eq!(watched.take_tables(), [("b2".to_owned(), 2), ("a2".to_owned(), 0)]);
        assert_eq!(rig.delete(&path).await.0, 200);
        assert_eq!(watched.take_tables(), [("b2".to_owned(), 0)]);
        assert_eq!(watched.loads(), 0);
    });
}

#[test]
fn loaded_rules_keep_the_table_of_a_renamed_alias_until_they_are_replaced() {
    block_on(async {
        let rig = Rig::new();
        let alias = rig.create("/aliases", hosts("old", &["192.0.2.1"])).await;
        let mut body = rule("x");
        body["src_addr"] = json!("<old>");
        rig.create("/rules", body).await;
        rig.reload().await;
        let path = format!("/aliases/{}", id(&alias));
        assert_eq!(rig.put(&path, hosts("new", &["192.0.2.1", "192.0.2.2"])).await.0, 200);
        // The rules in force name the old table: they meet the alias as it is now.
        assert_eq!(rig.table("old"), ["192.0.2.1", "192.0.2.2"]);
        assert_eq!(rig.table("new"), ["192.0.2.1", "192.0.2.2"]);
        assert_eq!(rig.put(&path, hosts("new", &["192.0.2.3"])).await.0, 200);
        assert_eq!(
            (rig.table("old"), rig.table("new")),
            (vec!["192.0.2.3".into()], vec!["192.0.2.3".into()])
        );
        rig.reload().await;
        assert!(rig.table("old").is_empty());
        assert_eq!(rig.table("new"), ["192.0.2.3"]);
    });
}

#[test]
fn a_load_of_the_applied_rules_leaves_aliases_as_they_were_written() {
    block_on(async {
        let rig = Rig::new();
        let alias = rig.create("/aliases", hosts("friends", &["192.0.2.1"])).await;
        rig.reload().await;
        assert_eq!(
            rig.put(&format!("/aliases/{}", id(&alias)), hosts("friends", &["192.0.2.2"])).await.0,
            200
        );
        // Loads what is applied, whose alias is the old one.
        assert_eq!(rig.put("/rules/block-logging", json!({"enabled": false})).await.0, 200);
        assert_eq!(rig.table("friends"), ["192.0.2.2"]);
        rig.app.applier.machine().forget();
        rig.app.applier.start().await.unwrap();
        assert_eq!(rig.table("friends"), ["192.0.2.2"]);
    });
}
