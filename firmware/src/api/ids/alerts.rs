//! Alerts: listed, looked at, acknowledged, judged, purged.

use std::net::IpAddr;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{READ, WRITE, id_of, missing};
use crate::api::resource::{ListOf, Message};
use crate::api::services_common::{audit, note};
use crate::api::{ApiError, Call, Reply, Route};
use crate::config::Timestamp;
use crate::config::request::Maybe;
use crate::services::ids::alerts::{Alert, Classification, Stored};

/// An alert in one answer at most.
const MOST: usize = 5000;

pub fn routes() -> Vec<Route> {
    vec![
        Route::new("GET", "/ids/alerts", READ, "Alerts, newest first", list)
            .answers::<ListOf<Alert>>(200)
            .with_query(&[
                ("severity", "1 to 4"),
                ("src_ip", "from this address"),
                ("signature_id", "of this rule"),
                ("acknowledged", "true or false"),
                ("classification", "a judgement, or `reviewed`: any but unreviewed"),
                ("limit", "50 unless given, 5000 at most"),
                ("offset", "alerts to leave out at the start"),
            ]),
        Route::new("DELETE", "/ids/alerts", WRITE, "Forget alerts", purge)
            .answers::<Message>(200)
            .with_query(&[("before", "only those received before this time (RFC 3339)")]),
        Route::new("GET", "/ids/alerts/{id}", READ, "An alert with its payload and the engine's record", get)
            .answers::<crate::api::resource::Data<AlertDetail>>(200),
        Route::new("PUT", "/ids/alerts/{id}/acknowledge", WRITE, "Say that an alert was seen", acknowledge)
            .answers::<Message>(200),
        Route::new("PUT", "/ids/alerts/{id}/classify", WRITE, "Judge an alert", classify)
            .takes::<Judgement>()
            .answers::<Message>(200),
    ]
}

/// An alert with what is shown of a single one only.
#[derive(Debug, Serialize, JsonSchema)]
pub struct AlertDetail {
    #[serde(flatten)]
    alert: Alert,
    /// Base64, 4 KiB at most.
    payload: Option<String>,
    /// The engine's record.
    event: Option<serde_json::Value>,
}

async fn list(call: Call) -> Result<Reply, ApiError> {
    let page = call.page(50, MOST)?;
    let severity: Option<u8> = call.query_as("severity", "a number from 1 to 4")?;
    let source: Option<IpAddr> = call.query_as("src_ip", "an IP address")?;
    let signature: Option<u32> = call.query_as("signature_id", "a number")?;
    let acknowledged: Option<bool> = call.query_as("acknowledged", "true or false")?;
    let classification = call.query("classification");
    let wanted = |stored: &Arc<Stored>| {
        let alert = &stored.alert;
        severity.is_none_or(|severity| alert.severity == severity)
            && source.is_none_or(|source| alert.src_ip == source)
            && signature.is_none_or(|sid| alert.signature_id == Some(sid))
            && acknowledged.is_none_or(|acknowledged| alert.acknowledged == acknowledged)
            && classification.is_none_or(|word| match word {
                "reviewed" => alert.classification != Classification::Unreviewed,
                word => alert.classification.as_str() == word,
            })
    };
    let found: Vec<_> = call.app.services.ids().alerts.newest_first().into_iter().filter(wanted).collect();
    let total = found.len();
    let rows = page.of(found);
    let rows: Vec<&Alert> = rows.iter().map(|stored| &stored.alert).collect();
    Ok(Reply::page(&rows, total))
}

async fn get(call: Call) -> Result<Reply, ApiError> {
    let id = id_of(&call, "alert")?;
    let stored = call.app.services.ids().alerts.get(id).ok_or_else(|| missing("alert", id))?;
    let Stored { alert, payload, event, .. } = (*stored).clone();
    Ok(Reply::data(&AlertDetail { alert, payload, event }))
}

async fn purge(call: Call) -> Result<Reply, ApiError> {
    let before: Option<Timestamp> = call.query_as("before", "a time as RFC 3339 has it")?;
    let ids = call.app.services.ids().clone();
    let count = blocking::unblock(move || ids.alerts.purge(before)).await;
    let author = call.author();
    note(&call.app, &author, audit("ids", &author, format!("{count} alerts purged"))).await?;
    Ok(Reply::message(format!("{count} alerts purged")))
}

async fn edit(call: &Call, edit: impl FnOnce(&mut Alert) + Send + 'static) -> Result<(), ApiError> {
    let id = id_of(call, "alert")?;
    let ids = call.app.services.ids().clone();
    let found = blocking::unblock(move || ids.alerts.edit(id, edit)).await;
    if found { Ok(()) } else { Err(missing("alert", id)) }
}

async fn acknowledge(call: Call) -> Result<Reply, ApiError> {
    edit(&call, |alert| alert.acknowledged = true).await?;
    let author = call.author();
    note(&call.app, &author, audit("ids", &author, format!("alert {} acknowledged", call.param("id"))))
        .await?;
    Ok(Reply::message("alert acknowledged"))
}

/// How an alert is judged.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Judgement {
    classification: Classification,
    /// null clears, absent keeps.
    #[serde(default)]
    notes: Maybe<String>,
}

async fn classify(call: Call) -> Result<Reply, ApiError> {
    let Judgement { classification, notes } = call.json()?;
    if let Maybe::Value(notes) = &notes
        && notes.chars().count() > 4000
    {
        return Err(ApiError::bad_request("notes: expected at most 4000 characters"));
    }
    edit(&call, move |alert| {
        alert.classification = classification;
        alert.acknowledged = classification != Classification::Unreviewed;
        alert.analyst_notes = notes.or_keep(alert.analyst_notes.take());
    })
    .await?;
    let word = classification.as_str();
    let author = call.author();
    let what = format!("alert {} classified as {word}", call.param("id"));
    note(&call.app, &author, audit("ids", &author, what)).await?;
    Ok(Reply::message(format!("alert classified as {word}")))
}
