//! Mail through a real SMTP server (Python's aiosmtpd), with TLS, STARTTLS and without.

use std::io::{BufRead, BufReader, Read as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aifw::api::server::tls::self_signed;
use aifw::config::mail::MailEvent;
use aifw::services::mail::Trust;
use serde_json::{Value, json};
use smol::block_on;

use crate::process::{Sandbox, soon, text};
use crate::rig::Rig;

const PASSWORD: &str = "marked-password";

/// A server, and what it took. Ends when dropped.
struct Smtp {
    child: Child,
    port: u16,
    /// What it shows under TLS.
    certificate: String,
    mails: Arc<Mutex<Vec<Value>>>,
}

/// A Python that has aiosmtpd: Debian's own, where another one comes first in the path.
fn python() -> &'static str {
    let has = |program: &&str| {
        let mut command = Command::new(program);
        command.args(["-c", "import aiosmtpd"]).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    ["python3", "/usr/bin/python3"].into_iter().find(has).expect("Python has aiosmtpd (python3-aiosmtpd)")
}

impl Smtp {
    fn start(dir: &Path, mode: &str) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/settings/smtp_server.py");
        let pem = self_signed(&["localhost".into(), "127.0.0.1".into()]).unwrap();
        let (certificate, key) = (dir.join(format!("{mode}.pem")), dir.join(format!("{mode}.key")));
        std::fs::write(&certificate, &pem.certificate).unwrap();
        std::fs::write(&key, &pem.key).unwrap();
        let mut command = Command::new(python());
        command.arg(script).arg(mode).arg(certificate).arg(key).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut first = String::new();
        lines.read_line(&mut first).unwrap();
        let port = serde_json::from_str::<Value>(&first).unwrap()["port"].as_u64().unwrap() as u16;
        let mails = Arc::new(Mutex::new(Vec::new()));
        let taken = mails.clone();
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                taken.lock().unwrap().push(serde_json::from_str(&line).unwrap());
            }
        });
        Self { child, port, certificate: pem.certificate, mails }
    }
    /// The mails that it took since it was last looked at; at least one is awaited.
    fn taken(&self) -> Vec<Value> {
        soon("a mail", || !self.mails.lock().unwrap().is_empty());
        std::mem::take(&mut self.mails.lock().unwrap())
    }
    /// Settings that lead here.
    fn settings(&self, tls: &str) -> Value {
        json!({ "enabled": true, "host": "localhost", "port": self.port, "tls": tls, "username": "fw", "password": PASSWORD,
            "from_address": "AiFw <fw@example.org>", "recipients": "a@example.org; b@example.org" })
    }
}

impl Drop for Smtp {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// What is shown of settings.
fn shown(sent: &Value, changes: Value) -> Value {
    let mut view = sent.clone();
    let view_of = view.as_object_mut().unwrap();
    view_of.remove("password");
    view_of.extend(changes.as_object().unwrap().clone());
    view
}

#[test]
fn b16_a_password_is_kept_replaced_or_removed_and_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    block_on(async {
        let rig = Rig::new(dir.path());
        let path = "/notify/smtp/config";
        let fresh = rig.get(path).await;
        let events = json!(["s3_upload_failed", "restore_failed", "cert_renew_failed", "cert_expiring_soon"]);
        let expected = json!({ "enabled": false, "host": "", "port": 587, "tls": "starttls", "username": null, "has_password": false,
            "from_address": "aifw@localhost", "recipients": "", "enabled_events": events });
        assert_eq!(fresh, expected);
        assert!(
            rig.refused(400, "PUT", path, json!({ "enabled": true, "recipients": "a@b.org" }))
                .await
                .starts_with("host: ")
        );
        let mut settings = json!({ "enabled": true, "host": "mx.example.org", "port": 465, "tls": "implicittls", "username": "fw",
            "password": PASSWORD, "from_address": "fw@example.org", "recipients": "a@example.org, b@example.org", "enabled_events": [] });
        let stored = rig.ok("PUT", path, settings.clone()).await;
        assert_eq!(stored, shown(&settings, json!({ "tls": "implicit", "has_password": true })));
        // An empty list of events stays one.
        assert_eq!(rig.get(path).await, stored);
        settings["password"] = Value::Null;
        assert_eq!(rig.ok("PUT", path, settings.clone()).await["has_password"], true);
        settings.as_object_mut().unwrap().remove("password");
        assert_eq!(rig.ok("PUT", path, settings.clone()).await["has_password"], true);
        let held = || rig.app.store.snapshot().config.mail.password.expose().to_owned();
        assert_eq!(held(), PASSWORD);
        let mut elsewhere = settings.clone();
        elsewhere["host"] = "mx.example.net".into();
        let told = rig.refused(400, "PUT", path, elsewhere).await;
        assert!(told.starts_with("password: ") && !told.contains(PASSWORD), "{told}");
        settings["password"] = "".into();
        assert_eq!(rig.ok("PUT", path, settings).await["has_password"], false);
        let audit = rig.audited();
        assert!(audit.contains("password: changed") && !audit.contains(PASSWORD));
    });
}

