//! TrafficCop under supervision: its arguments, readiness, checker and reload. It has no reload signal: it watches its
//! file, and takes changed HTTP routers, services and middlewares; all else needs a restart.

mod access_log;
mod certificates;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use access_log::{rotate, tail};

use super::{Daemon, ServiceError, base_spec, files};
use crate::compile::services::proxy::{self, Findings, Proxy};
use crate::compile::services::{Artifacts, Facts, Places};
use crate::config::{Config, ServiceKind};
use crate::supervisor::{Listening, Liveness, Probe, ServiceSpec, State, Supervisor};
use crate::tool::Tool;

const FILE: &str = "config.yaml";
/// What it says when it has taken a changed file (`trafficcop::config::watcher`).
const TAKEN: &str = "Config reloaded successfully";
/// It waits 0.1 s after an event, and overlooks events that follow within 0.2 s of the last one.
const TAKES_AT_MOST: Duration = Duration::from_millis(1500);
const CHECK_LIMIT: Duration = Duration::from_secs(20);

/// The reverse proxy.
pub struct TrafficCop {
    supervisor: Supervisor,
}

impl TrafficCop {
    pub fn new(supervisor: Supervisor) -> Self {
        Self { supervisor }
    }

    /// Whether it has said, since `since`, that it took its file.
    fn has_taken(&self, since: crate::config::Timestamp) -> bool {
        let lines = self.supervisor.log(self.kind().program(), 200).unwrap_or_default();
        lines.iter().rev().take_while(|line| line.at >= since).any(|line| line.line.contains(TAKEN))
    }

    fn wait_until_taken(&self, since: crate::config::Timestamp) -> bool {
        let end = Instant::now() + TAKES_AT_MOST;
        while Instant::now() < end {
            if self.has_taken(since) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }
}

/// Compiles, and checks the certificates on disk.
pub fn compile(config: &Config, facts: &Facts) -> (Proxy, Findings) {
    let compiled = proxy::compile(config, facts);
    let mut findings = compiled.findings.clone();
    for row in config.proxy_tls_certs.iter() {
        let (cert, key) = (facts.path(&row.body.cert_file), facts.path(&row.body.key_file));
        if let Err(reason) = certificates::check_pair(&cert, &key) {
            let text = format!("certificate {:?}: {reason}", row.name);
            // One bad pair makes the daemon forget all of them.
            match compiled.needs_certificates {
                true => {
                    findings.errors.push(format!("{text}; the daemon would serve plain HTTP instead of TLS"))
                }
                false => findings.warnings.push(text),
            }
        }
    }
    (compiled, findings)
}

/// Second word of `trafficcop --version`.
pub fn version(program: &Path) -> Option<String> {
    let told = Tool::new(program, Duration::from_secs(5)).run(&["--version"], "").ok()?;
    told.stdout.split_whitespace().nth(1).map(str::to_owned)
}

impl Daemon for TrafficCop {
    fn kind(&self) -> ServiceKind {
        ServiceKind::Proxy
    }

