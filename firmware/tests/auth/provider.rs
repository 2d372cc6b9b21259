//! An identity provider on loopback: a real HTTP server that authorizes, exchanges codes, signs ID tokens with keys of
//! its own and publishes those; it can be told to misbehave.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use data_encoding::BASE64URL_NOPAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use serde_json::{Value, json};

/// How the provider behaves.
#[derive(Clone)]
pub struct Behaviour {
    /// Laid over the claims of the ID token; null takes one away.
    pub claims: Value,
    /// Laid over the header.
    pub header: Value,
    /// Signs with a key that is not published.
    pub foreign_key: bool,
    /// RS256 instead of ES256.
    pub rsa: bool,
    /// Leaves the signature away.
    pub unsigned: bool,
    /// No ID token in the answer of the token endpoint.
    pub no_id_token: bool,
    /// What userinfo says, laid over `sub`, `email`, `preferred_username`.
    pub userinfo: Value,
    pub token_status: u16,
    /// Filler in the answer of the token endpoint, in bytes.
    pub filler: usize,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            claims: json!({}),
            header: json!({}),
            foreign_key: false,
            rsa: false,
            unsigned: false,
            no_id_token: false,
            userinfo: json!({}),
            token_status: 200,
            filler: 0,
        }
    }
}

struct Authorized {
    nonce: Option<String>,
    challenge: String,
    redirect_uri: String,
}

struct State {
    base: String,
    behaviour: Behaviour,
    authorized: HashMap<String, Authorized>,
    key: EcdsaKeyPair,
    foreign: EcdsaKeyPair,
    rsa: RsaKeyPair,
    /// Requests by path.
    seen: Vec<String>,
}

#[derive(Clone)]
pub struct Provider {
    state: Arc<Mutex<State>>,
    pub base: String,
}

pub const CLIENT: &str = "aifw-client";
pub const SECRET: &str = "client-secret-1";

fn ecdsa() -> EcdsaKeyPair {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap()
}

impl Provider {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        // For this test only: `openssl genpkey -algorithm RSA -outform DER | openssl pkcs8 -topk8 -nocrypt`; no library
        // of ours makes RSA keys.
        let rsa = RsaKeyPair::from_pkcs8(include_bytes!("rsa-test-key.pk8")).unwrap();
        let state = State {
            base: base.clone(),
            behaviour: Behaviour::default(),
            authorized: HashMap::new(),
            key: ecdsa(),
            foreign: ecdsa(),
            rsa,
            seen: Vec::new(),
        };
        let state = Arc::new(Mutex::new(state));
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = shared.clone();
                std::thread::spawn(move || serve(stream, &shared));
            }
        });
        Self { state, base }
    }

    pub fn behave(&self, behaviour: Behaviour) {
        self.state.lock().unwrap().behaviour = behaviour;
    }

    /// The same provider with another signing key, as after a change of keys.
    pub fn change_key(&self) {
        self.state.lock().unwrap().key = ecdsa();
    }

    pub fn requests_to(&self, path: &str) -> usize {
        self.state.lock().unwrap().seen.iter().filter(|seen| *seen == path).count()
    }

    /// What the browser does: goes to the authorization endpoint, agrees, and is sent back with a code.
    pub fn agree(&self, authorize_url: &str) -> String {
        let url = url::Url::parse(authorize_url).unwrap();
        assert_eq!(url.path(), "/authorize");
        let query: HashMap<String, String> = url.query_pairs().into_owned().collect();
        assert_eq!(query["client_id"], CLIENT);
        assert_eq!(query["response_type"], "code");
        assert_eq!(query["code_challenge_method"], "S256");
        let mut state = self.state.lock().unwrap();
        let code = format!("code-{}", state.authorized.len());
        let authorized = Authorized {
            nonce: query.get("nonce").cloned(),
            challenge: query["code_challenge"].clone(),
            redirect_uri: query["redirect_uri"].clone(),
        };
        state.authorized.insert(code.clone(), authorized);
        code
    }
}

fn serve(stream: TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let (mut length, mut authorization) = (0, String::new());
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).unwrap();
        if header.trim().is_empty() {
            break;
        }
        let (name, value) = header.split_once(':').unwrap();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap(),
            "authorization" => authorization = value.trim().to_owned(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let (status, answer) = {
        let mut state = state.lock().unwrap();
        state.seen.push(path.clone());
        state.answer(&path, &body, &authorization)
    };
    let text = answer.to_string();
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        text.len()
    );
    let mut stream = stream;
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(text.as_bytes()));
}

