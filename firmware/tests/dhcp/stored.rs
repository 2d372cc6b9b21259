//! What is stored and what is refused.

use serde_json::{Value, json};
use smol::block_on;

use crate::rig::Rig;

fn subnet() -> Value {
    json!({ "network": "10.7.0.0/24", "pool_start": "10.7.0.10", "pool_end": "10.7.0.20", "gateway": "10.7.0.1" })
}

fn with(base: &Value, changes: Value) -> Value {
    let mut value = base.clone();
    for (key, change) in changes.as_object().unwrap() {
        value[key] = change.clone();
    }
    value
}

#[test]
fn b01_a_fresh_system_has_defaults_and_empty_lists() {
    let rig = Rig::without_daemon();
    block_on(async {
        assert_eq!(
            rig.get("/v4/config").await,
            json!({ "enabled": false, "interfaces": [], "authoritative": true, "default_lease_time": 3600,
                "max_lease_time": 86400, "dns_servers": ["1.1.1.1", "8.8.8.8"], "domain_name": "local",
                "domain_search": [], "ntp_servers": [], "wins_servers": [], "next_server": null,
                "boot_filename": null, "log_level": "info", "log_format": "text", "api_port": 9967, "workers": 1,
                "accept_relayed": true, "relay_rate_limit_burst": 200, "relay_rate_limit_pps": 100.0 })
        );
        for path in ["/v4/subnets", "/v4/reservations"] {
            assert_eq!(rig.get(path).await, json!({ "data": [] }));
        }
        let status = rig.get("/status").await;
        assert_eq!(
            (&status["running"], &status["version"], &status["ha"]),
            (&json!(false), &json!("stopped"), &Value::Null)
        );
        assert_eq!((&status["uptime"], &status["pool_stats"]), (&Value::Null, &json!([])));
    });
}

#[test]
fn b03_b04_b05_subnets_are_checked_masked_and_replaced_whole() {
    let rig = Rig::without_daemon();
    block_on(async {
        let base = subnet();
        for (field, changes) in [
            ("network", json!({ "network": "10.7.0.0/33" })),
            ("pool_start", json!({ "pool_start": "10.8.0.1" })),
            ("pool_end", json!({ "pool_start": "10.7.0.20", "pool_end": "10.7.0.10" })),
            ("pool_end", json!({ "pool_end": "2001:db8::1" })),
            ("pool_start", json!({ "pool_start": "10.7.0.0" })),
            ("pool_start", json!({ "gateway": "10.7.0.15" })),
            ("gateway", json!({ "gateway": "10.9.0.1" })),
            (
                "delegated_length",
                json!({ "subnet_type": "prefix-delegation", "network": "2001:db8::/48",
                "pool_start": "", "pool_end": "", "gateway": "" }),
            ),
            ("trusted_relays", json!({ "trusted_relays": ["127.0.0.1"] })),
            ("options[0]", json!({ "options": [{ "code": 53, "value_type": "u8", "value": "1" }] })),
            ("options[0]", json!({ "options": [{ "code": 6, "value_type": "ip", "value": "1.1.1.1" }] })),
            (
                "options[1]",
                json!({ "options": [{ "code": 66, "value_type": "string", "value": "a" },
                { "code": 66, "value_type": "string", "value": "b" }] }),
            ),
            ("options[0]", json!({ "options": [{ "code": 43, "value_type": "hex", "value": "abc" }] })),
            ("options[0]", json!({ "options": [{ "code": 43, "value_type": "string", "value": "a\tb" }] })),
            ("rebinding_time", json!({ "lease_time": 600, "rebinding_time": 700 })),
            ("dns_servers", json!({ "dns_servers": ["one.one"] })),
        ] {
            let (status, refused) = rig.send("POST", "/v4/subnets", with(&base, changes.clone())).await;
            assert_eq!(status, 400, "{changes}: {refused}");
            let text = refused["error"].as_str().unwrap();
            assert!(text.starts_with(&format!("{field}: ")), "{changes}: {text}");
        }
        assert_eq!(rig.get("/v4/subnets").await, json!({ "data": [] }));
        let made = rig
            .ok(
                "POST",
                "/v4/subnets",
                with(
                    &base,
                    json!({ "network": "10.7.0.9/24", "description": "x",
                "dns_servers": ["1.1.1.1", "9.9.9.9"], "ntp_servers": "10.7.0.1" }),
                ),
            )
            .await["data"]
            .clone();
        assert_eq!(
            (&made["network"], &made["dns_servers"], &made["ntp_servers"]),
            (&json!("10.7.0.0/24"), &json!("1.1.1.1,9.9.9.9"), &json!("10.7.0.1"))
        );
        assert_eq!(rig.send("POST", "/v4/subnets", base.clone()).await.0, 409);
        let inside = json!({ "network": "10.7.0.0/25", "pool_start": "10.7.0.2", "pool_end": "10.7.0.3", "gateway": "" });
        assert_eq!(rig.send("POST", "/v4/subnets", inside).await.0, 409);
        let one = format!("/v4/subnets/{}", made["id"].as_str().unwrap());
        let replaced = rig.ok("PUT", &one, base.clone()).await["data"].clone();
        assert_eq!((&replaced["description"], &replaced["created_at"]), (&Value::Null, &made["created_at"]));
        for path in ["/v4/subnets/00000000-0000-4000-8000-000000000000", "/v4/subnets/x"] {
            assert_eq!(rig.send("PUT", path, base.clone()).await.0, 404);
            assert_eq!(rig.send("DELETE", path, Value::Null).await.0, 404);
        }
    });
}

