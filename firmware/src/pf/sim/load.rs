//! From the language to rules that can be evaluated: lists become single rules, interface names become the
//! addresses they have now, timeouts and tables are put in place. Refuses what pfctl refuses at this stage.
//! Changes nothing itself: [`super::engine`] puts the result in force as a whole.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use ipnet::IpNet;

use super::interfaces::Interfaces;
use super::rules::*;
use super::state::Timeouts;
use super::table::{self, Entry};
use crate::pf::ast::{self, Host, Item, LimitName, SetOption, StateKind, StateOption, TableContents};
use crate::pf::packet::{Direction, Family, protocol};
use crate::pf::print::Loaded as Printed;

/// Why a ruleset cannot be loaded, at which line (1 = first).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{line}: {message}")]
pub struct Refused {
    pub line: u32,
    pub message: String,
}

/// Options of the main ruleset (pf.conf(5), OPTIONS).
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    pub skip: Vec<String>,
    pub block_answer: Answer,
    pub if_bound: bool,
    pub states: u32,
    pub table_entries: u32,
    pub reassemble: bool,
    /// `set timeout`, over the defaults.
    pub timeouts: Timeouts,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            skip: Vec::new(),
            block_answer: Answer::Drop,
            if_bound: false,
            states: 100_000,
            table_entries: 200_000,
            reassemble: false,
            timeouts: Timeouts::defaults(100_000),
        }
    }
}

/// Names of tables, each with a number that it keeps.
#[derive(Debug, Default, Clone)]
pub struct TableNames {
    numbers: HashMap<(Arc<str>, Arc<str>), usize>,
    names: Vec<(Arc<str>, Arc<str>)>,
}

impl TableNames {
    pub fn number(&mut self, anchor: &str, name: &str) -> usize {
        let key: (Arc<str>, Arc<str>) = (anchor.into(), name.into());
        let next = self.names.len();
        *self.numbers.entry(key.clone()).or_insert_with(|| {
            self.names.push(key);
            next
        })
    }
    pub fn find(&self, anchor: &str, name: &str) -> Option<usize> {
        self.numbers.get(&(anchor.into(), name.into())).copied()
    }
    /// Anchor and name.
    pub fn of(&self, number: usize) -> Option<(&str, &str)> {
        self.names.get(number).map(|(anchor, name)| (&**anchor, &**name))
    }
    pub fn len(&self) -> usize {
        self.names.len()
    }
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

/// A `table` statement. `entries` is `None` when it lists nothing: what is in the table then stays.
#[derive(Debug, Clone)]
pub struct TableSetting {
    pub number: usize,
    pub persist: bool,
    pub constant: bool,
    pub entries: Option<Vec<Entry>>,
}

/// What a text comes to.
#[derive(Debug, Default)]
pub struct Plan {
    /// The ruleset itself and its inline anchors, by path.
    pub rulesets: BTreeMap<String, Ruleset>,
    pub tables: Vec<TableSetting>,
    /// Of the main ruleset; an anchor sets no options.
    pub options: Options,
    /// Tables that rules name.
    pub named: Vec<TableRef>,
}

/// Reads the files that `table … file` names.
pub type Files<'a> = &'a dyn Fn(&str) -> std::io::Result<String>;

/// Turns a ruleset for `anchor` (`""` = main) into rules.
pub fn plan(
    ruleset: &ast::Ruleset,
    anchor: &str,
    interfaces: &Interfaces,
    tables: &mut TableNames,
    files: Files<'_>,
) -> Result<Plan, Refused> {
    let mut loader =
        Loader { interfaces, tables, files, plan: Plan::default(), line: 0, defaults: Vec::new() };
    loader.ruleset(ruleset, anchor)?;
    Ok(loader.plan)
}

struct Loader<'a> {
    interfaces: &'a Interfaces,
    tables: &'a mut TableNames,
    files: Files<'a>,
    plan: Plan,
    line: u32,
    /// `set state-defaults`
    defaults: Vec<StateOption>,
}

/// Rules of one ruleset while it is read.
#[derive(Default)]
struct Lists {
    filter: Vec<Rule>,
    nat: Vec<Rule>,
    rdr: Vec<Rule>,
    binat: Vec<Rule>,
    unnamed: u32,
}

/// One combination of the criteria's lists.
#[derive(Clone)]
struct Single {
    criteria: ast::Criteria,
    matcher: Matcher,
}

