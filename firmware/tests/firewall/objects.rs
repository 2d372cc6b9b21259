//! `/schedules`, `/aliases`, `/nat` and `/geoip`.

use futures_lite::future::block_on;
use serde_json::{Value, json};

use crate::rig::{Rig, id};

#[test]
fn b08_schedules() {
    block_on(async {
        let rig = Rig::new();
        let post = |body| rig.post("/schedules", body);
        assert_eq!(post(json!({"name": "x", "time_ranges": "not-a-time"})).await.0, 400);
        assert_eq!(
            post(json!({"name": "x", "time_ranges": "08:00-17:00", "days_of_week": "monday,notaday"}))
                .await
                .0,
            400
        );
        let office = rig
            .create(
                "/schedules",
                json!({"name": "office", "time_ranges": ["08:00-12:00", "13:00-17:00"], "days_of_week": ["Tue", "Mon"]}),
            )
            .await;
        assert_eq!(
            (&office["time_ranges"], &office["days_of_week"]),
            (&json!("08:00-12:00,13:00-17:00"), &json!("Mon,Tue"))
        );
        assert_eq!(post(json!({"name": "office", "time_ranges": "08:00-17:00"})).await.0, 409);
        let rule = rig
            .create(
                "/rules",
                json!({"action": "pass", "direction": "in", "protocol": "any", "schedule_id": office["id"]}),
            )
            .await;
        let path = format!("/schedules/{}", id(&office));
        let (status, answer) =
            rig.put(&path, json!({"name": "office", "time_ranges": "09:00-10:00", "enabled": false})).await;
        assert_eq!((status, &answer["data"]["created_at"]), (200, &office["created_at"]));
        assert_eq!(answer["data"]["days_of_week"], "Mon,Tue,Wed,Thu,Fri,Sat,Sun");
        assert_eq!(
            rig.delete(&path).await,
            (200, json!({"message": format!("Schedule {} deleted", id(&office))}))
        );
        let rule = rig.get(&format!("/rules/{}", id(&rule))).await.1;
        assert_eq!(rule["data"]["schedule_id"], Value::Null);
        for bad in [path.as_str(), "/schedules/not-a-uuid"] {
            assert_eq!(rig.delete(bad).await.0, 404);
            assert_eq!(rig.put(bad, json!({"name": "o", "time_ranges": "09:00-10:00"})).await.0, 404);
        }
        let written: Vec<String> =
            rig.audit().iter().map(|entry| format!("{} {}", entry.action, entry.details)).collect();
        assert_eq!(written[0], "config_changed schedule \"office\" removed (user tester)");
        assert_eq!(written.len(), 4);
    });
}

#[test]
fn b09_aliases() {
    block_on(async {
        let rig = Rig::new();
        for (name, kind, entry) in [
            ("bad name", "host", "1.2.3.4"),
            (&*"a".repeat(32), "host", "1.2.3.4"),
            ("x", "address", "1.2.3.4"),
            ("in", "host", "1.2.3.4"),
            ("x", "host", "999.1.1.1"),
        ] {
            let body = json!({"name": name, "alias_type": kind, "entries": [entry]});
            assert_eq!(rig.post("/aliases", body).await.0, 400, "{name} {kind} {entry}");
        }
        let trusted = rig
            .create("/aliases", json!({"name": "trusted", "alias_type": "host", "entries": ["1.2.3.4"]}))
            .await;
        assert_eq!(rig.pf.table(&"trusted".parse().unwrap()).unwrap(), ["1.2.3.4"]);
        rig.create("/aliases", json!({"name": "ten", "alias_type": "network", "entries": ["10.0.0.0/8"]}))
            .await;
        assert_eq!(rig.pf.table(&"ten".parse().unwrap()).unwrap(), ["10.0.0.0/8"]);
        assert_eq!(
            rig.post("/aliases", json!({"name": "ten", "alias_type": "host", "entries": []})).await.0,
            409
        );
        assert_eq!(rig.column("/aliases", "name").await, ["ten", "trusted"]);
        let rule = rig
            .create(
                "/rules",
                json!({"action": "pass", "direction": "in", "protocol": "any", "src_addr": "<trusted>"}),
            )
            .await;
        let path = format!("/aliases/{}", id(&trusted));
        let (status, answer) = rig.delete(&path).await;
        assert_eq!(status, 409, "{answer}");
        let renamed = json!({"name": "friends", "alias_type": "host", "entries": ["1.2.3.4", "1.2.3.5"]});
        let (status, answer) = rig.put(&path, renamed).await;
        assert_eq!((status, &answer["data"]["created_at"]), (200, &trusted["created_at"]));
        let rule_now = rig.get(&format!("/rules/{}", id(&rule))).await.1;
        assert_eq!(rule_now["data"]["rule_match"]["src_addr"], "<friends>");
        let mut entries = rig.pf.table(&"friends".parse().unwrap()).unwrap();
        entries.sort();
        assert_eq!(entries, ["1.2.3.4", "1.2.3.5"]);
        let port = json!({"name": "friends", "alias_type": "port", "entries": ["80"]});
        assert_eq!(rig.put(&path, port).await.0, 409);
        rig.delete(&format!("/rules/{}", id(&rule))).await;
        assert_eq!(rig.delete(&path).await, (200, json!({"message": "Alias deleted"})));
        assert_eq!(rig.get(&path).await.0, 404);
    });
}

