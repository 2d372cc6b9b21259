//! Suricata: how it is run, checked, asked and reloaded ([`Suricata`]), its rules ([`rules`]), the alerts that it
//! raises ([`alerts`]), and sources that are blocked for a time ([`blocks`]). [`Ids`] holds what lasts beside the
//! process.

pub mod alerts;
pub mod blocks;
pub mod captures;
pub mod download;
mod eve;
pub mod pump;
pub mod rules;
mod socket;
mod stats;
mod syslog;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use eve::Tailer;
pub use socket::{CommandSocket, RulesetStats};
pub use stats::{EngineStats, Stats};

use super::{Daemon, ServiceError, base_spec, files};
use crate::compile::services::ids::{self as compile, Capture};
use crate::compile::services::{Artifacts, Facts, File, ListenMap, Places};
use crate::config::{Config, ServiceKind};
use crate::supervisor::{Backoff, Probe, ServiceSpec};
use crate::tool::Tool;
use rules::RuleBook;

const CHECK_LIMIT: Duration = Duration::from_secs(60);
const FILE: &str = "suricata.yaml";
/// Where captures are put that the engine of a sandbox is to read.
pub const CAPTURES: &str = "captures";

/// What lasts beside the engine: rules, alerts, blocked sources, counters.
pub struct Ids {
    pub rules: RuleBook,
    pub alerts: alerts::Alerts,
    pub blocks: blocks::Blocks,
    pub stats: Stats,
}

impl Ids {
    /// Everything below the engine's data directory.
    pub fn open(data: PathBuf) -> Self {
        Self {
            rules: RuleBook::new(data.join("rulesets")),
            alerts: alerts::Alerts::new(&data),
            blocks: blocks::Blocks::default(),
            stats: Stats::default(),
        }
    }
}

/// The engine.
pub struct Suricata {
    ids: Arc<Ids>,
}

impl Suricata {
    pub fn new(ids: Arc<Ids>) -> Self {
        Self { ids }
    }
}

/// A sandbox whose interfaces are simulated reads files; one that listens as configured has real ones.
fn capture(config: &Config, facts: &Facts) -> (Capture, Vec<String>) {
    if facts.sandbox && facts.listen != ListenMap::AsConfigured {
        return (Capture::Files, Vec::new());
    }
    let (interfaces, warnings) = compile::interfaces(config, facts);
    // Of the network that this process is in; /sys may show another one's.
    let there = |name: &String| !facts.sandbox || nix::net::if_::if_nametoindex(name.as_str()).is_ok();
    let live: Vec<String> = interfaces.into_iter().filter(there).collect();
    match live.is_empty() && facts.sandbox {
        true => (Capture::Files, warnings),
        false => (Capture::Live(live), warnings),
    }
}

impl Daemon for Suricata {
    fn kind(&self) -> ServiceKind {
        ServiceKind::Ids
    }

    fn artifacts(&self, config: &Config, facts: &Facts) -> Result<Artifacts, ServiceError> {
        let (capture, mut warnings) = capture(config, facts);
        if capture == Capture::Live(Vec::new()) && config.ids.mode != crate::config::ids::Mode::Disabled {
            return Err(ServiceError::Refused("interfaces: none of them exists".into()));
        }
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let yaml = compile::yaml(config, &capture, cpus, facts)?;
        let (text, notes) = self.ids.rules.text(config);
        warnings.extend(notes);
        if let Some(path) = &config.ids.eve_log_path
            && config.ids.eve_log_enabled
            && let Some(directory) = facts.path(path).parent()
        {
            files::make_directory(directory, 0o755)?;
        }
        files::make_directory(&facts.places.data.join(CAPTURES), 0o755)?;
        // Home and external networks are read anew by a reload of the rules; all the rest of the file is not.
        let fixed = String::from_utf8_lossy(&yaml.bytes)
            .lines()
            .filter(|line| !line.contains("HOME_NET: ") && !line.contains("EXTERNAL_NET: "))
            .collect::<Vec<_>>()
            .join("\n");
        let live = matches!(capture, Capture::Live(_));
        Ok(Artifacts {
            enabled: config.ids.mode != crate::config::ids::Mode::Disabled,
            files: vec![yaml, compile::thresholds(config), File::new("rules/aifw.rules", text)],
            seeds: vec![File::new("empty.rules", "")],
            warnings,
            facts: vec![("fixed", fixed), ("live", live.to_string())],
        })
    }

