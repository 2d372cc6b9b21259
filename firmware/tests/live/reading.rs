//! Behaviours 1 to 10: what is read with GET, and reload.

use std::sync::atomic::Ordering;

use serde_json::Value;

use crate::rig::Rig;
use crate::stand_in::{packet, state};

fn numbers(value: &Value) -> bool {
    value.as_object().is_some_and(|object| !object.is_empty() && object.values().all(Value::is_number))
}

#[test]
fn b01_status_counts_rules_and_survives_pf_being_off() {
    smol::block_on(async {
        let mut rig = Rig::by_hand();
        rig.second().await;
        rig.add_rule().await;
        let (code, status) = rig.client.get("/status").await;
        assert_eq!(code, 200);
        assert_eq!(
            (&status["aifw_rules"], &status["aifw_active_rules"], &status["nat_rules"]),
            (&1.into(), &1.into(), &0.into())
        );
        assert_eq!((&status["pf_running"], &status["pf_states"]), (&true.into(), &3.into()));
        // em0 and em1, without lo0.
        assert_eq!((&status["bytes_in"], &status["packets_out"]), (&3000.into(), &60.into()));
        assert!(status["version"].is_string());

        rig.pf.unreachable.store(true, Ordering::Relaxed);
        rig.second().await;
        let (code, status) = rig.client.get("/status").await;
        assert_eq!((code, &status["pf_running"]), (200, &false.into()));
        assert_eq!((&status["pf_states"], &status["bytes_in"]), (&0.into(), &0.into()));
        assert_eq!(status["aifw_rules"], 1);

        let nobody = aifw::api::testing::Client::new(rig.server.clone());
        let reads = rig.pf.state_reads.load(Ordering::Relaxed);
        assert_eq!(nobody.get("/status").await.0, 401);
        assert_eq!(rig.pf.state_reads.load(Ordering::Relaxed), reads);
    });
}

#[test]
fn b02_about_has_a_version_and_numbers_for_memory() {
    smol::block_on(async {
        let mut rig = Rig::by_hand();
        rig.second().await;
        let (code, about) = rig.client.get("/about").await;
        assert_eq!(code, 200);
        let version = about["version"].as_str().unwrap();
        let parts: Vec<u64> = version.split('.').map(|part| part.parse().unwrap()).collect();
        assert_eq!(parts.len(), 3);
        assert!(numbers(&about["memory"]), "{about}");
        assert_eq!(about["memory"].as_object().unwrap().len(), 16);
        assert_eq!(about["memory"]["pf_states_max"], 50_000);
        assert!(about["memory"]["api_rss_mb"].as_f64().unwrap() > 1.0);
        assert!(about["memory"]["db_size_mb"].as_f64().unwrap() > 0.0);
        assert_eq!(about["platform"], "sandbox");
        assert!(about["features"].as_object().unwrap().values().all(Value::is_boolean));
        let areas = about["areas"].as_array().unwrap();
        assert!(
            areas.contains(&"status".into())
                && areas.is_sorted_by_key(|area| area.as_str().unwrap().to_owned())
        );
        for field in ["git_commit", "built_at"] {
            assert!(about[field].is_null() || about[field].is_string());
        }
    });
}

#[test]
fn b03_series_come_from_the_tier_that_fits_the_range() {
    smol::block_on(async {
        let mut rig = Rig::by_hand();
        let (code, list) = rig.client.get("/metrics/list").await;
        assert_eq!(code, 200);
        let names = list["names"].as_array().unwrap();
        assert_eq!(names.len(), 27);
        assert!(names.is_sorted_by_key(|name| name.as_str().unwrap().to_owned()));
        assert!(names.contains(&"traffic.bps_in".into()));
        rig.seconds(25).await;
        let (_, live) = rig.client.get("/metrics/series?name=pf.states").await;
        assert_eq!(
            (&live["name"], &live["tier"], &live["interval_secs"]),
            (&"pf.states".into(), &"live".into(), &1.into())
        );
        let times: Vec<i64> =
            live["points"].as_array().unwrap().iter().map(|point| point["t"].as_i64().unwrap()).collect();
        assert_eq!(times.len(), 25);
        assert!(times.windows(2).all(|pair| pair[1] == pair[0] + 1), "{times:?}");
        assert_eq!(live["points"][0]["v"], 3.0);
        for (range, tier, interval, points) in
            [(21_600, "short", 10, 2), (86_400, "mid", 60, 0), (2_592_000, "long", 300, 0)]
        {
            let (code, series) =
                rig.client.get(&format!("/metrics/series?name=pf.states&range_secs={range}")).await;
            assert_eq!(code, 200);
            assert_eq!((&series["tier"], &series["interval_secs"]), (&tier.into(), &interval.into()));
            assert_eq!(series["points"].as_array().unwrap().len(), points);
        }
        let (_, few) = rig.client.get("/metrics/series?name=pf.states&limit=5").await;
        assert_eq!(few["points"].as_array().unwrap().len(), 5);
        assert_eq!(few["points"][4]["t"], times[24]);
        let (code, several) = rig.client.get("/metrics/series?names=pf.states,conn.total").await;
        assert_eq!((code, &several["series"][1]["name"]), (200, &"conn.total".into()));
    });
}

