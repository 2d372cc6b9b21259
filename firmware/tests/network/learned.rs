//! dhclient(8) as a supervised child: what it learns goes through its script to the firmware, which puts it in force.
//! The client is a stand-in that runs the script as the real one does (dhclient-script(8)); script, command, socket and
//! supervisor are the real ones. So are ifconfig's and route's argument vectors, whose runs a stand-in writes down.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use aifw::api::testing::app_on;
use aifw::config::setup::Setup;
use aifw::config::{Config, Timestamp};
use aifw::pf::sim::Simulator;
use aifw::platform::Platform;
use aifw::platform::freebsd::FreeBsd;
use aifw::store::Author;
use serde_json::json;
use smol::block_on;

/// Written by a shell, so that no thread of this process holds it open while another starts a program.
fn write_program(path: &Path, body: &str) {
    let mut shell = Command::new("sh")
        .args(["-c", "cat >\"$0\" && chmod 755 \"$0\""])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut shell.stdin.take().unwrap(), format!("#!/bin/sh\n{body}\n").as_bytes())
        .unwrap();
    assert!(shell.wait().unwrap().success());
}

/// A FreeBSD whose tools write down what they were run with. The client is bound as soon as there is `offer`, and gives
/// its address up at its end.
fn machine(top: &Path) -> FreeBsd {
    let tools = top.join("tools");
    std::fs::create_dir_all(&tools).unwrap();
    let shown = top.display();
    let log = format!("echo \"${{0##*/}} $*\" >>'{shown}/log'");
    let card = "vtnet0: flags=1008843<UP,BROADCAST,RUNNING,SIMPLEX,MULTICAST,LOWER_UP> metric 0 mtu 1500\n\
                \tether 52:54:00:12:34:56\n\
                \tnd6 options=29<PERFORMNUD,IFDISABLED,AUTO_LINKLOCAL>\n";
    std::fs::write(top.join("ifconfig.txt"), card).unwrap();
    write_program(
        &tools.join("ifconfig"),
        &format!("case \"$*\" in -f*) cat '{shown}/ifconfig.txt' ;; *) {log} ;; esac"),
    );
    let routes =
        r#"{"statistics": {"interface": [], "route-information": {"route-table": {"rt-family": []}}}}"#;
    write_program(&tools.join("netstat"), &format!("echo '{routes}'"));
    write_program(&tools.join("route"), &log);
    write_program(&tools.join("sysctl"), "echo 1");
    let run_script = "env -i PATH=/bin:/usr/bin interface=vtnet0";
    write_program(
        &tools.join("dhclient"),
        &format!(
            "while getopts dc:l:p: flag; do test $flag = c && conf=$OPTARG; done\n\
             script=$(sed -n 's/^script \"\\(.*\\)\";$/\\1/p' \"$conf\")\n\
             {run_script} reason=PREINIT \"$script\"\n\
             {run_script} reason=BOUND new_ip_address=10.0.2.15 new_subnet_mask=255.255.255.0 new_routers=10.0.2.2 \
             new_domain_name_servers=10.0.2.3 new_expiry=4000000000 \"$script\" || exit 1\n\
             echo done >>'{shown}/log'\n\
             trap '{run_script} reason=FAIL \"$script\"; exit 1' TERM\n\
             while :; do sleep 1; done"
        ),
    );
    FreeBsd::with_tools(tools).with_root(top.join("root")).with_firmware(env!("CARGO_BIN_EXE_aifw"))
}

fn configuration() -> Config {
    let file = json!({"wan_interface": "vtnet0", "wan_mode": "dhcp", "lan_interface": "vtnet1", "lan_ip": "192.168.1.1/24"});
    let mut config =
        Setup::parse_without_admin(file.to_string().as_bytes(), Timestamp::UNIX_EPOCH).unwrap().config;
    Arc::make_mut(&mut config.system).dns_servers.clear();
    config
}

async fn until(what: &str, there: impl Fn() -> bool) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(120);
    while !there() {
        assert!(std::time::Instant::now() < end, "{what}");
        async_io::Timer::after(std::time::Duration::from_millis(20)).await;
    }
}

#[test]
fn a_lease_is_put_in_force_and_taken_away() {
    block_on(async {
        // A short path: there is a Unix socket below it.
        let dir = tempfile::Builder::new().prefix("n").tempdir_in("/tmp").unwrap();
        let top = dir.path().to_owned();
        let platform: Arc<dyn Platform> = Arc::new(machine(&top));
        let app = app_on(&top.join("state"), Arc::new(Simulator::new(Vec::new())), platform);
        let config = configuration();
        let stored = app.store.commit(&Author::system("test"), move |draft| {
            draft.config = config.clone();
            draft.applied = config;
            Ok::<_, aifw::api::ApiError>(())
        });
        stored.await.unwrap();
        let background = smol::spawn(app.applier.clone().run());
        // Listening before anybody asks.
        let socket = top.join("root/var/run/aifw/network/event.sock");
        until("the socket", || socket.exists()).await;
        app.applier.start().await.unwrap();
        let log = || std::fs::read_to_string(top.join("log")).unwrap_or_default();
        until("bound", || log().contains("done\n")).await;
        // The script came back only when the address was on the interface.
        let text = log();
        let place = |line: &str| text.find(line).unwrap_or_else(|| panic!("{line}: {text}"));
        let address = place("ifconfig vtnet0 inet 10.0.2.15/24 alias\n");
        let route = place("route -n add -inet default 10.0.2.2 -proto1 -fib 0\n");
        assert!(address < route && route < place("done\n"), "{text}");
        let resolver = || std::fs::read_to_string(top.join("root/etc/resolv.conf")).unwrap_or_default();
        assert_eq!(resolver(), "nameserver 10.0.2.3\n");
        let status = app.services.supervisor().status("dhclient vtnet0").unwrap();
        assert!(status.pid.is_some());
        app.services.shutdown().await;
        until("the name servers gone", || resolver().is_empty()).await;
        background.cancel().await;
    });
}
