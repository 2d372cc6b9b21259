//! The whole way against stand-ins for the tools, which keep what they were run with. They show what is asked and in
//! which order, not what the tools do.
#![allow(clippy::unwrap_used)]

use std::process::{Command as Process, Stdio};

use serde_json::json;

use super::lease::{Event, Lease};
use super::*;
use crate::compile::os::network::settings;
use crate::config::setup::Setup;
use crate::config::{Config, Timestamp};
use crate::platform::Platform;

/// A machine in a directory: `tools/` with the stand-ins, `root/` with its files, `log` with what was run.
struct Bench {
    dir: tempfile::TempDir,
    machine: FreeBsd,
}

/// What the machine of the tests is: one card with an address and IPv6 off, one with nothing.
const IFCONFIG: &str = "\
vtnet0: flags=1008843<UP,BROADCAST,RUNNING,SIMPLEX,MULTICAST,LOWER_UP> metric 0 mtu 1500
\tether 52:54:00:12:34:56
\tnd6 options=29<PERFORMNUD,IFDISABLED,AUTO_LINKLOCAL>
vtnet1: flags=1008802<BROADCAST,SIMPLEX,MULTICAST,LOWER_UP> metric 0 mtu 1500
\tether 52:54:00:12:34:57
\tnd6 options=29<PERFORMNUD,IFDISABLED,AUTO_LINKLOCAL>
";

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tools = dir.path().join("tools");
        std::fs::create_dir_all(&tools).unwrap();
        std::fs::write(dir.path().join("ifconfig.txt"), IFCONFIG).unwrap();
        std::fs::write(
            dir.path().join("netstat.json"),
            r#"{"statistics": {"route-information": {"route-table": {"rt-family": []}}}}"#,
        )
        .unwrap();
        let top = dir.path().display();
        let shown = |name: &str, when: &str, file: &str| {
            format!(
                "case \"$*\" in {when}) cat '{top}/{file}' ;; *) echo \"{name} $*\" >>'{top}/log' ;; esac"
            )
        };
        // A gateway that is not on a link of the table cannot be reached, as route(8) says it.
        let route = format!(
            "echo \"route $*\" >>'{top}/log'\n\
             case \"$*\" in *'add -inet -net 198.18.0.0/15'*) test -e '{top}/reachable' || {{\n\
             echo 'route: message indicates error: Invalid argument' >&2; exit 1; }} ;;\n\
             *'-interface'*) touch '{top}/reachable' ;; esac"
        );
        let sysctl = format!(
            "case \"$*\" in '-n net.fibs') echo 2 ;; '-n net.inet6.ip6.rfc6204w3') echo 0 ;;\n\
             *) echo \"sysctl $*\" >>'{top}/log' ;; esac"
        );
        for (name, body) in [
            ("ifconfig", shown("ifconfig", "-f*", "ifconfig.txt")),
            ("netstat", shown("netstat", "--libxo*", "netstat.json")),
            ("route", route),
            ("sysctl", sysctl),
        ] {
            // The shell writes it, so that no thread of this process holds it open while another starts a program.
            let mut shell = Process::new("sh")
                .args(["-c", "cat >\"$0\" && chmod 755 \"$0\""])
                .arg(tools.join(name))
                .stdin(Stdio::piped())
                .spawn()
                .unwrap();
            let script = format!("#!/bin/sh\n{body}\n");
            std::io::Write::write_all(&mut shell.stdin.take().unwrap(), script.as_bytes()).unwrap();
            assert!(shell.wait().unwrap().success());
        }
        let machine = FreeBsd::with_tools(&tools).with_root(dir.path().join("root"));
        Self { dir, machine }
    }

    fn ran(&self) -> Vec<String> {
        let path = self.dir.path().join("log");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        std::fs::remove_file(&path).ok();
        text.lines().map(str::to_owned).collect()
    }

    fn told(&self, interface: &str, event: &Event) {
        let name = InterfaceName::new(interface).unwrap();
        lease::report(&directory(&self.machine), &name, event).unwrap();
    }

    fn resolver(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("root/etc/resolv.conf")).unwrap_or_default()
    }
}

fn set_up(file: serde_json::Value) -> Config {
    Setup::parse_without_admin(file.to_string().as_bytes(), Timestamp::UNIX_EPOCH).unwrap().config
}

fn with_dhcp() -> Config {
    let mut config = set_up(json!({
        "wan_interface": "vtnet0", "wan_mode": "dhcp", "lan_interface": "vtnet1", "lan_ip": "192.168.1.1/24",
    }));
    std::sync::Arc::make_mut(&mut config.system).dns_servers.clear();
    config
}

#[test]
fn a_setup_file_with_dhcp_configures_wan_and_lan() {
    let bench = Bench::new();
    let wanted = settings(&with_dhcp());
    let report = bench.machine.configure_network(&wanted);
    assert_eq!(report.problems().collect::<Vec<_>>(), Vec::<String>::new());
    // The WAN waits for its lease.
    assert_eq!(bench.ran(), ["ifconfig vtnet1 inet 192.168.1.1/24 alias", "ifconfig vtnet1 up"]);
    let lease = Lease {
        address: "10.0.2.15/24".parse().unwrap(),
        routes: vec![("0.0.0.0/0".parse().unwrap(), "10.0.2.2".parse().unwrap())],
        name_servers: vec!["10.0.2.3".parse().unwrap()],
        expires: u64::MAX,
    };
    bench.told("vtnet0", &Event::Lease(lease));
    bench.machine.configure_network(&wanted);
    let ran = bench.ran();
    assert_eq!(ran[0], "ifconfig vtnet0 inet 10.0.2.15/24 alias");
    assert_eq!(ran.last().unwrap(), "route -n add -inet default 10.0.2.2 -proto1 -fib 0");
    assert_eq!(bench.resolver(), "nameserver 10.0.2.3\n");
    bench.told("vtnet0", &Event::LeaseLost);
    bench.machine.configure_network(&wanted);
    assert!(!bench.ran().contains(&"ifconfig vtnet0 inet 10.0.2.15/24 alias".to_owned()));
    assert_eq!(bench.resolver(), "");
}

