//! contract/updates.md, "Behaviours to show".

use std::sync::Arc;
use std::time::{Duration, Instant};

use aifw::api;
use aifw::api::testing::{Client, bare_app, guarded};
use aifw::store::AuditFilter;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use crate::rig::{Rig, form, image, own};
use crate::server::{Document, Server};

fn window() -> Value {
    json!({
        "enabled": true, "day_of_week": "Monday", "time": "04:30", "auto_check": true, "auto_install": false,
        "auto_reboot": true, "auto_update_aifw": false,
    })
}

/// A release 9.9.9 on a server that the appliance looks at.
async fn released(rig: &Rig, notes: &str) -> Server {
    let server = Server::start();
    let package = rig.package("9.9.9", &image(1));
    server.release("9.9.9", notes, &package.file_name(), &package.bytes());
    rig.look_at(&server).await;
    server
}

#[test]
fn b01_status_answers_at_once_with_all_its_fields() {
    smol::block_on(async {
        let rig = Rig::new();
        // The fastest of a few: a test may share its processor with others.
        let (mut status, mut fastest) = (Value::Null, Duration::MAX);
        for _ in 0..4 {
            let begun = Instant::now();
            status = rig.get("/updates/status").await;
            fastest = fastest.min(begun.elapsed());
        }
        assert!(fastest < Duration::from_secs(1), "{fastest:?}");
        assert!(status["os_version"].as_str().is_some_and(|version| !version.is_empty()), "{status}");
        assert_eq!(status["last_check"], Value::Null);
        let off = ["pending_os_updates", "needs_reboot", "checking", "installing"];
        assert!(off.iter().all(|name| status[name] == false), "{status}");
        assert_eq!((&status["pending_pkg_count"], &status["pending_packages"]), (&0.into(), &json!([])));
    });
}

