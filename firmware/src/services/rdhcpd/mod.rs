//! rDHCP under supervision: its arguments, readiness, checker and API. It takes no changes while it runs: each one
//! restarts it; leases are kept by its log of them.

mod client;
pub mod ddns;
mod serving;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use client::{Client, Lease, PoolStats};

use super::{Daemon, ServiceError, api_key, base_spec, files, rtime};
use crate::compile::services::{Artifacts, Facts, Places, dhcp};
use crate::config::{Config, ServiceKind};
use crate::supervisor::{Liveness, ServiceSpec, Supervisor};
use crate::tool::{Tool, ToolError};

const FILE: &str = "config.toml";
/// DHCP (RFC 2131).
const PORT: u16 = 67;
/// How long names of time servers count as resolved.
const FRESH: Duration = Duration::from_secs(60);
/// Checked by rDHCP 0.16.2 after everything else, and then refused.
const MISSING_MODE: &str = "mode = \"active-active\"\npeer = \"127.0.0.1:9000\"\ntls_insecure = true";
const PASSED: &str = "HA mode is not yet implemented";
/// A dry start that is still running then has passed.
const DRY_START: Duration = Duration::from_secs(2);

type Resolved = BTreeMap<Arc<str>, Vec<IpAddr>>;
/// When, what was asked for, and the answer.
type Held = (Instant, Vec<Arc<str>>, Resolved);

/// The DHCP server.
pub struct Rdhcpd {
    supervisor: Supervisor,
    resolved: Mutex<Option<Held>>,
}

impl Rdhcpd {
    pub fn new(supervisor: Supervisor) -> Self {
        Self { supervisor, resolved: Mutex::default() }
    }

    fn resolved(&self, names: Vec<Arc<str>>) -> Resolved {
        let mut held = self.resolved.lock().unwrap_or_else(PoisonError::into_inner);
        match &*held {
            Some((at, known, resolved)) if at.elapsed() < FRESH && *known == names => resolved.clone(),
            _ => {
                let resolved: Resolved = rtime::resolve(names.clone()).into_iter().collect();
                *held = Some((Instant::now(), names, resolved.clone()));
                resolved
            }
        }
    }
}

impl Daemon for Rdhcpd {
    fn kind(&self) -> ServiceKind {
        ServiceKind::Dhcp
    }

    fn artifacts(&self, config: &Config, facts: &Facts) -> Result<Artifacts, ServiceError> {
        let resolved = self.resolved(dhcp::names(config));
        let mut warnings = dhcp::warnings(config, facts);
        let lost = resolved.iter().filter(|(_, addresses)| !addresses.iter().any(IpAddr::is_ipv4));
        warnings.extend(
            lost.map(|(name, _)| format!("ntp_servers: {name} has no IPv4 address now, and is left out")),
        );
        let leases = facts.places.data.join("leases");
        files::make_directory(&leases, 0o700)?;
        Ok(Artifacts {
            enabled: config.dhcp.enabled,
            files: vec![dhcp::file(config, &resolved, &api_key(&facts.places)?, facts)?],
            warnings,
            facts: vec![
                ("level", config.dhcp.log_level.clone()),
                ("api", dhcp::api(config).to_string()),
                ("subnets", dhcp::subnets(config, facts).len().to_string()),
            ],
            ..Artifacts::default()
        })
    }