#[test]
fn b06_b07_b08_reservations_find_their_subnet_and_outlive_it() {
    let rig = Rig::without_daemon();
    block_on(async {
        let id = rig.ok("POST", "/v4/subnets", subnet()).await["data"]["id"].as_str().unwrap().to_owned();
        let base = json!({ "mac_address": "AA-BB-CC-DD-EE-01", "ip_address": "10.7.0.50", "subnet_id": "" });
        let made = rig.ok("POST", "/v4/reservations", base.clone()).await;
        assert_eq!(made["data"]["mac_address"], "aa:bb:cc:dd:ee:01");
        assert!(made.get("warning").is_none(), "{made}");
        let other = rig
            .ok(
                "POST",
                "/v4/reservations",
                with(
                    &base,
                    json!({ "mac_address": "aa:bb:cc:dd:ee:02",
                "ip_address": "10.7.0.9", "subnet_id": id }),
                ),
            )
            .await["data"]
            .clone();
        for (status, changes) in [
            (409, json!({ "mac_address": "aa:bb:cc:dd:ee:03" })),
            (409, json!({ "ip_address": "10.7.0.51" })),
            (400, json!({ "mac_address": "zz", "ip_address": "10.7.0.52" })),
            (400, json!({ "mac_address": "aa:bb:cc:dd:ee:04", "ip_address": "10.8.0.1", "subnet_id": id })),
            (400, json!({ "mac_address": "aa:bb:cc:dd:ee:04", "ip_address": "10.7.0.1" })),
            (
                400,
                json!({ "mac_address": "aa:bb:cc:dd:ee:04", "ip_address": "10.7.0.52", "hostname": "a.b" }),
            ),
            (400, json!({ "mac_address": "", "ip_address": "10.7.0.52" })),
            (400, json!({ "mac_address": "", "ip_address": "10.7.0.52", "client_id": "abc" })),
            (400, json!({ "mac_address": "aa:bb:cc:dd:ee:04", "ip_address": "10.7.0.52", "subnet_id": "x" })),
        ] {
            let (got, refused) = rig.send("POST", "/v4/reservations", with(&base, changes.clone())).await;
            assert_eq!(got, status, "{changes}: {refused}");
        }
        let one = format!("/v4/reservations/{}", other["id"].as_str().unwrap());
        assert_eq!(rig.send("PUT", &one, base.clone()).await.0, 409);
        // By number, not by text.
        let listed = rig.get("/v4/reservations").await["data"].clone();
        assert_eq!(
            (&listed[0]["ip_address"], &listed[1]["ip_address"]),
            (&json!("10.7.0.9"), &json!("10.7.0.50"))
        );
        assert_eq!(listed[0]["subnet_id"], id.as_str());
        let said = rig.ok("DELETE", &format!("/v4/subnets/{id}"), Value::Null).await;
        assert_eq!(said["message"], format!("Subnet {id} deleted"));
        let listed = rig.get("/v4/reservations").await["data"].clone();
        assert_eq!((listed.as_array().unwrap().len(), &listed[0]["subnet_id"]), (2, &Value::Null));
        let lost = rig
            .ok(
                "PUT",
                &one,
                with(
                    &base,
                    json!({ "mac_address": "aa:bb:cc:dd:ee:02",
            "ip_address": "10.7.0.9" }),
                ),
            )
            .await;
        assert!(lost["warning"].as_str().unwrap().contains("no enabled subnet"), "{lost}");
    });
}