#[test]
fn b09_without_pf_an_alias_is_stored_all_the_same() {
    block_on(async {
        let rig = Rig::without_pf();
        rig.create("/aliases", json!({"name": "x1", "alias_type": "host", "entries": ["1.2.3.4"]})).await;
        assert_eq!(rig.column("/aliases", "name").await, ["x1"]);
    });
}

#[test]
fn b11_nat_rules() {
    block_on(async {
        let rig = Rig::new();
        let snat = rig
            .create(
                "/nat",
                json!({"nat_type": "snat", "interface": "em0", "protocol": "any", "src_addr": "192.168.1.0/24",
                    "redirect_addr": "203.0.113.1"}),
            )
            .await;
        assert_eq!(snat["redirect"], json!({"address": "203.0.113.1", "port": null}));
        let dnat = json!({"nat_type": "dnat", "interface": "em0", "protocol": "tcp", "redirect_addr": "192.168.1.10"});
        assert_eq!(rig.post("/nat", dnat.clone()).await.0, 400);
        let mut any = dnat;
        any["protocol"] = json!("any");
        any["dst_port_start"] = json!(80);
        assert_eq!(rig.post("/nat", any).await.0, 400);
        let masquerade = rig
            .create("/nat", json!({"nat_type": "masquerade", "interface": "em0", "protocol": "any", "redirect_addr": "interface"}))
            .await;
        assert_eq!(masquerade["redirect"]["address"], "any");
        assert_eq!(rig.get("/pending").await.1["nat"], true);
        let entry = &rig.audit()[0];
        assert_eq!((entry.action.as_str(), entry.source.as_str()), ("rule_added", "nat_engine"));
        let line = "nat: nat on em0 inet from any to any -> (em0:0)";
        assert!(entry.details.starts_with(line), "{}", entry.details);
    });
}

#[test]
fn b12_nat_switch_and_reorder() {
    block_on(async {
        let rig = Rig::new();
        let mut ids = Vec::new();
        for (kind, label, port) in [("dnat", "a", 1), ("snat", "b", 2), ("dnat", "c", 3), ("dnat", "d", 4)] {
            let mut body = json!({"nat_type": kind, "interface": "em0", "protocol": "tcp", "label": label,
                "redirect_addr": "192.168.1.10"});
            body[if kind == "dnat" { "dst_port_start" } else { "src_port_start" }] = json!(port);
            ids.push(id(&rig.create("/nat", body).await));
        }
        let path = format!("/nat/{}", ids[0]);
        let body = json!({"nat_type": "dnat", "interface": "em0", "protocol": "tcp", "label": "a",
            "redirect_addr": "192.168.1.10", "status": "disabled"});
        let (status, answer) = rig.put(&path, body).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(
            (&answer["data"]["dst_port"], &answer["data"]["status"]),
            (&json!({"start": 1, "end": 1}), &json!("disabled"))
        );
        assert_eq!(rig.get(&path).await.0, 200);
        assert_eq!(rig.get("/nat/00000000-0000-4000-8000-000000000000").await.0, 404);
        assert_eq!(rig.get("/nat/x").await.0, 400);
        let wanted = [&ids[3], &ids[2], &ids[0]];
        let (status, answer) = rig.put("/nat/reorder", json!({"rule_ids": wanted})).await;
        assert_eq!((status, answer), (200, json!({"message": "3 NAT rules reordered"})));
        assert_eq!(rig.column("/nat", "label").await, ["d", "b", "c", "a"]);
        assert_eq!(rig.put("/nat/reorder", json!({"rule_ids": [&ids[0], &ids[0]]})).await.0, 400);
        let unknown = json!({"rule_ids": [&ids[0], "00000000-0000-4000-8000-000000000000"]});
        assert_eq!(rig.put("/nat/reorder", unknown).await.0, 404);
        assert_eq!(rig.column("/nat", "label").await, ["d", "b", "c", "a"]);
        let gone = rig.delete(&path).await;
        assert_eq!(gone, (200, json!({"message": format!("NAT rule {} deleted", ids[0])})));
    });
}

