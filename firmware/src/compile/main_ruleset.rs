//! The main ruleset: options, the product's own tables, anti-lockout, automatic NAT, default policy, and the
//! anchors in their order (contract/firewall.md §8). It changes only with interfaces, roles, ports and policy.

use super::address::{addresses_of, first_address_of, networks_of};
use super::{Context, Output, Warning};
use crate::config::settings::DefaultPolicy;
use crate::config::system::WanMode;
use crate::config::{FirewallSettings, InterfaceName, alias::SYSTEM_TABLES, pf_tuning};
use crate::pf::ast::*;

const TRANSLATION_ANCHORS: [(AnchorKind, &str); 5] = [
    (AnchorKind::Nat, "aifw-nat"),
    (AnchorKind::Rdr, "aifw-nat"),
    (AnchorKind::Binat, "aifw-nat"),
    (AnchorKind::Nat, "aifw-vpn"),
    (AnchorKind::Rdr, "aifw-tls"),
];

/// Filter anchors in order of evaluation. Anchors behind `aifw` see almost nothing that comes in.
pub const FILTER_ANCHORS: [&str; 13] = [
    "aifw-ids",
    "aifw-dhcp",
    "aifw-time",
    "aifw-geoip",
    "aifw-ha",
    "aifw-vpn",
    "aifw-pbr",
    "aifw-mwan-leak",
    "aifw-mwan-reply",
    "aifw-nat",
    "aifw-ratelimit",
    "aifw",
    "aifw-tls",
];

/// DHCP (RFC 2131) and DHCPv6 (RFC 8415).
const DHCP_SERVER: u16 = 67;
const DHCP_CLIENT: u16 = 68;
const DHCP6_CLIENT: u16 = 546;
const DHCP6_SERVER: u16 = 547;

fn text(text: &str) -> Text {
    Text::nearest(text, 63)
}

fn any_port(port: u16) -> Endpoint {
    Endpoint { hosts: Vec::new(), ports: vec![Port::Equal(port)] }
}

fn block(log: bool) -> FilterRule {
    let mut rule = FilterRule::new(Action::Block(Block::Drop));
    rule.log = log.then(Log::default);
    rule
}

fn keep_state() -> Option<State> {
    Some(State { kind: StateKind::Keep, options: Vec::new() })
}

pub(super) fn ruleset(context: &Context<'_>, output: &mut Output) -> Ruleset {
    let mut items: Vec<Item> = options(context).into_iter().map(Item::Set).collect();
    for name in SYSTEM_TABLES {
        items.extend(Table::new(name).ok().map(|name| {
            let contents = Vec::new();
            Item::Table(TableDefinition { name, persist: true, constant: false, counters: false, contents })
        }));
    }
    items.extend(Table::new(super::services::ids::BLOCK_TABLE).ok().map(|name| {
        let contents = Vec::new();
        Item::Table(TableDefinition { name, persist: true, constant: false, counters: true, contents })
    }));
    let management = management(context, output);
    items.extend(management.iter().map(|access| Item::Nat(access.no_rdr())));
    items.extend(
        TRANSLATION_ANCHORS.iter().map(|(kind, name)| Item::Anchor(AnchorRule::new(*kind, text(name)))),
    );
    items.extend(automatic_nat(context).into_iter().map(Item::Nat));
    items.extend(default_policy(context).into_iter().map(Item::Filter));
    items.extend(management.iter().map(|access| Item::Filter(access.pass())));
    items.extend(antispoof(context).map(Item::Antispoof));
    items.extend(services(context).into_iter().map(Item::Filter));
    items.extend(SYSTEM_TABLES.iter().filter_map(|name| Some(Item::Filter(block_table(context, name)?))));
    items.extend(
        FILTER_ANCHORS.iter().map(|name| Item::Anchor(AnchorRule::new(AnchorKind::Filter, text(name)))),
    );
    Ruleset { statements: items.into_iter().map(Into::into).collect() }
}

