//! The time daemon's file (rTIME 0.15.1, contract/time.md §4), and its lines of pf. Pure: names are resolved and the
//! key of its management API is made by the caller.

use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use super::anchors::pass_udp;
use super::{Facts, File};
use crate::compile::Environment;
use crate::compile::template::{self, TemplateError};
use crate::config::time::TimeSettings;
use crate::config::{Config, InterfaceName};
use crate::pf::ast::*;

const TEMPLATE: &str = include_str!("../../../../templates/rtime/rtime.toml");
/// NTP (RFC 5905) and PTP's event and general messages (IEEE 1588).
const NTP: u16 = 123;
const PTP: [u16; 2] = [319, 320];

/// A source with one of its addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Resolved {
    pub address: SocketAddr,
    pub nts: bool,
    pub min_poll: u8,
    pub max_poll: u8,
}

#[derive(Serialize)]
struct Values<'a> {
    log_level: &'a str,
    discipline: bool,
    step_threshold_ms: f64,
    panic_threshold_ms: f64,
    ntp_enabled: bool,
    ntp_listen: SocketAddr,
    rate_limit: f64,
    rate_burst: u32,
    sources: &'a [Resolved],
    ptp_enabled: bool,
    ptp_domain: u8,
    ptp_address: IpAddr,
    metrics_enabled: bool,
    metrics_listen: SocketAddr,
    management_enabled: bool,
    management_listen: SocketAddr,
    api_key: &'a str,
}

fn place(text: &str, facts: &Facts, otherwise: u16) -> SocketAddr {
    // What is switched off may hold anything, and the daemon reads it all the same.
    let unused = SocketAddr::from(([127, 0, 0, 1], otherwise));
    text.parse().map_or(unused, |place| facts.listen.at(place))
}

/// Where the management API listens.
pub fn management(settings: &TimeSettings, facts: &Facts) -> SocketAddr {
    place(&settings.management_listen, facts, 9200)
}

/// Where metrics are told.
pub fn metrics(settings: &TimeSettings, facts: &Facts) -> SocketAddr {
    place(&settings.metrics_listen, facts, 9100)
}

/// Where others are served.
pub fn served_at(settings: &TimeSettings, facts: &Facts) -> SocketAddr {
    place(&settings.ntp_listen, facts, NTP)
}

/// The address that PTP uses: the daemon takes no interface names.
fn ptp_address(settings: &TimeSettings, facts: &Facts) -> Option<IpAddr> {
    facts.addresses_of(&settings.ptp_interface).into_iter().find(IpAddr::is_ipv4)
}

/// The file, for sources that are resolved already.
pub fn file(
    settings: &TimeSettings,
    sources: &[Resolved],
    api_key: &str,
    facts: &Facts,
) -> Result<File, TemplateError> {
    let ptp = ptp_address(settings, facts);
    let values = Values {
        log_level: &settings.log_level,
        // The clock of a development host is not ours.
        discipline: settings.clock_discipline && !facts.sandbox,
        step_threshold_ms: settings.clock_step_threshold_ms,
        panic_threshold_ms: settings.clock_panic_threshold_ms,
        ntp_enabled: settings.ntp_enabled,
        ntp_listen: served_at(settings, facts),
        rate_limit: settings.ntp_rate_limit,
        rate_burst: settings.ntp_rate_burst,
        sources,
        ptp_enabled: settings.ptp_enabled && ptp.is_some(),
        ptp_domain: settings.ptp_domain,
        ptp_address: ptp.unwrap_or(IpAddr::from([0, 0, 0, 0])),
        metrics_enabled: settings.metrics_enabled,
        metrics_listen: metrics(settings, facts),
        management_enabled: settings.management_enabled,
        management_listen: management(settings, facts),
        api_key,
    };
    Ok(File::new("rtime.toml", template::render("rtime/rtime.toml", TEMPLATE, values)?))
}

