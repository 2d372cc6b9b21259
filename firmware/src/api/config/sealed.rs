//! The secrets of an export, under a passphrase: Argon2id (RFC 9106) makes the key, ChaCha20-Poly1305 (RFC
//! 8439) seals. The document of an export never holds a secret; this block beside it says which secret belongs
//! to which field of which object. Pure.

use argon2::{Algorithm, Argon2, Params, Version};
use data_encoding::BASE64;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::config::backup::ConfigDocument;
use crate::config::secret;

/// The passphrase's header.
pub const PASSPHRASE_HEADER: &str = "x-aifw-passphrase";
const MIN_PASSPHRASE: usize = 8;
const CONTEXT: &[u8] = b"aifw export secrets 1";
/// Memory in KiB, passes, lanes for new exports (RFC 9106 §4, second recommendation).
const COST: (u32, u32, u32) = (64 * 1024, 3, 1);
/// What is accepted of a file that somebody hands in, so that it cannot exhaust the appliance.
const MAX_COST: (u32, u32, u32) = (256 * 1024, 10, 4);

/// Secrets of a document, sealed. All texts are Base64 (RFC 4648).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct SealedSecrets {
    /// `argon2id`.
    kdf: String,
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: String,
    /// `chacha20-poly1305`.
    cipher: String,
    nonce: String,
    data: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealedError {
    #[error("X-AiFw-Passphrase: expected at least {MIN_PASSPHRASE} characters")]
    TooShort,
    #[error("secrets: the passphrase does not open them")]
    Wrong,
    #[error("secrets: {0}")]
    Form(&'static str),
    #[error("the secrets could not be sealed")]
    Seal,
}

/// A field of the document and its secret: names, and the id of the object where the path enters a list.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    path: Vec<String>,
    secret: String,
}

/// Seals the document's secrets.
pub fn seal(document: &ConfigDocument, passphrase: &str) -> Result<SealedSecrets, SealedError> {
    let shown = serde_json::to_value(document).map_err(|_| SealedError::Seal)?;
    let full = secret::revealing(|| serde_json::to_value(document)).map_err(|_| SealedError::Seal)?;
    let mut entries = Vec::new();
    collect(&shown, &full, &mut Vec::new(), &mut entries);
    let mut body = serde_json::to_vec(&entries).map_err(|_| SealedError::Seal)?;
    let (mut salt, mut nonce) = ([0; 16], [0; NONCE_LEN]);
    let random = SystemRandom::new();
    random.fill(&mut salt).and_then(|()| random.fill(&mut nonce)).map_err(|_| SealedError::Seal)?;
    let key = derive(passphrase, &salt, COST)?;
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(CONTEXT), &mut body)
        .map_err(|_| SealedError::Seal)?;
    Ok(SealedSecrets {
        kdf: "argon2id".into(),
        memory_kib: COST.0,
        passes: COST.1,
        lanes: COST.2,
        salt: BASE64.encode(&salt),
        cipher: "chacha20-poly1305".into(),
        nonce: BASE64.encode(&nonce),
        data: BASE64.encode(&body),
    })
}

/// Opens sealed secrets and puts each into its place in the document's JSON. What has no place any more is
/// left out.
pub fn open(sealed: &SealedSecrets, passphrase: &str, document: &mut Value) -> Result<(), SealedError> {
    if sealed.kdf != "argon2id" || sealed.cipher != "chacha20-poly1305" {
        return Err(SealedError::Form("expected kdf argon2id and cipher chacha20-poly1305"));
    }
    let cost = (sealed.memory_kib, sealed.passes, sealed.lanes);
    if cost.0 > MAX_COST.0 || cost.1 > MAX_COST.1 || cost.2 > MAX_COST.2 {
        return Err(SealedError::Form("the key derivation costs more than is allowed"));
    }
    let decode = |text: &str| {
        BASE64
            .decode(text.as_bytes())
            .map_err(|_| SealedError::Form("expected salt, nonce and data in Base64"))
    };
    let (salt, nonce) = (decode(&sealed.salt)?, decode(&sealed.nonce)?);
    let mut body = Zeroizing::new(decode(&sealed.data)?);
    let nonce = Nonce::try_assume_unique_for_key(&nonce)
        .map_err(|_| SealedError::Form("expected a nonce of 12 bytes"))?;
    let key = derive(passphrase, &salt, cost)?;
    let plain = key.open_in_place(nonce, Aad::from(CONTEXT), &mut body).map_err(|_| SealedError::Wrong)?;
    let entries: Vec<Entry> =
        serde_json::from_slice(plain).map_err(|_| SealedError::Form("unknown content"))?;
    for entry in entries {
        if let Some(place) = find(document, &entry.path) {
            *place = Value::String(entry.secret);
        }
    }
    Ok(())
}