/// Before anything is known of a configuration, and as long as nobody has set the appliance up: nothing comes in.
pub fn closed() -> Ruleset {
    let mut out = FilterRule::new(Action::Pass);
    out.criteria.direction = Some(Direction::Out);
    out.options.state = keep_state();
    let mut blocked = block(false);
    blocked.criteria.direction = Some(Direction::In);
    let skip = InterfaceName::new("lo0").ok().map(|name| Item::Set(SetOption::Skip(vec![name])));
    let policy = Item::Set(SetOption::BlockPolicy(BlockPolicy::Drop));
    let items = skip.into_iter().chain([policy, Item::Filter(blocked), Item::Filter(out)]);
    Ruleset { statements: items.map(Into::into).collect() }
}

fn options(context: &Context<'_>) -> Vec<SetOption> {
    let settings = &context.config.firewall;
    let skip = ["lo0", "pfsync0"].into_iter().filter_map(|name| InterfaceName::new(name).ok());
    let mut options: Vec<SetOption> = skip.map(|name| SetOption::Skip(vec![name])).collect();
    options.extend([
        SetOption::BlockPolicy(BlockPolicy::Drop),
        // States must match on the other interface after a failover.
        SetOption::StatePolicy(StatePolicy::Floating),
        SetOption::Limit(LimitName::States, settings.max_states),
        SetOption::Limit(LimitName::TableEntries, settings.max_table_entries),
    ]);
    // A load without `-m` goes back to pf's own for what is not in it.
    options.extend(settings.max_src_nodes.map(|limit| SetOption::Limit(LimitName::SrcNodes, limit)));
    options.extend(settings.max_frags.map(|limit| SetOption::Limit(LimitName::Frags, limit)));
    options.extend(timeouts(|name| settings.timeouts.get(name).copied()));
    options.push(SetOption::Reassemble { on: true, no_df: true });
    options
}

/// Those of pf's time-outs that `value` knows, in pf's order.
fn timeouts(value: impl Fn(&str) -> Option<u32>) -> impl Iterator<Item = SetOption> {
    Timeout::ALL.iter().filter_map(move |which| Some(SetOption::Timeout(*which, value(&which.to_string())?)))
}

/// Every limit and time-out as options of their own, what is not set being pf's own: what makes a running pf as the
/// main ruleset would.
pub fn tuning(settings: &FirewallSettings) -> Ruleset {
    let mut options = vec![
        SetOption::Limit(LimitName::States, settings.max_states),
        SetOption::Limit(LimitName::SrcNodes, settings.max_src_nodes.unwrap_or(pf_tuning::SRC_NODES)),
        SetOption::Limit(LimitName::Frags, settings.max_frags.unwrap_or(pf_tuning::FRAGS)),
        SetOption::Limit(LimitName::TableEntries, settings.max_table_entries),
    ];
    options.extend(timeouts(|name| {
        let usual = || pf_tuning::usual_timeout(name, settings.max_states);
        settings.timeouts.get(name).copied().or_else(usual)
    }));
    Ruleset { statements: options.into_iter().map(Item::Set).map(Into::into).collect() }
}

/// Where SSH and the API are always reachable.
struct Access {
    /// `None`: everywhere, as long as no interface has a role.
    on: Option<InterfaceName>,
    family: Family,
    own: Host,
    ports: Vec<Port>,
}

impl Access {
    fn criteria(&self, direction: Option<Direction>) -> Criteria {
        let to = Endpoint { hosts: vec![self.own.clone().into()], ports: self.ports.clone() };
        Criteria {
            direction,
            on: self.on.iter().map(Into::into).collect(),
            family: Some(self.family),
            protocols: vec![Protocol::TCP],
            between: FromTo::Between { from: Endpoint::default(), to },
        }
    }