/// What the configuration holds counts from the first second, though nothing shapes yet.
#[test]
fn b03_series_of_queues_and_rate_limits_count_the_configuration() {
    smol::block_on(async {
        let mut rig = Rig::by_hand();
        rig.second().await;
        let queue = serde_json::json!({
            "id": aifw::config::Id::new_v4(), "name": "voice", "interface": "em0", "queue_type": "codel",
            "bandwidth_value": 10, "bandwidth_unit": "mbps", "traffic_class": "voip", "default": false,
            "status": "active",
        });
        let queue: aifw::config::shaping::Queue = serde_json::from_value(queue).unwrap();
        rig.change(move |config| {
            config.queues.insert(queue);
        })
        .await;
        rig.second().await;
        for (name, expected) in [("system.queues", [0.0, 1.0]), ("system.rate_limits", [0.0, 0.0])] {
            let (_, series) = rig.client.get(&format!("/metrics/series?name={name}")).await;
            let points = series["points"].as_array().unwrap();
            let values: Vec<f64> = points.iter().map(|point| point["v"].as_f64().unwrap()).collect();
            assert_eq!(values, expected, "{name}");
        }
    });
}

#[test]
fn b04_series_refuses_bad_queries() {
    smol::block_on(async {
        let mut rig = Rig::by_hand();
        rig.second().await;
        for (query, expected) in [
            ("", 400),
            ("?name=", 400),
            ("?name=nope", 404),
            ("?name=pf.states&range_secs=-1", 400),
            ("?name=pf.states&range_secs=abc", 400),
            ("?name=pf.states&limit=-1", 400),
            ("?names=", 400),
            ("?names=pf.states,nope", 404),
            ("?names=a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a", 400),
            ("?name=pf.states&range_secs=0", 200),
        ] {
            let (code, body) = rig.client.get(&format!("/metrics/series{query}")).await;
            assert_eq!(code, expected, "{query}: {body}");
            if code == 200 {
                assert_eq!(body["points"], Value::Array(Vec::new()));
            } else {
                assert_eq!(body["error"], body["message"]);
            }
        }
    });
}

