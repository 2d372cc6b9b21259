//! What is in a slot, with which modes and owners, and what is not.

use std::fs;

use crate::bench::{Bench, errors, text};
use crate::set::{self, Member, What};

/// The line of a path: `-0644 0 0 SIZE path`, without the size.
fn of<'a>(list: &'a [String], path: &str) -> Option<String> {
    let line: &'a str = list.iter().find(|line| {
        let mut words = line.splitn(5, ' ');
        words.nth(4).is_some_and(|rest| rest == path || rest.starts_with(&format!("{path} -> ")))
    })?;
    let words: Vec<&str> = line.splitn(5, ' ').collect();
    Some(format!("{} {} {}", words[0], words[1], words[2]))
}

#[test]
fn files_have_the_modes_and_owners_of_the_sets_and_ours_are_roots() {
    let bench = Bench::new();
    let list = bench.list(&bench.image());
    for (path, expected) in [
        (".", "d0755 0 0"),
        ("bin/sh", "-0555 0 0"),
        ("sbin/init", "-0500 0 0"),
        ("usr/bin/su", "-4555 0 0"),
        ("var/empty", "d0555 0 0"),
        ("var/spool/lock", "d0775 66 68"),
        ("tmp", "d1777 0 0"),
        ("data", "d0755 0 0"),
        ("dev", "d0755 0 0"),
        ("etc/master.passwd", "-0600 0 0"),
        ("etc/passwd", "-0644 0 0"),
        ("etc/pwd.db", "-0644 0 0"),
        ("etc/spwd.db", "-0600 0 0"),
        ("etc/rc.conf", "-0644 0 0"),
        ("usr/local/sbin/aifw", "-0755 0 0"),
        ("usr/local/sbin/aifw-console", "-0755 0 0"),
        ("usr/local/libexec/aifw-login", "-0755 0 0"),
        ("usr/local/sbin/rdns", "-0755 0 0"),
        ("usr/local/sbin/rdns-control", "-0755 0 0"),
        ("usr/local/sbin/rdhcpd", "-0755 0 0"),
        ("usr/local/sbin/rtime", "-0755 0 0"),
        ("usr/local/etc/aifw", "l0755 0 0"),
        ("usr/local/share/aifw/version", "-0644 0 0"),
        ("usr/local/share/aifw/release.keys", "-0644 0 0"),
        ("boot/kernel/kernel", "-0555 0 0"),
        ("usr/bin/tar", "l0755 0 0"),
    ] {
        assert_eq!(of(&list, path).as_deref(), Some(expected), "{path}");
    }
    for link in ["usr/bin/tar -> bsdtar", "usr/local/etc/aifw -> /data/aifw/etc"] {
        assert!(list.iter().any(|line| line.ends_with(link)), "{link}");
    }
}

#[test]
fn only_what_the_appliance_needs_is_kept() {
    let bench = Bench::new();
    let image = bench.image();
    let list = bench.list(&image);
    for path in [
        "usr/bin/cc",
        "usr/include/stdio.h",
        "usr/share/man",
        "usr/lib/libc.a",
        "boot/kernel/if_iwm.ko",
        "etc/rc.d/sshd",
        "etc/rc.d/gptboot",
        "rescue",
        "lib/libunused.so.1",
        "usr/lib/libutil.so",
        // It was not in the directory of daemons.
        "usr/local/sbin/trafficcop",
    ] {
        assert_eq!(of(&list, path), None, "{path}");
    }
    // Libraries that something here needs, and what those need.
    for path in
        ["lib/libc.so.7", "lib/libsys.so.7", "lib/libutil.so.10", "usr/lib/libpam.so.6", "boot/kernel/pf.ko"]
    {
        assert!(of(&list, path).is_some(), "{path}");
    }
    assert_eq!(bench.cat(&image, "/usr/bin/bsdtar"), b"both names of one file");
    assert_eq!(bench.cat(&image, "/boot/kernel/kernel"), set::noise(2_000_000, 6));
}