#[test]
fn b02_a_check_is_remembered_and_a_server_out_of_reach_is_told() {
    smol::block_on(async {
        let rig = Rig::new();
        // Nobody listens there.
        let (status, body) = rig.post("/updates/check").await;
        assert_eq!(status, 200, "{body}");
        assert!(
            body["message"].as_str().unwrap().starts_with("Package update failed: http://127.0.0.1:9/"),
            "{body}"
        );
        let first = rig.get("/updates/status").await["last_check"].clone();
        assert!(first.as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{first}");
        let rows = rig.history().await;
        assert_eq!((rows[0].0.as_str(), rows[0].1.as_str()), ("check", "failed"));
        let _server = released(&rig, "").await;
        let (status, body) = rig.post("/updates/check").await;
        let told = format!(
            "Package catalog updated. OS update check complete. v9.9.9 available (current: v{})",
            own()
        );
        assert_eq!((status, &body["message"]), (200, &told.into()));
        let rows = rig.history().await;
        assert_eq!((rows[0].0.as_str(), rows[0].1.as_str()), ("check", "completed"));
        assert!(rows[0].2.ends_with("(user tester)"), "{rows:?}");
    });
}

#[test]
fn b03_pending_packages_are_counted() {
    smol::block_on(async {
        let rig = Rig::new();
        let _server = released(&rig, "").await;
        rig.post("/updates/check").await;
        let status = rig.get("/updates/status").await;
        let expected = format!("aifw: {} -> 9.9.9 [AiFw]", own());
        assert_eq!(status["pending_packages"], json!([expected]));
        assert_eq!((&status["pending_pkg_count"], &status["pending_os_updates"]), (&1.into(), &true.into()));
    });
}

#[test]
fn b04_a_reboot_is_needed_by_what_is_installed_and_not_by_what_is_pending() {
    smol::block_on(async {
        let mut rig = Rig::new();
        let _server = released(&rig, "").await;
        rig.post("/updates/check").await;
        assert_eq!(rig.get("/updates/status").await["needs_reboot"], false);
        let (status, body) = rig.post("/updates/install").await;
        let told = format!("1 package updated (aifw {} -> 9.9.9). OS updates installed with it", own());
        assert!(status == 200 && body["message"].as_str().unwrap().starts_with(&told), "{status} {body}");
        let shown = rig.get("/updates/status").await;
        assert_eq!((&shown["needs_reboot"], &shown["pending_os_updates"]), (&true.into(), &false.into()));
        rig.reboot();
        assert_eq!(rig.get("/updates/status").await["needs_reboot"], false);
        let (_, body) = rig.post("/updates/install").await;
        assert_eq!(body["message"], "0 packages updated. No OS updates to install");
        let marker = rig.path("root/var/run/reboot-required");
        std::fs::create_dir_all(marker.parent().unwrap()).unwrap();
        std::fs::write(marker, "").unwrap();
        assert_eq!(rig.get("/updates/status").await["needs_reboot"], true);
    });
}

#[test]
fn b05_the_maintenance_window_is_kept_as_it_was_sent_and_due_when_it_says() {
    smol::block_on(async {
        let rig = Rig::new();
        let put = |body: Value| rig.client.put("/updates/schedule").bearer("all").json(body);
        let (status, body) = put(window()).await;
        assert_eq!((status, &body["message"]), (200, &"Maintenance window updated".into()));
        let mut expected = window();
        expected["release_url"] = Value::Null;
        assert_eq!(rig.get("/updates/schedule").await, expected);
        // 2026-11-24 is a Tuesday.
        let tuesday = "2026-11-24T12:00:00Z".parse().unwrap();
        let next =
            || rig.app.store.snapshot().config.updates.next(tuesday, &TimeZone::UTC).unwrap().to_string();
        assert_eq!(next(), "2026-11-30T04:30:00+00:00[UTC]");
        let with = |name: &str, value: Value| {
            let mut body = window();
            body[name] = value;
            body
        };
        assert_eq!(put(with("day_of_week", "mon".into())).await.0, 200);
        assert_eq!(
            (rig.get("/updates/schedule").await["day_of_week"].as_str(), next()),
            (Some("mon"), "2026-11-30T04:30:00+00:00[UTC]".into())
        );
        let before = rig.get("/updates/schedule").await;
        let mut without = window();
        without.as_object_mut().unwrap().remove("enabled");
        for bad in [
            with("day_of_week", "Someday".into()),
            with("time", "25:00".into()),
            with("time", "4".into()),
            with("time", "03:00\n* * * * * x".into()),
            with("enabled", "yes".into()),
            with("release_url", "file:///etc/passwd".into()),
            without,
            json!([]),
        ] {
            let (status, body) = put(bad.clone()).await;
            assert_eq!(status, 400, "{bad}: {body}");
        }
        assert_eq!(rig.get("/updates/schedule").await, before);
        let mut short = window();
        short.as_object_mut().unwrap().remove("auto_update_aifw");
        assert_eq!(put(short).await.0, 200);
        let rows = rig.history().await;
        assert_eq!(
            rows[0],
            (
                "schedule".into(),
                "configured".into(),
                "Maintenance window enabled (Monday) (user tester)".into()
            )
        );
    });
}

#[test]
fn b06_a_window_that_is_disabled_is_never_due() {
    smol::block_on(async {
        let rig = Rig::new();
        let mut off = window();
        off["enabled"] = false.into();
        assert_eq!(rig.client.put("/updates/schedule").bearer("all").json(off).await.0, 200);
        let shown = rig.get("/updates/schedule").await;
        assert_eq!((&shown["day_of_week"], &shown["time"]), (&"Monday".into(), &"04:30".into()));
        let settings = rig.app.store.snapshot().config.updates.clone();
        assert_eq!(settings.next(jiff::Timestamp::now(), &TimeZone::UTC), None);
    });
}

#[test]
fn b05_what_runs_in_the_window_and_in_which_order() {
    smol::block_on(async {
        let rig = Rig::new();
        let _server = released(&rig, "").await;
        let mut all = window();
        all["auto_install"] = true.into();
        rig.client.put("/updates/schedule").bearer("all").json(all).await;
        let (updater, settings) = (rig.app.updater.clone(), rig.app.store.snapshot().config.updates.clone());
        blocking::unblock(move || updater.run_window(&settings)).await;
        let rows: Vec<(String, String)> =
            rig.history().await.into_iter().map(|(action, status, _)| (action, status)).collect();
        let expected = [("reboot", "scheduled"), ("install", "completed"), ("check", "completed")];
        assert_eq!(rows[..3], expected.map(|(action, status)| (action.to_owned(), status.to_owned())));
        let power = std::fs::read_to_string(rig.path("power.log")).unwrap();
        assert!(power.trim_end().ends_with("reboot +60s"), "{power}");
        // Nothing to install, so nothing to reboot for.
        let idle = Rig::new();
        let (updater, settings) = (idle.app.updater.clone(), rig.app.store.snapshot().config.updates.clone());
        let settings = aifw::config::update::UpdateSettings { auto_install: false, ..(*settings).clone() };
        blocking::unblock(move || updater.run_window(&settings)).await;
        assert!(!idle.path("power.log").exists());
    });
}

#[test]
fn b07_a_newer_release_is_offered_with_its_notes() {
    smol::block_on(async {
        let rig = Rig::new();
        let before = rig.get("/updates/aifw/status").await;
        assert_eq!((&before["latest_version"], &before["update_available"]), (&"".into(), &false.into()));
        let server = released(&rig, "better\n[reboot-recommended] rc.d changes\nend").await;
        let (status, info) = rig.post("/updates/aifw/check").await;
        assert_eq!(status, 200, "{info}");
        let file = rig.package("9.9.9", &image(1)).file_name();
        let expected = json!({
            "current_version": own(), "running_version": own(), "restart_pending": false,
            "latest_version": "9.9.9", "update_available": true,
            "release_notes": "better\n[reboot-recommended] rc.d changes\nend",
            "published_at": "2026-11-01T10:00:00Z",
            "tarball_url": server.url(&format!("/files/{file}")),
            "checksum_url": server.url(&format!("/files/{file}.sha256")),
            "has_backup": false, "backup_version": null,
            "reboot_recommended": true, "reboot_reason": "rc.d changes", "trying": false,
        });
        assert_eq!(info, expected);
        assert_eq!(rig.get("/updates/aifw/status").await, expected);
        let row = &rig.history().await[0];
        assert_eq!(
            (row.0.as_str(), row.2.as_str()),
            ("aifw_check", format!("v9.9.9 available (current: v{}) (user tester)", own()).as_str())
        );
    });
}

#[test]
fn b08_old_releases_and_servers_that_fail() {
    smol::block_on(async {
        let mut rig = Rig::new();
        // 5.9.9 runs.
        assert_eq!(rig.install_file(&rig.package("5.9.9", &image(5)).bytes()).await.status, 200);
        rig.reboot();
        let server = Server::start();
        rig.look_at(&server).await;
        let package = rig.package("5.10.0", &image(1));
        for (version, newer) in [("5.9.9", false), ("5.9.8", false), ("5.10.0-rc.1", true), ("5.10.0", true)]
        {
            server.release(version, "", &package.file_name(), &package.bytes());
            let (status, info) = rig.post("/updates/aifw/check").await;
            assert_eq!((status, &info["update_available"]), (200, &newer.into()), "{version}: {info}");
        }
        let stored = rig.get("/updates/aifw/status").await;
        let answer = |status, body: &[u8]| Document { status, body: body.to_vec(), ..Document::default() };
        for bad in [
            answer(404, b""),
            answer(500, b"{}"),
            answer(200, b"<html>"),
            answer(200, b"{\"name\":\"x\"}"),
            answer(200, &vec![b' '; 3 << 20]),
        ] {
            server.put("/latest", bad);
            let (status, body) = rig.post("/updates/aifw/check").await;
            assert_eq!((status, &body["error"]), (502, &body["message"]), "{body}");
            assert!(body["message"].as_str().unwrap().contains(&server.url("/latest")), "{body}");
        }
        assert_eq!(rig.get("/updates/aifw/status").await, stored);
    });
}

#[test]
fn b09_an_install_writes_the_other_slot_and_leaves_what_runs_alone() {
    smol::block_on(async {
        let mut rig = Rig::new();
        let _server = released(&rig, "[reboot-recommended]").await;
        let (status, done) = rig.post("/updates/aifw/install").await;
        let expected = json!({
            "message": format!("AiFw updated from v{} to v9.9.9", own()),
            "restart_required": true, "reboot_recommended": true, "reboot_reason": null,
        });
        assert_eq!((status, done), (200, expected));
        assert_eq!(rig.slot("slot-b", image(1).len()), image(1));
        assert!(rig.slot("slot-a", 4096).iter().all(|byte| *byte == 0), "what runs was touched");
        let info = rig.get("/updates/aifw/status").await;
        let shown = ["current_version", "running_version", "restart_pending", "has_backup", "backup_version"];
        let told: Vec<&Value> = shown.iter().map(|name| &info[name]).collect();
        assert_eq!(json!(told), json!(["9.9.9", own(), true, true, own()]));
        assert!(!rig.path("power.log").exists(), "nobody asked for a restart");
        let row = &rig.history().await[0];
        assert_eq!((row.0.as_str(), row.1.as_str()), ("aifw_install", "completed"));
        // Booted, it is in force, and the one before is what can be gone back to.
        rig.reboot();
        let info = rig.get("/updates/aifw/status").await;
        let told: Vec<&Value> = shown.iter().map(|name| &info[name]).collect();
        assert_eq!(json!(told), json!(["9.9.9", "9.9.9", false, true, own()]));
        let row = &rig.history().await[0];
        assert_eq!((row.0.as_str(), row.1.as_str()), ("boot", "completed"));
    });
}

#[test]
fn b10_a_package_with_another_checksum_is_refused() {
    smol::block_on(async {
        let rig = Rig::new();
        let server = released(&rig, "").await;
        let file = rig.package("9.9.9", &image(1)).file_name();
        let before = rig.everything();
        server.change(&format!("/files/{file}"), |document| document.body[1000] ^= 1);
        let (status, body) = rig.post("/updates/aifw/install").await;
        assert_eq!(status, 502, "{body}");
        assert!(body["message"].as_str().unwrap().starts_with("checksum mismatch"), "{body}");
        let row = &rig.history().await[0];
        assert_eq!((row.0.as_str(), row.1.as_str()), ("aifw_install", "failed"));
        server.change(&format!("/files/{file}.sha256"), |document| document.body = b"none".to_vec());
        assert_eq!(rig.post("/updates/aifw/install").await.0, 502);
        server.change("/latest", |document| {
            let text = String::from_utf8(document.body.clone()).unwrap();
            document.body = text.replace(".sha256\"", ".md5\"").into_bytes();
        });
        rig.post("/updates/aifw/check").await;
        let (status, body) = rig.post("/updates/aifw/install").await;
        assert_eq!(
            (status, &body["message"]),
            (502, &"release 9.9.9 has no checksum for this machine".into())
        );
        assert!(rig.everything() == before);
        assert_eq!(rig.leftovers(), [""; 0]);
    });
}

#[test]
fn b11_nothing_newer_is_no_fault() {
    smol::block_on(async {
        let rig = Rig::new();
        let server = Server::start();
        let package = rig.package("0.0.1", &image(1));
        server.release("0.0.1", "", &package.file_name(), &package.bytes());
        rig.look_at(&server).await;
        let (status, body) = rig.post("/updates/aifw/install").await;
        assert_eq!(
            (status, &body["restart_required"], &body["message"]),
            (200, &false.into(), &"Already running the latest version".into())
        );
        assert!(!rig.path("disk.img").exists());
    });
}

#[test]
fn b12_what_an_upload_may_be() {
    smol::block_on(async {
        let rig = Rig::new();
        let package = rig.package("9.9.9", &image(1));
        let (bytes, name) = (package.bytes(), package.file_name());
        let sum = aifw::update::testing::sha256(&bytes);
        let before = rig.everything();
        let told = |answer: aifw::api::testing::Answer| {
            (answer.status, answer.json()["message"].as_str().unwrap_or_default().to_owned())
        };
        let (status, message) =
            told(rig.upload(&[("sha256", false, sum.as_bytes()), ("restart", false, b"true")]).await);
        assert!(status == 400 && message.contains("tarball"), "{status} {message}");
        let wrong = "ab".repeat(32);
        let answer =
            told(rig.upload(&[("tarball", true, &bytes), ("sha256", false, wrong.as_bytes())]).await);
        assert_eq!(answer, (400, "checksum mismatch".to_owned()));
        let (status, message) =
            told(rig.upload(&[("tarball", true, &bytes), ("sha256", false, b"abc")]).await);
        assert!(status == 400 && message.starts_with("sha256: expected"), "{status} {message}");
        let json_body = rig
            .client
            .post("/updates/aifw/install-local")
            .bearer("all")
            .json(json!({"tarball": "x"}))
            .send()
            .await;
        assert_eq!(told(json_body).0, 400);
        let (kind, body) = form(&[("tarball", true, &bytes)]);
        let cut = rig
            .client
            .post("/updates/aifw/install-local")
            .bearer("all")
            .header("Content-Type", kind)
            .body(&body[..body.len() / 2])
            .send()
            .await;
        assert_eq!(told(cut).0, 400);
        assert!(rig.everything() == before);
        assert_eq!(rig.leftovers(), [""; 0]);
        // Both forms of a checksum, in any order, beside what is not known, as text and as file.
        let bsd = format!("SHA256 ({name}) = {sum}\n");
        let gnu = format!("{sum}  {name}\n");
        for (form, is_file) in [(bsd, false), (gnu, true), (String::new(), false)] {
            let parts: &[(&str, bool, &[u8])] = &[
                ("sha256", is_file, form.as_bytes()),
                ("comment", false, b"hello"),
                ("tarball", true, &bytes),
                ("restart", false, b"no"),
            ];
            let answer = rig.upload(parts).await;
            let body = answer.json();
            assert_eq!((answer.status, &body["message"]), (200, &"installed 9.9.9".into()), "{body}");
            assert_eq!(
                (&body["restart_required"], &body["reboot_recommended"]),
                (&true.into(), &false.into())
            );
        }
        assert_eq!(rig.leftovers(), [""; 0]);
        assert!(!rig.path("power.log").exists());
        let answer = rig.upload(&[("tarball", true, &bytes), ("restart", false, b"true")]).await;
        assert_eq!(answer.status, 200);
        assert!(std::fs::read_to_string(rig.path("power.log")).unwrap().contains("reboot +2s"));
    });
}

#[test]
fn b14_going_back_brings_the_version_and_the_store_before() {
    smol::block_on(async {
        let mut rig = Rig::new();
        assert_eq!(rig.post("/updates/aifw/rollback").await.0, 409, "there is nothing to go back to");
        let add = |name: &'static str| {
            let body = json!({ "action": "pass", "direction": "in", "protocol": "tcp", "label": name });
            rig.client.post("/rules").bearer("all").json(body)
        };
        assert_eq!(add("before").await.0, 201);
        assert_eq!(rig.install_file(&rig.package("9.9.9", &image(1)).bytes()).await.status, 200);
        rig.reboot();
        let add = |name: &'static str| {
            let body = json!({ "action": "pass", "direction": "in", "protocol": "tcp", "label": name });
            rig.client.post("/rules").bearer("all").json(body)
        };
        assert_eq!(add("after").await.0, 201);
        async fn labels(rig: &Rig) -> Vec<String> {
            let rules = rig.get("/rules").await;
            rules["data"]
                .as_array()
                .unwrap()
                .iter()
                .map(|rule| rule["label"].as_str().unwrap().to_owned())
                .collect()
        }
        assert_eq!(labels(&rig).await, ["before", "after"]);
        let (status, done) = rig.post("/updates/aifw/rollback").await;
        let expected = json!({
            "message": format!("Rolled back to v{}", own()), "restart_required": true,
            "reboot_recommended": false, "reboot_reason": null,
        });
        assert_eq!((status, done), (200, expected));
        let info = rig.get("/updates/aifw/status").await;
        assert_eq!((&info["current_version"], &info["latest_version"]), (&own().into(), &"".into()));
        rig.reboot();
        let info = rig.get("/updates/aifw/status").await;
        assert_eq!((&info["running_version"], &info["backup_version"]), (&own().into(), &"9.9.9".into()));
        assert_eq!(labels(&rig).await, ["before"]);
        // And forward again, where the other store is.
        assert_eq!(rig.post("/updates/aifw/rollback").await.0, 200);
        rig.reboot();
        assert_eq!(labels(&rig).await, ["before", "after"]);
        assert_eq!(rig.get("/updates/aifw/status").await["running_version"], "9.9.9");
    });
}

