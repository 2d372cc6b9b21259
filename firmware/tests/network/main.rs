//! The behaviours of contract/network.md that concern interfaces, VLANs and routes, each under its number; what FreeBSD
//! is told for them is tested beside the platform. `undone.rs`: changes that cut their own caller off. `learned.rs`: what
//! a DHCP client learns is put in force.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod learned;
#[allow(dead_code)]
#[path = "../firewall/rig.rs"]
mod rig;
mod undone;

use std::sync::Arc;

use aifw::api::testing::{Client, app_on};
use aifw::config::setup::Setup;
use aifw::config::{Config, Timestamp};
use aifw::pf::sim::Simulator;
use aifw::platform::sandbox::{NETWORK_RECORD, Sandbox};
use aifw::platform::{Interface, Platform};
use aifw::store::Author;
use rig::{Rig, id};
use serde_json::{Value, json};
use smol::block_on;

/// em0 is the WAN with a static address and the default route, em1 the LAN.
pub fn configuration() -> Config {
    let file = json!({
        "wan_interface": "em0", "wan_mode": "static", "wan_ip": "203.0.113.2/24", "wan_gateway": "203.0.113.1",
        "lan_interface": "em1", "lan_ip": "192.168.1.1/24",
    });
    Setup::parse_without_admin(file.to_string().as_bytes(), Timestamp::UNIX_EPOCH).unwrap().config
}

/// An appliance that has been set up, and started.
pub async fn started() -> Rig {
    let rig = Rig::new();
    set_up(&rig, configuration()).await;
    rig
}

pub async fn set_up(rig: &Rig, config: Config) {
    let stored = rig.app.store.commit(&Author::system("test"), move |draft| {
        draft.config = config.clone();
        draft.applied = config;
        Ok::<_, aifw::api::ApiError>(())
    });
    stored.await.unwrap();
    rig.app.applier.start().await.unwrap();
}

/// The same appliance after a boot: a machine that knows nothing, on the same store.
pub async fn booted(rig: Rig) -> Rig {
    let Rig { app, client, pf, simulator, dir } = rig;
    let root = dir.path().to_owned();
    drop((client, pf));
    app.store.close();
    drop(app);
    let platform: Arc<dyn Platform> = Arc::new(Sandbox::new(&root));
    on_machine(dir, simulator, platform, true).await
}

async fn on_machine(
    dir: tempfile::TempDir,
    simulator: Arc<Simulator>,
    platform: Arc<dyn Platform>,
    start: bool,
) -> Rig {
    let app = Arc::new(app_on(dir.path(), simulator.clone(), platform));
    let client = Client::new(aifw::api::app(app.clone(), aifw::api::routes())).with_bearer("all");
    let rig = Rig { app, client, pf: simulator.clone(), simulator, dir };
    if start {
        rig.app.applier.start().await.unwrap();
    }
    rig
}

/// A machine with these interfaces, of which nothing is configured.
async fn with_interfaces(names: &[&str]) -> Rig {
    let held = names.iter().map(|name| Interface {
        name: (*name).into(),
        up: true,
        mtu: 1500,
        ..Interface::default()
    });
    let dir = tempfile::tempdir().unwrap();
    let platform = Sandbox::new(dir.path());
    platform.set_interfaces(held.collect());
    on_machine(dir, Arc::new(Simulator::new(Vec::new())), Arc::new(platform), false).await
}

pub fn machine(rig: &Rig, name: &str) -> Option<Interface> {
    rig.app.platform.interfaces().unwrap().into_iter().find(|held| held.name == name)
}

pub fn addresses(rig: &Rig, name: &str) -> Vec<String> {
    machine(rig, name).unwrap().addresses.iter().map(ToString::to_string).collect()
}

async fn detail(rig: &Rig, name: &str) -> Value {
    let all = rig.list("/interfaces/detailed").await;
    all.into_iter().find(|row| row["name"] == name).unwrap()
}

async fn system(rig: &Rig, query: &str) -> Vec<String> {
    let rows = rig.list(&format!("/routes/system{query}")).await;
    rows.iter().map(|row| format!("{} {}", row["destination"], row["gateway"]).replace('"', "")).collect()
}

pub async fn put(rig: &Rig, name: &str, body: Value) -> String {
    let (status, answer) = rig.put(&format!("/interfaces/config/{name}"), body.clone()).await;
    assert_eq!(status, 200, "{body}: {answer}");
    answer["message"].as_str().unwrap().to_owned()
}

