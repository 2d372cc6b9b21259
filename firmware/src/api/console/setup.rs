//! `/setup`: the answers of the first-boot dialogue, or an unattended setup file, become the configuration, the
//! administrator and root's password in one commit: after a power cut there is all of it or nothing.

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::machine::{self, url};
use crate::api::services_common::note;
use crate::api::{ApiError, App, Call, Reply};
use crate::apply::ReplaceError;
use crate::config::setup::{RootPassword, Setup, answers};
use crate::config::{Id, Invalid, Secret, Timestamp, request};
use crate::platform::fetch::{self, Fetched, Limits, Validators};
use crate::platform::hardware::Hardware;
use crate::store::{Author, Draft, NewAudit, Snapshot, StoreError};

/// Whether somebody has set the appliance up: it has a WAN, or a user.
pub fn configured(snapshot: &Snapshot) -> bool {
    snapshot.config.system.wan_interface.is_some() || !snapshot.identity.users.is_empty()
}

/// Beside the setup file's own keys.
#[derive(Debug, Default, Deserialize)]
struct Asked {
    /// The appliance is set up already, and that is to be changed.
    #[serde(default)]
    reconfigure: bool,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Checked {
    /// What the administrator should know though it stops nothing.
    pub warnings: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Done {
    /// Where the web UI and the API are now.
    pub url: String,
    pub admin: String,
    /// `key_only` or `password`.
    pub ssh: String,
    pub certificate_sha256: Option<String>,
    pub ssh_fingerprints: Vec<String>,
    pub warnings: Vec<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
pub struct KeysRequest {
    user: String,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Keys {
    pub keys: Vec<Key>,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Key {
    /// As a line of authorized_keys.
    pub line: String,
    pub kind: String,
    pub fingerprint: String,
}

/// The file without the keys that are about this call.
fn setup_file(body: &[u8]) -> Result<(Vec<u8>, Asked), ApiError> {
    let mut whole: serde_json::Map<String, serde_json::Value> = request::parse(body)?;
    let asked = whole.remove("reconfigure").unwrap_or(false.into());
    let reconfigure = asked.as_bool().ok_or_else(|| Invalid::new("reconfigure", "expected true or false"))?;
    let file = serde_json::to_vec(&whole).map_err(ApiError::internal)?;
    Ok((file, Asked { reconfigure }))
}

pub(super) async fn hardware(app: &App) -> Result<Hardware, ApiError> {
    let platform = app.platform.clone();
    blocking::unblock(move || platform.hardware()).await.map_err(ApiError::internal)
}

/// Reads, and compares with the machine: an interface that is not there is a slip of the pen.
async fn read(app: &App, file: &[u8]) -> Result<Setup, ApiError> {
    let facts = hardware(app).await?.facts();
    let setup = Setup::parse(file, Timestamp::now(), &facts)?;
    for (field, name) in setup.interfaces() {
        if !facts.interfaces.is_empty() && !facts.interfaces.iter().any(|known| known == name.as_str()) {
            let known = facts.interfaces.join(", ");
            return Err(
                Invalid::new(field, format!("there is no interface {name}; there are {known}")).into()
            );
        }
    }
    Ok(setup)
}

pub async fn check(call: Call) -> Result<Reply, ApiError> {
    let (file, _) = setup_file(&call.body)?;
    let setup = read(&call.app, &file).await?;
    let machine = call.app.applier.machine().clone();
    let config = setup.config.clone();
    let compiled = blocking::unblock(move || {
        let compiled = machine.compile(&config)?;
        machine.check(&compiled)?;
        Ok::<_, crate::apply::ApplyError>(compiled)
    });
    compiled.await?;
    Ok(Reply::json(&Checked { warnings: setup.warnings }))
}

pub async fn set_up(call: Call) -> Result<Reply, ApiError> {
    let app = call.app.clone();
    let _turn = app.local.turn.lock().await;
    let (file, asked) = setup_file(&call.body)?;
    let again = configured(&app.store.snapshot());
    if again && !asked.reconfigure {
        return Err(ApiError::conflict("the appliance is set up already; reconfigure: true changes it"));
    }
    let mut setup = read(&app, &file).await?;
    if let Some(user) = setup.ssh_github_user.clone() {
        add_keys(&app, &user, &mut setup).await;
    }
    let Some(admin) = setup.admin.take() else {
        return Err(Invalid::new("admin_password", "expected it or admin_password_hash").into());
    };
    let name = admin.username.clone();
    let prepared = app.auth.prepare_admin(admin.into()).await?;
    let root = match setup.root_password.take() {
        Some(password) => Some(hashed(password).await?),
        None => None,
    };
    let author = call.author();
    let before = app.store.snapshot();
    let warnings = std::mem::take(&mut setup.warnings);
    let (told, hears) = async_channel::bounded(1);
    let stored = app.applier.replace(&author, None, move |draft: &mut Draft| {
        match again {
            true => setup.reconfigure(&mut draft.config),
            false => draft.config = setup.config,
        }
        if let Some(hash) = root {
            Arc::make_mut(&mut draft.config.system).root_password_hash = hash;
        }
        let id = prepared.write(draft, again);
        // The channel has room for the one message.
        let _ = told.try_send(id);
        draft.comment = Some(if again { "set up again" } else { "set up" }.into());
        draft.audit.push(NewAudit {
            action: "config_changed",
            source: "setup",
            details: if again { "set up again" } else { "set up for the first time" }.into(),
            ..NewAudit::default()
        });
        Ok::<(), ApiError>(())
    });
    let report = match stored.await {
        Ok(report) => report,
        Err(error) => {
            if let (ReplaceError::Apply(_), Ok(id)) = (&error, hears.try_recv()) {
                take_admin_back(&app, &before, id).await;
            }
            return Err(error.into());
        }
    };
    if app.local.listens_once_set_up {
        app.local.wait_until_reached(Duration::from_secs(10)).await;
    }
    let snapshot = app.store.snapshot();
    let mut all = warnings;
    all.extend(report.warnings);
    let done = Done {
        url: url(&app, &snapshot.config.system),
        admin: name,
        ssh: if snapshot.config.system.ssh_password_auth { "password" } else { "key_only" }.into(),
        certificate_sha256: machine::certificate(&app),
        ssh_fingerprints: machine::fingerprints(&app),
        warnings: all,
    };
    Ok(Reply::created(&done))
}

/// crypt(3) with SHA-512, as master.passwd(5) takes it. Costs a moment.
pub(super) async fn hashed(password: RootPassword) -> Result<Secret, ApiError> {
    let plain = match password {
        RootPassword::Hash(hash) => return Ok(hash),
        RootPassword::Plain(plain) => plain,
    };
    Ok(blocking::unblock(move || crate::auth::crypt(&plain)).await?)
}

/// pf refused what the setup would have loaded: the administrator is as before, too.
async fn take_admin_back(app: &App, before: &Snapshot, id: Id) {
    let former = before.identity.users.get(&id).map(|user| (**user).clone());
    let back = app.store.commit(&Author::system("setup"), move |draft: &mut Draft| {
        draft.identity.users.remove(&id);
        if let Some(former) = former {
            draft.identity.users.insert(former);
        }
        Ok::<(), StoreError>(())
    });
    if let Err(error) = back.await {
        log::error!("setup: {error}");
    }
}

pub async fn keys(call: Call) -> Result<Reply, ApiError> {
    let request: KeysRequest = call.json()?;
    let user = answers::github_user(&request.user).map_err(|bad| Invalid { field: "user".into(), ..bad })?;
    let keys = published(&call.app, &user).await.map_err(|reason| ApiError::new(502, reason))?;
    let keys = keys.into_iter().filter_map(|line| {
        let kind = line.split_ascii_whitespace().next()?.to_owned();
        Some(Key { fingerprint: answers::fingerprint(&line)?, kind, line })
    });
    Ok(Reply::json(&Keys { keys: keys.collect() }))
}

/// The usable lines of a user's keys.
async fn published(app: &App, user: &str) -> Result<Vec<String>, String> {
    let url = format!("{}/{user}.keys", app.local.keys_url);
    let limits =
        Limits { bytes: 256 * 1024, time: Duration::from_secs(20), inside_allowed: app.local.inside_allowed };
    let fetched = blocking::unblock(move || fetch::fetch(&url, &Validators::default(), limits)).await;
    match fetched.map_err(|error| error.to_string())? {
        Fetched::NotModified => Ok(Vec::new()),
        Fetched::Document { body, .. } => Ok(String::from_utf8_lossy(&body)
            .lines()
            .filter_map(|line| answers::public_key(line).ok())
            .collect()),
    }
}

async fn add_keys(app: &App, user: &str, setup: &mut Setup) {
    match published(app, user).await {
        Ok(keys) if keys.is_empty() => {
            setup.warnings.push(format!("ssh_github_user: {user} has published no key"));
        }
        Ok(keys) => {
            let system = Arc::make_mut(&mut setup.config.system);
            for key in keys {
                if !system.ssh_authorized_keys.contains(&key) {
                    system.ssh_authorized_keys.push(key);
                }
            }
        }
        Err(reason) => setup.warnings.push(format!("ssh_github_user: {reason}")),
    }
}

/// An audit entry of something done at the console.
pub(super) fn console_audit(what: &str) -> NewAudit {
    NewAudit { action: "config_changed", source: "console", details: what.into(), ..NewAudit::default() }
}

/// Writes a [`console_audit`] of something that changed no configuration.
pub(super) async fn noted(call: &Call, what: &str) -> Result<(), ApiError> {
    note(&call.app, &call.author(), console_audit(what)).await
}
