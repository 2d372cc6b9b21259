//! From what FreeBSD 15.1 printed to what must be run, word by word.
#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;
use crate::compile::os::network::settings;
use crate::config::network::{Addressing, Inet, Inet6, InterfaceSettings, VlanRequest};
use crate::config::{Config, Timestamp};
use crate::platform::freebsd::interfaces::read;

/// Of a running system (shared/freebsd-15.1/ifconfig-cidr.txt), shortened.
const IFCONFIG: &str = "\
vtnet0: flags=1008843<UP,BROADCAST,RUNNING,SIMPLEX,MULTICAST,LOWER_UP> metric 0 mtu 1500
\toptions=880028<VLAN_MTU,JUMBO_MTU,LINKSTATE,HWSTATS>
\tether 52:54:00:12:34:56
\tinet 10.0.2.15/24 broadcast 10.0.2.255
\tmedia: Ethernet autoselect (10Gbase-T <full-duplex>)
\tstatus: active
\tnd6 options=29<PERFORMNUD,IFDISABLED,AUTO_LINKLOCAL>
vtnet1: flags=1008943<UP,BROADCAST,RUNNING,PROMISC,SIMPLEX,MULTICAST,LOWER_UP> metric 0 mtu 1500
\tether 52:54:00:12:34:57
\tinet 192.168.1.1/24 broadcast 192.168.1.255
\tinet 192.168.1.254/32 broadcast 192.168.1.254 vhid 7
\tinet6 fd00:1::1/64
\tinet6 fe80::5054:ff:fe12:3457%vtnet1/64 scopeid 0x2
\tcarp: MASTER vhid 7 advbase 1 advskew 100
\t      peer 224.0.0.18 peer6 ff02::12
\tstatus: active
\tnd6 options=21<PERFORMNUD,AUTO_LINKLOCAL>
vlan10: flags=1008943<UP,BROADCAST,RUNNING,PROMISC,SIMPLEX,MULTICAST,LOWER_UP> metric 0 mtu 1500
\tether 52:54:00:12:34:57
\tinet 10.10.0.1/24 broadcast 10.10.0.255
\tgroups: vlan
\tvlan: 10 vlanproto: 802.1q vlanpcp: 0 parent interface: vtnet1
\tnd6 options=29<PERFORMNUD,IFDISABLED,AUTO_LINKLOCAL>
vtnet1.20: flags=1008842<BROADCAST,RUNNING,SIMPLEX,MULTICAST,LOWER_UP> metric 0 mtu 1500
\tdescription: guest net
\tether 52:54:00:12:34:57
\tinet 10.20.0.1/24 broadcast 10.20.0.255
\tgroups: vlan aifw
\tvlan: 20 vlanproto: 802.1q vlanpcp: 0 parent interface: vtnet1
\tnd6 options=29<PERFORMNUD,IFDISABLED,AUTO_LINKLOCAL>
";

fn row(name: &str, addressing: Addressing) -> InterfaceSettings {
    InterfaceSettings { name: name.parse().unwrap(), addressing }
}

fn inet(text: &str) -> Addressing {
    Addressing { inet: Inet::Static(text.parse().unwrap()), ..Addressing::default() }
}

fn config(rows: impl IntoIterator<Item = InterfaceSettings>) -> Config {
    let mut config = Config::default();
    rows.into_iter().for_each(|row| {
        config.interfaces.insert(row);
    });
    config
}

fn run(config: &Config) -> Vec<String> {
    let (seen, wanted) = (read(IFCONFIG), settings(config));
    let mut commands = vlans(&seen, &wanted.vlans);
    commands.extend(interfaces(&seen, &wanted));
    commands.iter().map(|command| command.arguments.join(" ")).collect()
}

#[test]
fn what_is_as_it_should_be_is_not_touched() {
    let mut lan = inet("192.168.1.1/24");
    lan.inet6 = Inet6::Static("fd00:1::1/64".parse().unwrap());
    lan.mtu = Some(1500);
    let same = config([row("vtnet0", inet("10.0.2.15/24")), row("vtnet1", lan)]);
    // The device of our own that is no longer wanted goes; the other was made by somebody else.
    assert_eq!(run(&same), ["vtnet1.20 destroy"]);
}

#[test]
fn b06_one_address_takes_the_place_of_the_old_one_and_a_shared_one_stays() {
    let changed = config([row("vtnet1", inet("192.168.7.1/24"))]);
    assert_eq!(
        run(&changed),
        [
            "vtnet1.20 destroy",
            "vtnet1 inet 192.168.1.1 -alias",
            "vtnet1 inet 192.168.7.1/24 alias",
            "vtnet1 inet6 fd00:1::1 -alias",
            "vtnet1 inet6 ifdisabled",
        ]
    );
    let wider = config([row("vtnet0", inet("10.0.2.15/16"))]);
    assert_eq!(run(&wider)[1..], ["vtnet0 inet 10.0.2.15 -alias", "vtnet0 inet 10.0.2.15/16 alias"]);
}