#[test]
fn what_is_written_to_at_run_time_is_copied_into_memory_from_the_slots_own_files() {
    let bench = Bench::new();
    let image = bench.image();
    let list = bench.list(&image);
    assert!(of(&list, "etc/diskless").is_some());
    for (path, size) in [("etc", 64), ("root", 32), ("var", 512)] {
        let blocks = String::from_utf8(bench.cat(&image, &format!("conf/base/{path}/md_size"))).unwrap();
        assert_eq!(blocks.trim().parse::<u64>().unwrap() * 512, size << 20);
        assert_eq!(bench.cat(&image, &format!("conf/base/{path}.remove")), b"md_size\n");
    }
    let below = |directory: &str| -> Vec<String> {
        let paths = list.iter().map(|line| line.splitn(5, ' ').nth(4).unwrap());
        let prefix = format!("{directory}/");
        paths
            .filter_map(|path| path.strip_prefix(&prefix))
            .filter(|path| *path != "md_size")
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(below("etc"), below("conf/base/etc"));
    assert_eq!(below("var"), below("conf/base/var"));
    for path in ["etc/master.passwd", "etc/spwd.db", "var/spool/lock"] {
        assert_eq!(of(&list, path), of(&list, &format!("conf/base/{path}")), "{path}");
    }
}

#[test]
fn nobody_has_a_password_and_the_sets_own_accounts_are_gone() {
    let bench = Bench::new();
    let image = bench.image();
    let master = String::from_utf8(bench.cat(&image, "etc/master.passwd")).unwrap();
    let accounts: Vec<Vec<&str>> =
        master.lines().filter(|line| !line.starts_with('#')).map(|line| line.split(':').collect()).collect();
    assert!(accounts.iter().all(|account| account[1] == "*"));
    let root = accounts.iter().find(|account| account[0] == "root").unwrap();
    assert_eq!(root[9], "/usr/local/sbin/aifw-console");
    let shells = String::from_utf8(bench.cat(&image, "etc/shells")).unwrap();
    assert!(shells.lines().any(|line| line == root[9]));
    assert_eq!(accounts.iter().filter(|account| account[2] == "0").count(), 1);
    let group = String::from_utf8(bench.cat(&image, "etc/group")).unwrap();
    for account in &accounts {
        assert!(group.lines().any(|line| line.split(':').nth(2) == Some(account[3])), "{account:?}");
    }
    for database in ["etc/pwd.db", "etc/spwd.db"] {
        let bytes = bench.cat(&image, database);
        assert_eq!(bytes[..4], [0, 6, 0x15, 0x61], "db(3)'s hash");
        assert!(bytes.windows(7).any(|bytes| bytes == b"root\0*\0"));
    }
}

#[test]
fn init_starts_the_supervisor_and_both_consoles() {
    let bench = Bench::new();
    let image = bench.image();
    let ttys = String::from_utf8(bench.cat(&image, "etc/ttys")).unwrap();
    let lines: Vec<Vec<&str>> = ttys
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split('\t').filter(|word| !word.is_empty()).collect())
        .collect();
    let line = |name: &str| lines.iter().find(|words| words[0] == name).cloned().unwrap_or_default();
    assert_eq!(line("aifw"), ["aifw", "\"/usr/local/sbin/aifw supervise\"", "unknown", "on"]);
    assert_eq!(line("ttyu0"), ["ttyu0", "\"/usr/libexec/getty aifw.serial\"", "vt100", "onifconsole secure"]);
    assert_eq!(line("ttyv0"), ["ttyv0", "\"/usr/libexec/getty aifw.video\"", "xterm", "onifexists secure"]);
    assert!(lines.len() == 4 && line("console")[3].starts_with("off"));
    let gettytab = String::from_utf8(bench.cat(&image, "etc/gettytab")).unwrap();
    for entry in ["aifw.serial:\\", "aifw.video:\\", "default:\\"] {
        assert!(gettytab.lines().any(|line| line == entry), "{entry}");
    }
    assert!(gettytab.contains(":lo=/usr/local/libexec/aifw-login:"));
}

#[test]
fn the_loader_speaks_on_both_consoles_and_takes_its_root_from_the_chosen_slot() {
    let bench = Bench::new();
    let image = bench.image();
    assert_eq!(bench.cat(&image, "boot.config"), b"-D -h -S115200\n");
    let loader = String::from_utf8(bench.cat(&image, "boot/loader.conf")).unwrap();
    for line in
        ["boot_multicons=\"YES\"", "boot_serial=\"YES\"", "comconsole_speed=\"115200\"", "pf_load=\"YES\""]
    {
        assert!(loader.lines().any(|found| found == line), "{line}");
    }
    let lua = String::from_utf8(bench.cat(&image, "boot/lua/local.lua")).unwrap();
    assert!(lua.contains("[\"3\"] = \"slot-a\", [\"4\"] = \"slot-b\""));
    let fstab = String::from_utf8(bench.cat(&image, "etc/fstab")).unwrap();
    assert!(
        fstab.lines().filter(|line| !line.starts_with('#')).all(|line| line.starts_with("tmpfs\t/tmp\t"))
    );
    let rc = String::from_utf8(bench.cat(&image, "etc/rc.conf")).unwrap();
    assert!(rc.contains("root_rw_mount=\"NO\""));
}

#[test]
fn version_and_keys_are_those_that_were_given() {
    let bench = Bench::new();
    let image = bench.image();
    assert_eq!(bench.cat(&image, "usr/local/share/aifw/version"), b"0.2.0\n");
    assert_eq!(
        bench.cat(&image, "usr/local/share/aifw/release.keys"),
        fs::read(bench.path("release.keys")).unwrap()
    );
    let told = text(&bench.run(&["inspect", &bench.name("aifw.img")]));
    assert!(told.contains("slot-a: AiFw 0.2.0, FreeBSD 15.1-RELEASE"), "{told}");
    assert!(told.contains("slot-b: empty"), "{told}");
    assert!(told.contains("bootme"), "{told}");
}

