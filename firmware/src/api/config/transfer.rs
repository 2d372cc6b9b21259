//! Documents in and out: export, import, restore, and what either would meet.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::sealed::{self, PASSPHRASE_HEADER, SealedError, SealedSecrets};
use super::{Derived, Fingerprint, admin, load_version, note, note_failure, replace_error, unknown_version};
use crate::api::{ApiError, Call, Reply};
use crate::apply::confirm::{ConfirmError, TIMEOUT_SECS};
use crate::config::backup::{self, ConfigDocument, DropSummary, InterfaceMap};
use crate::config::mail::MailEvent;
use crate::config::route::StaticRoute;
use crate::config::system::WanMode;
use crate::config::{Config, System, Timestamp};
use crate::platform::Interface;
use crate::store::{Author, Draft, Moment};

/// A backup file.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Export {
    /// Of the product.
    version: &'static str,
    exported_at: Timestamp,
    /// Without secrets.
    config: ConfigDocument,
    static_routes: Vec<StaticRoute>,
    /// With the header `X-AiFw-Passphrase`: the secrets of `config`, sealed under it.
    #[serde(skip_serializing_if = "Option::is_none")]
    secrets: Option<SealedSecrets>,
}

impl From<SealedError> for ApiError {
    fn from(error: SealedError) -> Self {
        match error {
            SealedError::Seal => Self::internal(error),
            refusal => Self::bad_request(refusal.to_string()),
        }
    }
}

pub async fn export(call: Call) -> Result<Reply, ApiError> {
    let passphrase = call.header(PASSPHRASE_HEADER).map(str::to_owned);
    let app = call.app.clone();
    let export = blocking::unblock(move || {
        let config = ConfigDocument::from_config(&app.store.snapshot().config);
        let secrets = passphrase.map(|passphrase| sealed::seal(&config, &passphrase)).transpose()?;
        Ok::<_, ApiError>(Export {
            version: env!("CARGO_PKG_VERSION"),
            exported_at: Timestamp::now(),
            static_routes: config.static_routes.clone(),
            config,
            secrets,
        })
    })
    .await?;
    if export.secrets.is_some() {
        let author = call.author();
        let written = call.app.store.commit(&author, |draft: &mut Draft| {
            draft.audit.push(note("exported the configuration with its secrets under a passphrase".into()));
            Ok::<(), ApiError>(())
        });
        written.await?;
    }
    Ok(Reply::json(&export))
}

/// A backup file, and what to do with it. Other members are ignored.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ImportRequest {
    /// A configuration document.
    #[schemars(with = "ConfigDocument")]
    config: Value,
    /// Wins over `config.static_routes`. Entries without destination or gateway are left out.
    #[schemars(with = "Option<Vec<StaticRoute>>")]
    static_routes: Option<Vec<Value>>,
    /// Interface in the document → interface here, or `null`: drop what is on it. Names not in it stay.
    interface_map: Option<InterfaceMap>,
    /// Secrets of an export; opened with the header `X-AiFw-Passphrase`, otherwise ignored.
    secrets: Option<SealedSecrets>,
    #[serde(flatten)]
    safety: Safety,
}

/// How a change of everything is kept from locking the administrator out.
#[derive(Debug, Default, Clone, Copy, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Safety {
    /// Apply even if the caller's own connection is cut by it.
    confirm: bool,
    /// Open a commit-confirm window with the change; default no.
    commit_confirm: bool,
    /// Seconds of that window: 10 to 86,400, default 300.
    confirm_timeout: Option<u64>,
}

impl Safety {
    pub fn new(confirm: bool, commit_confirm: bool, confirm_timeout: Option<u64>) -> Self {
        Self { confirm, commit_confirm, confirm_timeout }
    }
    pub fn check(self) -> Result<(), ApiError> {
        match self.confirm_timeout {
            Some(secs) if !TIMEOUT_SECS.contains(&secs) => Err(ApiError::bad_request(format!(
                "confirm_timeout: expected {} to {} seconds",
                TIMEOUT_SECS.start(),
                TIMEOUT_SECS.end()
            ))),
            _ => Ok(()),
        }
    }
    pub fn open_window(self, draft: &mut Draft, author: &Author, description: &str) -> Result<(), ApiError> {
        if !self.commit_confirm {
            return Ok(());
        }
        let deadline = draft.now + Duration::from_secs(self.confirm_timeout.unwrap_or(300));
        if draft.open_window(deadline, description, &author.actor_id, &author.name) {
            Ok(())
        } else {
            Err(ApiError::conflict(ConfirmError::Open.to_string()))
        }
    }
}

