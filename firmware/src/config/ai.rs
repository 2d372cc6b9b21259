//! Language-model providers (contract/system.md §3.4): where each is, its model and its key. A stored key belongs to
//! the place that it was stored for: with another one it is not kept.

use std::collections::BTreeMap;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use super::request::check_text;
use super::{BadValue, Invalid, Secret};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AiProvider {
    #[serde(rename = "openai")]
    OpenAi,
    Claude,
    LmStudio,
    Ollama,
}

impl AiProvider {
    /// In the order in which they are shown.
    pub const ALL: [Self; 4] = [Self::OpenAi, Self::Claude, Self::LmStudio, Self::Ollama];

    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Claude => "claude",
            Self::LmStudio => "lm_studio",
            Self::Ollama => "ollama",
        }
    }

    /// Where it is as long as nothing else is said.
    pub const fn usual_endpoint(self) -> &'static str {
        match self {
            Self::OpenAi => "https://api.openai.com/v1",
            Self::Claude => "https://api.anthropic.com",
            Self::LmStudio => "http://localhost:1234/v1",
            Self::Ollama => "http://localhost:11434",
        }
    }

    /// The server that a key is for when this endpoint is stored.
    pub fn effective(self, endpoint: &str) -> &str {
        if endpoint.is_empty() { self.usual_endpoint() } else { endpoint }
    }
}

impl FromStr for AiProvider {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        let found = Self::ALL.into_iter().find(|provider| provider.name() == text);
        found.ok_or_else(|| BadValue::new("expected openai, claude, lm_studio or ollama"))
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AiAccess {
    pub enabled: bool,
    pub api_key: Secret,
    /// `""` = none.
    pub endpoint: String,
    pub model: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AiSettings {
    pub enabled: bool,
    pub active_provider: Option<AiProvider>,
    pub providers: BTreeMap<AiProvider, AiAccess>,
}

/// What is absent stays.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AiRequest {
    enabled: Option<bool>,
    /// One of the four, or `""`.
    active_provider: Option<String>,
    /// Whose are the fields below.
    provider: Option<String>,
    /// `""` deletes it.
    #[schemars(with = "Option<String>")]
    api_key: Option<Secret>,
    endpoint: Option<String>,
    model: Option<String>,
    provider_enabled: Option<bool>,
}

/// An address of a provider: http or https, no credentials in it.
pub fn endpoint(text: &str) -> Result<Url, Invalid> {
    let refuse = || Invalid::new("endpoint", "expected a URL with http or https, without user and password");
    let url = Url::parse(text).map_err(|_| refuse())?;
    let fits = ["http", "https"].contains(&url.scheme())
        && url.host_str().is_some_and(|host| !host.is_empty())
        && url.username().is_empty()
        && url.password().is_none()
        && url.fragment().is_none();
    if fits { Ok(url) } else { Err(refuse()) }
}

/// Whether two addresses lead to the same server in the same way.
pub fn same_server(one: &str, other: &str) -> bool {
    match (Url::parse(one), Url::parse(other)) {
        (Ok(one), Ok(other)) => one.origin() == other.origin() && one.origin().is_tuple(),
        _ => false,
    }
}

impl AiRequest {
    pub fn change(self, stored: &AiSettings) -> Result<AiSettings, Invalid> {
        let mut settings = stored.clone();
        if let Some(enabled) = self.enabled {
            settings.enabled = enabled;
        }
        if let Some(name) = self.active_provider {
            settings.active_provider = match name.as_str() {
                "" => None,
                name => Some(name.parse().map_err(|bad: BadValue| bad.field("active_provider"))?),
            };
        }
        let details = [
            self.api_key.is_some(),
            self.endpoint.is_some(),
            self.model.is_some(),
            self.provider_enabled.is_some(),
        ];
        let Some(name) = self.provider else {
            return match details.contains(&true) {
                true => Err(Invalid::new("provider", "expected, since there are fields of a provider")),
                false => Ok(settings),
            };
        };
        let provider: AiProvider = name.parse().map_err(|bad: BadValue| bad.field("provider"))?;
        let access = settings.providers.entry(provider).or_default();
        if let Some(text) = self.endpoint.map(|text| text.trim().to_owned()) {
            if !text.is_empty() {
                endpoint(&text)?;
            }
            let moved = !same_server(provider.effective(&text), provider.effective(&access.endpoint));
            if moved && !access.api_key.is_empty() && self.api_key.is_none() {
                return Err(Invalid::new(
                    "api_key",
                    format!(
                        "expected, or \"\" for none: the stored one is for {}",
                        provider.effective(&access.endpoint)
                    ),
                ));
            }
            access.endpoint = text;
        }
        if let Some(key) = self.api_key {
            if key.expose().chars().any(|c| c.is_control() || c.is_whitespace()) {
                return Err(Invalid::new("api_key", "expected a key without blanks and line breaks"));
            }
            access.api_key = key;
        }
        if let Some(model) = self.model {
            check_text("model", &model, 200)?;
            access.model = model;
        }
        if let Some(enabled) = self.provider_enabled {
            access.enabled = enabled;
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::request;

    fn put(body: &str, stored: &AiSettings) -> Result<AiSettings, Invalid> {
        request::parse::<AiRequest>(body.as_bytes())?.change(stored)
    }

    #[test]
    fn a_key_stays_with_its_server() {
        let first = put(r#"{"provider":"openai","api_key":"marked"}"#, &AiSettings::default()).unwrap();
        let same = put(r#"{"provider":"openai","endpoint":"https://api.openai.com/v2"}"#, &first).unwrap();
        assert_eq!(same.providers[&AiProvider::OpenAi].api_key.expose(), "marked");
        for elsewhere in
            ["https://evil.example/v1", "http://api.openai.com/v1", "https://api.openai.com:8443"]
        {
            let body = format!(r#"{{"provider":"openai","endpoint":"{elsewhere}"}}"#);
            let refused = put(&body, &same).unwrap_err();
            assert_eq!(refused.field, "api_key", "{elsewhere}");
            assert!(!refused.to_string().contains("marked"));
        }
        let moved = put(r#"{"provider":"openai","endpoint":"http://10.0.0.1:1/v1","api_key":""}"#, &same);
        assert!(moved.unwrap().providers[&AiProvider::OpenAi].api_key.is_empty());
        for (body, field) in [
            (r#"{"provider":"skynet"}"#, "provider"),
            (r#"{"active_provider":"skynet"}"#, "active_provider"),
            (r#"{"provider":"ollama","endpoint":"ftp://x"}"#, "endpoint"),
            (r#"{"provider":"ollama","endpoint":"http://u:p@x/"}"#, "endpoint"),
            (r#"{"model":"x"}"#, "provider"),
            (r#"{"enabled":"yes"}"#, "enabled"),
        ] {
            assert_eq!(put(body, &same).unwrap_err().field, field, "{body}");
        }
    }
}