async fn refused(rig: &Rig, path: &str, body: Value, status: u16) -> String {
    let (got, answer) = if path.starts_with("/interfaces") || path.contains('-') {
        rig.put(path, body.clone()).await
    } else {
        rig.post(path, body.clone()).await
    };
    assert_eq!(got, status, "{path} {body}: {answer}");
    assert_eq!(answer["error"], answer["message"]);
    answer["message"].as_str().unwrap().to_owned()
}

#[test]
fn b01_lists_leave_out_what_no_packet_passes() {
    block_on(async {
        let rig = with_interfaces(&["em0", "em1", "lo0", "pflog0", "enc0", "pfsync0"]).await;
        assert_eq!(rig.column("/interfaces", "name").await, ["em0", "em1"]);
        assert_eq!(rig.column("/interfaces/detailed", "name").await, ["em0", "em1", "lo0"]);
        assert_eq!(rig.put("/interfaces/config/lo0", json!({"mtu": 1400})).await.0, 400);
    });
}

#[test]
fn b02_a_netmask_is_a_hexadecimal_number() {
    block_on(async {
        let rig = started().await;
        let wan = detail(&rig, "em0").await;
        assert_eq!((&wan["ipv4"], &wan["ipv4_netmask"]), (&json!("203.0.113.2"), &json!("0xffffff00")));
        assert_eq!((&wan["ipv4_prefix"], &wan["addresses"]), (&json!(24), &json!(["203.0.113.2/24"])));
        assert_eq!((&wan["ipv4_mode"], &wan["role"]), (&json!("static"), &json!("WAN")));
        assert_eq!(
            (&wan["gateway"], &wan["mtu"], &wan["link"]),
            (&json!("203.0.113.1"), &json!(1500), &json!("active"))
        );
        let lan = detail(&rig, "em1").await;
        assert_eq!(
            (&lan["gateway"], &lan["is_vlan"], &lan["role"]),
            (&Value::Null, &json!(false), &json!("LAN"))
        );
        let (status, stats) = rig.get("/interfaces/em0/stats").await;
        assert_eq!((status, &stats["data"]["bytes_in"]), (200, &json!(0)));
        assert_eq!(rig.get("/interfaces/em9/stats").await.0, 404);
    });
}

#[test]
fn b03_a_static_address_without_its_prefix_changes_nothing() {
    block_on(async {
        let rig = started().await;
        let before = rig.app.platform.interfaces().unwrap();
        for address in
            [json!(null), json!(""), json!("192.168.1.1"), json!("10.0.0.300/24"), json!("10.0.0.0/24")]
        {
            let body = json!({"ipv4_mode": "static", "ipv4_address": address, "mtu": 1400});
            let said = refused(&rig, "/interfaces/config/em1", body, 400).await;
            assert!(said.starts_with("ipv4_address: expected"), "{said}");
        }
        assert_eq!(rig.app.platform.interfaces().unwrap(), before);
        // Another interface's.
        let body = json!({"ipv4_mode": "static", "ipv4_address": "203.0.113.2/24"});
        let said = refused(&rig, "/interfaces/config/em1", body, 409).await;
        assert_eq!(said, "203.0.113.2 is the address of em0");
    });
}

#[test]
fn b04_what_is_out_of_range_is_refused() {
    block_on(async {
        let rig = started().await;
        for body in
            [json!({"mtu": 67}), json!({"mtu": 9001}), json!({"ipv4_mode": "pppoe"}), json!({"mtu": "x"})]
        {
            refused(&rig, "/interfaces/config/em1", body, 400).await;
        }
        refused(&rig, "/interfaces/config/em0;reboot", json!({"mtu": 1500}), 400).await;
        refused(&rig, "/interfaces/config/em0%20x", json!({"mtu": 1500}), 400).await;
        assert_eq!(rig.put("/interfaces/config/em9", json!({"mtu": 1500})).await.0, 404);
        let said = refused(&rig, "/interfaces/config/em0", json!({"ipv6_mode": "dhcp"}), 400).await;
        assert!(said.contains("FreeBSD's base system has no DHCPv6 client"), "{said}");
    });
}