#[test]
fn b05_connections_are_paged_filtered_and_ordered_by_bytes() {
    smol::block_on(async {
        let rig = Rig::by_hand();
        let mut with_interface = state(2, "udp", ("10.0.0.9", 5000), ("192.0.2.1", 53), (50, 50));
        with_interface.interface = Some("em1".into());
        with_interface.rtable = Some(1);
        *rig.pf.states.lock().unwrap() = vec![
            state(0x40b3046b00000000, "tcp", ("10.0.0.2", 50_000), ("192.0.2.1", 443), (10, 20)),
            state(0x41b3046b00000000, "ipv6-icmp", ("fd00::1", 0), ("fd00::2", 0), (10, 20)),
            with_interface,
        ];
        let answer = rig.client.get("/connections?limit=1").send().await;
        let body = answer.json();
        assert_eq!((answer.status, answer.header("X-Total-Count")), (200, Some("3")));
        assert_eq!((body["data"].as_array().unwrap().len(), &body["total"]), (1, &3.into()));
        let top = &body["data"][0];
        assert_eq!(
            (&top["src_addr"], &top["dst_port"], &top["iface"], &top["rtable"]),
            (&"10.0.0.9".into(), &53.into(), &"em1".into(), &1.into())
        );
        let (_, all) = rig.client.get("/connections").await;
        let (first, second) = (&all["data"][1], &all["data"][2]);
        assert_ne!(first["id"], second["id"]);
        assert!(first.get("iface").is_none());
        assert_eq!(
            (&first["packets_in"], &first["bytes_out"], &first["age_secs"]),
            (&1.into(), &20.into(), &17.into())
        );
        for (query, total) in [
            ("protocol=TCP", 1),
            ("addr=fd00::2", 1),
            ("addr=10.0.0.0/8", 2),
            ("port=443", 1),
            ("iface=em1", 1),
            ("iface=em1&protocol=tcp", 0),
            ("offset=10", 3),
        ] {
            let (code, body) = rig.client.get(&format!("/connections?{query}")).await;
            assert_eq!((code, &body["total"]), (200, &total.into()), "{query}");
        }
        for query in ["limit=-1", "offset=x", "addr=nowhere", "port=70000"] {
            assert_eq!(rig.client.get(&format!("/connections?{query}")).await.0, 400, "{query}");
        }
        rig.pf.unreachable.store(true, Ordering::Relaxed);
        assert_eq!(rig.client.get("/connections").await.0, 500);
    });
}

#[test]
fn b06_blocked_is_newest_first_and_hides_passes_by_default() {
    smol::block_on(async {
        let rig = Rig::by_hand();
        let (code, empty) = rig.client.get("/blocked").await;
        assert_eq!((code, &empty["total"]), (200, &0.into()));
        rig.live.log_packet(packet("203.0.113.1", "10.0.0.1", "tcp", false));
        rig.live.log_packet(packet("203.0.113.2", "10.0.0.1", "udp", true));
        rig.live.log_packet(packet("2001:db8::7", "fd00::1", "tcp", false));
        let (_, body) = rig.client.get("/blocked").await;
        assert_eq!(body["total"], 2);
        assert_eq!(
            (&body["data"][0]["src_addr"], &body["data"][1]["src_addr"]),
            (&"2001:db8::7".into(), &"203.0.113.1".into())
        );
        let row = &body["data"][0];
        assert_eq!(
            (&row["action"], &row["direction"], &row["reason"], &row["dst_port"]),
            (&"block".into(), &"in".into(), &"match".into(), &22.into())
        );
        assert!(row["timestamp"].as_str().unwrap().ends_with('Z'));
        assert_eq!((&row["rule_number"], &row["label"]), (&3.into(), &"block-ssh".into()));
        for (query, total) in [
            ("action=all", 3),
            ("action=pass", 1),
            ("src=203.0.113.0/24", 1),
            ("dst=10.0.0.1&action=all", 2),
            ("port=22", 2),
            ("iface=em9", 0),
            ("protocol=udp&action=all", 1),
            ("since=2999-01-01T00:00:00Z", 0),
            ("since=0", 2),
        ] {
            let (code, body) = rig.client.get(&format!("/blocked?{query}")).await;
            assert_eq!((code, &body["total"]), (200, &total.into()), "{query}");
        }
        for query in ["action=drop", "since=yesterday", "src=x"] {
            assert_eq!(rig.client.get(&format!("/blocked?{query}")).await.0, 400, "{query}");
        }
    });
}

#[test]
fn b07_logs_show_what_was_done_newest_first() {
    smol::block_on(async {
        let rig = Rig::by_hand();
        rig.add_rule().await;
        let id = rig.add_rule().await;
        rig.live.log_packet(packet("203.0.113.1", "10.0.0.1", "tcp", false));
        let (code, body) = rig.client.get("/logs").await;
        assert_eq!(code, 200);
        let newest = &body["data"][0];
        assert_eq!((&newest["action"], &newest["source"]), (&"rule_added".into(), &"engine".into()));
        assert_eq!(newest["rule_id"], id.to_string());
        assert!(body["data"].as_array().unwrap().iter().all(|entry| entry["source"] != "pf"));
        let (_, one) = rig.client.get("/logs?limit=1").await;
        assert_eq!(one["data"].as_array().unwrap().len(), 1);
        assert!(one["total"].as_u64().unwrap() >= 2);
        assert_eq!(rig.client.get("/logs?type=bogus").await.0, 400);
        let (_, pf) = rig.client.get("/logs?type=pf").await;
        assert_eq!(
            (&pf["data"][0]["action"], &pf["data"][0]["details"]),
            (&"pf_block".into(), &"in on em0 tcp 203.0.113.1:40000 > 10.0.0.1:22".into())
        );
        assert_eq!(rig.client.get("/logs?type=pf").await.1["data"][0]["id"], pf["data"][0]["id"]);
        let (_, all) = rig.client.get("/logs?type=all").await;
        assert_eq!(all["data"][0]["source"], "pf");
        assert!(all["total"].as_u64().unwrap() > pf["total"].as_u64().unwrap());
        for (query, total) in [("type=pf&q=10.0.0.1", 1), ("type=pf&q=10.9", 0), ("action=rule_added", 2)] {
            let (_, body) = rig.client.get(&format!("/logs?{query}")).await;
            assert_eq!(body["total"], total, "{query}");
        }
    });
}