impl Loader<'_> {
    fn refuse<T>(&self, message: impl Into<String>) -> Result<T, Refused> {
        Err(Refused { line: self.line, message: message.into() })
    }

    fn ruleset(&mut self, ruleset: &ast::Ruleset, path: &str) -> Result<(), Refused> {
        let mut lists = Lists::default();
        for statement in &ruleset.statements {
            if statement.line > 0 {
                self.line = statement.line;
            }
            self.item(&statement.item, path, &mut lists)?;
        }
        let ruleset = Ruleset {
            filter: RuleList::new(lists.filter, true),
            nat: RuleList::new(lists.nat, true),
            rdr: RuleList::new(lists.rdr, true),
            binat: RuleList::new(lists.binat, false),
        };
        self.plan.rulesets.insert(path.into(), ruleset);
        Ok(())
    }

    fn item(&mut self, item: &Item, path: &str, lists: &mut Lists) -> Result<(), Refused> {
        match item {
            Item::Macro { .. } => Ok(()),
            Item::Set(option) => self.option(option),
            Item::Table(definition) => self.table(definition, path),
            Item::Scrub(scrub) => {
                if !scrub.no && scrub.fragment_reassemble != Some(false) {
                    self.plan.options.reassemble = true;
                }
                Ok(())
            }
            Item::Nat(rule) => self.nat(rule, path, lists),
            Item::Anchor(rule) => self.anchor(rule, path, lists),
            Item::LoadAnchor { .. } => {
                self.refuse("load anchor is not supported here: anchors are loaded by themselves")
            }
            Item::Antispoof(antispoof) => {
                for rule in self.antispoof(antispoof)? {
                    self.filter(&rule, path, lists)?;
                }
                Ok(())
            }
            Item::Filter(rule) => self.filter(rule, path, lists),
        }
    }

    fn option(&mut self, option: &SetOption) -> Result<(), Refused> {
        let options = &mut self.plan.options;
        match option {
            SetOption::Skip(names) => options.skip.extend(names.iter().map(|n| n.as_str().to_owned())),
            SetOption::BlockPolicy(policy) => {
                options.block_answer = match policy {
                    ast::BlockPolicy::Drop => Answer::Drop,
                    ast::BlockPolicy::Return => Answer::Return,
                }
            }
            SetOption::StatePolicy(policy) => options.if_bound = *policy == ast::StatePolicy::IfBound,
            SetOption::Limit(LimitName::States, limit) => {
                options.states = *limit;
                // The adaptive limits follow, unless they were set by themselves.
                let old = Timeouts::defaults(100_000);
                let new = Timeouts::defaults(*limit);
                for which in [ast::Timeout::AdaptiveStart, ast::Timeout::AdaptiveEnd] {
                    if options.timeouts.get(which) == old.get(which) {
                        options.timeouts.set(which, new.get(which).unwrap_or(0));
                    }
                }
            }
            SetOption::Limit(LimitName::TableEntries, limit) => options.table_entries = *limit,
            SetOption::Reassemble { on, .. } => options.reassemble = *on,
            SetOption::Timeout(which, seconds) => options.timeouts.set(*which, *seconds),
            SetOption::Optimization(how) => optimize(&mut options.timeouts, *how),
            SetOption::StateDefaults(defaults) => self.defaults = defaults.clone(),
            SetOption::Limit(..)
            | SetOption::RulesetOptimization(_)
            | SetOption::Debug(_)
            | SetOption::LogInterface(_)
            | SetOption::HostId(_)
            | SetOption::Fingerprints(_)
            | SetOption::FailPolicy(_)
            | SetOption::KeepCounters => {}
        }
        Ok(())
    }

    fn table(&mut self, definition: &ast::TableDefinition, path: &str) -> Result<(), Refused> {
        let mut entries: Option<Vec<Entry>> = None;
        for contents in &definition.contents {
            let list = entries.get_or_insert_default();
            match contents {
                TableContents::Entries(items) => {
                    for item in items {
                        for net in self.nets(&item.host)? {
                            list.push(Entry { net: net.trunc(), negated: item.negate });
                        }
                    }
                }
                TableContents::File(name) => {
                    let text = (self.files)(name.as_str()).map_err(|e| Refused {
                        line: self.line,
                        message: format!("table <{}>: {}: {e}", definition.name.as_str(), name.as_str()),
                    })?;
                    let read = table::entries_of_file(&text).map_err(|e| Refused {
                        line: self.line,
                        message: format!("table <{}>: {}: {e}", definition.name.as_str(), name.as_str()),
                    })?;
                    list.extend(read);
                }
            }
        }
        let number = self.tables.number(path, definition.name.as_str());
        self.plan.tables.push(TableSetting {
            number,
            persist: definition.persist,
            constant: definition.constant,
            entries,
        });
        Ok(())
    }

    /// Networks that a host stands for when it is written out.
    fn nets(&self, host: &Host) -> Result<Vec<IpNet>, Refused> {
        match host {
            Host::Net(net) | Host::Scoped(net, _) => Ok(vec![*net]),
            Host::Interface(interface) => {
                let nets = self.interfaces.resolve(interface);
                if nets.is_empty() {
                    return self.refuse(format!("no IP address found for {host}"));
                }
                Ok(nets)
            }
            other => self.refuse(format!("{other} is no address")),
        }
    }

    fn table_ref(&mut self, path: &str, name: &ast::Table) -> TableRef {
        let root = self.tables.number("", name.as_str());
        let own = if path.is_empty() { root } else { self.tables.number(path, name.as_str()) };
        let found = TableRef { own, root };
        self.plan.named.push(found);
        found
    }

    // --- criteria

    /// Items of one side's host list as pf keeps them: written-out interfaces become their addresses.
    fn hosts(&mut self, items: &[ast::HostItem], path: &str) -> Result<Vec<(ast::HostItem, Hosts)>, Refused> {
        if items.is_empty() {
            return Ok(vec![(Host::Any.into(), Hosts::Any)]);
        }
        let mut out = Vec::new();
        for item in items {
            let negate = item.negate;
            let mut push = |host: Host, hosts: Hosts| out.push((ast::HostItem { negate, host }, hosts));
            match &item.host {
                Host::Any => push(Host::Any, Hosts::Any),
                Host::Net(net) => push(Host::Net(net.trunc()), Hosts::Net(net.trunc())),
                Host::Scoped(net, on) => push(Host::Scoped(*net, on.clone()), Hosts::Net(net.trunc())),
                Host::Range(a, b) => push(Host::Range(*a, *b), Hosts::Range(*a, *b)),
                Host::Table(name) => {
                    push(Host::Table(name.clone()), Hosts::Table(self.table_ref(path, name)))
                }
                Host::NoRoute => push(Host::NoRoute, Hosts::NoRoute),
                Host::UrpfFailed => push(Host::UrpfFailed, Hosts::UrpfFailed),
                Host::Interface(interface) if interface.dynamic => {
                    push(Host::Interface(interface.clone()), Hosts::Dynamic(interface.clone()));
                }
                Host::Interface(_) => {
                    let mut nets = self.nets(&item.host)?;
                    let mut seen = Vec::new();
                    nets.retain(|net| {
                        !seen.contains(net) && {
                            seen.push(*net);
                            true
                        }
                    });
                    for net in nets {
                        push(Host::Net(net), Hosts::Net(net));
                    }
                }
            }
        }
        Ok(out)
    }

    /// Every combination of the lists, in pf's order.
    fn singles(&mut self, criteria: &ast::Criteria, path: &str) -> Result<Vec<Single>, Refused> {
        let from = self.hosts(&criteria.between.from().hosts, path)?;
        let to = self.hosts(&criteria.between.to().hosts, path)?;
        let ons = options_of(&criteria.on);
        let protocols = options_of(&criteria.protocols);
        let from_ports = options_of(&criteria.between.from().ports);
        let to_ports = options_of(&criteria.between.to().ports);
        let mut out = Vec::new();
        for on in &ons {
            for proto in &protocols {
                for (from_item, from_hosts) in &from {
                    for from_port in &from_ports {
                        for (to_item, to_hosts) in &to {
                            for to_port in &to_ports {
                                let Some(family) = one_family([
                                    criteria.family.map(family_of),
                                    family_of_hosts(from_hosts),
                                    family_of_hosts(to_hosts),
                                    family_of_protocol(proto.map(|p| p.0)),
                                ]) else {
                                    continue;
                                };
                                out.push(Single {
                                    criteria: ast::Criteria {
                                        direction: criteria.direction,
                                        on: on.iter().map(|on| (*on).clone()).collect(),
                                        family: family.map(|f| match f {
                                            Family::Inet => ast::Family::Inet,
                                            Family::Inet6 => ast::Family::Inet6,
                                        }),
                                        protocols: proto.iter().map(|p| **p).collect(),
                                        between: between((from_item, *from_port), (to_item, *to_port)),
                                    },
                                    matcher: Matcher {
                                        direction: criteria.direction.map(direction_of),
                                        on: on.map(on_of),
                                        family,
                                        protocol: proto.map(|p| p.0),
                                        from: Side {
                                            negate: from_item.negate,
                                            hosts: from_hosts.clone(),
                                            port: from_port.copied(),
                                        },
                                        to: Side {
                                            negate: to_item.negate,
                                            hosts: to_hosts.clone(),
                                            port: to_port.copied(),
                                        },
                                    },
                                });
                            }
                        }
                    }
                }
            }
        }
        if out.is_empty() {
            return self.refuse("rule expands to no valid combination");
        }
        Ok(out)
    }

    // --- filter rules

    fn filter(&mut self, rule: &ast::FilterRule, path: &str, lists: &mut Lists) -> Result<(), Refused> {
        let icmp: Vec<Option<ast::IcmpType>> = match &rule.options.icmp {
            Some(icmp) if !icmp.types.is_empty() => icmp.types.iter().copied().map(Some).collect(),
            _ => vec![None],
        };
        let mut criteria = rule.criteria.clone();
        if let Some(icmp) = &rule.options.icmp
            && criteria.family.is_none()
        {
            criteria.family = Some(icmp.family);
        }
        for single in self.singles(&criteria, path)? {
            for kind in &icmp {
                let mut printed = rule.clone();
                printed.criteria = single.criteria.clone();
                if let (Some(one), Some(list)) = (kind, &mut printed.options.icmp) {
                    list.types = vec![*one];
                }
                if printed.action == ast::Action::Block(ast::Block::Default) {
                    // pfctl settles the policy when it loads, so that it is printed.
                    printed.action = ast::Action::Block(match self.plan.options.block_answer {
                        Answer::Drop => ast::Block::Drop,
                        _ => ast::Block::Return,
                    });
                }
                let filter = self.filter_of(rule, &single, *kind, path)?;
                settle_state(&mut printed, &filter);
                let labels = labels(&rule.options.labels, &printed.criteria, lists.filter.len());
                let number = u32::try_from(lists.filter.len()).unwrap_or(u32::MAX);
                let info = RuleInfo::new(Printed(&printed).to_string(), number, path.into(), labels);
                lists.filter.push(Rule {
                    matcher: single.matcher.clone(),
                    info: Arc::new(info),
                    what: What::Filter(Box::new(filter)),
                });
            }
        }
        Ok(())
    }

    fn filter_of(
        &mut self,
        rule: &ast::FilterRule,
        single: &Single,
        icmp: Option<ast::IcmpType>,
        path: &str,
    ) -> Result<Filter, Refused> {
        let options = &rule.options;
        let family = single.matcher.family;
        let action = match &rule.action {
            ast::Action::Pass => Action::Pass,
            ast::Action::Match => Action::Match,
            ast::Action::Block(how) => Action::Block(match how {
                ast::Block::Default => None,
                ast::Block::Drop => Some(Answer::Drop),
                ast::Block::Return => Some(Answer::Return),
                ast::Block::ReturnRst { .. } => Some(Answer::Reset),
                ast::Block::ReturnIcmp { .. } | ast::Block::ReturnIcmp6 { .. } => Some(Answer::Unreachable),
            }),
        };
        let state = self.state_of(options.state.as_ref(), action, path)?;
        let flags = match options.flags {
            Some(ast::TcpFlags::Any) => None,
            Some(ast::TcpFlags::Set { set, of }) => Some((low_byte(set), low_byte(of))),
            // pfctl writes `flags S/SA` into every stateful pass rule that can see TCP.
            None if action == Action::Pass
                && state.kind != StateKind::None
                && single.matcher.protocol.is_none_or(|p| p == protocol::TCP)
                && !options.fragment =>
            {
                Some((0x02, 0x12))
            }
            None => None,
        };
        Ok(Filter {
            action,
            quick: rule.quick,
            log: rule.log.as_ref().map(log_of),
            flags,
            icmp: icmp.map(|i| (i.kind, i.code)),
            tos: options.tos,
            allow_options: options.allow_opts,
            fragment: options.fragment,
            max_size: options.max_pkt_size,
            tag: options.tag.as_ref().map(|t| t.as_str().into()),
            tagged: options.tagged.as_ref().map(tagged_of),
            received_on: options.received_on.as_ref().map(on_of),
            probability: options.probability,
            rtable: options.rtable,
            route: rule.route.as_ref().map(|r| self.route_of(r, family, path)).transpose()?,
            source: options.nat_to.as_ref().map(|t| self.target_of(t, None, family, path)).transpose()?,
            destination: options
                .rdr_to
                .as_ref()
                .map(|t| self.target_of(t, single.matcher.to.port, family, path))
                .transpose()?,
            change: options
                .af_to
                .as_ref()
                .map(|change| {
                    let family = Some(family_of(change.family));
                    Ok(FamilyChange {
                        family: family_of(change.family),
                        from: self.pool_of(&change.from, family, path)?,
                        to: change.to.as_ref().map(|to| self.pool_of(to, family, path)).transpose()?,
                    })
                })
                .transpose()?,
            state,
        })
    }

    fn state_of(
        &mut self,
        state: Option<&ast::State>,
        action: Action,
        path: &str,
    ) -> Result<KeepState, Refused> {
        let kind = match (state, action) {
            (Some(state), _) => state.kind,
            (None, Action::Pass) => StateKind::Keep,
            (None, _) => StateKind::None,
        };
        let options = match state {
            Some(state) if !state.options.is_empty() => state.options.clone(),
            _ => self.defaults.clone(),
        };
        let mut keep = KeepState {
            kind,
            bound: None,
            sloppy: false,
            max: None,
            timeouts: Arc::new(Timeouts::NONE),
            source: None,
        };
        let mut timeouts = Timeouts::NONE;
        let mut limits = SourceLimits::default();
        for option in &options {
            match option {
                StateOption::Max(max) => keep.max = Some(*max),
                StateOption::IfBound => keep.bound = Some(true),
                StateOption::Floating => keep.bound = Some(false),
                StateOption::Sloppy => keep.sloppy = true,
                StateOption::Timeout(which, seconds) => timeouts.set(*which, *seconds),
                StateOption::MaxSrcStates(max) => limits.max_states = Some(*max),
                StateOption::MaxSrcConn(max) => limits.max_connections = Some(*max),
                StateOption::MaxSrcConnRate(count, seconds) => limits.rate = Some((*count, *seconds)),
                StateOption::Overload { table, flush } => {
                    limits.overload = Some(self.table_ref(path, table));
                    limits.flush = *flush;
                }
                StateOption::NoSync
                | StateOption::Pflow
                | StateOption::AllowRelated
                | StateOption::SourceTrack(_)
                | StateOption::MaxSrcNodes(_) => {}
            }
        }
        if timeouts != Timeouts::NONE {
            keep.timeouts = Arc::new(timeouts);
        }
        keep.source = (limits != SourceLimits::default()).then_some(limits);
        Ok(keep)
    }

    fn route_of(&mut self, route: &ast::Route, family: Option<Family>, path: &str) -> Result<Route, Refused> {
        let mut hops = Vec::new();
        for hop in &route.hops {
            let interface: Arc<str> = self.interfaces.name(hop.interface.as_str());
            match &hop.address {
                None => hops.push((interface, None)),
                Some(host) => {
                    for host in self.pool_hosts(std::slice::from_ref(host), family, path)? {
                        hops.push((interface.clone(), Some(host)));
                    }
                }
            }
        }
        Ok(Route {
            kind: match route.kind {
                ast::RouteKind::RouteTo => RouteKind::RouteTo,
                ast::RouteKind::ReplyTo => RouteKind::ReplyTo,
                ast::RouteKind::DupTo => RouteKind::DupTo,
            },
            hops,
            pool: pool(Vec::new(), &route.pool, false),
        })
    }

    // --- translation

    fn pool_hosts(
        &mut self,
        hosts: &[Host],
        family: Option<Family>,
        path: &str,
    ) -> Result<Vec<PoolHost>, Refused> {
        let fits = |net: &IpNet| family.is_none_or(|f| f == Family::of(net.addr()));
        let mut out = Vec::new();
        for host in hosts {
            match host {
                Host::Table(name) => out.push(PoolHost::Table(self.table_ref(path, name))),
                Host::Range(a, b) => out.push(PoolHost::Range(*a, *b)),
                Host::Interface(interface) if interface.dynamic => {
                    out.push(PoolHost::Dynamic(interface.clone()));
                }
                other => out.extend(self.nets(other)?.into_iter().filter(|n| fits(n)).map(PoolHost::Net)),
            }
        }
        if out.is_empty() {
            return self.refuse("no translation address with matching address family found");
        }
        Ok(out)
    }

    fn pool_of(
        &mut self,
        target: &ast::Translation,
        family: Option<Family>,
        path: &str,
    ) -> Result<Pool, Refused> {
        let hosts = self.pool_hosts(&target.hosts, family, path)?;
        Ok(pool(hosts, &target.pool, target.pool.sticky_address))
    }

    /// `matched` is the port that the rule asks of the destination, for ranges that follow it.
    fn target_of(
        &mut self,
        target: &ast::Translation,
        matched: Option<ast::Port>,
        family: Option<Family>,
        path: &str,
    ) -> Result<Target, Refused> {
        let pool = self.pool_of(target, family, path)?;
        let ports = match target.port {
            None if target.pool.static_port => Ports::Keep,
            None => Ports::Default,
            Some(ast::TargetPort::One(port)) => Ports::One(port),
            Some(ast::TargetPort::Range(a, b)) => Ports::Range(a, b),
            Some(ast::TargetPort::From(a)) => match matched {
                Some(ast::Port::Range(low, high)) => Ports::Range(a, a.saturating_add(high - low)),
                _ => Ports::One(a),
            },
        };
        Ok(Target { pool, ports })
    }

    fn nat(&mut self, rule: &ast::NatRule, path: &str, lists: &mut Lists) -> Result<(), Refused> {
        let mut criteria = rule.criteria.clone();
        if criteria.family.is_none() {
            // A target of one family settles the rule's.
            let families: Vec<_> = rule
                .target
                .iter()
                .flat_map(|t| &t.hosts)
                .filter_map(|host| match host {
                    Host::Net(net) | Host::Scoped(net, _) => Some(Family::of(net.addr())),
                    Host::Range(a, _) => Some(Family::of(*a)),
                    _ => None,
                })
                .collect();
            if let Some(first) = families.first()
                && families.iter().all(|f| f == first)
            {
                criteria.family = Some(match first {
                    Family::Inet => ast::Family::Inet,
                    Family::Inet6 => ast::Family::Inet6,
                });
            }
        }
        for single in self.singles(&criteria, path)? {
            let family = single.matcher.family;
            let target = match &rule.target {
                Some(target) if !rule.no => {
                    Some(self.target_of(target, single.matcher.to.port, family, path)?)
                }
                _ => None,
            };
            let outer = match (rule.kind, target.as_ref().and_then(|t| t.pool.hosts.first())) {
                (ast::NatKind::Binat, Some(PoolHost::Net(net))) => {
                    if let Hosts::Net(inner) = &single.matcher.from.hosts
                        && inner.prefix_len() != net.prefix_len()
                    {
                        return self.refuse("binat source mask and redirect mask must be the same");
                    }
                    Some(*net)
                }
                _ => None,
            };
            let mut printed = rule.clone();
            printed.criteria = single.criteria.clone();
            let list = match rule.kind {
                ast::NatKind::Nat => &mut lists.nat,
                ast::NatKind::Rdr => &mut lists.rdr,
                ast::NatKind::Binat => &mut lists.binat,
            };
            let number = u32::try_from(list.len()).unwrap_or(u32::MAX);
            let mut matcher = single.matcher.clone();
            if rule.kind == ast::NatKind::Binat {
                // Also for packets coming in, where the addresses stand otherwise.
                matcher.direction = None;
            }
            list.push(Rule {
                matcher,
                info: Arc::new(RuleInfo::new(Printed(&printed).to_string(), number, path.into(), Vec::new())),
                what: What::Translate(Box::new(Translate {
                    kind: rule.kind,
                    target,
                    pass: rule.pass,
                    log: rule.log.as_ref().map(log_of),
                    tag: rule.tag.as_ref().map(|t| t.as_str().into()),
                    tagged: rule.tagged.as_ref().map(tagged_of),
                    rtable: rule.rtable,
                    outer,
                })),
            });
        }
        Ok(())
    }

    // --- anchors and antispoof

    fn anchor(&mut self, rule: &ast::AnchorRule, path: &str, lists: &mut Lists) -> Result<(), Refused> {
        let written = match &rule.name {
            Some(name) => name.as_str().to_owned(),
            None => {
                lists.unnamed += 1;
                format!("_{}", lists.unnamed)
            }
        };
        let (written, children) = match written.strip_suffix("/*") {
            Some(parent) => (parent.to_owned(), true),
            None if written == "*" => (String::new(), true),
            None => (written, false),
        };
        let full = match written.strip_prefix('/') {
            Some(absolute) => absolute.to_owned(),
            None if path.is_empty() => written,
            None if written.is_empty() => path.to_owned(),
            None => format!("{path}/{written}"),
        };
        for single in self.singles(&rule.criteria, path)? {
            let mut printed = rule.clone();
            printed.criteria = single.criteria.clone();
            printed.body = None;
            let list = match rule.kind {
                ast::AnchorKind::Filter => &mut lists.filter,
                ast::AnchorKind::Nat => &mut lists.nat,
                ast::AnchorKind::Rdr => &mut lists.rdr,
                ast::AnchorKind::Binat => &mut lists.binat,
            };
            let number = u32::try_from(list.len()).unwrap_or(u32::MAX);
            let text = Printed(&printed).to_string();
            let labels = labels(&rule.options.labels, &printed.criteria, list.len());
            list.push(Rule {
                matcher: single.matcher.clone(),
                info: Arc::new(RuleInfo::new(text, number, path.into(), labels)),
                what: What::Anchor(Box::new(Call {
                    path: full.as_str().into(),
                    children,
                    quick: rule.quick,
                    tagged: rule.options.tagged.as_ref().map(tagged_of),
                    flags: match rule.options.flags {
                        Some(ast::TcpFlags::Set { set, of }) => Some((low_byte(set), low_byte(of))),
                        _ => None,
                    },
                    probability: rule.options.probability,
                })),
            });
        }
        match &rule.body {
            Some(body) => self.ruleset(body, &full),
            None => Ok(()),
        }
    }

    /// The block rules that `antispoof` stands for (pf.conf(5)).
    fn antispoof(&self, antispoof: &ast::Antispoof) -> Result<Vec<ast::FilterRule>, Refused> {
        let mut rules = Vec::new();
        for interface in &antispoof.interfaces {
            let host = |network: bool| ast::InterfaceHost {
                dynamic: interface.dynamic,
                network,
                ..ast::InterfaceHost::named(&interface.name)
            };
            let rule = |on: Option<bool>, from: Host| {
                let mut rule = ast::FilterRule::new(ast::Action::Block(ast::Block::Drop));
                rule.log = antispoof.log.clone();
                rule.quick = antispoof.quick;
                rule.criteria = ast::Criteria {
                    direction: Some(ast::Direction::In),
                    on: on
                        .map(|negate| ast::InterfaceMatch { negate, name: interface.name.clone() })
                        .into_iter()
                        .collect(),
                    family: antispoof.family,
                    protocols: Vec::new(),
                    between: ast::FromTo::Between {
                        from: ast::Endpoint { hosts: vec![from.into()], ports: Vec::new() },
                        to: ast::Endpoint::default(),
                    },
                };
                rule.options.labels = antispoof.labels.clone();
                rule.options.ridentifier = antispoof.ridentifier;
                rule.options.rtable = antispoof.rtable;
                rule
            };
            let loopback = self
                .interfaces
                .get(interface.name.as_str())
                .map_or_else(|| interface.name.as_str().starts_with("lo"), |i| i.is_loopback());
            if interface.dynamic {
                rules.push(rule(Some(true), Host::Interface(host(true))));
                if !loopback {
                    rules.push(rule(None, Host::Interface(host(false))));
                }
                continue;
            }
            let fits = |net: &IpNet| antispoof.family.is_none_or(|f| family_of(f) == Family::of(net.addr()));
            for net in self.interfaces.resolve(&host(true)).iter().filter(|n| fits(n)) {
                if !loopback || net.prefix_len() < net.max_prefix_len() {
                    rules.push(rule(Some(true), Host::Net(*net)));
                }
            }
            if !loopback {
                for net in self.interfaces.resolve(&host(false)).iter().filter(|n| fits(n)) {
                    let link_local = matches!(net, IpNet::V6(v6) if v6.addr().is_unicast_link_local());
                    rules.push(rule(link_local.then_some(false), Host::Net(*net)));
                }
            }
        }
        Ok(rules)
    }
}

