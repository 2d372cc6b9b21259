//! A dry start, since the daemon has no check mode: it is given the file with one source more, in front of all others,
//! that no resolver can make anything of. It reads and judges everything, comes to that source and ends, before it has
//! asked a server or opened NTP's port. If it ends for another reason, that is its refusal.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::ServiceError;
use crate::compile::services::Places;
use crate::services::{files, logs};
use crate::supervisor::{Probe, RestartPolicy, ServiceSpec, Supervisor};

const IMPOSSIBLE: &str = "dry-start:99999";
const FILE: &str = "dry.toml";
const NAME: &str = "rtime-dry-start";
/// It is done in a few milliseconds; a machine under load takes longer.
const LIMIT: Duration = Duration::from_secs(20);

/// It never becomes ready: it is waited for to end.
struct Never;

impl Probe for Never {
    fn probe(&self) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> {
        Box::pin(async { Err("still running".into()) })
    }
}

/// Has the daemon look at a file's text. Where a running daemon holds the lock of which there is one per machine
/// (FreeBSD; on Linux this one has a `/run` of its own), nothing can be told and nothing is refused. Blocks.
pub fn start(program: &Path, text: &str, places: &Places) -> Result<(), ServiceError> {
    let path = places.config.join(FILE);
    // The other APIs' ports may be the running daemon's.
    let text = format!("[[ntp.sources]]\naddress = \"{IMPOSSIBLE}\"\n\n{text}");
    files::write(&path, text.as_bytes(), 0o600)?;
    let mut spec = ServiceSpec::new(NAME, program).arg("--config").arg(&path).arg("--no-discipline");
    spec = spec.env("NO_COLOR", "1").env("RUST_BACKTRACE", "0");
    spec.directory = Some(places.data.clone());
    spec.private_run = Some(places.run.join("private"));
    spec.readiness = Arc::new(Never);
    spec.ready_within = LIMIT;
    spec.restart = RestartPolicy::Never;
    let said = smol::block_on(async {
        let supervisor = Supervisor::new();
        supervisor.define(spec);
        let outcome = supervisor.start(NAME).await;
        let lines = supervisor.log(NAME, 20).unwrap_or_default();
        supervisor.shutdown().await;
        match outcome {
            Err(error) if lines.is_empty() => error.to_string(),
            _ => lines.iter().map(|line| logs::without_colours(&line.line)).collect::<Vec<_>>().join("\n"),
        }
    });
    std::fs::remove_file(&path).ok();
    if said.contains(IMPOSSIBLE) || said.contains("another instance is already running") {
        return Ok(());
    }
    let words = said.lines().filter(|line| !line.contains(" INFO ")).collect::<Vec<_>>().join(" ");
    Err(ServiceError::Refused(format!("rTIME refuses the file: {words}")))
}
