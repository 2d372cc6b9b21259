//! `/rules` and its neighbours.

use futures_lite::future::block_on;
use serde_json::{Value, json};

use crate::rig::{Rig, id};

fn block_ssh() -> Value {
    json!({"action": "block", "direction": "in", "protocol": "tcp", "dst_port_start": 22, "label": "block-ssh"})
}

#[test]
fn b01_a_rule_is_stored_and_shown() {
    block_on(async {
        let rig = Rig::new();
        let rule = rig.create("/rules", block_ssh()).await;
        assert_eq!(rule["rule_match"]["dst_port"], json!({"start": 22, "end": 22}));
        assert_eq!((&rule["priority"], &rule["quick"]), (&json!(100), &json!(true)));
        assert_eq!(rule["rule_match"]["src_addr"], "any");
        assert_eq!(rule["in_effect"], false);
        // Optional values are there as null.
        for field in ["interface", "description", "gateway", "schedule_id", "src_port_alias"] {
            assert_eq!(rule.get(field), Some(&Value::Null), "{field}");
        }
        assert_eq!(
            rule["state_options"],
            json!({"tracking": "keep_state", "policy": null, "adaptive_timeouts": null, "timeout_tcp": null,
                "timeout_udp": null, "timeout_icmp": null})
        );
        assert_eq!(rig.list("/rules").await, std::slice::from_ref(&rule));
        assert_eq!(rig.get(&format!("/rules/{}", id(&rule))).await, (200, json!({"data": rule})));
        assert_eq!(rig.get("/pending").await.1["firewall"], true);
        assert!(rig.pf.rules(Some("aifw")).unwrap_or_default().1.is_empty());
        let entry = &rig.audit()[0];
        assert_eq!((entry.action.as_str(), entry.source.as_str()), ("rule_added", "engine"));
        assert_eq!(entry.rule_id.unwrap().to_string(), id(&rule));
        assert!(
            entry.details.starts_with("pf: block") && entry.details.contains("tester"),
            "{}",
            entry.details
        );
    });
}

#[test]
fn b02_what_could_be_an_injection_is_refused_and_nothing_stored() {
    block_on(async {
        let rig = Rig::new();
        for (field, value) in [
            ("label", json!("a\"b")),
            ("label", json!("a;b")),
            ("label", json!("a\nb")),
            ("interface", json!("em0; rm -rf /")),
            ("interface", json!("e".repeat(40))),
            ("src_addr", json!("<a> to any port 22")),
            ("dst_addr", json!("<a>\npass all")),
        ] {
            let mut rule = block_ssh();
            rule[field] = value.clone();
            let (status, answer) = rig.post("/rules", rule).await;
            assert_eq!(status, 400, "{field} {value}");
            assert_eq!(answer["error"], answer["message"]);
            assert!(answer["error"].as_str().unwrap().starts_with(field), "{answer}");
            let mut nat = json!({"nat_type": "snat", "interface": "em0", "protocol": "any", "redirect_addr": "192.0.2.1"});
            nat[field] = value.clone();
            assert_eq!(rig.post("/nat", nat).await.0, 400, "{field} {value}");
        }
        assert!(rig.list("/rules").await.is_empty() && rig.list("/nat").await.is_empty());
        assert!(rig.audit().is_empty());
    });
}

#[test]
fn b03_out_of_range_values_are_refused_on_post_and_put() {
    block_on(async {
        let rig = Rig::new();
        let rule = rig.create("/rules", block_ssh()).await;
        for change in [
            json!({"protocol": "icmp"}),
            json!({"dst_port_start": 90, "dst_port_end": 80}),
            json!({"dst_port_start": 0}),
            json!({"dst_port_start": 70000}),
            json!({"priority": 10001}),
            json!({"src_addr": "10.0.0.0/33"}),
            json!({"action": "reject"}),
            json!({"action": null}),
        ] {
            let mut body = block_ssh();
            for (key, value) in change.as_object().unwrap() {
                body[key] = value.clone();
            }
            assert_eq!(rig.post("/rules", body.clone()).await.0, 400, "{change}");
            assert_eq!(rig.put(&format!("/rules/{}", id(&rule)), body).await.0, 400, "{change}");
        }
        for body in ["", "{", "[]", "null", "{}", "\"x\""] {
            let (status, answer) = rig.client.post("/rules").body(body).await;
            assert_eq!(status, 400, "{body}");
            assert!(answer["error"].is_string());
        }
        assert_eq!(rig.list("/rules").await, [rule]);
    });
}

#[test]
fn b04_own_fields_sent_back_change_only_what_differs() {
    block_on(async {
        let rig = Rig::new();
        let mut body = block_ssh();
        body["action"] = json!("block_drop");
        body["src_addr"] = json!("10.0.0.0/8");
        body["dst_port_end"] = json!(25);
        let rule = rig.create("/rules", body).await;
        assert_eq!(rule["action"], "block_drop");
        let path = format!("/rules/{}", id(&rule));
        assert_eq!(rig.put(&path, rule.clone()).await, (200, json!({"data": rule, "warnings": []})));
        let mut off = rule.clone();
        off["status"] = json!("disabled");
        let (status, answer) = rig.put(&path, off.clone()).await;
        assert_eq!(status, 200, "{answer}");
        off["updated_at"] = answer["data"]["updated_at"].clone();
        assert_ne!(off["updated_at"], rule["updated_at"]);
        assert_eq!(answer["data"], off);
    });
}

