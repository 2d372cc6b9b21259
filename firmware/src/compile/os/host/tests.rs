#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use super::*;
use crate::config::settings::{Tuning, TuningEntry};

fn config(change: impl FnOnce(&mut System)) -> Config {
    let mut config = Config::default();
    change(Arc::make_mut(&mut config.system));
    config
}

fn text_of<'a>(settings: &'a HostSettings, path: &str) -> &'a str {
    &settings.files.iter().find(|file| file.path == path).unwrap().text
}

#[test]
fn name_hosts_and_banners() {
    let settings = host_settings(&config(|system| {
        system.hostname = "fw1".into();
        system.domain = "home.lan".into();
        system.timezone = "Europe/Berlin".into();
        system.login_banner = "Keep out".into();
        system.motd = "Hello\n".into();
    }));
    assert_eq!((settings.hostname.as_str(), settings.search_domain.as_str()), ("fw1.home.lan", "home.lan"));
    assert_eq!(settings.timezone, "Europe/Berlin");
    let hosts = "::1\tlocalhost\n127.0.0.1\tlocalhost\n127.0.1.1\tfw1.home.lan fw1\n";
    assert_eq!(text_of(&settings, "/etc/hosts"), hosts);
    assert_eq!(text_of(&settings, "/etc/issue"), "Keep out\n");
    assert_eq!(text_of(&settings, "/etc/motd.template"), "Hello\n");
    assert_eq!(text_of(&settings, "/var/run/motd"), "Hello\n");
}

#[test]
fn without_a_domain_the_host_stands_alone_and_nonsense_names_nothing() {
    let alone = host_settings(&config(|system| system.hostname = "fw1".into()));
    assert_eq!((alone.hostname.as_str(), alone.search_domain.as_str()), ("fw1", ""));
    assert_eq!(text_of(&alone, "/etc/hosts"), "::1\tlocalhost\n127.0.0.1\tlocalhost\n127.0.1.1\tfw1\n");
    let imported = host_settings(&config(|system| system.hostname = "fire wall".into()));
    assert_eq!(imported.hostname, "");
    assert_eq!(text_of(&imported, "/etc/hosts"), "::1\tlocalhost\n127.0.0.1\tlocalhost\n");
}

fn console(kind: ConsoleKind, baud: u32) -> HostSettings {
    host_settings(&config(|system| system.console = Console { kind, baud }))
}

#[test]
fn the_loader_is_told_of_each_console_in_its_own_words() {
    let lines = |kind, boot| {
        let text = console(kind, 9600).loader_conf("", boot);
        let block = super::super::block::block(&text, LOADER_BLOCK).unwrap();
        block.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>()
    };
    let off = ["boot_serial=\"NO\"", "boot_multicons=\"NO\""];
    assert_eq!(lines(ConsoleKind::Video, BootMethod::Bios), [&["console=\"vidconsole\""], &off[..]].concat());
    assert_eq!(lines(ConsoleKind::Video, BootMethod::Uefi), [&["console=\"efi\""], &off[..]].concat());
    let serial = [
        "console=\"comconsole\"",
        "boot_serial=\"YES\"",
        "boot_multicons=\"NO\"",
        "comconsole_speed=\"9600\"",
    ];
    assert_eq!(lines(ConsoleKind::Serial, BootMethod::Bios), serial);
    assert_eq!(lines(ConsoleKind::Serial, BootMethod::Uefi), serial);
    let dual = ["boot_multicons=\"YES\"", "boot_serial=\"YES\"", "comconsole_speed=\"9600\""];
    assert_eq!(
        lines(ConsoleKind::Dual, BootMethod::Bios),
        [&["console=\"comconsole,vidconsole\""], &dual[..]].concat()
    );
    assert_eq!(
        lines(ConsoleKind::Dual, BootMethod::Uefi),
        [&["console=\"comconsole,efi\""], &dual[..]].concat()
    );
}

#[test]
fn b06_one_block_in_loader_conf_and_foreign_lines_untouched() {
    let foreign = "hw.em.rxd=\"4096\"\n# mine\n";
    let first = console(ConsoleKind::Dual, 115_200).loader_conf(foreign, BootMethod::Bios);
    let expected = "hw.em.rxd=\"4096\"\n# mine\n# BEGIN AiFw console\nconsole=\"comconsole,vidconsole\"\n\
                    boot_multicons=\"YES\"\nboot_serial=\"YES\"\ncomconsole_speed=\"115200\"\n# END AiFw console\n";
    assert_eq!(first, expected);
    assert_eq!(console(ConsoleKind::Dual, 115_200).loader_conf(&first, BootMethod::Bios), expected);
    let back = console(ConsoleKind::Video, 115_200).loader_conf(&first, BootMethod::Bios);
    assert!(back.starts_with(foreign) && back.matches("# BEGIN").count() == 1, "{back}");
}

