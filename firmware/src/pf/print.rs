//! Prints the language: `Display` gives text for pf.conf(5); [`Loaded`] gives a rule as `pfctl -sr` shows it
//! (of a ruleset that went through [`super::expand`]). Everything an administrator can choose is either a type
//! that holds no special characters or stands between double quotes.

use std::fmt::{self, Display, Formatter, Write};

use ipnet::IpNet;

use super::ast::*;
use super::lex::keyword;
use super::names;
use crate::config::InterfaceName;

/// Prints a value in the words of `pfctl -sr`, `-sn` and `-vn`: services and ICMP types by name, `port = http`.
pub struct Loaded<'a, T>(pub &'a T);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    /// Text to be loaded.
    Config,
    /// What pf prints.
    Loaded,
}

/// A value that can be printed both ways.
trait Print {
    fn print(&self, f: &mut Formatter<'_>, style: Style) -> fmt::Result;
}

macro_rules! printable {
    ($($name:ty),* $(,)?) => { $(
        impl Display for $name {
            fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
                self.print(f, Style::Config)
            }
        }
        impl Display for Loaded<'_, $name> {
            fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
                self.0.print(f, Style::Loaded)
            }
        }
    )* };
}
printable!(Ruleset, Item, FilterRule, NatRule, AnchorRule, ScrubRule, Antispoof, TableDefinition, SetOption);

impl Display for Text {
    /// With its quotes.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_str())
    }
}
impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", Word(self.as_str()))
    }
}

/// A name that pf.conf reads as one word: between quotes if it is reserved, a number, or begins with a sign.
struct Word<'a>(&'a str);

impl Display for Word<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let plain = self.0.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && !self.0.bytes().all(|byte| byte.is_ascii_digit())
            && keyword(self.0).is_none();
        if plain { f.write_str(self.0) } else { write!(f, "\"{}\"", self.0) }
    }
}

impl Print for Ruleset {
    fn print(&self, f: &mut Formatter<'_>, style: Style) -> fmt::Result {
        print_indented(self, f, style, 0)
    }
}

fn print_indented(ruleset: &Ruleset, f: &mut Formatter<'_>, style: Style, depth: usize) -> fmt::Result {
    for statement in &ruleset.statements {
        let silent = matches!(
            statement.item,
            Item::Set(
                SetOption::KeepCounters | SetOption::StateDefaults(_) | SetOption::RulesetOptimization(_)
            )
        );
        if silent && style == Style::Loaded {
            continue;
        }
        write!(f, "{:width$}", "", width = depth * 2)?;
        match &statement.item {
            Item::Anchor(anchor) => print_anchor(anchor, f, style, depth)?,
            item => item.print(f, style)?,
        }
        f.write_char('\n')?;
    }
    Ok(())
}

impl Print for Item {
    fn print(&self, f: &mut Formatter<'_>, style: Style) -> fmt::Result {
        match self {
            Self::Macro { name, value } => write!(f, "{name} = \"{value}\""),
            Self::Set(option) => option.print(f, style),
            Self::Table(table) => table.print(f, style),
            Self::Scrub(scrub) => scrub.print(f, style),
            Self::Nat(nat) => nat.print(f, style),
            Self::Anchor(anchor) => anchor.print(f, style),
            Self::LoadAnchor { name, file } => write!(f, "load anchor {name} from {file}"),
            Self::Antispoof(antispoof) => antispoof.print(f, style),
            Self::Filter(rule) => rule.print(f, style),
        }
    }
}

/// `one`, or `{ one, two }`.
fn list<T>(
    f: &mut Formatter<'_>,
    items: &[T],
    mut print: impl FnMut(&mut Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    if let [one] = items {
        return print(f, one);
    }
    f.write_str("{ ")?;
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        print(f, item)?;
    }
    f.write_str(" }")
}

// --- options and tables

