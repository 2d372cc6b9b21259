//! The platform against stand-ins for the tools, which print what FreeBSD 15.1 printed (`shared/freebsd-15.1`,
//! where it is at hand). They show that the tools are asked and read as a whole, not what the tools do.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use super::*;
use crate::testing::shared;

/// A tool that prints a file and complains when its arguments are not those. The shell writes it, so that no
/// thread of this process holds it open while another starts a program.
fn stand_in(folder: &Path, name: &str, cases: &[(&str, &Path)]) {
    let mut script = String::from("#!/bin/sh\ncase \"$*\" in\n");
    for (arguments, file) in cases {
        script +=
            &format!("'{arguments}') exec sed -e '/^\\$ /d' -e '/^\\[exit /d' '{}' ;;\n", file.display());
    }
    script += "*) echo \"unexpected: $*\" >&2; exit 64 ;;\nesac\n";
    let mut shell = Command::new("sh")
        .args(["-c", "cat >\"$0\" && chmod 755 \"$0\""])
        .arg(folder.join(name))
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut shell.stdin.take().unwrap(), script.as_bytes()).unwrap();
    assert!(shell.wait().unwrap().success());
    assert!(folder.join(name).metadata().unwrap().permissions().mode() & 0o111 != 0);
}

#[test]
fn the_answers_of_15_1_make_interfaces_and_vital_signs() {
    let Some(shared) = shared("freebsd-15.1") else { return };
    let tools = tempfile::tempdir().unwrap();
    let (folder, file) = (tools.path(), |name: &str| shared.join(name));
    let text = |name: &str, content: &str| {
        let path = folder.join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    stand_in(folder, "ifconfig", &[("-f inet:cidr,inet6:cidr -a", &file("ifconfig-cidr.txt"))]);
    let netstat: [(&str, &Path); 2] = [
        ("--libxo json -i -b -d -n", &file("netstat-ibdn.json")),
        ("--libxo json -r -n", &file("netstat-rn.json")),
    ];
    stand_in(folder, "netstat", &netstat);
    stand_in(folder, "sysctl", &[(&sysctl::QUESTION.join(" "), &file("sysctl-selected.txt"))]);
    stand_in(folder, "mount", &[("--libxo json", &file("mount.json"))]);
    let disks =
        text("disks", "device r/i w/i kr/i kw/i qlen tsvc_t/i sb/i\nvtbd0 10.0 2.0 40.0 8.5 0 0.1 0.1\n");
    stand_in(folder, "iostat", &[("-I -x", &disks)]);
    let size = text("size", " 8192\n");
    stand_in(folder, "ps", &[(&format!("-o rss= -p {}", std::process::id()), &size)]);

    let machine = FreeBsd::with_tools(folder);
    assert_eq!(machine.kind(), "freebsd");
    let interfaces = machine.interfaces().unwrap();
    let names: Vec<_> = interfaces.iter().map(|interface| interface.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "vtnet0",
            "vtnet1",
            "lo0",
            "pflog0",
            "pfsync0",
            "vlan10",
            "vtnet1.20",
            "bridge0",
            "gre0",
            "gif0",
            "wg0"
        ]
    );
    let wan = &interfaces[0];
    assert_eq!((wan.packets_in, wan.bytes_in, wan.packets_out, wan.bytes_out), (11, 1906, 16, 2208));
    assert_eq!(wan.addresses, ["10.0.2.15/24".parse::<ipnet::IpNet>().unwrap()]);

    let vitals = machine.vitals().unwrap();
    assert_eq!((vitals.hostname.as_str(), vitals.os_version.as_str()), ("probe", "FreeBSD 15.1-RELEASE-p1"));
    assert_eq!((vitals.cpu_busy, vitals.cpu_total, vitals.cpu_cores), (4271, 11680, 2));
    assert_eq!((vitals.memory.total, vitals.memory.resident), (1_027_629_056, 8192 * 1024));
    assert_eq!(vitals.default_gateway, Some("10.0.2.2".parse().unwrap()));
    assert!(vitals.route_count > 5, "{}", vitals.route_count);
    assert_eq!((vitals.disks[0].mount.as_str(), vitals.disks[0].filesystem.as_str()), ("/", "ufs"));
    assert_eq!((vitals.disk_io.reads, vitals.disk_io.bytes_written), (10, 8704));
}

#[test]
fn a_missing_tool_is_named() {
    let error = FreeBsd::with_tools("/nonexistent").interfaces().unwrap_err();
    assert_eq!(error.to_string(), "ifconfig failed: /nonexistent/ifconfig is not installed");
}
