//! Language-model providers: where they are, their models, whether they answer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{READ, WRITE, at_once, changes};
use crate::api::resource::Message;
use crate::api::services_common::{audit, note};
use crate::api::{ApiError, Call, Reply, Route};
use crate::config::ai::{AiProvider, AiRequest, endpoint, same_server};
use crate::config::{BadValue, Config, Secret};
use crate::services::ai::{AiError, known_models, models};

pub fn routes() -> Vec<Route> {
    vec![
        Route::new("GET", "/settings/ai", READ, "Language-model providers, without their keys", get)
            .answers::<View>(200),
        Route::new("PUT", "/settings/ai", WRITE, "Change providers", put)
            .takes::<AiRequest>()
            .answers::<Message>(200),
        Route::new("GET", "/settings/ai/models", READ, "Models that a provider has", list_models)
            .answers::<Models>(200)
            .with_query(&[("provider", "openai, claude, lm_studio or ollama")]),
        Route::new("POST", "/settings/ai/test", WRITE, "Ask a provider once", test)
            .takes::<TestRequest>()
            .answers::<TestAnswer>(200)
            .without_snapshot(),
    ]
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct ProviderView {
    provider: &'static str,
    enabled: bool,
    api_key_set: bool,
    endpoint: String,
    model: String,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct View {
    enabled: bool,
    /// `""` = none.
    active_provider: &'static str,
    providers: Vec<ProviderView>,
}

async fn get(call: Call) -> Result<Reply, ApiError> {
    let settings = call.app.store.snapshot().config.ai.clone();
    let view = |provider: AiProvider| {
        let access = settings.providers.get(&provider).cloned().unwrap_or_default();
        ProviderView {
            provider: provider.name(),
            enabled: access.enabled,
            api_key_set: !access.api_key.is_empty(),
            endpoint: access.endpoint,
            model: access.model,
        }
    };
    Ok(Reply::json(&View {
        enabled: settings.enabled,
        active_provider: settings.active_provider.map_or("", AiProvider::name),
        providers: AiProvider::ALL.into_iter().map(view).collect(),
    }))
}

async fn put(call: Call) -> Result<Reply, ApiError> {
    let request: AiRequest = call.json()?;
    let change = move |config: &mut Config| {
        let changed = request.change(&config.ai)?;
        let what = changes("AI settings", &*config.ai, &changed);
        config.ai = changed.into();
        Ok(((), what))
    };
    at_once(&call, "settings", change, |from, into| into.ai = from.ai.clone()).await?;
    Ok(Reply::message("AI settings saved"))
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Models {
    models: Vec<String>,
    /// Why there are none, or only those that are known without asking.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

fn named(text: &str) -> Result<AiProvider, ApiError> {
    Ok(text.parse::<AiProvider>().map_err(|bad: BadValue| bad.field("provider"))?)
}

async fn list_models(call: Call) -> Result<Reply, ApiError> {
    let provider = named(call.query("provider").unwrap_or_default())?;
    let access = call.app.store.snapshot().config.ai.providers.get(&provider).cloned().unwrap_or_default();
    let found = blocking::unblock(move || models(provider, &access.endpoint, &access.api_key)).await;
    Ok(Reply::json(&match found {
        Ok(models) => Models { models, error: None },
        Err(error @ AiError::NoEndpoint(_)) => Models { models: Vec::new(), error: Some(error.to_string()) },
        Err(error) => Models { models: known_models(provider), error: Some(error.to_string()) },
    }))
}

/// What is left out is taken from what is stored.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct TestRequest {
    provider: String,
    #[serde(default)]
    endpoint: Option<String>,
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    api_key: Option<Secret>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct TestAnswer {
    success: bool,
    /// `000` = it cannot be reached.
    status_code: String,
    endpoint: String,
    model: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

async fn test(call: Call) -> Result<Reply, ApiError> {
    let request: TestRequest = call.json()?;
    let provider = named(&request.provider)?;
    let stored = call.app.store.snapshot().config.ai.providers.get(&provider).cloned().unwrap_or_default();
    let given =
        |text: Option<String>| text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let place = given(request.endpoint).unwrap_or_else(|| stored.endpoint.clone());
    if !place.is_empty() {
        endpoint(&place)?;
    }
    let ours = same_server(&place, provider.effective(&stored.endpoint));
    let key = request.api_key.filter(|key| !key.is_empty());
    let withheld = key.is_none() && !ours && !stored.api_key.is_empty();
    // A stored key goes to the server that it was stored for, and nowhere else.
    let key = key.unwrap_or_else(|| if ours { stored.api_key.clone() } else { Secret::default() });
    let asked = place.clone();
    let found = blocking::unblock(move || models(provider, &asked, &key)).await;
    let (success, status_code, mut error) = match found {
        Ok(_) => (true, "200".into(), None),
        // Something answers with success; that it lists no models is another matter.
        Err(AiError::Answer) => (true, "200".into(), None),
        Err(error) => (false, error.status(), Some(error.to_string())),
    };
    if withheld && let Some(error) = &mut error {
        error.push_str("; the stored key is for another server and was not sent");
    }
    let told = format!("AI provider {} tested: {status_code}", provider.name());
    note(&call.app, &call.author(), audit("settings", &call.author(), told)).await?;
    Ok(Reply::json(&TestAnswer { success, status_code, endpoint: place, model: stored.model, error }))
}