impl Print for SetOption {
    fn print(&self, f: &mut Formatter<'_>, style: Style) -> fmt::Result {
        f.write_str("set ")?;
        match self {
            Self::Skip(interfaces) if interfaces.is_empty() => f.write_str("skip on none"),
            Self::Skip(interfaces) if style == Style::Loaded => {
                f.write_str("skip on {")?;
                interfaces.iter().try_for_each(|name| write!(f, " {}", Word(name.as_str())))?;
                f.write_str(" }")
            }
            Self::Skip(interfaces) => {
                f.write_str("skip on ")?;
                list(f, interfaces, |f, name| Word(name.as_str()).fmt(f))
            }
            Self::BlockPolicy(policy) => write!(f, "block-policy {policy}"),
            Self::FailPolicy(policy) => write!(f, "fail-policy {policy}"),
            Self::StatePolicy(policy) => write!(f, "state-policy {policy}"),
            Self::Limit(limit, number) => write!(f, "limit {limit} {number}"),
            Self::Reassemble { on, no_df } => {
                write!(f, "reassemble {}", if *on { "yes" } else { "no" })?;
                // pfctl leaves the blank in front of the word that it does not print.
                match (no_df, style) {
                    (true, _) => f.write_str(" no-df"),
                    (false, Style::Loaded) => f.write_str(" "),
                    (false, Style::Config) => Ok(()),
                }
            }
            Self::Optimization(optimization) => write!(f, "optimization {optimization}"),
            Self::RulesetOptimization(optimization) => write!(f, "ruleset-optimization {optimization}"),
            Self::Timeout(timeout, number) => write!(f, "timeout {timeout} {number}"),
            Self::Debug(level) => write!(f, "debug {level}"),
            Self::LogInterface(Some(name)) => write!(f, "loginterface {}", Word(name.as_str())),
            Self::LogInterface(None) => f.write_str("loginterface none"),
            Self::HostId(id) if style == Style::Loaded => write!(f, "hostid 0x{id:08x}"),
            Self::HostId(id) => write!(f, "hostid {id}"),
            Self::Fingerprints(file) => write!(f, "fingerprints {file}"),
            Self::KeepCounters => f.write_str("keepcounters"),
            Self::StateDefaults(options) => {
                f.write_str("state-defaults ")?;
                print_state_options(f, options)
            }
        }
    }
}

impl Print for TableDefinition {
    fn print(&self, f: &mut Formatter<'_>, style: Style) -> fmt::Result {
        write!(f, "table {}", self.name)?;
        let flags = [(self.constant, " const"), (self.persist, " persist"), (self.counters, " counters")];
        flags.iter().filter(|(set, _)| *set).try_for_each(|(_, word)| f.write_str(word))?;
        let mut open = false;
        for contents in &self.contents {
            match contents {
                TableContents::Entries(entries) => {
                    if !open {
                        f.write_str(" {")?;
                    }
                    for entry in entries {
                        f.write_str(if entry.negate { " !" } else { " " })?;
                        write!(f, "{}", entry.host)?;
                    }
                    // pfctl prints neighbouring lists as one.
                    open = style == Style::Loaded;
                    if !open {
                        f.write_str(" }")?;
                    }
                }
                TableContents::File(file) => {
                    f.write_str(if open { " }" } else { "" })?;
                    open = false;
                    write!(f, " file {file}")?;
                }
            }
        }
        f.write_str(if open { " }" } else { "" })
    }
}

// --- what rules ask of packets

impl Display for Host {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Net(net) => print_net(f, net, None),
            Self::Scoped(net, interface) => print_net(f, net, Some(interface.as_str())),
            Self::Range(from, to) => write!(f, "{from} - {to}"),
            Self::Table(table) => table.fmt(f),
            Self::NoRoute => f.write_str("no-route"),
            Self::UrpfFailed => f.write_str("urpf-failed"),
            Self::Interface(host) => host.fmt(f),
        }
    }
}

fn print_net(f: &mut Formatter<'_>, net: &IpNet, scope: Option<&str>) -> fmt::Result {
    write!(f, "{}", net.addr())?;
    if let Some(scope) = scope {
        write!(f, "%{scope}")?;
    }
    if net.prefix_len() < net.max_prefix_len() { write!(f, "/{}", net.prefix_len()) } else { Ok(()) }
}

impl Display for InterfaceHost {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let modifiers = [
            (self.network, ":network"),
            (self.broadcast, ":broadcast"),
            (self.peer, ":peer"),
            (self.no_alias, ":0"),
        ];
        let modifiers: String = modifiers.iter().filter(|(set, _)| *set).map(|(_, word)| *word).collect();
        let name = format!("{}{modifiers}", self.interface);
        if self.dynamic {
            write!(f, "({})", Word(&name))?
        } else {
            Word(&name).fmt(f)?
        }
        self.prefix.map_or(Ok(()), |prefix| write!(f, "/{prefix}"))
    }
}

