//! `/notify/smtp/*`: the mail server, and a mail to try it.

use schemars::JsonSchema;
use serde::Serialize;

use super::{at_once, changes};
use crate::api::services_common::{audit, note};
use crate::api::{Access, ApiError, Call, Reply, Route};
use crate::config::mail::{Mail, MailDraft, MailEvent, MailRequest, Security};
use crate::config::{Config, Permission, Timestamp};

const READ: Access = Access::Needs(Permission::BackupRead);
const WRITE: Access = Access::Needs(Permission::BackupWrite);

pub fn routes() -> Vec<Route> {
    vec![
        Route::new("GET", "/notify/smtp/config", READ, "The mail server and what is sent", get)
            .answers::<View>(200),
        Route::new("PUT", "/notify/smtp/config", WRITE, "Change them", put)
            .takes::<MailRequest>()
            .answers::<View>(200),
        Route::new(
            "POST",
            "/notify/smtp/test",
            WRITE,
            "Send a mail now, through a draft or the stored server",
            test,
        )
        .takes::<Option<MailDraft>>()
        .answers::<Tried>(200)
        .without_snapshot(),
    ]
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct View {
    enabled: bool,
    host: String,
    port: u16,
    tls: Security,
    username: Option<String>,
    has_password: bool,
    from_address: String,
    /// With commas between them.
    recipients: String,
    enabled_events: Vec<MailEvent>,
}

impl From<&Mail> for View {
    fn from(mail: &Mail) -> Self {
        Self {
            enabled: mail.enabled,
            host: mail.host.clone(),
            port: mail.port,
            tls: mail.tls,
            username: mail.username.clone(),
            has_password: !mail.password.is_empty(),
            from_address: mail.from_address.clone(),
            recipients: mail.recipients.clone(),
            enabled_events: mail.enabled_events.clone(),
        }
    }
}

async fn get(call: Call) -> Result<Reply, ApiError> {
    Ok(Reply::json(&View::from(&*call.app.store.snapshot().config.mail)))
}

async fn put(call: Call) -> Result<Reply, ApiError> {
    let request: MailRequest = call.json()?;
    let change = move |config: &mut Config| {
        let changed = request.mail(&config.mail)?;
        let what = changes("mail", &*config.mail, &changed);
        config.mail = changed.into();
        Ok((config.mail.clone(), what))
    };
    let mail = at_once(&call, "notify", change, |from, into| into.mail = from.mail.clone()).await?;
    Ok(Reply::json(&View::from(&*mail)))
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Tried {
    ok: bool,
    message: String,
}

/// The draft of a request that has one with a host.
fn draft(call: &Call) -> Result<Option<MailDraft>, ApiError> {
    let text = call.body.trim_ascii();
    if text.is_empty() || text == b"null" {
        return Ok(None);
    }
    let draft: MailDraft = call.json()?;
    Ok(Some(draft).filter(|draft| !draft.host.trim().is_empty()))
}

async fn test(call: Call) -> Result<Reply, ApiError> {
    let config = call.app.store.snapshot().config.clone();
    let settings = match draft(&call)? {
        Some(draft) => draft.mail(&config.mail)?,
        None => (*config.mail).clone(),
    };
    let outcome = if settings.host.is_empty() {
        Err("host: no mail server is configured".to_owned())
    } else {
        let outbox = call.app.services.mail().clone();
        let (mail, host) = (settings.clone(), host_name(&config));
        blocking::unblock(move || {
            let body =
                format!("This is a test of mail from AiFw.\n\nHost:  {host}\nTime:  {}\n", Timestamp::now());
            outbox.send_now(&mail, &host, &format!("[AiFw] {host}: test"), &body)
        })
        .await
        .map_err(|error| error.to_string())
    };
    let told = match &outcome {
        Ok(()) => format!("test mail sent through {}", settings.host),
        Err(error) => format!("test mail through {} failed: {error}", settings.host),
    };
    note(&call.app, &call.author(), audit("notify", &call.author(), told)).await?;
    Ok(Reply::json(&match outcome {
        Ok(()) => Tried { ok: true, message: format!("Sent to {}", settings.recipients) },
        Err(message) => Tried { ok: false, message },
    }))
}

/// How the appliance is called in mails.
pub fn host_name(config: &Config) -> String {
    let system = &config.system;
    match system.domain.is_empty() {
        true => system.hostname.clone(),
        false => format!("{}.{}", system.hostname, system.domain),
    }
}
