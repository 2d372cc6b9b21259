//! ID tokens (OpenID Connect Core 1.0 §3.1.3.7): signature by a key that the issuer publishes, issuer, audience,
//! nonce, time. Nothing of a token is used before all of it holds.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::jwk::{Jwk, JwkSet, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use subtle::ConstantTimeEq;
use url::Url;

use super::super::AuthError;
use super::upstream::{Upstream, endpoint, failed};
use crate::store::identity::OAuthProvider;

const STEP: &str = "ID token";
/// Clocks may differ by this many seconds.
const LEEWAY: i64 = 60;
/// Published keys are believed this long, and asked for again for an unknown key id this often.
const KEYS_FRESH: Duration = Duration::from_secs(3_600);
const KEYS_ASK_AGAIN: Duration = Duration::from_secs(30);
const MAX_CACHED: usize = 64;

const GOOGLE_ISSUERS: [&str; 2] = ["https://accounts.google.com", "accounts.google.com"];
const GOOGLE_KEYS: &str = "https://www.googleapis.com/oauth2/v3/certs";

/// What an ID token is believed to say.
#[derive(Debug, Clone, Deserialize)]
pub struct IdClaims {
    pub sub: String,
    exp: i64,
    #[serde(default)]
    nbf: Option<i64>,
    #[serde(default)]
    iat: Option<i64>,
    #[serde(default)]
    nonce: Option<String>,
    aud: Audience,
    #[serde(default)]
    azp: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    fn several(&self) -> bool {
        match self {
            Self::One(_) => false,
            Self::Several(all) => all.len() > 1,
        }
    }
    fn has(&self, wanted: &str) -> bool {
        match self {
            Self::One(one) => one == wanted,
            Self::Several(all) => all.iter().any(|one| one == wanted),
        }
    }
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    token_endpoint: String,
    jwks_uri: String,
}

#[derive(Clone)]
struct Published {
    keys: Arc<JwkSet>,
    fetched: Duration,
}

/// Keys that issuers have published, by the issuer's address.
#[derive(Default)]
pub struct Keys(Mutex<HashMap<String, Published>>);

/// What a token must fit.
pub struct Expected<'a> {
    pub provider: &'a OAuthProvider,
    pub nonce: &'a str,
    /// Unix seconds.
    pub now: i64,
    pub steady: Duration,
    pub insecure_loopback: bool,
}

/// The claims, if everything holds.
pub async fn verify(
    upstream: &Upstream,
    keys: &Keys,
    token: &str,
    expected: &Expected<'_>,
) -> Result<IdClaims, AuthError> {
    let refuse = |reason: &str| failed(STEP, reason);
    // An algorithm that the library does not know, `none` above all, already fails here.
    let header = jsonwebtoken::decode_header(token).map_err(|_| refuse("malformed"))?;
    if !matches!(header.alg, Algorithm::RS256 | Algorithm::ES256) {
        return Err(refuse("expected RS256 or ES256"));
    }
    let issuer = claimed_issuer(token).ok_or_else(|| refuse("malformed"))?;
    let key = find_key(upstream, keys, &issuer, header.kid.as_deref(), header.alg, expected).await?;
    let key = DecodingKey::from_jwk(&key).map_err(|_| refuse("the provider's key cannot be used"))?;
    let mut validation = Validation::new(header.alg);
    validation.set_issuer(&[&issuer]);
    validation.set_audience(&[&expected.provider.client_id]);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    // The time is judged below, by our own clock.
    validation.validate_exp = false;
    let claims = jsonwebtoken::decode::<IdClaims>(token, &key, &validation)
        .map_err(|_| refuse("signature, issuer or audience do not hold"))?
        .claims;
    check(&claims, expected).map_err(refuse)?;
    Ok(claims)
}