#[test]
fn b05_a_gateway_on_the_lan_leaves_the_default_route_where_it_is() {
    block_on(async {
        let rig = started().await;
        let body =
            json!({"ipv4_mode": "static", "ipv4_address": "192.168.1.1/24", "gateway": "192.168.1.254"});
        let said = put(&rig, "em1", body).await;
        assert_eq!(said, "Interface em1 configured: gateway 192.168.1.254, the default route stays with em0");
        assert_eq!(system(&rig, "").await[0], "default 203.0.113.1");
        // It takes over when nobody else has one.
        put(&rig, "em0", json!({"gateway": ""})).await;
        assert_eq!(system(&rig, "").await[0], "default 192.168.1.254");
        assert_eq!(detail(&rig, "em1").await["gateway"], "192.168.1.254");
        put(&rig, "em1", json!({"gateway": ""})).await;
        assert!(system(&rig, "").await.iter().all(|line| !line.starts_with("default")));
    });
}

#[test]
fn b06_what_was_set_is_there_after_a_boot() {
    block_on(async {
        let rig = started().await;
        let body = json!({"ipv4_mode": "static", "ipv4_address": "192.168.7.1/25", "mtu": 1400, "enabled": true,
            "description": "office", "ipv6_address": "2001:db8:7::1"});
        let said = put(&rig, "em1", body).await;
        let expected =
            "Interface em1 configured: mtu 1400, IPv4 192.168.7.1/25, IPv6 2001:db8:7::1/64, description";
        assert_eq!(said, expected);
        assert_eq!(addresses(&rig, "em1"), ["192.168.7.1/25", "2001:db8:7::1/64"]);
        put(&rig, "em0", json!({"enabled": false})).await;
        let rig = booted(rig).await;
        let lan = machine(&rig, "em1").unwrap();
        assert_eq!((lan.mtu, lan.up, lan.description.as_deref()), (1400, true, Some("office")));
        assert_eq!(addresses(&rig, "em1"), ["192.168.7.1/25", "2001:db8:7::1/64"]);
        assert!(!machine(&rig, "em0").unwrap().up);
        let (_, held) = rig.get("/interfaces/config/em1").await;
        assert_eq!(
            held["data"],
            json!({"name": "em1", "ipv4_mode": "static", "ipv4_address": "192.168.7.1/25", "gateway": null,
                "ipv6_mode": "static", "ipv6_address": "2001:db8:7::1/64", "ipv6_gateway": null,
                "mtu": 1400, "enabled": true, "description": "office"})
        );
        // Recorded, for who wants to see what a machine would have been told.
        let record = std::fs::read_to_string(rig.dir.path().join(NETWORK_RECORD)).unwrap();
        assert!(record.contains("192.168.7.1/25"), "{record}");
    });
}

#[test]
fn b06_dhcp_and_routers_give_addresses_that_last_as_settings() {
    block_on(async {
        let rig = started().await;
        let said = put(&rig, "em0", json!({"ipv4_mode": "dhcp", "ipv6_mode": "slaac"})).await;
        assert_eq!(said, "Interface em0 configured: IPv4 by DHCP, no gateway, IPv6 from routers");
        assert_eq!(addresses(&rig, "em0").len(), 2);
        let wan = detail(&rig, "em0").await;
        assert_eq!((&wan["ipv4_mode"], &wan["ipv6_mode"]), (&json!("dhcp"), &json!("slaac")));
        assert_eq!(wan["gateway"], "203.0.113.1");
        // A form that sends back what it has read changes nothing.
        let body = json!({"mtu": 1500, "enabled": true, "ipv4_mode": "dhcp", "ipv6_address": wan["ipv6"]});
        put(&rig, "em0", body).await;
        let (_, held) = rig.get("/interfaces/config/em0").await;
        assert_eq!(
            (&held["data"]["ipv6_mode"], &held["data"]["ipv4_mode"]),
            (&json!("slaac"), &json!("dhcp"))
        );
        assert_eq!(rig.app.store.snapshot().applied.system.wan_mode, aifw::config::system::WanMode::Dhcp);
    });
}

#[test]
fn an_interface_that_nobody_configured_keeps_what_it_has() {
    block_on(async {
        let rig = Rig::new();
        assert_eq!(
            put(&rig, "em1", json!({"description": "lab"})).await,
            "Interface em1 configured: description"
        );
        assert_eq!(addresses(&rig, "em1"), ["192.168.1.1/24"]);
        assert_eq!(addresses(&rig, "em0"), ["203.0.113.2/24"]);
    });
}