#[test]
fn b17_a_closed_port_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    block_on(async {
        let rig = Rig::new(dir.path());
        let none = rig.ok("POST", "/notify/smtp/test", Value::Null).await;
        assert_eq!(none["ok"], false);
        let draft =
            json!({ "host": "127.0.0.1", "port": port, "tls": "none", "recipients": "a@example.org" });
        let begun = Instant::now();
        let answer = rig.ok("POST", "/notify/smtp/test", draft).await;
        assert!(begun.elapsed() < Duration::from_secs(20));
        assert_eq!(answer["ok"], false);
        assert!(answer["message"].as_str().unwrap().to_lowercase().contains("refused"), "{answer}");
        rig.refused(400, "POST", "/notify/smtp/test", json!({ "host": "127.0.0.1", "recipients": "nobody" }))
            .await;
        let metadata = json!({ "host": "169.254.169.254", "recipients": "a@example.org" });
        let answer = rig.ok("POST", "/notify/smtp/test", metadata).await;
        assert!(answer["message"].as_str().unwrap().contains("metadata"), "{answer}");
    });
}

/// A server that takes the connection and says nothing.
#[test]
fn b17_a_silent_server_is_given_up_within_20_seconds() {
    let dir = tempfile::tempdir().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    block_on(async {
        let rig = Rig::new(dir.path());
        let draft =
            json!({ "host": "127.0.0.1", "port": port, "tls": "none", "recipients": "a@example.org" });
        let begun = Instant::now();
        let answer = rig.ok("POST", "/notify/smtp/test", draft).await;
        assert_eq!(answer["ok"], false);
        assert!(begun.elapsed() < Duration::from_secs(21), "{:?}", begun.elapsed());
    });
}

#[test]
fn a_test_mail_goes_out_under_each_protection() {
    let dir = tempfile::tempdir().unwrap();
    for (mode, tls) in [("none", "none"), ("starttls", "starttls"), ("implicit", "implicit")] {
        let server = Smtp::start(dir.path(), mode);
        let state = dir.path().join(format!("{mode}.state"));
        block_on(async {
            let rig = Rig::new(&state);
            let settings = server.settings(tls);
            if mode != "none" {
                // A certificate that nobody vouches for.
                let answer = rig.ok("POST", "/notify/smtp/test", settings.clone()).await;
                assert_eq!(answer["ok"], false, "{mode}: {answer}");
                assert!(server.mails.lock().unwrap().is_empty());
            }
            rig.app.services.mail().set_trust(Trust(vec![server.certificate.clone()]));
            let answer = rig.ok("POST", "/notify/smtp/test", settings.clone()).await;
            assert_eq!(
                answer,
                json!({ "ok": true, "message": "Sent to a@example.org, b@example.org" }),
                "{mode}"
            );
            let mails = server.taken();
            assert_eq!(mails.len(), 1);
            let mail = &mails[0];
            assert_eq!(
                (&mail["sender"], &mail["recipients"]),
                (&"fw@example.org".into(), &json!(["a@example.org", "b@example.org"]))
            );
            assert_eq!((&mail["tls"], &mail["user"]), (&(mode != "none").into(), &"fw".into()));
            let written = text(&mail["text"]);
            for line in [
                "From: AiFw <fw@example.org>",
                "To: a@example.org, b@example.org",
                "Subject: [AiFw] ",
                "Content-Type: text/plain",
            ] {
                assert!(written.contains(line), "{line} is not in {written}");
            }
            // A wrong password, which this server repeats.
            let mut wrong = settings.clone();
            wrong["password"] = "marked-wrong".into();
            let answer = rig.ok("POST", "/notify/smtp/test", wrong).await;
            assert_eq!(answer["ok"], false);
            assert!(
                text(&answer["message"]).contains("535")
                    && !text(&answer["message"]).contains("marked-wrong"),
                "{answer}"
            );
        });
    }
}

