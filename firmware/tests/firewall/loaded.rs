//! Behaviours that need rules in pf: what is applied, and what packets then meet.

use aifw::pf::LoadedRule;
use futures_lite::future::block_on;
use serde_json::{Value, json};

use crate::rig::{Rig, id};

fn texts(rules: Vec<LoadedRule>) -> Vec<String> {
    rules.into_iter().map(|rule| rule.text).collect()
}

fn lines(rig: &Rig, anchor: &str) -> Vec<String> {
    rig.lines(anchor)
}

async fn reload(rig: &Rig) {
    rig.reload().await;
}

fn rule(action: &str, label: &str) -> Value {
    json!({"action": action, "direction": "in", "protocol": "tcp", "dst_port_start": 22, "label": label})
}

#[test]
fn b01_pf_is_unchanged_until_reload() {
    block_on(async {
        let rig = Rig::new();
        let one = rig.create("/rules", rule("block", "block-ssh")).await;
        assert!(lines(&rig, "aifw").is_empty());
        assert_eq!(rig.get("/pending").await.1["firewall"], true);
        reload(&rig).await;
        let loaded = lines(&rig, "aifw");
        assert_eq!(loaded.len(), 1);
        let line = "block drop in log quick proto tcp from any to any port = ssh label \"block-ssh\"";
        assert!(loaded[0].starts_with(line), "{loaded:?}");
        assert!(loaded[0].contains(&format!("label \"rule:{}\"", id(&one))), "{loaded:?}");
        assert_eq!(rig.get("/pending").await.1["firewall"], false);
        assert_eq!(rig.column("/rules", "in_effect").await, [true]);
        let system = rig.get("/rules/system").await.1["data"].to_string();
        assert_eq!(system.matches("# --- anchor \\\"aifw\\\" ---").count(), 1, "{system}");
    });
}

#[test]
fn b04_a_disabled_rule_leaves_the_ruleset_on_apply() {
    block_on(async {
        let rig = Rig::new();
        let one = rig.create("/rules", rule("block_drop", "x")).await;
        reload(&rig).await;
        assert_eq!(lines(&rig, "aifw").len(), 1);
        let mut off = one.clone();
        off["status"] = json!("disabled");
        assert_eq!(rig.put(&format!("/rules/{}", id(&one)), off).await.0, 200);
        assert_eq!(lines(&rig, "aifw").len(), 1);
        reload(&rig).await;
        assert!(lines(&rig, "aifw").is_empty());
    });
}

#[test]
fn b05_what_is_stored_acts_in_the_line() {
    block_on(async {
        let rig = Rig::new();
        let body = json!({"action": "pass", "direction": "in", "protocol": "any", "ip_version": "inet6", "src_invert": true,
            "src_addr": "2001:db8::/32", "description": "d"});
        rig.create("/rules", body).await;
        let mut off = rule("pass", "off");
        off["status"] = json!("disabled");
        rig.create("/rules", off).await;
        reload(&rig).await;
        let loaded = lines(&rig, "aifw");
        assert_eq!(loaded.len(), 1);
        assert!(loaded[0].starts_with("pass in quick inet6 from ! 2001:db8::/32 to any"), "{loaded:?}");
    });
}

#[test]
fn b07_block_logging_acts_at_once_and_lets_no_pending_edit_in() {
    block_on(async {
        let rig = Rig::new();
        rig.create("/rules", rule("block_drop", "one")).await;
        let two = rig.create("/rules", rule("block", "two")).await;
        let pass = rig.create("/rules", rule("pass", "three")).await;
        reload(&rig).await;
        assert_eq!(lines(&rig, "aifw").iter().filter(|line| line.contains(" log ")).count(), 2);
        let mut edit = two.clone();
        edit["rule_match"]["src_addr"] = json!("192.0.2.77");
        assert_eq!(rig.put(&format!("/rules/{}", id(&two)), edit).await.0, 200);
        let (status, answer) = rig.put("/rules/block-logging", json!({"enabled": false})).await;
        assert_eq!((status, answer), (200, json!({"message": "Block logging disabled", "enabled": false})));
        let loaded = lines(&rig, "aifw");
        assert_eq!(loaded.len(), 3);
        assert!(
            !loaded.iter().any(|line| line.contains(" log ") || line.contains("192.0.2.77")),
            "{loaded:?}"
        );
        let main = texts(rig.pf.rules(None).unwrap().1);
        assert!(!main.iter().any(|line| line.starts_with("block") && line.contains(" log ")), "{main:?}");
        assert_eq!(rig.column("/rules", "log").await, [false, false, false]);
        assert_eq!(rig.get("/pending").await.1["firewall"], true);
        assert_eq!(rig.get("/rules/block-logging").await.1, json!({"enabled": false}));
        let (status, answer) = rig.post("/rules/block-logging", json!({"enabled": true})).await;
        assert_eq!((status, answer), (200, json!({"message": "Block logging enabled", "enabled": true})));
        let rows = rig.list("/rules").await;
        let logging: Vec<&Value> =
            rows.iter().filter(|row| row["log"] == true).map(|row| &row["label"]).collect();
        assert_eq!(logging, ["one", "two"]);
        assert_eq!(rig.get(&format!("/rules/{}", id(&pass))).await.1["data"]["log"], false);
        assert!(
            rig.audit().iter().any(|entry| entry.action == "config_changed"
                && entry.details.starts_with("Block logging enabled"))
        );
    });
}

