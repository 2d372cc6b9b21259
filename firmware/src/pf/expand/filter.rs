//! Filter rules one by one: state and flags that pf adds, and what it refuses.

use super::{Contradiction, Expander, labels};
use crate::pf::ast::*;
use crate::pf::names;

type Result<T> = std::result::Result<T, Contradiction>;

impl Expander<'_> {
    pub(super) fn filter(&self, rule: &FilterRule, number: &mut u32) -> Result<Vec<Item>> {
        if matches!(rule.options.flags, Some(TcpFlags::Set { .. }))
            && !rule.criteria.protocols.is_empty()
            && !rule.criteria.protocols.contains(&Protocol::TCP)
        {
            return Err(Contradiction::Flags);
        }
        let mut base = rule.clone();
        base.action = self.action(&rule.action);
        base.options.state = self.state(rule)?;
        let stateful = base.options.state.as_ref().is_some_and(|state| state.kind != StateKind::None);
        if base.action == Action::Pass && stateful && !base.options.fragment && base.options.flags.is_none() {
            // SYN of SYN and ACK.
            base.options.flags = Some(TcpFlags::Set { set: 2, of: 18 });
        }
        let mut family = self.family_of(&rule.criteria)?;
        if let Some(route) = &mut base.route {
            if rule.criteria.direction.is_none() {
                return Err(Contradiction::RouteDirection);
            }
            self.route(route, &mut family, rule.options.af_to.is_some())?;
        }
        self.filter_translations(&mut base.options, &mut family)?;

        let mut items = Vec::new();
        for single in self.combinations(&rule.criteria, family, &rule.options.icmp)? {
            let mut single_rule = base.clone();
            single_rule.criteria = single.criteria;
            single_rule.options.icmp = single.icmp;
            self.settle(&mut single_rule)?;
            self.push(single_rule, number, &mut items)?;
        }
        Ok(items)
    }

    /// Adds the rule; `binat-to` becomes two.
    fn push(&self, mut rule: FilterRule, number: &mut u32, items: &mut Vec<Item>) -> Result<()> {
        let Some(binat) = rule.options.binat_to.take() else {
            consistent(&rule)?;
            labels::fill_in(&mut rule.options.labels, &rule.criteria, *number)?;
            *number += 1;
            items.push(Item::Filter(rule));
            return Ok(());
        };
        let FromTo::Between { from, to } = rule.criteria.between.clone() else {
            return Err(Contradiction::Binat);
        };
        let ([source], [target]) = (from.hosts.as_slice(), binat.hosts.as_slice()) else {
            return Err(Contradiction::Binat);
        };
        let prefix = |host: &Host| match host {
            Host::Net(net) if net.prefix_len() > 0 => Some(net.prefix_len()),
            Host::Interface(host) if host.dynamic && host.no_alias => Some(128),
            _ => None,
        };
        let same = prefix(&source.host).is_some() && prefix(&source.host) == prefix(target);
        if !same || source.negate || rule.criteria.direction.is_some() {
            return Err(Contradiction::Binat);
        }
        let mut out = rule.clone();
        out.criteria.direction = Some(Direction::Out);
        out.options.nat_to = Some(Box::new(Translation {
            hosts: vec![target.clone()],
            port: None,
            pool: PoolOptions { static_port: true, ..PoolOptions::default() },
        }));
        let mut back = rule;
        back.criteria.direction = Some(Direction::In);
        back.criteria.between = FromTo::Between {
            from: to,
            to: Endpoint { hosts: vec![target.clone().into()], ports: from.ports.clone() },
        };
        back.options.rdr_to = Some(Box::new(Translation {
            hosts: vec![source.host.clone()],
            port: None,
            pool: PoolOptions::default(),
        }));
        self.push(out, number, items)?;
        self.push(back, number, items)
    }

    fn action(&self, action: &Action) -> Action {
        let Action::Block(block) = *action else { return action.clone() };
        Action::Block(match block {
            Block::Default => match self.block_policy {
                BlockPolicy::Drop => Block::Drop,
                BlockPolicy::Return => Block::Return,
            },
            Block::ReturnRst { ttl } => Block::ReturnRst { ttl: ttl.filter(|ttl| *ttl != 0) },
            Block::ReturnIcmp { inet, inet6 } => Block::ReturnIcmp {
                inet: Some(inet.unwrap_or(names::port_unreachable(Family::Inet))),
                // pfctl takes IPv4's default number when only IPv4's code is written.
                inet6: Some(inet6.unwrap_or(names::port_unreachable(match inet {
                    Some(_) => Family::Inet,
                    None => Family::Inet6,
                }))),
            },
            Block::ReturnIcmp6 { code } => Block::ReturnIcmp {
                inet: Some(names::port_unreachable(Family::Inet)),
                inet6: Some(code.unwrap_or(names::port_unreachable(Family::Inet6))),
            },
            other => other,
        })
    }

    /// What the rule's state is, options in the order in which pf prints them.
    fn state(&self, rule: &FilterRule) -> Result<Option<State>> {
        let written = match (&rule.options.state, &rule.action) {
            (Some(state), Action::Pass) => state.clone(),
            (None, Action::Pass) => State { kind: StateKind::Keep, options: self.state_defaults.clone() },
            (Some(state), _) if state.kind != StateKind::None => return Err(Contradiction::StateWithoutPass),
            _ => return Ok(None),
        };
        if written.kind == StateKind::None {
            return Ok(Some(State { kind: StateKind::None, options: Vec::new() }));
        }
        let options = settled_state_options(&written, self.state_policy)?;
        if options.contains(&StateOption::Sloppy) && written.kind != StateKind::Keep {
            return Err(Contradiction::Sloppy);
        }
        Ok(Some(State { kind: written.kind, options }))
    }

    /// What depends on the protocol of a single rule.
    fn settle(&self, rule: &mut FilterRule) -> Result<()> {
        let protocol = rule.criteria.protocols.first().copied();
        let not_tcp = protocol.is_some_and(|protocol| protocol != Protocol::TCP);
        if let Some(state) = &mut rule.options.state
            && not_tcp
            && matches!(state.kind, StateKind::Modulate | StateKind::Synproxy)
        {
            state.kind = StateKind::Keep;
        }
        let stateful = rule.options.state.as_ref().is_some_and(|state| state.kind != StateKind::None);
        let none = matches!(rule.options.flags, Some(TcpFlags::Any | TcpFlags::Set { set: 0, of: 0 }));
        if not_tcp || (none && (!stateful || rule.options.fragment)) {
            rule.options.flags = None;
        } else if none {
            rule.options.flags = Some(TcpFlags::Any);
        }
        self.settle_filter_translations(rule)
    }
}