impl Display for HostItem {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(if self.negate { "! " } else { "" })?;
        self.host.fmt(f)
    }
}

impl Display for InterfaceMatch {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(if self.negate { "! " } else { "" })?;
        print_interface(f, &self.name)
    }
}

fn print_interface(f: &mut Formatter<'_>, name: &InterfaceName) -> fmt::Result {
    if name.as_str() == "any" { f.write_str("any") } else { Word(name.as_str()).fmt(f) }
}

impl Display for Protocol {
    /// As the product writes it: `icmp6`, which pf reads, where pf prints `ipv6-icmp`.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match names::protocol_name(*self) {
            _ if *self == Self::ICMP6 => f.write_str("icmp6"),
            Some(name) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}

impl Display for Port {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Equal(a) => write!(f, "{a}"),
            Self::NotEqual(a) => write!(f, "!= {a}"),
            Self::Less(a) => write!(f, "< {a}"),
            Self::LessOrEqual(a) => write!(f, "<= {a}"),
            Self::Greater(a) => write!(f, "> {a}"),
            Self::GreaterOrEqual(a) => write!(f, ">= {a}"),
            Self::Range(a, b) => write!(f, "{a}:{b}"),
            Self::Between(a, b) => write!(f, "{a} >< {b}"),
            Self::Outside(a, b) => write!(f, "{a} <> {b}"),
        }
    }
}

fn print_loaded_port(f: &mut Formatter<'_>, port: Port, protocol: Option<Protocol>) -> fmt::Result {
    match (
        port,
        names::service_name(if let Port::Equal(a) | Port::NotEqual(a) = port { a } else { 0 }, protocol),
    ) {
        (Port::Equal(_), Some(name)) => write!(f, "= {name}"),
        (Port::NotEqual(_), Some(name)) => write!(f, "!= {name}"),
        (Port::Equal(a), None) => write!(f, "= {a}"),
        (other, _) => write!(f, "{other}"),
    }
}

/// Direction is printed by the caller, since `log` and `quick` stand behind it.
fn print_on(f: &mut Formatter<'_>, on: &[InterfaceMatch]) -> fmt::Result {
    if on.is_empty() {
        return Ok(());
    }
    f.write_str(" on ")?;
    list(f, on, |f, item| item.fmt(f))
}

fn print_family_and_protocols(f: &mut Formatter<'_>, criteria: &Criteria, style: Style) -> fmt::Result {
    if let Some(family) = criteria.family {
        write!(f, " {family}")?;
    }
    if criteria.protocols.is_empty() {
        return Ok(());
    }
    f.write_str(" proto ")?;
    list(f, &criteria.protocols, |f, protocol| match (style, names::protocol_name(*protocol)) {
        (Style::Loaded, Some(name)) => f.write_str(name),
        _ => protocol.fmt(f),
    })
}

fn print_between(f: &mut Formatter<'_>, criteria: &Criteria, style: Style) -> fmt::Result {
    let FromTo::Between { from, to } = &criteria.between else {
        return f.write_str(" all");
    };
    for (word, endpoint) in [(" from ", from), (" to ", to)] {
        f.write_str(word)?;
        if endpoint.hosts.is_empty() {
            f.write_str("any")?;
        } else {
            list(f, &endpoint.hosts, |f, host| host.fmt(f))?;
        }
        if !endpoint.ports.is_empty() {
            f.write_str(" port ")?;
            list(f, &endpoint.ports, |f, port| match style {
                Style::Config => port.fmt(f),
                Style::Loaded => print_loaded_port(f, *port, criteria.protocols.first().copied()),
            })?;
        }
    }
    Ok(())
}

impl Display for Log {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("log")?;
        let words = [(self.all, "all"), (self.matches, "matches"), (self.user, "user")];
        let mut words: Vec<String> =
            words.iter().filter(|(set, _)| *set).map(|(_, word)| (*word).into()).collect();
        words.extend(self.to.as_ref().map(|to| format!("to {to}")));
        if words.is_empty() { Ok(()) } else { write!(f, " ({})", words.join(", ")) }
    }
}

