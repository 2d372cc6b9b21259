//! What the services need of pf: an anchor each, loaded with the firewall's own.

use crate::compile::Environment;
use crate::config::{Config, InterfaceName};
use crate::pf::ast::*;

/// Name and rules of each service's anchor. They stand in `FILTER_ANCHORS`.
pub fn service_anchors(config: &Config, environment: &Environment) -> Vec<(String, Ruleset)> {
    vec![
        ("aifw-ids".into(), super::ids::rules(config, environment)),
        ("aifw-dhcp".into(), super::dhcp::rules(config, environment)),
        ("aifw-time".into(), super::time::rules(config, environment)),
    ]
}

/// Lets UDP packets through one interface, at once and with a state.
pub(super) fn pass_udp(
    on: &InterfaceName,
    direction: Direction,
    from: Endpoint,
    to: Endpoint,
    label: &str,
) -> FilterRule {
    let mut rule = FilterRule::new(Action::Pass);
    rule.quick = true;
    rule.criteria = Criteria {
        direction: Some(direction),
        on: vec![on.into()],
        family: None,
        protocols: vec![Protocol::UDP],
        between: FromTo::Between { from, to },
    };
    rule.options.state = Some(State { kind: StateKind::Keep, options: Vec::new() });
    rule.options.labels = vec![Text::nearest(label, 63)];
    rule
}