#[test]
fn state_mtu_and_description() {
    let mut off = inet("10.0.2.15/24");
    (off.enabled, off.mtu, off.description) = (false, Some(1400), Some("up; rm -rf $HOME".into()));
    assert_eq!(
        run(&config([row("vtnet0", off)]))[1..],
        ["vtnet0 down", "vtnet0 mtu 1400", "vtnet0 description up; rm -rf $HOME"]
    );
    let seen = read(IFCONFIG);
    let wanted = settings(&config([row("vtnet1.20", inet("10.20.0.1/24"))]));
    let commands = interfaces(&seen, &wanted);
    let shown: Vec<_> = commands.iter().map(|command| command.arguments.join(" ")).collect();
    assert_eq!(shown, ["vtnet1.20 -description", "vtnet1.20 up"]);
}

#[test]
fn ipv6_is_switched_on_where_it_is_wanted() {
    let slaac = Addressing { inet6: Inet6::Slaac, ..inet("10.0.2.15/24") };
    assert_eq!(
        run(&config([row("vtnet0", slaac)]))[1..],
        ["vtnet0 inet6 auto_linklocal -ifdisabled", "vtnet0 inet6 accept_rtadv"]
    );
    let mut both = inet("10.0.2.15/24");
    both.inet6 = Inet6::Static("2001:db8::2/48".parse().unwrap());
    assert_eq!(
        run(&config([row("vtnet0", both)]))[1..],
        ["vtnet0 inet6 auto_linklocal -ifdisabled", "vtnet0 inet6 2001:db8::2/48 alias"]
    );
}

#[test]
fn an_address_from_a_router_goes_when_routers_are_not_listened_to() {
    let text = "em0: flags=1008843<UP,BROADCAST,RUNNING> metric 0 mtu 1500\n\
        \tinet6 fe80::1%em0/64 scopeid 0x1\n\
        \tinet6 2001:db8:5::9/64 autoconf\n\
        \tnd6 options=23<PERFORMNUD,ACCEPT_RTADV,AUTO_LINKLOCAL>\n";
    let shown = |addressing: Addressing| -> Vec<String> {
        let wanted = settings(&config([row("em0", addressing)]));
        interfaces(&read(text), &wanted).iter().map(|command| command.arguments.join(" ")).collect()
    };
    assert!(shown(Addressing { inet6: Inet6::Slaac, ..Addressing::default() }).is_empty());
    let fixed =
        Addressing { inet6: Inet6::Static("2001:db8:5::1/64".parse().unwrap()), ..Addressing::default() };
    assert_eq!(
        shown(fixed),
        ["em0 inet6 -accept_rtadv", "em0 inet6 2001:db8:5::9 -alias", "em0 inet6 2001:db8:5::1/64 alias",]
    );
}

fn with_vlans(bodies: &[serde_json::Value]) -> Config {
    let mut config = config([row("vtnet1", inet("192.168.1.1/24"))]);
    for (body, second) in bodies.iter().zip(0..) {
        let request: VlanRequest = serde_json::from_value(body.clone()).unwrap();
        let vlan = request.create(Timestamp::from_second(second).unwrap(), &config).unwrap();
        config.vlans.insert(vlan);
    }
    config
}

#[test]
fn b09_two_vlans_on_one_parent_are_created_and_marked() {
    let two = with_vlans(&[
        json!({"vlan_id": 100, "parent": "vtnet1"}),
        json!({"vlan_id": 100, "parent": "vtnet0"}),
        json!({"vlan_id": 200, "parent": "vtnet1"}),
    ]);
    let mut shown = run(&two);
    shown.truncate(7);
    assert_eq!(
        shown,
        [
            "vtnet1.20 destroy",
            "vlan100 create vlan 100 vlandev vtnet1",
            "vlan100 group aifw",
            "vtnet0.100 create",
            "vtnet0.100 group aifw",
            "vlan200 create vlan 200 vlandev vtnet1",
            "vlan200 group aifw",
        ]
    );
}

#[test]
fn a_vlan_that_is_there_already_is_not_made_again() {
    let mut there =
        with_vlans(&[json!({"vlan_id": 10, "parent": "vtnet1"}), json!({"vlan_id": 20, "parent": "vtnet1"})]);
    let mut second = (**there.vlans.iter().find(|vlan| vlan.vlan_id == 20).unwrap()).clone();
    second.device = "vtnet1.20".parse().unwrap();
    there.vlans.insert(second);
    let seen = read(IFCONFIG);
    assert!(vlans(&seen, &settings(&there).vlans).is_empty());
    // On another parent it is another device of the same name.
    let mut moved = (**there.vlans.iter().find(|vlan| vlan.vlan_id == 20).unwrap()).clone();
    moved.parent = "vtnet0".parse().unwrap();
    there.vlans.insert(moved);
    let shown: Vec<_> =
        vlans(&seen, &settings(&there).vlans).iter().map(|command| command.arguments.join(" ")).collect();
    assert_eq!(shown, ["vtnet1.20 destroy", "vtnet1.20 create", "vtnet1.20 group aifw"]);
}

