//! TrafficCop under supervision: its arguments, readiness, checker and reload. It has no reload signal: it watches its
//! file, and takes changed HTTP routers, services and middlewares; all else needs a restart.

mod access_log;
mod certificates;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use ring::digest;

pub use access_log::{rotate, tail};

use super::{Daemon, ServiceError, base_spec, files};
use crate::compile::services::proxy::{self, Findings, Proxy};
use crate::compile::services::{Artifacts, Facts, Places};
use crate::config::{Config, ServiceKind, Timestamp};
use crate::supervisor::{Listening, Liveness, Probe, ServiceSpec, State, Supervisor};
use crate::tool::Tool;

const FILE: &str = "config.yaml";
/// What it says when its routers are those of a changed file (`trafficcop::server`).
const TAKEN: &str = "Hot reloading configuration";
/// It waits 0.1 s before it reads a file that was changed: what it says earlier is about a file before that. Less
/// the clock of a file system, which may be behind.
const READS_AFTER: SignedDuration = SignedDuration::from_millis(85);
/// How long it is given to take the file, each time it is shown to it. It overlooks a change within 0.2 s of the
/// last one it took; and on FreeBSD, where its watcher asks kqueue(2), it may see another file that is new.
const TRIES: [Duration; 6] = [
    Duration::from_millis(250),
    Duration::from_millis(700),
    Duration::from_millis(700),
    Duration::from_millis(700),
    Duration::from_millis(700),
    Duration::from_millis(700),
];
const CHECK_LIMIT: Duration = Duration::from_secs(20);
/// Lines that are searched for its word; more than it says of one change, whatever its level.
const LINES: usize = 5000;
/// From TERM to KILL. While a connection is open, and be it idle, it serves nobody else, for up to 30 s: so this is
/// how long a restart may leave its ports unserved.
const DRAIN: Duration = Duration::from_millis(1500);

/// The reverse proxy.
pub struct TrafficCop {
    supervisor: Supervisor,
}

impl TrafficCop {
    pub fn new(supervisor: Supervisor) -> Self {
        Self { supervisor }
    }

    /// Whether it has said, since `moment`, that it took its file.
    fn has_taken(&self, moment: Timestamp) -> bool {
        let lines = self.supervisor.log(self.kind().program(), LINES).unwrap_or_default();
        lines.iter().rev().take_while(|line| line.at >= moment).any(|line| line.line.contains(TAKEN))
    }

