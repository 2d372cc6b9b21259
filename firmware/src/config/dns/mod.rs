//! The resolver that serves the networks behind the appliance (contract/dns.md): its settings, and which parts of
//! the configuration are its own.

pub mod blocking;
pub mod cron;
pub mod custom;
pub mod names;
pub mod records;
pub mod settings;

pub use blocking::{Blocking, BlocklistSource, Pattern, PatternEntry};
pub use records::{Acl, AclAction, DomainOverride, HostOverride, RecordType};
pub use settings::{Backend, DnsResolver};

use super::Config;

/// Takes over the part of the configuration that is the resolver's.
pub(super) fn adopt(from: &Config, into: &mut Config) {
    into.dns_resolver = from.dns_resolver.clone();
    into.dns_hosts = from.dns_hosts.clone();
    into.dns_domains = from.dns_domains.clone();
    into.dns_acls = from.dns_acls.clone();
    into.dns_blocking = from.dns_blocking.clone();
    into.dns_blocklists = from.dns_blocklists.clone();
    into.dns_custom_blocks = from.dns_custom_blocks.clone();
    into.dns_whitelist = from.dns_whitelist.clone();
}