// --- small translations

fn options_of<T>(list: &[T]) -> Vec<Option<&T>> {
    if list.is_empty() { vec![None] } else { list.iter().map(Some).collect() }
}

fn low_byte(flags: u16) -> u8 {
    u8::try_from(flags & 0xff).unwrap_or(0)
}

fn family_of(family: ast::Family) -> Family {
    match family {
        ast::Family::Inet => Family::Inet,
        ast::Family::Inet6 => Family::Inet6,
    }
}

fn direction_of(direction: ast::Direction) -> Direction {
    match direction {
        ast::Direction::In => Direction::In,
        ast::Direction::Out => Direction::Out,
    }
}

fn on_of(on: &ast::InterfaceMatch) -> On {
    On { negate: on.negate, name: on.name.as_str().into() }
}

fn tagged_of(tagged: &ast::Tagged) -> Tagged {
    Tagged { negate: tagged.negate, name: tagged.name.as_str().into() }
}

fn log_of(log: &ast::Log) -> Log {
    Log { all: log.all, matches: log.matches }
}

fn family_of_hosts(hosts: &Hosts) -> Option<Family> {
    match hosts {
        Hosts::Net(net) => Some(Family::of(net.addr())),
        Hosts::Range(a, _) => Some(Family::of(*a)),
        _ => None,
    }
}

