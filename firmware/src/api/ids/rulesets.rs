//! Rulesets: where rules come from.

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::{KIND, READ, WRITE, id_of, missing};
use crate::api::resource::{Data, Message};
use crate::api::services_common::audit;
use crate::api::{ApiError, App, Call, Reply, Route};
use crate::apply::services::Wish;
use crate::config::Timestamp;
use crate::config::ids::{IdsRuleset, RulesetChange, RulesetRequest};
use crate::services::ids::download;
use crate::store::Author;

/// A download that somebody waits for.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn routes() -> Vec<Route> {
    let (all, one) = ("/ids/rulesets", "/ids/rulesets/{id}");
    vec![
        Route::new("GET", all, READ, "Rulesets, by name", list).answers::<Data<Vec<RulesetView>>>(200),
        Route::new("POST", all, WRITE, "Add a ruleset; its rules are fetched in the background", create)
            .takes::<RulesetRequest>()
            .answers::<Data<RulesetView>>(201),
        Route::new(
            "PUT",
            one,
            WRITE,
            "Change a ruleset; enabled for the first time, its rules are fetched",
            change,
        )
        .takes::<RulesetChange>()
        .answers::<Data<RulesetView>>(200),
        Route::new("DELETE", one, WRITE, "Delete a ruleset with its rules", delete).answers::<Message>(200),
    ]
}

/// A ruleset, and what became of it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RulesetView {
    #[serde(flatten)]
    ruleset: IdsRuleset,
    last_updated: Option<Timestamp>,
    rule_count: usize,
    last_error: Option<String>,
}

async fn view(app: &App, ruleset: &IdsRuleset) -> RulesetView {
    let (ids, ruleset) = (app.services.ids().clone(), ruleset.clone());
    blocking::unblock(move || {
        let state = ids.rules.state(ruleset.id);
        RulesetView {
            rule_count: ids.rules.of(ruleset.id).len(),
            last_updated: state.last_updated,
            last_error: state.last_error,
            ruleset,
        }
    })
    .await
}

async fn list(call: Call) -> Result<Reply, ApiError> {
    let snapshot = call.app.store.snapshot();
    let mut rulesets: Vec<&Arc<IdsRuleset>> = snapshot.config.ids_rulesets.iter().collect();
    rulesets.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
    let mut views = Vec::new();
    for ruleset in rulesets {
        views.push(view(&call.app, ruleset).await);
    }
    Ok(Reply::data(&views))
}

/// Fetches a ruleset, and lets the engine read it if it has changed.
pub(crate) async fn fetch(app: &Arc<App>, author: &Author, ruleset: &IdsRuleset) {
    let (ids, runner, wanted) =
        (app.services.ids().clone(), app.services.runner(KIND).clone(), ruleset.clone());
    let changed =
        blocking::unblock(move || download::update(&ids.rules, &wanted, PATIENCE, runner.facts().sandbox));
    if changed.await {
        app.applier.service_soon(author, KIND, Wish::AsConfigured);
    }
}

async fn create(call: Call) -> Result<Reply, ApiError> {
    let request: RulesetRequest = call.json()?;
    let author = call.author();
    let by = author.clone();
    let ruleset = call
        .app
        .store
        .commit(&author, move |draft| {
            let ruleset = request.ruleset(draft.now, &draft.config)?;
            draft.audit.push(audit("ids", &by, format!("ruleset {:?} added", ruleset.name)));
            draft.config.ids_rulesets.insert(ruleset.clone());
            Ok::<_, ApiError>(ruleset)
        })
        .await?;
    if ruleset.enabled && ruleset.source_url.is_some() {
        let (app, ruleset) = (call.app.clone(), ruleset.clone());
        smol::spawn(async move { fetch(&app, &author, &ruleset).await }).detach();
    }
    Ok(Reply::created(&view(&call.app, &ruleset).await))
}

async fn change(call: Call) -> Result<Reply, ApiError> {
    let id = id_of(&call, "ruleset")?;
    if !call.app.store.snapshot().config.ids_rulesets.contains(&id) {
        return Err(missing("ruleset", id));
    }
    let request: RulesetChange = call.json()?;
    let author = call.author();
    let by = author.clone();
    let (before, ruleset) = call
        .app
        .store
        .commit(&author, move |draft| {
            let stored = draft.config.ids_rulesets.get(&id).cloned().ok_or_else(|| missing("ruleset", id))?;
            let ruleset = request.change(&stored, &draft.config)?;
            draft.audit.push(audit("ids", &by, format!("ruleset {:?} updated", ruleset.name)));
            if ruleset != *stored {
                draft.config.ids_rulesets.insert(ruleset.clone());
            }
            Ok::<_, ApiError>((stored, ruleset))
        })
        .await?;
    let ids = call.app.services.ids().clone();
    let empty = blocking::unblock(move || ids.rules.of(id).is_empty()).await;
    let moved = before.source_url != ruleset.source_url;
    if ruleset.enabled && ruleset.source_url.is_some() && (empty || moved) {
        fetch(&call.app, &author, &ruleset).await;
    }
    call.app.applier.service_soon(&author, KIND, Wish::AsConfigured);
    Ok(Reply::data(&view(&call.app, &ruleset).await))
}

async fn delete(call: Call) -> Result<Reply, ApiError> {
    let id = id_of(&call, "ruleset")?;
    let author = call.author();
    let by = author.clone();
    call.app
        .store
        .commit(&author, move |draft| {
            let gone = draft.config.ids_rulesets.remove(&id).ok_or_else(|| missing("ruleset", id))?;
            draft.audit.push(audit("ids", &by, format!("ruleset {:?} deleted", gone.name)));
            Ok::<_, ApiError>(())
        })
        .await?;
    let ids = call.app.services.ids().clone();
    blocking::unblock(move || ids.rules.remove(id)).await;
    call.app.applier.service_soon(&author, KIND, Wish::AsConfigured);
    Ok(Reply::message("ruleset deleted"))
}
