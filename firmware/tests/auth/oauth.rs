//! Sign-in through an identity provider: what works, and what an attacker or a broken provider may try.

use aifw::api::testing::{Answer, Client};
use aifw::auth::Options;
use serde_json::{Value, json};

use super::bench::{Bench, bench_with, text};
use super::provider::{Behaviour, CLIENT, Provider, SECRET};

struct World {
    bench: Bench,
    admin: Client,
    provider: Provider,
    provider_id: String,
}

async fn world() -> World {
    let bench = bench_with(Options { insecure_loopback: true, ..Options::default() }).await;
    let admin = bench.admin().await;
    let provider = Provider::start();
    let base = &provider.base;
    let body = json!({"name": "Corp ID", "provider_type": "oidc", "client_id": CLIENT, "client_secret": SECRET,
        "auth_url": format!("{base}/authorize"), "token_url": format!("{base}/token"),
        "userinfo_url": format!("{base}/userinfo")});
    let (status, made) = admin.post("/auth/oauth/providers").json(body).await;
    assert_eq!(status, 201, "{made}");
    World { provider_id: text(&made["data"]["id"]), bench, admin, provider }
}

impl World {
    /// Begins a sign-in: where the browser goes, and the state.
    async fn begin(&self) -> (String, String) {
        let (status, json) = self.bench.client.get("/auth/oauth/corp%20id/authorize").await;
        assert_eq!(status, 200, "{json}");
        (text(&json["authorize_url"]), text(&json["state"]))
    }
    async fn come_back(&self, code: &str, state: &str) -> Answer {
        let path = format!("/auth/oauth/corp%20id/callback?code={code}&state={state}");
        self.bench.client.get(&path).from("192.0.2.9".parse().unwrap()).send().await
    }
    /// A whole sign-in.
    async fn sign_in(&self) -> Answer {
        let (url, state) = self.begin().await;
        let code = self.provider.agree(&url);
        self.come_back(&code, &state).await
    }
    async fn refused_as(&self, behaviour: Behaviour, status: u16, why: &str) {
        self.provider.behave(behaviour);
        let answer = self.sign_in().await;
        assert_eq!(answer.status, status, "{why}: {}", answer.text());
        let error = text(&answer.json()["error"]);
        assert!(error.contains(why), "{error}, expected {why}");
        let users = self.bench.store.snapshot().identity.users.len();
        assert_eq!(users, 1, "{why}: a user was made");
    }
}

fn with_claims(claims: Value) -> Behaviour {
    Behaviour { claims, ..Behaviour::default() }
}

#[test]
fn a_subject_becomes_a_viewer_and_stays_the_same_user() {
    smol::block_on(async {
        let world = world().await;
        let answer = world.sign_in().await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let json = answer.json();
        assert_eq!(json["totp_required"], false);
        assert_eq!(json["tokens"]["access_token"], json["access_token"]);
        let ada = world.bench.client.with_bearer(text(&json["access_token"]));
        let (_, me) = ada.get("/auth/me").await;
        assert_eq!((&me["username"], &me["role"]), (&json!("ada"), &json!("viewer")));
        assert_eq!(me["auth_provider"], "Corp ID");
        assert_eq!(ada.get("/rules").await.0, 200);
        // No password opens it.
        for password in ["", "TestPass123"] {
            assert_eq!(world.bench.login("ada", password).await.0, 401);
        }
        world
            .provider
            .behave(Behaviour { userinfo: json!({"preferred_username": "renamed"}), ..Behaviour::default() });
        let again = world.sign_in().await.json();
        let again = world.bench.client.with_bearer(text(&again["access_token"]));
        assert_eq!(again.get("/auth/me").await.1["id"], me["id"]);
        // With RS256 as well; and the keys are asked for once.
        world.provider.behave(Behaviour { rsa: true, ..Behaviour::default() });
        assert_eq!(world.sign_in().await.status, 200);
        assert_eq!(world.provider.requests_to("/keys"), 1);
        let (_, log) = world.admin.get("/auth/audit?action=oauth_login").await;
        assert_eq!((&log["total"], &log["data"][0]["ip_addr"]), (&json!(3), &json!("192.0.2.9")));
        // Disabled: 401.
        let path = format!("/auth/users/{}", text(&me["id"]));
        world.admin.put(&path).json(json!({"enabled": false})).await;
        assert_eq!(world.sign_in().await.status, 401);
    });
}