    /// `suricata -T` with no rules: it looks at the file and at the thresholds. With rules it would refuse all of them
    /// for one that is bad, which the engine itself does not.
    fn check(&self, program: &Path, _: &Artifacts, places: &Places) -> Result<(), ServiceError> {
        let tool = Tool::new(program, CHECK_LIMIT);
        let [yaml, empty] = [FILE, "empty.rules"].map(|name| places.config.join(name));
        let arguments: [&Path; 7] =
            [Path::new("-T"), Path::new("-c"), &yaml, Path::new("-S"), &empty, Path::new("-l"), &places.log];
        let ended = tool.run(&arguments, "").map_err(|error| ServiceError::Refused(error.to_string()))?;
        if ended.success() {
            return Ok(());
        }
        let said = super::logs::without_colours_all(&format!("{}\n{}", ended.stderr, ended.stdout));
        let first = said.lines().find(|line| line.contains("Error") || line.starts_with("E:"));
        let first = first.or_else(|| said.lines().next()).unwrap_or("it does not say why");
        Err(ServiceError::Refused(format!("Suricata refuses this configuration: {first}")))
    }

    fn spec(&self, program: &Path, artifacts: &Artifacts, facts: &Facts) -> ServiceSpec {
        let places = &facts.places;
        let fixed = ring::digest::digest(&ring::digest::SHA256, artifacts.fact("fixed").as_bytes());
        let mut spec = base_spec(self.kind(), program, facts)
            .arg("-c")
            .arg(places.config.join(FILE))
            .arg("-l")
            .arg(&places.log)
            .arg("--pidfile")
            .arg(places.run.join("suricata.pid"))
            .env("AIFW_FIXED_PART", data_encoding::HEXLOWER.encode(fixed.as_ref()));
        spec = match artifacts.fact("live") == "true" {
            true => spec.arg("--pcap"),
            false => spec
                .arg("-r")
                .arg(places.data.join(CAPTURES))
                .arg("--pcap-file-continuous")
                .arg("--pcap-file-delete"),
        };
        spec.stale = vec![places.run.join("suricata.pid"), places.run.join("command.sock")];
        spec.readiness = Arc::new(Answers {
            socket: places.run.join("command.sock"),
            captures: (artifacts.fact("live") != "true").then(|| places.data.join(CAPTURES)),
        });
        // Many rules take long to load.
        spec.ready_within = Duration::from_secs(180);
        spec.grace = Duration::from_secs(20);
        spec.backoff = Backoff { first: Duration::from_millis(500), attempts: 5, ..Backoff::default() };
        spec
    }

    /// Rules, thresholds and networks are taken by a reload.
    fn reload(&self, _: &[PathBuf], _: &Artifacts, facts: &Facts) -> Result<bool, ServiceError> {
        let mut socket = CommandSocket::connect(&facts.places.run.join("command.sock"), socket::RELOAD)?;
        socket.command("reload-rules", None)?;
        Ok(true)
    }
}

/// Ready when the command socket tells a version. An engine that reads files is given a first one each time it starts.
struct Answers {
    socket: PathBuf,
    captures: Option<PathBuf>,
}

impl Probe for Answers {
    fn probe(&self) -> std::pin::Pin<Box<dyn Future<Output = Result<(), String>> + Send>> {
        let (path, captures) = (self.socket.clone(), self.captures.clone());
        Box::pin(blocking::unblock(move || {
            if let Some(directory) = &captures {
                captures::begin(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
            }
            let mut socket =
                CommandSocket::connect(&path, Duration::from_secs(2)).map_err(|error| error.to_string())?;
            socket.command("version", None).map(drop).map_err(|error| error.to_string())
        }))
    }
}