    /// No port forward may take it away.
    fn no_rdr(&self) -> NatRule {
        NatRule {
            kind: NatKind::Rdr,
            no: true,
            pass: false,
            log: None,
            criteria: self.criteria(None),
            tag: None,
            tagged: None,
            rtable: None,
            target: None,
        }
    }

    fn pass(&self) -> FilterRule {
        let mut rule = FilterRule::new(Action::Pass);
        rule.quick = true;
        rule.criteria = self.criteria(Some(Direction::In));
        rule.options.state = keep_state();
        rule.options.labels = vec![text("anti-lockout")];
        rule
    }
}

/// LAN interfaces, else the WAN, else everywhere.
fn management(context: &Context<'_>, output: &mut Output) -> Vec<Access> {
    if !context.config.firewall.anti_lockout {
        return Vec::new();
    }
    let system = &context.config.system;
    let mut ports = vec![Port::Equal(system.ssh_port)];
    if system.api_port != system.ssh_port {
        ports.push(Port::Equal(system.api_port));
    }
    let access = |on: Option<&InterfaceName>, own: &InterfaceHost, family| Access {
        on: on.cloned(),
        family,
        own: Host::Interface(own.clone()),
        ports: ports.clone(),
    };
    let roles = &context.roles;
    let interfaces = if roles.lan.is_empty() { &roles.wan } else { &roles.lan };
    if interfaces.is_empty() {
        output.warnings.push(Warning {
            rule: None,
            text: "no interface is WAN or LAN: SSH and the API are reachable through every interface".into(),
        });
        let own = InterfaceName::new("self").ok().and_then(|name| addresses_of(&name).ok());
        return own
            .iter()
            .flat_map(|own| [Family::Inet, Family::Inet6].map(|family| access(None, own, family)))
            .collect();
    }
    let mut accesses = Vec::new();
    for name in interfaces {
        match addresses_of(name) {
            Ok(own) => {
                accesses.push(access(Some(name), &own, Family::Inet));
                if context.has_inet6(name) {
                    accesses.push(access(Some(name), &own, Family::Inet6));
                }
            }
            Err(reason) => output.warnings.push(Warning { rule: None, text: reason.to_string() }),
        }
    }
    accesses
}

/// From every LAN to every WAN, behind the administrator's own rules.
fn automatic_nat(context: &Context<'_>) -> Vec<NatRule> {
    if !context.config.firewall.automatic_nat {
        return Vec::new();
    }
    let pairs = context.roles.wan.iter().flat_map(|wan| context.roles.lan.iter().map(move |lan| (wan, lan)));
    let rule = |(wan, lan): (&InterfaceName, &InterfaceName)| {
        let from = Endpoint { hosts: vec![networks_of(lan).ok()?.into()], ports: Vec::new() };
        Some(NatRule {
            kind: NatKind::Nat,
            no: false,
            pass: false,
            log: None,
            criteria: Criteria {
                direction: None,
                on: vec![wan.into()],
                family: Some(Family::Inet),
                protocols: Vec::new(),
                between: FromTo::Between { from, to: Endpoint::default() },
            },
            tag: None,
            tagged: None,
            rtable: None,
            target: Some(Translation {
                hosts: vec![first_address_of(wan).ok()?],
                port: None,
                pool: PoolOptions::default(),
            }),
        })
    };
    pairs.filter_map(rule).collect()
}

/// Not quick, and first: every anchor can override them.
fn default_policy(context: &Context<'_>) -> Vec<FilterRule> {
    let log = context.config.firewall.block_logging;
    let pass = |direction, label: &str| {
        let mut rule = FilterRule::new(Action::Pass);
        rule.criteria.direction = direction;
        rule.options.state = keep_state();
        rule.options.labels = vec![text(label)];
        rule
    };
    let blocked = |direction, label: &str| {
        let mut rule = block(log);
        rule.criteria.direction = direction;
        rule.options.labels = vec![text(label)];
        rule
    };
    match context.config.firewall.default_policy {
        DefaultPolicy::Standard => vec![
            blocked(Some(Direction::In), "default-deny-in"),
            pass(Some(Direction::Out), "default-pass-out"),
        ],
        DefaultPolicy::Strict => vec![blocked(None, "default-deny")],
        DefaultPolicy::Permissive => vec![pass(None, "default-pass")],
    }
}