fn overlay(mut base: Value, over: &Value) -> Value {
    for (name, value) in over.as_object().unwrap() {
        if value.is_null() {
            base.as_object_mut().unwrap().remove(name);
        } else {
            base[name] = value.clone();
        }
    }
    base
}

impl State {
    fn answer(&mut self, path: &str, body: &[u8], authorization: &str) -> (u16, Value) {
        match path {
            "/.well-known/openid-configuration" => (
                200,
                json!({"issuer": self.base, "authorization_endpoint": format!("{}/authorize", self.base),
                    "token_endpoint": format!("{}/token", self.base), "jwks_uri": format!("{}/keys", self.base)}),
            ),
            "/keys" => (200, self.keys()),
            "/token" => self.token(body),
            "/userinfo" | "/user" if authorization != "Bearer access-1" => (401, json!({})),
            "/userinfo" => {
                let info =
                    json!({"sub": "subject-1", "email": "ada@example.org", "preferred_username": "ada"});
                (200, overlay(info, &self.behaviour.userinfo))
            }
            "/user" => (200, overlay(json!({"id": 4711, "login": "octo"}), &self.behaviour.userinfo)),
            "/user/emails" => (
                200,
                json!([{"email": "old@example.org", "primary": false, "verified": true},
                    {"email": "octo@example.org", "primary": true, "verified": true}]),
            ),
            _ => (404, json!({})),
        }
    }

    fn keys(&self) -> Value {
        let point = self.key.public_key().as_ref();
        let kid = kid(&self.key);
        let rsa = ring::rsa::PublicKeyComponents::<Vec<u8>>::from(self.rsa.public());
        let modulus = BASE64URL_NOPAD.encode(&rsa.n);
        let exponent = BASE64URL_NOPAD.encode(&rsa.e);
        json!({"keys": [
            {"kty": "OKP", "crv": "Ed448", "kid": "unusual", "x": "AAAA"},
            {"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": kid,
                "x": BASE64URL_NOPAD.encode(&point[1..33]), "y": BASE64URL_NOPAD.encode(&point[33..])},
            {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "rsa-1", "n": modulus, "e": exponent},
        ]})
    }

    fn token(&mut self, body: &[u8]) -> (u16, Value) {
        let form: HashMap<String, String> = url::form_urlencoded::parse(body).into_owned().collect();
        let field = |name: &str| form.get(name).cloned().unwrap_or_default();
        let Some(authorized) = self.authorized.remove(&field("code")) else {
            return (400, json!({"error": "invalid_grant"}));
        };
        let verifier = ring::digest::digest(&ring::digest::SHA256, field("code_verifier").as_bytes());
        let genuine = field("grant_type") == "authorization_code"
            && field("client_id") == CLIENT
            && field("client_secret") == SECRET
            && field("redirect_uri") == authorized.redirect_uri
            && BASE64URL_NOPAD.encode(verifier.as_ref()) == authorized.challenge;
        if !genuine {
            return (400, json!({"error": "invalid_grant"}));
        }
        let mut answer = json!({"access_token": "access-1", "token_type": "Bearer"});
        if !self.behaviour.no_id_token {
            answer["id_token"] = json!(self.id_token(authorized.nonce));
        }
        if self.behaviour.filler > 0 {
            answer["filler"] = json!("x".repeat(self.behaviour.filler));
        }
        (self.behaviour.token_status, answer)
    }

    fn id_token(&self, nonce: Option<String>) -> String {
        let now = jiff::Timestamp::now().as_second();
        let claims = json!({"iss": self.base, "sub": "subject-1", "aud": CLIENT, "iat": now, "exp": now + 300,
            "nonce": nonce});
        let claims = overlay(claims, &self.behaviour.claims);
        let signer = if self.behaviour.foreign_key { &self.foreign } else { &self.key };
        let header = if self.behaviour.rsa {
            json!({"alg": "RS256", "typ": "JWT", "kid": "rsa-1"})
        } else {
            json!({"alg": "ES256", "typ": "JWT", "kid": kid(&self.key)})
        };
        let header = overlay(header, &self.behaviour.header);
        let encode = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let signed = format!("{}.{}", encode(&header), encode(&claims));
        if self.behaviour.unsigned {
            return format!("{signed}.");
        }
        let random = SystemRandom::new();
        let signature = if self.behaviour.rsa {
            let mut signature = vec![0; self.rsa.public().modulus_len()];
            self.rsa.sign(&RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature).unwrap();
            signature
        } else {
            signer.sign(&random, signed.as_bytes()).unwrap().as_ref().to_vec()
        };
        format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature))
    }
}

fn kid(key: &EcdsaKeyPair) -> String {
    BASE64URL_NOPAD.encode(&key.public_key().as_ref()[1..9])
}