fn print_log(f: &mut Formatter<'_>, log: &Option<Log>) -> fmt::Result {
    log.as_ref().map_or(Ok(()), |log| write!(f, " {log}"))
}

// --- filter rules

impl Print for FilterRule {
    fn print(&self, f: &mut Formatter<'_>, style: Style) -> fmt::Result {
        match self.action {
            Action::Pass => f.write_str("pass")?,
            Action::Match => f.write_str("match")?,
            Action::Block(block) => print_block(f, block, self.criteria.family, style)?,
        }
        if let Some(direction) = self.criteria.direction {
            write!(f, " {direction}")?;
        }
        print_log(f, &self.log)?;
        f.write_str(if self.quick { " quick" } else { "" })?;
        print_on(f, &self.criteria.on)?;
        if let Some(route) = &self.route {
            print_route(f, route)?;
        }
        print_family_and_protocols(f, &self.criteria, style)?;
        print_between(f, &self.criteria, style)?;
        print_options(f, &self.options, style)
    }
}

fn print_block(f: &mut Formatter<'_>, block: Block, family: Option<Family>, style: Style) -> fmt::Result {
    let code = |family, code: Option<u8>| {
        let code = code.unwrap_or(names::port_unreachable(family));
        names::icmp_code_name(family, names::unreachable_type(family), code)
            .map_or_else(|| code.to_string(), str::to_owned)
    };
    f.write_str("block")?;
    match block {
        Block::Default => Ok(()),
        Block::Drop => f.write_str(" drop"),
        Block::Return => f.write_str(" return"),
        Block::ReturnRst { ttl: None } => f.write_str(" return-rst"),
        Block::ReturnRst { ttl: Some(ttl) } => write!(f, " return-rst(ttl {ttl})"),
        Block::ReturnIcmp { inet, inet6 } if style == Style::Loaded => match family {
            Some(Family::Inet) => write!(f, " return-icmp({})", code(Family::Inet, inet)),
            Some(Family::Inet6) => write!(f, " return-icmp6({})", code(Family::Inet6, inet6)),
            None => {
                write!(f, " return-icmp({}, {})", code(Family::Inet, inet), code(Family::Inet6, inet6))
            }
        },
        Block::ReturnIcmp { inet: None, inet6: None } => f.write_str(" return-icmp"),
        Block::ReturnIcmp { inet, inet6: None } => write!(f, " return-icmp({})", code(Family::Inet, inet)),
        Block::ReturnIcmp { inet, inet6 } => {
            write!(f, " return-icmp({}, {})", code(Family::Inet, inet), code(Family::Inet6, inet6))
        }
        Block::ReturnIcmp6 { code: None } => f.write_str(" return-icmp6"),
        Block::ReturnIcmp6 { code: number } => write!(f, " return-icmp6({})", code(Family::Inet6, number)),
    }
}

fn print_route(f: &mut Formatter<'_>, route: &Route) -> fmt::Result {
    write!(f, " {} ", route.kind)?;
    list(f, &route.hops, |f, hop| match &hop.address {
        Some(address) => write!(f, "({} {address})", Word(hop.interface.as_str())),
        None => Word(hop.interface.as_str()).fmt(f),
    })?;
    print_pool(f, &route.pool)
}

