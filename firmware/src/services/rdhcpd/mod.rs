//! rDHCP under supervision: its arguments, readiness, checker and API. It takes no changes while it runs: each one
//! restarts it; leases are kept by its log of them.

mod client;
pub mod ddns;

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
use crate::supervisor::{Listening, Liveness, ServiceSpec};
use crate::tool::{Tool, ToolError};

const FILE: &str = "config.toml";
/// DHCP (RFC 2131).
const PORT: u16 = 67;
/// How long names of time servers count as resolved.
const FRESH: Duration = Duration::from_secs(60);
/// A dry start that is still running then has passed.
const DRY_START: Duration = Duration::from_secs(2);

type Resolved = BTreeMap<Arc<str>, Vec<IpAddr>>;

/// The DHCP server.
#[derive(Default)]
pub struct Rdhcpd {
    resolved: Mutex<Option<(Instant, Vec<Arc<str>>, Resolved)>>,
}

impl Rdhcpd {
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

    /// There is no checker: it is started dry, as nobody, who may neither take its lock nor bind its port. It reads
    /// and checks its file before either.
    fn check(&self, program: &Path, artifacts: &Artifacts, _: &Places) -> Result<(), ServiceError> {
        let Some(file) = artifacts.files.first().filter(|_| artifacts.fact("subnets") != "0") else {
            return Ok(());
        };
        // Where nobody can read it, without what nobody may read.
        let directory = DryStart::new()?;
        let text = String::from_utf8_lossy(&file.bytes);
        let leases = directory.0.join("leases").display().to_string();
        let secret = |line: &&str| !line.starts_with("api_key = ") && !line.starts_with("listen = ");
        let lines = text.lines().filter(|line| *line != "[api]").filter(secret).map(|line| {
            match line.starts_with("lease_db = ") {
                true => format!("lease_db = {leases:?}"),
                false => line.to_owned(),
            }
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
        }
        let ended = match outcome {
            Ok(ended) => ended,
            Err(ToolError::TimedOut { .. }) => return Ok(()),
            Err(error) => return Err(ServiceError::Refused(error.to_string())),
        };
        let said = super::logs::without_colours_all(&format!("{}\n{}", ended.stdout, ended.stderr));
        match said
            .lines()
            .find(|line| line.contains("failed to load configuration") || line.contains("panicked"))
        {
            None => Ok(()),
            Some(line) => {
                let reason = line.split_once("error=").map_or(line, |(_, reason)| reason);
                Err(ServiceError::Refused(format!("rDHCP refuses this configuration: {reason}")))
            }
        }
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
            spec.readiness = Arc::new(Listening(place));
            spec.liveness =
                Some(Liveness { every: Duration::from_secs(30), within: Duration::from_secs(5), misses: 3 });
        }
        spec.ready_within = Duration::from_secs(5);
        spec
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
