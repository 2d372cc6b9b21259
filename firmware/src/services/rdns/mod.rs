//! The resolver under supervision: rDNS, or unbound where it is chosen. Where its files lie, how it is checked, known
//! to be ready, reloaded and asked.

pub mod blocklists;
pub mod control;
mod leases;
pub mod query;
pub mod stats;
mod unbound;
pub mod upkeep;
mod world;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

pub use world::LeaseNames;

use crate::compile::services::dns::{self, DnsError, PROBE_FILE, Probe};
use crate::compile::services::{Artifacts, Facts, Places};
use crate::config::dns::Backend;
use crate::config::{Config, ServiceKind};
use crate::services::{Components, Daemon, ServiceError, base_spec};
use crate::supervisor::{Liveness, ServiceSpec};
use control::Control;

/// Local names of unbound's programs: FreeBSD's base system has them under names of its own.
const UNBOUND: [&str; 2] = ["local-unbound", "unbound"];

pub struct Rdns {
    scout: world::Scout,
    leases: Arc<dyn LeaseNames>,
}

impl Rdns {
    pub fn new(leases: Arc<dyn LeaseNames>) -> Self {
        Self { scout: world::Scout::default(), leases }
    }
}

/// The names that the DHCP server knows whose directories these are.
pub fn lease_names(dhcp: Places) -> Arc<dyn LeaseNames> {
    Arc::new(leases::FromRdhcpd::new(dhcp))
}

/// How much longer a start may take for policy zones of this size: a second for each 4 MiB.
fn reading(directory: &Path) -> Duration {
    let files = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let bytes: u64 = files.filter_map(|entry| entry.metadata().ok()).map(|data| data.len()).sum();
    Duration::from_secs(bytes / (4 * 1024 * 1024))
}

impl From<DnsError> for ServiceError {
    fn from(error: DnsError) -> Self {
        match error {
            DnsError::Template(error) => Self::Template(error),
            DnsError::Custom(_) | DnsError::Toml(_) => Self::Refused(error.to_string()),
        }
    }
}

/// How the resolver is asked whose configuration lies there; `None` when none does.
pub fn probe_of(places: &Places) -> Option<Probe> {
    serde_json::from_slice(&std::fs::read(places.config.join(PROBE_FILE)).ok()?).ok()
}

fn probe_in(artifacts: &Artifacts) -> Option<Probe> {
    let file = artifacts.files.iter().find(|file| file.path == Path::new(PROBE_FILE))?;
    serde_json::from_slice(&file.bytes).ok()
}

/// Gives a directory to whom the daemon becomes, when we may: it makes its control socket there, before or after it has
/// become another user.
fn own(directory: &Path, artifacts: &Artifacts) {
    if !nix::unistd::geteuid().is_root() || artifacts.fact("user").is_empty() {
        return;
    }
    let user = nix::unistd::User::from_name(artifacts.fact("user")).ok().flatten().map(|user| user.uid);
    let group = nix::unistd::Group::from_name(artifacts.fact("group")).ok().flatten().map(|group| group.gid);
    if let Err(error) = nix::unistd::chown(directory, user, group) {
        log::warn!("{}: {error}", directory.display());
    }
}

/// Runs a checker; what it complains about is the refusal.
fn check_with(command: &mut Command) -> Result<(), ServiceError> {
    let program = PathBuf::from(command.get_program());
    let Output { status, stdout, stderr } =
        command.output().map_err(|error| ServiceError::io(&program, error))?;
    if status.success() {
        return Ok(());
    }
    let said = [stdout, stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<String> = said
        .lines()
        .map(super::logs::without_colours)
        .map(|line| line.trim().to_owned())
        .filter(|line| !line.is_empty())
        .collect();
    Err(ServiceError::Refused(lines.join("; ")))
}

impl Daemon for Rdns {
    fn kind(&self) -> ServiceKind {
        ServiceKind::Dns
    }

    fn program(&self, config: &Config, components: &Components) -> (PathBuf, &'static str) {
        match config.dns_resolver.backend {
            Backend::Rdns => (components.program(self.kind()), self.kind().label()),
            Backend::Unbound => {
                let [base, port] = UNBOUND.map(|name| components.tool(name));
                (if base.is_file() { base } else { port }, "unbound")
            }
        }
    }

    fn artifacts(&self, config: &Config, facts: &Facts) -> Result<Artifacts, ServiceError> {
        let world = self.scout.world(config, facts, &*self.leases);
        Ok(dns::artifacts(config, facts, &world)?)
    }

    fn check(&self, program: &Path, artifacts: &Artifacts, places: &Places) -> Result<(), ServiceError> {
        match probe_in(artifacts).map(|probe| probe.backend) {
            Some(Backend::Unbound) => {
                let mut name = program.file_name().unwrap_or_default().to_owned();
                name.push("-checkconf");
                check_with(Command::new(program.with_file_name(name)).arg(places.config.join("unbound.conf")))
            }
            _ => {
                let mut command = Command::new(program);
                command.arg("--check-config").arg("-c").arg(places.config.join("rdns.toml"));
                check_with(command.env("NO_COLOR", "1"))
            }
        }
    }

    fn spec(&self, program: &Path, artifacts: &Artifacts, facts: &Facts) -> ServiceSpec {
        let places = &facts.places;
        let spec = base_spec(self.kind(), program, facts);
        let probe = probe_in(artifacts);
        let mut spec = match probe.as_ref().map(|probe| probe.backend) {
            Some(Backend::Unbound) => spec.arg("-d").arg("-c").arg(places.config.join("unbound.conf")),
            _ => {
                // Policy zones have relative names: the user that the daemon becomes need not be able to reach
                // them from the root.
                let lock = places.run.join("rdns.lock");
                spec.arg("-c").arg(places.config.join("rdns.toml")).env("RDNS_LOCK_PATH", lock)
            }
        };
        spec.directory = Some(places.config.clone());
        own(&places.run, artifacts);
        spec.stale = vec![places.run.join("control.sock"), places.run.join("unbound.ctl")];
        spec.grace = Duration::from_secs(5);
        // rDNS reads all its policy zones before it listens.
        spec.ready_within = Duration::from_secs(8) + reading(&places.config.join("rpz"));
        if let Some(probe) = probe.filter(|probe| probe.enabled) {
            spec.readiness = Arc::new(query::Answers(probe));
            spec.liveness =
                Some(Liveness { every: Duration::from_secs(10), within: Duration::from_secs(5), misses: 3 });
        }
        spec
    }

    fn reload(
        &self,
        changed: &[PathBuf],
        artifacts: &Artifacts,
        facts: &Facts,
    ) -> Result<bool, ServiceError> {
        let of_policy = |path: &PathBuf| path.starts_with("rpz");
        if probe_in(artifacts).is_some_and(|probe| probe.backend != Backend::Rdns)
            || !changed.iter().all(of_policy)
        {
            return Ok(false);
        }
        smol::block_on(Control::of(&facts.places).reload_rpz())?;
        Ok(true)
    }
}