fn settled_state_options(state: &State, policy: StatePolicy) -> Result<Vec<StateOption>> {
    let find =
        |test: &dyn Fn(&StateOption) -> bool| state.options.iter().find(|option| test(option)).cloned();
    let name = |option: &StateOption| match option {
        StateOption::Max(_) => "max",
        StateOption::NoSync => "no-sync",
        StateOption::IfBound | StateOption::Floating => "if-bound or floating",
        StateOption::Sloppy => "sloppy",
        StateOption::Pflow => "pflow",
        StateOption::AllowRelated => "allow-related",
        StateOption::SourceTrack(_) => "source-track",
        StateOption::MaxSrcStates(_) => "max-src-states",
        StateOption::MaxSrcConn(_) => "max-src-conn",
        StateOption::MaxSrcConnRate(..) => "max-src-conn-rate",
        StateOption::MaxSrcNodes(_) => "max-src-nodes",
        StateOption::Overload { .. } => "overload",
        StateOption::Timeout(timeout, _) => timeout.as_str(),
    };
    for (index, option) in state.options.iter().enumerate() {
        if state.options[..index].iter().any(|earlier| name(earlier) == name(option)) {
            return Err(Contradiction::StateOptionTwice(name(option)));
        }
    }
    let max = find(&|option| matches!(option, StateOption::Max(_)));
    let conn = find(&|option| matches!(option, StateOption::MaxSrcConn(_)));
    let rate = find(&|option| matches!(option, StateOption::MaxSrcConnRate(..)));
    let nodes = find(&|option| matches!(option, StateOption::MaxSrcNodes(_)));
    let states = find(&|option| matches!(option, StateOption::MaxSrcStates(_)));
    let overload = find(&|option| matches!(option, StateOption::Overload { .. }));
    let track = find(&|option| matches!(option, StateOption::SourceTrack(_)));
    if track == Some(StateOption::SourceTrack(Some(SourceTrack::Global)))
        && let Some(option) = [&nodes, &conn, &rate].into_iter().flatten().next()
    {
        return Err(Contradiction::SourceTrackGlobal(name(option)));
    }
    if overload.is_some() && conn.is_none() && rate.is_none() {
        return Err(Contradiction::Overload);
    }
    let per_rule = track == Some(StateOption::SourceTrack(Some(SourceTrack::Rule)))
        || conn.is_some()
        || rate.is_some()
        || nodes.is_some();
    let tracked = per_rule || track.is_some() || states.is_some();
    let track = tracked.then_some(StateOption::SourceTrack(Some(if per_rule {
        SourceTrack::Rule
    } else {
        SourceTrack::Global
    })));
    let bound = find(&|option| matches!(option, StateOption::IfBound | StateOption::Floating));
    let bound = bound.or((policy == StatePolicy::IfBound).then_some(StateOption::IfBound));

    let mut timeouts: Vec<(Timeout, u32)> = state
        .options
        .iter()
        .filter_map(|option| match option {
            StateOption::Timeout(timeout, number) => Some((*timeout, *number)),
            _ => None,
        })
        .collect();
    let adaptive =
        |(timeout, _): &(Timeout, u32)| matches!(timeout, Timeout::AdaptiveStart | Timeout::AdaptiveEnd);
    if let Some(StateOption::Max(max)) = max
        && !timeouts.iter().any(adaptive)
    {
        timeouts.push((Timeout::AdaptiveStart, max / 10 * 6));
        timeouts.push((Timeout::AdaptiveEnd, max / 10 * 12));
    }
    timeouts.retain(|(_, number)| *number != 0);
    timeouts.sort_by_key(|(timeout, _)| kernel_order(*timeout));

    let flag = |option: StateOption| state.options.contains(&option).then_some(option);
    let mut options: Vec<StateOption> =
        [max, flag(StateOption::NoSync), track, states, conn, rate, nodes, overload]
            .into_iter()
            .chain([
                bound.filter(|option| *option == StateOption::IfBound),
                flag(StateOption::Sloppy),
                flag(StateOption::Pflow),
                flag(StateOption::AllowRelated),
            ])
            .flatten()
            .collect();
    options.extend(timeouts.into_iter().map(|(timeout, number)| StateOption::Timeout(timeout, number)));
    Ok(options)
}

