//! What the appliance tells others, in a configuration document: mail, metrics, language models, dynamic DNS.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::convert::{objects, or_stored, unique};
use crate::config::ai::AiSettings;
use crate::config::dynamic_dns::{DdnsRecord, DdnsSettings, DnsProvider};
use crate::config::mail::Mail;
use crate::config::preferences::Preferences;
use crate::config::valkey::Valkey;
use crate::config::{Config, Invalid};

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ApplianceSection {
    pub mail: Mail,
    pub valkey: Valkey,
    pub ai: AiSettings,
    pub preferences: Preferences,
    pub dns_providers: Vec<DnsProvider>,
    pub ddns: DdnsSettings,
    pub ddns_records: Vec<DdnsRecord>,
}

impl ApplianceSection {
    pub fn from_config(config: &Config) -> Self {
        Self {
            mail: (*config.mail).clone(),
            valkey: (*config.valkey).clone(),
            ai: (*config.ai).clone(),
            preferences: (*config.preferences).clone(),
            dns_providers: objects(&config.dns_providers),
            ddns: (*config.ddns).clone(),
            ddns_records: objects(&config.ddns_records),
        }
    }

    /// Gives `config` what the section tells. A secret that it leaves out stays as in `base` where it goes to the
    /// same place.
    pub fn put(&self, base: &Config, config: &mut Config) -> Result<(), Invalid> {
        let mut mail = self.mail.clone();
        if mail.host.eq_ignore_ascii_case(&base.mail.host) && mail.username == base.mail.username {
            mail.password = or_stored(&mail.password, Some(&base.mail.password));
        }
        let mut valkey = self.valkey.clone();
        if valkey.url == base.valkey.url {
            valkey.password = or_stored(&valkey.password, Some(&base.valkey.password));
        }
        let mut ai = self.ai.clone();
        for (name, access) in &mut ai.providers {
            let stored = base.ai.providers.get(name);
            let stored = stored.filter(|stored| stored.endpoint == access.endpoint);
            access.api_key = or_stored(&access.api_key, stored.map(|stored| &stored.api_key));
        }
        let mut preferences = self.preferences.clone();
        for (section, values) in &mut preferences.sections {
            for (name, value) in values {
                let stored = base.preferences.sections.get(section).and_then(|values| values.get(name));
                let stored = stored.filter(|stored| stored.text == value.text);
                value.password = or_stored(&value.password, stored.map(|stored| &stored.password));
            }
        }
        let providers = self.dns_providers.iter().map(|provider| {
            let stored = base.dns_providers.get(&provider.id).filter(|stored| stored.kind == provider.kind);
            DnsProvider {
                api_token: or_stored(&provider.api_token, stored.map(|stored| &stored.api_token)),
                aws_secret_key: or_stored(
                    &provider.aws_secret_key,
                    stored.map(|stored| &stored.aws_secret_key),
                ),
                ..provider.clone()
            }
        });
        config.dns_providers = unique("appliance.dns_providers", providers)?;
        config.ddns_records = unique("appliance.ddns_records", self.ddns_records.iter().cloned())?;
        for (index, record) in self.ddns_records.iter().enumerate() {
            if !config.dns_providers.contains(&record.provider_id) {
                let field = format!("appliance.ddns_records[{index}].provider_id");
                return Err(Invalid::new(field, "expected the number of a DNS provider"));
            }
        }
        let mut ddns = self.ddns.clone();
        let greatest = |ids: Vec<u64>| ids.into_iter().max().unwrap_or(0);
        let providers = greatest(self.dns_providers.iter().map(|provider| provider.id).collect());
        let records = greatest(self.ddns_records.iter().map(|record| record.id).collect());
        ddns.last_provider = ddns.last_provider.max(base.ddns.last_provider).max(providers);
        ddns.last_record = ddns.last_record.max(base.ddns.last_record).max(records);
        config.mail = mail.into();
        config.valkey = valkey.into();
        config.ai = ai.into();
        config.preferences = preferences.into();
        config.ddns = ddns.into();
        Ok(())
    }
}
