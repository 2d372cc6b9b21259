//! Language-model providers, with stand-ins that answer as their documented protocols say.

use serde_json::{Value, json};
use smol::block_on;

use crate::rig::Rig;
use crate::stand_in::StandIn;

/// OpenAI's `GET /v1/models` (also of LM Studio), Anthropic's `GET /v1/models` and Ollama's `GET /api/tags`, behind
/// one key.
fn stand_in(key: &'static str) -> StandIn {
    StandIn::new(move |request| {
        let body = match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/v1/models") if request.header("anthropic-version") == "2023-06-01" => {
                match request.header("x-api-key") == key {
                    true => json!({ "data": [{ "type": "model", "id": "claude-x", "display_name": "Claude X", "created_at": "2025-01-01T00:00:00Z" }],
                        "has_more": false, "first_id": "claude-x", "last_id": "claude-x" }),
                    false => return (401, json!({ "type": "error", "error": { "type": "authentication_error", "message": "invalid x-api-key" } }).to_string()),
                }
            }
            ("GET", "/v1/models") if request.header("authorization") == format!("Bearer {key}") => json!({
                "object": "list", "data": [{ "id": "gpt-a", "object": "model", "created": 1, "owned_by": "x" },
                    { "id": "gpt-b", "object": "model", "created": 2, "owned_by": "x" }] }),
            // A server that repeats what it was sent.
            ("GET", "/v1/models") => {
                let said = format!("Incorrect API key provided: {}", request.header("authorization"));
                return (
                    401,
                    json!({ "error": { "message": said, "type": "invalid_request_error" } }).to_string(),
                );
            }
            ("GET", "/api/tags") => {
                json!({ "models": [{ "name": "llama3:8b", "model": "llama3:8b", "size": 1 }] })
            }
            _ => return (404, json!({ "error": "not found" }).to_string()),
        };
        (200, body.to_string())
    })
}

async fn put(rig: &Rig, body: Value) {
    let answer = rig.ok("PUT", "/settings/ai", body).await;
    assert!(answer["message"].is_string());
}

#[test]
fn b10_a_key_is_set_and_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    block_on(async {
        let rig = Rig::new(dir.path());
        let fresh = rig.get("/settings/ai").await;
        let row = |name: &str| json!({ "provider": name, "enabled": false, "api_key_set": false, "endpoint": "", "model": "" });
        let rows = ["openai", "claude", "lm_studio", "ollama"].map(row);
        assert_eq!(fresh, json!({ "enabled": false, "active_provider": "", "providers": rows }));
        put(&rig, json!({ "enabled": true, "active_provider": "claude", "provider": "claude", "api_key": "marked-key", "model": "claude-x",
            "provider_enabled": true, "endpoint": "https://api.anthropic.com" })).await;
        let shown = rig.get("/settings/ai").await;
        let claude = json!({ "provider": "claude", "enabled": true, "api_key_set": true, "endpoint": "https://api.anthropic.com", "model": "claude-x" });
        assert_eq!(shown["providers"][1], claude);
        assert!(!shown.to_string().contains("marked-key") && !rig.audited().contains("marked-key"));
        for bad in [
            json!({ "provider": "skynet" }),
            json!({ "active_provider": "skynet" }),
            json!({ "enabled": "yes" }),
        ] {
            rig.refused(400, "PUT", "/settings/ai", bad).await;
        }
        put(&rig, json!({ "provider": "claude", "api_key": "" })).await;
        assert_eq!(rig.get("/settings/ai").await["providers"][1]["api_key_set"], false);
    });
}

#[test]
fn b12_an_unreachable_endpoint_is_told() {
    let dir = tempfile::tempdir().unwrap();
    block_on(async {
        let rig = Rig::new(dir.path());
        let none = rig.ok("POST", "/settings/ai/test", json!({ "provider": "openai" })).await;
        assert_eq!((&none["success"], none["error"].is_string()), (&false.into(), true));
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let draft = json!({ "provider": "ollama", "endpoint": format!("http://127.0.0.1:{port}") });
        let answer = rig.ok("POST", "/settings/ai/test", draft).await;
        assert_eq!((&answer["success"], &answer["status_code"]), (&false.into(), &"000".into()));
        for bad in [json!({}), json!({ "provider": "skynet" })] {
            rig.refused(400, "POST", "/settings/ai/test", bad).await;
        }
        // A cloud's metadata service is never asked.
        let metadata = json!({ "provider": "ollama", "endpoint": "http://169.254.169.254" });
        let answer = rig.ok("POST", "/settings/ai/test", metadata).await;
        assert_eq!(answer["status_code"], "000");
        assert!(answer["error"].as_str().unwrap().contains("169.254.169.254"), "{answer}");
    });
}

