//! An appliance with authentication, and no packet filter behind it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use aifw::api;
use aifw::api::testing::{Answer, Client, Request, bare_app};
use aifw::auth::{Auth, Clock, Options};
use aifw::store::Store;
use serde_json::{Value, json};

pub const PASSWORD: &str = "TestPass123";

pub struct Bench {
    /// The store's.
    pub dir: tempfile::TempDir,
    /// The signing key's.
    pub keys: tempfile::TempDir,
    pub clock: Clock,
    pub auth: Auth,
    pub store: Store,
    pub client: Client,
}

pub async fn bench() -> Bench {
    bench_with(Options::default()).await
}

pub async fn bench_with(options: Options) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let keys = tempfile::tempdir().unwrap();
    let clock = options.clock.clone();
    let mut app = bare_app(dir.path());
    let auth = Auth::new(app.store.clone(), keys.path(), options).unwrap();
    auth.start().await.unwrap();
    app.auth = auth.clone();
    app.gate = Arc::new(auth.clone());
    let store = app.store.clone();
    let client = Client::new(api::app(Arc::new(app), api::routes()));
    Bench { dir, keys, clock, auth, store, client }
}

impl Bench {
    pub async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.client.post(path).json(body).await
    }

    /// Registers the administrator `admin` and signs in as them.
    pub async fn admin(&self) -> Client {
        let (status, _) =
            self.post("/auth/register", json!({"username": "admin", "password": PASSWORD})).await;
        assert_eq!(status, 201);
        self.sign_in("admin").await
    }

    /// A client with the access token of a fresh sign-in.
    pub async fn sign_in(&self, username: &str) -> Client {
        self.client.with_bearer(text(&self.tokens(username).await["access_token"]))
    }

    /// The answer of a sign-in that must succeed.
    pub async fn tokens(&self, username: &str) -> Value {
        let answer = self.login(username, PASSWORD).send().await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    pub fn login(&self, username: &str, password: &str) -> Request {
        self.client.post("/auth/login").json(json!({"username": username, "password": password}))
    }

    pub async fn login_from(&self, ip: &str, username: &str, password: &str) -> Answer {
        let ip: IpAddr = ip.parse().unwrap();
        self.login(username, password).from(ip).send().await
    }

    pub fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// The code of an authenticator program now.
    pub fn code(&self, secret: &str) -> String {
        let secret = data_encoding::BASE32_NOPAD.decode(secret.as_bytes()).unwrap();
        totp_rs::TOTP::new(totp_rs::Algorithm::SHA1, 6, 1, 30, secret)
            .unwrap()
            .generate(self.clock.seconds() as u64)
    }

    /// Makes a user with [`PASSWORD`], gives the id.
    pub async fn user(&self, admin: &Client, username: &str, role: &str) -> String {
        let body = json!({"username": username, "password": PASSWORD, "role": role});
        let (status, json) = admin.post("/auth/users").json(body).await;
        assert_eq!(status, 201, "{json}");
        text(&json["data"]["id"])
    }

    /// Opens the stream of `/ws` with a ticket: 101, or the status of the refusal.
    pub async fn open_stream(&self, ticket: &str) -> u16 {
        match self.client.get(&format!("/ws?ticket={ticket}")).websocket().await {
            Ok(_) => 101,
            Err((status, _)) => status,
        }
    }

    /// Audit actions, newest first.
    pub async fn actions(&self, admin: &Client) -> Vec<String> {
        let (status, json) = admin.get("/auth/audit?limit=1000").await;
        assert_eq!(status, 200);
        json["data"].as_array().unwrap().iter().map(|entry| text(&entry["action"])).collect()
    }
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("expected a string, got {value}")).to_owned()
}

/// The claims in a token, unverified.
pub fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&data_encoding::BASE64URL_NOPAD.decode(payload.as_bytes()).unwrap()).unwrap()
}

/// Status only.
pub async fn status(request: Request) -> u16 {
    request.send().await.status
}