/// Time-outs in the kernel's order (PFTM_*).
fn kernel_order(timeout: Timeout) -> u8 {
    match timeout {
        Timeout::TcpTsdiff => 50,
        Timeout::SctpFirst | Timeout::SctpOpening | Timeout::SctpEstablished => 60,
        Timeout::SctpClosing | Timeout::SctpClosed => 61,
        Timeout::SrcTrack => 40,
        other => other as u8,
    }
}

pub(super) fn ports_need_protocol(criteria: &Criteria) -> Result<()> {
    let with_ports = [Protocol::TCP, Protocol::UDP, Protocol::SCTP];
    let ports = !criteria.between.from().ports.is_empty() || !criteria.between.to().ports.is_empty();
    let fine = criteria.protocols.first().is_some_and(|protocol| with_ports.contains(protocol));
    if ports && !fine { Err(Contradiction::PortWithoutProtocol) } else { Ok(()) }
}

pub(super) fn icmp_is_consistent(criteria: &Criteria, options: &FilterOptions) -> Result<()> {
    let protocol = criteria.protocols.first().copied();
    if let Some(icmp) = &options.icmp {
        let wanted = if icmp.family == Family::Inet { Protocol::ICMP } else { Protocol::ICMP6 };
        if protocol != Some(wanted) {
            return Err(Contradiction::IcmpProtocol);
        }
        if criteria.family.is_none() {
            return Err(Contradiction::IcmpFamily);
        }
    }
    match (protocol, criteria.family) {
        (Some(Protocol::ICMP), Some(Family::Inet6)) => Err(Contradiction::ProtocolFamily("icmp")),
        (Some(Protocol::ICMP6), Some(Family::Inet)) => Err(Contradiction::ProtocolFamily("icmp6")),
        _ => Ok(()),
    }
}

fn consistent(rule: &FilterRule) -> Result<()> {
    let options = &rule.options;
    ports_need_protocol(&rule.criteria)?;
    icmp_is_consistent(&rule.criteria, options)?;
    if matches!(rule.action, Action::Block(Block::ReturnRst { .. }))
        && rule.criteria.protocols != [Protocol::TCP]
    {
        return Err(Contradiction::ReturnRst);
    }
    let blocks = matches!(rule.action, Action::Block(_));
    if options.allow_opts && blocks {
        return Err(Contradiction::AllowOpts);
    }
    let ports = [rule.criteria.between.from(), rule.criteria.between.to()];
    if options.fragment
        && (ports.iter().any(|side| !side.ports.is_empty())
            || options.icmp.is_some()
            || matches!(options.flags, Some(TcpFlags::Set { .. })))
    {
        return Err(Contradiction::Fragment);
    }
    if rule.route.is_some() && rule.action != Action::Pass {
        return Err(Contradiction::RouteAction);
    }
    if let Some(af_to) = &options.af_to {
        if rule.criteria.family == Some(af_to.family) {
            return Err(Contradiction::AfToFamily);
        }
        if rule.action == Action::Match {
            return Err(Contradiction::AfToMatch);
        }
        if rule.route.as_ref().is_some_and(|route| route.kind == RouteKind::DupTo) {
            return Err(Contradiction::DupToAfTo);
        }
    }
    if options.nat_to.is_some() || options.rdr_to.is_some() || options.af_to.is_some() {
        let stateful = options.state.as_ref().is_some_and(|state| state.kind != StateKind::None);
        if rule.action != Action::Match && !stateful {
            return Err(Contradiction::TranslationState);
        }
        if rule.criteria.direction.is_none() {
            return Err(Contradiction::TranslationDirection);
        }
    }
    Ok(())
}