/// The order of [`FilterOptions`] differs: pf prints translations last, and tags behind labels.
fn print_options(f: &mut Formatter<'_>, options: &FilterOptions, style: Style) -> fmt::Result {
    let loaded = style == Style::Loaded;
    if let Some(on) = &options.received_on {
        f.write_str(if on.negate { " !received-on " } else { " received-on " })?;
        print_interface(f, &on.name)?;
    }
    if let Some(flags) = options.flags {
        write!(f, " {flags}")?;
    }
    if let Some(icmp) = &options.icmp {
        print_icmp(f, icmp, style)?;
    }
    if let Some(tos) = options.tos {
        write!(f, " tos 0x{tos:02x}")?;
    }
    if let Some(prio) = options.prio {
        write!(f, " prio {prio}")?;
    }
    if let Some((packets, seconds)) = options.max_pkt_rate {
        write!(f, " max-pkt-rate {packets}/{seconds}")?;
    }
    if let Some(size) = options.max_pkt_size {
        write!(f, " max-pkt-size {size}")?;
    }
    print_set(f, options)?;
    if !loaded {
        print_translations(f, options)?;
    }
    if let Some(state) = &options.state {
        write!(f, " {}", state.kind)?;
        if loaded {
            print_probability(f, options)?;
        }
        if !state.options.is_empty() {
            f.write_str(" (")?;
            print_state_options(f, &state.options)?;
            f.write_str(")")?;
        }
    }
    if !(loaded && options.state.is_some()) {
        print_probability(f, options)?;
    }
    f.write_str(if options.allow_opts { " allow-opts" } else { "" })?;
    f.write_str(if options.fragment { " fragment" } else { "" })?;
    if let Some(scrub) = &options.scrub {
        f.write_str(if loaded { " scrub(" } else { " scrub (" })?;
        print_scrub_options(f, scrub, style)?;
        f.write_str(")")?;
    }
    options.labels.iter().try_for_each(|label| write!(f, " label {label}"))?;
    if let Some(identifier) = options.ridentifier {
        write!(f, " ridentifier {identifier}")?;
    }
    print_tags(f, &options.tag, &options.tagged, style)?;
    if let Some(table) = options.rtable {
        write!(f, " rtable {table}")?;
    }
    if loaded { print_translations(f, options) } else { Ok(()) }
}

fn print_translations(f: &mut Formatter<'_>, options: &FilterOptions) -> fmt::Result {
    if let Some(translation) = &options.nat_to {
        write!(f, " nat-to {translation}")?;
    }
    if let Some(translation) = &options.binat_to {
        write!(f, " binat-to {translation}")?;
    }
    if let Some(translation) = &options.rdr_to {
        write!(f, " rdr-to {translation}")?;
    }
    if let Some(af_to) = &options.af_to {
        write!(f, " af-to {} from {}", af_to.family, af_to.from)?;
        if let Some(to) = &af_to.to {
            write!(f, " to {to}")?;
        }
    }
    Ok(())
}

fn print_tags(
    f: &mut Formatter<'_>,
    tag: &Option<Text>,
    tagged: &Option<Tagged>,
    style: Style,
) -> fmt::Result {
    if let Some(tag) = tag {
        match style {
            Style::Config => write!(f, " tag {tag}")?,
            Style::Loaded => write!(f, " tag {}", tag.as_str())?,
        }
    }
    let Some(Tagged { negate, name }) = tagged else { return Ok(()) };
    match (style, negate) {
        (Style::Config, false) => write!(f, " tagged {name}"),
        (Style::Config, true) => write!(f, " ! tagged {name}"),
        (Style::Loaded, false) => write!(f, " tagged {}", name.as_str()),
        (Style::Loaded, true) => write!(f, " ! tagged {}", name.as_str()),
    }
}

fn print_set(f: &mut Formatter<'_>, options: &FilterOptions) -> fmt::Result {
    if options.set_prio.is_none() && options.set_tos.is_none() {
        return Ok(());
    }
    f.write_str(" set (")?;
    match options.set_prio {
        Some((prio, Some(low_delay))) => write!(f, " prio({prio}, {low_delay})")?,
        Some((prio, None)) => write!(f, " prio {prio}")?,
        None => {}
    }
    if let Some(tos) = options.set_tos {
        write!(f, "{} tos 0x{tos:02x}", if options.set_prio.is_some() { "," } else { "" })?;
    }
    f.write_str(" )")
}

fn print_probability(f: &mut Formatter<'_>, options: &FilterOptions) -> fmt::Result {
    let Some(millionths) = options.probability else { return Ok(()) };
    let (whole, rest) = (millionths / 10_000, millionths % 10_000);
    let digits = format!("{whole}.{rest:04}");
    write!(f, " probability {}%", digits.trim_end_matches('0').trim_end_matches('.'))
}

impl Display for TcpFlags {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let letters = |bits: u16| {
            names::TCP_FLAGS
                .chars()
                .enumerate()
                .filter(|(bit, _)| bits & (1 << bit) != 0)
                .map(|(_, c)| c)
                .collect::<String>()
        };
        match self {
            Self::Any => f.write_str("flags any"),
            Self::Set { set, of } => write!(f, "flags {}/{}", letters(*set), letters(*of)),
        }
    }
}

