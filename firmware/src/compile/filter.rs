//! Filter rules → anchor `aifw`: one line per active rule whose schedule is open (contract/firewall.md §8.1).

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::address::{agree, family, ports_fit, protocols};
use super::{CompileError, Context, Left, Output, Part, Reason, geoip};
use crate::config::rule::{self, IpVersion, StatePolicy, StateTracking, Status};
use crate::config::{Address, Rule, TableName};
use crate::pf::ast::*;

/// PF_RULE_LABEL_SIZE less the NUL.
const MAX_LABEL: usize = 63;

pub(super) fn error(rule: &Rule, reason: Reason) -> CompileError {
    let label = rule.label.as_ref().map(ToString::to_string);
    CompileError { part: Part::Filter, id: rule.id, label, reason }
}

/// The pass rule of a port forward, with the family it is for.
pub(super) struct Pass {
    pub family: Family,
    pub rule: FilterRule,
}

/// `aifw`: user rules in order, and the pass rules of port forwards in front of the first block that would catch
/// everything of their family.
pub(super) fn ruleset(
    context: &Context<'_>,
    passes: Vec<Pass>,
    output: &mut Output,
) -> Result<Ruleset, CompileError> {
    let rules = in_force(context);
    let mut statements: Vec<Statement> = Vec::with_capacity(rules.len() + passes.len());
    let mut passes: Vec<Option<Pass>> = passes.into_iter().map(Some).collect();
    let mut countries: Vec<&TableName> = Vec::new();
    let mut waiting = [Some(Family::Inet), Some(Family::Inet6)];
    for rule in &rules {
        let (line, warnings) = match self::line(context, rule) {
            Ok(line) => line,
            Err(Left::Out(why)) => {
                output.warn(rule.id, why);
                continue;
            }
            Err(Left::Wrong(reason)) => return Err(error(rule, reason)),
        };
        for warning in warnings {
            output.warn(rule.id, warning);
        }
        if catches_all(rule) {
            for slot in &mut waiting {
                let caught = slot.filter(|family| line.criteria.family.is_none_or(|of| of == *family));
                if let Some(family) = caught {
                    statements.extend(take(&mut passes, family));
                    *slot = None;
                }
            }
        }
        countries.extend([&rule.src.addr, &rule.dst.addr].into_iter().filter_map(Address::table));
        statements.push(Item::Filter(line).into());
    }
    statements.extend(passes.into_iter().flatten().map(|pass| Item::Filter(pass.rule).into()));
    let mut tables = geoip::tables(context, countries, output);
    tables.append(&mut statements);
    Ok(Ruleset { statements: tables })
}

fn take(passes: &mut [Option<Pass>], family: Family) -> Vec<Statement> {
    let fits = |pass: &mut Option<Pass>| pass.take_if(|pass| pass.family == family);
    passes.iter_mut().filter_map(fits).map(|pass| Item::Filter(pass.rule).into()).collect()
}

/// Active rules with an open window or none, in order of evaluation.
fn in_force<'a>(context: &'a Context<'_>) -> Vec<&'a Arc<Rule>> {
    let open = |rule: &&Arc<Rule>| match rule.schedule_id {
        None => true,
        Some(schedule) => context.environment.open_schedules.contains(&schedule),
    };
    let active = context.config.rules.iter().filter(|rule| rule.status == Status::Active);
    let mut rules: Vec<&Arc<Rule>> = active.filter(open).collect();
    rules.sort_by_key(|rule| rule.order());
    rules
}

/// A quick block of everything that comes in, whatever the family.
fn catches_all(rule: &Rule) -> bool {
    let any =
        |end: &rule::Endpoint| end.addr == Address::Any && end.port.is_none() && end.port_alias.is_none();
    rule.quick
        && rule.action.blocks()
        && rule.protocol == rule::Protocol::Any
        && rule.direction != rule::Direction::Out
        && rule.interface.is_none()
        && any(&rule.src)
        && any(&rule.dst)
}

