//! The unattended setup file (contract/console.md §3), and the configuration it stands for: roles, policy,
//! first rules, NAT, DNS and DHCP (§5), a CARP pair, tuning (§4). Pure; used by the API's setup operations, by
//! `aifw setup --pf-only` and by the sandbox. The first-boot dialogue builds the same file from its answers, and
//! judges each with the same functions ([`answers`]).

pub mod answers;
pub mod facts;
mod file;
pub mod moves;
mod reconfigure;
mod seeds;

use std::sync::Arc;

pub use facts::{Buffers, Facts, TuningItem};
use file::{File, KEYS, TuningChoice, TuningWord, WITHOUT_EFFECT};
use seeds::Seeds;
use serde_json::Value;

use super::request;
use super::settings::Tuning;
use super::{AuthSettings, Config, FirewallSettings, InterfaceName, Invalid, Secret, Timestamp};

/// What a setup file asks for, checked.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The configuration to start with: seeded rules, NAT, DNS, DHCP, roles and policy.
    pub config: Config,
    pub admin: Option<Admin>,
    /// To be stored as [`super::System::root_password_hash`].
    pub root_password: Option<RootPassword>,
    /// Keys of this GitHub user are to be fetched and added.
    pub ssh_github_user: Option<String>,
    /// What the administrator should know though it stops nothing.
    pub warnings: Vec<String>,
}

/// The first administrator.
#[derive(Debug, Clone)]
pub struct Admin {
    pub username: String,
    pub password: AdminPassword,
    /// Base32; a second factor is in force from the first login on if `totp_enabled`.
    pub totp_secret: Option<Secret>,
    pub totp_enabled: bool,
    pub recovery_codes: Vec<Secret>,
}

#[derive(Debug, Clone)]
pub enum AdminPassword {
    Plain(Secret),
    /// PHC string, Argon2id.
    Hash(Secret),
}

/// How root signs in on the console.
#[derive(Debug, Clone)]
pub enum RootPassword {
    Plain(Secret),
    /// crypt(3).
    Hash(Secret),
}

impl Setup {
    /// Reads and checks a setup file. Every key is optional but the administrator's password or its hash.
    pub fn parse(json: &[u8], now: Timestamp, facts: &Facts) -> Result<Self, Invalid> {
        let file: File = request::parse(json)?;
        let (admin, root_password) = (file.admin()?, file.root()?);
        Ok(Self { admin: Some(admin), root_password, ..Self::read(file, json, now, facts)? })
    }

    /// As [`Setup::parse`], without an administrator: the first who registers becomes it.
    pub fn parse_without_admin(json: &[u8], now: Timestamp) -> Result<Self, Invalid> {
        Self::read(request::parse(json)?, json, now, &Facts::default())
    }

    fn read(file: File, json: &[u8], now: Timestamp, facts: &Facts) -> Result<Self, Invalid> {
        let mut warnings = Vec::new();
        if let Ok(Value::Object(map)) = serde_json::from_slice::<Value>(json) {
            for key in map.keys() {
                if !KEYS.contains(&key.as_str()) && !WITHOUT_EFFECT.contains(&key.as_str()) {
                    warnings.push(format!("{key}: not a key of the setup file, ignored"));
                }
            }
        }
        let facts = match file.ram_mb {
            None | Some(0 | 1024) => facts.clone(),
            Some(ram_mb) => Facts { ram_mb, ..facts.clone() },
        };
        let wan = match &file.wan_interface {
            Some(name) => name.clone(),
            None => answers::interface("wan_interface", "em0")?,
        };
        let (system, lan) = file.system(&wan, &mut warnings)?;
        let mut config = Config {
            auth: Arc::new(AuthSettings { require_totp: file.totp_enabled, ..AuthSettings::default() }),
            firewall: Arc::new(FirewallSettings {
                default_policy: file.default_policy,
                automatic_nat: file.nat_enabled,
                ..FirewallSettings::default()
            }),
            tuning: Arc::new(tuning(&facts, &file.tuning)?),
            time_sources: crate::config::time::seeds().into_iter().collect(),
            ids_rulesets: crate::config::ids::seeds().into_iter().collect(),
            ..Config::default()
        };
        config.system = Arc::new(system);
        if let Some(buffers) = facts.buffers() {
            Arc::make_mut(&mut config.ids).alert_buffer_mb = buffers.alert_mb;
            Arc::make_mut(&mut config.dashboard).history_seconds = buffers.history_seconds;
        }
        let seeds = Seeds { now, wan: &wan, lan: lan.as_ref(), api_port: file.api_port.0 };
        seeds.rules(file.default_policy, file.dhcp_enabled, &mut config, &mut warnings)?;
        if file.nat_enabled {
            seeds.nat(&mut config)?;
        }
        seeds.dns(&file.dns_servers, &mut config);
        if file.dhcp_enabled {
            seeds.dhcp(&mut config)?;
        }
        if let Some(cluster) = &file.cluster {
            seeds.cluster(cluster, &mut config)?;
        }
        Ok(Self {
            config,
            admin: None,
            root_password: None,
            ssh_github_user: file.ssh_github_user.filter(|user| !user.is_empty()),
            warnings,
        })
    }

    /// The interfaces that the configuration names.
    pub fn interfaces(&self) -> Vec<(&'static str, InterfaceName)> {
        let system = &self.config.system;
        let named = [("wan_interface", &system.wan_interface), ("lan_interface", &system.lan_interface)];
        let mut all: Vec<_> =
            named.into_iter().filter_map(|(field, name)| Some((field, name.clone()?))).collect();
        if let Some(pfsync) = &self.config.ha.pfsync {
            all.push(("cluster.sync_interface", pfsync.sync_interface.clone()));
        }
        all.extend(self.config.carp_vips.iter().map(|vip| ("cluster.vips", vip.interface.clone())));
        all
    }
}

fn some(secret: &Secret) -> Option<Secret> {
    (!secret.is_empty()).then(|| secret.clone())
}

/// The list of the machine, its items on or off as the file says.
fn tuning(facts: &Facts, choice: &TuningChoice) -> Result<Tuning, Invalid> {
    let items = facts.tuning();
    if let TuningChoice::These(keys) = choice
        && let Some(stranger) = keys.iter().find(|key| !items.iter().any(|item| item.key == **key))
    {
        return Err(Invalid::new("tuning", format!("{stranger:?} is not an item of this machine's list")));
    }
    // A machine whose size is not known gets no list: its numbers would be wrong.
    if facts.ram_mb == 0 {
        return Ok(Tuning::default());
    }
    let entries = items.iter().map(|item| {
        item.entry(match choice {
            TuningChoice::Word(TuningWord::Default) => item.on,
            TuningChoice::Word(TuningWord::None) => false,
            TuningChoice::These(keys) => keys.contains(&item.key),
        })
    });
    Ok(Tuning { entries: entries.collect() })
}

#[cfg(test)]
mod tests;
