//! Fetching rulesets: plain text, or an archive (`.tar.gz`) of `*.rules`, as ET Open has both.

use std::io::Read;
use std::time::Duration;

use flate2::read::GzDecoder;

use super::rules::{RuleBook, RulesetState};
use crate::config::Timestamp;
use crate::config::ids::{IdsRuleset, RuleFormat};
use crate::platform::fetch::{Fetched, Limits, fetch};

/// Bytes, also once unpacked.
const LARGEST: u64 = 256 << 20;

/// Fetches a ruleset if there is a newer one, and replaces its rules; what went wrong is kept in its state. Returns
/// whether its rules are others now. Blocks.
pub fn update(book: &RuleBook, ruleset: &IdsRuleset, time: Duration, inside_allowed: bool) -> bool {
    let mut state = book.state(ruleset.id);
    let outcome = try_update(book, ruleset, &mut state, time, inside_allowed);
    let changed = matches!(outcome, Ok(true));
    match outcome {
        Ok(_) => {
            state.last_error = None;
            state.last_updated = Some(Timestamp::now());
        }
        Err(reason) => state.last_error = Some(reason),
    }
    book.set_state(ruleset.id, Some(state));
    changed
}

fn try_update(
    book: &RuleBook,
    ruleset: &IdsRuleset,
    state: &mut RulesetState,
    time: Duration,
    inside_allowed: bool,
) -> Result<bool, String> {
    if ruleset.rule_format != RuleFormat::Suricata {
        return Err("only rules in Suricata's language are used".into());
    }
    let url = ruleset.source_url.as_deref().ok_or("it has no source_url")?;
    let limits = Limits { bytes: LARGEST, time, inside_allowed };
    // Without its rules a copy that has not changed is of no use.
    let known = if book.of(ruleset.id).is_empty() { Default::default() } else { state.validators.clone() };
    match fetch(url, &known, limits).map_err(|error| error.to_string())? {
        Fetched::NotModified => Ok(false),
        Fetched::Document { body, validators } => {
            let text = unpacked(body)?;
            book.replace(ruleset.id, &text).map_err(|error| error.to_string())?;
            state.validators = validators;
            Ok(true)
        }
    }
}

/// The text of rules: as it is, unpacked, or all `*.rules` of an archive one after the other.
pub fn unpacked(body: Vec<u8>) -> Result<String, String> {
    let gzipped = body.starts_with(&[0x1f, 0x8b]);
    let bytes = if gzipped {
        let mut bytes = Vec::new();
        GzDecoder::new(body.as_slice())
            .take(LARGEST + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| format!("it cannot be unpacked: {error}"))?;
        if bytes.len() as u64 > LARGEST {
            return Err(format!("it is larger than {LARGEST} bytes"));
        }
        bytes
    } else {
        body
    };
    // A tape archive says so at 257 (POSIX.1 ustar).
    if bytes.get(257..262) != Some(b"ustar") {
        return Ok(String::from_utf8_lossy(&bytes).into_owned());
    }
    let mut text = String::new();
    let mut archive = tar::Archive::new(bytes.as_slice());
    for entry in archive.entries().map_err(|error| error.to_string())? {
        let mut entry = entry.map_err(|error| format!("the archive is damaged: {error}"))?;
        let is_rules = entry.path().is_ok_and(|path| path.extension().is_some_and(|kind| kind == "rules"));
        if !is_rules || !entry.header().entry_type().is_file() {
            continue;
        }
        let mut part = Vec::new();
        entry.read_to_end(&mut part).map_err(|error| format!("the archive is damaged: {error}"))?;
        text.push_str(&String::from_utf8_lossy(&part));
        text.push('\n');
    }
    Ok(text)
}
