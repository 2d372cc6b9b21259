//! `/rules`: filter rules, their order, the live ruleset and the logging of blocked packets
//! (contract/firewall.md §3).

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::resource::{
    Counters, Data, InEffect, Lists, Message, Resource, Warned, Written, collection, config_changed,
};
use super::{Access, ApiError, App, Call, Reply, Route};
use crate::compile::{self, Environment, FILTER_ANCHORS};
use crate::config::rule::{
    Action, Direction, IpVersion, MAX_PRIORITY, MAX_RULES, Protocol, RuleRequest, StateOptions,
};
use crate::config::{
    Address, Collection, Config, Id, InterfaceName, Invalid, Label, Permission, PortRange, Refusal, Rule,
    Status, TableName, Timestamp, request,
};
use crate::pf::{AnchorName, LoadedRule, Pf, PfError};
use crate::store::{Author, Draft, NewAudit};

pub fn routes() -> Vec<Route> {
    let read = Access::Needs(Permission::RulesRead);
    let write = Access::Needs(Permission::RulesWrite);
    let mut routes = collection::<Rules>(&Lists::new());
    routes.extend([
        Route::new("PUT", "/rules/reorder", write, "Put rules into an order", reorder)
            .takes::<ReorderRequest>()
            .answers::<Message>(200),
        Route::new("GET", "/rules/system", read, "The filter rules that pf has loaded", system)
            .answers::<Data<Vec<String>>>(200),
        Route::new("GET", "/rules/block-logging", read, "Whether blocked packets are logged", block_logging)
            .answers::<BlockLogging>(200),
        Route::new("PUT", "/rules/block-logging", write, "Log blocked packets, or not", set_block_logging)
            .takes::<BlockLogging>()
            .answers::<BlockLoggingSet>(200),
        Route::new("POST", "/rules/block-logging", write, "As PUT", set_block_logging)
            .takes::<BlockLogging>()
            .answers::<BlockLoggingSet>(200),
    ]);
    routes
}

/// A rule as answers show it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RuleView<'a> {
    id: Id,
    priority: u16,
    action: Action,
    direction: Direction,
    ip_version: IpVersion,
    interface: Option<&'a InterfaceName>,
    protocol: Protocol,
    rule_match: RuleMatchView<'a>,
    src_invert: bool,
    dst_invert: bool,
    src_port_alias: Option<&'a TableName>,
    dst_port_alias: Option<&'a TableName>,
    log: bool,
    quick: bool,
    label: Option<&'a Label>,
    description: Option<&'a str>,
    gateway: Option<&'a str>,
    state_options: &'a StateOptions,
    status: Status,
    schedule_id: Option<Id>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct RuleMatchView<'a> {
    src_addr: &'a Address,
    src_port: Option<PortRange>,
    dst_addr: &'a Address,
    dst_port: Option<PortRange>,
    src_invert: bool,
    dst_invert: bool,
}

impl<'a> From<&'a Rule> for RuleView<'a> {
    fn from(rule: &'a Rule) -> Self {
        let (src, dst) = (&rule.src, &rule.dst);
        Self {
            id: rule.id,
            priority: rule.priority,
            action: rule.action,
            direction: rule.direction,
            ip_version: rule.ip_version,
            interface: rule.interface.as_ref(),
            protocol: rule.protocol,
            rule_match: RuleMatchView {
                src_addr: &src.addr,
                src_port: src.port,
                dst_addr: &dst.addr,
                dst_port: dst.port,
                src_invert: src.invert,
                dst_invert: dst.invert,
            },
            src_invert: src.invert,
            dst_invert: dst.invert,
            src_port_alias: src.port_alias.as_ref(),
            dst_port_alias: dst.port_alias.as_ref(),
            log: rule.log,
            quick: rule.quick,
            label: rule.label.as_ref(),
            description: rule.description.as_deref(),
            gateway: rule.gateway.as_deref(),
            state_options: &rule.state,
            status: rule.status,
            schedule_id: rule.schedule_id,
            created_at: rule.created_at,
            updated_at: rule.updated_at,
        }
    }
}

