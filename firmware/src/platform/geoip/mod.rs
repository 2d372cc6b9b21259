//! The geo-IP database: which country and which autonomous system an address belongs to. Reads what the
//! administrator puts into one directory: MaxMind `.mmdb` files and GeoLite2 CSV files (contract/firewall.md §7).
//! Without files every answer is "not known".

mod files;
mod spans;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use ipnet::IpNet;
use serde::Serialize;
use spans::Spans;

/// What went wrong with a database file.
#[derive(Debug, thiserror::Error)]
pub enum GeoIpError {
    #[error("{file}: {reason}")]
    File { file: String, reason: String },
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// What is known of an address (`GET /geoip/lookup/{ip}`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Located {
    pub ip: String,
    pub found: bool,
    pub country: Option<String>,
    pub country_code: Option<String>,
    pub country_name: Option<String>,
    /// The longest network of the database that holds the address.
    pub network: Option<String>,
    pub asn: Option<u32>,
    pub as_org: Option<String>,
}

/// One file of the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct DatabaseFile {
    pub name: String,
    pub bytes: u64,
}

/// A loaded database; immutable.
#[derive(Debug, Default)]
pub struct Database {
    countries: Spans,
    /// ISO code and English name, by the number that stands in `countries`.
    country_list: Vec<(String, Option<String>)>,
    systems: Spans,
    /// AS number and organisation, by the number that stands in `systems`.
    system_list: Vec<(u32, String)>,
}

impl Database {
    pub fn is_empty(&self) -> bool {
        self.countries.is_empty() && self.systems.is_empty()
    }

    pub fn locate(&self, ip: IpAddr) -> Located {
        let country = self
            .countries
            .get(ip)
            .and_then(|(network, at)| Some((network, self.country_list.get(at as usize)?)));
        let system = self
            .systems
            .get(ip)
            .and_then(|(network, at)| Some((network, self.system_list.get(at as usize)?)));
        let code = country.map(|(_, (code, _))| code.clone());
        let network = match (country.map(|(n, _)| n), system.map(|(n, _)| n)) {
            (Some(country), _) => Some(country),
            (None, system) => system,
        };
        Located {
            ip: ip.to_string(),
            found: country.is_some() || system.is_some(),
            country: code.clone(),
            country_code: code,
            country_name: country.and_then(|(_, (_, name))| name.clone()),
            network: network.map(|network: IpNet| network.to_string()),
            asn: system.map(|(_, (number, _))| *number),
            as_org: system.map(|(_, (_, organisation))| organisation.clone()),
        }
    }

    /// Networks of a country (ISO code, upper case): sorted, aggregated, IPv4 before IPv6.
    pub fn networks(&self, country: &str) -> Vec<IpNet> {
        let Some(wanted) = self.country_list.iter().position(|(code, _)| code == country) else {
            return Vec::new();
        };
        self.countries.networks(|value| value as usize == wanted)
    }
}

/// How often the directory is looked at for changed files.
const RECHECK: Duration = Duration::from_secs(5);

type Signature = Vec<(String, u64, Option<SystemTime>)>;

#[derive(Default)]
struct State {
    database: Arc<Database>,
    signature: Signature,
    checked: Option<Instant>,
    /// Networks by country, computed when first asked for.
    networks: HashMap<String, Arc<Vec<IpNet>>>,
    error: Option<String>,
}

/// The database in a directory, read when it is first needed and again when its files have changed. Blocking.
pub struct GeoIp {
    directory: PathBuf,
    state: Mutex<State>,
}

impl GeoIp {
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), state: Mutex::default() }
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn fresh(&self) -> std::sync::MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.checked.is_none_or(|at| at.elapsed() >= RECHECK) {
            state.checked = Some(Instant::now());
            let signature = files::signature(&self.directory);
            if signature != state.signature {
                match files::load(&self.directory) {
                    Ok(database) => {
                        state.database = Arc::new(database);
                        state.networks.clear();
                        state.error = None;
                    }
                    // A broken file leaves the database that was read before in use.
                    Err(error) => {
                        log::warn!("geo-IP database: {error}");
                        state.error = Some(error.to_string());
                    }
                }
                state.signature = signature;
            }
        }
        state
    }

    pub fn database(&self) -> Arc<Database> {
        self.fresh().database.clone()
    }

    /// Networks of a country, computed once per database.
    pub fn networks(&self, country: &str) -> Arc<Vec<IpNet>> {
        let mut state = self.fresh();
        let database = state.database.clone();
        state
            .networks
            .entry(country.to_owned())
            .or_insert_with(|| Arc::new(database.networks(country)))
            .clone()
    }

    /// The files present, and what was wrong with them when they were read last.
    pub fn status(&self) -> (Vec<DatabaseFile>, Option<String>) {
        let state = self.fresh();
        let files =
            state.signature.iter().map(|(name, bytes, _)| DatabaseFile { name: name.clone(), bytes: *bytes });
        (files.collect(), state.error.clone())
    }

    /// Puts a file into the directory after it was read without error; the old one stays otherwise.
    pub fn install(&self, name: &str, content: &[u8]) -> Result<(), GeoIpError> {
        files::install(&self.directory, name, content)?;
        self.state.lock().unwrap_or_else(PoisonError::into_inner).checked = None;
        Ok(())
    }
}
