//! `/dns/blocklists`: lists of names to block, their schedule and the master switch. Everything acts at once.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{READ, WRITE, audit};
use crate::api::services_common::note;
use crate::api::{ApiError, App, Call, Reply, Route};
use crate::config::Config;
use crate::config::dns::blocking::{
    self, Blocking, BlocklistSource, ScheduleChange, SourceChange, SourceRequest,
};
use crate::config::dns::cron::Cron;
use crate::services::rdns::blocklists::{RefreshOutcome, State};
use crate::store::{Author, Draft};

pub fn routes() -> Vec<Route> {
    let (all, one) = ("/dns/blocklists", "/dns/blocklists/{id}");
    let (switch, schedule) = ("/dns/blocklists/enabled", "/dns/blocklists/schedule");
    vec![
        Route::new("GET", all, READ, "Blocklists, by category and name", list)
            .answers::<Vec<Shown>>(200)
            .with_query(&[
                ("category", "of this category alone"),
                ("enabled", "true or false: on or off alone"),
            ]),
        Route::new("POST", all, WRITE, "Add a blocklist; it is fetched with the others", create)
            .takes::<SourceRequest>()
            .answers::<Shown>(200),
        Route::new("GET", one, READ, "A blocklist", get).answers::<Shown>(200),
        Route::new("PUT", one, WRITE, "Change a blocklist; what is left out stays", change)
            .takes::<SourceChange>()
            .answers::<Shown>(200),
        Route::new("DELETE", one, WRITE, "Delete a blocklist that does not come with the product", delete)
            .answers::<()>(204),
        Route::new(
            "POST",
            "/dns/blocklists/{id}/refresh",
            WRITE,
            "Fetch a blocklist and put it in force",
            refresh,
        )
        .answers::<RefreshOutcome>(200),
        Route::new(
            "POST",
            "/dns/blocklists/refresh-all",
            WRITE,
            "Fetch every blocklist that is on",
            refresh_all,
        )
        .answers::<Vec<RefreshOutcome>>(200),
        Route::new("GET", switch, READ, "Whether blocklists block at all", enabled).answers::<Switch>(200),
        Route::new("PUT", switch, WRITE, "Switch all blocklists on or off; custom blocks stay", set_enabled)
            .takes::<Switch>()
            .answers::<Switch>(200),
        Route::new("GET", schedule, READ, "When blocklists are fetched", get_schedule)
            .answers::<Schedule>(200),
        Route::new(
            "PUT",
            schedule,
            WRITE,
            "Change when blocklists are fetched; what is left out stays",
            set_schedule,
        )
        .takes::<ScheduleChange>()
        .answers::<Schedule>(200),
    ]
}

/// A list and what is known of its fetches.
#[derive(Debug, Serialize, JsonSchema)]
struct Shown {
    #[serde(flatten)]
    source: BlocklistSource,
    /// Unix seconds of the last good or unchanged fetch.
    last_updated: Option<i64>,
    last_sha256: Option<String>,
    rule_count: u64,
    last_error: Option<String>,
}