fn check(claims: &IdClaims, expected: &Expected<'_>) -> Result<(), &'static str> {
    let client = expected.provider.client_id.as_str();
    if !claims.aud.has(client) || (claims.aud.several() && claims.azp.is_none()) {
        return Err("it is for another client");
    }
    if claims.azp.as_ref().is_some_and(|azp| azp != client) {
        return Err("it was given to another client");
    }
    if claims.exp + LEEWAY <= expected.now {
        return Err("expired");
    }
    let early = |at: Option<i64>| at.is_some_and(|at| at - LEEWAY > expected.now);
    if early(claims.nbf) || early(claims.iat) {
        return Err("from the future");
    }
    let nonce = claims.nonce.as_deref().unwrap_or_default();
    if !bool::from(nonce.as_bytes().ct_eq(expected.nonce.as_bytes())) {
        return Err("it answers another sign-in");
    }
    if claims.sub.is_empty() || claims.sub.len() > 255 {
        return Err("no subject");
    }
    Ok(())
}

/// `iss` before anything is verified: tells where the keys are, nothing more.
fn claimed_issuer(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Issuer {
        iss: String,
    }
    let payload = BASE64URL_NOPAD.decode(token.split('.').nth(1)?.as_bytes()).ok()?;
    Some(serde_json::from_slice::<Issuer>(&payload).ok()?.iss)
}

async fn find_key(
    upstream: &Upstream,
    keys: &Keys,
    issuer: &str,
    kid: Option<&str>,
    alg: Algorithm,
    expected: &Expected<'_>,
) -> Result<Jwk, AuthError> {
    let unknown = || failed(STEP, "signed by a key that the provider does not publish");
    // One cache entry per provider as well as issuer: two providers that claim one issuer do not share trust.
    let name = format!("{} {} {issuer}", expected.provider.id, expected.provider.token_url);
    let cached = keys.0.lock().unwrap_or_else(PoisonError::into_inner).get(&name).cloned();
    let age = cached.as_ref().map(|published| expected.steady.saturating_sub(published.fetched));
    if let Some(published) = cached.filter(|_| age.is_some_and(|age| age < KEYS_FRESH)) {
        if let Some(key) = pick(&published.keys, kid, alg) {
            return Ok(key);
        }
        if age.is_some_and(|age| age < KEYS_ASK_AGAIN) {
            return Err(unknown());
        }
    }
    let address = keys_address(upstream, issuer, expected).await?;
    let document = upstream.get("provider's keys", address, None).await?;
    let set = usable_keys(document);
    let key = pick(&set, kid, alg);
    let mut cache = keys.0.lock().unwrap_or_else(PoisonError::into_inner);
    if cache.len() >= MAX_CACHED {
        cache.clear();
    }
    cache.insert(name, Published { keys: Arc::new(set), fetched: expected.steady });
    key.ok_or_else(unknown)
}

/// Keys of kinds that the library does not know are passed over, not a reason to refuse the others.
fn usable_keys(document: serde_json::Value) -> JwkSet {
    let keys = document.get("keys").and_then(|keys| keys.as_array()).cloned().unwrap_or_default();
    JwkSet { keys: keys.into_iter().filter_map(|key| serde_json::from_value(key).ok()).collect() }
}

fn pick(set: &JwkSet, kid: Option<&str>, alg: Algorithm) -> Option<Jwk> {
    use jsonwebtoken::jwk::AlgorithmParameters::{EllipticCurve, RSA};
    let (family, wanted): (fn(&Jwk) -> bool, _) = match alg {
        Algorithm::ES256 => (|key| matches!(key.algorithm, EllipticCurve(_)), KeyAlgorithm::ES256),
        _ => (|key| matches!(key.algorithm, RSA(_)), KeyAlgorithm::RS256),
    };
    let mut fitting = set.keys.iter().filter(|key| {
        family(key)
            && key.common.key_algorithm.is_none_or(|alg| alg == wanted)
            && key.common.public_key_use.as_ref().is_none_or(|usage| *usage == PublicKeyUse::Signature)
    });
    match kid {
        Some(kid) => fitting.find(|key| key.common.key_id.as_deref() == Some(kid)).cloned(),
        // Without a key id only if there is no choice.
        None => fitting.next().filter(|_| fitting.next().is_none()).cloned(),
    }
}

/// Where the issuer publishes its keys. The issuer must be at home where the administrator's endpoints are, and its
/// own description must name the administrator's token endpoint.
async fn keys_address(upstream: &Upstream, issuer: &str, expected: &Expected<'_>) -> Result<Url, AuthError> {
    let refuse = |reason: &str| failed(STEP, reason);
    if expected.provider.provider_type == "google" {
        return if GOOGLE_ISSUERS.contains(&issuer) {
            endpoint(GOOGLE_KEYS, false)
        } else {
            Err(refuse("from another issuer"))
        };
    }
    let home = endpoint(issuer, expected.insecure_loopback).map_err(|_| refuse("from another issuer"))?;
    let at_home = |text: &str| Url::parse(text).is_ok_and(|url| url.origin() == home.origin());
    if !at_home(&expected.provider.auth_url) && !at_home(&expected.provider.token_url) {
        return Err(refuse("from another issuer"));
    }
    let address = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    let address = endpoint(&address, expected.insecure_loopback)?;
    let document = upstream.get("provider's description", address, None).await?;
    let discovery: Discovery = serde_json::from_value(document)
        .map_err(|_| failed("provider's description", "issuer, token_endpoint or jwks_uri is missing"))?;
    if discovery.issuer != issuer || discovery.token_endpoint != expected.provider.token_url {
        return Err(refuse("from another issuer"));
    }
    endpoint(&discovery.jwks_uri, expected.insecure_loopback)
}
