//! Dynamic DNS (contract/network.md §4): records that follow the appliance's addresses, and the accounts at DNS
//! providers that they are changed through (contract/certificates.md §5), which certificates use as well.

mod provider;
mod record;
mod settings;

pub use provider::{DnsProvider, DnsProviderRequest, ProviderKind, TSIG_ALGORITHMS, may_delete};
pub use record::{AddressSource, DdnsRecord, DdnsRecordRequest, RecordType};
pub use settings::{DdnsSettings, DdnsSettingsRequest};

use super::Config;

/// Takes over this area's part of a configuration.
pub fn adopt(from: &Config, into: &mut Config) {
    into.dns_providers = from.dns_providers.clone();
    into.ddns_records = from.ddns_records.clone();
    into.ddns = from.ddns.clone();
}