#[test]
fn b05_everything_sent_on_post_comes_back() {
    block_on(async {
        let rig = Rig::new();
        let rule = rig
            .create(
                "/rules",
                json!({"action": "pass", "direction": "in", "protocol": "any", "ip_version": "inet46", "src_invert": true,
                    "src_addr": "10.0.0.0/8", "description": "d", "gateway": "192.0.2.1", "status": "disabled"}),
            )
            .await;
        let stored = rig.get(&format!("/rules/{}", id(&rule))).await.1["data"].clone();
        assert_eq!(stored, rule);
        assert_eq!((&rule["ip_version"], &rule["status"]), (&json!("inet46"), &json!("disabled")));
        assert_eq!((&rule["src_invert"], &rule["rule_match"]["src_invert"]), (&json!(true), &json!(true)));
        assert_eq!((&rule["description"], &rule["gateway"]), (&json!("d"), &json!("192.0.2.1")));
    });
}

#[test]
fn b06_reorder() {
    block_on(async {
        let rig = Rig::new();
        let mut ids = Vec::new();
        for label in ["one", "two", "three"] {
            let mut body = block_ssh();
            body["label"] = json!(label);
            ids.push(id(&rig.create("/rules", body).await));
        }
        let last = rig
            .create(
                "/rules",
                json!({"action": "block", "direction": "in", "protocol": "any", "priority": 1000, "label": "final"}),
            )
            .await;
        ids.reverse();
        ids.push(id(&last));
        assert_eq!(
            rig.put("/rules/reorder", json!({"rule_ids": ids})).await,
            (200, json!({"message": "4 rules reordered"}))
        );
        assert_eq!(rig.column("/rules", "label").await, ["three", "two", "one", "final"]);
        assert_eq!(rig.column("/rules", "priority").await, [100, 101, 102, 1000]);
        rig.create("/rules", block_ssh()).await;
        assert_eq!(rig.column("/rules", "label").await.last().unwrap(), "final");
        let before = rig.list("/rules").await;
        let mut unknown = ids.clone();
        unknown[1] = "00000000-0000-4000-8000-000000000000".into();
        unknown.swap(0, 2);
        assert_eq!(rig.put("/rules/reorder", json!({"rule_ids": unknown})).await.0, 404);
        let twice = [ids[0].clone(), ids[0].clone()];
        assert_eq!(rig.put("/rules/reorder", json!({"rule_ids": twice})).await.0, 400);
        assert_eq!(rig.put("/rules/reorder", json!({"rule_ids": ["x"]})).await.0, 400);
        assert_eq!(rig.put("/rules/reorder", json!({})).await.0, 400);
        assert_eq!(rig.list("/rules").await, before);
    });
}

#[test]
fn b06_reorder_at_the_end_of_the_scale_numbers_anew() {
    block_on(async {
        let rig = Rig::new();
        let mut ids = Vec::new();
        for (label, priority) in [("a", 5), ("b", 10_000), ("c", 10_000), ("d", 10_000)] {
            let mut body = block_ssh();
            body["label"] = json!(label);
            body["priority"] = json!(priority);
            ids.push(id(&rig.create("/rules", body).await));
        }
        let wanted = [&ids[3], &ids[2], &ids[1]];
        assert_eq!(rig.put("/rules/reorder", json!({"rule_ids": wanted})).await.0, 200);
        assert_eq!(rig.column("/rules", "label").await, ["a", "d", "c", "b"]);
        assert_eq!(rig.column("/rules", "priority").await, [10, 20, 30, 40]);
    });
}

#[test]
fn b07_block_logging_needs_a_boolean() {
    block_on(async {
        let rig = Rig::new();
        assert_eq!(rig.get("/rules/block-logging").await, (200, json!({"enabled": true})));
        for body in [json!({}), json!({"enabled": "yes"}), json!({"enabled": null})] {
            assert_eq!(rig.put("/rules/block-logging", body.clone()).await.0, 400);
            assert_eq!(rig.post("/rules/block-logging", body).await.0, 400);
        }
    });
}