#[test]
fn b07_roles_are_given_and_taken() {
    block_on(async {
        let rig = started().await;
        assert_eq!(rig.get("/interfaces/roles").await.1["data"], json!([["em0", "WAN"], ["em1", "LAN"]]));
        let (status, _) = rig.delete("/interfaces/em0/role").await;
        assert_eq!(status, 200);
        assert_eq!(rig.get("/interfaces/em0/role").await.1["data"], json!({"name": "em0", "role": null}));
        assert_eq!(rig.app.store.snapshot().applied.system.wan_interface, None);
        let (status, _) = rig.put("/interfaces/em0/role", json!({"role": "wan"})).await;
        assert_eq!(status, 200);
        let roles = rig.get("/interfaces/roles").await.1["data"].clone();
        assert!(roles.as_array().unwrap().contains(&json!(["em0", "WAN"])), "{roles}");
        assert_eq!(rig.get("/interfaces/em0/role").await.1["data"]["role"], "WAN");
        // The addresses stay what they were; the main rules know the WAN again.
        assert_eq!(addresses(&rig, "em0"), ["203.0.113.2/24"]);
        let known = rig.app.store.snapshot().applied.system.wan_interface.clone();
        assert_eq!(known.map(|name| name.to_string()).as_deref(), Some("em0"));
        assert_eq!(rig.delete("/interfaces/em0/role").await.0, 200);
        assert_eq!(rig.delete("/interfaces/em0/role").await.0, 200);
        for body in [json!({"role": ""}), json!({"role": "a b"}), json!({"role": "x".repeat(33)}), json!({})]
        {
            refused(&rig, "/interfaces/em0/role", body, 400).await;
        }
        assert_eq!(rig.put("/interfaces/em9/role", json!({"role": "WAN"})).await.0, 404);
        assert_eq!(rig.get("/interfaces/em9/role").await.0, 404);
    });
}

#[test]
fn b08_a_vlan_waits_for_the_reload() {
    block_on(async {
        let rig = started().await;
        for (body, field) in [
            (json!({"vlan_id": 0, "parent": "em1"}), "vlan_id"),
            (json!({"vlan_id": 4095, "parent": "em1"}), "vlan_id"),
            (json!({"vlan_id": 70000, "parent": "em1"}), "vlan_id"),
            (json!({"vlan_id": 5, "parent": "nosuch0"}), "parent"),
            (json!({"vlan_id": 5}), "parent"),
            (json!({"vlan_id": 5, "parent": "em1", "mtu": 1600}), "mtu"),
            (json!({"vlan_id": 5, "parent": "em1", "ipv4_mode": "static"}), "ipv4_address"),
        ] {
            let said = refused(&rig, "/vlans", body, 400).await;
            assert!(said.contains(field), "{said}");
        }
        assert_eq!(rig.get("/pending").await.1["firewall"], false);
        let body = json!({"vlan_id": 100, "parent": "em1", "ipv4_mode": "static", "ipv4_address": "10.100.0.1/24",
            "description": " guests "});
        let made = rig.create("/vlans", body.clone()).await;
        assert_eq!(
            (&made["device"], &made["mtu"], &made["description"]),
            (&json!("vlan100"), &json!(1500), &json!("guests"))
        );
        assert_eq!(rig.get("/pending").await.1["firewall"], true);
        assert!(machine(&rig, "vlan100").is_none());
        // It is to come, and shown so.
        let shown = rig.list("/interfaces").await;
        assert_eq!(
            shown.last().unwrap(),
            &json!({"name": "vlan100", "ipv4": null, "ipv6": null, "status": "down", "mac": null, "role": null})
        );
        assert_eq!(rig.post("/vlans", body).await.0, 409);
        rig.reload().await;
        assert_eq!(addresses(&rig, "vlan100"), ["10.100.0.1/24"]);
        assert_eq!(rig.get("/pending").await.1["firewall"], false);
        let vlan = detail(&rig, "vlan100").await;
        assert_eq!(
            (&vlan["is_vlan"], &vlan["vlan_id"], &vlan["vlan_parent"]),
            (&json!(true), &json!(100), &json!("em1"))
        );
    });
}

#[test]
fn a_vlan_may_lie_on_a_bundle_of_links() {
    block_on(async {
        let rig = with_interfaces(&["lagg0", "em0"]).await;
        let made = rig.create("/vlans", json!({"vlan_id": 30, "parent": "lagg0", "ipv4_mode": "dhcp"})).await;
        assert_eq!((&made["device"], &made["parent"]), (&json!("vlan30"), &json!("lagg0")));
        rig.reload().await;
        assert_eq!(machine(&rig, "vlan30").unwrap().vlan.unwrap().parent, "lagg0");
        assert!(!addresses(&rig, "vlan30").is_empty());
    });
}

