//! What is stored and shown; no daemon is needed for it.

use serde_json::{Value, json};

use crate::rig::Rig;

#[test]
fn b08_settings_change_in_part_and_wait_for_an_apply() {
    smol::block_on(async {
        let rig = Rig::without_daemons();
        assert!(!rig.pending());
        let saved = rig.ok("PUT", "/dns/resolver/config", json!({ "msg_cache_size": 16 })).await;
        assert_eq!(saved["message"], "DNS resolver config saved");
        let shown = rig.get("/dns/resolver/config").await;
        assert_eq!((&shown["msg_cache_size"], &shown["rrset_cache_size"]), (&json!("16m"), &json!("16m")));
        assert_eq!((&shown["port"], &shown["blocklist_redirect_ip"]), (&json!(53), &Value::Null));
        assert!(rig.pending());
        // The whole object comes back as it went.
        rig.ok("PUT", "/dns/resolver/config", shown.clone()).await;
        assert_eq!(rig.get("/dns/resolver/config").await, shown);
        let (status, refused) = rig.send("PUT", "/dns/resolver/config", json!({ "port": 0 })).await;
        assert_eq!(status, 400);
        assert!(refused["error"].as_str().unwrap().starts_with("port: "), "{refused}");
        assert_eq!(refused["error"], refused["message"]);
        assert_eq!(rig.get("/dns/resolver/config").await["port"], 53);
        rig.refused("PUT", "/dns/resolver/config", json!({ "backend": "bind" }), 400).await;
        rig.ok("PUT", "/dns/resolver/config", json!({ "msg_cache_size": "8m" })).await;
        assert!(!rig.pending());
    });
}

#[test]
fn b11_rows_are_checked_found_and_deleted() {
    smol::block_on(async {
        let rig = Rig::without_daemons();
        let host = |name: &str, kind: &str, value: &str| json!({ "hostname": name, "domain": "lan.test", "record_type": kind, "value": value });
        for body in
            [host("-x", "A", "10.0.0.1"), host("x", "A", "300.1.1.1"), host("x", "SRV", "y"), json!({})]
        {
            assert_eq!(rig.send("POST", "/dns/resolver/hosts", body.clone()).await.0, 400, "{body}");
        }
        for body in [
            json!({ "network": "10.0.0.0/33", "action": "allow" }),
            json!({ "network": "10.0.0.0/8", "action": "drop" }),
        ] {
            assert_eq!(rig.send("POST", "/dns/resolver/acls", body.clone()).await.0, 400, "{body}");
        }
        for server in ["x", "10.0.0.1:0", "10.0.0.1,"] {
            let body = json!({ "domain": "corp.test", "server": server });
            assert_eq!(rig.send("POST", "/dns/resolver/domains", body).await.0, 400, "{server}");
        }
        let unknown = "11111111-2222-4333-8444-555555555555";
        for (collection, body, word) in [
            ("hosts", host("x", "A", "10.0.0.1"), "Host override deleted"),
            (
                "domains",
                json!({ "domain": "corp.test", "server": "10.0.0.53:5353" }),
                "Domain override deleted",
            ),
            ("acls", json!({ "network": "10.1.2.3/8", "action": "allow_snoop" }), "ACL entry deleted"),
        ] {
            let path = format!("/dns/resolver/{collection}");
            let (status, made) = rig.send("POST", &path, body.clone()).await;
            assert_eq!(status, 201, "{made}");
            assert_eq!(rig.send("POST", &path, body.clone()).await.0, 409, "{collection}");
            assert!(rig.pending() || collection == "acls" || collection == "domains");
            let listed = rig.get(&path).await;
            assert_eq!(listed["data"].as_array().unwrap().len(), 1);
            for key in body.as_object().unwrap().keys().filter(|key| *key != "network") {
                assert_eq!(listed["data"][0][key], body[key], "{collection}.{key}");
            }
            let one = format!("{path}/{}", made["data"]["id"].as_str().unwrap());
            let (status, put) = rig.send("PUT", &one, body.clone()).await;
            assert_eq!((status, &put["data"]["created_at"]), (200, &made["data"]["created_at"]));
            assert_eq!(rig.send("PUT", &format!("{path}/{unknown}"), body.clone()).await.0, 404);
            assert_eq!(rig.send("PUT", &format!("{path}/x"), body).await.0, 400);
            assert_eq!(rig.send("DELETE", &one, Value::Null).await, (200, json!({ "message": word })));
            assert_eq!(rig.send("DELETE", &one, Value::Null).await.0, 404);
        }
        assert!(!rig.pending());
        assert_eq!(rig.get("/dns/resolver/status").await["total_hosts"], 0);
    });
}

