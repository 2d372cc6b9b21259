//! What the intrusion detection is given.

use crate::compile::Environment;
use crate::config::Config;
use crate::pf::ast::Ruleset;

/// Its lines of pf.
pub fn rules(_: &Config, _: &Environment) -> Ruleset {
    Ruleset { statements: Vec::new() }
}
