//! From the language to rules that can be evaluated: [`crate::pf::expand`] takes lists apart as pfctl does, this
//! file turns the single rules into what [`super::evaluate`] reads, and reads the files that tables name. Changes
//! nothing itself: [`super::engine`] puts the result in force as a whole.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use ipnet::IpNet;

use super::interfaces::Interfaces;
use super::rules::*;
use super::state::Timeouts;
use super::table::{self, Entry};
use crate::pf::ast::{self, Host, Item, LimitName, SetOption, StateKind, StateOption, TableContents};
use crate::pf::expand::{ExpandError, expand};
use crate::pf::packet::{Direction, Family};
use crate::pf::print::Loaded as Printed;

/// Why a ruleset cannot be loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// 1 = first, 0 = the ruleset as a whole.
    pub line: u32,
    pub message: String,
}

impl From<ExpandError> for Refused {
    fn from(error: ExpandError) -> Self {
        Self { line: error.line, message: error.to_string() }
    }
}

/// Options of the main ruleset (pf.conf(5), OPTIONS).
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    pub skip: Vec<String>,
    pub states: u32,
    pub table_entries: u32,
    pub src_nodes: u32,
    pub frags: u32,
    pub reassemble: bool,
    /// `set timeout`, over the defaults.
    pub timeouts: Timeouts,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            skip: Vec::new(),
            states: 100_000,
            table_entries: 200_000,
            src_nodes: 10_000,
            frags: 5_000,
            reassemble: false,
            timeouts: Timeouts::defaults(100_000),
        }
    }
}

impl Options {
    /// One `set` line.
    pub fn set(&mut self, option: &SetOption) {
        match option {
            SetOption::Skip(names) => self.skip.extend(names.iter().map(|n| n.as_str().to_owned())),
            SetOption::Limit(LimitName::States, limit) => {
                // The adaptive limits follow, unless they were set by themselves.
                let old = Timeouts::defaults(self.states);
                let new = Timeouts::defaults(*limit);
                self.states = *limit;
                for which in [ast::Timeout::AdaptiveStart, ast::Timeout::AdaptiveEnd] {
                    if self.timeouts.get(which) == old.get(which) {
                        self.timeouts.set(which, new.get(which).unwrap_or(0));
                    }
                }
            }
            SetOption::Limit(LimitName::TableEntries, limit) => self.table_entries = *limit,
            SetOption::Limit(LimitName::SrcNodes, limit) => self.src_nodes = *limit,
            SetOption::Limit(LimitName::Frags, limit) => self.frags = *limit,
            SetOption::Reassemble { on, .. } => self.reassemble = *on,
            SetOption::Timeout(which, seconds) => self.timeouts.set(*which, *seconds),
            SetOption::Optimization(how) => optimize(&mut self.timeouts, *how),
            // These have their effect in expansion.
            SetOption::BlockPolicy(_) | SetOption::StatePolicy(_) | SetOption::StateDefaults(_) => {}
            SetOption::Limit(..)
            | SetOption::RulesetOptimization(_)
            | SetOption::Debug(_)
            | SetOption::LogInterface(_)
            | SetOption::HostId(_)
            | SetOption::Fingerprints(_)
            | SetOption::FailPolicy(_)
            | SetOption::KeepCounters => {}
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
    let expanded = expand(ruleset, interfaces)?;
    let mut loader = Loader { interfaces, tables, files, plan: Plan::default(), line: 0 };
    loader.ruleset(&expanded, anchor)?;
    Ok(loader.plan)
}

struct Loader<'a> {
    interfaces: &'a Interfaces,
    tables: &'a mut TableNames,
    files: Files<'a>,
    plan: Plan,
    line: u32,
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

impl Loader<'_> {
    fn refuse<T>(&self, message: impl Into<String>) -> Result<T, Refused> {
        Err(Refused { line: self.line, message: format!("line {}: {}", self.line, message.into()) })
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
            // Expanded into filter rules.
            Item::Antispoof(_) => Ok(()),
            Item::Filter(rule) => self.filter(rule, path, lists),
        }
    }

    fn option(&mut self, option: &SetOption) -> Result<(), Refused> {
        self.plan.options.set(option);
        Ok(())
    }