fn family_of_protocol(number: Option<u8>) -> Option<Family> {
    match number {
        Some(protocol::ICMP) => Some(Family::Inet),
        Some(protocol::ICMP6) => Some(Family::Inet6),
        _ => None,
    }
}

/// The family all agree on; `None` when two differ.
fn one_family<const N: usize>(families: [Option<Family>; N]) -> Option<Option<Family>> {
    let mut found = None;
    for family in families.into_iter().flatten() {
        if found.is_some_and(|f| f != family) {
            return None;
        }
        found = Some(family);
    }
    Some(found)
}

fn between(
    from: (&ast::HostItem, Option<&ast::Port>),
    to: (&ast::HostItem, Option<&ast::Port>),
) -> ast::FromTo {
    let endpoint = |(item, port): (&ast::HostItem, Option<&ast::Port>)| ast::Endpoint {
        hosts: if item.host == Host::Any && !item.negate { Vec::new() } else { vec![item.clone()] },
        ports: port.into_iter().copied().collect(),
    };
    let (from, to) = (endpoint(from), endpoint(to));
    if from.is_any() && to.is_any() { ast::FromTo::All } else { ast::FromTo::Between { from, to } }
}

fn pool(hosts: Vec<PoolHost>, options: &ast::PoolOptions, sticky: bool) -> Pool {
    Pool {
        hosts,
        kind: options.kind.unwrap_or(ast::PoolKind::RoundRobin),
        sticky: sticky || options.sticky_address,
        turn: AtomicUsize::new(0),
        stuck: Default::default(),
    }
}

