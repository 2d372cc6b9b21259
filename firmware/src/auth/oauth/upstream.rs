//! Requests to identity providers: https, one try, short, small, no redirects followed. What comes back is a value or
//! a refusal that says which step failed, without what the provider wrote.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use async_lock::Semaphore;
use serde::Deserialize;
use serde_json::Value;
use url::{Host, Url};

use super::super::AuthError;

const WHOLE_REQUEST: Duration = Duration::from_secs(15);
const CONNECT: Duration = Duration::from_secs(5);
/// Largest answer that is read, in bytes.
const MAX_ANSWER: u64 = 1 << 20;
/// Requests under way at once; each takes a thread of the blocking pool.
const AT_ONCE: usize = 8;

/// Speaks to providers.
pub struct Upstream {
    agent: ureq::Agent,
    permits: Arc<Semaphore>,
}

impl Default for Upstream {
    fn default() -> Self {
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(WHOLE_REQUEST))
            .timeout_connect(Some(CONNECT))
            .max_redirects(0)
            .http_status_as_error(false)
            .max_response_header_size(64 * 1024)
            .proxy(None)
            .user_agent(concat!("aifw/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        Self { agent, permits: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

/// The token endpoint's answer (RFC 6749 §5.1).
#[derive(Deserialize)]
pub struct Tokens {
    pub access_token: String,
    #[serde(default)]
    pub id_token: Option<String>,
}

/// An endpoint's address: https, or, where `insecure_loopback`, http to this host itself.
pub fn endpoint(text: &str, insecure_loopback: bool) -> Result<Url, AuthError> {
    let refuse = || AuthError::Upstream("the provider names an address that is not https".into());
    let url = Url::parse(text).map_err(|_| refuse())?;
    let plain = url.scheme() == "http" && insecure_loopback && is_loopback(&url);
    let named = url.host_str().is_some_and(|host| !host.is_empty());
    let bare = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    if named && bare && (url.scheme() == "https" || plain) { Ok(url) } else { Err(refuse()) }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

impl Upstream {
    /// A JSON document.
    pub async fn get(&self, step: &'static str, url: Url, bearer: Option<&str>) -> Result<Value, AuthError> {
        let mut request = self.agent.get(url.as_str()).header("accept", "application/json");
        if let Some(token) = bearer {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        self.run(step, move || request.call()).await
    }

    /// Exchanges a code for tokens (RFC 6749 §4.1.3 with RFC 7636 §4.5).
    pub async fn exchange(&self, url: Url, form: Vec<(&'static str, String)>) -> Result<Tokens, AuthError> {
        let step = "token exchange";
        let request = self.agent.post(url.as_str()).header("accept", "application/json");
        let answer = self.run(step, move || request.send_form(form)).await?;
        serde_json::from_value(answer).map_err(|_| failed(step, "no access token in the answer"))
    }

    async fn run(
        &self,
        step: &'static str,
        call: impl FnOnce() -> Result<ureq::http::Response<ureq::Body>, ureq::Error> + Send + 'static,
    ) -> Result<Value, AuthError> {
        let permit = self.permits.acquire_arc().await;
        blocking::unblock(move || {
            let _permit = permit;
            let mut response = call().map_err(|error| {
                log::warn!("oauth: {step}: {error}");
                failed(step, "the provider cannot be reached")
            })?;
            if !response.status().is_success() {
                log::warn!("oauth: {step}: status {}", response.status());
                return Err(failed(step, "the provider refused"));
            }
            let mut bytes = Vec::new();
            let read = response.body_mut().as_reader().take(MAX_ANSWER + 1).read_to_end(&mut bytes);
            if read.is_err() || bytes.len() as u64 > MAX_ANSWER {
                return Err(failed(step, "the answer is broken or too large"));
            }
            serde_json::from_slice(&bytes).map_err(|_| failed(step, "the answer is not JSON"))
        })
        .await
    }
}

pub fn failed(step: &str, reason: &str) -> AuthError {
    AuthError::Upstream(format!("{step}: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_or_loopback_on_request() {
        for (text, strict, relaxed) in [
            ("https://idp.example/token", true, true),
            ("http://idp.example/token", false, false),
            ("http://127.0.0.1:9/token", false, true),
            ("http://[::1]:9/token", false, true),
            ("http://localhost/token", false, true),
            ("http://localhost.example/token", false, false),
            ("https://user:pw@idp.example/", false, false),
            ("ftp://idp.example/", false, false),
            ("file:///etc/passwd", false, false),
            ("idp.example/token", false, false),
            ("https:///x#y", false, false),
        ] {
            assert_eq!(endpoint(text, false).is_ok(), strict, "{text}");
            assert_eq!(endpoint(text, true).is_ok(), relaxed, "{text}");
        }
    }
}
