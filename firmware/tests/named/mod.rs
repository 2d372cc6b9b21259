//! BIND's named on a free port of loopback, with zones that take updates signed with one key.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Of the key `updates`, hmac-sha256, in base64.
pub const SECRET: &str = "c2VjcmV0LW9mLXRoZS11cGRhdGVzLW9mLXRoZS10ZXN0";

/// Ends when dropped.
pub struct Named {
    child: Child,
    pub port: u16,
}

impl Named {
    /// The first zone is one of names, and has `ns` and the records of `lines`; the others have nothing.
    pub fn start(dir: &Path, zones: &[&str], lines: &str) -> Self {
        let port = loop {
            let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            if std::net::UdpSocket::bind(("127.0.0.1", port)).is_ok() {
                break port;
            }
        };
        let dir = dir.join("named");
        std::fs::create_dir(&dir).unwrap();
        let first = zones[0];
        let soa = format!(
            "$TTL 300\n@ IN SOA ns.{first}. admin.{first}. 1 3600 900 604800 300\n@ IN NS ns.{first}.\n"
        );
        let path = dir.display();
        let mut text = format!(
            "options {{ directory \"{path}\"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; \
             pid-file \"{path}/pid\"; session-keyfile \"{path}/session\"; recursion no; dnssec-validation no; }};\n\
             controls {{ }};\nkey updates {{ algorithm hmac-sha256; secret \"{SECRET}\"; }};\n"
        );
        for zone in zones {
            let lines = if *zone == first { format!("ns IN A 127.0.0.1\n{lines}") } else { String::new() };
            std::fs::write(dir.join(zone), format!("{soa}{lines}")).unwrap();
            text.push_str(&format!(
                "zone \"{zone}\" {{ type primary; file \"{path}/{zone}\"; allow-update {{ key updates; }}; }};\n"
            ));
        }
        std::fs::write(dir.join("conf"), text).unwrap();
        let mut command = Command::new("named");
        command.args(["-g", "-c"]).arg(dir.join("conf")).stdout(Stdio::null());
        command.stderr(std::fs::File::create(dir.join("log")).unwrap());
        let child = command.spawn().expect("named (bind9) is installed");
        let named = Self { child, port };
        let begun = Instant::now();
        while named.ask(&format!("ns.{first}"), "A") != "127.0.0.1" {
            let log = std::fs::read_to_string(dir.join("log")).unwrap_or_default();
            assert!(begun.elapsed() < Duration::from_secs(30), "named does not answer: {log}");
            std::thread::sleep(Duration::from_millis(50));
        }
        named
    }

    /// As `dig +short` answers.
    pub fn ask(&self, name: &str, kind: &str) -> String {
        let mut dig = Command::new("dig");
        dig.args(["+short", "+time=1", "+tries=1", "@127.0.0.1", "-p", &self.port.to_string(), name, kind]);
        String::from_utf8_lossy(&dig.output().expect("dig is installed").stdout).trim().to_owned()
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