impl ImportRequest {
    /// The document that is to be applied: secrets in place, routes chosen, interfaces renamed.
    fn document(self, passphrase: Option<&str>) -> Result<(ConfigDocument, InterfaceMap), ApiError> {
        let mut config = self.config;
        if let (Some(secrets), Some(passphrase)) = (&self.secrets, passphrase) {
            sealed::open(secrets, passphrase, &mut config)?;
        }
        if let (Some(routes), Some(config)) = (self.static_routes, config.as_object_mut()) {
            let complete = |route: &Value| {
                let text = |name: &str| {
                    route.get(name).and_then(Value::as_str).is_some_and(|text| !text.trim().is_empty())
                };
                text("destination") && text("gateway")
            };
            config.insert("static_routes".into(), routes.into_iter().filter(complete).collect());
        }
        let document = ConfigDocument::from_value(config)?;
        Ok((document, self.interface_map.unwrap_or_default()))
    }
}

/// A configuration that is to replace the stored one.
struct Target {
    config: Config,
    print: Fingerprint,
}

impl Target {
    fn of(document: &ConfigDocument, base: &Config) -> Result<Self, ApiError> {
        let config = document.to_config(base, Timestamp::now())?;
        let print = Fingerprint::of(&config);
        Ok(Self { config, print })
    }
}

pub async fn import(call: Call) -> Result<Reply, ApiError> {
    let author = call.author();
    let outcome = try_import(&call, &author).await;
    if let Err(error) = &outcome {
        note_failure(&call.app, &author, "import", error).await;
    }
    outcome
}

async fn try_import(call: &Call, author: &Author) -> Result<Reply, ApiError> {
    let request: ImportRequest = call.json()?;
    let safety = request.safety;
    safety.check()?;
    let passphrase = call.header(PASSPHRASE_HEADER).map(str::to_owned);
    let snapshot = call.app.store.snapshot();
    let (document, prints) = blocking::unblock(move || {
        let (mut document, map) = request.document(passphrase.as_deref())?;
        document.map_interfaces(&map);
        let target = Target::of(&document, &snapshot.config)?;
        let live = Fingerprint::of(&snapshot.config);
        Ok::<_, ApiError>((document, Derived::new(&snapshot, (target, live))))
    })
    .await?;
    let message = format!(
        "Imported: {} rules, {} NAT, {} geo-IP, {} WireGuard, {} IPsec, {} DNS, {} static routes",
        document.rules.len(),
        document.nat.len(),
        document.geoip.len(),
        document.vpn.wireguard.len(),
        document.vpn.ipsec.len(),
        document.system.dns_servers.len(),
        document.static_routes.len(),
    );
    let by = author.clone();
    let change = move |draft: &mut Draft| {
        let anew = |base: &Config| Ok::<_, ApiError>((Target::of(&document, base)?, Fingerprint::of(base)));
        let (target, live) = prints.for_draft(draft, anew)?;
        safety.open_window(draft, &by, "import")?;
        draft.save_version(live.version(Moment::Before, &by.name, Some("before import".into()), false));
        draft.config = target.config;
        let number =
            draft.save_version(target.print.version(Moment::After, &by.name, Some("import".into()), true));
        draft.audit.push(note(format!("imported a configuration as version {number}")));
        draft.comment = Some("import".into());
        Ok(())
    };
    let admin = admin(call, safety.confirm || safety.commit_confirm);
    call.app.applier.replace(author, admin, change).await.map_err(replace_error)?;
    Ok(Reply::message(message))
}

#[derive(Debug, Deserialize, JsonSchema)]
pub struct RestoreRequest {
    version: u64,
    /// As in an import.
    interface_map: Option<InterfaceMap>,
    #[serde(flatten)]
    safety: Safety,
}

pub async fn restore(call: Call) -> Result<Reply, ApiError> {
    let request: RestoreRequest = call.json()?;
    let number = request.version;
    let author = call.author();
    let outcome = try_restore(&call, &author, request).await;
    let mail = call.app.store.snapshot().config.mail.clone();
    let who = &author.name;
    let (event, told) = match &outcome {
        Ok(_) => (MailEvent::RestoreOk, format!("{who} went back to version {number} of the configuration.")),
        Err(error) => {
            note_failure(&call.app, &author, &format!("restore of version {number}"), error).await;
            let reason = &error.message;
            (MailEvent::RestoreFailed, format!("{who} could not go back to version {number}: {reason}"))
        }
    };
    call.app.services.mail().tell(&mail, event, told);
    outcome
}

async fn try_restore(call: &Call, author: &Author, request: RestoreRequest) -> Result<Reply, ApiError> {
    let RestoreRequest { version: number, interface_map, safety } = request;
    safety.check()?;
    let (_, stored) = load_version(&call.app, number).await?;
    let snapshot = call.app.store.snapshot();
    let (target, live) = blocking::unblock(move || {
        let mut document = ConfigDocument::from_config(&stored);
        document.map_interfaces(&interface_map.unwrap_or_default());
        // What the document does not tell is as it was at that version, too.
        let target = Target::of(&document, &stored)?;
        let live = Fingerprint::of(&snapshot.config);
        Ok::<_, ApiError>((target, Derived::new(&snapshot, live)))
    })
    .await?;
    let by = author.clone();
    let change = move |draft: &mut Draft| {
        let live = live.for_draft(draft, |config| Ok::<_, ApiError>(Fingerprint::of(config)))?;
        safety.open_window(draft, &by, &format!("restore of version {number}"))?;
        if draft.ledger.newest_version().is_none_or(|newest| newest.hash != live.hash) {
            let comment = format!("before restore of v{number}");
            draft.save_version(live.version(Moment::Before, &by.name, Some(comment), false));
        }
        if !draft.ledger.versions.contains(&number) {
            return Err(unknown_version(number));
        }
        if let Some(former) = draft.activate_version(number).filter(|former| *former != number) {
            draft.mark_rolled_back(former);
        }
        draft.config = target.config;
        draft.audit.push(note(format!("restored version {number}")));
        draft.comment = Some(format!("restore of version {number}"));
        Ok(())
    };
    let admin = admin(call, safety.confirm || safety.commit_confirm);
    call.app.applier.replace(author, admin, change).await.map_err(replace_error)?;
    Ok(Reply::message(format!("Restored to version {number}")))
}