    fn wait_until_taken(&self, moment: Timestamp, within: Duration) -> bool {
        let end = Instant::now() + within;
        while Instant::now() < end {
            if self.has_taken(moment) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }
}

/// Compiles, and checks the certificates on disk.
pub fn compile(config: &Config, facts: &Facts) -> (Proxy, Findings) {
    let (compiled, findings, _) = compile_with_certificates(config, facts);
    (compiled, findings)
}

/// As [`compile`], with a digest of the certificates and keys that a start takes.
fn compile_with_certificates(config: &Config, facts: &Facts) -> (Proxy, Findings, String) {
    let mut digest = digest::Context::new(&digest::SHA256);
    let compiled = proxy::compile(config, facts);
    let mut findings = compiled.findings.clone();
    for row in config.proxy_tls_certs.iter() {
        let (cert, key) = (facts.path(&row.body.cert_file), facts.path(&row.body.key_file));
        match certificates::read_pair(&cert, &key) {
            Ok(bytes) => bytes.iter().for_each(|bytes| digest.update(bytes)),
            Err(reason) => {
                let text = format!("certificate {:?}: {reason}", row.name);
                // One bad pair makes the daemon forget all of them.
                match compiled.needs_certificates {
                    true => {
                        let harm = "the daemon would serve plain HTTP instead of TLS";
                        findings.errors.push(format!("{text}; {harm}"));
                    }
                    false => findings.warnings.push(text),
                }
            }
        }
    }
    let digest = match compiled.secure.is_empty() {
        true => String::new(),
        false => data_encoding::HEXLOWER.encode(digest.finish().as_ref()),
    };
    (compiled, findings, digest)
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
        let (compiled, findings, certificates) = compile_with_certificates(config, facts);
        if !findings.errors.is_empty() {
            return Err(ServiceError::Refused(findings.errors.join("; ")));
        }
        let log = match config.proxy.access_log_enabled {
            true => config.proxy.access_log_path.clone(),
            false => String::new(),
        };
        Ok(Artifacts {
            enabled: config.proxy.enabled,
            files: vec![compiled.file()?],
            seeds: Vec::new(),
            warnings: findings.warnings,
            facts: vec![
                ("fixed", compiled.fixed_part()),
                ("certificates", certificates),
                ("obtains certificates", compiled.obtains_certificates.to_string()),
                ("entry points", compiled.entry_points().join(" ")),
                ("secure", compiled.secure.iter().map(String::as_str).collect::<Vec<_>>().join(" ")),
                ("access log", log),
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
        let fixed = format!("{} {}", artifacts.fact("certificates"), artifacts.fact("fixed"));
        let fixed = digest::digest(&digest::SHA256, fixed.as_bytes());
        let mut spec = base_spec(self.kind(), program, facts)
            .arg("-c")
            .arg(facts.places.config.join(FILE))
            .env("RUST_LOG", levels)
            .env("RUST_BACKTRACE", "0")
            .env("AIFW_FIXED_PART", data_encoding::HEXLOWER.encode(fixed.as_ref()));
        let places = artifacts.fact("listens").split(' ').filter_map(|place| place.parse().ok()).collect();
        let names = |fact: &str| artifacts.fact(fact).split_whitespace().map(str::to_owned).collect();
        spec.readiness = Arc::new(AllListening {
            supervisor: self.supervisor.clone(),
            entry_points: names("entry points"),
            secure: names("secure"),
            places,
        });
        // The first certificates are got before anything listens.
        let obtains = artifacts.fact("obtains certificates") == "true";
        spec.ready_within = Duration::from_secs(if obtains { 180 } else { 15 });
        spec.liveness =
            Some(Liveness { every: Duration::from_secs(20), within: Duration::from_secs(5), misses: 3 });
        spec.limits.open_files = Some(65_536);
        spec.grace = DRAIN;
        let log = artifacts.fact("access log");
        if !log.is_empty()
            && let Err(error) = access_log::prepare(&facts.path(log))
        {
            log::warn!("the reverse proxy's access log {log}: {error}");
        }
        spec
    }

    fn reload(&self, _: &[PathBuf], artifacts: &Artifacts, facts: &Facts) -> Result<bool, ServiceError> {
        let Some(file) = artifacts.files.iter().find(|file| file.path == Path::new(FILE)) else {
            return Ok(false);
        };
        let path = facts.places.config.join(FILE);
        let fault = |error| ServiceError::io(&path, error);
        let written = std::fs::metadata(&path).and_then(|metadata| metadata.modified()).map_err(fault)?;
        let written = Timestamp::try_from(written).unwrap_or(facts.now);
        // Its word about the file before this one must not count.
        let moment = written.checked_add(READS_AFTER).unwrap_or(written);
        for (attempt, within) in TRIES.into_iter().enumerate() {
            match attempt {
                0 => {}
                // Another time stamp is a change, too.
                odd if odd % 2 == 1 => {
                    let file = std::fs::File::options().write(true).open(&path).map_err(fault)?;
                    file.set_modified(std::time::SystemTime::now()).map_err(fault)?;
                }
                _ => files::write(&path, &file.bytes, file.mode)?,
            }
            if self.wait_until_taken(moment, within) {
                return Ok(true);
            }
        }
        log::warn!("TrafficCop did not take its changed file while it ran; it is restarted");
        Ok(false)
    }
}

/// Ready when it says that each entry point listens, with TLS where that is configured, and every place takes
/// connections. A place that it could not bind does not end it, and somebody else may listen there: its own word is
/// needed. Without certificates it would listen without TLS.
struct AllListening {
    supervisor: Supervisor,
    entry_points: Vec<String>,
    secure: Vec<String>,
    places: Vec<SocketAddr>,
}

/// `Entrypoint 'web' listening on 0.0.0.0:80 (http)`, `Listener 'web' error: …` (`trafficcop::server`).
const ENTRY_POINT: &str = "Entrypoint '";
const LISTENS: &str = "' listening on ";
const CANNOT: &str = "Listener '";
const PLAIN: &str = "would serve plain HTTP";

/// Whether all that must listen does, by the daemon's own lines.
fn judge(lines: &[&str], entry_points: &[String], secure: &[String]) -> Result<(), String> {
    if let Some((_, rest)) = lines.iter().find_map(|line| line.split_once(CANNOT)) {
        return Err(format!("{CANNOT}{}", super::logs::without_colours(rest)));
    }
    // The name of one, and what it speaks.
    let listening: Vec<(&str, bool)> = lines
        .iter()
        .filter_map(|line| line.split_once(ENTRY_POINT)?.1.split_once(LISTENS))
        .map(|(name, rest)| (name, rest.contains("(https)")))
        .collect();
    if let Some((name, _)) = listening.iter().find(|(name, tls)| !tls && secure.iter().any(|one| one == name))
    {
        // Why, as far as it tells.
        let reasons = ["Failed to initialize ACME", "Failed to load", "Failed to configure"];
        let why =
            lines.iter().find_map(|line| reasons.iter().find_map(|reason| Some(&line[line.find(reason)?..])));
        let why = why.map(|why| format!(": {}", super::logs::without_colours(why))).unwrap_or_default();
        return Err(format!("entry point {name:?} {PLAIN} instead of TLS{why}"));
    }
    let missing: Vec<&str> = entry_points
        .iter()
        .map(String::as_str)
        .filter(|name| listening.iter().all(|(listens, _)| listens != name))
        .collect();
    match missing.is_empty() {
        true => Ok(()),
        false => Err(format!("entry points that do not listen yet: {}", missing.join(", "))),
    }
}

impl AllListening {
    /// What it has said since it was started; nothing to ask once it was ready.
    fn says(&self) -> Result<(), String> {
        let name = ServiceKind::Proxy.program();
        let status = self.supervisor.status(name).map_err(|error| error.to_string())?;
        if status.state != State::Starting {
            return Ok(());
        }
        let lines = self.supervisor.log(name, LINES).unwrap_or_default();
        let lines: Vec<&str> =
            lines.iter().filter(|line| line.at >= status.since).map(|line| line.line.as_str()).collect();
        judge(&lines, &self.entry_points, &self.secure)
    }
}

impl Probe for AllListening {
    /// Waiting does not free a port, nor does it bring certificates once it listens.
    fn is_final(&self, reason: &str) -> bool {
        reason.starts_with(CANNOT) || reason.contains(PLAIN)
    }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_tls_entry_point_that_listens_without_tls_is_not_ready() {
        let names = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let web = " INFO trafficcop::server::listener: Entrypoint 'web' listening on 127.0.0.1:80 (http)";
        let udp = " INFO trafficcop::server: UDP entrypoint 'sec' listening on 127.0.0.1:443";
        let tls = " INFO trafficcop::server::listener: Entrypoint 'sec' listening on 127.0.0.1:443 (https)";
        let plain = " INFO trafficcop::server::listener: Entrypoint 'sec' listening on 127.0.0.1:443 (http)";
        let acme = "ERROR trafficcop: Failed to initialize ACME: no route. Starting without ACME.";
        let judged = |lines: &[&str]| judge(lines, &names("web sec"), &names("sec"));
        assert_eq!(judged(&[web, tls]), Ok(()));
        assert!(judged(&[web, udp]).unwrap_err().ends_with(": sec"), "UDP is another listener");
        let refused = judged(&[acme, web, plain]).unwrap_err();
        assert!(
            refused.contains("\"sec\" would serve plain HTTP") && refused.contains("no route"),
            "{refused}"
        );
        let taken = "ERROR trafficcop::server: Listener 'web' error: Failed to bind to 127.0.0.1:80";
        assert!(judged(&[tls, taken]).unwrap_err().starts_with("Listener 'web' error"));
    }
}
