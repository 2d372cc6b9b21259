//! rTIME under supervision: its arguments, readiness, sources and state. It takes no changes while it runs: each one
//! restarts it. It has no checker: what would end it is refused when it is stored, and the rest of the file is ours.

mod resolve;
mod status;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use resolve::{Names, resolve};
pub use status::{Answer, SourceState, TimeState, ask, query};

use super::{Daemon, ServiceError, api_key, base_spec};
use crate::compile::services::{Artifacts, Facts, Places, time};
use crate::config::{Config, ServiceKind};
use crate::supervisor::{Listening, Liveness, ServiceSpec, Started};

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

impl Daemon for Rtime {
    fn kind(&self) -> ServiceKind {
        ServiceKind::Time
    }

    fn artifacts(&self, config: &Config, facts: &Facts) -> Result<Artifacts, ServiceError> {
        let (sources, mut warnings) = self.names.sources(config, &facts.places);
        warnings.extend(time::warnings(config, facts));
        let file = time::file(&config.time, &sources, &api_key(&facts.places)?, facts)?;
        let management =
            config.time.management_enabled.then(|| time::management(&config.time, facts).to_string());
        let ready =
            management.or_else(|| config.time.metrics_enabled.then(|| config.time.metrics_listen.clone()));
        Ok(Artifacts {
            enabled: config.time.enabled,
            files: vec![file],
            warnings,
            facts: vec![("level", config.time.log_level.clone()), ("ready", ready.unwrap_or_default())],
            ..Artifacts::default()
        })
    }

    /// Nothing can be asked; a dry start would need its ports.
    fn check(&self, _: &Path, _: &Artifacts, _: &Places) -> Result<(), ServiceError> {
        Ok(())
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
        match artifacts.fact("ready").parse::<SocketAddr>() {
            Ok(place) => {
                spec.readiness = Arc::new(Listening(place));
                spec.liveness = Some(Liveness {
                    every: Duration::from_secs(30),
                    within: Duration::from_secs(5),
                    misses: 3,
                });
            }
            // Neither API is on: that it runs is all that can be known.
            Err(_) => spec.readiness = Arc::new(Started),
        }
        spec.ready_within = Duration::from_secs(5);
        spec
    }
}