#[test]
fn the_client_is_told_its_own_files_and_runs_our_script() {
    let bench = Bench::new();
    let wanted = settings(&with_dhcp());
    bench.machine.configure_network(&wanted);
    let root = bench.dir.path().join("root");
    let run = root.join("var/run/aifw/network");
    let text = std::fs::read_to_string(run.join("vtnet0.dhclient.conf")).unwrap();
    let script = run.join("network-script");
    assert!(text.starts_with(&format!("script \"{}\";\n", script.display())), "{text}");
    assert!(std::fs::read_to_string(&script).unwrap().starts_with("#!/bin/sh\n"));
    assert!(root.join("data/aifw/dhclient").is_dir());
    let children = bench.machine.network_children(&wanted);
    assert_eq!(children.len(), 1);
    assert_eq!(children[0].name, "dhclient vtnet0");
    let shown = children[0].arguments.join(" ").replace(&root.display().to_string(), "");
    assert_eq!(
        shown,
        "-d -c /var/run/aifw/network/vtnet0.dhclient.conf -l /data/aifw/dhclient/vtnet0.leases \
         -p /var/run/aifw/network/vtnet0.dhclient.pid vtnet0"
    );
}

#[test]
fn routers_are_listened_to_where_addresses_come_from_them() {
    let bench = Bench::new();
    let mut config = with_dhcp();
    crate::config::network::materialise(&mut config);
    let name = InterfaceName::new("vtnet0").unwrap();
    let mut row = (**config.interfaces.get(&name).unwrap()).clone();
    row.addressing.inet = crate::config::network::Inet::None;
    row.addressing.inet6 = crate::config::network::Inet6::Slaac;
    config.interfaces.insert(row);
    let wanted = settings(&config);
    bench.told("vtnet0", &Event::NameServers(vec!["2001:db8::53".parse().unwrap()]));
    bench.machine.configure_network(&wanted);
    let ran = bench.ran();
    assert!(ran.contains(&"ifconfig vtnet0 inet6 accept_rtadv".to_owned()), "{ran:?}");
    assert!(ran.contains(&"sysctl net.inet6.ip6.rfc6204w3=1".to_owned()), "{ran:?}");
    assert_eq!(bench.resolver(), "nameserver 2001:db8::53\n");
    let children = bench.machine.network_children(&wanted);
    let shown = children[0].arguments.join(" ");
    assert!(shown.starts_with("-f -R /") && shown.ends_with("/network-script vtnet0"), "{shown}");
}

#[test]
fn b12_a_gateway_that_its_table_does_not_know_is_put_on_its_link() {
    let bench = Bench::new();
    let mut config = with_dhcp();
    let route = json!({"destination": "198.18.0.0/15", "gateway": "192.168.1.2", "fib": 3});
    let request: crate::config::route::RouteRequest = serde_json::from_value(route).unwrap();
    config.static_routes.insert(request.create(Timestamp::UNIX_EPOCH, &config).unwrap());
    let report = bench.machine.configure_network(&settings(&config));
    assert_eq!(report.problems().count(), 0, "{report:?}");
    let ran = bench.ran();
    assert_eq!(
        ran[ran.len() - 4..],
        [
            "sysctl net.fibs=4",
            "route -n add -inet -net 198.18.0.0/15 192.168.1.2 -proto1 -fib 3",
            "route -n add -inet -host 192.168.1.2 -interface vtnet1 -proto1 -fib 3",
            "route -n add -inet -net 198.18.0.0/15 192.168.1.2 -proto1 -fib 3",
        ]
    );
}

#[test]
fn b11_a_gateway_in_no_network_is_said_to_be_in_none() {
    let bench = Bench::new();
    let mut config = with_dhcp();
    let route = json!({"destination": "198.18.0.0/15", "gateway": "9.9.9.9"});
    let request: crate::config::route::RouteRequest = serde_json::from_value(route).unwrap();
    config.static_routes.insert(request.create(Timestamp::UNIX_EPOCH, &config).unwrap());
    let report = bench.machine.configure_network(&settings(&config));
    let problems: Vec<String> = report.problems().collect();
    assert!(problems[0].contains("9.9.9.9 is in no network of an interface"), "{problems:?}");
}

#[test]
fn what_cannot_be_done_is_told_and_stops_nothing_else() {
    let bench = Bench::new();
    let mut config = with_dhcp();
    std::sync::Arc::make_mut(&mut config.system).wan_interface = Some("em9".parse().unwrap());
    let report = bench.machine.configure_network(&settings(&config));
    assert_eq!(report.problems().collect::<Vec<_>>(), ["em9: there is no such interface"]);
    assert_eq!(report.problem_of("em9").as_deref(), Some("em9: there is no such interface"));
    assert!(bench.ran().contains(&"ifconfig vtnet1 up".to_owned()));
}