fn print_icmp(f: &mut Formatter<'_>, icmp: &IcmpMatch, style: Style) -> fmt::Result {
    f.write_str(match icmp.family {
        Family::Inet => " icmp-type ",
        Family::Inet6 => " icmp6-type ",
    })?;
    list(f, &icmp.types, |f, item| {
        match names::icmp_type_name(icmp.family, item.kind) {
            // "skip" is a reserved word too; pf prints it and cannot read it.
            Some(name) if style == Style::Loaded || keyword(name).is_none() => f.write_str(name)?,
            _ => write!(f, "{}", item.kind)?,
        }
        match item.code {
            None => Ok(()),
            Some(code) => match names::icmp_code_name(icmp.family, item.kind, code) {
                Some(name) => write!(f, " code {name}"),
                None => write!(f, " code {code}"),
            },
        }
    })
}

fn print_state_options(f: &mut Formatter<'_>, options: &[StateOption]) -> fmt::Result {
    for (index, option) in options.iter().enumerate() {
        f.write_str(if index > 0 { ", " } else { "" })?;
        match option {
            StateOption::Max(number) => write!(f, "max {number}")?,
            StateOption::NoSync => f.write_str("no-sync")?,
            StateOption::IfBound => f.write_str("if-bound")?,
            StateOption::Floating => f.write_str("floating")?,
            StateOption::Sloppy => f.write_str("sloppy")?,
            StateOption::Pflow => f.write_str("pflow")?,
            StateOption::AllowRelated => f.write_str("allow-related")?,
            StateOption::SourceTrack(None) => f.write_str("source-track")?,
            StateOption::SourceTrack(Some(track)) => write!(f, "source-track {track}")?,
            StateOption::MaxSrcStates(number) => write!(f, "max-src-states {number}")?,
            StateOption::MaxSrcConn(number) => write!(f, "max-src-conn {number}")?,
            StateOption::MaxSrcConnRate(number, seconds) => {
                write!(f, "max-src-conn-rate {number}/{seconds}")?
            }
            StateOption::MaxSrcNodes(number) => write!(f, "max-src-nodes {number}")?,
            StateOption::Overload { table, flush } => {
                let flush = match flush {
                    None => "",
                    Some(Flush::Rule) => " flush",
                    Some(Flush::Global) => " flush global",
                };
                write!(f, "overload {table}{flush}")?;
            }
            StateOption::Timeout(timeout, number) => write!(f, "{timeout} {number}")?,
        }
    }
    Ok(())
}

// --- translation

impl Print for NatRule {
    fn print(&self, f: &mut Formatter<'_>, style: Style) -> fmt::Result {
        write!(f, "{}{}", if self.no { "no " } else { "" }, self.kind)?;
        f.write_str(if self.pass { " pass" } else { "" })?;
        print_log(f, &self.log)?;
        print_on(f, &self.criteria.on)?;
        print_family_and_protocols(f, &self.criteria, style)?;
        print_between(f, &self.criteria, style)?;
        print_tags(f, &self.tag, &self.tagged, style)?;
        if let Some(table) = self.rtable {
            write!(f, " rtable {table}")?;
        }
        self.target.as_ref().map_or(Ok(()), |target| write!(f, " -> {target}"))
    }
}

impl Display for Translation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        list(f, &self.hosts, |f, host| host.fmt(f))?;
        match self.port {
            None => {}
            Some(TargetPort::One(port)) => write!(f, " port {port}")?,
            Some(TargetPort::Range(from, to)) => write!(f, " port {from}:{to}")?,
            Some(TargetPort::From(port)) => write!(f, " port {port}:*")?,
        }
        print_pool(f, &self.pool)
    }
}

fn print_pool(f: &mut Formatter<'_>, pool: &PoolOptions) -> fmt::Result {
    match pool.kind {
        None => {}
        Some(PoolKind::Bitmask) => f.write_str(" bitmask")?,
        Some(PoolKind::Random) => f.write_str(" random")?,
        Some(PoolKind::RoundRobin) => f.write_str(" round-robin")?,
        Some(PoolKind::SourceHash(None)) => f.write_str(" source-hash")?,
        Some(PoolKind::SourceHash(Some(key))) => write!(f, " source-hash 0x{key:032x}")?,
    }
    f.write_str(if pool.sticky_address { " sticky-address" } else { "" })?;
    f.write_str(if pool.endpoint_independent { " endpoint-independent" } else { "" })?;
    f.write_str(if pool.static_port { " static-port" } else { "" })?;
    if let Some((offset, length, id)) = pool.map_e {
        write!(f, " map-e-portset {offset}/{length}/{id}")?;
    }
    f.write_str(if pool.prefer_ipv6_nexthop { " prefer-ipv6-nexthop" } else { "" })
}

