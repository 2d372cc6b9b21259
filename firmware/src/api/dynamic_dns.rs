//! `/ddns/*` (contract/network.md §4) and `/acme/dns-providers` (contract/certificates.md §5): records that follow
//! the appliance's addresses, and the accounts that they are changed through.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use futures_lite::future;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::services_common::{audit, note};
use super::settings::{at_once, changes};
use super::{Access, ApiError, Call, Reply, Route};
use crate::config::dynamic_dns::{
    AddressSource, DdnsRecord, DdnsRecordRequest, DdnsSettings, DdnsSettingsRequest, DnsProvider,
    DnsProviderRequest, ProviderKind, RecordType, adopt, may_delete,
};
use crate::config::{Config, Permission, Timestamp};
use crate::services::dynamic_dns::{LastRun, Outcome, RunStatus};

const READ: Access = Access::Needs(Permission::SettingsRead);
const WRITE: Access = Access::Needs(Permission::SettingsWrite);
/// A whole test of a provider.
const TEST: Duration = Duration::from_secs(30);

pub fn routes() -> Vec<Route> {
    let (records, record) = ("/ddns/records", "/ddns/records/{id}");
    let (providers, provider) = ("/acme/dns-providers", "/acme/dns-providers/{id}");
    vec![
        Route::new("GET", records, READ, "Records that follow an address, by name", list)
            .answers::<Vec<RecordView>>(200),
        Route::new("POST", records, WRITE, "Add a record", create)
            .takes::<DdnsRecordRequest>()
            .answers::<RecordView>(200),
        Route::new("PUT", record, WRITE, "Replace a record", replace)
            .takes::<DdnsRecordRequest>()
            .answers::<RecordView>(200),
        Route {
            success: (204, None),
            ..Route::new("DELETE", record, WRITE, "Delete a record; at the provider it stays", delete)
        },
        Route::new("POST", "/ddns/records/{id}/update", WRITE, "Bring a record up to date now", update)
            .answers::<Outcome>(200)
            .without_snapshot(),
        Route::new(
            "GET",
            "/ddns/config",
            READ,
            "How often addresses are looked at, and who tells them",
            config,
        )
        .answers::<SettingsView>(200),
        Route::new("PUT", "/ddns/config", WRITE, "Change it", configure)
            .takes::<DdnsSettingsRequest>()
            .answers::<SettingsView>(200),
        Route::new(
            "GET",
            providers,
            READ,
            "Accounts at DNS providers, by name, without secrets",
            providers_list,
        )
        .answers::<Vec<ProviderView>>(200),
        Route::new("POST", providers, WRITE, "Add an account", provider_create)
            .takes::<DnsProviderRequest>()
            .answers::<ProviderView>(200),
        Route::new("PUT", provider, WRITE, "Replace an account", provider_replace)
            .takes::<DnsProviderRequest>()
            .answers::<ProviderView>(200),
        Route {
            success: (204, None),
            ..Route::new("DELETE", provider, WRITE, "Delete an account that nothing uses", provider_delete)
        },
        Route::new(
            "POST",
            "/acme/dns-providers/{id}/test",
            WRITE,
            "Add and remove a TXT record in its zone",
            provider_test,
        )
        .answers::<Outcome>(200)
        .without_snapshot(),
    ]
}