/// As an answer describes it: the counters are there where they are asked for.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CountedRule {
    #[serde(flatten)]
    rule: InEffect<RuleView<'static>>,
    #[serde(flatten)]
    counters: Option<Counters>,
}

/// Filter rules.
pub struct Rules;

impl Resource for Rules {
    type Object = Rule;
    type Request = RuleRequest;
    type View<'a> = RuleView<'a>;
    type Schema = CountedRule;
    type Answer = Warned<InEffect<RuleView<'static>>>;
    type Context = ();
    type Order = (u16, Timestamp, Id);

    const PATHS: (&'static str, &'static str) = ("/rules", "/rules/{id}");
    const NOUN: &'static str = "rule";
    const SUMMARIES: [&'static str; 5] = [
        "Filter rules, in their order of evaluation",
        "Add a filter rule",
        "A filter rule",
        "Replace a filter rule",
        "Delete a filter rule",
    ];
    const READ: Permission = Permission::RulesRead;
    const WRITE: Permission = Permission::RulesWrite;
    const COUNTS: bool = true;

    fn collection(config: &Config) -> &Collection<Rule> {
        &config.rules
    }
    fn collection_mut(config: &mut Config) -> &mut Collection<Rule> {
        &mut config.rules
    }
    fn create(request: RuleRequest, now: Timestamp, config: &Config) -> Result<Rule, Refusal> {
        Ok(request.create(now, config)?)
    }
    fn replace(
        request: RuleRequest,
        stored: &Rule,
        now: Timestamp,
        config: &Config,
    ) -> Result<Rule, Refusal> {
        Ok(request.replace(stored, now, config)?)
    }
    fn order(rule: &Rule) -> Self::Order {
        rule.order()
    }
    async fn context(_: &App) {}
    fn view<'a>(rule: &'a Rule, _: &'a ()) -> RuleView<'a> {
        rule.into()
    }
    async fn environment(app: &App) -> Environment {
        environment(app).await
    }
    async fn rehearse(
        app: &App,
        environment: &Environment,
        config: &Config,
        rule: Rule,
    ) -> Result<(), ApiError> {
        // What is switched off loads nothing, and must be possible to switch off.
        if rule.status == Status::Disabled {
            return Ok(());
        }
        let line = compile::rule_line(config, environment, &rule).map_err(|error| refused(error.reason))?;
        rehearse(app, "aifw", line).await
    }
    fn warnings(config: &Config, environment: &Environment, rule: &Rule) -> Option<Vec<String>> {
        Some(compile::rule_warnings(config, environment, rule))
    }
    async fn counters(app: &App) -> HashMap<Id, Counters> {
        ask(app, counted).await
    }
    fn audit(author: &Author, written: &Written<Rule>, draft: &Draft, environment: &Environment) -> NewAudit {
        let rule = written.object();
        NewAudit {
            action: match written {
                Written::Added(_) => "rule_added",
                Written::Replaced { .. } => "rule_updated",
                Written::Removed(_) => "rule_removed",
            },
            source: "engine",
            details: format!(
                "pf: {} (user {})",
                compiled_line(&draft.config, environment, rule),
                author.name
            ),
            rule_id: Some(rule.id),
            ..NewAudit::default()
        }
    }
    fn deleted(id: &Id) -> String {
        format!("Rule {id} deleted")
    }
}

/// The rule as it would stand in pf.
fn compiled_line(config: &Config, environment: &Environment, rule: &Rule) -> String {
    compile::rule_line(config, environment, rule).unwrap_or_else(|error| format!("# {error}"))
}

/// What the compiler must know of the machine.
pub(super) async fn environment(app: &App) -> Environment {
    let machine = app.applier.machine().clone();
    let config = app.store.snapshot().config.clone();
    let look = move || machine.environment(&config, Timestamp::now());
    // Interfaces of a real machine are asked of other programs.
    if app.pf.is_simulated() { look() } else { blocking::unblock(look).await }
}