fn antispoof(context: &Context<'_>) -> Option<Antispoof> {
    let names = context.roles.wan.iter().chain(&context.roles.lan);
    let usable = names.filter(|name| addresses_of(name).is_ok());
    let interfaces: Vec<AntispoofInterface> =
        usable.map(|name| AntispoofInterface { name: name.clone(), dynamic: true }).collect();
    (!interfaces.is_empty()).then(|| Antispoof {
        log: context.config.firewall.block_logging.then(Log::default),
        quick: true,
        interfaces,
        family: None,
        labels: vec![text("antispoof")],
        ridentifier: None,
        rtable: None,
    })
}

/// What must work before any rule of the administrator: neighbour discovery, DHCP.
fn services(context: &Context<'_>) -> Vec<FilterRule> {
    // Router and neighbour solicitation and advertisement (RFC 4861).
    let discovery = [135, 136, 133, 134];
    let mut nd = FilterRule::new(Action::Pass);
    nd.quick = true;
    nd.criteria.family = Some(Family::Inet6);
    nd.criteria.protocols = vec![Protocol::ICMP6];
    nd.criteria.between = FromTo::Between { from: Endpoint::default(), to: Endpoint::default() };
    nd.options.icmp = Some(IcmpMatch {
        family: Family::Inet6,
        types: discovery.map(|kind| IcmpType { kind, code: None }).into(),
    });
    nd.options.state = Some(State { kind: StateKind::None, options: Vec::new() });
    nd.options.labels = vec![text("icmp6-nd")];
    let mut rules = vec![nd];
    let udp = |on: &InterfaceName, family, from, to, label: &str| {
        let mut rule = FilterRule::new(Action::Pass);
        rule.quick = true;
        rule.criteria = Criteria {
            direction: Some(Direction::In),
            on: vec![on.into()],
            family: Some(family),
            protocols: vec![Protocol::UDP],
            between: FromTo::Between { from, to },
        };
        rule.options.state = keep_state();
        rule.options.labels = vec![text(label)];
        rule
    };
    for lan in &context.roles.lan {
        let (from, to) = (any_port(DHCP_CLIENT), any_port(DHCP_SERVER));
        rules.push(udp(lan, Family::Inet, from, to, "dhcp-server"));
    }
    // A WAN that is configured by DHCP and speaks IPv6 asks for IPv6, too.
    let system = &context.config.system;
    for wan in &context.roles.wan {
        let asks = system.wan_mode == WanMode::Dhcp && context.has_inet6(wan);
        let link_local = |port| {
            let net = "fe80::/10".parse().ok()?;
            Some(Endpoint { hosts: vec![Host::Net(net).into()], ports: vec![Port::Equal(port)] })
        };
        if asks && let (Some(from), Some(to)) = (link_local(DHCP6_SERVER), link_local(DHCP6_CLIENT)) {
            rules.push(udp(wan, Family::Inet6, from, to, "dhcp6-client"));
        }
    }
    rules
}

fn block_table(context: &Context<'_>, name: &str) -> Option<FilterRule> {
    let mut rule = block(context.config.firewall.block_logging);
    rule.quick = true;
    let from = Endpoint { hosts: vec![Host::Table(Table::new(name).ok()?).into()], ports: Vec::new() };
    rule.criteria.direction = Some(Direction::In);
    rule.criteria.between = FromTo::Between { from, to: Endpoint::default() };
    rule.options.labels = vec![text(&name.replace('_', "-"))];
    Some(rule)
}