#[test]
fn every_write_leaves_one_entry_that_names_the_area() {
    smol::block_on(async {
        let rig = Rig::without_daemons();
        let entries =
            || rig.app.store.audit(&aifw::store::AuditFilter { limit: 100, ..Default::default() }).unwrap().0;
        let before = entries().len();
        rig.ok("PUT", "/dns/resolver/config", json!({ "dns64": true })).await;
        let made =
            rig.ok("POST", "/dns/resolver/acls", json!({ "network": "10.0.0.0/8", "action": "allow" })).await;
        let one = format!("/dns/resolver/acls/{}", made["data"]["id"].as_str().unwrap());
        rig.ok("DELETE", &one, Value::Null).await;
        rig.apply().await;
        rig.ok("PUT", "/dns", json!({ "servers": ["9.9.9.9"] })).await;
        let written: Vec<_> = entries().into_iter().take(entries().len() - before).collect();
        assert_eq!(written.len(), 5, "{written:?}");
        assert!(
            written.iter().all(|entry| entry.source == "dns" && entry.details.starts_with("dns ")),
            "{written:?}"
        );
    });
}

#[test]
fn b18_the_appliances_own_servers_change_at_once_and_nothing_else_of_the_file() {
    smol::block_on(async {
        let rig = Rig::without_daemons();
        assert_eq!(rig.get("/dns").await, json!({ "servers": [] }));
        let file = rig.directory().join("root/etc/resolv.conf");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, "search lan.test\nnameserver 192.0.2.1\noptions edns0\n").unwrap();
        assert_eq!(rig.get("/dns").await, json!({ "servers": ["192.0.2.1"] }));
        let (status, refused) = rig.send("PUT", "/dns", json!({ "servers": ["x"] })).await;
        assert_eq!(status, 400);
        assert!(refused["error"].as_str().unwrap().starts_with("servers[0]: "), "{refused}");
        assert!(std::fs::read_to_string(&file).unwrap().contains("192.0.2.1"));
        let nine = vec!["9.9.9.9"; 9];
        let answer = rig.ok("PUT", "/dns", json!({ "servers": nine })).await;
        assert_eq!(answer, json!({ "message": "DNS configuration updated" }));
        assert_eq!(rig.get("/dns").await, json!({ "servers": ["9.9.9.9"] }));
        let distinct: Vec<String> = (1..=9).map(|last| format!("9.9.9.{last}")).collect();
        assert_eq!(rig.send("PUT", "/dns", json!({ "servers": distinct })).await.0, 400);
        rig.ok("PUT", "/dns", json!({ "servers": ["fe80::1%em0", "9.9.9.9"] })).await;
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(text, "search lan.test\noptions edns0\nnameserver fe80::1%em0\nnameserver 9.9.9.9\n");
        // A DHCP client has been there; the next start writes what is stored.
        std::fs::write(&file, "search lan.test\nnameserver 192.0.2.1\n").unwrap();
        rig.app.applier.write_name_servers().await;
        assert_eq!(rig.get("/dns").await, json!({ "servers": ["fe80::1%em0", "9.9.9.9"] }));
        // Nothing stored: nobody's file is touched.
        rig.ok("PUT", "/dns", json!({ "servers": [] })).await;
        std::fs::write(&file, "nameserver 192.0.2.1\n").unwrap();
        rig.app.applier.write_name_servers().await;
        assert_eq!(rig.get("/dns").await, json!({ "servers": ["192.0.2.1"] }));
    });
}

#[test]
fn b20_who_may_only_read_changes_nothing() {
    smol::block_on(async {
        let rig = Rig::without_daemons();
        let reader = rig.client.with_bearer("dns:read");
        for route in aifw::api::routes().iter().filter(|route| route.path.starts_with("/dns")) {
            let path = route.path.replace("{id}", "11111111-2222-4333-8444-555555555555");
            let answer = reader.request(route.method, &path).stream().await;
            assert_eq!(answer.0 == 403, route.method != "GET", "{} {path}: {}", route.method, answer.0);
        }
    });
}
