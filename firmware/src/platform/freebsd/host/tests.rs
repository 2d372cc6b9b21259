#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn facts_of_15_1() {
    let text = "\
kern.version: FreeBSD 15.1-RELEASE-p1 #0 releng/15.1-n000000: Mon Jun  1 00:00:00 UTC 2026
    root@builder:/usr/obj/usr/src/amd64.amd64/sys/GENERIC

hw.model: Intel(R) Celeron(R) J6412 @ 2.00GHz
kern.smp.threads_per_core: 2
dev.cpu.1.temperature: 41.0C
dev.cpu.1.coretemp.tjmax: 105.0C
dev.cpu.0.temperature: 38.5C
dev.cpu.0.%desc: ACPI CPU
";
    let facts = read_facts(text);
    let kernel = "FreeBSD 15.1-RELEASE-p1 #0 releng/15.1-n000000: Mon Jun  1 00:00:00 UTC 2026 \
                  root@builder:/usr/obj/usr/src/amd64.amd64/sys/GENERIC";
    assert_eq!(facts.kernel, kernel);
    assert_eq!(facts.cpu_model, "Intel(R) Celeron(R) J6412 @ 2.00GHz");
    assert!(facts.threads);
    assert_eq!(facts.temperatures, [(0, 38.5), (1, 41.0)]);
    assert_eq!(read_facts(""), HostFacts::default());
}

#[test]
fn the_waiting_shutdown_is_known_by_its_number() {
    assert_eq!(read_pid("Shutdown at Tue Nov 24 12:00:00 2026.\nshutdown: [pid 1234]\n"), Some(1234));
    assert_eq!(read_pid(""), None);
}

#[test]
fn routing_tables_become_more_and_never_fewer() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let sysctl = dir.path().join("sysctl");
    let said = dir.path().join("said");
    let body = format!(
        "#!/bin/sh\ncase $1 in\n-i) echo 'net.fibs: 4'; echo 'net.isr.dispatch: direct' ;;\n*) echo \"$*\" >> {} ;;\nesac\n",
        said.display()
    );
    fs::write(&sysctl, body).unwrap();
    fs::set_permissions(&sysctl, fs::Permissions::from_mode(0o755)).unwrap();
    let machine = FreeBsd::with_tools(dir.path().to_owned());
    let set = |name: &str, value: &str| {
        let wanted = [Sysctl { name: name.into(), value: value.into() }];
        set_sysctls(&machine, &wanted).unwrap()
    };
    assert!(!set("net.fibs", "2"));
    assert!(!set("net.fibs", "4"));
    assert!(!set("net.isr.dispatch", "direct"));
    assert!(set("net.fibs", "16"));
    assert_eq!(fs::read_to_string(&said).unwrap(), "net.fibs=16\n");
}