/// What is configured and will not be as its author expects.
pub fn warnings(config: &Config, facts: &Facts) -> Vec<String> {
    let settings = &config.time;
    let mut warnings = Vec::new();
    let mut warn = |text: &str| warnings.push(text.to_owned());
    if settings.nts_enabled {
        warn(
            "nts_enabled: this version of the daemon has no NTS; time is served and asked for without authentication",
        );
    }
    if config.time_sources.iter().any(|source| source.enabled && source.nts) {
        warn("this version of the daemon has no NTS: sources with nts are asked without authentication");
    }
    if settings.ptp_enabled {
        if ptp_address(settings, facts).is_none() {
            warn("ptp_interface: it has no IPv4 address now; PTP is off");
        }
        if settings.ptp_delay_mechanism == "p2p" {
            warn("ptp_delay_mechanism: this version of the daemon always uses e2e");
        }
        warn("this version of the daemon is a PTP client only");
    }
    warnings.extend(open_apis(settings));
    warnings
}

/// Which of the daemon's own APIs other machines can reach.
pub fn open_apis(settings: &TimeSettings) -> Vec<String> {
    let apis = [
        ("metrics_listen", settings.metrics_enabled, &settings.metrics_listen),
        ("management_listen", settings.management_enabled, &settings.management_listen),
    ];
    let open = |text: &str| text.parse::<SocketAddr>().is_ok_and(|place| !place.ip().is_loopback());
    let reached = apis.into_iter().filter(|(_, on, text)| *on && open(text));
    reached
        .map(|(field, _, text)| {
            format!("{field}: {text} can be reached from other machines; metrics ask for no password")
        })
        .collect()
}

/// Its lines of pf: others are served on the chosen interfaces only, PTP is let in on its own.
pub fn rules(config: &Config, _: &Environment) -> Ruleset {
    let settings = &config.time;
    let mut rules = Vec::new();
    if settings.enabled && settings.ntp_enabled && !settings.ntp_interfaces.is_empty() {
        let port = settings.ntp_listen.parse::<SocketAddr>().map_or(NTP, |place| place.port());
        for name in &settings.ntp_interfaces {
            rules.extend(InterfaceName::new(name).ok().map(|on| pass(&on, &[port], "ntp")));
        }
        let mut block = FilterRule::new(Action::Block(Block::Drop));
        block.quick = true;
        block.criteria = udp(&[port]);
        if let FromTo::Between { to, .. } = &mut block.criteria.between {
            to.hosts = InterfaceName::new("self")
                .ok()
                .map(|own| Host::Interface(InterfaceHost::named(&own)).into())
                .into_iter()
                .collect();
        }
        block.options.labels = vec![Text::nearest("ntp-elsewhere", 63)];
        rules.push(block);
    }
    if settings.enabled && settings.ptp_enabled {
        rules.extend(InterfaceName::new(&settings.ptp_interface).ok().map(|on| pass(&on, &PTP, "ptp")));
    }
    Ruleset { statements: rules.into_iter().map(|rule| Item::Filter(rule).into()).collect() }
}

fn udp(ports: &[u16]) -> Criteria {
    let to = Endpoint { hosts: Vec::new(), ports: ports.iter().map(|port| Port::Equal(*port)).collect() };
    Criteria {
        direction: Some(Direction::In),
        protocols: vec![Protocol::UDP],
        between: FromTo::Between { from: Endpoint::default(), to },
        ..Criteria::default()
    }
}

fn pass(on: &InterfaceName, ports: &[u16], label: &str) -> FilterRule {
    let to = Endpoint { hosts: Vec::new(), ports: ports.iter().map(|port| Port::Equal(*port)).collect() };
    pass_udp(on, Direction::In, Endpoint::default(), to, label)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use super::*;

    #[test]
    fn others_are_served_on_the_chosen_interfaces_only() {
        let mut config = Config::default();
        let settings = Arc::make_mut(&mut config.time);
        settings.ntp_interfaces = vec!["em1".into()];
        assert_eq!(rules(&config, &Environment::empty()).to_string(), "", "not while it is off");
        let settings = Arc::make_mut(&mut config.time);
        settings.enabled = true;
        (settings.ptp_enabled, settings.ptp_interface) = (true, "em2".into());
        assert_eq!(
            rules(&config, &Environment::empty()).to_string(),
            "pass in quick on em1 proto udp from any to any port 123 keep state label \"ntp\"\n\
             block drop in quick proto udp from any to self port 123 label \"ntp-elsewhere\"\n\
             pass in quick on em2 proto udp from any to any port { 319, 320 } keep state label \"ptp\"\n"
        );
        Arc::make_mut(&mut config.time).ntp_enabled = false;
        assert!(!rules(&config, &Environment::empty()).to_string().contains("123"));
    }
}
