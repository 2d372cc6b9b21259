//! rTIME under supervision: its arguments, readiness, sources and state. It takes no changes while it runs: each one
//! restarts it. It has no checker, so it is started dry.

mod dry;
mod machine;
mod resolve;
mod status;
mod watch;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use dry::start as dry_start;
pub use machine::check_machine;
pub use resolve::{Names, resolve};
use status::Answering;
pub use status::{Answer, SourceState, TimeState, ask, query};
pub use watch::Watch;

use super::{Daemon, ServiceError, api_key, base_spec};
use crate::compile::services::{Artifacts, Facts, Places, time};
use crate::config::time::SourceAddress;
use crate::config::{Config, ServiceKind};
use crate::supervisor::{Listening, Liveness, Probe, ServiceSpec, Started};

const FILE: &str = "rtime.toml";

/// The time service.
#[derive(Default)]
pub struct Rtime {
    names: Names,
}

/// `rTime 0.15.1` from `rtime -V`.
pub fn version(program: &Path) -> Option<String> {
    let told = crate::tool::Tool::new(program, Duration::from_secs(5)).run(&["-V"], "").ok()?;
    told.stdout.split_whitespace().nth(1).map(str::to_owned)
}

/// Time between two questions to a source, by its address. Which name an address came from is not known here: the
/// slowest of the names counts.
pub fn poll(applied: &Config, address: &str) -> Duration {
    let enabled = || applied.time_sources.iter().filter(|source| source.enabled);
    let seconds = |log2: u8| Duration::from_secs(1 << log2.min(17));
    let exact = enabled().find(|source| match source.address.parse() {
        Ok(SourceAddress::Ip(place)) => place.to_string() == address,
        _ => false,
    });
    let slowest = enabled().map(|source| source.min_poll).max().unwrap_or_default();
    seconds(exact.map_or(slowest, |source| source.min_poll))
}

impl Daemon for Rtime {
    fn kind(&self) -> ServiceKind {
        ServiceKind::Time
    }

    fn artifacts(&self, config: &Config, facts: &Facts) -> Result<Artifacts, ServiceError> {
        // Stored values were checked; what was imported was not.
        config.time.check().map_err(|invalid| ServiceError::Refused(invalid.to_string()))?;
        let (sources, mut warnings) = self.names.sources(config, &facts.places);
        warnings.extend(time::warnings(config, facts));
        let file = time::file(&config.time, &sources, &api_key(&facts.places)?, facts)?;
        let settings = &config.time;
        let management = settings.management_enabled.then(|| time::management(settings, facts).to_string());
        let metrics = settings.metrics_enabled.then(|| time::metrics(settings, facts).to_string());
        Ok(Artifacts {
            enabled: config.time.enabled,
            files: vec![file],
            warnings,
            facts: vec![
                ("level", config.time.log_level.clone()),
                ("management", management.unwrap_or_default()),
                ("metrics", metrics.unwrap_or_default()),
            ],
            ..Artifacts::default()
        })
    }

    fn check(&self, program: &Path, artifacts: &Artifacts, places: &Places) -> Result<(), ServiceError> {
        let texts = artifacts.files.iter().filter(|file| file.path == Path::new(FILE));
        texts
            .map(|file| String::from_utf8_lossy(&file.bytes))
            .try_for_each(|text| dry::start(program, &text, places))
    }

    fn spec(&self, program: &Path, artifacts: &Artifacts, facts: &Facts) -> ServiceSpec {
        let mut spec = base_spec(self.kind(), program, facts)
            .arg("--config")
            .arg(facts.places.config.join(FILE))
            .arg("-l")
            .arg(artifacts.fact("level"));
        if facts.sandbox {
            spec = spec.arg("--no-discipline");
        }
        let place = |fact| artifacts.fact(fact).parse::<SocketAddr>().ok();
        let probe: Option<Arc<dyn Probe>> = match (place("management"), place("metrics")) {
            // With the key: that something listens there does not make it this daemon.
            (Some(place), _) => {
                let key = api_key(&facts.places).unwrap_or_default();
                Some(Arc::new(Answering { place, key }))
            }
            (None, Some(place)) => Some(Arc::new(Listening(place))),
            (None, None) => None,
        };
        match probe {
            Some(probe) => {
                spec.readiness = probe;
                spec.liveness = Some(Liveness {
                    every: Duration::from_secs(30),
                    within: Duration::from_secs(5),
                    misses: 3,
                });
            }
            // Neither API is on: that it runs is all that can be known.
            None => spec.readiness = Arc::new(Started),
        }
        spec.ready_within = Duration::from_secs(5);
        spec
    }
}
