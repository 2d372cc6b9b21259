//! What the daemon tells of itself: its management API, and the one question that its program can ask another server.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::compile::services::{Facts, time};
use crate::config::time::TimeSettings;
use crate::supervisor::{Probe, from_here};
use crate::tool::Tool;

/// State of the clock and its sources (`/api/v1/status` of the daemon).
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct TimeState {
    pub version: String,
    pub uptime_seconds: f64,
    pub clock: Clock,
    pub sources: Vec<SourceState>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Clock {
    pub offset_ms: f64,
    pub jitter_ms: f64,
    pub frequency_ppm: f64,
    /// 16 = not synchronised.
    pub stratum: u8,
    pub synchronized: bool,
}

/// A source that has answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SourceState {
    /// `NTP:192.0.2.1:123`
    pub id: String,
    /// The address alone.
    #[serde(default)]
    pub address: String,
    pub offset_ms: f64,
    pub delay_ms: f64,
    pub jitter_ms: f64,
    pub stratum: u8,
    pub reachable: bool,
    pub selected: bool,
}

/// Asks the running daemon. `None` when its API is off or does not answer within a second. Blocks.
pub fn ask(settings: &TimeSettings, facts: &Facts) -> Option<TimeState> {
    if !settings.management_enabled {
        return None;
    }
    let key = crate::services::api_key(&facts.places).ok()?;
    let mut state = fetch(time::management(settings, facts), &key, Duration::from_secs(1)).ok()?;
    for source in &mut state.sources {
        source.address = source.id.strip_prefix("NTP:").unwrap_or(&source.id).to_owned();
    }
    Some(state)
}

fn fetch(place: SocketAddr, key: &str, limit: Duration) -> Result<TimeState, ureq::Error> {
    let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(limit)).build().into();
    let url = format!("http://{}/api/v1/status", from_here(place));
    let mut answer = agent.get(&url).header("Authorization", &format!("Bearer {key}")).call()?;
    answer.body_mut().read_json()
}

/// Ready when the management API answers to our key.
pub struct Answering {
    pub place: SocketAddr,
    pub key: String,
}

impl Probe for Answering {
    fn probe(&self) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> {
        let (place, key) = (self.place, self.key.clone());
        Box::pin(async move {
            let answer = blocking::unblock(move || fetch(place, &key, Duration::from_millis(500))).await;
            answer.map(drop).map_err(|error| format!("management API at {place}: {error}"))
        })
    }
}

/// What a server has answered to one question.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct Answer {
    pub ok: bool,
    pub offset_ms: Option<f64>,
    pub delay_ms: Option<f64>,
    pub stratum: Option<u8>,
    pub error: Option<String>,
}

/// Asks a server once, by the daemon's own program. Blocks for 5 s at most.
pub fn query(program: &Path, server: &str) -> Answer {
    let failed = |error: String| Answer { error: Some(error), ..Answer::default() };
    let ended = match Tool::new(program, Duration::from_secs(5)).run(&["-s", server, "-n", "1"], "") {
        Ok(ended) => ended,
        Err(error) => return failed(error.to_string()),
    };
    let text = crate::services::logs::without_colours_all(&format!("{}\n{}", ended.stdout, ended.stderr));
    let number = |word: &str| -> Option<f64> {
        let at = text.to_lowercase().find(word)? + word.len();
        let rest = text.get(at..)?.trim_start_matches([':', '=', ' ', '\t']);
        let end = rest.find(|c: char| !c.is_ascii_digit() && !"+-.e".contains(c)).unwrap_or(rest.len());
        rest.get(..end)?.parse().ok()
    };
    match (ended.success(), number("offset")) {
        (true, Some(offset)) => Answer {
            ok: true,
            offset_ms: Some(offset),
            delay_ms: number("delay"),
            stratum: number("stratum").map(|stratum| stratum as u8),
            error: None,
        },
        _ => failed(text.lines().last().unwrap_or("no answer").to_owned()),
    }
}