#[test]
fn settings_are_changed_one_by_one_or_not_at_all() {
    let rig = Rig::without_daemon();
    block_on(async {
        for (field, body) in [
            ("interfaces", json!({ "interfaces": ["em0; id"] })),
            ("interfaces", json!({ "interfaces": ["em-1"] })),
            ("interfaces", json!({ "interfaces": ["nowhere0"] })),
            ("max_lease_time", json!({ "default_lease_time": 7200, "max_lease_time": 3600 })),
            ("ntp_servers", json!({ "ntp_servers": ["a b"] })),
            ("api_port", json!({ "api_port": 80 })),
            ("workers", json!({ "workers": 0 })),
            ("relay_rate_limit_pps", json!({ "relay_rate_limit_pps": 0 })),
            ("domain_name", json!({ "domain_name": "a..b" })),
            ("log_level", json!({ "log_level": "loud" })),
            ("boot_filename", json!({ "boot_filename": "a\nb" })),
        ] {
            let (status, refused) = rig.send("PUT", "/v4/config", body).await;
            assert_eq!(status, 400);
            assert!(refused["error"].as_str().unwrap().starts_with(&format!("{field}: ")), "{refused}");
        }
        let said = rig.ok("PUT", "/v4/config", json!({ "next_server": "tftp", "workers": 2 })).await;
        assert_eq!(said["message"], "DHCP config updated and applied");
        rig.ok("PUT", "/v4/config", json!({ "next_server": "" })).await;
        let config = rig.get("/v4/config").await;
        assert_eq!((&config["next_server"], &config["workers"]), (&Value::Null, &json!(2)));
    });
}

#[test]
fn b13_b14_what_is_not_there_is_told() {
    let rig = Rig::without_daemon();
    block_on(async {
        let leases = rig.get("/v4/leases").await;
        assert_eq!((&leases["data"], leases["warning"].is_string()), (&json!([]), true));
        for path in ["/dhcp/pool-stats", "/dhcp/metrics"] {
            assert_eq!(rig.client.get(path).send().await.status, 503, "{path}");
        }
        let ha = rig.get("/ha/status").await;
        assert_eq!((&ha["mode"], &ha["role"]), (&json!("standalone"), &json!("primary")));
        assert_eq!(rig.send("DELETE", "/v4/leases/10.0.0.1", Value::Null).await.0, 503);
        let (status, refused) = rig.send("POST", "/start", Value::Null).await;
        assert_eq!(status, 500);
        assert!(refused["message"].as_str().unwrap().contains("failed"), "{refused}");
        assert_eq!(refused["error"], refused["message"]);
    });
}

