//! The host itself over the API (contract/system.md §1, behaviours 1 to 8): what is stored is in the files of the
//! simulated machine at once. What needs FreeBSD is listed in FREEBSD.md.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::rig::Rig;

/// The text of a system file; empty where there is none.
fn file(dir: &Path, path: &str) -> String {
    std::fs::read_to_string(dir.join("root").join(path)).unwrap_or_default()
}

fn run<F: Future<Output = ()>>(test: impl FnOnce(PathBuf, Rig) -> F) {
    let dir = tempfile::tempdir().unwrap();
    smol::block_on(test(dir.path().to_owned(), Rig::new(dir.path())));
}

#[test]
fn b01_name_and_zone_are_stored_and_in_force() {
    run(|dir, rig| async move {
        let before = rig.get("/system/general").await;
        assert!(["hostname", "domain", "timezone"].iter().all(|field| before[field].is_string()), "{before}");
        let wanted = json!({ "hostname": "fw1", "domain": "home.lan", "timezone": "Europe/Berlin" });
        let told = rig.ok("PUT", "/system/general", wanted.clone()).await;
        assert_eq!((&told["ok"], &told["warning"]), (&json!(true), &Value::Null), "{told}");
        assert_eq!(rig.get("/system/general").await, wanted);
        assert!(file(&dir, "etc/hosts").contains("fw1.home.lan"), "{}", file(&dir, "etc/hosts"));
        assert!(rig.audited().contains("host name, domain or time zone changed"));
        let info = rig.get("/system/info").await;
        assert_eq!(info["hostname"], "fw1");
    });
}

#[test]
fn b02_what_is_no_name_or_zone_changes_nothing() {
    run(|_, rig| async move {
        let before = rig.get("/system/general").await;
        let long = "a".repeat(64);
        for (field, bad) in
            [("hostname", "-bad"), ("hostname", "a_b"), ("hostname", &long), ("timezone", "../../etc/passwd")]
        {
            let mut wanted = json!({ "hostname": "fw1", "domain": "", "timezone": "UTC" });
            wanted[field] = json!(bad);
            let reason = rig.refused(400, "PUT", "/system/general", wanted).await;
            assert!(reason.contains(field), "{reason}");
        }
        assert_eq!(rig.get("/system/general").await, before);
    });
}

#[test]
fn b03_banners_are_shown_and_limited() {
    run(|dir, rig| async move {
        for field in ["login_banner", "motd"] {
            let mut wanted = json!({ "login_banner": "", "motd": "" });
            wanted[field] = json!("x".repeat(8193));
            assert!(rig.refused(400, "PUT", "/system/banner", wanted).await.contains(field));
        }
        rig.ok("PUT", "/system/banner", json!({ "login_banner": "Keep out", "motd": "Welcome" })).await;
        assert_eq!(file(&dir, "etc/issue"), "Keep out\n");
        assert_eq!(file(&dir, "etc/motd.template"), "Welcome\n");
        let ssh = std::fs::read_to_string(dir.join("root/etc/ssh/sshd_config")).unwrap();
        assert!(ssh.contains("Banner "), "{ssh}");
    });
}

#[test]
fn b04_b05_sshd_listens_on_one_port_and_offers_what_was_asked_for() {
    run(|dir, rig| async move {
        let wanted = |port: u16, passwords: bool| {
            json!({ "enabled": true, "port": port, "password_auth": passwords,
            "permit_root_login": true, "force": true })
        };
        assert!(rig.refused(400, "PUT", "/system/ssh", wanted(0, true)).await.contains("port"));
        let told = rig.ok("PUT", "/system/ssh", wanted(2222, true)).await;
        assert_eq!(told["requires_service_restart"], "sshd");
        let text = file(&dir, "etc/ssh/sshd_config");
        let lines = |word: &str| -> Vec<String> {
            let of = |line: &&str| line.split(' ').next() == Some(word);
            text.lines().filter(of).map(str::to_owned).collect()
        };
        assert_eq!(lines("Port"), ["Port 2222"]);
        assert_eq!(lines("PasswordAuthentication"), ["PasswordAuthentication yes"]);
        assert_eq!(lines("PermitRootLogin"), ["PermitRootLogin yes"]);
        rig.ok("PUT", "/system/ssh", wanted(2222, false)).await;
        let text = file(&dir, "etc/ssh/sshd_config");
        for line in [
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PermitRootLogin prohibit-password",
        ] {
            assert!(text.lines().any(|known| known == line), "{line} is not in {text}");
        }
        let shown = rig.get("/system/ssh").await;
        assert_eq!((&shown["port"], &shown["password_auth"]), (&json!(2222), &json!(false)));
    });
}

#[test]
fn b06_the_console_has_known_speeds_and_kinds_and_wants_a_reboot() {
    run(|_, rig| async move {
        let before = rig.get("/system/console").await;
        let bad = rig.refused(400, "PUT", "/system/console", json!({ "kind": "dual", "baud": 4242 })).await;
        assert!(bad.contains("baud"), "{bad}");
        let (status, _) =
            rig.send("PUT", "/system/console", json!({ "kind": "braille", "baud": 9600 })).await;
        assert!((400..500).contains(&status), "{status}");
        assert_eq!(rig.get("/system/console").await, before);
        let told = rig.ok("PUT", "/system/console", json!({ "kind": "dual", "baud": 115_200 })).await;
        assert_eq!(told["requires_reboot"], true);
        assert_eq!(rig.get("/system/console").await["kind"], "dual");
    });
}

#[test]
fn b07_the_machine_tells_what_it_is() {
    run(|_, rig| async move {
        let info = rig.get("/system/info").await;
        assert_eq!(info["load_avg"].as_array().unwrap().len(), 3);
        assert!(info["cpu_count"].as_u64().unwrap() >= 1);
        assert!(info["mem_total_bytes"].as_u64().unwrap() > 0);
        assert!(info["temperatures_c"].is_array());
    });
}

#[test]
fn b08_time_zones_are_sorted_and_are_zones() {
    run(|_, rig| async move {
        let zones = rig.get("/system/timezones").await;
        let zones: Vec<&str> = zones.as_array().unwrap().iter().map(|zone| zone.as_str().unwrap()).collect();
        assert!(zones.contains(&"UTC") && zones.contains(&"Europe/Berlin") && !zones.contains(&"zone.tab"));
        assert!(zones.is_sorted());
    });
}