#[test]
fn b09_two_vlans_on_one_parent_are_there_after_a_boot() {
    block_on(async {
        let rig = started().await;
        for body in [
            json!({"vlan_id": 100, "parent": "em1"}),
            json!({"vlan_id": 200, "parent": "em1", "mtu": 1400}),
            json!({"vlan_id": 100, "parent": "em0"}),
        ] {
            rig.create("/vlans", body).await;
        }
        rig.reload().await;
        let rig = booted(rig).await;
        for (name, parent) in [("vlan100", "em1"), ("vlan200", "em1"), ("em0.100", "em0")] {
            let vlan = machine(&rig, name).unwrap();
            assert_eq!(vlan.vlan.unwrap().parent, parent);
        }
        assert_eq!(machine(&rig, "vlan200").unwrap().mtu, 1400);
    });
}

#[test]
fn b10_a_deleted_vlan_goes_with_the_reload() {
    block_on(async {
        let rig = started().await;
        let made = rig.create("/vlans", json!({"vlan_id": 7, "parent": "em1"})).await;
        rig.reload().await;
        let one = format!("/vlans/{}", id(&made));
        let (status, changed) = rig.put(&one, json!({"vlan_id": 7, "parent": "em1", "mtu": 1300})).await;
        assert_eq!((status, &changed["data"]["mtu"]), (200, &json!(1300)));
        assert_eq!(changed["data"]["created_at"], made["created_at"]);
        assert_eq!(machine(&rig, "vlan7").unwrap().mtu, 1500);
        rig.reload().await;
        assert_eq!(machine(&rig, "vlan7").unwrap().mtu, 1300);
        let (status, answer) = rig.delete(&one).await;
        assert_eq!(status, 200, "{answer}");
        assert!(machine(&rig, "vlan7").is_some());
        rig.reload().await;
        assert!(machine(&rig, "vlan7").is_none());
        assert_eq!(rig.delete(&one).await.0, 404);
        assert_eq!(rig.delete("/vlans/nonsense").await.0, 404);
    });
}

#[test]
fn b11_a_route_is_in_the_kernel_at_once() {
    block_on(async {
        let rig = started().await;
        for body in [
            json!({"destination": "not-an-ip", "gateway": "192.168.1.1"}),
            json!({"destination": "10.0.0.0/8", "gateway": "not-an-ip"}),
            json!({"destination": "10.0.0.0/33", "gateway": "192.168.1.1"}),
            json!({"destination": "10.0.0.0/8"}),
            json!({"destination": "10.0.0.0/8", "gateway": "192.168.1.1", "interface": "em9"}),
            json!({"destination": "10.0.0.0/8", "gateway": "192.168.1.1", "fib": 16}),
        ] {
            refused(&rig, "/routes", body, 400).await;
        }
        let made =
            rig.create("/routes", json!({"destination": "10.1.2.3/8", "gateway": "192.168.1.2"})).await;
        assert_eq!(
            (&made["destination"], &made["metric"], &made["installed"]),
            (&json!("10.0.0.0/8"), &json!(0), &json!(true))
        );
        assert!(system(&rig, "").await.contains(&"10.0.0.0/8 192.168.1.2".to_owned()));
        let body = json!({"destination": "10.0.0.0/8", "gateway": "192.168.1.2"});
        assert_eq!(rig.post("/routes", body).await.0, 409);
        // What the kernel does not take stays, and says why.
        let (status, answer) =
            rig.post("/routes", json!({"destination": "172.16.0.0/12", "gateway": "9.9.9.9"})).await;
        assert_eq!((status, &answer["data"]["installed"]), (201, &json!(false)));
        assert!(answer["warning"].as_str().unwrap().contains("Network is unreachable"), "{answer}");
        assert_eq!(rig.column("/routes", "installed").await, [true, false]);
    });
}

#[test]
fn b12_a_route_is_in_its_own_table() {
    block_on(async {
        let rig = started().await;
        let body =
            json!({"destination": "10.0.0.0/8", "gateway": "192.168.1.2", "fib": 1, "interface": "em1"});
        rig.create("/routes", body).await;
        let line = "10.0.0.0/8 192.168.1.2".to_owned();
        assert!(system(&rig, "?fib=1").await.contains(&line));
        assert!(!system(&rig, "").await.contains(&line));
        assert!(!system(&rig, "?fib=nonsense").await.contains(&line));
        assert_eq!(rig.get("/routes/system?fib=99").await.0, 400);
        rig.create(
            "/routes",
            json!({"destination": "2001:db8::/32", "gateway": "fe80::1", "interface": "em1"}),
        )
        .await;
        assert!(!system(&rig, "").await.contains(&"2001:db8::/32 fe80::1".to_owned()));
        assert!(system(&rig, "?family=inet6").await.contains(&"2001:db8::/32 fe80::1".to_owned()));
        assert!(system(&rig, "?family=all").await.len() > system(&rig, "").await.len());
        assert_eq!(rig.get("/routes/system?family=ipx").await.0, 400);
    });
}