#[test]
fn a_state_is_good_once_here_and_for_ten_minutes() {
    smol::block_on(async {
        let world = world().await;
        let (url, state) = world.begin().await;
        let code = world.provider.agree(&url);
        assert_eq!(world.come_back(&code, "wrong-state").await.status, 400);
        assert_eq!(world.come_back(&code, &state).await.status, 200);
        let again = world.provider.agree(&url);
        assert_eq!(world.come_back(&again, &state).await.status, 400, "replayed");
        let (url, state) = world.begin().await;
        let code = world.provider.agree(&url);
        world.bench.advance(601);
        assert_eq!(world.come_back(&code, &state).await.status, 400, "too old");
        // A state belongs to the provider it was made for.
        let base = &world.provider.base;
        let other = json!({"name": "Other", "provider_type": "oidc", "client_id": CLIENT, "client_secret": SECRET,
            "auth_url": format!("{base}/authorize"), "token_url": format!("{base}/token"),
            "userinfo_url": format!("{base}/userinfo")});
        assert_eq!(world.admin.post("/auth/oauth/providers").json(other).await.0, 201);
        let (url, state) = world.begin().await;
        let code = world.provider.agree(&url);
        let path = format!("/auth/oauth/other/callback?code={code}&state={state}");
        assert_eq!(world.bench.client.get(&path).await.0, 400);
        // And is spent by that.
        assert_eq!(world.come_back(&code, &state).await.status, 400);
    });
}

#[test]
fn a_code_of_another_sign_in_does_not_open_this_one() {
    smol::block_on(async {
        let world = world().await;
        let (attackers, _) = world.begin().await;
        let code = world.provider.agree(&attackers);
        let (_, state) = world.begin().await;
        // The provider sees that the PKCE verifier is not that of the code.
        assert_eq!(world.come_back(&code, &state).await.status, 502);
        assert_eq!(world.bench.store.snapshot().identity.users.len(), 1);
    });
}

#[test]
fn id_tokens_that_do_not_hold_are_refused() {
    smol::block_on(async {
        let world = world().await;
        let now = jiff::Timestamp::now().as_second();
        let claims = with_claims;
        let doesnt = "signature, issuer or audience do not hold";
        world.refused_as(claims(json!({"nonce": "another"})), 502, "another sign-in").await;
        world.refused_as(claims(json!({"nonce": null})), 502, "another sign-in").await;
        world.refused_as(claims(json!({"aud": "another-client"})), 502, doesnt).await;
        world.refused_as(claims(json!({"aud": [CLIENT, "another"]})), 502, "another client").await;
        world.refused_as(claims(json!({"azp": "another"})), 502, "another client").await;
        world.refused_as(claims(json!({"iss": "https://evil.example"})), 502, "another issuer").await;
        let nested = format!("{}/tenant", world.provider.base);
        world.refused_as(claims(json!({"iss": nested})), 502, "provider's description").await;
        world.refused_as(claims(json!({"exp": now - 3600})), 502, "expired").await;
        world.refused_as(claims(json!({"exp": null})), 502, doesnt).await;
        world.refused_as(claims(json!({"iat": now + 3600})), 502, "future").await;
        world.refused_as(claims(json!({"nbf": now + 3600})), 502, "future").await;
        let plain = Behaviour::default;
        let none = Behaviour { header: json!({"alg": "none"}), unsigned: true, ..plain() };
        world.refused_as(none, 502, "malformed").await;
        let hs256 = Behaviour { header: json!({"alg": "HS256"}), ..plain() };
        world.refused_as(hs256, 502, "expected RS256 or ES256").await;
        world.refused_as(Behaviour { unsigned: true, ..plain() }, 502, doesnt).await;
        world.refused_as(Behaviour { foreign_key: true, ..plain() }, 502, doesnt).await;
        let unknown = Behaviour { header: json!({"kid": "unknown"}), foreign_key: true, ..plain() };
        world.refused_as(unknown, 502, "does not publish").await;
        let mixed = Behaviour { header: json!({"kid": "rsa-1"}), ..plain() };
        world.refused_as(mixed, 502, "does not publish").await;
        world.refused_as(Behaviour { no_id_token: true, ..plain() }, 502, "no ID token").await;
        let other = Behaviour { userinfo: json!({"sub": "somebody-else"}), ..plain() };
        world.refused_as(other, 502, "somebody else").await;
        world.refused_as(Behaviour { token_status: 500, ..plain() }, 502, "the provider refused").await;
        world.refused_as(Behaviour { token_status: 302, ..plain() }, 502, "the provider refused").await;
        world.refused_as(Behaviour { filler: 2 << 20, ..plain() }, 502, "too large").await;
        // The honest one is let in after all that.
        world.provider.behave(plain());
        assert_eq!(world.sign_in().await.status, 200);
    });
}