#[test]
fn b15_b16_high_availability_is_stored_and_never_pretended() {
    let rig = Rig::without_daemon();
    block_on(async {
        assert_eq!(rig.get("/ha/config").await["mode"], "standalone");
        assert_eq!(rig.send("PUT", "/ha/config", json!({ "mode": "raft", "peers": ["a:1"] })).await.0, 400);
        assert_eq!(rig.send("PUT", "/ha/config", json!({ "mode": "active-active" })).await.0, 400);
        let set =
            rig.ok("PUT", "/ha/config", json!({ "mode": "active-active", "peer": "10.0.0.2:9000" })).await;
        assert_eq!(
            (&set["mode"], &set["peer"], &set["node_id"]),
            (&json!("active-active"), &json!("10.0.0.2:9000"), &Value::Null)
        );
        let status = rig.get("/ha/status").await;
        assert_eq!(
            (&status["mode"], &status["healthy"]),
            (&json!("active-active"), &json!(false)),
            "no mirror, not healthy"
        );
        // The cluster says who the peers are.
        let commit =
            rig.app.store.commit(&aifw::store::Author::system("test"), |draft: &mut aifw::store::Draft| {
                draft.config.ha = std::sync::Arc::new(
                    serde_json::from_value(
                        json!({ "pfsync": { "sync_interface": "em2", "sync_peer": null, "defer": false,
                    "dhcp_link": true, "local_role": "primary" } }),
                    )
                    .unwrap(),
                );
                let node = json!({ "id": "x", "name": "b", "address": "10.0.0.7", "role": "secondary" });
                draft.config.ha_nodes.insert(serde_json::from_value(node).unwrap());
                Ok::<(), aifw::store::StoreError>(())
            });
        commit.await.unwrap();
        let shown = rig.get("/ha/config").await;
        assert_eq!((&shown["peer"], &shown["peers"]), (&json!("10.0.0.7:9000"), &json!(["10.0.0.7:9000"])));
        rig.ok("PUT", "/ha/config", shown.clone()).await;
        let (status, refused) =
            rig.send("PUT", "/ha/config", with(&shown, json!({ "peer": "10.0.0.9:9000" }))).await;
        assert_eq!(status, 409, "{refused}");
        assert_eq!(refused["detail"], refused["error"], "{refused}");
        assert!(refused["detail"].is_string(), "{refused}");
        let files =
            json!({ "tls_cert": "/nowhere/cert", "tls_key": "/nowhere/key", "tls_ca": "/nowhere/ca" });
        let (status, refused) = rig.send("PUT", "/ha/config", with(&shown, files)).await;
        assert_eq!(status, 400, "{refused}");
        assert!(refused["error"].as_str().unwrap().starts_with("tls_cert: "), "{refused}");
    });
}

#[test]
fn b17_the_secret_of_updates_is_never_shown() {
    let rig = Rig::without_daemon();
    block_on(async {
        let base = json!({ "enabled": true, "forward_zone": "lan.test", "dns_server": "127.0.0.1:5353",
            "tsig_key": "k", "tsig_secret": "c2VjcmV0LXBsYW50ZWQ=" });
        assert_eq!(rig.send("PUT", "/ddns", with(&base, json!({ "dns_server": "" }))).await.0, 400);
        assert_eq!(
            rig.send("PUT", "/ddns", with(&base, json!({ "tsig_secret": "not base64" }))).await.0,
            400
        );
        assert_eq!(
            rig.send("PUT", "/ddns", with(&base, json!({ "reverse_zone_v4": "x.test" }))).await.0,
            400
        );
        rig.ok("PUT", "/ddns", base).await;
        let shown = rig.get("/ddns").await;
        assert_eq!((&shown["tsig_secret"], &shown["tsig_secret_set"]), (&json!("***"), &json!(true)));
        rig.ok("PUT", "/ddns", json!({ "tsig_secret": "***", "ttl": 60 })).await;
        let kept = rig.app.store.snapshot().config.dhcp_ddns.clone();
        assert_eq!((kept.tsig_secret.expose(), kept.ttl), ("c2VjcmV0LXBsYW50ZWQ=", 60));
        let md5 = rig.ok("PUT", "/ddns", json!({ "tsig_algorithm": "hmac-md5" })).await;
        assert!(md5["warning"].is_string(), "{md5}");
        let sha1 = rig.ok("PUT", "/ddns", json!({ "tsig_algorithm": "hmac-sha1" })).await;
        assert!(sha1["warning"].as_str().unwrap().contains("hmac-sha1"), "{sha1}");
        rig.ok("PUT", "/ddns", json!({ "tsig_secret": "", "tsig_key": "" })).await;
        assert_eq!(rig.get("/ddns").await["tsig_secret"], "");
    });
}

#[test]
fn b20_a_reader_writes_nothing() {
    let rig = Rig::without_daemon();
    block_on(async {
        let reader = rig.client.with_bearer("dhcp:read");
        for path in ["start", "stop", "restart", "v4/apply", "v4/subnets", "v4/reservations"] {
            assert_eq!(
                reader.post(&format!("/dhcp/{path}")).json(json!({})).send().await.status,
                403,
                "{path}"
            );
        }
        for path in ["v4/config", "ddns", "ha/config"] {
            assert_eq!(
                reader.put(&format!("/dhcp/{path}")).json(json!({})).send().await.status,
                403,
                "{path}"
            );
        }
        assert_eq!(reader.delete("/dhcp/v4/leases/10.0.0.1").send().await.status, 403);
    });
}