    fn table(&mut self, definition: &ast::TableDefinition, path: &str) -> Result<(), Refused> {
        let mut entries: Option<Vec<Entry>> = None;
        for contents in &definition.contents {
            let list = entries.get_or_insert_default();
            match contents {
                TableContents::Entries(items) => {
                    for item in items {
                        match &item.host {
                            Host::Net(net) | Host::Scoped(net, _) => {
                                list.push(Entry { net: net.trunc(), negated: item.negate });
                            }
                            other => return self.refuse(format!("{other} cannot be in a table")),
                        }
                    }
                }
                TableContents::File(name) => {
                    let fail = |why: String| Refused {
                        line: self.line,
                        message: format!(
                            "line {}: table <{}>: {}: {why}",
                            self.line,
                            definition.name.as_str(),
                            name.as_str()
                        ),
                    };
                    let text = (self.files)(name.as_str()).map_err(|e| fail(e.to_string()))?;
                    let read = table::entries_of_file(&text).map_err(|e| fail(e.to_string()))?;
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

    fn table_ref(&mut self, path: &str, name: &ast::Table) -> TableRef {
        let root = self.tables.number("", name.as_str());
        let own = if path.is_empty() { root } else { self.tables.number(path, name.as_str()) };
        let found = TableRef { own, root };
        self.plan.named.push(found);
        found
    }

    // --- criteria

    fn hosts(&mut self, host: &Host, path: &str) -> Hosts {
        match host {
            Host::Any => Hosts::Any,
            Host::Net(net) | Host::Scoped(net, _) => Hosts::Net(net.trunc()),
            Host::Range(a, b) => Hosts::Range(*a, *b),
            Host::Table(name) => Hosts::Table(self.table_ref(path, name)),
            Host::NoRoute => Hosts::NoRoute,
            Host::UrpfFailed => Hosts::UrpfFailed,
            Host::Interface(interface) => Hosts::Dynamic(interface.clone()),
        }
    }

    fn side(&mut self, endpoint: &ast::Endpoint, path: &str) -> Side {
        let mut side = Side { port: endpoint.ports.first().copied(), ..Side::ANY };
        if let Some(item) = endpoint.hosts.first() {
            side.negate = item.negate;
            side.hosts = self.hosts(&item.host, path);
        }
        side
    }

    /// Criteria of an expanded rule: every list has at most one item.
    fn matcher(&mut self, criteria: &ast::Criteria, path: &str) -> Matcher {
        Matcher {
            direction: criteria.direction.map(direction_of),
            on: criteria.on.first().map(on_of),
            family: criteria.family.map(family_of),
            protocol: criteria.protocols.first().map(|p| p.0),
            from: self.side(criteria.between.from(), path),
            to: self.side(criteria.between.to(), path),
        }
    }

    // --- filter rules

    fn filter(&mut self, rule: &ast::FilterRule, path: &str, lists: &mut Lists) -> Result<(), Refused> {
        let matcher = self.matcher(&rule.criteria, path);
        let filter = self.filter_of(rule, &matcher, path)?;
        let info = info(Printed(rule).to_string(), &lists.filter, path, &rule.options.labels);
        lists.filter.push(Rule { matcher, info, what: What::Filter(Box::new(filter)) });
        Ok(())
    }

    fn filter_of(
        &mut self,
        rule: &ast::FilterRule,
        matcher: &Matcher,
        path: &str,
    ) -> Result<Filter, Refused> {
        let options = &rule.options;
        let family = matcher.family;
        // A packet that changes its family is routed as what it has become.
        let hop_family = options.af_to.as_ref().map_or(family, |change| Some(family_of(change.family)));
        let action = match &rule.action {
            ast::Action::Pass => Action::Pass,
            ast::Action::Match => Action::Match,
            ast::Action::Block(how) => Action::Block(match how {
                ast::Block::Default | ast::Block::Drop => Answer::Drop,
                ast::Block::Return => Answer::Return,
                ast::Block::ReturnRst { .. } => Answer::Reset,
                ast::Block::ReturnIcmp { .. } | ast::Block::ReturnIcmp6 { .. } => Answer::Unreachable,
            }),
        };
        let state = self.state_of(options.state.as_ref(), path);
        let flags = match options.flags {
            Some(ast::TcpFlags::Set { set, of }) => Some((low_byte(set), low_byte(of))),
            Some(ast::TcpFlags::Any) | None => None,
        };
        let icmp = options.icmp.as_ref().and_then(|icmp| icmp.types.first());
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
            route: rule.route.as_ref().map(|r| self.route_of(r, hop_family, path)).transpose()?,
            source: options.nat_to.as_ref().map(|t| self.target_of(t, None, family, path)).transpose()?,
            destination: options
                .rdr_to
                .as_ref()
                .map(|t| self.target_of(t, matcher.to.port, family, path))
                .transpose()?,
            change: options
                .af_to
                .as_ref()
                .map(|change| {
                    let family = Some(family_of(change.family));
                    Ok::<_, Refused>(FamilyChange {
                        family: family_of(change.family),
                        from: self.pool_of(&change.from, family, path)?,
                        to: change.to.as_ref().map(|to| self.pool_of(to, family, path)).transpose()?,
                    })
                })
                .transpose()?,
            state,
        })
    }

    fn state_of(&mut self, state: Option<&ast::State>, path: &str) -> KeepState {
        let mut keep = KeepState {
            kind: state.map_or(StateKind::None, |state| state.kind),
            bound: false,
            sloppy: false,
            max: None,
            timeouts: Arc::new(Timeouts::NONE),
            source: None,
        };
        let mut timeouts = Timeouts::NONE;
        let mut limits = SourceLimits::default();
        for option in state.map(|state| state.options.as_slice()).unwrap_or_default() {
            match option {
                StateOption::Max(max) => keep.max = Some(*max),
                StateOption::IfBound => keep.bound = true,
                StateOption::Floating => keep.bound = false,
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
        keep
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
                Host::Interface(interface) => out.push(PoolHost::Dynamic(interface.clone())),
                Host::Net(net) | Host::Scoped(net, _) if fits(net) => out.push(PoolHost::Net(*net)),
                _ => {}
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
        let mut matcher = self.matcher(&rule.criteria, path);
        let target = match &rule.target {
            Some(target) if !rule.no => {
                Some(self.target_of(target, matcher.to.port, matcher.family, path)?)
            }
            _ => None,
        };
        let outer = match (rule.kind, target.as_ref().and_then(|t| t.pool.hosts.first())) {
            (ast::NatKind::Binat, Some(PoolHost::Net(net))) => Some(*net),
            _ => None,
        };
        // binat also looks at packets coming in, where the addresses stand otherwise.
        matcher.direction = None;
        let list = match rule.kind {
            ast::NatKind::Nat => &mut lists.nat,
            ast::NatKind::Rdr => &mut lists.rdr,
            ast::NatKind::Binat => &mut lists.binat,
        };
        let info = info(Printed(rule).to_string(), list, path, &[]);
        let translate = Translate {
            kind: rule.kind,
            target,
            pass: rule.pass,
            log: rule.log.as_ref().map(log_of),
            tag: rule.tag.as_ref().map(|t| t.as_str().into()),
            tagged: rule.tagged.as_ref().map(tagged_of),
            rtable: rule.rtable,
            outer,
        };
        list.push(Rule { matcher, info, what: What::Translate(Box::new(translate)) });
        Ok(())
    }

    // --- anchors

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
        let matcher = self.matcher(&rule.criteria, path);
        let list = match rule.kind {
            ast::AnchorKind::Filter => &mut lists.filter,
            ast::AnchorKind::Nat => &mut lists.nat,
            ast::AnchorKind::Rdr => &mut lists.rdr,
            ast::AnchorKind::Binat => &mut lists.binat,
        };
        let printed = ast::AnchorRule { body: None, ..rule.clone() };
        let info = info(Printed(&printed).to_string(), list, path, &rule.options.labels);
        let call = Call {
            path: full.as_str().into(),
            children,
            quick: rule.quick,
            tagged: rule.options.tagged.as_ref().map(tagged_of),
            flags: match rule.options.flags {
                Some(ast::TcpFlags::Set { set, of }) => Some((low_byte(set), low_byte(of))),
                _ => None,
            },
            probability: rule.options.probability,
        };
        list.push(Rule { matcher, info, what: What::Anchor(Box::new(call)) });
        match &rule.body {
            Some(body) => self.ruleset(body, &full),
            None => Ok(()),
        }
    }
}

// --- small translations

/// What is told of a rule that comes next in its list.
fn info(text: String, list: &[Rule], path: &str, labels: &[ast::Text]) -> Arc<RuleInfo> {
    let number = u32::try_from(list.len()).unwrap_or(u32::MAX);
    let labels = labels.iter().map(|label| Arc::from(label.as_str())).collect();
    Arc::new(RuleInfo::new(text, number, path.into(), labels))
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

fn pool(hosts: Vec<PoolHost>, options: &ast::PoolOptions, sticky: bool) -> Pool {
    Pool {
        hosts,
        kind: options.kind.unwrap_or(ast::PoolKind::RoundRobin),
        sticky: sticky || options.sticky_address,
        turn: AtomicUsize::new(0),
        stuck: Default::default(),
    }
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