/// The line of one rule, whatever its status, and what may surprise about it.
pub(super) fn line(context: &Context<'_>, rule: &Rule) -> Result<(FilterRule, Vec<String>), Left> {
    let mut warnings = Vec::new();
    let blocks = rule.action.blocks();
    let mut line = FilterRule::new(match rule.action {
        rule::Action::Pass => Action::Pass,
        rule::Action::Block => Action::Block(Block::Default),
        rule::Action::BlockDrop => Action::Block(Block::Drop),
        rule::Action::BlockReturn => Action::Block(Block::Return),
    });
    line.log = (rule.log || (blocks && context.config.firewall.block_logging)).then(Log::default);
    line.quick = rule.quick;
    let from = context.endpoint("source", &rule.src)?;
    let to = context.endpoint("destination", &rule.dst)?;
    ports_fit(rule.protocol, &from, &to)?;
    let hop = rule.gateway.as_deref().map(next_hop).transpose()?;
    let written = match rule.ip_version {
        IpVersion::Inet => Some(Family::Inet),
        IpVersion::Inet6 => Some(Family::Inet6),
        IpVersion::Both | IpVersion::Inet46 => None,
    };
    line.criteria = Criteria {
        direction: match rule.direction {
            rule::Direction::In => Some(Direction::In),
            rule::Direction::Out => Some(Direction::Out),
            rule::Direction::Any => None,
        },
        on: rule.interface.as_ref().map(Into::into).into_iter().collect(),
        family: agree([
            written,
            rule.src.addr.family().map(family),
            rule.dst.addr.family().map(family),
            rule.protocol.family().map(family),
            hop.map(|hop| if hop.is_ipv4() { Family::Inet } else { Family::Inet6 }),
        ])?,
        protocols: protocols(rule.protocol),
        between: FromTo::Between { from, to },
    };
    if let Some(hop) = hop {
        if blocks || line.criteria.direction.is_none() {
            return Err(Reason::GatewayDirection.into());
        }
        match context.interface_towards(&IpNet::from(hop)) {
            Some(interface) => {
                line.route = Some(Route {
                    kind: RouteKind::RouteTo,
                    hops: vec![Hop { interface: interface.clone(), address: Some(Host::address(hop)) }],
                    pool: PoolOptions::default(),
                });
            }
            None => {
                warnings
                    .push(format!("no interface is in the network of gateway {hop}: passed without routing"));
            }
        }
    }
    if !blocks {
        let (state, surprise) = state(rule);
        line.options.state = Some(state);
        warnings.extend(surprise);
    }
    line.options.labels.extend(rule.label.as_ref().map(|label| Text::nearest(label.as_str(), MAX_LABEL)));
    line.options.labels.push(Text::nearest(&format!("rule:{}", rule.id), MAX_LABEL));
    Ok((line, warnings))
}

/// Only next hops are known; gateways by name are no part of this configuration.
fn next_hop(gateway: &str) -> Result<IpAddr, Reason> {
    gateway.parse().map_err(|_| Reason::NoGateway(gateway.into()))
}

fn state(rule: &Rule) -> (State, Option<String>) {
    let wanted = &rule.state;
    let mut surprise = None;
    let kind = match (wanted.tracking, rule.direction) {
        (StateTracking::None, _) => return (State { kind: StateKind::None, options: Vec::new() }, None),
        (StateTracking::KeepState, _) => StateKind::Keep,
        (StateTracking::SynproxyState, rule::Direction::Out) => {
            surprise = Some("synproxy is for incoming connections: modulate state is used".into());
            StateKind::Modulate
        }
        (StateTracking::ModulateState, _) => StateKind::Modulate,
        (StateTracking::SynproxyState, _) => StateKind::Synproxy,
    };
    let policy = wanted.policy.map(|policy| match policy {
        StatePolicy::IfBound => StateOption::IfBound,
        StatePolicy::Floating => StateOption::Floating,
    });
    let timeouts = [
        (Timeout::TcpEstablished, wanted.timeout_tcp),
        (Timeout::UdpMultiple, wanted.timeout_udp),
        (Timeout::IcmpFirst, wanted.timeout_icmp),
        (Timeout::AdaptiveStart, wanted.adaptive_timeouts.map(|adaptive| adaptive.start)),
        (Timeout::AdaptiveEnd, wanted.adaptive_timeouts.map(|adaptive| adaptive.end)),
    ];
    let timeouts =
        timeouts.into_iter().filter_map(|(name, number)| Some(StateOption::Timeout(name, number?)));
    (State { kind, options: policy.into_iter().chain(timeouts).collect() }, surprise)
}