/// An interface of this machine.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PresentInterface {
    name: String,
    mac: Option<String>,
    ipv4: Option<IpAddr>,
    ipv6: Option<IpAddr>,
    /// `dhcp`, `static`, or `null` where it is not known.
    ipv4_mode: Option<&'static str>,
    /// `up` or `down`.
    status: &'static str,
}

/// What a document would meet on this machine.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Preview {
    /// Sorted names that the document uses.
    interfaces_found: Vec<String>,
    /// Those that this machine does not have.
    interfaces_missing: Vec<String>,
    interfaces_present: Vec<PresentInterface>,
    /// Missing name → present name.
    suggestions: BTreeMap<String, String>,
    /// What goes if every missing interface is dropped.
    drop_summary_if_unmapped: DropSummary,
}

/// Interfaces that no rule can be bound to.
const HIDDEN: [&str; 3] = ["pflog", "pfsync", "enc"];

fn preview(document: &ConfigDocument, system: &System, interfaces: &[Interface]) -> Preview {
    let hidden = |name: &str| HIDDEN.contains(&name.trim_end_matches(|c: char| c.is_ascii_digit()));
    let present: Vec<&Interface> = interfaces.iter().filter(|interface| !hidden(&interface.name)).collect();
    let names: Vec<String> = present.iter().map(|interface| interface.name.clone()).collect();
    let found = document.interfaces_found();
    // All that exist here, hidden ones as well.
    let here = |name: &String| interfaces.iter().any(|interface| interface.name == *name);
    let missing: Vec<String> = found.iter().filter(|name| !here(name)).cloned().collect();
    Preview {
        suggestions: backup::suggestions(&missing, &names),
        drop_summary_if_unmapped: document.drop_summary(&missing),
        interfaces_present: present.into_iter().map(|interface| shown(interface, system)).collect(),
        interfaces_found: found,
        interfaces_missing: missing,
    }
}

fn shown(interface: &Interface, system: &System) -> PresentInterface {
    let address = |v4: bool| interface.addresses.iter().map(ipnet::IpNet::addr).find(|ip| ip.is_ipv4() == v4);
    let is = |name: &Option<crate::config::InterfaceName>| {
        name.as_ref().is_some_and(|name| name.as_str() == interface.name)
    };
    let ipv4_mode = if is(&system.wan_interface) {
        Some(match system.wan_mode {
            WanMode::Dhcp => "dhcp",
            WanMode::Static => "static",
        })
    } else {
        is(&system.lan_interface).then_some("static")
    };
    PresentInterface {
        name: interface.name.clone(),
        mac: interface.mac.clone(),
        ipv4: address(true),
        ipv6: address(false),
        ipv4_mode,
        status: if interface.up { "up" } else { "down" },
    }
}

async fn answer_preview(call: &Call, document: ConfigDocument) -> Result<Reply, ApiError> {
    let app = call.app.clone();
    let preview = blocking::unblock(move || {
        let snapshot = app.store.snapshot();
        // A document that would be refused is refused here, too.
        document.to_config(&snapshot.config, Timestamp::now())?;
        let interfaces = app.platform.interfaces().map_err(ApiError::internal)?;
        Ok::<_, ApiError>(preview(&document, &snapshot.config.system, &interfaces))
    })
    .await?;
    Ok(Reply::json(&preview))
}

pub async fn import_preview(call: Call) -> Result<Reply, ApiError> {
    let request: ImportRequest = call.json()?;
    let (document, _) = request.document(call.header(PASSPHRASE_HEADER))?;
    answer_preview(&call, document).await
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PreviewRequest {
    /// May stand in the query instead.
    version: Option<u64>,
}

pub async fn restore_preview(call: Call) -> Result<Reply, ApiError> {
    let queried = call.query_as::<u64>("version", "a version number")?;
    let request: PreviewRequest =
        if call.method == "GET" { PreviewRequest::default() } else { call.json_or_default()? };
    let number = request
        .version
        .or(queried)
        .ok_or_else(|| ApiError::bad_request("version: expected a version number"))?;
    let (_, stored) = load_version(&call.app, number).await?;
    answer_preview(&call, ConfigDocument::from_config(&stored)).await
}