// --- anchors and the rest

impl Print for AnchorRule {
    fn print(&self, f: &mut Formatter<'_>, style: Style) -> fmt::Result {
        print_anchor(self, f, style, 0)
    }
}

fn print_anchor(anchor: &AnchorRule, f: &mut Formatter<'_>, style: Style, depth: usize) -> fmt::Result {
    write!(f, "{}", anchor.kind)?;
    if let Some(name) = &anchor.name {
        write!(f, " {name}")?;
    }
    if let Some(direction) = anchor.criteria.direction {
        write!(f, " {direction}")?;
    }
    f.write_str(if anchor.quick { " quick" } else { "" })?;
    print_on(f, &anchor.criteria.on)?;
    print_family_and_protocols(f, &anchor.criteria, style)?;
    if style == Style::Loaded || anchor.criteria.between != FromTo::All {
        print_between(f, &anchor.criteria, style)?;
    }
    print_options(f, &anchor.options, style)?;
    let Some(body) = &anchor.body else { return Ok(()) };
    f.write_str(" {\n")?;
    print_indented(body, f, style, depth + 1)?;
    write!(f, "{:width$}}}", "", width = depth * 2)
}

impl Print for Antispoof {
    fn print(&self, f: &mut Formatter<'_>, _: Style) -> fmt::Result {
        f.write_str("antispoof")?;
        print_log(f, &self.log)?;
        f.write_str(if self.quick { " quick for " } else { " for " })?;
        list(f, &self.interfaces, |f, interface| match interface.dynamic {
            true => write!(f, "({})", Word(interface.name.as_str())),
            false => print_interface(f, &interface.name),
        })?;
        if let Some(family) = self.family {
            write!(f, " {family}")?;
        }
        self.labels.iter().try_for_each(|label| write!(f, " label {label}"))?;
        if let Some(identifier) = self.ridentifier {
            write!(f, " ridentifier {identifier}")?;
        }
        self.rtable.map_or(Ok(()), |table| write!(f, " rtable {table}"))
    }
}

impl Print for ScrubRule {
    fn print(&self, f: &mut Formatter<'_>, style: Style) -> fmt::Result {
        f.write_str(if self.no { "no scrub" } else { "scrub" })?;
        if let Some(direction) = self.criteria.direction {
            write!(f, " {direction}")?;
        }
        print_log(f, &self.log)?;
        print_on(f, &self.criteria.on)?;
        print_family_and_protocols(f, &self.criteria, style)?;
        print_between(f, &self.criteria, style)?;
        if self.options != ScrubOptions::default() {
            print_scrub_options(f, &self.options, Style::Loaded)?;
        }
        match self.fragment_reassemble {
            None => {}
            Some(true) => f.write_str(" fragment reassemble")?,
            Some(false) => f.write_str(" fragment no reassemble")?,
        }
        print_tags(f, &None, &self.tagged, style)?;
        self.rtable.map_or(Ok(()), |table| write!(f, " rtable {table}"))
    }
}

/// `Loaded`: each with a blank in front; `Config`: separated by commas.
fn print_scrub_options(f: &mut Formatter<'_>, options: &ScrubOptions, style: Style) -> fmt::Result {
    let mut words = Vec::new();
    if options.no_df {
        words.push("no-df".to_owned());
    }
    if options.random_id {
        words.push("random-id".to_owned());
    }
    if let Some(ttl) = options.min_ttl {
        words.push(format!("min-ttl {ttl}"));
    }
    if let Some(mss) = options.max_mss {
        words.push(format!("max-mss {mss}"));
    }
    if let Some(tos) = options.set_tos {
        words.push(format!("set-tos 0x{tos:02x}"));
    }
    if options.reassemble_tcp {
        words.push("reassemble tcp".to_owned());
    }
    match style {
        Style::Config => f.write_str(&words.join(", ")),
        Style::Loaded => words.iter().try_for_each(|word| write!(f, " {word}")),
    }
}
