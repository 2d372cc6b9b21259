//! `/settings/*`, `/notify/smtp/*` (contract/system.md §2 to §4): what acts by itself as soon as it is stored. One
//! file a page; what they share is here: the write, and the audit entry that tells what was before and is now.

mod ai;
mod dashboard;
mod ids_alerts;
pub mod mail;
mod pf_tuning;
mod sections;
pub mod tls;
mod valkey;

use serde::Serialize;
use serde_json::Value;

use super::services_common::audit;
use super::{Access, ApiError, Call, Route};
use crate::config::{Config, Permission, secret};

const READ: Access = Access::Needs(Permission::SettingsRead);
const WRITE: Access = Access::Needs(Permission::SettingsWrite);

pub fn routes() -> Vec<Route> {
    [
        tls::routes(),
        valkey::routes(),
        pf_tuning::routes(),
        ai::routes(),
        dashboard::routes(),
        ids_alerts::routes(),
        sections::routes(),
        mail::routes(),
    ]
    .concat()
}

/// Changes settings that no apply is needed for: `change` gets the stored configuration and says what it did;
/// `adopt` makes the applied one like it. One audit entry.
pub(super) async fn at_once<T: Send + 'static>(
    call: &Call,
    area: &'static str,
    change: impl FnOnce(&mut Config) -> Result<(T, String), ApiError> + Send + 'static,
    adopt: impl FnOnce(&Config, &mut Config) + Send + 'static,
) -> Result<T, ApiError> {
    let author = call.author();
    let by = author.clone();
    let outcome = call.app.store.commit(&author, move |draft| {
        let (done, what) = change(&mut draft.config)?;
        adopt(&draft.config, &mut draft.applied);
        draft.audit.push(audit(area, &by, what));
        Ok::<_, ApiError>(done)
    });
    Ok(outcome.await?)
}

/// What differs between two states of settings, for the audit: `port: 587 -> 465`. Secrets are named without their
/// values.
pub(super) fn changes<T: Serialize>(what: &str, before: &T, after: &T) -> String {
    let shown = |value: &T| serde_json::to_value(value).unwrap_or_default();
    let full = |value: &T| secret::revealing(|| serde_json::to_value(value).unwrap_or_default());
    let mut found = Vec::new();
    differences("", [&full(before), &full(after)], [&shown(before), &shown(after)], &mut found);
    match found.is_empty() {
        true => format!("{what}: nothing changed"),
        false => format!("{what}: {}", found.join(", ")),
    }
}

fn differences(path: &str, full: [&Value; 2], shown: [&Value; 2], found: &mut Vec<String>) {
    if full[0] == full[1] {
        return;
    }
    let within = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match full {
        [Value::Object(before), Value::Object(after)] => {
            let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
            names.sort();
            names.dedup();
            for name in names {
                let of = |value: &'static Value, map: &serde_json::Map<String, Value>| -> Value {
                    map.get(name).unwrap_or(value).clone()
                };
                let empty = &Value::Null;
                let pair = [of(empty, before), of(empty, after)];
                let visible = shown.map(|value| value.get(name).cloned().unwrap_or_default());
                differences(&within(name), pair.each_ref(), visible.each_ref(), found);
            }
        }
        // What is only seen in full is a secret, or holds one.
        _ if full != shown => found.push(format!("{path}: changed")),
        [before, after] => found.push(format!("{path}: {before} -> {after}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;
    use crate::config::mail::Mail;

    #[test]
    fn an_audit_entry_tells_what_changed_but_no_secret() {
        let before = Mail::default();
        let after = Mail { port: 465, password: Secret::new("marked"), ..Mail::default() };
        assert_eq!(changes("mail", &before, &after), "mail: password: changed, port: 587 -> 465");
        assert_eq!(changes("mail", &after, &after), "mail: nothing changed");
    }
}