/// What pfctl adds to a rule that says nothing of state, so that it is printed.
fn settle_state(printed: &mut ast::FilterRule, filter: &Filter) {
    if filter.action == Action::Pass {
        if printed.options.state.is_none() {
            printed.options.state = Some(ast::State { kind: StateKind::Keep, options: Vec::new() });
        }
        if printed.options.flags.is_none()
            && let Some((set, of)) = filter.flags
        {
            printed.options.flags = Some(ast::TcpFlags::Set { set: set.into(), of: of.into() });
        }
    }
}

/// Labels with pfctl's macros filled in: `$if`, `$srcaddr`, `$dstaddr`, `$srcport`, `$dstport`, `$proto`, `$nr`.
fn labels(texts: &[ast::Text], criteria: &ast::Criteria, number: usize) -> Vec<Arc<str>> {
    texts
        .iter()
        .map(|text| {
            let text = text.as_str();
            if !text.contains('$') {
                return Arc::from(text);
            }
            let list = |shown: Vec<String>| if shown.is_empty() { "any".to_owned() } else { shown.join(" ") };
            let hosts = |e: &ast::Endpoint| list(e.hosts.iter().map(ToString::to_string).collect());
            let ports = |e: &ast::Endpoint| list(e.ports.iter().map(ToString::to_string).collect());
            let (from, to) = (criteria.between.from(), criteria.between.to());
            let filled = text
                .replace("$if", &list(criteria.on.iter().map(ToString::to_string).collect()))
                .replace("$srcaddr", &hosts(from))
                .replace("$dstaddr", &hosts(to))
                .replace("$srcport", &ports(from))
                .replace("$dstport", &ports(to))
                .replace("$proto", &list(criteria.protocols.iter().map(ToString::to_string).collect()))
                .replace("$nr", &number.to_string());
            Arc::from(filled)
        })
        .collect()
}