#[test]
fn b08_reload_applies_and_clears_pending() {
    smol::block_on(async {
        let rig = Rig::by_hand();
        let (code, body) = rig.client.post("/reload").await;
        assert_eq!(code, 200, "{body}");
        assert_eq!(rig.client.get("/pending").await.1["firewall"], false);
        let id = rig.add_rule().await;
        let (_, pending) = rig.client.get("/pending").await;
        assert_eq!(pending, serde_json::json!({"firewall": true, "nat": false, "dns": false}));
        // Undoing the change clears the flag: nothing differs from what is applied.
        rig.remove_rule(id).await;
        assert_eq!(rig.client.get("/pending").await.1["firewall"], false);
        rig.add_rule().await;
        let before = rig.client.get("/logs?action=rules_applied").await.1["total"].as_u64().unwrap();
        let answer = rig.client.post("/reload").header("Content-Type", "application/json").send().await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["message"], "Changes applied successfully");
        assert!(answer.json()["steps"].as_array().unwrap().iter().all(|step| step["ok"] == true));
        let (_, pending) = rig.client.get("/pending").await;
        assert_eq!(pending, serde_json::json!({"firewall": false, "nat": false, "dns": false}));
        let after = rig.client.get("/logs?action=rules_applied").await.1["total"].as_u64().unwrap();
        assert_eq!(after, before + 2);
        assert!(rig.pf.texts.lock().unwrap()["aifw"].contains(" port 22 "), "{:?}", rig.pf.texts);
    });
}

#[test]
fn b09_a_refused_ruleset_stays_pending_and_the_old_one_loaded() {
    smol::block_on(async {
        let rig = Rig::by_hand();
        let (code, body) = rig.client.post("/reload").await;
        assert_eq!(code, 200, "{body}");
        let loaded = rig.pf.texts.lock().unwrap().clone();
        rig.add_rule().await;
        rig.pf.refuses.store(true, Ordering::Relaxed);
        let (code, body) = rig.client.post("/reload").await;
        assert_eq!(code, 500);
        let error = body["error"].as_str().unwrap();
        assert!(error.starts_with("Partial reload: filter: "), "{error}");
        assert_eq!(rig.client.get("/pending").await.1["firewall"], true);
        assert_eq!(*rig.pf.texts.lock().unwrap(), loaded);
        rig.pf.refuses.store(false, Ordering::Relaxed);
        assert_eq!(rig.client.post("/reload").await.0, 200);
        assert_eq!(rig.client.get("/pending").await.1["firewall"], false);
    });
}

#[test]
fn b10_permissions_of_viewers_and_scoped_keys() {
    smol::block_on(async {
        let rig = Rig::by_hand();
        let client = aifw::api::testing::Client::new(rig.server.clone());
        for (method, path, expected) in [
            ("POST", "/reload", 403),
            ("GET", "/pending", 200),
            ("GET", "/connections", 403),
            ("GET", "/blocked", 403),
            ("GET", "/logs", 403),
        ] {
            let code = client.request(method, path).bearer("dashboard:view").await.0;
            assert_eq!(code, expected, "{method} {path}");
        }
        assert_eq!(client.get("/connections").bearer("connections:view").await.0, 200);
        assert_eq!(client.get("/pending").bearer("connections:view").await.0, 403);
        assert_eq!(client.get("/pending").await.0, 401);
    });
}
