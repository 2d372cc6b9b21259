//! A real client (udhcpc) on a link of its own: the appliance as a process in one network namespace, the client in
//! another, a pair of virtual Ethernet interfaces between them. Needs root, or user namespaces.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::wire::Wire;

/// A network namespace, which lasts as long as a process in it.
struct Namespace(Child);

impl Namespace {
    fn new() -> Self {
        let mut unshare = Command::new("unshare");
        unshare.args(["--net", "--", "sh", "-c", "echo ready; exec sleep 600"]).stdout(Stdio::piped());
        let mut child = unshare.spawn().expect("unshare is installed");
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n", "network namespaces need root here");
        Self(child)
    }
    fn pid(&self) -> String {
        self.0.id().to_string()
    }
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.pid(), "--net", "--", program]).stdin(Stdio::null());
        command
    }
    fn run(&self, words: &str) -> String {
        let mut words = words.split(' ');
        let output = self.command(words.next().unwrap()).args(words).output().unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{text}");
        text
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The appliance in a namespace, spoken to over its local socket.
struct Appliance {
    child: Child,
    socket: std::path::PathBuf,
}

impl Appliance {
    fn start(namespace: &Namespace, dir: &Path) -> Self {
        let socket = dir.join("api.sock");
        let setup = json!({ "wan_interface": "em0", "wan_mode": "static", "wan_ip": "203.0.113.2/24", "wan_gateway": "203.0.113.1",
            "lan_interface": "em1", "lan_ip": "192.168.1.1/24", "nat_enabled": true, "dhcp_enabled": true,
            "dns_servers": ["192.0.2.53"], "admin_username": "admin", "admin_password": "PlantedPassword1" });
        let file = dir.join("setup.json");
        std::fs::write(&file, setup.to_string()).unwrap();
        let mut command = namespace.command(env!("CARGO_BIN_EXE_aifw"));
        command.arg("sandbox").arg("--state").arg(dir.join("state")).args([
            "--listen",
            "127.0.0.1:0",
            "--as-configured",
        ]);
        command.arg("--setup").arg(file).arg("--socket").arg(&socket);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut errors = child.stderr.take().unwrap();
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            errors.read_to_string(&mut text).ok();
            text
        });
        let mut seen = String::new();
        while !seen.contains("://") {
            if lines.read_line(&mut seen).unwrap() == 0 {
                panic!("it ended: {seen}{}", errors.join().unwrap());
            }
        }
        std::thread::spawn(move || {
            std::io::copy(&mut lines, &mut std::io::sink()).ok();
        });
        Self { child, socket }
    }
    fn call(&self, method: &str, path: &str, body: Value) -> Value {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let answer = Wire::over(stream).request(method, &format!("/api/v1{path}"), &[], &body);
        assert!(matches!(answer.status, 200 | 201), "{method} {path}: {} {}", answer.status, answer.text());
        answer.json()
    }
    fn until(&self, what: &str, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let answer = self.call("GET", path, Value::Null);
            if holds(&answer) {
                return answer;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "{what}: {answer}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(self.child.id() as i32),
            nix::sys::signal::Signal::SIGTERM,
        )
        .ok();
        self.child.wait().ok();
    }
}

/// udhcpc that takes an address and stays; what it is told goes to a file, a line an event.
struct Udhcpc {
    child: Child,
    told: std::path::PathBuf,
}

impl Udhcpc {
    fn start(namespace: &Namespace, dir: &Path) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let told = dir.join("told");
        let script = dir.join("script");
        let text = format!(
            "#!/bin/sh\necho \"$1 $ip $router $lease\" >> {}\ncase $1 in bound|renew) ip addr replace $ip/24 dev $interface;; \
             deconfig) ip addr flush dev $interface; ip link set $interface up;; esac\n",
            told.display()
        );
        std::fs::write(&script, text).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = namespace.command("udhcpc");
        command.args(["-i", "c0", "-f", "-t", "20", "-T", "1", "-x", "hostname:laptop", "-s"]).arg(&script);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("udhcpc is installed");
        Self { child, told }
    }
    /// The newest event of a kind, when there are so many of it.
    fn event(&self, kind: &str, number: usize) -> Vec<String> {
        let begun = Instant::now();
        loop {
            let text = std::fs::read_to_string(&self.told).unwrap_or_default();
            let events: Vec<&str> = text.lines().filter(|line| line.starts_with(kind)).collect();
            if events.len() >= number {
                return events[number - 1].split(' ').map(str::to_owned).collect();
            }
            assert!(begun.elapsed() < Duration::from_secs(40), "no {kind} number {number}: {text}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    fn signal(&self, signal: nix::sys::signal::Signal) {
        // nsenter has become udhcpc.
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }
}

impl Drop for Udhcpc {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn a_real_client_gets_its_address_renews_it_gets_the_reserved_one_and_is_released() {
    use nix::sys::signal::Signal;
    let dir = tempfile::tempdir().unwrap();
    let (inside, outside) = (Namespace::new(), Namespace::new());
    inside.run("ip link set lo up");
    inside.run("ip link add em1 type veth peer name c0");
    inside.run(&format!("ip link set c0 netns {}", outside.pid()));
    inside.run("ip addr add 192.168.1.1/24 broadcast 192.168.1.255 dev em1");
    inside.run("ip link set em1 up");
    // The daemon answers to 255.255.255.255, which Linux sends where the default route points.
    inside.run("ip route add default dev em1");
    outside.run("ip link set lo up");
    outside.run("ip link set c0 address 02:00:00:00:00:99");
    outside.run("ip link set c0 up");
    let appliance = Appliance::start(&inside, dir.path());
    appliance.until("the DHCP server runs", "/dhcp/status", |status| status["running"] == true);

    let client = Udhcpc::start(&outside, dir.path());
    let bound = client.event("bound", 1);
    let last: u8 = bound[1].rsplit('.').next().unwrap().parse().unwrap();
    assert!(bound[1].starts_with("192.168.1.") && (20..=219).contains(&last), "the pool's: {bound:?}");
    assert_eq!(bound[2], "192.168.1.1", "{bound:?}");
    let leases = appliance.call("GET", "/dhcp/v4/leases", Value::Null)["data"].clone();
    assert_eq!(
        (&leases[0]["mac_address"], &leases[0]["hostname"]),
        (&json!("02:00:00:00:00:99"), &json!("laptop"))
    );
    assert!(outside.run("ip -o -4 addr show dev c0").contains(&bound[1]));

    client.signal(Signal::SIGUSR1);
    let renewed = client.event("renew", 1);
    assert_eq!(renewed[1], bound[1], "the same address again");

    let reserved = json!({ "mac_address": "02:00:00:00:00:99", "ip_address": "192.168.1.10" });
    appliance.call("POST", "/dhcp/v4/reservations", reserved);
    appliance.call("POST", "/dhcp/v4/apply", Value::Null);
    appliance.call("DELETE", &format!("/dhcp/v4/leases/{}", bound[1]), Value::Null);
    // Asked to give up what it has, and to begin again.
    client.signal(Signal::SIGUSR2);
    client.event("deconfig", 2);
    client.signal(Signal::SIGUSR1);
    assert_eq!(client.event("bound", 2)[1], "192.168.1.10");

    appliance.call("DELETE", "/dhcp/v4/leases/192.168.1.10", Value::Null);
    let left = appliance
        .until("released", "/dhcp/v4/leases", |leases| leases["data"].as_array().is_some_and(Vec::is_empty));
    assert_eq!(left["total"], 0);
}