/// `set optimization` (pf.conf(5)).
fn optimize(timeouts: &mut Timeouts, how: ast::Optimization) {
    use ast::Timeout as T;
    let values: &[(T, u32)] = match how {
        ast::Optimization::Normal | ast::Optimization::Default => &[],
        ast::Optimization::Satellite | ast::Optimization::HighLatency => &[
            (T::TcpFirst, 180),
            (T::TcpOpening, 35),
            (T::TcpEstablished, 86400),
            (T::TcpClosing, 905),
            (T::TcpFinwait, 50),
            (T::TcpClosed, 95),
            (T::TcpTsdiff, 60),
        ],
        ast::Optimization::Conservative => &[
            (T::TcpFirst, 3600),
            (T::TcpOpening, 900),
            (T::TcpEstablished, 432_000),
            (T::TcpClosing, 3600),
            (T::TcpFinwait, 600),
            (T::TcpClosed, 180),
            (T::TcpTsdiff, 60),
        ],
        ast::Optimization::Aggressive => &[
            (T::TcpFirst, 30),
            (T::TcpOpening, 5),
            (T::TcpEstablished, 18000),
            (T::TcpClosing, 60),
            (T::TcpFinwait, 30),
            (T::TcpClosed, 30),
            (T::TcpTsdiff, 10),
        ],
    };
    for (which, seconds) in values {
        timeouts.set(*which, *seconds);
    }
}