#[test]
fn a_firmware_that_is_not_confirmed_is_gone_back_from() {
    smol::block_on(async {
        let mut rig = Rig::new();
        assert_eq!(rig.install_file(&rig.package("9.9.9", &image(1)).bytes()).await.status, 200);
        rig.power_cycle();
        let info = rig.get("/updates/aifw/status").await;
        assert_eq!((&info["running_version"], &info["trying"]), (&"9.9.9".into(), &true.into()));
        assert_eq!(rig.install_file(&rig.package("9.9.10", &image(2)).bytes()).await.status, 409);
        assert_eq!(rig.post("/updates/aifw/rollback").await.0, 409);
        let updater = rig.app.updater.clone();
        blocking::unblock(move || updater.reject_boot("API: no answer").unwrap()).await;
        assert!(std::fs::read_to_string(rig.path("power.log")).unwrap().contains("reboot now"));
        rig.power_cycle();
        let info = rig.get("/updates/aifw/status").await;
        assert_eq!((&info["running_version"], &info["has_backup"]), (&own().into(), &false.into()));
        let rows = rig.history().await;
        assert!(rows[0].2.contains("v9.9.9 did not come up healthy"), "{rows:?}");
        assert!(rows[1].2.contains("v9.9.9 is not healthy: API: no answer"), "{rows:?}");
        // It can be tried again.
        assert_eq!(rig.install_file(&rig.package("9.9.9", &image(1)).bytes()).await.status, 200);
        rig.reboot();
        assert_eq!(rig.get("/updates/aifw/status").await["running_version"], "9.9.9");
    });
}