#[test]
fn starttls_that_the_server_does_not_offer_is_no_connection_in_clear() {
    let dir = tempfile::tempdir().unwrap();
    let server = Smtp::start(dir.path(), "none");
    block_on(async {
        let rig = Rig::new(&dir.path().join("state"));
        let answer = rig.ok("POST", "/notify/smtp/test", server.settings("starttls")).await;
        assert_eq!(answer["ok"], false, "{answer}");
        assert!(server.mails.lock().unwrap().is_empty());
    });
}

/// The stored password goes to the server and the user that it was stored for.
#[test]
fn a_draft_with_another_server_does_not_get_the_stored_password() {
    let dir = tempfile::tempdir().unwrap();
    let (own, other) = (Smtp::start(dir.path(), "none"), TcpListener::bind("127.0.0.1:0").unwrap());
    let port = other.local_addr().unwrap().port();
    let heard = std::thread::spawn(move || {
        other.set_nonblocking(true).unwrap();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(500) {
            if let Ok((mut stream, _)) = other.accept() {
                let mut said = Vec::new();
                stream.read_to_end(&mut said).ok();
                return said;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Vec::new()
    });
    block_on(async {
        let rig = Rig::new(&dir.path().join("state"));
        rig.ok("PUT", "/notify/smtp/config", own.settings("none")).await;
        // The stored server, with the stored password.
        let answer = rig.ok("POST", "/notify/smtp/test", Value::Null).await;
        assert_eq!(answer["ok"], true, "{answer}");
        assert_eq!(own.taken()[0]["user"], "fw");
        let mut draft = own.settings("none");
        draft.as_object_mut().unwrap().remove("password");
        assert_eq!(rig.ok("POST", "/notify/smtp/test", draft.clone()).await["ok"], true);
        draft["host"] = "127.0.0.1".into();
        draft["port"] = port.into();
        let told = rig.refused(400, "POST", "/notify/smtp/test", draft.clone()).await;
        assert!(told.starts_with("password: ") && !told.contains(PASSWORD), "{told}");
        draft["host"] = "localhost".into();
        draft["username"] = "other".into();
        rig.refused(400, "POST", "/notify/smtp/test", draft).await;
    });
    assert!(heard.join().unwrap().is_empty());
}

/// Only what is chosen is sent; what a server does not take for now waits, what it refuses is given up in the end.
#[test]
fn events_are_mailed_in_the_background() {
    let dir = tempfile::tempdir().unwrap();
    let server = Smtp::start(dir.path(), "none");
    block_on(async {
        let rig = Rig::new(&dir.path().join("state"));
        let mut settings = server.settings("none");
        settings["enabled_events"] = json!(["restore_failed"]);
        rig.ok("PUT", "/notify/smtp/config", settings.clone()).await;
        // A restore that fails.
        let (status, _) = rig.send("POST", "/config/restore", json!({ "version": 4711 })).await;
        assert_eq!(status, 404);
        let outbox = rig.app.services.mail().clone();
        let mail = || rig.app.store.snapshot().config.mail.clone();
        outbox.tell(&mail(), MailEvent::BackupSaved, "not chosen");
        assert_eq!(outbox.waiting(), 1);
        assert_eq!(outbox.deliver(&mail(), "fw.example.org"), 1);
        let taken = server.taken();
        let written = text(&taken[0]["text"]);
        for word in [
            "[AiFw] fw.example.org: restore_failed",
            "Event: restore_failed",
            "Host:  fw.example.org",
            "Time:  2",
            "4711",
        ] {
            assert!(written.contains(word), "{word} is not in {written}");
        }
        assert_eq!(taken[0]["hello"], "fw.example.org");
        settings["recipients"] = "later@example.org".into();
        rig.ok("PUT", "/notify/smtp/config", settings).await;
        outbox.tell(&mail(), MailEvent::RestoreFailed, "waits");
        assert_eq!((outbox.deliver(&mail(), "fw"), outbox.waiting()), (0, 1));
    });
}

/// The process's own tasks: a saved version is told about.
#[test]
fn a_saved_version_is_mailed_by_the_appliance() {
    let dir = tempfile::tempdir().unwrap();
    let server = Smtp::start(dir.path(), "none");
    let sandbox = Sandbox::start(&dir.path().join("state"), &[]);
    let login = sandbox.admin();
    let token = text(&login["access_token"]);
    let mut settings = server.settings("none");
    settings["enabled_events"] = json!(["backup_saved"]);
    let stored = sandbox.call("PUT", "/notify/smtp/config", token, settings);
    assert_eq!(stored.status, 200, "{}", stored.text());
    sandbox.post("/config/save", token, json!({ "comment": "before the move" }));
    let mails = server.taken();
    let written = text(&mails[0]["text"]);
    assert!(written.contains("backup_saved") && written.contains("before the move"), "{written}");
}