/// 400 with the reason why a rule would not load.
pub(super) fn refused(reason: impl std::fmt::Display) -> ApiError {
    ApiError::bad_request(format!("pf cannot have this rule: {reason}"))
}

/// Refuses the text of one rule where pf does; changes nothing. A pf that is not there refuses nothing.
pub(super) async fn rehearse(app: &App, anchor: &'static str, text: String) -> Result<(), ApiError> {
    match ask(app, move |pf| pf.check(Some(anchor), &text)).await {
        Err(PfError::Refused { message, .. }) => Err(refused(message)),
        _ => Ok(()),
    }
}

/// Counters of the lines that carry a rule's own label, summed: a rule of several protocols or ports is several
/// lines in pf.
fn counted(pf: &dyn Pf) -> HashMap<Id, Counters> {
    let mut all: HashMap<Id, Counters> = HashMap::new();
    let (_, filter) = pf.rules(Some("aifw")).unwrap_or_default();
    for line in filter {
        let own = line.labels.iter().find_map(|label| label.strip_prefix("rule:")?.parse::<Id>().ok());
        let Some(id) = own else { continue };
        let sums = all.entry(id).or_default();
        for (sum, more) in [
            (&mut sums.evaluations, line.evaluations),
            (&mut sums.packets, line.packets),
            (&mut sums.bytes, line.bytes),
            (&mut sums.states, line.states),
        ] {
            *sum = Some(sum.unwrap_or(0) + more);
        }
    }
    all
}

/// Body of a reorder: the first is evaluated first.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ReorderRequest {
    pub rule_ids: Vec<Id>,
}

impl ReorderRequest {
    /// The ids, each once.
    pub fn ids(self) -> Result<Vec<Id>, Invalid> {
        let mut seen = HashMap::with_capacity(self.rule_ids.len());
        for (index, id) in self.rule_ids.iter().enumerate() {
            if let Some(first) = seen.insert(*id, index) {
                return Err(Invalid::new(
                    format!("rule_ids[{index}]"),
                    format!("stands at [{first}] already"),
                ));
            }
        }
        Ok(self.rule_ids)
    }
}

async fn reorder(call: Call) -> Result<Reply, ApiError> {
    let ids = request::parse::<ReorderRequest>(&call.body)?.ids()?;
    let author = call.author();
    let count = ids.len();
    let by = author.clone();
    call.app
        .store
        .commit(&author, move |draft| {
            for (id, priority) in shared_out(&draft.config.rules, &ids)? {
                if let Some(rule) = draft.config.rules.get(&id).filter(|rule| rule.priority != priority) {
                    let rule = Rule { priority, updated_at: draft.now, ..(**rule).clone() };
                    draft.config.rules.insert(rule);
                }
            }
            draft.audit.push(config_changed(&by, format!("{count} rules reordered")));
            Ok::<_, ApiError>(())
        })
        .await?;
    Ok(Reply::message(format!("{count} rules reordered")))
}

/// Priorities for the listed rules: their own ones in ascending order, each at least one above the one before.
/// When that leads past the largest, every rule is numbered anew, in the order that the list would have.
fn shared_out(rules: &Collection<Rule>, ids: &[Id]) -> Result<Vec<(Id, u16)>, ApiError> {
    let mut own = Vec::with_capacity(ids.len());
    for id in ids {
        let rule = rules.get(id).ok_or_else(|| ApiError::not_found(format!("rule {id}")))?;
        own.push(u32::from(rule.priority));
    }
    own.sort_unstable();
    let mut next = 0;
    for priority in &mut own {
        *priority = next.max(*priority);
        next = *priority + 1;
    }
    if own.last().is_none_or(|last| *last <= u32::from(MAX_PRIORITY)) {
        return Ok(ids.iter().copied().zip(own.into_iter().filter_map(|n| u16::try_from(n).ok())).collect());
    }
    let wanted: HashMap<Id, u32> = ids.iter().copied().zip(own).collect();
    let mut all: Vec<_> = rules.iter().collect();
    all.sort_by_cached_key(|rule| {
        let (priority, created, id) = rule.order();
        (wanted.get(&id).copied().unwrap_or(u32::from(priority)), created, id)
    });
    // Steps of ten, or smaller where there are too many rules for that.
    let step = (usize::from(MAX_PRIORITY) / all.len().max(1)).clamp(1, 10);
    let numbered = all.into_iter().take(MAX_RULES).enumerate();
    Ok(numbered
        .filter_map(|(place, rule)| Some((rule.id, u16::try_from((place + 1) * step).ok()?)))
        .collect())
}