#[test]
fn every_provider_is_asked_in_its_own_protocol() {
    let dir = tempfile::tempdir().unwrap();
    let server = stand_in("right");
    block_on(async {
        let rig = Rig::new(dir.path());
        for (provider, endpoint, models) in [
            ("openai", format!("{}/v1", server.url), json!(["gpt-a", "gpt-b"])),
            ("lm_studio", format!("{}/v1/", server.url), json!(["gpt-a", "gpt-b"])),
            ("claude", server.url.clone(), json!(["claude-x"])),
            ("ollama", server.url.clone(), json!(["llama3:8b"])),
        ] {
            let path = format!("/settings/ai/models?provider={provider}");
            let none = rig.get(&path).await;
            assert_eq!((&none["models"], none["error"].is_string()), (&json!([]), true));
            put(
                &rig,
                json!({ "provider": provider, "endpoint": endpoint, "api_key": "right", "model": "m" }),
            )
            .await;
            assert_eq!(rig.get(&path).await, json!({ "models": models }), "{provider}");
            let tested = rig.ok("POST", "/settings/ai/test", json!({ "provider": provider })).await;
            assert_eq!(
                tested,
                json!({ "success": true, "status_code": "200", "endpoint": endpoint, "model": "m" })
            );
        }
        // A wrong key: refused, and what the server repeats of it is not passed on.
        put(&rig, json!({ "provider": "openai", "api_key": "marked-wrong" })).await;
        let tested = rig.ok("POST", "/settings/ai/test", json!({ "provider": "openai" })).await;
        assert_eq!((&tested["success"], &tested["status_code"]), (&false.into(), &"401".into()));
        assert!(!tested.to_string().contains("marked-wrong"), "{tested}");
        put(&rig, json!({ "provider": "claude", "api_key": "wrong" })).await;
        let fallback = rig.get("/settings/ai/models?provider=claude").await;
        assert!(!fallback["models"].as_array().unwrap().is_empty() && fallback["error"].is_string());
        for bad in ["", "?provider=", "?provider=skynet"] {
            rig.refused(400, "GET", &format!("/settings/ai/models{bad}"), Value::Null).await;
        }
    });
}

#[test]
fn a_stored_key_is_sent_to_its_own_server_only() {
    let dir = tempfile::tempdir().unwrap();
    let (own, other) = (stand_in("marked-key"), stand_in("marked-key"));
    block_on(async {
        let rig = Rig::new(dir.path());
        let endpoint = format!("{}/v1", own.url);
        put(&rig, json!({ "provider": "openai", "endpoint": endpoint, "api_key": "marked-key" })).await;
        let elsewhere = format!("{}/v1", other.url);
        let draft = json!({ "provider": "openai", "endpoint": elsewhere });
        let answer = rig.ok("POST", "/settings/ai/test", draft).await;
        assert_eq!(answer["success"], false);
        assert!(answer["error"].as_str().unwrap().contains("was not sent"), "{answer}");
        let asked = other.taken();
        assert_eq!(asked.len(), 1);
        assert!(!format!("{asked:?}").contains("marked-key"));
        // Nor does a stored endpoint change under a stored key.
        let told = rig
            .refused(400, "PUT", "/settings/ai", json!({ "provider": "openai", "endpoint": elsewhere }))
            .await;
        assert!(told.starts_with("api_key: ") && !told.contains("marked-key"), "{told}");
        // Another path of the same server has it; with a key of its own, a draft may go anywhere.
        let same =
            rig.ok("POST", "/settings/ai/test", json!({ "provider": "openai", "endpoint": endpoint })).await;
        assert_eq!(same["success"], true);
        let draft = json!({ "provider": "openai", "endpoint": elsewhere, "api_key": "other-key" });
        rig.ok("POST", "/settings/ai/test", draft).await;
        assert_eq!(other.taken()[0].header("authorization"), "Bearer other-key");
    });
}