/// `/etc/ttys` as FreeBSD 15.1 ships it, with the supervisor's line.
const TTYS: &str = "\
# name	getty				type	status		comments
console	none				unknown	off secure
ttyv0	\"/usr/libexec/getty Pc\"		xterm	onifexists secure
ttyu0	\"/usr/libexec/getty 3wire\"	vt100	onifconsole secure
ttyu1	\"/usr/libexec/getty 3wire\"	vt100	onifconsole secure
aifw	\"/usr/local/sbin/aifw supervise\"	unknown	on
";

#[test]
fn the_serial_line_gets_its_prompt_and_no_other_line_changes() {
    let with = |status: &str| {
        let line = format!("ttyu0	\"/usr/libexec/getty 3wire\"	vt100	{status} secure");
        TTYS.replace("ttyu0	\"/usr/libexec/getty 3wire\"	vt100	onifconsole secure", &line)
    };
    assert_eq!(console(ConsoleKind::Serial, 9600).ttys(TTYS), with("on"));
    assert_eq!(console(ConsoleKind::Dual, 9600).ttys(TTYS), with("on"));
    assert_eq!(console(ConsoleKind::Video, 9600).ttys(TTYS), TTYS);
    assert_eq!(console(ConsoleKind::Video, 9600).ttys(&with("on")), TTYS);
    assert_eq!(
        console(ConsoleKind::Serial, 9600).ttys("ttyu0 \"/a on\" vt100 off"),
        "ttyu0 \"/a on\" vt100 on"
    );
}

#[test]
fn tuning_goes_to_the_kernel_or_the_loader_and_nothing_can_be_slipped_in() {
    let entry = |key: &str, value: &str, target: &str, enabled| TuningEntry {
        key: key.into(),
        value: value.into(),
        target: target.into(),
        reason: String::new(),
        enabled,
    };
    let config = Config {
        tuning: Arc::new(Tuning {
            entries: vec![
                entry("net.inet.ip.forwarding", "1", "sysctl", true),
                entry("net.fibs", "16", "loader", true),
                entry("net.isr.maxthreads", "4", "loader", false),
                entry("a", "1\"\nkernel=\"evil", "loader", true),
                entry("-a", "1", "sysctl", true),
                entry("aesni", "YES", "module", true),
                entry("em0", "-tso -lro down", "interface", true),
            ],
        }),
        ..Config::default()
    };
    let settings = host_settings(&config);
    let sysctl = |name: &str, value: &str| Sysctl { name: name.into(), value: value.into() };
    assert_eq!(settings.sysctls, [sysctl("net.inet.ip.forwarding", "1"), sysctl("net.fibs", "16")]);
    assert_eq!(settings.tunables, [sysctl("net.fibs", "16")]);
    assert_eq!(settings.modules, ["aesni"]);
    assert_eq!(settings.offloading, [("em0".to_owned(), vec!["-tso".to_owned(), "-lro".to_owned()])]);
    let text = settings.loader_conf("", BootMethod::Uefi);
    assert!(text.ends_with("boot_multicons=\"NO\"\nnet.fibs=\"16\"\n# END AiFw console\n"), "{text}");
}

#[test]
fn sshd_is_told_what_is_configured() {
    let places = SshPlaces::of(Path::new("/"), Path::new("/data/aifw"));
    let ssh = |change: &dyn Fn(&mut System)| ssh_settings(&config(|system| change(system)), &places);
    let settings = ssh(&|system| {
        system.ssh_port = 2222;
        system.login_banner = "Keep out".into();
        system.ssh_authorized_keys = vec!["ssh-ed25519 AAAA me".into(), "ssh-rsa A\nssh-rsa B".into()];
    });
    let expected = "\
# Made from the appliance's configuration: what is written here by hand is lost.
# BEGIN AiFw
Port 2222
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin no
Banner /etc/issue
# END AiFw
HostKey /data/aifw/ssh/ssh_host_ed25519_key
HostKey /data/aifw/ssh/ssh_host_ecdsa_key
HostKey /data/aifw/ssh/ssh_host_rsa_key
AuthorizedKeysFile /data/aifw/ssh/keys/%u
AllowUsers root
UsePAM yes
StrictModes yes
PermitEmptyPasswords no
MaxAuthTries 4
LoginGraceTime 30
UseDNS no
X11Forwarding no
AllowAgentForwarding no
ClientAliveInterval 60
ClientAliveCountMax 3
PidFile none
Subsystem sftp internal-sftp
";
    assert_eq!(settings.config, expected);
    assert_eq!((settings.enabled, settings.port), (true, 2222));
    assert_eq!(settings.authorized_keys, "ssh-ed25519 AAAA me\n");
    let root = |permit, password| {
        let settings = ssh(&|system| {
            system.ssh_permit_root_login = permit;
            system.ssh_password_auth = password;
        });
        settings.config.lines().find_map(|line| line.strip_prefix("PermitRootLogin ")).unwrap().to_owned()
    };
    assert_eq!([root(false, true), root(true, false), root(true, true)], ["no", "prohibit-password", "yes"]);
}
