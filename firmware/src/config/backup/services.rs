//! The services' part of a configuration document: for each kind of object its rows, as they are stored. One
//! piece of code for all of them; what a row must fulfil is its type's business.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::config::document::SECTION;
use crate::config::{Config, Document, Invalid, ServiceKind};

/// Kind of object → key (`-` for settings, of which there is one) → the object.
pub type ServiceRows = BTreeMap<String, BTreeMap<String, Value>>;

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
    let mut rows = ServiceRows::new();
    for change in only(config).row_changes_since(&Config::default()) {
        if let Some(value) = change.after.and_then(|row| serde_json::from_slice(&row).ok()) {
            rows.entry(change.kind.to_owned()).or_default().insert(change.key, value);
        }
    }
    rows
}

/// Gives `config` the services' part that the rows tell; kinds that they leave out become as by default.
pub fn put(rows: &ServiceRows, config: &mut Config) -> Result<(), Invalid> {
    let mut services = Config::default();
    for (kind, objects) in rows {
        for (key, value) in objects {
            let field = || match key.as_str() {
                SECTION => format!("services.{kind}"),
                key => format!("services.{kind}.{key}"),
            };
            let row = serde_json::to_vec(value).unwrap_or_default();
            services
                .put_row(kind, key, Some(&row))
                .map_err(|error| Invalid::new(field(), error.to_string()))?;
        }
    }
    let foreign = services.row_changes_since(&only(&services));
    if let Some(kind) = foreign.iter().map(|change| change.kind).collect::<BTreeSet<_>>().first() {
        return Err(Invalid::new(format!("services.{kind}"), "expected an object of a service"));
    }
    SERVICES.iter().for_each(|service| service.adopt(&services, config));
    Ok(())
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
        put(&rows, &mut back).unwrap();
        assert!(back == config);
        let foreign = serde_json::from_str(r#"{"firewall": {"-": {"max_states": 5}}}"#).unwrap();
        assert!(put(&foreign, &mut back).is_err());
        let wrong = serde_json::from_str(r#"{"time": {"-": {"enabled": "perhaps"}}}"#).unwrap();
        assert!(put(&wrong, &mut back).unwrap_err().to_string().starts_with("services.time"));
    }
}
