//! Language-model providers, as far as the settings need them: whether one answers, and which models it has. A key is
//! sent in a header to the endpoint's own server only; redirects are not followed, certificates are checked. Blocks.

use std::time::Duration;

use serde_json::Value;

use crate::config::ai::{AiProvider, endpoint};
use crate::config::reach::Reach;
use crate::config::{Secret, secret};
use crate::platform::fetch;

const CONNECT: Duration = Duration::from_secs(5);
const WHOLE: Duration = Duration::from_secs(15);
const LARGEST: u64 = 4 << 20;

/// Models that are named where the provider does not list them.
const CLAUDE: [&str; 3] = ["claude-opus-4-1", "claude-sonnet-4-5", "claude-haiku-4-5"];

/// Why a provider did not answer as it should.
#[derive(Debug, thiserror::Error)]
pub enum AiError {
    #[error("no endpoint is configured for {0}")]
    NoEndpoint(&'static str),
    #[error("{0}")]
    Endpoint(String),
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    #[error("answered {status}{}", if said.is_empty() { String::new() } else { format!(": {said}") })]
    Status { status: u16, said: String },
    #[error("the answer is no list of models")]
    Answer,
}

impl AiError {
    /// The status as text, `000` where there was none.
    pub fn status(&self) -> String {
        match self {
            Self::Status { status, .. } => status.to_string(),
            Self::Answer => "200".into(),
            _ => "000".into(),
        }
    }
}

/// Where a provider lists its models.
fn address(provider: AiProvider, endpoint: &str) -> String {
    let base = endpoint.trim_end_matches('/');
    match provider {
        AiProvider::OpenAi | AiProvider::LmStudio => format!("{base}/models"),
        AiProvider::Ollama => format!("{base}/api/tags"),
        AiProvider::Claude => format!("{base}/v1/models"),
    }
}

/// The names in a list of models.
fn names(provider: AiProvider, answer: &Value) -> Option<Vec<String>> {
    let (list, name) = match provider {
        AiProvider::Ollama => ("models", "name"),
        _ => ("data", "id"),
    };
    let rows = answer.get(list)?.as_array()?;
    Some(rows.iter().filter_map(|row| row[name].as_str()).map(str::to_owned).collect())
}

/// Asks for the list of models. Blocks.
pub fn models(provider: AiProvider, place: &str, key: &Secret) -> Result<Vec<String>, AiError> {
    if place.is_empty() {
        return Err(AiError::NoEndpoint(provider.name()));
    }
    endpoint(place).map_err(|invalid| AiError::Endpoint(invalid.to_string()))?;
    let config = ureq::Agent::config_builder()
        .timeout_connect(Some(CONNECT))
        .timeout_global(Some(WHOLE))
        .max_redirects(0)
        .http_status_as_error(false)
        .proxy(None)
        .user_agent(concat!("aifw/", env!("CARGO_PKG_VERSION")))
        .build();
    let mut request = fetch::agent(config, Reach::Inside).get(address(provider, place));
    if !key.is_empty() {
        request = match provider {
            AiProvider::Claude => request.header("x-api-key", key.expose()),
            _ => request.header("authorization", format!("Bearer {}", key.expose())),
        };
    }
    if provider == AiProvider::Claude {
        request = request.header("anthropic-version", "2023-06-01");
    }
    let clean = |text: &str| secret::without(text, [key]);
    let mut response = request.call().map_err(|error| AiError::Unreachable(clean(&error.to_string())))?;
    let status = response.status().as_u16();
    let body = response.body_mut().with_config().limit(LARGEST).read_to_string();
    let body = body.map_err(|error| AiError::Unreachable(clean(&error.to_string())))?;
    let answer: Option<Value> = serde_json::from_str(&body).ok();
    if !(200..300).contains(&status) {
        let said = answer.as_ref().and_then(|answer| answer.pointer("/error/message"));
        let said: String = said.and_then(Value::as_str).unwrap_or_default().chars().take(200).collect();
        return Err(AiError::Status { status, said: clean(&said) });
    }
    answer.and_then(|answer| names(provider, &answer)).ok_or(AiError::Answer)
}

/// Models that are known without asking.
pub fn known_models(provider: AiProvider) -> Vec<String> {
    match provider {
        AiProvider::Claude => CLAUDE.map(str::to_owned).to_vec(),
        _ => Vec::new(),
    }
}
