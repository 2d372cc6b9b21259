//! `/nat`: translation rules, their order, and what pf has loaded of them (contract/firewall.md §6).

use schemars::JsonSchema;
use serde::Serialize;

use super::resource::{Data, InEffect, Lists, Message, Resource, Written, collection, config_changed};
use super::rules::{ReorderRequest, ask, environment, loaded, refused, rehearse};
use super::{Access, ApiError, App, Call, Reply, Route};
use crate::compile::{self, Environment};
use crate::config::nat::{NatRequest, Redirect};
use crate::config::rule::Protocol;
use crate::config::{
    Address, Collection, Config, Id, InterfaceName, Label, NatKind, NatRule, Permission, PortRange, Refusal,
    Status, Timestamp, request,
};
use crate::pf::Pf;
use crate::store::{Author, Draft, NewAudit};

pub fn routes() -> Vec<Route> {
    let mut routes = collection::<Nat>(&Lists::new());
    let (read, write) = (Access::Needs(Permission::NatRead), Access::Needs(Permission::NatWrite));
    routes.extend([
        Route::new("PUT", "/nat/reorder", write, "Put NAT rules into an order", reorder)
            .takes::<ReorderRequest>()
            .answers::<Message>(200),
        Route::new("GET", "/nat/pf-output", read, "The NAT rules that pf has loaded", pf_output)
            .answers::<Data<Vec<String>>>(200),
    ]);
    routes
}

/// A NAT rule as answers show it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct NatView<'a> {
    id: Id,
    nat_type: NatKind,
    interface: &'a InterfaceName,
    protocol: Protocol,
    src_addr: &'a Address,
    src_port: Option<PortRange>,
    dst_addr: &'a Address,
    dst_port: Option<PortRange>,
    redirect: &'a Redirect,
    label: Option<&'a Label>,
    status: Status,
    static_port: bool,
    associated_filter: bool,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// NAT rules.
pub struct Nat;

impl Resource for Nat {
    type Object = NatRule;
    type Request = NatRequest;
    type View<'a> = NatView<'a>;
    type Schema = InEffect<NatView<'static>>;
    type Answer = Data<Self::Schema>;
    type Context = ();
    type Order = (u64, Id);

    const PATHS: (&'static str, &'static str) = ("/nat", "/nat/{id}");
    const NOUN: &'static str = "NAT rule";
    const SUMMARIES: [&'static str; 5] = [
        "NAT rules, in their order of evaluation",
        "Add a NAT rule behind all others",
        "A NAT rule",
        "Replace a NAT rule, or switch it on or off",
        "Delete a NAT rule",
    ];
    const READ: Permission = Permission::NatRead;
    const WRITE: Permission = Permission::NatWrite;

    fn collection(config: &Config) -> &Collection<NatRule> {
        &config.nat
    }
    fn collection_mut(config: &mut Config) -> &mut Collection<NatRule> {
        &mut config.nat
    }
    fn create(request: NatRequest, now: Timestamp, config: &Config) -> Result<NatRule, Refusal> {
        Ok(request.create(now, config)?)
    }
    fn replace(
        request: NatRequest,
        stored: &NatRule,
        now: Timestamp,
        config: &Config,
    ) -> Result<NatRule, Refusal> {
        Ok(request.replace(stored, now, config)?)
    }
    fn order(rule: &NatRule) -> Self::Order {
        (rule.position, rule.id)
    }
    async fn context(_: &App) {}
    fn view<'a>(rule: &'a NatRule, _: &'a ()) -> NatView<'a> {
        NatView {
            id: rule.id,
            nat_type: rule.nat_type,
            interface: &rule.interface,
            protocol: rule.protocol,
            src_addr: &rule.src_addr,
            src_port: rule.src_port,
            dst_addr: &rule.dst_addr,
            dst_port: rule.dst_port,
            redirect: &rule.redirect,
            label: rule.label.as_ref(),
            status: rule.status,
            static_port: rule.static_port,
            associated_filter: rule.associated_filter,
            created_at: rule.created_at,
            updated_at: rule.updated_at,
        }
    }
    async fn environment(app: &App) -> Environment {
        environment(app).await
    }
    async fn rehearse(
        app: &App,
        environment: &Environment,
        config: &Config,
        rule: NatRule,
    ) -> Result<(), ApiError> {
        // What is switched off loads nothing, and must be possible to switch off.
        if rule.status == Status::Disabled {
            return Ok(());
        }
        let lines = compile::nat_lines(config, environment, &rule).map_err(|error| refused(error.reason))?;
        rehearse(app, ANCHOR, lines.join("\n")).await
    }
    fn audit(
        author: &Author,
        written: &Written<NatRule>,
        draft: &Draft,
        environment: &Environment,
    ) -> NewAudit {
        let rule = written.object();
        NewAudit {
            action: match written {
                Written::Added(_) => "rule_added",
                Written::Replaced { .. } => "rule_updated",
                Written::Removed(_) => "rule_removed",
            },
            source: "nat_engine",
            details: format!(
                "nat: {} (user {})",
                compiled_lines(&draft.config, environment, rule).join("; "),
                author.name
            ),
            rule_id: Some(rule.id),
            ..NewAudit::default()
        }
    }
    fn deleted(id: &Id) -> String {
        format!("NAT rule {id} deleted")
    }
}