    fn artifacts(&self, config: &Config, facts: &Facts) -> Result<Artifacts, ServiceError> {
        let (compiled, findings) = compile(config, facts);
        if !findings.errors.is_empty() {
            return Err(ServiceError::Refused(findings.errors.join("; ")));
        }
        if let Some(log) = Some(facts.path(&config.proxy.access_log_path))
            && let Some(directory) = log.parent().filter(|_| config.proxy.access_log_enabled)
        {
            files::make_directory(directory, 0o755)?;
        }
        Ok(Artifacts {
            enabled: config.proxy.enabled,
            files: vec![compiled.file()?],
            seeds: Vec::new(),
            warnings: findings.warnings,
            facts: vec![
                ("fixed", compiled.fixed_part()),
                ("entry points", compiled.entry_points().to_string()),
                ("level", config.proxy.log_level.clone()),
                ("listens", compiled.listens.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")),
            ],
        })
    }

    fn check(&self, program: &Path, _: &Artifacts, places: &Places) -> Result<(), ServiceError> {
        let file = places.config.join(FILE);
        let tool = Tool::new(program, CHECK_LIMIT);
        let arguments = [Path::new("-c"), &file, Path::new("--validate")];
        let ended = tool.run(&arguments, "").map_err(|error| ServiceError::Refused(error.to_string()))?;
        if ended.success() {
            return Ok(());
        }
        // `Error: …` and a chain of causes; the path of the rehearsal means nothing to the reader.
        let said = super::logs::without_colours_all(&format!("{}\n{}", ended.stderr, ended.stdout));
        Err(ServiceError::Refused(said.replace(&file.display().to_string(), FILE)))
    }

    fn spec(&self, program: &Path, artifacts: &Artifacts, facts: &Facts) -> ServiceSpec {
        let level = artifacts.fact("level");
        // What it says of its listeners and of a reload is what tells that they are there.
        let levels = format!("{level},trafficcop::server=info,trafficcop::config::watcher=info");
        // What it cannot take while it runs is part of how it is run, so that a change of it is a restart.
        let fixed = ring::digest::digest(&ring::digest::SHA256, artifacts.fact("fixed").as_bytes());
        let mut spec = base_spec(self.kind(), program, facts)
            .arg("-c")
            .arg(facts.places.config.join(FILE))
            .env("RUST_LOG", levels)
            .env("RUST_BACKTRACE", "0")
            .env("AIFW_FIXED_PART", data_encoding::HEXLOWER.encode(fixed.as_ref()));
        let places = artifacts.fact("listens").split(' ').filter_map(|place| place.parse().ok()).collect();
        let entry_points = artifacts.fact("entry points").parse().unwrap_or(0);
        spec.readiness = Arc::new(AllListening { supervisor: self.supervisor.clone(), entry_points, places });
        spec.ready_within = Duration::from_secs(5);
        spec.liveness =
            Some(Liveness { every: Duration::from_secs(20), within: Duration::from_secs(5), misses: 3 });
        spec.limits.open_files = Some(65_536);
        // It drains connections for up to 30 s; a restart should not keep new ones waiting that long.
        spec.grace = Duration::from_secs(5);
        spec
    }

    fn reload(&self, _: &[PathBuf], artifacts: &Artifacts, facts: &Facts) -> Result<bool, ServiceError> {
        // The file was written a moment ago, before the facts were taken.
        let since = facts.now.checked_sub(jiff::SignedDuration::from_millis(500)).unwrap_or(facts.now);
        let since =
            since.max(self.supervisor.status(self.kind().program()).map_or(since, |status| status.since));
        if self.wait_until_taken(since) {
            return Ok(true);
        }
        // An event that came too soon after another one was overlooked; by now it looks again.
        for file in &artifacts.files {
            files::write(&facts.places.config.join(&file.path), &file.bytes, file.mode)?;
        }
        Ok(self.wait_until_taken(since))
    }
}

/// Ready when it says that each entry point listens, and every place takes connections. A place that it could not
/// bind does not end it, and somebody else may listen there: its own word is needed.
struct AllListening {
    supervisor: Supervisor,
    entry_points: usize,
    places: Vec<SocketAddr>,
}

/// `Entrypoint 'web' listening on …`, `Listener 'web' error: …` (`trafficcop::server`).
const LISTENS: &str = "' listening on ";
const CANNOT: &str = "Listener '";

impl AllListening {
    /// What it has said since it was started; nothing to ask once it was ready.
    fn says(&self) -> Result<(), String> {
        let name = ServiceKind::Proxy.program();
        let status = self.supervisor.status(name).map_err(|error| error.to_string())?;
        if status.state != State::Starting {
            return Ok(());
        }
        let lines = self.supervisor.log(name, 1000).unwrap_or_default();
        let lines = || lines.iter().filter(|line| line.at >= status.since).map(|line| line.line.as_str());
        if let Some(line) = lines().find(|line| line.contains(CANNOT)) {
            let plain = super::logs::without_colours(line);
            return Err(plain
                .split_once(CANNOT)
                .map_or(plain.clone(), |(_, rest)| format!("{CANNOT}{rest}")));
        }
        let listening = lines().filter(|line| line.contains(LISTENS)).count();
        (listening >= self.entry_points)
            .then_some(())
            .ok_or_else(|| format!("{listening} of {} entry points listen", self.entry_points))
    }
}

impl Probe for AllListening {
    fn probe(&self) -> std::pin::Pin<Box<dyn Future<Output = Result<(), String>> + Send>> {
        let said = self.says();
        let probes: Vec<_> = self.places.iter().map(|place| Listening(*place).probe()).collect();
        Box::pin(async move {
            said?;
            for probe in probes {
                probe.await?;
            }
            Ok(())
        })
    }
}