#[test]
fn b15_geoip_rules() {
    block_on(async {
        let rig = Rig::new();
        let china = rig.create("/geoip", json!({"country_code": "cn", "action": "deny"})).await;
        assert_eq!((&china["country"], &china["country_code"]), (&json!("CN"), &json!("CN")));
        assert_eq!((&china["country_name"], &china["action"]), (&json!("China"), &json!("block")));
        assert_eq!((&china["status"], &china["cidr_count"]), (&json!("active"), &json!(0)));
        for code in ["CHN", "1A", ""] {
            assert_eq!(
                rig.post("/geoip", json!({"country_code": code, "action": "block"})).await.0,
                400,
                "{code}"
            );
        }
        assert_eq!(rig.post("/geoip", json!({"country_code": "CN", "action": "allow"})).await.0, 409);
        assert_eq!(rig.get("/pending").await.1["firewall"], true);
        let path = format!("/geoip/{}", id(&china));
        let (status, answer) =
            rig.put(&path, json!({"country_code": "de", "action": "allow", "status": "disabled"})).await;
        assert_eq!((status, &answer["data"]["country"]), (200, &json!("DE")));
        let (_, kept) = rig.put(&path, json!({"country_code": "de", "action": "allow"})).await;
        assert_eq!(kept["data"]["status"], "disabled");
        assert_eq!(
            rig.delete(&path).await,
            (200, json!({"message": format!("Geo-IP rule {} deleted", id(&china))}))
        );
        assert_eq!(rig.delete(&path).await.0, 404);
    });
}

#[test]
fn b15_networks_are_counted_with_a_database() {
    block_on(async {
        let rig = Rig::new();
        rig.create("/geoip", json!({"country_code": "CN", "action": "block"})).await;
        assert_eq!(rig.column("/geoip", "cidr_count").await, [0]);
        let geoip = &rig.app.applier.machine().geoip;
        let locations = "geoname_id,locale_code,continent_code,continent_name,country_iso_code,country_name,is_in_european_union\n\
            1814991,en,AS,Asia,CN,China,0\n";
        let blocks = "network,geoname_id,registered_country_geoname_id,represented_country_geoname_id,is_anonymous_proxy,is_satellite_provider\n\
            203.0.113.0/25,1814991,1814991,,0,0\n203.0.112.0/24,1814991,1814991,,0,0\n";
        geoip.install("GeoLite2-Country-Locations-en.csv", locations.as_bytes()).unwrap();
        geoip.install("GeoLite2-Country-Blocks-IPv4.csv", blocks.as_bytes()).unwrap();
        assert_eq!(rig.column("/geoip", "cidr_count").await, [2]);
        let (status, found) = rig.get("/geoip/lookup/203.0.113.7").await;
        assert_eq!((status, &found["found"], &found["country"]), (200, &json!(true), &json!("CN")));
        assert_eq!(found["network"], "203.0.113.0/25");
    });
}

#[test]
fn a_database_is_uploaded() {
    block_on(async {
        let rig = Rig::new();
        let upload = |name: &str, body: &str| {
            let request = rig.client.put(&format!("/geoip/database/{name}"));
            request.body(body.as_bytes().to_vec()).into_future()
        };
        let locations = "geoname_id,a,b,c,country_iso_code,country_name\n1,en,EU,Europe,AA,Aland\n";
        assert_eq!(upload("GeoLite2-Country-Locations-en.csv", locations).await.0, 200);
        let (status, answer) =
            upload("GeoLite2-Country-Blocks-IPv4.csv", "network,geoname_id\nnonsense,1\n").await;
        assert_eq!(status, 400);
        assert!(answer["error"].as_str().unwrap().contains("line 2"), "{answer}");
        assert_eq!(upload("passwd", "x").await.0, 400);
        let blocks = "network,geoname_id,registered\n203.0.113.0/24,1,1\n";
        assert_eq!(upload("GeoLite2-Country-Blocks-IPv4.csv", blocks).await.0, 200);
        let (_, files) = rig.get("/geoip/database").await;
        assert_eq!(files["files"].as_array().unwrap().len(), 2);
        assert_eq!(rig.get("/geoip/lookup/203.0.113.7").await.1["country_name"], "Aland");
    });
}

#[test]
fn b16_lookup() {
    block_on(async {
        let rig = Rig::new();
        let (status, found) = rig.get("/geoip/lookup/203.0.113.7").await;
        assert_eq!(status, 200);
        assert_eq!(
            found,
            json!({"ip": "203.0.113.7", "found": false, "country": null, "country_code": null, "country_name": null,
                "network": null, "asn": null, "as_org": null})
        );
        assert_eq!(rig.get("/geoip/lookup/2001:db8::1").await.0, 200);
        assert_eq!(rig.get("/geoip/lookup/not-an-ip").await.0, 400);
    });
}