#[test]
fn b16_of_two_installs_one_proceeds() {
    smol::block_on(async {
        let rig = Rig::new();
        let server = released(&rig, "").await;
        assert_eq!(rig.post("/updates/aifw/check").await.0, 200);
        server.hold(true);
        let client = rig.client.clone();
        let first = smol::spawn(async move { client.post("/updates/aifw/install").bearer("all").await });
        while rig.get("/updates/status").await["installing"] != true {
            smol::Timer::after(Duration::from_millis(5)).await;
        }
        for path in ["/updates/aifw/install", "/updates/install", "/updates/aifw/rollback"] {
            let (status, body) = rig.post(path).await;
            assert_eq!(
                (status, &body["message"]),
                (409, &"another update, check or rollback is running".into()),
                "{path}"
            );
        }
        assert_eq!(rig.install_file(b"x").await.status, 409);
        assert_eq!(rig.get("/updates/status").await["job"]["kind"], "install");
        server.hold(false);
        let (status, body) = first.await;
        assert_eq!(status, 200, "{body}");
        let status = rig.get("/updates/status").await;
        assert_eq!((&status["installing"], &status["job"]), (&false.into(), &Value::Null));
    });
}

#[test]
fn b17_the_power_switch_and_who_may_use_it() {
    smol::block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let app = Arc::new(guarded(bare_app(dir.path())).await);
        let client = Client::new(api::app(app.clone(), api::routes()));
        let account = |name: &str| json!({ "username": name, "password": "TestPass123" });
        client.post("/auth/register").json(account("chief")).await;
        let login = |name: &str| {
            let request = client.post("/auth/login").json(account(name));
            async move { request.await.1["access_token"].as_str().unwrap().to_owned() }
        };
        let chief = login("chief").await;
        let mut tokens = Vec::new();
        for role in ["viewer", "operator"] {
            let mut body = account(role);
            body["role"] = role.into();
            let (status, body) = client.post("/auth/users").bearer(&chief).json(body).await;
            assert_eq!(status, 201, "{body}");
            tokens.push(login(role).await);
        }
        for token in &tokens {
            for path in [
                "reboot",
                "shutdown",
                "install",
                "aifw/install",
                "aifw/rollback",
                "aifw/restart",
                "aifw/reboot",
            ] {
                assert_eq!(client.post(&format!("/updates/{path}")).bearer(token).await.0, 403, "{path}");
            }
            for path in ["status", "history", "schedule", "aifw/status"] {
                assert_eq!(client.get(&format!("/updates/{path}")).bearer(token).await.0, 200, "{path}");
            }
            assert_eq!(client.post("/updates/check").bearer(token).await.0, 200);
            assert_eq!(client.put("/updates/schedule").bearer(token).json(window()).await.0, 403);
        }
        let power = dir.path().join("power.log");
        assert!(!power.exists());
        let (status, body) = client.post("/updates/reboot").bearer(&chief).await;
        assert_eq!((status, &body["message"]), (200, &"System rebooting in 10 seconds".into()));
        let (status, body) = client.post("/updates/shutdown").bearer(&chief).await;
        assert_eq!((status, &body["message"]), (200, &"System shutting down in 10 seconds".into()));
        let log = std::fs::read_to_string(&power).unwrap();
        assert_eq!(log.lines().count(), 1, "one at a time: {log}");
        assert!(log.trim_end().ends_with("reboot +10s"), "{log}");
        // It can be taken back, and then the other is taken.
        assert_eq!(client.post("/updates/cancel-power").bearer(&chief).await.0, 200);
        assert_eq!(client.post("/updates/cancel-power").bearer(&chief).await.0, 409);
        let (status, body) = client.post("/updates/aifw/reboot").bearer(&chief).await;
        assert_eq!(
            (status, &body["message"]),
            (200, &"System rebooting in 1 minute. Cancel with: aifw update cancel-reboot".into())
        );
        assert!(std::fs::read_to_string(&power).unwrap().trim_end().ends_with("reboot +60s"));
        client.post("/updates/cancel-power").bearer(&chief).await;
        client.post("/updates/shutdown").bearer(&chief).await;
        assert!(std::fs::read_to_string(&power).unwrap().trim_end().ends_with("power off +10s"));
        // Who did it stands in the audit log.
        let filter = AuditFilter { source: Some("updates".into()), limit: 100, ..AuditFilter::default() };
        let told: Vec<String> =
            app.store.audit(&filter).unwrap().0.into_iter().map(|entry| entry.details).collect();
        assert!(told.contains(&"shutdown scheduled (user chief)".to_owned()), "{told:?}");
        assert!(told.contains(&"updates checked (user operator)".to_owned()), "{told:?}");
    });
}

#[test]
fn b18_history_is_newest_first_and_bounded() {
    smol::block_on(async {
        let rig = Rig::new();
        for _ in 0..60 {
            let updater = rig.app.updater.clone();
            blocking::unblock(move || updater.window_changed(true, "Sunday", "tester")).await;
        }
        rig.post("/updates/aifw/restart").await;
        let rows = rig.history().await;
        assert_eq!(rows.len(), 50);
        assert_eq!((rows[0].0.as_str(), rows[0].1.as_str()), ("aifw_restart", "started"));
        let body = rig.get("/updates/history?limit=3").await;
        let row = &body["data"][0];
        let names: Vec<&String> = row.as_object().unwrap().keys().collect();
        assert_eq!(names, ["action", "created_at", "details", "id", "status"]);
        assert_eq!(body["data"].as_array().unwrap().len(), 3);
        for bad in ["0", "501", "-1", "x"] {
            assert_eq!(
                rig.client.get(&format!("/updates/history?limit={bad}")).bearer("all").await.0,
                400,
                "{bad}"
            );
        }
    });
}