async fn system(call: Call) -> Result<Reply, ApiError> {
    let lines = ask(&call.app, live_lines).await;
    Ok(Reply::data(&lines))
}

/// Runs a question to pf where it does not hold up others.
pub(super) async fn ask<T: Send + 'static>(
    app: &App,
    question: impl FnOnce(&dyn Pf) -> T + Send + 'static,
) -> T {
    let pf = app.pf.clone();
    if pf.is_simulated() { question(&*pf) } else { blocking::unblock(move || question(&*pf)).await }
}

fn texts(rules: Vec<LoadedRule>) -> impl Iterator<Item = String> {
    rules.into_iter().map(|rule| rule.text)
}

/// Translation and filter lines of a ruleset; none where pf cannot be asked or has no such anchor.
pub(super) fn loaded(pf: &dyn Pf, anchor: AnchorName) -> (Vec<String>, Vec<String>) {
    let (translation, filter) = pf.rules(anchor).unwrap_or_default();
    (texts(translation).collect(), texts(filter).collect())
}

fn live_lines(pf: &dyn Pf) -> Vec<String> {
    let (_, mut lines) = loaded(pf, None);
    for anchor in FILTER_ANCHORS {
        let (translation, filter) = loaded(pf, Some(anchor));
        if !translation.is_empty() || !filter.is_empty() {
            lines.push(format!("# --- anchor \"{anchor}\" ---"));
            lines.extend(translation);
            lines.extend(filter);
        }
    }
    lines
}

/// Whether every block line carries `log`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct BlockLogging {
    enabled: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
struct BlockLoggingSet {
    message: &'static str,
    enabled: bool,
}

async fn block_logging(call: Call) -> Result<Reply, ApiError> {
    let snapshot = call.app.store.snapshot();
    Ok(Reply::json(&BlockLogging { enabled: snapshot.config.firewall.block_logging }))
}

/// Acts at once: the stored and the applied configuration change alike, and only the applied one is loaded, so
/// that edits not yet applied stay so.
async fn set_block_logging(call: Call) -> Result<Reply, ApiError> {
    let BlockLogging { enabled } = request::parse(&call.body)?;
    let author = call.author();
    let message = if enabled { "Block logging enabled" } else { "Block logging disabled" };
    let now = Timestamp::now();
    let audit = config_changed(&author, message);
    call.app
        .applier
        .amend(&author, audit, move |config| {
            set_logging(config, enabled, now);
            Ok::<_, ApiError>(())
        })
        .await?;
    Ok(Reply::json(&BlockLoggingSet { message, enabled }))
}

fn set_logging(config: &mut Config, enabled: bool, now: Timestamp) {
    if config.firewall.block_logging != enabled {
        std::sync::Arc::make_mut(&mut config.firewall).block_logging = enabled;
    }
    let differ = config.rules.iter().filter(|rule| rule.action.blocks() && rule.log != enabled);
    let changed: Vec<Rule> =
        differ.map(|rule| Rule { log: enabled, updated_at: now, ..(**rule).clone() }).collect();
    changed.into_iter().for_each(|rule| config.rules.insert(rule));
}