/// The rule as it would stand in pf.
fn compiled_lines(config: &Config, environment: &Environment, rule: &NatRule) -> Vec<String> {
    compile::nat_lines(config, environment, rule).unwrap_or_else(|error| vec![format!("# {error}")])
}

/// The listed rules share out their own positions; the others stay where they are.
async fn reorder(call: Call) -> Result<Reply, ApiError> {
    let ids = request::parse::<ReorderRequest>(&call.body)?.ids()?;
    let author = call.author();
    let count = ids.len();
    let by = author.clone();
    call.app
        .store
        .commit(&author, move |draft| {
            let mut rules = Vec::with_capacity(ids.len());
            for id in &ids {
                let rule = draft.config.nat.get(id);
                rules.push(rule.cloned().ok_or_else(|| ApiError::not_found(format!("NAT rule {id}")))?);
            }
            let mut positions: Vec<u64> = rules.iter().map(|rule| rule.position).collect();
            positions.sort_unstable();
            for (rule, position) in rules.iter().zip(positions) {
                if rule.position != position {
                    let rule = NatRule { position, updated_at: draft.now, ..(**rule).clone() };
                    draft.config.nat.insert(rule);
                }
            }
            draft.audit.push(config_changed(&by, format!("{count} NAT rules reordered")));
            Ok::<_, ApiError>(())
        })
        .await?;
    Ok(Reply::message(format!("{count} NAT rules reordered")))
}

const ANCHOR: &str = "aifw-nat";

async fn pf_output(call: Call) -> Result<Reply, ApiError> {
    let mut lines = ask(&call.app, live_lines).await;
    if call.app.applier.pending().nat {
        let config = call.app.store.snapshot().config.clone();
        let machine = call.app.applier.machine().clone();
        let waiting = blocking::unblock(move || {
            let environment = machine.environment(&config, Timestamp::now());
            not_applied(&config, &environment)
        })
        .await;
        if !waiting.is_empty() {
            lines.extend(["".into(), "# Compiled, not applied".into()]);
            lines.extend(waiting);
        }
    }
    Ok(Reply::data(&lines))
}

fn live_lines(pf: &dyn Pf) -> Vec<String> {
    let (translation, filter) = loaded(pf, Some(ANCHOR));
    let mut lines = Vec::new();
    if !translation.is_empty() {
        lines.push(format!("# NAT Rules (anchor: {ANCHOR})"));
        lines.extend(translation);
    }
    if !filter.is_empty() {
        lines.extend(["".into(), format!("# Filter Rules (anchor: {ANCHOR})")]);
        lines.extend(filter);
    }
    lines
}

/// What the stored rules compile to, each behind a comment that names it.
fn not_applied(config: &Config, environment: &Environment) -> Vec<String> {
    let mut rules: Vec<_> = config.nat.iter().filter(|rule| rule.status == Status::Active).collect();
    rules.sort_by_key(|rule| (rule.position, rule.id));
    let mut lines = Vec::new();
    for rule in rules {
        let label = rule.label.as_ref().map(|label| format!(" {label}")).unwrap_or_default();
        lines.push(format!("# nat:{}{label}", rule.id));
        lines.extend(compiled_lines(config, environment, rule));
    }
    lines
}
