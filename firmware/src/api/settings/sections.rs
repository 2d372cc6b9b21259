//! Sections of settings that pages keep for themselves.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{READ, WRITE, at_once, changes};
use crate::api::resource::Message;
use crate::api::{ApiError, Call, Reply, Route};
use crate::config::Config;
use crate::config::preferences::section;

pub fn routes() -> Vec<Route> {
    vec![
        Route::new("GET", "/settings/{section}", READ, "Settings of a page, by name", get)
            .answers::<BTreeMap<String, String>>(200),
        Route::new("PUT", "/settings/{section}", WRITE, "Change settings of a page: metrics or api", put)
            .takes::<BTreeMap<String, Value>>()
            .answers::<Message>(200),
    ]
}

async fn get(call: Call) -> Result<Reply, ApiError> {
    let preferences = call.app.store.snapshot().config.preferences.clone();
    let shown = section(call.param("section")).map(|name| preferences.shown(name));
    Ok(Reply::json(&shown.unwrap_or_default()))
}

async fn put(call: Call) -> Result<Reply, ApiError> {
    let unknown = || ApiError::bad_request("section: expected metrics, api or api_server");
    let name = section(call.param("section")).ok_or_else(unknown)?;
    let values: Map<String, Value> = call.json()?;
    let change = move |config: &mut Config| {
        let changed = config.preferences.change(name, &values)?;
        let what = changes(&format!("settings of {name}"), &*config.preferences, &changed);
        config.preferences = changed.into();
        Ok(((), what))
    };
    at_once(&call, "settings", change, |from, into| into.preferences = from.preferences.clone()).await?;
    Ok(Reply::message(format!("Settings of {name} saved")))
}
