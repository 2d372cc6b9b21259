//! What the services need of pf: an anchor each, loaded with the firewall's own.

use crate::compile::Environment;
use crate::config::Config;
use crate::pf::ast::Ruleset;

/// Name and rules of each service's anchor. They stand in `FILTER_ANCHORS`.
pub fn service_anchors(config: &Config, environment: &Environment) -> Vec<(String, Ruleset)> {
    vec![
        ("aifw-ids".into(), super::ids::rules(config, environment)),
        ("aifw-time".into(), super::time::rules(config, environment)),
    ]
}