#[test]
fn b19_permissions() {
    block_on(async {
        let rig = Rig::new();
        let rule = rig.create("/rules", block_ssh()).await;
        let one = format!("/rules/{}", id(&rule));
        for (list, permission) in [
            ("/rules", "rules:read"),
            ("/schedules", "rules:read"),
            ("/aliases", "aliases:read"),
            ("/nat", "nat:read"),
            ("/geoip", "geoip:read"),
        ] {
            let reader = rig.client.with_bearer(permission);
            assert_eq!(reader.get(list).await.0, 200, "{list}");
            assert_eq!(reader.post(list).body("not json").await.0, 403, "{list}");
            assert_eq!(rig.client.with_bearer("none").get(list).await.0, 403, "{list}");
            assert_eq!(rig.client.get(list).header("Authorization", "Bearer wrong").await.0, 401, "{list}");
        }
        let nat_only = rig.client.with_bearer("nat:read");
        assert_eq!(nat_only.get("/rules").await.0, 403);
        assert_eq!(nat_only.delete(&one).await.0, 403);
        assert_eq!(rig.client.request("PATCH", "/rules").await.0, 405);
        assert_eq!(rig.delete("/rules/not-a-uuid").await.0, 400);
        assert_eq!(rig.delete(&one).await, (200, json!({"message": format!("Rule {} deleted", id(&rule))})));
        assert_eq!(rig.delete(&one).await.0, 404);
        assert_eq!(rig.get(&one).await.0, 404);
        assert_eq!(rig.put(&one, block_ssh()).await.0, 404);
    });
}

#[test]
fn b20_system_rules_without_pf_are_an_empty_list() {
    block_on(async {
        let rig = Rig::without_pf();
        assert_eq!(rig.get("/rules/system").await, (200, json!({"data": []})));
        assert_eq!(rig.get("/nat/pf-output").await, (200, json!({"data": []})));
    });
}

#[test]
fn b20_every_anchor_header_stands_once() {
    block_on(async {
        let rig = Rig::new();
        rig.pf.load(None, "anchor \"aifw\"\npass out all keep state\n").unwrap();
        rig.pf.load(Some("aifw"), "block drop in quick proto tcp from any to any port 22\n").unwrap();
        rig.pf.load(Some("aifw-geoip"), "block drop in from 192.0.2.1 to any\n").unwrap();
        rig.pf
            .load(
                Some("aifw-nat"),
                "nat on em0 inet from 10.0.0.0/8 to any -> 192.0.2.1\npass in on em0 all keep state\n",
            )
            .unwrap();
        let (status, answer) = rig.get("/rules/system").await;
        assert_eq!(status, 200);
        let lines: Vec<&str> =
            answer["data"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
        let headers: Vec<&str> = lines.iter().copied().filter(|line| line.starts_with('#')).collect();
        assert_eq!(
            headers,
            ["# --- anchor \"aifw-geoip\" ---", "# --- anchor \"aifw-nat\" ---", "# --- anchor \"aifw\" ---"]
        );
        assert!(
            lines[0].starts_with("anchor") && lines.iter().any(|line| line.starts_with("nat on em0")),
            "{lines:?}"
        );
        let (_, answer) = rig.get("/nat/pf-output").await;
        let lines: Vec<&str> =
            answer["data"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
        assert_eq!(lines[0], "# NAT Rules (anchor: aifw-nat)");
        assert_eq!(lines[2..4], ["", "# Filter Rules (anchor: aifw-nat)"]);
    });
}

#[test]
fn lists_are_paged_and_counted() {
    block_on(async {
        let rig = Rig::new();
        for number in 0..5 {
            let mut body = block_ssh();
            body["label"] = json!(format!("r{number}"));
            rig.create("/rules", body).await;
        }
        let answer = rig.client.get("/rules?limit=2&offset=3").send().await;
        assert_eq!(answer.header("X-Total-Count"), Some("5"));
        let body = answer.json();
        assert_eq!(body["total"], 5);
        let labels: Vec<&Value> = body["data"].as_array().unwrap().iter().map(|row| &row["label"]).collect();
        assert_eq!(labels, ["r3", "r4"]);
        assert_eq!(rig.list("/rules?offset=9").await.len(), 0);
        assert_eq!(rig.get("/rules?limit=x").await.0, 400);
        assert_eq!(rig.client.get("/rules").send().await.header("X-Total-Count"), Some("5"));
    });
}

#[test]
fn a_list_follows_every_change() {
    block_on(async {
        let rig = Rig::new();
        let one = rig.create("/rules", block_ssh()).await;
        assert_eq!(rig.list("/rules").await.len(), 1);
        let two = rig.create("/rules", block_ssh()).await;
        assert_eq!(rig.column("/rules", "id").await, [one["id"].clone(), two["id"].clone()]);
        let mut body = block_ssh();
        body["label"] = json!("changed");
        rig.put(&format!("/rules/{}", id(&one)), body).await;
        assert_eq!(rig.column("/rules", "label").await, ["changed", "block-ssh"]);
        rig.delete(&format!("/rules/{}", id(&two))).await;
        assert_eq!(rig.column("/rules", "label").await, ["changed"]);
        // Applied: the same rows, now in effect.
        let author = aifw::store::Author::system("test");
        rig.app
            .store
            .commit(&author, |draft| {
                draft.applied = draft.config.clone();
                Ok::<_, aifw::api::ApiError>(())
            })
            .await
            .unwrap();
        assert_eq!(rig.column("/rules", "in_effect").await, [true]);
        rig.put(&format!("/rules/{}", id(&one)), block_ssh()).await;
        assert_eq!(rig.column("/rules", "in_effect").await, [false]);
    });
}
