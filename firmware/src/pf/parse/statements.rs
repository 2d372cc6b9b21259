//! Statements: macros, options, tables, scrub, translation, anchors, antispoof, filter rules, and their order.

use super::{ParseError, Parser};
use crate::pf::ast::*;
use crate::pf::lex::Token;
use crate::pf::names;

/// pfctl's PFCTL_ANCHOR_STACK_DEPTH.
const MAX_DEPTH: usize = 64;

/// pf wants statements in this order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Options,
    Normalization,
    Translation,
    Filter,
}

/// `None`: may stand anywhere.
fn stage(item: &Item) -> Option<Stage> {
    match item {
        Item::Macro { .. } | Item::Table(_) | Item::LoadAnchor { .. } => None,
        Item::Set(
            SetOption::Skip(_)
            | SetOption::StatePolicy(_)
            | SetOption::RulesetOptimization(_)
            | SetOption::StateDefaults(_)
            | SetOption::KeepCounters
            | SetOption::HostId(_),
        ) => None,
        Item::Set(_) => Some(Stage::Options),
        Item::Scrub(_) => Some(Stage::Normalization),
        Item::Nat(_) => Some(Stage::Translation),
        Item::Anchor(anchor) if anchor.kind != AnchorKind::Filter => Some(Stage::Translation),
        Item::Anchor(_) | Item::Antispoof(_) | Item::Filter(_) => Some(Stage::Filter),
    }
}