#[test]
fn b08_a_rule_with_a_closed_window_is_absent() {
    block_on(async {
        let rig = Rig::new();
        let always = rig.create("/schedules", json!({"name": "always", "time_ranges": "00:00-23:59"})).await;
        let never = rig
            .create("/schedules", json!({"name": "never", "time_ranges": "00:00-23:59", "enabled": false}))
            .await;
        for (label, schedule) in [("open", &always), ("closed", &never)] {
            let mut body = rule("pass", label);
            body["schedule_id"] = schedule["id"].clone();
            rig.create("/rules", body).await;
        }
        reload(&rig).await;
        let loaded = lines(&rig, "aifw");
        assert_eq!(loaded.len(), 1);
        assert!(loaded[0].contains("label \"open\""), "{loaded:?}");
    });
}

#[test]
fn b10_port_aliases_and_disabled_aliases() {
    block_on(async {
        let rig = Rig::new();
        rig.create(
            "/aliases",
            json!({"name": "web", "alias_type": "port", "entries": ["80", "443", "8080-8090"]}),
        )
        .await;
        let hosts = json!({"name": "hosts", "alias_type": "host", "entries": ["192.0.2.1"]});
        let alias = rig.create("/aliases", hosts.clone()).await;
        let mut by_port = rule("pass", "ports");
        by_port["dst_port_start"] = Value::Null;
        by_port["dst_port_alias"] = json!("web");
        let shown = rig.create("/rules", by_port).await;
        assert_eq!(shown["dst_port_alias"], "web");
        let mut by_host = rule("block", "hosts");
        by_host["src_addr"] = json!("<hosts>");
        by_host["src_invert"] = json!(true);
        rig.create("/rules", by_host).await;
        reload(&rig).await;
        let loaded = lines(&rig, "aifw").join("\n");
        for port in ["port = http ", "port = https ", "port 8080:8090 "] {
            assert!(loaded.contains(port), "{loaded}");
        }
        assert!(loaded.contains("! <hosts>"), "{loaded}");
        let mut off = hosts;
        off["enabled"] = json!(false);
        assert_eq!(rig.put(&format!("/aliases/{}", id(&alias)), off).await.0, 200);
        assert!(rig.pf.table(&"hosts".parse().unwrap()).unwrap_or_default().is_empty());
        reload(&rig).await;
        assert!(!lines(&rig, "aifw").join("\n").contains("<hosts>"));
    });
}

#[test]
fn b11_b13_nat_is_loaded() {
    block_on(async {
        let rig = Rig::new();
        rig.create(
            "/nat",
            json!({"nat_type": "snat", "interface": "em0", "protocol": "any", "src_addr": "192.168.1.0/24",
                "redirect_addr": "203.0.113.1", "label": "out"}),
        )
        .await;
        let forward = rig
            .create(
                "/nat",
                json!({"nat_type": "dnat", "interface": "em0", "protocol": "tcp", "dst_addr": "203.0.113.1",
                    "dst_port_start": 8080, "redirect_addr": "192.168.1.10", "redirect_port_start": 80}),
            )
            .await;
        let (_, waiting) = rig.get("/nat/pf-output").await;
        let waiting: Vec<&str> =
            waiting["data"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
        assert_eq!(waiting[..2], ["", "# Compiled, not applied"]);
        assert!(waiting[2].starts_with("# nat:") && waiting[2].ends_with(" out"), "{waiting:?}");
        assert_eq!(waiting[3], "nat on em0 inet from 192.168.1.0/24 to any -> 203.0.113.1");
        reload(&rig).await;
        let loaded = lines(&rig, "aifw-nat").join("\n");
        assert!(loaded.contains("nat on em0 inet from 192.168.1.0/24 to any -> 203.0.113.1"), "{loaded}");
        assert!(loaded.contains("rdr on em0 inet proto tcp from any to 203.0.113.1 port"), "{loaded}");
        let pass = format!("label \"nat:{}\"", id(&forward));
        assert!(lines(&rig, "aifw").join("\n").contains(&pass));
        let (_, output) = rig.get("/nat/pf-output").await;
        assert!(!output.to_string().contains("not applied"), "{output}");
        let mut bare = forward.clone();
        bare["associated_filter"] = json!(false);
        assert_eq!(rig.put(&format!("/nat/{}", id(&forward)), bare).await.0, 200);
        reload(&rig).await;
        assert!(!lines(&rig, "aifw").join("\n").contains(&pass));
    });
}

#[test]
fn b14_nat64_is_loaded() {
    block_on(async {
        let rig = Rig::new();
        let body = json!({"nat_type": "nat64", "interface": "em1", "protocol": "any", "redirect_addr": "203.0.113.1"});
        rig.create("/nat", body).await;
        reload(&rig).await;
        let (_, output) = rig.get("/nat/pf-output").await;
        assert!(output.to_string().contains("af-to inet from 203.0.113.1"), "{output}");
    });
}

#[test]
fn b17_one_rule_that_cannot_be_compiled_stops_the_load_and_is_named() {
    block_on(async {
        let rig = Rig::new();
        rig.create("/rules", rule("block", "good")).await;
        reload(&rig).await;
        let before = lines(&rig, "aifw");
        let bad = rig.create("/rules", rule("pass", "bad")).await;
        let bad_id = id(&bad).parse().unwrap();
        let author = aifw::store::Author::system("test");
        rig.app
            .store
            .commit(&author, move |draft| {
                // As no request can make it.
                let mut rule = (**draft.config.rules.get(&bad_id).unwrap()).clone();
                rule.gateway = Some("GONE".into());
                draft.config.rules.insert(rule);
                Ok::<_, aifw::api::ApiError>(())
            })
            .await
            .unwrap();
        let (status, answer) = rig.post("/reload", json!({"confirm": true})).await;
        assert_eq!(status, 500);
        assert!(answer["error"].as_str().unwrap().contains(&id(&bad)), "{answer}");
        assert_eq!(lines(&rig, "aifw"), before);
        assert_eq!(rig.get("/pending").await.1["firewall"], true);
    });
}