impl Shown {
    fn of(app: &App, source: &BlocklistSource) -> Self {
        let State { last_updated, last_sha256, rule_count, last_error, .. } =
            app.services.blocklists().state(source.id);
        Self { source: source.clone(), last_updated, last_sha256, rule_count, last_error }
    }
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
struct Switch {
    enabled: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Schedule {
    cron: Cron,
    on_boot: bool,
    concurrency: u8,
    enabled: bool,
}

impl From<&Blocking> for Schedule {
    fn from(blocking: &Blocking) -> Self {
        Self {
            cron: blocking.cron.clone(),
            on_boot: blocking.on_boot,
            concurrency: blocking.concurrency,
            enabled: blocking.enabled,
        }
    }
}

fn id_of(call: &Call) -> Result<u64, ApiError> {
    call.param("id").parse().map_err(|_| ApiError::bad_request("id: expected an integer"))
}

fn missing(id: u64) -> ApiError {
    ApiError::not_found(format!("blocklist {id}"))
}

fn stored(config: &Config, id: u64) -> Result<Arc<BlocklistSource>, ApiError> {
    blocking::source(config, id).ok_or_else(|| missing(id))
}

async fn list(call: Call) -> Result<Reply, ApiError> {
    let enabled = call.query_as::<bool>("enabled", "true or false")?;
    let category = call.query("category");
    let mut sources = blocking::sources(&call.app.store.snapshot().config);
    sources.retain(|source| {
        category.is_none_or(|category| source.category == category)
            && enabled.is_none_or(|enabled| source.enabled == enabled)
    });
    sources.sort_by(|a, b| (&a.category, &a.name).cmp(&(&b.category, &b.name)));
    let rows: Vec<Shown> = sources.iter().map(|source| Shown::of(&call.app, source)).collect();
    Ok(Reply::json(&rows))
}

async fn get(call: Call) -> Result<Reply, ApiError> {
    let source = stored(&call.app.store.snapshot().config, id_of(&call)?)?;
    Ok(Reply::json(&Shown::of(&call.app, &source)))
}

/// Stores a write of the blocklists, which is applied with it.
async fn write<T: Send + 'static>(
    call: &Call,
    write: impl FnOnce(&Author, &mut Draft) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let author = call.author();
    let by = author.clone();
    let written = call.app.store.commit(&author, move |draft: &mut Draft| {
        let written = write(&by, draft)?;
        draft.applied.dns_blocking = draft.config.dns_blocking.clone();
        draft.applied.dns_blocklists = draft.config.dns_blocklists.clone();
        Ok::<_, ApiError>(written)
    });
    Ok(written.await?)
}

async fn create(call: Call) -> Result<Reply, ApiError> {
    let request: SourceRequest = call.json()?;
    let source = write(&call, move |by, draft| {
        let mut settings = (*draft.config.dns_blocking).clone();
        let source = request.create(&draft.config, &mut settings)?;
        draft.audit.push(audit(by, format!("blocklist {:?} added", source.name)));
        draft.config.dns_blocking = settings.into();
        draft.config.dns_blocklists.insert(source.clone());
        Ok(source)
    })
    .await?;
    // Its zone is new to the daemon.
    call.app.applier.follow_blocklists().await;
    Ok(Reply::json(&Shown::of(&call.app, &source)))
}

async fn change(call: Call) -> Result<Reply, ApiError> {
    let id = id_of(&call)?;
    stored(&call.app.store.snapshot().config, id)?;
    let request: SourceChange = call.json()?;
    let (before, after) = write(&call, move |by, draft| {
        let before = stored(&draft.config, id)?;
        let after = request.change(&before, &draft.config)?;
        draft.audit.push(audit(by, format!("blocklist {:?} updated", after.name)));
        if after != *before {
            draft.config.dns_blocklists.insert(after.clone());
        }
        Ok((before, after))
    })
    .await?;
    let lists = call.app.services.blocklists();
    if after.differs_from(&before) {
        let lists = lists.clone();
        ::blocking::unblock(move || lists.forget_copy(id)).await?;
    }
    if *before != after {
        call.app.applier.follow_blocklists().await;
    }
    let on = call.app.store.snapshot().applied.dns_blocking.enabled;
    let anew = after.url != before.url || after.format != before.format;
    if on && after.enabled && (!before.enabled || anew) {
        let applier = call.app.applier.clone();
        smol::spawn(async move { applier.refresh_blocklist(id).await }).detach();
    }
    Ok(Reply::json(&Shown::of(&call.app, &after)))
}

async fn delete(call: Call) -> Result<Reply, ApiError> {
    let id = id_of(&call)?;
    write(&call, move |by, draft| {
        let source = stored(&draft.config, id)?;
        if source.built_in {
            return Err(ApiError::conflict(format!(
                "{:?} comes with the product; it can be disabled",
                source.name
            )));
        }
        draft.audit.push(audit(by, format!("blocklist {:?} deleted", source.name)));
        draft.config.dns_blocklists.remove(&id);
        Ok(())
    })
    .await?;
    call.app.applier.follow_blocklists().await;
    let lists = call.app.services.blocklists().clone();
    ::blocking::unblock(move || lists.forget(id)).await;
    Ok(Reply::empty(204))
}

async fn refresh(call: Call) -> Result<Reply, ApiError> {
    let id = id_of(&call)?;
    let outcome = call.app.applier.refresh_blocklist(id).await.ok_or_else(|| missing(id))?;
    let author = call.author();
    let what = match &outcome.error {
        None => format!("blocklist {id} refreshed: {} names", outcome.rule_count),
        Some(error) => format!("blocklist {id} not refreshed: {error}"),
    };
    note(&call.app, &author, audit(&author, what)).await?;
    Ok(Reply::json(&outcome))
}

async fn refresh_all(call: Call) -> Result<Reply, ApiError> {
    let outcomes = call.app.applier.refresh_blocklists().await;
    let author = call.author();
    let good = outcomes.iter().filter(|outcome| outcome.ok).count();
    let what = format!("blocklists refreshed: {good} of {}", outcomes.len());
    note(&call.app, &author, audit(&author, what)).await?;
    Ok(Reply::json(&outcomes))
}

async fn enabled(call: Call) -> Result<Reply, ApiError> {
    Ok(Reply::json(&Switch { enabled: call.app.store.snapshot().config.dns_blocking.enabled }))
}

/// After the master switch may have changed: off acts before the answer, on goes on behind it.
async fn switched(app: &App, before: bool, after: bool) {
    if before == after {
        return;
    }
    app.applier.follow_blocklists().await;
    if after {
        let applier = app.applier.clone();
        smol::spawn(async move { applier.refresh_blocklists().await }).detach();
    }
}

async fn set_enabled(call: Call) -> Result<Reply, ApiError> {
    let switch: Switch = call.json()?;
    let before = write(&call, move |by, draft| {
        let word = if switch.enabled { "on" } else { "off" };
        draft.audit.push(audit(by, format!("blocklists switched {word}")));
        let before = draft.config.dns_blocking.enabled;
        Arc::make_mut(&mut draft.config.dns_blocking).enabled = switch.enabled;
        Ok(before)
    })
    .await?;
    switched(&call.app, before, switch.enabled).await;
    Ok(Reply::json(&switch))
}

async fn get_schedule(call: Call) -> Result<Reply, ApiError> {
    Ok(Reply::json(&Schedule::from(&*call.app.store.snapshot().config.dns_blocking)))
}

async fn set_schedule(call: Call) -> Result<Reply, ApiError> {
    let request: ScheduleChange = call.json()?;
    let (before, after) = write(&call, move |by, draft| {
        let before = draft.config.dns_blocking.enabled;
        let after = request.change(&draft.config.dns_blocking)?;
        draft.audit.push(audit(by, "schedule of the blocklists updated"));
        draft.config.dns_blocking = after.clone().into();
        Ok((before, after))
    })
    .await?;
    switched(&call.app, before, after.enabled).await;
    Ok(Reply::json(&Schedule::from(&after)))
}