/// A number in the path; what is none is refused.
fn number(call: &Call) -> Result<u64, ApiError> {
    call.param("id").parse().map_err(|_| ApiError::bad_request("id: expected a whole number"))
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct RecordView {
    id: u64,
    provider_id: u64,
    provider_name: String,
    hostname: String,
    record_type: RecordType,
    source: AddressSource,
    interface: Option<String>,
    explicit_ip: Option<IpAddr>,
    ttl: u32,
    enabled: bool,
    last_ip: Option<IpAddr>,
    last_ipv6: Option<IpAddr>,
    /// When it was last looked at.
    last_updated: Option<Timestamp>,
    /// Null: not yet.
    last_status: Option<RunStatus>,
    last_error: Option<String>,
}

fn view(call: &Call, config: &Config, record: &DdnsRecord) -> RecordView {
    let last: LastRun = call.app.services.dynamic_dns().last(record.id);
    let provider = config.dns_providers.get(&record.provider_id);
    RecordView {
        id: record.id,
        provider_id: record.provider_id,
        provider_name: provider
            .map_or_else(|| format!("#{}", record.provider_id), |provider| provider.name.clone()),
        hostname: record.hostname.clone(),
        record_type: record.record_type,
        source: record.source,
        interface: record.interface.as_ref().map(ToString::to_string),
        explicit_ip: record.explicit_ip,
        ttl: record.ttl,
        enabled: record.enabled,
        last_ip: last.ipv4,
        last_ipv6: last.ipv6,
        last_updated: last.at,
        last_status: last.status,
        last_error: last.error,
    }
}

async fn list(call: Call) -> Result<Reply, ApiError> {
    let config = call.app.store.snapshot().config.clone();
    let mut records: Vec<RecordView> =
        config.ddns_records.iter().map(|record| view(&call, &config, record)).collect();
    records.sort_by(|a, b| (&a.hostname, a.id).cmp(&(&b.hostname, b.id)));
    Ok(Reply::json(&records))
}

async fn stored(call: Call, record: &DdnsRecord) -> Result<Reply, ApiError> {
    let config = call.app.store.snapshot().config.clone();
    Ok(Reply::json(&view(&call, &config, record)))
}

async fn create(call: Call) -> Result<Reply, ApiError> {
    let request: DdnsRecordRequest = call.json()?;
    let change = move |config: &mut Config| {
        let id = config.ddns.last_record + 1;
        let record = request.record(id, false, config)?;
        std::sync::Arc::make_mut(&mut config.ddns).last_record = id;
        config.ddns_records.insert(record.clone());
        let what = format!("record {} for {} added", record.record_type.name(), record.hostname);
        Ok((record, what))
    };
    let record = at_once(&call, "ddns", change, adopt).await?;
    stored(call, &record).await
}

async fn replace(call: Call) -> Result<Reply, ApiError> {
    let id = number(&call)?;
    let missing = move || ApiError::not_found(format!("record {id}"));
    if !call.app.store.snapshot().config.ddns_records.contains(&id) {
        return Err(missing());
    }
    let request: DdnsRecordRequest = call.json()?;
    let change = move |config: &mut Config| {
        let before = config.ddns_records.get(&id).cloned().ok_or_else(missing)?;
        let record = request.record(id, true, config)?;
        let what = changes(&format!("record {}", before.hostname), &*before, &record);
        config.ddns_records.insert(record.clone());
        Ok((record, what))
    };
    let record = at_once(&call, "ddns", change, adopt).await?;
    call.app.services.dynamic_dns().retry_soon([id].into_iter());
    stored(call, &record).await
}

async fn delete(call: Call) -> Result<Reply, ApiError> {
    let id = number(&call)?;
    if !call.app.store.snapshot().config.ddns_records.contains(&id) {
        return Ok(Reply::empty(204));
    }
    let change = move |config: &mut Config| {
        let gone = config.ddns_records.remove(&id);
        let name = gone.map(|record| record.hostname.clone()).unwrap_or_default();
        Ok(((), format!("record {name} deleted")))
    };
    at_once(&call, "ddns", change, adopt).await?;
    Ok(Reply::empty(204))
}

async fn update(call: Call) -> Result<Reply, ApiError> {
    let id = number(&call)?;
    let config = call.app.store.snapshot().config.clone();
    let ddns = call.app.services.dynamic_dns().clone();
    let outcome = blocking::unblock(move || ddns.update(&config, id)).await;
    let outcome = outcome.ok_or_else(|| ApiError::not_found(format!("record {id}")))?;
    let told = format!("record {id} brought up to date: {}", outcome.message);
    note(&call.app, &call.author(), audit("ddns", &call.author(), told)).await?;
    Ok(Reply::json(&outcome))
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct SettingsView {
    poll_interval_secs: u32,
    ip_echo_url_v4: String,
    ip_echo_url_v6: String,
}

impl From<&DdnsSettings> for SettingsView {
    fn from(settings: &DdnsSettings) -> Self {
        Self {
            poll_interval_secs: settings.poll_interval_secs,
            ip_echo_url_v4: settings.ip_echo_url_v4.clone(),
            ip_echo_url_v6: settings.ip_echo_url_v6.clone(),
        }
    }
}

async fn config(call: Call) -> Result<Reply, ApiError> {
    Ok(Reply::json(&SettingsView::from(&*call.app.store.snapshot().config.ddns)))
}

async fn configure(call: Call) -> Result<Reply, ApiError> {
    let request: DdnsSettingsRequest = call.json()?;
    let change = move |config: &mut Config| {
        let changed = request.settings(&config.ddns)?;
        let what = changes("dynamic DNS", &*config.ddns, &changed);
        config.ddns = changed.into();
        Ok((config.ddns.clone(), what))
    };
    let settings = at_once(&call, "ddns", change, adopt).await?;
    Ok(Reply::json(&SettingsView::from(&*settings)))
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct ProviderView {
    id: u64,
    name: String,
    kind: ProviderKind,
    zone: String,
    has_token: bool,
    has_secret: bool,
    extra: BTreeMap<String, Value>,
}

impl From<&DnsProvider> for ProviderView {
    fn from(provider: &DnsProvider) -> Self {
        Self {
            id: provider.id,
            name: provider.name.clone(),
            kind: provider.kind,
            zone: provider.zone.clone(),
            has_token: !provider.api_token.is_empty(),
            has_secret: !provider.aws_secret_key.is_empty(),
            extra: provider.extra.clone(),
        }
    }
}

async fn providers_list(call: Call) -> Result<Reply, ApiError> {
    let snapshot = call.app.store.snapshot();
    let mut providers: Vec<ProviderView> =
        snapshot.config.dns_providers.iter().map(|provider| ProviderView::from(&**provider)).collect();
    providers.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
    Ok(Reply::json(&providers))
}

async fn provider_create(call: Call) -> Result<Reply, ApiError> {
    let request: DnsProviderRequest = call.json()?;
    let change = move |config: &mut Config| {
        let id = config.ddns.last_provider + 1;
        let provider = request.provider(id, None, config)?;
        std::sync::Arc::make_mut(&mut config.ddns).last_provider = id;
        config.dns_providers.insert(provider.clone());
        let what = format!("DNS provider {:?} ({}) added", provider.name, provider.kind.name());
        Ok((provider, what))
    };
    let provider = at_once(&call, "acme", change, adopt).await?;
    Ok(Reply::json(&ProviderView::from(&provider)))
}

async fn provider_replace(call: Call) -> Result<Reply, ApiError> {
    let id = number(&call)?;
    let missing = move || ApiError::not_found(format!("DNS provider {id}"));
    if !call.app.store.snapshot().config.dns_providers.contains(&id) {
        return Err(missing());
    }
    let request: DnsProviderRequest = call.json()?;
    let change = move |config: &mut Config| {
        let before = config.dns_providers.get(&id).cloned().ok_or_else(missing)?;
        let provider = request.provider(id, Some(&before), config)?;
        let outside = config.ddns_records.iter().find(|record| {
            record.provider_id == id && !provider.has(&record.hostname) && before.has(&record.hostname)
        });
        if let Some(record) = outside {
            let text = format!("zone: the record {} would be outside of it", record.hostname);
            return Err(ApiError::conflict(text));
        }
        let what = changes(&format!("DNS provider {:?}", before.name), &*before, &provider);
        config.dns_providers.insert(provider.clone());
        Ok((provider, what))
    };
    let provider = at_once(&call, "acme", change, adopt).await?;
    let config = call.app.store.snapshot().config.clone();
    let users = config.ddns_records.iter().filter(|record| record.provider_id == id).map(|record| record.id);
    call.app.services.dynamic_dns().retry_soon(users);
    Ok(Reply::json(&ProviderView::from(&provider)))
}

async fn provider_delete(call: Call) -> Result<Reply, ApiError> {
    let id = number(&call)?;
    let change = move |config: &mut Config| {
        may_delete(&config.ddns_records, id)?;
        let gone = config.dns_providers.remove(&id);
        let gone = gone.ok_or_else(|| ApiError::not_found(format!("DNS provider {id}")))?;
        Ok(((), format!("DNS provider {:?} deleted", gone.name)))
    };
    at_once(&call, "acme", change, adopt).await?;
    Ok(Reply::empty(204))
}

async fn provider_test(call: Call) -> Result<Reply, ApiError> {
    let id = number(&call)?;
    let provider = call.app.store.snapshot().config.dns_providers.get(&id).cloned();
    let Some(provider) = provider else {
        return Ok(Reply::json(&Outcome { ok: false, message: "not found".into() }));
    };
    let ddns = call.app.services.dynamic_dns().clone();
    let tested = provider.clone();
    let run = blocking::unblock(move || ddns.test(&tested));
    let patience = async {
        async_io::Timer::after(TEST).await;
        Outcome { ok: false, message: "no end after 30 s".into() }
    };
    let outcome = future::or(run, patience).await;
    let told = format!("DNS provider {:?} tested: {}", provider.name, outcome.message);
    note(&call.app, &call.author(), audit("acme", &call.author(), told)).await?;
    Ok(Reply::json(&outcome))
}
