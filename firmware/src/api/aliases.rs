//! `/aliases`: named addresses and ports (contract/firewall.md §5). A write fills the pf tables at once.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

use super::resource::{Data, InEffect, Lists, Resource, Undo, Written, collection, config_changed};
use super::rules::ask;
use super::{ApiError, App, Route};
use crate::apply::ApplyError;
use crate::apply::url_tables::{UrlTableStatus, UrlTables};
use crate::compile::Environment;
use crate::config::alias::{self, AliasRequest};
use crate::config::{Alias, AliasKind, Collection, Config, Id, Permission, Refusal, TableName, Timestamp};
use crate::store::{Author, Draft, NewAudit};

pub fn routes() -> Vec<Route> {
    collection::<Aliases>(&Lists::new())
}

/// An alias as answers show it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct AliasView<'a> {
    id: Id,
    name: &'a TableName,
    alias_type: AliasKind,
    entries: &'a [String],
    description: Option<&'a str>,
    enabled: bool,
    /// Seconds between fetches of a URL table; null = 24 hours.
    refresh_secs: Option<u32>,
    /// URL tables only: what their servers have given; else null.
    url_status: Option<UrlTableStatus>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// The copies of URL tables, as of a number of fetches.
#[derive(Clone)]
pub struct Copies {
    tables: Arc<UrlTables>,
    fetches: u64,
}

impl PartialEq for Copies {
    fn eq(&self, other: &Self) -> bool {
        self.fetches == other.fetches
    }
}

/// Aliases.
pub struct Aliases;

impl Resource for Aliases {
    type Object = Alias;
    type Request = AliasRequest;
    type View<'a> = AliasView<'a>;
    type Schema = InEffect<AliasView<'static>>;
    type Answer = Data<Self::Schema>;
    type Context = Copies;
    type Order = (TableName, Id);

    const PATHS: (&'static str, &'static str) = ("/aliases", "/aliases/{id}");
    const NOUN: &'static str = "alias";
    const SUMMARIES: [&'static str; 5] = [
        "Aliases, by name",
        "Add an alias",
        "An alias",
        "Replace an alias",
        "Delete an alias that no rule uses",
    ];
    const READ: Permission = Permission::AliasesRead;
    const WRITE: Permission = Permission::AliasesWrite;

    fn collection(config: &Config) -> &Collection<Alias> {
        &config.aliases
    }
    fn collection_mut(config: &mut Config) -> &mut Collection<Alias> {
        &mut config.aliases
    }
    fn create(request: AliasRequest, now: Timestamp, config: &Config) -> Result<Alias, Refusal> {
        request.create(now, config)
    }
    fn replace(
        request: AliasRequest,
        stored: &Alias,
        now: Timestamp,
        config: &Config,
    ) -> Result<Alias, Refusal> {
        request.replace(stored, now, config)
    }
    fn may_delete(config: &Config, alias: &Alias) -> Result<(), Refusal> {
        alias::check_unused(config, alias)
    }
    fn follow(config: &mut Config, written: &Written<Alias>) {
        if let Written::Replaced { before, after } = written
            && before.name != after.name
        {
            alias::rename_uses(config, &before.name, &after.name);
        }
    }
    fn order(alias: &Alias) -> Self::Order {
        (alias.name.clone(), alias.id)
    }
    async fn context(app: &App) -> Copies {
        let tables = app.applier.machine().url_tables.clone();
        Copies { fetches: tables.fetches(), tables }
    }
    fn view<'a>(alias: &'a Alias, copies: &'a Copies) -> AliasView<'a> {
        AliasView {
            id: alias.id,
            name: &alias.name,
            alias_type: alias.alias_type,
            entries: &alias.entries,
            description: alias.description.as_deref(),
            enabled: alias.enabled,
            refresh_secs: alias.refresh_secs,
            url_status: (alias.alias_type == AliasKind::UrlTable).then(|| copies.tables.status(alias.id)),
            created_at: alias.created_at,
            updated_at: alias.updated_at,
        }
    }
    fn audit(author: &Author, written: &Written<Alias>, _: &Draft, _: &Environment) -> NewAudit {
        let what = match written {
            Written::Replaced { before, after } if before.name != after.name => {
                format!("alias {} updated, now {}", before.name, after.name)
            }
            _ => format!("alias {} {}", written.object().name, written.word()),
        };
        config_changed(author, what)
    }
    fn deleted(_: &Id) -> String {
        "Alias deleted".into()
    }

    /// Fills its table. Where pf is there and refuses, the write is taken back; where pf is not there, it gets
    /// them when it is.
    async fn act(app: &App, author: &Author, undo: Undo<Alias>) -> Result<(), ApiError> {
        let Err(error) = fill(app, &undo).await else { return Ok(()) };
        if ask(app, |pf| pf.info().is_err()).await {
            log::warn!("alias tables are not filled: {error}");
            return Ok(());
        }
        let by = author.clone();
        app.store
            .commit(author, move |draft| {
                take_back(&mut draft.config, &undo);
                draft.audit.push(config_changed(&by, "alias taken back: pf refused its table"));
                Ok::<_, ApiError>(())
            })
            .await?;
        Err(ApiError::new(500, format!("pf refused the table, nothing was changed: {error}")))
    }
}

async fn fill(app: &App, write: &Undo<Alias>) -> Result<(), ApplyError> {
    let Some(alias) = write.after.as_ref().or(write.before.as_ref()) else { return Ok(()) };
    app.applier.fill_alias(alias.id, write.before.as_ref().map(|before| before.name.clone())).await
}

/// Undoes a write, unless somebody has written the alias since.
fn take_back(config: &mut Config, undo: &Undo<Alias>) {
    let unchanged = undo.after.as_ref().is_none_or(|after| config.aliases.get(&after.id) == Some(after));
    match (&undo.before, &undo.after) {
        (None, Some(after)) if unchanged && alias::check_unused(config, after).is_ok() => {
            config.aliases.remove(&after.id);
        }
        (Some(before), Some(after)) if unchanged => {
            config.aliases.insert((**before).clone());
            if before.name != after.name {
                alias::rename_uses(config, &after.name, &before.name);
            }
        }
        (Some(before), None) if config.aliases.find(before.name.as_str()).next().is_none() => {
            config.aliases.insert((**before).clone());
        }
        _ => {}
    }
}
