//! The services' part of a configuration document: for each kind of object its rows, as they are stored. One
//! piece of code for all of them; what a row must fulfil is its type's business.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::document::SECTION;
use crate::config::proxy::{CertResolver, Middleware, Row, RowBody};
use crate::config::{Config, Document, Invalid, ServiceKind, secret};

/// Kind of object → key (`-` for settings, of which there is one) → the object.
pub type ServiceRows = BTreeMap<String, BTreeMap<String, ServiceRow>>;

/// An object as it is stored. Shows its secrets where a [`Secret`](crate::config::Secret) does.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceRow {
    full: Value,
    shown: Value,
}

impl Serialize for ServiceRow {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if secret::are_hidden() { self.shown.serialize(s) } else { self.full.serialize(s) }
    }
}

impl<'de> Deserialize<'de> for ServiceRow {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let full = Value::deserialize(d)?;
        Ok(Self { shown: full.clone(), full })
    }
}

impl JsonSchema for ServiceRow {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        Value::schema_name()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        Value::json_schema(generator)
    }
}

/// Of the DHCP server there is a section of its own.
const SERVICES: [ServiceKind; 4] =
    [ServiceKind::Dns, ServiceKind::Time, ServiceKind::Proxy, ServiceKind::Ids];

/// A configuration that holds the services' part of another and nothing else.
fn only(config: &Config) -> Config {
    let mut services = Config::default();
    SERVICES.iter().for_each(|service| service.adopt(config, &mut services));
    services
}

/// All rows that are not as they are by default.
pub fn rows(config: &Config) -> ServiceRows {
    let services = only(config);
    let changes = || services.row_changes_since(&Config::default());
    let value = |row: Option<Vec<u8>>| row.and_then(|row| serde_json::from_slice::<Value>(&row).ok());
    let shown: BTreeMap<_, _> =
        changes().into_iter().map(|change| ((change.kind, change.key), change.after)).collect();
    let mut rows = ServiceRows::new();
    for change in secret::revealing(changes) {
        let name = (change.kind, change.key);
        let shown = shown.get(&name).cloned().and_then(value).unwrap_or_default();
        if let Some(full) = value(change.after) {
            rows.entry(name.0.to_owned()).or_default().insert(name.1, ServiceRow { full, shown });
        }
    }
    rows
}

/// Gives `config` the services' part that the rows tell; kinds that they leave out become as by default.
/// Secrets that the rows have masked are those of `base`.
pub fn put(rows: &ServiceRows, base: &Config, config: &mut Config) -> Result<(), Invalid> {
    let mut services = Config::default();
    for (kind, objects) in rows {
        for (key, value) in objects {
            let field = || match key.as_str() {
                SECTION => format!("services.{kind}"),
                key => format!("services.{kind}.{key}"),
            };
            let row = serde_json::to_vec(&value.full).unwrap_or_default();
            services
                .put_row(kind, key, Some(&row))
                .map_err(|error| Invalid::new(field(), error.to_string()))?;
        }
    }
    let foreign = services.row_changes_since(&only(&services));
    if let Some(kind) = foreign.iter().map(|change| change.kind).collect::<BTreeSet<_>>().first() {
        return Err(Invalid::new(format!("services.{kind}"), "expected an object of a service"));
    }
    fill_in::<Middleware>(&mut services, base);
    fill_in::<CertResolver>(&mut services, base);
    SERVICES.iter().for_each(|service| service.adopt(&services, config));
    Ok(())
}

/// Puts the secrets of `base` where a document without them has masks.
fn fill_in<B: RowBody>(services: &mut Config, base: &Config) {
    let rows: Vec<Row<B>> = B::rows(services).iter().map(|row| (**row).clone()).collect();
    for mut row in rows {
        let stored = B::rows(base).get(&row.id).cloned();
        if let Some(text) = row.body.text_mut() {
            *text = text.imported(stored.as_ref().and_then(|stored| stored.body.text()));
            B::rows_mut(services).insert(row);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_services_part_comes_back_and_nothing_else_is_taken() {
        let mut config = Config::default();
        ServiceKind::Time.set_enabled(&mut config, true);
        ServiceKind::Ids.set_enabled(&mut config, true);
        let rows = rows(&config);
        let mut back = Config::default();
        put(&rows, &Config::default(), &mut back).unwrap();
        assert!(back == config);
        let foreign = serde_json::from_str(r#"{"firewall": {"-": {"max_states": 5}}}"#).unwrap();
        assert!(put(&foreign, &Config::default(), &mut back).is_err());
        let wrong = serde_json::from_str(r#"{"time": {"-": {"enabled": "perhaps"}}}"#).unwrap();
        assert!(
            put(&wrong, &Config::default(), &mut back).unwrap_err().to_string().starts_with("services.time")
        );
    }
}