#[test]
fn a_provider_may_change_its_keys() {
    smol::block_on(async {
        let world = world().await;
        assert_eq!(world.sign_in().await.status, 200);
        world.provider.change_key();
        // Not asked for again at once: an unknown key id must not become a flood of requests.
        assert_eq!(world.sign_in().await.status, 502);
        world.bench.advance(31);
        assert_eq!(world.sign_in().await.status, 200);
        assert_eq!(world.provider.requests_to("/keys"), 2);
    });
}

#[test]
fn nobody_is_taken_over_by_a_name_and_nobody_is_made_when_that_is_off() {
    smol::block_on(async {
        let world = world().await;
        let taken = json!({"preferred_username": "admin", "email": "admin"});
        world.provider.behave(Behaviour { userinfo: taken, ..Behaviour::default() });
        let json = world.sign_in().await.json();
        let client = world.bench.client.with_bearer(text(&json["access_token"]));
        assert_eq!(client.get("/auth/me").await.1["username"], "admin-2");
        world.admin.put("/auth/settings").json(json!({"auto_create_oauth_users": false})).await;
        assert_eq!(world.sign_in().await.status, 200, "whoever is linked may go on");
        world.provider.behave(Behaviour {
            claims: json!({"sub": "subject-2"}),
            userinfo: json!({"sub": "subject-2"}),
            ..Behaviour::default()
        });
        assert_eq!(world.sign_in().await.status, 403);
        // A provider that is gone takes its links along; its users stay.
        let path = format!("/auth/oauth/providers/{}", world.provider_id);
        assert_eq!(world.admin.delete(&path).await.0, 200);
        let snapshot = world.bench.store.snapshot();
        assert_eq!((snapshot.identity.oauth_links.len(), snapshot.identity.users.len()), (0, 2));
        assert_eq!(world.bench.client.get("/auth/oauth/corp%20id/authorize").await.0, 404);
    });
}

#[test]
fn the_second_factor_after_a_provider() {
    smol::block_on(async {
        let world = world().await;
        world.admin.put("/auth/settings").json(json!({"require_totp_for_oauth": true})).await;
        // Nobody enrolled yet: a token for that alone.
        let json = world.sign_in().await.json();
        assert_eq!((&json["totp_setup_required"], &json["refresh_token"]), (&json!(true), &Value::Null));
        let ada = world.bench.client.with_bearer(text(&json["tokens"]["access_token"]));
        assert_eq!(ada.get("/rules").await.0, 403);
        let secret = text(&ada.post("/auth/totp/setup").await.1["secret"]);
        let code = world.bench.code(&secret);
        assert_eq!(ada.post("/auth/totp/verify").json(json!({"code": code})).await.0, 200);
        let json = world.sign_in().await.json();
        assert_eq!((&json["tokens"], &json["totp_required"]), (&Value::Null, &json!(true)));
        let challenge = text(&json["challenge"]);
        let answer = |code: &str| {
            world.bench.post("/auth/totp/login", json!({"challenge": challenge, "totp_code": code}))
        };
        assert_eq!(answer("000000x").await.0, 401);
        world.bench.advance(30);
        let (status, pair) = answer(&world.bench.code(&secret)).await;
        assert_eq!(status, 200, "{pair}");
        let ada = world.bench.client.with_bearer(text(&pair["access_token"]));
        assert_eq!(ada.get("/rules").await.0, 200);
        world.bench.advance(30);
        assert_eq!(answer(&world.bench.code(&secret)).await.0, 401, "a challenge is good for one sign-in");
        let body = json!({"challenge": "x", "username": "ada", "totp_code": "000000"});
        assert_eq!(world.bench.post("/auth/totp/login", body).await.0, 400);
    });
}

