//! The time service (contract/time.md): settings here, the servers that it asks in `source`.

mod settings;
mod source;

pub use settings::{TimeSettings, TimeSettingsRequest};
pub use source::{MOST_SOURCES, SourceAddress, TimeSource, TimeSourceRequest, seeds};

use super::Config;

/// Takes over the part of the configuration that is the time service's.
pub(super) fn adopt(from: &Config, into: &mut Config) {
    into.time = from.time.clone();
    into.time_sources = from.time_sources.clone();
}