    /// There is no checker: it is started dry, as nobody, who may not take its lock. The copy asks for a mode that
    /// this version checks but does not have, so that it ends by itself before it opens a socket, having read and
    /// checked its file and built its pools.
    fn check(&self, program: &Path, artifacts: &Artifacts, _: &Places) -> Result<(), ServiceError> {
        let Some(file) = artifacts.files.first().filter(|_| artifacts.fact("subnets") != "0") else {
            return Ok(());
        };
        // Where nobody can read it, without what nobody may read.
        let directory = DryStart::new()?;
        let text = String::from_utf8_lossy(&file.bytes);
        let leases = directory.0.join("leases").display().to_string();
        let secret = |line: &&str| !line.starts_with("api_key = ") && !line.starts_with("listen = ");
        let lines = text.lines().filter(|line| *line != "[api]").filter(secret).map(|line| match line {
            "mode = \"standalone\"" => MISSING_MODE.to_owned(),
            line if line.starts_with("lease_db = ") => format!("lease_db = {leases:?}"),
            line => line.to_owned(),
        });
        let copy = directory.0.join(FILE);
        let text = lines.collect::<Vec<_>>().join("\n");
        files::write(&copy, text.as_bytes(), 0o644)?;
        let run = |program: &Path| {
            let tool = Tool::new(program, DRY_START).unprivileged().env("NO_COLOR", "1");
            // A port that nobody may bind, and that is not in use.
            tool.env("RDHCPD_V4_PORT", "1").run(&[&copy], "")
        };
        let mut outcome = run(program);
        if let Err(ToolError::Io { source, .. }) = &outcome
            && source.kind() == std::io::ErrorKind::PermissionDenied
        {
            // A development host keeps it where only its owner may look.
            let own = directory.0.join("rdhcpd");
            std::fs::copy(program, &own).map_err(|error| ServiceError::io(&own, error))?;
            outcome = run(&own);
            // A child that another thread was about to start may hold the copy open for writing, for a moment.
            for _ in 0..50 {
                match &outcome {
                    Err(ToolError::Io { source, .. })
                        if source.kind() == std::io::ErrorKind::ExecutableFileBusy =>
                    {
                        std::thread::sleep(Duration::from_millis(20));
                        outcome = run(&own);
                    }
                    _ => break,
                }
            }
        }
        let ended = match outcome {
            Ok(ended) => ended,
            Err(ToolError::TimedOut { .. }) => return Ok(()),
            Err(error) => return Err(ServiceError::Refused(error.to_string())),
        };
        let said = super::logs::without_colours_all(&format!("{}\n{}", ended.stdout, ended.stderr));
        if said.contains(PASSED) || said.contains("another instance is already running") {
            return Ok(());
        }
        Err(ServiceError::Refused(format!("rDHCP refuses this configuration: {}", refusal(&said))))
    }

    fn spec(&self, program: &Path, artifacts: &Artifacts, facts: &Facts) -> ServiceSpec {
        let mut spec = base_spec(self.kind(), program, facts)
            .arg(facts.places.config.join(FILE))
            .env("RUST_LOG", artifacts.fact("level"));
        let port = facts.listen.port(PORT);
        if port != PORT {
            spec = spec.env("RDHCPD_V4_PORT", port.to_string());
        }
        if let Ok(place) = artifacts.fact("api").parse::<SocketAddr>() {
            // With the key: that something listens there does not make it this daemon.
            let key = api_key(&facts.places).unwrap_or_default();
            let speaks = matches!(artifacts.fact("level"), "info" | "debug" | "trace");
            spec.readiness = Arc::new(serving::Serving::new(self.supervisor.clone(), place, key, speaks));
            spec.liveness =
                Some(Liveness { every: Duration::from_secs(30), within: Duration::from_secs(5), misses: 3 });
        }
        spec.ready_within = Duration::from_secs(5);
        spec
    }
}

/// Why it ended, in its own words, which may be several lines.
fn refusal(said: &str) -> String {
    let tail = match said.split_once("error=") {
        Some((_, reason)) => reason,
        None => match said.find("Error: ").or_else(|| said.find("panicked")) {
            Some(at) => &said[at..],
            None => said,
        },
    };
    // The next line of its log begins with a time.
    let logged =
        |line: &str| line.get(..11).is_some_and(|start| start.ends_with('T') && start.starts_with("20"));
    let lines: Vec<&str> = tail
        .lines()
        .take_while(|line| !logged(line))
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .collect();
    match lines.is_empty() {
        true => "it ended without a word".into(),
        false => lines.join("\n"),
    }
}

/// A directory for a dry start, which goes when it is dropped.
struct DryStart(std::path::PathBuf);

impl DryStart {
    fn new() -> Result<Self, ServiceError> {
        let path = std::env::temp_dir().join(format!("aifw-dry-{}", crate::config::Id::new_v4().simple()));
        files::make_directory(&path, 0o755)?;
        let directory = Self(path);
        let leases = directory.0.join("leases");
        files::make_directory(&leases, 0o777)?;
        // The mode that is asked for is subject to the umask.
        let opened = std::fs::set_permissions(&leases, std::fs::Permissions::from_mode(0o777));
        opened.map_err(|error| ServiceError::io(&leases, error))?;
        Ok(directory)
    }
}

impl Drop for DryStart {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_whole_and_without_what_else_was_logged() {
        let said = "2026-01-01T00:00:00Z  INFO rdhcpd: starting\n2026-01-01T00:00:01Z ERROR rdhcpd: failed to load \
                    configuration path=/x error=TOML parse error at line 3\n  |\n3 | a = = b\n";
        assert_eq!(refusal(said), "TOML parse error at line 3\n  |\n3 | a = = b");
        assert_eq!(refusal("2026-01-01T00:00:00Z  INFO x\nError: \"no room\"\n"), "Error: \"no room\"");
    }
}
