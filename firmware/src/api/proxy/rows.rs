//! The eleven collections: one implementation. Lists are bare arrays by name; writes only store, `apply` acts.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::{READ, WRITE};
use crate::api::resource::Message;
use crate::api::services_common::audit;
use crate::api::{ApiError, Call, Reply, Route};
use crate::config::proxy::{Row, RowBody, RowRequest};
use crate::config::{Id, Object, Permission, Timestamp, secret};

/// A row as answers show it; kinds without `enabled` do not have it here either.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Shown<B> {
    id: Id,
    name: String,
    #[serde(flatten)]
    body: B,
    #[serde(skip_serializing_if = "Option::is_none")]
    enabled: Option<bool>,
    created_at: Timestamp,
}

impl<B: RowBody> Shown<B> {
    fn of(row: &Row<B>) -> Self {
        Self {
            id: row.id,
            name: row.name.clone(),
            body: row.body.clone(),
            enabled: B::HAS_ENABLED.then_some(row.enabled),
            created_at: row.created_at,
        }
    }
}

/// The operations of a kind, at the path of the collection and that of a row.
pub fn routes<B: RowBody>([all, one]: [&'static str; 2]) -> Vec<Route> {
    let summary = |begin: &str| -> &'static str { summaries(B::NOUN, begin) };
    vec![
        Route::new("GET", all, READ, summary("list"), list::<B>).answers::<Vec<Shown<B>>>(200),
        Route::new("POST", all, WRITE, summary("add"), create::<B>)
            .takes::<RowRequest<B>>()
            .answers::<Shown<B>>(200),
        Route::new("PUT", one, WRITE, summary("replace"), replace::<B>)
            .takes::<RowRequest<B>>()
            .answers::<Message>(200),
        Route::new("DELETE", one, WRITE, summary("delete"), delete::<B>).answers::<Message>(200),
    ]
}

/// Summaries are constants of the route table; those of a generic kind are made once.
fn summaries(noun: &'static str, verb: &str) -> &'static str {
    use std::sync::{Mutex, PoisonError};
    static MADE: Mutex<BTreeMap<String, &'static str>> = Mutex::new(BTreeMap::new());
    let text = match verb {
        "list" => format!("Every {noun} of the reverse proxy, by name"),
        "add" => format!("Add a {noun} to the reverse proxy"),
        "replace" => format!("Replace a {noun} of the reverse proxy"),
        _ => format!("Delete a {noun} of the reverse proxy"),
    }
    .replace("Add a entry", "Add an entry")
    .replace("Replace a entry", "Replace an entry")
    .replace("Delete a entry", "Delete an entry")
    .replace(" a HTTP", " an HTTP");
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    made.entry(text.clone()).or_insert_with(|| text.leak())
}

fn missing<B: RowBody>(id: &Id) -> ApiError {
    ApiError::not_found(format!("{} {id}", B::NOUN))
}

fn id_of<B: RowBody>(call: &Call) -> Result<Id, ApiError> {
    call.id("id").map_err(|_| ApiError::not_found(format!("{} {}", B::NOUN, call.param("id"))))
}

async fn list<B: RowBody>(call: Call) -> Result<Reply, ApiError> {
    let with_secrets = call.caller()?.may(Permission::ProxyWrite);
    let snapshot = call.app.store.snapshot();
    let mut rows: Vec<Shown<B>> = B::rows(&snapshot.config).iter().map(|row| Shown::of(row)).collect();
    rows.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
    let total = rows.len();
    let page = call.page(usize::MAX, usize::MAX)?;
    let rows = page.of(rows);
    // Who may write a row may read the secrets in its text.
    let reply = if with_secrets { secret::revealing(|| Reply::json(&rows)) } else { Reply::json(&rows) };
    Ok(reply.with_header("X-Total-Count", total.to_string()))
}

async fn create<B: RowBody>(call: Call) -> Result<Reply, ApiError> {
    let request: RowRequest<B> = call.json()?;
    let author = call.author();
    let by = author.clone();
    let row = call
        .app
        .store
        .commit(&author, move |draft| {
            let row = request.row(None, draft.now, &draft.config)?;
            draft.audit.push(audit("proxy", &by, format!("{} {:?} added", B::NOUN, row.name)));
            B::rows_mut(&mut draft.config).insert(row.clone());
            Ok::<_, ApiError>(row)
        })
        .await?;
    Ok(secret::revealing(|| Reply::json(&Shown::of(&row))))
}

async fn replace<B: RowBody>(call: Call) -> Result<Reply, ApiError> {
    let id = id_of::<B>(&call)?;
    let known = B::rows(&call.app.store.snapshot().config).contains(&id);
    if !known {
        return Err(missing::<B>(&id));
    }
    let request: RowRequest<B> = call.json()?;
    let author = call.author();
    let by = author.clone();
    call.app
        .store
        .commit(&author, move |draft| {
            let stored = B::rows(&draft.config).get(&id).cloned().ok_or_else(|| missing::<B>(&id))?;
            let row = request.row(Some(&stored), draft.now, &draft.config)?;
            draft.audit.push(audit("proxy", &by, format!("{} {:?} updated", B::NOUN, row.name)));
            if row != *stored {
                B::rows_mut(&mut draft.config).insert(row);
            }
            Ok::<_, ApiError>(())
        })
        .await?;
    Ok(Reply::message("Updated"))
}

async fn delete<B: RowBody>(call: Call) -> Result<Reply, ApiError> {
    let id = id_of::<B>(&call)?;
    let author = call.author();
    let by = author.clone();
    call.app
        .store
        .commit(&author, move |draft| {
            let row = B::rows_mut(&mut draft.config).remove(&id).ok_or_else(|| missing::<B>(&id))?;
            draft.audit.push(audit("proxy", &by, format!("{} {:?} deleted", B::NOUN, row.name)));
            debug_assert_eq!(row.key(), id);
            Ok::<_, ApiError>(())
        })
        .await?;
    Ok(Reply::message("Deleted"))
}
