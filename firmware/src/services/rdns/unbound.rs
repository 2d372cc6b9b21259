//! unbound's figures, through its own unbound-control(8).

use std::collections::HashMap;
use std::process::Stdio;
use std::time::Duration;

use async_io::Timer;
use async_process::Command;
use futures_lite::future;

use super::UNBOUND;
use super::stats::{Cache, Queries, Rpz, Snapshot};
use crate::config::Timestamp;
use crate::services::{Runner, ServiceError};

const PATIENCE: Duration = Duration::from_secs(5);

fn unreachable(reason: impl std::fmt::Display) -> ServiceError {
    ServiceError::Unreachable { service: "unbound", reason: reason.to_string() }
}

/// Runs one of unbound's programs (`""` is unbound itself) and returns what it says.
async fn run(runner: &Runner, suffix: &str, args: &[&str]) -> Result<String, ServiceError> {
    let tools = UNBOUND.map(|name| runner.tool(&format!("{name}{suffix}")));
    let Some(tool) = tools.iter().find(|tool| tool.is_file()) else {
        return Err(ServiceError::NotInstalled("unbound"));
    };
    let mut command = Command::new(tool);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = future::or(async { command.output().await.map_err(unreachable) }, async {
        Timer::after(PATIENCE).await;
        Err(unreachable(format!("no answer within {} s", PATIENCE.as_secs())))
    })
    .await?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(unreachable(String::from_utf8_lossy(&output.stderr).trim())),
    }
}

pub async fn snapshot(runner: &Runner) -> Result<Snapshot, ServiceError> {
    let config = runner.places().config.join("unbound.conf");
    let config = config.to_string_lossy();
    let said = run(runner, "-control", &["-c", &config, "stats_noreset"]).await?;
    Ok(read(&said, u64::try_from(Timestamp::now().as_millisecond()).unwrap_or_default()))
}

pub async fn version(runner: &Runner) -> Option<String> {
    run(runner, "", &["-V"]).await.ok()?.lines().next().map(str::to_owned)
}

/// `name=value` lines; what is missing is 0.
fn read(said: &str, ts: u64) -> Snapshot {
    let figures: HashMap<&str, &str> = said.lines().filter_map(|line| line.split_once('=')).collect();
    let figure = |name: &str| -> u64 {
        figures.get(name).and_then(|text| text.parse::<f64>().ok()).unwrap_or_default() as u64
    };
    let (hits, misses) = (figure("total.num.cachehits"), figure("total.num.cachemiss"));
    let asked = hits + misses;
    Snapshot {
        ts,
        cache: Cache {
            entries: figure("msg.cache.count"),
            hits,
            misses,
            hit_rate_pct: if asked == 0 { 0.0 } else { hits as f64 / asked as f64 * 100.0 },
            ..Cache::default()
        },
        rpz: Rpz::default(),
        queries: Some(Queries {
            total: figure("total.num.queries"),
            nxdomain: figure("num.answer.rcode.NXDOMAIN"),
            servfail: figure("num.answer.rcode.SERVFAIL"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_by_name() {
        let said = "total.num.queries=10\ntotal.num.cachehits=6\ntotal.num.cachemiss=2\nnum.answer.rcode.NXDOMAIN=1\nmsg.cache.count=5\n";
        let snapshot = read(said, 7);
        assert_eq!((snapshot.ts, snapshot.cache.entries, snapshot.cache.hits), (7, 5, 6));
        assert_eq!(snapshot.cache.hit_rate_pct, 75.0);
        assert_eq!(snapshot.queries, Some(Queries { total: 10, nxdomain: 1, servfail: 0 }));
    }
}
