//! A real client (udhcpc) on a link of its own: the appliance as a process in one network namespace, the client in
//! another, a pair of virtual Ethernet interfaces between them. Needs root, or user namespaces.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::link_rig::{Appliance, Namespace};

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
    let appliance = Appliance::start(&inside, dir.path(), true);
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