#[test]
fn a_parent_without_settings_is_put_up_for_its_vlan() {
    let text = "em2: flags=1008802<BROADCAST,SIMPLEX,MULTICAST> metric 0 mtu 1500\n\
        vlan7: flags=1008842<BROADCAST> metric 0 mtu 1500\n\
        \tgroups: vlan aifw\n\
        \tvlan: 7 vlanproto: 802.1q vlanpcp: 0 parent interface: em2\n\
        \tnd6 options=29<PERFORMNUD,IFDISABLED,AUTO_LINKLOCAL>\n";
    let config = with_vlans(&[json!({"vlan_id": 7, "parent": "em2"})]);
    let shown: Vec<_> = interfaces(&read(text), &settings(&config))
        .iter()
        .map(|command| command.arguments.join(" "))
        .collect();
    assert_eq!(shown, ["vlan7 up", "em2 up"]);
}

fn line(destination: &str, gateway: &str, flags: &str, interface: &str) -> KernelRoute {
    KernelRoute {
        destination: destination.into(),
        gateway: gateway.into(),
        flags: flags.into(),
        interface: interface.into(),
        inet6: destination.contains(':') || gateway.contains(':'),
    }
}

/// Of a running system (shared/freebsd-15.1/netstat-rn.json), with marks on those of our own.
fn table() -> Vec<KernelRoute> {
    vec![
        line("default", "10.0.2.2", "UGS1", "vtnet0"),
        line("10.0.2.0/24", "link#1", "U", "vtnet0"),
        line("10.0.2.15", "link#3", "UHS", "lo0"),
        line("203.0.113.0/24", "10.0.2.2", "UGS", "vtnet0"),
        line("198.51.100.7", "10.0.2.9", "UGHS1", "vtnet0"),
        line("::/96", "link#3", "URS", "lo0"),
        line("fe80::%vtnet1/64", "link#2", "U", "vtnet1"),
    ]
}

fn wanted(destination: &str, gateway: &str, interface: Option<&str>) -> RouteSetting {
    RouteSetting {
        fib: 0,
        destination: destination.parse().unwrap(),
        gateway: gateway.parse().unwrap(),
        interface: interface.map(|name| name.parse().unwrap()),
    }
}

fn steps(wanted: &[RouteSetting], fib: u32) -> Vec<String> {
    let shown = |step: &RouteStep| match step {
        RouteStep::Delete(command) => command.arguments.join(" "),
        RouteStep::Add(route) => add(route).arguments.join(" "),
        RouteStep::Connected(route, interface) => format!("{} is {interface}'s", route.destination),
    };
    routes(&table(), fib, &wanted.iter().collect::<Vec<_>>()).iter().map(shown).collect()
}

#[test]
fn b13_a_route_of_our_own_leaves_when_it_is_not_wanted_and_others_stay() {
    let default = wanted("0.0.0.0/0", "10.0.2.2", Some("vtnet0"));
    assert_eq!(steps(&[default], 0), ["-n delete -inet -host 198.51.100.7 -fib 0"]);
    assert_eq!(
        steps(&[], 2),
        ["-n delete -inet default -fib 2", "-n delete -inet -host 198.51.100.7 -fib 2"]
    );
}

#[test]
fn b11_what_is_wanted_is_added_and_takes_the_place_of_what_is_in_the_way() {
    let all = [
        wanted("0.0.0.0/0", "10.0.2.7", Some("vtnet0")),
        wanted("203.0.113.0/24", "10.0.2.8", None),
        wanted("198.51.100.7/32", "10.0.2.9", None),
        wanted("::/0", "fe80::1", Some("vtnet1")),
        wanted("2001:db8::/32", "2001:db8:1::1", None),
        wanted("10.0.2.0/24", "10.0.2.9", None),
    ];
    assert_eq!(
        steps(&all, 0),
        [
            "-n delete -inet default -fib 0",
            "-n delete -inet -net 203.0.113.0/24 -fib 0",
            "-n add -inet default 10.0.2.7 -proto1 -fib 0",
            "-n add -inet -net 203.0.113.0/24 10.0.2.8 -proto1 -fib 0",
            "-n add -inet6 default fe80::1%vtnet1 -proto1 -fib 0",
            "-n add -inet6 -net 2001:db8::/32 2001:db8:1::1 -proto1 -fib 0",
            "10.0.2.0/24 is vtnet0's",
        ]
    );
}

#[test]
fn b12_a_gateway_is_put_on_its_link_in_another_table() {
    let route = RouteSetting { fib: 1, ..wanted("10.0.0.0/8", "192.168.1.2", Some("vtnet1")) };
    assert_eq!(
        add_gateway(&route, "vtnet1").arguments.join(" "),
        "-n add -inet -host 192.168.1.2 -interface vtnet1 -proto1 -fib 1"
    );
    let held = [
        line("192.168.1.2", "link#2", "UHS1", "vtnet1"),
        line("10.0.0.0/8", "192.168.1.2", "UGS1", "vtnet1"),
    ];
    assert!(routes(&held, 1, &[&route]).is_empty());
    assert_eq!(routes(&held, 1, &[]).len(), 2);
}