fn derive(passphrase: &str, salt: &[u8], cost: (u32, u32, u32)) -> Result<LessSafeKey, SealedError> {
    if passphrase.chars().count() < MIN_PASSPHRASE {
        return Err(SealedError::TooShort);
    }
    let form = SealedError::Form("unusable cost or salt of the key derivation");
    let params = Params::new(cost.0, cost.1, cost.2, Some(32)).map_err(|_| form.clone())?;
    let mut key = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.as_bytes(), salt, &mut *key)
        .map_err(|_| form)?;
    let key = UnboundKey::new(&CHACHA20_POLY1305, &*key).map_err(|_| SealedError::Seal)?;
    Ok(LessSafeKey::new(key))
}

/// The id of an object in a list, as text: a UUID, a name or a number.
fn id_of(object: &Value) -> Option<String> {
    match object.get("id")? {
        Value::String(id) => Some(id.clone()),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    }
}

/// Every place where the full document has text that the shown one has not, or has without its secrets.
fn collect(shown: &Value, full: &Value, path: &mut Vec<String>, entries: &mut Vec<Entry>) {
    match (shown, full) {
        (Value::Null | Value::String(_), Value::String(secret)) if shown != full => {
            entries.push(Entry { path: path.clone(), secret: secret.clone() });
        }
        (Value::Object(shown), Value::Object(full)) => {
            for (name, full) in full {
                path.push(name.clone());
                collect(shown.get(name).unwrap_or(&Value::Null), full, path, entries);
                path.pop();
            }
        }
        (Value::Array(shown), Value::Array(full)) => {
            for (shown, full) in shown.iter().zip(full) {
                if let Some(id) = id_of(full) {
                    path.push(id);
                    collect(shown, full, path, entries);
                    path.pop();
                }
            }
        }
        _ => {}
    }
}

fn find<'a>(document: &'a mut Value, path: &[String]) -> Option<&'a mut Value> {
    let (last, way) = path.split_last()?;
    let parent = way.iter().try_fold(document, |place, step| match place {
        Value::Object(object) => object.get_mut(step),
        Value::Array(list) => list.iter_mut().find(|entry| id_of(entry).as_deref() == Some(step.as_str())),
        _ => None,
    })?;
    // A secret that the document left out has no member yet.
    Some(parent.as_object_mut()?.entry(last.as_str()).or_insert(Value::Null))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_found_by_id_and_put_back_in_another_order() {
        let full = json!({
            "ha": {"carp_vips": [{"id": "a", "password": "pa", "vhid": 1}, {"id": "b", "password": "pb"}]},
            "dhcp": {"ddns": {"tsig_secret": "ts", "tsig_key": "k"}},
            "accounts": [{"id": 7, "api_token": "t7"}], "row": {"config_json": "{\"secret\":\"x\"}"},
        });
        let shown = json!({
            "ha": {"carp_vips": [{"id": "a", "password": null, "vhid": 1}, {"id": "b", "password": null}]},
            "dhcp": {"ddns": {"tsig_secret": null, "tsig_key": "k"}},
            "accounts": [{"id": 7, "api_token": null}], "row": {"config_json": "{\"secret\":\"***\"}"},
        });
        let mut entries = Vec::new();
        collect(&shown, &full, &mut Vec::new(), &mut entries);
        assert_eq!(entries.len(), 5);
        let mut edited = json!({
            "ha": {"carp_vips": [{"id": "b", "password": null}, {"id": "c", "password": null}]},
            "dhcp": {"ddns": {"tsig_key": "k"}},
        });
        for entry in entries {
            if let Some(place) = find(&mut edited, &entry.path) {
                *place = entry.secret.into();
            }
        }
        assert_eq!(
            edited,
            json!({
                "ha": {"carp_vips": [{"id": "b", "password": "pb"}, {"id": "c", "password": null}]},
                "dhcp": {"ddns": {"tsig_key": "k", "tsig_secret": "ts"}},
            })
        );
    }
}
