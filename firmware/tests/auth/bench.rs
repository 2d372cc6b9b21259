//! An appliance with authentication and nothing else behind it, and a few operations to knock at.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use aifw::api::testing::{Answer, Client, Request};
use aifw::api::{self, Access, App, Reply, Route};
use aifw::auth::{Auth, Clock, Options};
use aifw::config::Permission;
use aifw::store::Store;
use serde_json::{Value, json};

pub const PASSWORD: &str = "TestPass123";

pub struct Bench {
    pub dir: tempfile::TempDir,
    pub clock: Clock,
    pub auth: Auth,
    pub store: Store,
    pub client: Client,
}

/// Operations of other areas stand in with their permissions; what is tested is the way to them.
fn routes() -> Vec<Route> {
    let knock = |method, path, permission| {
        Route::new(method, path, Access::Needs(permission), "stand-in", |call: api::Call| async move {
            if call.method == "POST" {
                let _: Value = call.json()?;
            }
            Ok(Reply::message("here"))
        })
    };
    let mut routes: Vec<Route> =
        api::routes().into_iter().filter(|route| route.path.starts_with("/auth/")).collect();
    routes.extend([
        knock("GET", "/status", Permission::DashboardView),
        knock("GET", "/metrics", Permission::DashboardView),
        knock("GET", "/rules", Permission::RulesRead),
        knock("POST", "/rules", Permission::RulesWrite),
        knock("GET", "/connections", Permission::ConnectionsView),
        knock("GET", "/ws", Permission::DashboardView).with_ticket(),
    ]);
    routes
}

pub async fn bench() -> Bench {
    bench_with(Options::default()).await
}

pub async fn bench_with(options: Options) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let clock = options.clock.clone();
    let store = Store::open(dir.path()).unwrap();
    let auth = Auth::new(store.clone(), dir.path(), options).unwrap();
    auth.start().await.unwrap();
    let app = App {
        store: store.clone(),
        auth: auth.clone(),
        pf: Arc::new(aifw::pf::absent::Absent),
        platform: Arc::new(aifw::platform::sandbox::Sandbox::new(dir.path())),
        gate: Arc::new(auth.clone()),
        after_write: Vec::new(),
        traffic: Default::default(),
    };
    let client = Client::new(api::app(Arc::new(app), routes()));
    Bench { dir, clock, auth, store, client }
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
