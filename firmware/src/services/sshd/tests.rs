//! With this host's sshd and ssh: started, told another configuration, refused one, stopped.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use smol::block_on;

use super::*;
use crate::compile::os::host::ssh_settings;
use crate::config::Config;

/// OpenSSH's server where distributions put it.
fn sshd() -> PathBuf {
    let places = ["/usr/sbin/sshd", "/usr/local/sbin/sshd"].map(PathBuf::from);
    places.into_iter().find(|path| path.exists()).expect("sshd is missing: install openssh-server")
}

struct Bench {
    dir: tempfile::TempDir,
    supervisor: Supervisor,
    daemon: Sshd,
    config: Config,
}

impl Bench {
    fn new() -> Self {
        // Debian's package leaves it to its own unit to make this directory.
        fs::create_dir_all("/run/sshd").ok();
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        fs::set_permissions(&top, fs::Permissions::from_mode(0o755)).unwrap();
        let mut places = SshPlaces::of(&top, &top);
        places.listen = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        fs::create_dir_all(places.config.parent().unwrap()).unwrap();
        let key = top.join("client");
        let made =
            Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status();
        assert!(made.unwrap().success());
        let mut config = Config::default();
        let system = Arc::make_mut(&mut config.system);
        system.ssh_enabled = true;
        system.ssh_port = free_port();
        system.ssh_permit_root_login = true;
        system.ssh_password_auth = false;
        let public = fs::read_to_string(key.with_extension("pub")).unwrap();
        system.ssh_authorized_keys = vec![public.trim().to_owned()];
        let supervisor = Supervisor::new();
        let programs = Programs::At { sshd: sshd(), keygen: "/usr/bin/ssh-keygen".into() };
        Self { daemon: Sshd::new(supervisor.clone(), places, programs), supervisor, dir, config }
    }

    fn port(&self) -> u16 {
        self.config.system.ssh_port
    }

    /// With StrictModes, sshd would trust no key below a directory that others can write to, as /tmp is.
    fn settings(&self) -> SshSettings {
        let mut settings = ssh_settings(&self.config, self.daemon.places());
        assert!(settings.config.contains("StrictModes yes\n"));
        settings.config = settings.config.replace("StrictModes yes", "StrictModes no");
        settings
    }

    fn apply(&self) -> Result<(), ServiceError> {
        block_on(self.daemon.apply(&self.settings()))
    }

    fn change(&mut self, change: impl FnOnce(&mut crate::config::system::System)) {
        change(Arc::make_mut(&mut self.config.system));
    }

    /// A client that knows the host by its first key.
    fn ssh(&self, options: &[&str], command: &str) -> Command {
        let dir = self.dir.path();
        let mut ssh = Command::new("ssh");
        ssh.args([
            "-F",
            "none",
            "-o",
            "BatchMode=yes",
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            "IdentityAgent=none",
        ])
        .args(["-o", "StrictHostKeyChecking=accept-new", "-o"])
        .arg(format!("UserKnownHostsFile={}", dir.join("known").display()))
        .args(options)
        .args(["-p", &self.port().to_string(), "root@127.0.0.1", command])
        .stdin(Stdio::null());
        ssh
    }

    fn with_key(&self, command: &str) -> Output {
        let key = self.dir.path().join("client").display().to_string();
        self.ssh(&["-i", &key], command).output().unwrap()
    }

    /// The ways to authenticate that a client is told when it has none.
    fn offered(&self) -> String {
        let said = self.ssh(&["-o", "PreferredAuthentications=none"], "true").output().unwrap().stderr;
        let said = String::from_utf8(said).unwrap();
        let ways = said.split_once("Permission denied (").unwrap_or_else(|| panic!("{said}")).1;
        ways.split(')').next().unwrap().to_owned()
    }

    fn pid(&self) -> Option<u32> {
        self.supervisor.status(NAME).unwrap().pid
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        block_on(self.supervisor.shutdown());
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn answers(port: u16) -> bool {
    let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).is_ok() && line.starts_with("SSH-2.0-")
}

#[test]
fn b04_b05_it_listens_on_one_port_and_offers_what_was_asked_for() {
    let mut bench = Bench::new();
    bench.apply().unwrap();
    let (first, pid) = (bench.port(), bench.pid());
    // Only keys: the one that is configured opens, and there is no other way.
    assert_eq!(bench.offered(), "publickey");
    let output = bench.with_key("echo inside");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "inside\n", "{output:?}");
    // With passwords, too: whoever comes after the answer meets the new configuration.
    bench.change(|system| system.ssh_password_auth = true);
    bench.apply().unwrap();
    assert!(bench.offered().contains("password"));
    // A session that is open lives on while the port changes, and the old port is closed.
    let mut session = bench
        .ssh(&["-i", &bench.dir.path().join("client").display().to_string()], "echo on; read x; echo off");
    let mut session = session.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(session.stdout.take().unwrap()).lines();
    assert_eq!(said.next().unwrap().unwrap(), "on");
    bench.change(|system| system.ssh_port = free_port());
    bench.apply().unwrap();
    assert!(answers(bench.port()) && !answers(first));
    assert_eq!(bench.pid(), pid);
    drop(session.stdin.take());
    assert_eq!(said.next().unwrap().unwrap(), "off");
    assert!(session.wait().unwrap().success());
    // The host is known by the keys of before, which last.
    assert_eq!(bench.with_key("echo known").stdout, b"known\n");
    bench.change(|system| system.ssh_enabled = false);
    bench.apply().unwrap();
    assert!(!answers(bench.port()) && bench.pid().is_none());
}

#[test]
fn a_configuration_that_sshd_refuses_leaves_the_running_one() {
    let bench = Bench::new();
    bench.apply().unwrap();
    let before = fs::read_to_string(&bench.daemon.places().config).unwrap();
    let mut wanted = bench.settings();
    wanted.config.push_str("Nonsense yes\n");
    let refused = block_on(bench.daemon.apply(&wanted)).unwrap_err().to_string();
    assert!(refused.contains("Nonsense"), "{refused}");
    assert_eq!(fs::read_to_string(&bench.daemon.places().config).unwrap(), before);
    assert_eq!(bench.with_key("echo on").stdout, b"on\n");
}

#[test]
fn a_port_that_is_taken_is_said_with_sshds_own_words_and_the_old_one_stays_open() {
    let mut bench = Bench::new();
    bench.apply().unwrap();
    let first = bench.port();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    bench.change(|system| system.ssh_port = taken.local_addr().unwrap().port());
    let Err(ServiceError::NotReady { last_lines, rolled_back, .. }) = bench.apply() else {
        panic!("it listens on a port that is taken")
    };
    assert!(last_lines.iter().any(|line| line.contains("Address already in use")), "{last_lines:?}");
    bench.change(|system| system.ssh_port = first);
    assert!(rolled_back && answers(first));
    assert_eq!(bench.with_key("echo in").stdout, b"in\n");
}