#[test]
fn github_is_asked_for_account_and_mail() {
    smol::block_on(async {
        let world = world().await;
        // The preset's addresses are GitHub's own; an administrator may change them.
        let body =
            json!({"name": "g", "provider_type": "github", "client_id": CLIENT, "client_secret": SECRET});
        let (_, made) = world.admin.post("/auth/oauth/providers").json(body).await;
        assert_eq!(made["data"]["name"], "GitHub");
        let path = format!("/auth/oauth/providers/{}", text(&made["data"]["id"]));
        let base = &world.provider.base;
        let body = json!({"auth_url": format!("{base}/authorize"), "token_url": format!("{base}/token"),
            "userinfo_url": format!("{base}/user")});
        assert_eq!(world.admin.put(&path).json(body).await.0, 200);
        let (_, begun) = world.bench.client.get("/auth/oauth/github/authorize").await;
        let url = text(&begun["authorize_url"]);
        assert!(!url.contains("nonce="));
        let code = world.provider.agree(&url);
        let path = format!("/auth/oauth/github/callback?code={code}&state={}", text(&begun["state"]));
        let (status, json) = world.bench.client.get(&path).await;
        assert_eq!(status, 200, "{json}");
        let octo = world.bench.client.with_bearer(text(&json["access_token"]));
        assert_eq!(octo.get("/auth/me").await.1["username"], "octo");
        let snapshot = world.bench.store.snapshot();
        let link = snapshot.identity.oauth_links.iter().next().unwrap();
        assert_eq!((link.subject.as_str(), link.email.as_deref()), ("4711", Some("octo@example.org")));
    });
}

#[test]
fn a_browser_gets_a_page_that_keeps_the_token() {
    smol::block_on(async {
        let world = world().await;
        let (url, state) = world.begin().await;
        let code = world.provider.agree(&url);
        let path = format!("/auth/oauth/corp%20id/callback?code={code}&state={state}");
        let browser =
            |path: &str| world.bench.client.get(path).header("Accept", "text/html,*/*;q=0.8").send();
        let answer = browser(&path).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let html = answer.text();
        assert!(html.contains(r#"localStorage.setItem("aifw_token""#));
        assert!(html.contains("&quot;access_token&quot;:&quot;ey"), "{html}");
        // The one script of the page is the one that its policy names.
        let script = html.split("<script>").nth(1).unwrap().split("</script>").next().unwrap();
        let hash = ring::digest::digest(&ring::digest::SHA256, script.as_bytes());
        let hash = format!("'sha256-{}'", data_encoding::BASE64.encode(hash.as_ref()));
        assert!(answer.header("content-security-policy").unwrap().contains(&hash));
        let again = browser(&path).await;
        assert_eq!(again.status, 400);
        assert!(again.text().contains("unknown, used or older"));
    });
}

#[test]
fn without_the_switch_providers_must_be_https() {
    smol::block_on(async {
        let bench = bench_with(Options::default()).await;
        let admin = bench.admin().await;
        let body = json!({"name": "x", "provider_type": "oidc", "client_id": "c", "client_secret": "s",
            "auth_url": "http://127.0.0.1:1/a", "token_url": "http://127.0.0.1:1/t",
            "userinfo_url": "http://127.0.0.1:1/u"});
        assert_eq!(admin.post("/auth/oauth/providers").json(body).await.0, 400);
    });
}