#[test]
fn b13_a_disabled_route_leaves_the_kernel() {
    block_on(async {
        let rig = started().await;
        let far = json!({"destination": "10.0.0.0/8", "gateway": "192.168.1.3", "metric": 100});
        let far = rig.create("/routes", far).await;
        let near = json!({"destination": "10.0.0.0/8", "gateway": "192.168.1.2", "metric": 5});
        let mut near = rig.create("/routes", near).await;
        assert_eq!(rig.column("/routes", "installed").await, [true, false]);
        near["enabled"] = json!(false);
        let one = format!("/routes/{}", id(&near));
        let (status, answer) = rig.put(&one, near.clone()).await;
        assert_eq!((status, &answer["data"]["created_at"]), (200, &near["created_at"]));
        // The next one takes over.
        let table = system(&rig, "").await;
        assert!(table.contains(&"10.0.0.0/8 192.168.1.3".to_owned()), "{table:?}");
        assert!(!table.contains(&"10.0.0.0/8 192.168.1.2".to_owned()), "{table:?}");
        assert_eq!(rig.delete(&format!("/routes/{}", id(&far))).await.0, 200);
        assert!(system(&rig, "").await.iter().all(|line| !line.starts_with("10.0.0.0/8")));
        assert_eq!(rig.delete(&format!("/routes/{}", id(&far))).await.0, 404);
        assert_eq!(rig.put("/routes/nonsense", near).await.0, 404);
        let rig = booted(rig).await;
        assert_eq!(rig.column("/routes", "installed").await, [false]);
    });
}

#[test]
fn b18_who_may_only_read_writes_nothing() {
    block_on(async {
        let rig = started().await;
        let viewer = rig.client.with_bearer("interfaces:read");
        for (method, path) in [
            ("PUT", "/interfaces/em0/role"),
            ("DELETE", "/interfaces/em0/role"),
            ("PUT", "/interfaces/config/em0"),
            ("POST", "/vlans"),
            ("PUT", "/vlans/00000000-0000-4000-8000-000000000000"),
            ("DELETE", "/vlans/00000000-0000-4000-8000-000000000000"),
            ("POST", "/routes"),
            ("PUT", "/routes/00000000-0000-4000-8000-000000000000"),
            ("DELETE", "/routes/00000000-0000-4000-8000-000000000000"),
        ] {
            let (status, answer) = viewer.request(method, path).json(json!({})).await;
            assert_eq!(status, 403, "{method} {path}: {answer}");
        }
        for path in [
            "/interfaces",
            "/interfaces/detailed",
            "/interfaces/roles",
            "/vlans",
            "/routes",
            "/routes/system",
        ] {
            assert_eq!(viewer.get(path).await.0, 200, "{path}");
        }
    });
}

#[test]
fn each_write_is_one_audit_entry_that_says_what_was_done() {
    block_on(async {
        let rig = started().await;
        let before = rig.audit().len();
        put(&rig, "em1", json!({"mtu": 1400})).await;
        let made =
            rig.create("/routes", json!({"destination": "10.0.0.0/8", "gateway": "192.168.1.2"})).await;
        rig.put("/interfaces/em1/role", json!({"role": "OFFICE"})).await;
        rig.create("/vlans", json!({"vlan_id": 9, "parent": "em1", "mtu": 1400})).await;
        rig.delete(&format!("/routes/{}", id(&made))).await;
        let entries = rig.audit();
        let told: Vec<&str> =
            entries[..entries.len() - before].iter().rev().map(|entry| entry.details.as_str()).collect();
        assert_eq!(
            told,
            [
                "interface em1 configured: mtu 1400 (user tester)",
                "route to 10.0.0.0/8 through 192.168.1.2 in FIB 0 added (user tester)",
                "interface em1 is OFFICE (user tester)",
                "VLAN 9 on em1 added (user tester)",
                "route to 10.0.0.0/8 through 192.168.1.2 in FIB 0 removed (user tester)",
            ]
        );
    });
}