impl Parser<'_> {
    pub(super) fn ruleset(&mut self) -> Result<Ruleset, ParseError> {
        let mut ruleset = Ruleset::default();
        let mut reached = Stage::Options;
        loop {
            self.skip_newlines()?;
            if *self.peek()? == Token::End {
                return Ok(ruleset);
            }
            let at = self.position()?;
            let items = self.statement()?;
            self.end_of_statement()?;
            for item in items {
                if let Some(stage) = stage(&item) {
                    if stage < reached {
                        let expected = "statements in order: options, normalization, translation, filtering";
                        return self.refused(at, expected, "a statement that comes too late");
                    }
                    reached = stage;
                }
                if let Item::Macro { name, value } = &item {
                    self.lexer.define(at, name, value)?;
                }
                ruleset.statements.push(Statement { line: at.line, item });
            }
        }
    }

    fn end_of_statement(&mut self) -> Result<(), ParseError> {
        match self.peek()? {
            // Not taken: what follows is read only after a macro has been defined.
            Token::Newline | Token::End => Ok(()),
            _ => self.unexpected("an option of the rule, or the end of the line"),
        }
    }

    fn statement(&mut self) -> Result<Vec<Item>, ParseError> {
        let word = match self.peek()?.clone() {
            Token::Keyword(word) => word,
            Token::Word(name) if *self.peek_second()? == Token::Sign("=") => {
                return Ok(vec![self.macro_definition(name)?]);
            }
            _ => return self.unexpected("a statement of pf.conf"),
        };
        let one = |item| Ok(vec![item]);
        match word {
            "set" => self.set(),
            "table" => one(Item::Table(self.table_definition()?)),
            "scrub" => one(Item::Scrub(self.scrub(false)?)),
            "nat" | "rdr" | "binat" => one(Item::Nat(self.nat(false)?)),
            "no" => match *self.peek_second()? {
                Token::Keyword("scrub") => {
                    self.next()?;
                    one(Item::Scrub(self.scrub(true)?))
                }
                Token::Keyword("nat" | "rdr" | "binat") => {
                    self.next()?;
                    one(Item::Nat(self.nat(true)?))
                }
                _ => self.unexpected("no scrub, no nat, no rdr or no binat"),
            },
            "load" => {
                self.next()?;
                self.expect("anchor")?;
                let name = self.anchor_name()?;
                self.expect("from")?;
                let file = self.text("a file name", Self::words)?;
                one(Item::LoadAnchor { name, file })
            }
            "nat-anchor" | "rdr-anchor" | "binat-anchor" => one(Item::Anchor(self.translation_anchor()?)),
            "altq" | "queue" => self.unexpected("a ruleset without ALTQ queues"),
            "ether" => self.unexpected("a ruleset without Ethernet rules"),
            "include" => self.unexpected("a ruleset in one file, without include"),
            _ => match self.filter_statement()? {
                Some(item) => one(item),
                None => self.unexpected("a statement of pf.conf"),
            },
        }
    }

    /// What may stand in an inline anchor, too (and antispoof).
    fn filter_statement(&mut self) -> Result<Option<Item>, ParseError> {
        let Token::Keyword(word) = *self.peek()? else {
            return Ok(None);
        };
        Ok(Some(match word {
            "pass" | "block" | "match" => Item::Filter(self.filter_rule()?),
            "anchor" => Item::Anchor(self.anchor()?),
            "antispoof" if self.depth == 0 => Item::Antispoof(self.antispoof()?),
            _ => return Ok(None),
        }))
    }

    fn macro_definition(&mut self, name: String) -> Result<Item, ParseError> {
        const EXPECTED: &str = "the value of the macro";
        let at = self.position()?;
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return self.refused(at, "a macro name of A-Z a-z 0-9 _", format!("{name:?}"));
        }
        self.next()?;
        self.expect_sign("=")?;
        let mut parts = Vec::new();
        loop {
            match self.peek()?.clone() {
                Token::Number(number) => parts.push(number.to_string()),
                Token::Word(word) => parts.push(word),
                _ if parts.is_empty() => return self.unexpected(EXPECTED),
                _ => return Ok(Item::Macro { name, value: parts.join(" ") }),
            }
            self.next()?;
        }
    }

    // --- options and tables

    fn set(&mut self) -> Result<Vec<Item>, ParseError> {
        self.expect("set")?;
        let Token::Keyword(word) = *self.peek()? else {
            return self.unexpected("the name of an option");
        };
        let at = self.position()?;
        self.next()?;
        let option = match word {
            "skip" => SetOption::Skip(self.skip()?),
            "block-policy" => SetOption::BlockPolicy(self.policy()?),
            "fail-policy" => SetOption::FailPolicy(self.policy()?),
            "state-policy" => SetOption::StatePolicy(if self.accept("if-bound")? {
                StatePolicy::IfBound
            } else {
                self.expect("floating")?;
                StatePolicy::Floating
            }),
            "limit" => {
                let limits = self.list(|parser| {
                    let name = parser.named(LimitName::from_word, "the name of a limit")?;
                    Ok((name, parser.number_u32("a number of entries")?))
                })?;
                return Ok(limits
                    .into_iter()
                    .map(|(name, n)| Item::Set(SetOption::Limit(name, n)))
                    .collect());
            }
            "timeout" => {
                let timeouts = self.list(|parser| {
                    let name = if parser.accept("interval")? {
                        Timeout::Interval
                    } else {
                        parser.named(Timeout::from_word, "the name of a time-out")?
                    };
                    Ok((name, parser.number_u32("a number of seconds or states")?))
                })?;
                return Ok(timeouts
                    .into_iter()
                    .map(|(name, n)| Item::Set(SetOption::Timeout(name, n)))
                    .collect());
            }
            "reassemble" => {
                let on = if self.accept("no")? {
                    false
                } else {
                    self.named(|word| (word == "yes").then_some(()), "yes or no")?;
                    true
                };
                SetOption::Reassemble { on, no_df: self.accept("no-df")? }
            }
            "optimization" => SetOption::Optimization(self.named(
                Optimization::from_word,
                "normal, aggressive, conservative, satellite or high-latency",
            )?),
            "ruleset-optimization" => SetOption::RulesetOptimization(
                self.named(RulesetOptimization::from_word, "none, basic or profile")?,
            ),
            "debug" => SetOption::Debug(self.named(DebugLevel::from_word, "none, urgent, misc or loud")?),
            "loginterface" => {
                let name = self.interface_name()?;
                SetOption::LogInterface(Some(name).filter(|name| name.as_str() != "none"))
            }
            "hostid" => SetOption::HostId(self.host_id()?),
            "fingerprints" => SetOption::Fingerprints(self.text("a file name", Self::word)?),
            "keepcounters" => SetOption::KeepCounters,
            "state-defaults" => {
                let mut options = vec![self.state_option()?];
                while !matches!(self.peek()?, Token::Newline | Token::End) {
                    self.accept_sign(",")?;
                    options.push(self.state_option()?);
                }
                SetOption::StateDefaults(options)
            }
            _ => return self.refused(at, "an option of pf that the product uses", format!("{word:?}")),
        };
        Ok(vec![Item::Set(option)])
    }

    fn named<T>(&mut self, find: impl Fn(&str) -> Option<T>, expected: &str) -> Result<T, ParseError> {
        match self.peek()? {
            Token::Word(word) => match find(word) {
                Some(found) => {
                    self.next()?;
                    Ok(found)
                }
                None => self.unexpected(expected),
            },
            _ => self.unexpected(expected),
        }
    }

    fn skip(&mut self) -> Result<Vec<crate::config::InterfaceName>, ParseError> {
        let at = self.position()?;
        let on = self.on()?;
        if on.iter().any(|item| item.negate) {
            return self.refused(at, "interfaces without !", "!");
        }
        let none = matches!(on.as_slice(), [one] if one.name.as_str() == "none");
        Ok(if none { Vec::new() } else { on.into_iter().map(|item| item.name).collect() })
    }

    fn policy(&mut self) -> Result<BlockPolicy, ParseError> {
        if self.accept("return")? {
            return Ok(BlockPolicy::Return);
        }
        self.expect("drop")?;
        Ok(BlockPolicy::Drop)
    }

    fn host_id(&mut self) -> Result<u32, ParseError> {
        const EXPECTED: &str = "a number from 1 to 4294967295";
        let id = match self.peek()? {
            Token::Number(number) => u32::try_from(*number).ok(),
            Token::Word(word) => word.strip_prefix("0x").and_then(|hex| u32::from_str_radix(hex, 16).ok()),
            _ => None,
        };
        match id {
            Some(id) if id != 0 => {
                self.next()?;
                Ok(id)
            }
            _ => self.unexpected(EXPECTED),
        }
    }

    fn table_definition(&mut self) -> Result<TableDefinition, ParseError> {
        self.expect("table")?;
        let mut table = TableDefinition {
            name: self.table()?,
            persist: false,
            constant: false,
            counters: false,
            contents: Vec::new(),
        };
        loop {
            let at = self.position()?;
            match self.peek()?.clone() {
                Token::Word(word) => {
                    match word.as_str() {
                        "persist" => table.persist = true,
                        "const" => table.constant = true,
                        "counters" => table.counters = true,
                        _ => return self.unexpected("persist, const, counters, { … } or file"),
                    }
                    self.next()?;
                }
                Token::Keyword("file") => {
                    self.next()?;
                    table.contents.push(TableContents::File(self.text("a file name", Self::word)?));
                }
                Token::Sign("{") => {
                    let entries = self.table_entries()?;
                    let fine = |item: &HostItem| match &item.host {
                        Host::Net(_) | Host::Scoped(..) => true,
                        Host::Interface(host) => !host.dynamic,
                        _ => false,
                    };
                    if let Some(bad) = entries.iter().find(|item| !fine(item)) {
                        let found = bad.host.to_string();
                        return self.refused(at, "addresses, networks and interfaces in a table", found);
                    }
                    table.contents.push(TableContents::Entries(entries));
                }
                _ => return Ok(table),
            }
        }
    }

    fn table_entries(&mut self) -> Result<Vec<HostItem>, ParseError> {
        // `{ }` is allowed here only.
        if *self.peek_second()? == Token::Sign("}") {
            self.next()?;
            self.next()?;
            return Ok(Vec::new());
        }
        self.host_list()
    }

    // --- rules

    fn scrub(&mut self, no: bool) -> Result<ScrubRule, ParseError> {
        self.expect("scrub")?;
        let direction = self.direction()?;
        let log = self.log()?;
        let on = self.on()?;
        let mut scrub = ScrubRule {
            no,
            log,
            criteria: self.criteria(direction, on)?,
            options: ScrubOptions::default(),
            fragment_reassemble: None,
            tagged: None,
            rtable: None,
        };
        loop {
            if self.accept("fragment")? {
                scrub.fragment_reassemble = Some(!self.accept("no")?);
                self.expect("reassemble")?;
            } else if self.is_sign("!")? || self.is_keyword("tagged")? {
                let negate = self.accept_sign("!")?;
                if !self.is_keyword("tagged")? {
                    return self.unexpected("\"tagged\"");
                }
                scrub.tagged = Some(Tagged { negate, name: self.tag()? });
            } else if self.is_keyword("rtable")? {
                scrub.rtable = self.rtable()?;
            } else if !self.scrub_option(&mut scrub.options)? {
                return Ok(scrub);
            }
            self.accept_sign(",")?;
        }
    }

    fn nat(&mut self, no: bool) -> Result<NatRule, ParseError> {
        let at = self.position()?;
        let kind = if self.accept("nat")? {
            NatKind::Nat
        } else if self.accept("rdr")? {
            NatKind::Rdr
        } else {
            self.expect("binat")?;
            NatKind::Binat
        };
        let pass = self.accept("pass")?;
        if no && pass {
            return self.refused(at, "a rule with \"no\" without \"pass\"", "both");
        }
        let log = self.log()?;
        let on = self.on()?;
        let criteria = self.criteria(None, on)?;
        let tag = if self.is_keyword("tag")? { Some(self.tag()?) } else { None };
        let tagged = if self.is_sign("!")? || self.is_keyword("tagged")? {
            let negate = self.accept_sign("!")?;
            if !self.is_keyword("tagged")? {
                return self.unexpected("\"tagged\"");
            }
            Some(Tagged { negate, name: self.tag()? })
        } else {
            None
        };
        let rtable = self.rtable()?;
        if self.is_sign("->")? == no {
            return self.unexpected(if no { "no \"->\" in a rule with \"no\"" } else { "\"->\"" });
        }
        let target = if self.accept_sign("->")? { Some(self.translation()?) } else { None };
        let rule = NatRule { kind, no, pass, log, criteria, tag, tagged, rtable, target };
        if kind == NatKind::Binat && !binat_is_simple(&rule) {
            let expected = "a binat rule with one protocol, one source, one destination and one target";
            return self.refused(at, expected, "more");
        }
        Ok(rule)
    }

    fn anchor_name(&mut self) -> Result<Text, ParseError> {
        const EXPECTED: &str = "an anchor name that does not begin with _";
        let at = self.position()?;
        let name = self.text(EXPECTED, Self::word)?;
        if name.as_str().is_empty() || name.as_str().starts_with('_') || name.as_str().contains("/_") {
            return self.refused(at, EXPECTED, name.to_string());
        }
        Ok(name)
    }

    fn translation_anchor(&mut self) -> Result<AnchorRule, ParseError> {
        let at = self.position()?;
        let kind = match self.next()? {
            Token::Keyword(word) => AnchorKind::from_word(word),
            _ => None,
        };
        let kind = kind.unwrap_or(AnchorKind::Nat);
        let name = self.text("an anchor name", Self::words)?;
        let on = self.on()?;
        let criteria = self.criteria(None, on)?;
        if kind == AnchorKind::Binat && (criteria.between != FromTo::All || criteria.protocols.len() > 1) {
            return self.refused(at, "a binat-anchor without from, to and lists of protocols", "them");
        }
        if kind == AnchorKind::Rdr {
            let simple = |ports: &[Port]| matches!(ports, [] | [Port::Equal(_)]);
            if !criteria.between.from().ports.is_empty() || !simple(&criteria.between.to().ports) {
                return self.refused(at, "a rdr-anchor with at most one destination port", "others");
            }
        }
        let mut anchor = AnchorRule::new(kind, name);
        anchor.criteria = criteria;
        anchor.options.rtable = self.rtable()?;
        Ok(anchor)
    }

    fn anchor(&mut self) -> Result<AnchorRule, ParseError> {
        let at = self.position()?;
        self.expect("anchor")?;
        let name = if matches!(self.peek()?, Token::Word(_)) { Some(self.anchor_name()?) } else { None };
        let direction = self.direction()?;
        let quick = self.accept("quick")?;
        let on = self.on()?;
        let criteria = self.criteria(direction, on)?;
        let options = self.filter_options()?;
        if options.state.is_some() {
            return self.refused(at, "an anchor without state options", "them");
        }
        let body = if self.is_sign("{")? { Some(self.body()?) } else { None };
        match (&name, &body) {
            (None, None) => self.refused(at, "a name, or rules in braces", "an anchor without both"),
            (Some(name), Some(_)) if name.as_str().contains('/') => {
                self.refused(at, "a name without / for an anchor with rules in braces", name.to_string())
            }
            _ => Ok(AnchorRule { kind: AnchorKind::Filter, name, quick, criteria, options, body }),
        }
    }

    fn body(&mut self) -> Result<Ruleset, ParseError> {
        self.expect_sign("{")?;
        if self.depth == MAX_DEPTH {
            return self.unexpected("anchors nested at most 64 deep");
        }
        if *self.peek()? != Token::Newline {
            return self.unexpected("the end of the line behind \"{\"");
        }
        self.depth += 1;
        let mut body = Ruleset::default();
        loop {
            self.skip_newlines()?;
            if self.accept_sign("}")? {
                self.depth -= 1;
                return Ok(body);
            }
            let line = self.position()?.line;
            let Some(item) = self.filter_statement()? else {
                return self.unexpected("a filter rule, an anchor or \"}\"");
            };
            if *self.peek()? != Token::Newline {
                return self.unexpected("an option of the rule, or the end of the line");
            }
            body.statements.push(Statement { line, item });
        }
    }

    fn antispoof(&mut self) -> Result<Antispoof, ParseError> {
        self.expect("antispoof")?;
        let (log, quick) = self.log_and_quick()?;
        self.expect("for")?;
        let interfaces = self.list(|parser| {
            let dynamic = parser.accept_sign("(")?;
            let name = parser.interface_or_any()?;
            if dynamic {
                parser.expect_sign(")")?;
            }
            Ok(AntispoofInterface { name, dynamic })
        })?;
        let family = self.family()?;
        let mut antispoof =
            Antispoof { log, quick, interfaces, family, labels: Vec::new(), ridentifier: None, rtable: None };
        loop {
            if self.is_keyword("label")? {
                if antispoof.labels.len() == 5 {
                    return self.unexpected("at most 5 labels");
                }
                antispoof.labels.push(self.label()?);
            } else if self.accept("ridentifier")? {
                antispoof.ridentifier = Some(self.number_u32("a number below 2^32")?);
            } else if self.is_keyword("rtable")? {
                antispoof.rtable = self.rtable()?;
            } else {
                return Ok(antispoof);
            }
        }
    }

    fn filter_rule(&mut self) -> Result<FilterRule, ParseError> {
        let action = if self.accept("pass")? {
            Action::Pass
        } else if self.accept("match")? {
            Action::Match
        } else {
            self.expect("block")?;
            Action::Block(self.block()?)
        };
        let direction = self.direction()?;
        let (log, quick) = self.log_and_quick()?;
        let on = self.on()?;
        let route = self.route()?;
        let criteria = self.criteria(direction, on)?;
        Ok(FilterRule { action, log, quick, criteria, route, options: self.filter_options()? })
    }

    fn block(&mut self) -> Result<Block, ParseError> {
        if self.accept("drop")? {
            return Ok(Block::Drop);
        }
        if self.accept("return")? {
            return Ok(Block::Return);
        }
        if self.accept("return-rst")? {
            let mut ttl = None;
            if self.accept_sign("(")? {
                self.expect("ttl")?;
                ttl = Some(self.number_u8(255, "a time to live: 0 to 255")?);
                self.expect_sign(")")?;
            }
            return Ok(Block::ReturnRst { ttl });
        }
        if self.accept("return-icmp")? {
            let (mut inet, mut inet6) = (None, None);
            if self.accept_sign("(")? {
                inet = Some(self.unreachable_code(Family::Inet)?);
                if !self.is_sign(")")? {
                    self.accept_sign(",")?;
                    inet6 = Some(self.unreachable_code(Family::Inet6)?);
                }
                self.expect_sign(")")?;
            }
            return Ok(Block::ReturnIcmp { inet, inet6 });
        }
        if self.accept("return-icmp6")? {
            let mut code = None;
            if self.accept_sign("(")? {
                code = Some(self.unreachable_code(Family::Inet6)?);
                self.expect_sign(")")?;
            }
            return Ok(Block::ReturnIcmp6 { code });
        }
        Ok(Block::Default)
    }

    fn unreachable_code(&mut self, family: Family) -> Result<u8, ParseError> {
        const EXPECTED: &str = "a code of \"destination unreachable\": its name or 0 to 255";
        if matches!(self.peek()?, Token::Number(_)) {
            return self.number_u8(255, EXPECTED);
        }
        self.named(|word| names::icmp_code_by_name(family, names::unreachable_type(family), word), EXPECTED)
    }
}

/// What pf's grammar allows in `binat`.
fn binat_is_simple(rule: &NatRule) -> bool {
    let FromTo::Between { from, to } = &rule.criteria.between else { return false };
    let simple_target = rule.target.as_ref().is_none_or(|target| {
        target.hosts.len() == 1
            && target.pool == PoolOptions::default()
            && !matches!(target.hosts[0], Host::Table(_))
    });
    let negated_source = from.hosts.iter().any(|item| item.negate);
    from.ports.is_empty()
        && to.ports.is_empty()
        && from.hosts.len() <= 1
        && to.hosts.len() <= 1
        && !negated_source
        && rule.criteria.protocols.len() <= 1
        && rule.criteria.on.len() <= 1
        && simple_target
}