#[test]
fn plain_archives_without_manifest_do_and_a_package_is_unpacked() {
    let bench = Bench::new();
    fs::create_dir(bench.path("plain")).unwrap();
    set::write_plain(&bench.path("plain"), &set::base(), &set::kernel());
    let package = [
        set::file("+MANIFEST", 0o644, "{}"),
        set::file("/usr/local/bin/suricata", 0o755, set::program(&["libc.so.7", "libyaml.so.0"])),
        set::file("/usr/local/lib/libyaml.so.0", 0o755, set::program(&[])),
        set::file(
            "/usr/local/etc/suricata/classification.config.sample",
            0o644,
            "config classification: x,y,1\n",
        ),
        set::file("/usr/local/share/man/man1/suricata.1.gz", 0o644, "manual"),
    ];
    fs::create_dir(bench.path("packages")).unwrap();
    set::write_plain(&bench.path("packages"), &package, &[]);
    fs::rename(bench.path("packages/base.tar"), bench.path("packages/suricata.pkg")).unwrap();
    let output =
        bench.build("a.img", &["--sets", &bench.name("plain"), "--packages", &bench.name("packages")]);
    assert!(output.status.success(), "{}", errors(&output));
    let list = bench.list(&bench.path("a.img"));
    assert_eq!(of(&list, "usr/local/bin/suricata").as_deref(), Some("-0755 0 0"));
    assert!(of(&list, "usr/local/etc/suricata/classification.config").is_some());
    assert_eq!(of(&list, "usr/local/share/man"), None);
    assert_eq!(of(&list, "+MANIFEST"), None);
}

#[test]
fn sets_that_are_not_what_manifest_says_are_refused() {
    let bench = Bench::new();
    let sets = bench.path("sets");
    let path = sets.join("kernel.txz");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    let output = bench.build("a.img", &["--sets", &bench.name("sets")]);
    assert!(errors(&output).contains("kernel.txz: its SHA-256 is"), "{}", errors(&output));
    fs::write(sets.join("MANIFEST"), "base.txz\tx\n").unwrap();
    let output = bench.build("a.img", &["--sets", &bench.name("sets")]);
    assert!(errors(&output).contains("MANIFEST has no line for base.txz"), "{}", errors(&output));
    fs::remove_file(path).unwrap();
    let output = bench.build("a.img", &["--sets", &bench.name("sets")]);
    assert!(errors(&output).contains("neither kernel.txz nor kernel.tar is there"), "{}", errors(&output));
    assert!(!bench.path("a.img").exists());
}

#[test]
fn archives_with_devices_or_paths_that_lead_out_are_refused() {
    let bench = Bench::new();
    let device = Member { path: "./dev/null", mode: 0o666, owner: (0, 0), what: What::Device };
    for (member, told) in [
        (device, "no file, directory or link"),
        (set::file("./etc/../../passwd", 0o644, "x"), "leads out of the archive"),
    ] {
        let mut base = set::base();
        base.push(member);
        fs::create_dir_all(bench.path("hostile")).unwrap();
        set::write_plain(&bench.path("hostile"), &base, &set::kernel());
        let output = bench.build("a.img", &["--sets", &bench.name("hostile")]);
        assert!(!output.status.success() && errors(&output).contains(told), "{}", errors(&output));
    }
}

#[test]
fn a_set_without_a_file_that_booting_needs_and_a_slot_that_is_too_small_are_named() {
    let bench = Bench::new();
    fs::create_dir(bench.path("less")).unwrap();
    let base: Vec<Member> =
        set::base().into_iter().filter(|member| member.path != "./boot/gptboot.efi").collect();
    set::write_plain(&bench.path("less"), &base, &set::kernel());
    let output = bench.build("a.img", &["--sets", &bench.name("less")]);
    assert!(errors(&output).contains("/boot/gptboot.efi is not in the sets"), "{}", errors(&output));

    let sets = bench.name("sets");
    let (firmware, daemons) = (bench.name("aifw"), bench.name("daemons"));
    let output = bench.run(&[
        "build",
        "--sets",
        &sets,
        "--firmware",
        &firmware,
        "--daemons",
        &daemons,
        "--slot-size",
        "2",
        "--output",
        "b.img",
    ]);
    assert!(errors(&output).contains("--slot-size makes room"), "{}", errors(&output));
    assert!(!bench.path("b.img").exists());
}

#[test]
fn programs_for_another_system_are_refused() {
    let bench = Bench::new();
    fs::copy(env!("CARGO_BIN_EXE_image"), bench.path("aifw")).unwrap();
    let output = bench.build("a.img", &["--sets", &bench.name("sets")]);
    assert!(errors(&output).contains("aifw is not a FreeBSD program"), "{}", errors(&output));
}

#[test]
fn a_missing_host_tool_is_named_with_its_package() {
    let bench = Bench::new();
    let output = bench
        .command(&["build", "--sets", &bench.name("sets"), "--format", "qcow2", "--output", "a.img"])
        .env("PATH", bench.path("nothing"))
        .output()
        .unwrap();
    assert_eq!(
        errors(&output),
        "error: qemu-img is not installed; Debian and Ubuntu: apt-get install qemu-utils\n"
    );
}
