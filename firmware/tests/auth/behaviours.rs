//! "Behaviours to show" of contract/auth.md, one test each.

use aifw::api::testing::Request;
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use super::bench::{PASSWORD, bench, claims, status, text};

#[test]
fn b01_the_first_to_register_is_the_administrator() {
    smol::block_on(async {
        let bench = bench().await;
        let body = json!({"username": "admin", "password": PASSWORD, "role": "viewer"});
        let (status, json) = bench.post("/auth/register", body).await;
        assert_eq!(status, 201);
        assert_eq!(json["data"]["role"], "admin");
        assert_eq!(json["data"]["role_id"], "builtin-admin");
        assert_eq!(json["data"]["auth_provider"], "local");
        assert_eq!(json["data"]["enabled"], true);
        let (status, json) =
            bench.post("/auth/register", json!({"username": "second", "password": PASSWORD})).await;
        assert_eq!(status, 403);
        assert_eq!(json["error"], json["message"]);
        // With registration open, as a viewer.
        let admin = bench.sign_in("admin").await;
        admin.put("/auth/settings").json(json!({"allow_registration": true})).await;
        let body = json!({"username": "second", "password": PASSWORD, "role": "admin"});
        let (status, json) = bench.post("/auth/register", body.clone()).await;
        assert_eq!((status, &json["data"]["role"]), (201, &json!("viewer")));
        assert_eq!(bench.post("/auth/register", body).await.0, 409);
    });
}

#[test]
fn b02_passwords_that_are_too_weak() {
    smol::block_on(async {
        let bench = bench().await;
        for password in ["Ab1", "testpass123", "TESTPASS123", "TestPasswd"] {
            let (status, json) =
                bench.post("/auth/register", json!({"username": "admin", "password": password})).await;
            assert_eq!(status, 400, "{password}");
            assert!(text(&json["error"]).starts_with("password: "), "{json}");
        }
        let body = json!({"username": "admin", "password": "GoodPass1"});
        assert_eq!(bench.post("/auth/register", body).await.0, 201);
    });
}

#[test]
fn b03_login_gives_the_tokens_twice_and_the_claims_of_the_ui() {
    smol::block_on(async {
        let bench = bench().await;
        bench.admin().await;
        let answer = bench.login("ADMIN", PASSWORD).send().await;
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let json = answer.json();
        assert_eq!(json["totp_required"], false);
        assert_eq!(json["token_type"], "Bearer");
        assert_eq!(json["tokens"]["access_token"], json["access_token"]);
        assert_eq!(json["tokens"]["refresh_token"], json["refresh_token"]);
        assert!(text(&json["refresh_token"]).starts_with("rfx_"));
        let token = text(&json["access_token"]);
        let header = BASE64URL_NOPAD.decode(token.split('.').next().unwrap().as_bytes()).unwrap();
        assert_eq!(header, br#"{"typ":"JWT","alg":"HS256"}"#);
        let claims = claims(&token);
        assert_eq!(claims["perm"], json!(137_438_953_471_u64));
        assert_eq!(claims["role"], "admin");
        assert_eq!(claims["username"], "admin");
        assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 480 * 60);
        // One page of the UI decodes it as plain Base64.
        let payload = token.split('.').nth(1).unwrap();
        assert!(!payload.contains(['-', '_']), "{payload}");
        let (_, me) = bench.client.get("/auth/me").bearer(&token).await;
        assert_eq!(me["permissions"].as_array().unwrap().len(), 37);
        assert_eq!((&me["role"], &me["role_id"]), (&json!("admin"), &json!("builtin-admin")));
        assert_eq!((&me["totp_enabled"], &me["auth_provider"]), (&json!(false), &json!("local")));
    });
}

#[test]
fn b04_five_wrong_passwords_lock_the_name_known_or_not() {
    smol::block_on(async {
        let bench = bench().await;
        bench.admin().await;
        for name in ["admin", "nobody"] {
            for attempt in 1..=5 {
                let answer = bench.login_from("192.0.2.1", name, "WrongPass1").await;
                assert_eq!(answer.status, 401, "{name}, attempt {attempt}");
                assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
            }
            // Also with the right password, in other letter case, and from elsewhere.
            let answer = bench.login_from("192.0.2.2", &name.to_uppercase(), PASSWORD).await;
            assert_eq!(answer.status, 429);
            let left: u64 = answer.header("retry-after").unwrap().parse().unwrap();
            assert!((200..=300).contains(&left), "{left}");
        }
        bench.advance(301);
        assert_eq!(bench.login_from("192.0.2.2", "admin", PASSWORD).await.status, 200);
        assert_eq!(bench.login_from("192.0.2.2", "nobody", PASSWORD).await.status, 401);
    });
}

#[test]
fn b05_without_a_good_credential_nothing_opens() {
    smol::block_on(async {
        let bench = bench().await;
        bench.admin().await;
        let token = text(&bench.tokens("admin").await["access_token"]);
        let payload = token.split('.').nth(1).unwrap();
        let none = format!("{}.{payload}.", BASE64URL_NOPAD.encode(br#"{"typ":"JWT","alg":"none"}"#));
        for path in ["/status", "/rules", "/metrics"] {
            let get = |path: &str| bench.client.get(path);
            let refused: [Request; 8] = [
                get(path),
                get(path).bearer("junk"),
                get(path).bearer(&none),
                get(path).bearer(format!("{token}x")),
                get(&format!("{path}?token={token}")),
                get(path).header("Authorization", format!("Basic {token}")),
                get(path).header("Authorization", "Bearer"),
                get(path).api_key("aifw_00000000000000000000000000000000"),
            ];
            for request in refused {
                let answer = request.send().await;
                assert_eq!(answer.status, 401, "{path}");
                assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
                assert!(answer.json()["error"].is_string());
            }
            assert_eq!(status(get(path).bearer(&token)).await, 200);
        }
    });
}

#[test]
fn b06_a_used_refresh_token_ends_its_family() {
    smol::block_on(async {
        let bench = bench().await;
        bench.admin().await;
        let first = text(&bench.tokens("admin").await["refresh_token"]);
        let (status, pair) = bench.post("/auth/refresh", json!({"refresh_token": first})).await;
        assert_eq!(status, 200);
        let second = text(&pair["refresh_token"]);
        assert_ne!(first, second);
        let access = bench.client.with_bearer(text(&pair["access_token"]));
        assert_eq!(access.get("/rules").await.0, 200);
        for token in [&first, &second] {
            assert_eq!(bench.post("/auth/refresh", json!({"refresh_token": token})).await.0, 401);
        }
        assert_eq!(bench.post("/auth/refresh", json!({"refresh_token": "rfx_unknown"})).await.0, 401);
        assert!(bench.actions(&access).await.contains(&"token_reuse".to_owned()));
    });
}

#[test]
fn b07_logout_revokes_the_token() {
    smol::block_on(async {
        let bench = bench().await;
        let admin = bench.admin().await;
        let tokens = bench.tokens("admin").await;
        let client = bench.client.with_bearer(text(&tokens["access_token"]));
        let body = json!({"refresh_token": tokens["refresh_token"]});
        let (code, json) = client.post("/auth/logout").json(body.clone()).await;
        assert_eq!((code, &json["message"]), (200, &json!("Logged out")));
        assert_eq!(client.get("/auth/me").await.0, 401);
        assert_eq!(bench.post("/auth/refresh", body).await.0, 401);
        // Others of the same user are not touched.
        assert_eq!(admin.get("/auth/me").await.0, 200);
        // Without a body, and with a refresh token of somebody else.
        let client = bench.sign_in("admin").await;
        assert_eq!(client.post("/auth/logout").header("Content-Type", "application/json").await.0, 200);
        assert_eq!(client.get("/auth/me").await.0, 401);
        let client = bench.sign_in("admin").await;
        let body = json!({"refresh_token": "rfx_0000"});
        assert_eq!(client.post("/auth/logout").json(body).await.0, 400);
        assert_eq!(client.get("/auth/me").await.0, 401);
    });
}

#[test]
fn b08_the_second_factor_from_setup_to_recovery() {
    smol::block_on(async {
        let bench = bench().await;
        let client = bench.admin().await;
        assert_eq!(client.post("/auth/totp/verify").json(json!({"code": "000000"})).await.0, 400);
        let (code, setup) = client.post("/auth/totp/setup").await;
        assert_eq!(code, 200);
        let secret = text(&setup["secret"]);
        let recovery: Vec<String> = setup["recovery_codes"].as_array().unwrap().iter().map(text).collect();
        assert_eq!(recovery.len(), 8);
        assert_eq!(
            setup["provisioning_uri"],
            format!("otpauth://totp/AiFw:admin?secret={secret}&issuer=AiFw&digits=6&period=30")
        );
        // Not on yet: the password is enough.
        assert_eq!(bench.tokens("admin").await["totp_required"], false);
        let wrong = if bench.code(&secret) == "123456" { "654321" } else { "123456" };
        assert_eq!(client.post("/auth/totp/verify").json(json!({"code": wrong})).await.0, 401);
        let (code, json) = client.post("/auth/totp/verify").json(json!({"code": bench.code(&secret)})).await;
        assert_eq!((code, &json["message"]), (200, &json!("TOTP enabled")));
        assert_eq!(client.post("/auth/totp/setup").await.0, 409);
        assert_eq!(client.get("/auth/me").await.1["totp_enabled"], true);

        let (code, json) = bench.login("admin", PASSWORD).await;
        assert_eq!((code, json), (200, json!({"tokens": null, "totp_required": true})));
        let second = |code: String| {
            let body = json!({"username": "admin", "password": PASSWORD, "totp_code": code});
            bench.post("/auth/totp/login", body)
        };
        let code = bench.code(&secret);
        let (status, pair) = second(code.clone()).await;
        assert_eq!(status, 200);
        assert!(pair["access_token"].is_string() && pair["refresh_token"].is_string());
        assert_eq!(second(code).await.0, 401);
        assert_eq!(second(format!(" {} ", recovery[3].to_lowercase())).await.0, 200);
        assert_eq!(second(recovery[3].clone()).await.0, 401);
        assert_eq!(second(recovery[4].clone()).await.0, 200);
        // Wrong name or password never gets as far as the code.
        let body = json!({"username": "admin", "password": "WrongPass1", "totp_code": recovery[5]});
        assert_eq!(bench.post("/auth/totp/login", body).await.0, 401);
        assert_eq!(second(recovery[5].clone()).await.0, 200);

        let (code, json) = client.post("/auth/totp/disable").json(json!({"code": recovery[6]})).await;
        assert_eq!((code, &json["message"]), (200, &json!("TOTP disabled")));
        assert_eq!(client.post("/auth/totp/disable").json(json!({"code": recovery[7]})).await.0, 400);
        assert_eq!(bench.tokens("admin").await["totp_required"], false);
    });
}

#[test]
fn b09_a_viewer_sees_and_changes_nothing() {
    smol::block_on(async {
        let bench = bench().await;
        let admin = bench.admin().await;
        bench.user(&admin, "vera", "viewer").await;
        let vera = bench.sign_in("vera").await;
        for path in ["/rules", "/status"] {
            assert_eq!(vera.get(path).await.0, 200, "{path}");
        }
        // There is no packet filter to ask, but she may.
        assert!(!matches!(vera.get("/connections").await.0, 401 | 403));
        for path in ["/auth/users", "/auth/settings", "/auth/audit", "/auth/roles", "/auth/api-keys"] {
            assert_eq!(vera.get(path).await.0, 403, "{path}");
        }
        assert_eq!(status(vera.post("/rules").body("{broken")).await, 403);
        assert_eq!(status(vera.post("/auth/users").body("{broken")).await, 403);
    });
}

#[test]
fn b10_a_disabled_user_is_out_at_once() {
    smol::block_on(async {
        let bench = bench().await;
        let admin = bench.admin().await;
        let id = bench.user(&admin, "oscar", "admin").await;
        let tokens = bench.tokens("oscar").await;
        let oscar = bench.client.with_bearer(text(&tokens["access_token"]));
        let (_, minted) = oscar.post("/auth/api-keys").json(json!({"name": "script"})).await;
        let key = text(&minted["key"]);
        assert_eq!(bench.client.get("/rules").api_key(&key).await.0, 200);
        let (status, json) = admin.put(&format!("/auth/users/{id}")).json(json!({"enabled": false})).await;
        assert_eq!((status, &json["data"]["enabled"]), (200, &json!(false)));
        assert_eq!(oscar.get("/rules").await.0, 401);
        assert_eq!(bench.client.get("/rules").api_key(&key).await.0, 401);
        let body = json!({"refresh_token": tokens["refresh_token"]});
        assert_eq!(bench.post("/auth/refresh", body.clone()).await.0, 401);
        assert_eq!(bench.login("oscar", PASSWORD).await.0, 401);
        // Enabled again: what was revoked stays so, the key works again.
        admin.put(&format!("/auth/users/{id}")).json(json!({"enabled": true})).await;
        assert_eq!(oscar.get("/rules").await.0, 401);
        assert_eq!(bench.post("/auth/refresh", body).await.0, 401);
        assert_eq!(bench.client.get("/rules").api_key(&key).await.0, 200);
        assert_eq!(bench.sign_in("oscar").await.get("/rules").await.0, 200);
    });
}

#[test]
fn b11_a_role_that_grows_lets_the_same_token_do_more() {
    smol::block_on(async {
        let bench = bench().await;
        let admin = bench.admin().await;
        let body = json!({"name": "Rule reader", "permissions": ["rules:read"], "description": "night"});
        let (status, role) = admin.post("/auth/roles").json(body).await;
        assert_eq!(status, 201);
        assert_eq!((&role["permission_bits"], &role["builtin"]), (&json!(2), &json!(false)));
        assert_eq!(role["description"], "night");
        bench.user(&admin, "rita", "Rule reader").await;
        let rita = bench.sign_in("rita").await;
        assert_eq!(rita.get("/rules").await.0, 200);
        let rule = json!({"action": "block", "direction": "in", "protocol": "any"});
        assert_eq!(rita.post("/rules").json(&rule).await.0, 403);
        let path = format!("/auth/roles/{}", text(&role["id"]));
        let (status, json) =
            admin.put(&path).json(json!({"permissions": ["rules:read", "rules:write"]})).await;
        assert_eq!((status, &json["message"]), (200, &json!("Role updated")));
        assert_eq!(rita.post("/rules").json(&rule).await.0, 201);
        // A rename shows everywhere, and null empties the description.
        admin.put(&path).json(json!({"name": "Ruler", "description": null})).await;
        assert_eq!(rita.get("/auth/me").await.1["role"], "Ruler");
        let (_, roles) = admin.get("/auth/roles").await;
        let names: Vec<String> =
            roles["roles"].as_array().unwrap().iter().map(|r| text(&r["name"])).collect();
        assert_eq!(names, ["admin", "operator", "viewer", "Ruler"]);
        assert_eq!(roles["roles"][3]["description"], Value::Null);
    });
}

#[test]
fn b12_what_cannot_be_done_to_roles() {
    smol::block_on(async {
        let bench = bench().await;
        let admin = bench.admin().await;
        let make = |body: Value| admin.post("/auth/roles").json(body);
        let (_, role) = make(json!({"name": "Readers", "permissions": ["rules:read"]})).await;
        let path = format!("/auth/roles/{}", text(&role["id"]));
        bench.user(&admin, "rita", &text(&role["id"])).await;
        assert_eq!(admin.delete(&path).await.0, 409);
        assert_eq!(admin.delete("/auth/roles/builtin-viewer").await.0, 403);
        let builtin = "/auth/roles/builtin-viewer";
        assert_eq!(admin.put(builtin).json(json!({"name": "x"})).await.0, 403);
        assert_eq!(admin.put(builtin).json(json!({"permissions": []})).await.0, 403);
        assert_eq!(admin.put(builtin).json(json!({"description": "looks"})).await.0, 200);
        assert_eq!(make(json!({"name": "a", "permissions": ["rules:fly"]})).await.0, 400);
        assert_eq!(admin.put(&path).json(json!({"permissions": ["rules:fly"]})).await.0, 400);
        assert_eq!(make(json!({"name": " ", "permissions": []})).await.0, 400);
        assert_eq!(make(json!({"name": "readers", "permissions": []})).await.0, 409);
        assert_eq!(make(json!({"name": "Admin", "permissions": []})).await.0, 409);
        assert_eq!(admin.put(&path).json(json!({"name": "viewer"})).await.0, 409);
        assert_eq!(admin.put("/auth/roles/unknown").json(json!({"name": "y"})).await.0, 404);
        assert_eq!(admin.delete("/auth/roles/unknown").await.0, 404);
        let (_, list) = admin.get("/auth/permissions").await;
        assert_eq!(list["permissions"].as_array().unwrap().len(), 37);
        assert_eq!(
            list["permissions"][1],
            json!({"key": "rules:read", "category": "rules", "action": "read"})
        );
    });
}

#[test]
fn b13_an_api_key_is_as_narrow_as_it_was_made() {
    smol::block_on(async {
        let bench = bench().await;
        let admin = bench.admin().await;
        let body = json!({"name": " metrics ", "permissions": ["dashboard:view"]});
        let (status, minted) = admin.post("/auth/api-keys").json(body).await;
        assert_eq!(status, 201);
        let key = text(&minted["key"]);
        assert_eq!(
            (&minted["name"], &minted["permissions"]),
            (&json!("metrics"), &json!(["dashboard:view"]))
        );
        assert_eq!(text(&minted["prefix"]), key[..12]);
        assert!(key.starts_with("aifw_") && key.len() >= 37);
        let with_key = |path: &str| bench.client.get(path).api_key(&key);
        assert_eq!(with_key("/metrics").await.0, 200);
        assert_eq!(with_key("/rules").await.0, 403);
        let (_, me) = with_key("/auth/me").await;
        assert_eq!((&me["username"], &me["permissions"]), (&json!("admin"), &json!(["dashboard:view"])));
        assert_eq!(bench.client.post("/auth/totp/setup").api_key(&key).await.0, 403);
        // Nowhere again: not in answers, not on the disk.
        let (_, list) = admin.get("/auth/api-keys").await;
        assert_eq!(list["data"][0]["prefix"], minted["prefix"]);
        assert!(list["data"][0]["last_used_at"].is_string());
        let secret_part = &key[12..];
        assert!(!list.to_string().contains(secret_part));
        assert!(!admin.get("/auth/audit").await.1.to_string().contains(secret_part));
        for entry in std::fs::read_dir(bench.dir.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                continue;
            }
            let bytes = std::fs::read(path).unwrap();
            let found = bytes.windows(secret_part.len()).any(|window| window == secret_part.as_bytes());
            assert!(!found, "the key is on the disk");
        }
        let path = format!("/auth/api-keys/{}", text(&minted["id"]));
        assert_eq!(admin.delete(&path).await.1["message"], "API key revoked");
        assert_eq!(with_key("/metrics").await.0, 401);
        assert_eq!(admin.delete(&path).await.0, 404);
        for body in [
            json!({"name": ""}),
            json!({"name": "x", "permissions": []}),
            json!({"name": "x", "permissions": ["no:such"]}),
            json!({"name": "aifw-daemon-loopback"}),
            json!({"permissions": ["rules:read"]}),
        ] {
            assert_eq!(admin.post("/auth/api-keys").json(&body).await.0, 400, "{body}");
        }
    });
}

#[test]
fn b14_a_ticket_opens_a_stream_once_and_for_30_seconds() {
    smol::block_on(async {
        let bench = bench().await;
        let admin = bench.admin().await;
        let mint = || async {
            let (status, json) =
                admin.post("/auth/ws-ticket").header("Content-Type", "application/json").await;
            assert_eq!((status, &json["expires_in_seconds"]), (200, &json!(30)));
            text(&json["ticket"])
        };
        let ticket = mint().await;
        assert_eq!(ticket.len(), 64);
        assert_eq!(bench.open_stream(&ticket).await, 101);
        assert_eq!(bench.open_stream(&ticket).await, 401);
        let ticket = mint().await;
        bench.advance(31);
        assert_eq!(bench.open_stream(&ticket).await, 401);
        let ticket = mint().await;
        assert_eq!(bench.client.get(&format!("/rules?ticket={ticket}")).await.0, 401);
        assert_eq!(bench.open_stream(&ticket).await, 101);
        assert_eq!(bench.open_stream("not-hexadecimal").await, 401);
        // Whoever was shut out meanwhile does not get in with it.
        let ticket = mint().await;
        admin.post("/auth/logout").await;
        assert_eq!(bench.open_stream(&ticket).await, 401);
    });
}

#[test]
fn b15_the_last_administrator_stays() {
    smol::block_on(async {
        let bench = bench().await;
        let admin = bench.admin().await;
        let own = text(&admin.get("/auth/me").await.1["id"]);
        let own = format!("/auth/users/{own}");
        let other = format!("/auth/users/{}", bench.user(&admin, "Otto", "admin").await);
        assert_eq!(admin.delete(&own).await.0, 400);
        assert_eq!(admin.put(&other).json(json!({"username": "ADMIN"})).await.0, 409);
        let otto = bench.sign_in("otto").await;
        assert_eq!(otto.put(&own).json(json!({"enabled": false})).await.0, 200);
        assert_eq!(otto.put(&other).json(json!({"role": "viewer"})).await.0, 409);
        assert_eq!(otto.put(&other).json(json!({"enabled": false})).await.0, 409);
        assert_eq!(otto.put(&own).json(json!({"enabled": true})).await.0, 200);
        let admin = bench.sign_in("admin").await;
        assert_eq!(admin.put(&other).json(json!({"role": "viewer"})).await.0, 200);
        assert_eq!(admin.put(&own).json(json!({"role": "operator"})).await.0, 409);
        // Nor by taking the permissions from the role that makes the administrator.
        let permissions: Vec<String> =
            admin.get("/auth/me").await.1["permissions"].as_array().unwrap().iter().map(text).collect();
        let (_, role) =
            admin.post("/auth/roles").json(json!({"name": "Boss", "permissions": permissions})).await;
        assert_eq!(admin.put(&own).json(json!({"role": "Boss"})).await.0, 200);
        let role = format!("/auth/roles/{}", text(&role["id"]));
        assert_eq!(admin.put(&role).json(json!({"permissions": ["rules:read"]})).await.0, 409);
        let (status, json) = admin.delete(&other).await;
        assert_eq!((status, &json["message"]), (200, &json!("User Otto deleted")));
        assert_eq!(admin.get(&other).await.0, 404);
        assert_eq!(admin.delete(&other).await.0, 404);
    });
}

#[test]
fn b16_settings_are_all_or_nothing_and_act_at_once() {
    smol::block_on(async {
        let bench = bench().await;
        let admin = bench.admin().await;
        let (_, before) = admin.get("/auth/settings").await;
        let fields: Vec<&String> = before.as_object().unwrap().keys().collect();
        assert_eq!(fields.len(), 9, "{fields:?}");
        let body = json!({"access_token_expiry_mins": 30, "max_login_attempts": 0});
        assert_eq!(admin.put("/auth/settings").json(body).await.0, 400);
        assert_eq!(admin.put("/auth/settings").json(json!({"require_totp": "yes"})).await.0, 400);
        assert_eq!(admin.put("/auth/settings").json(json!({"password_min_length": 7})).await.0, 400);
        assert_eq!(admin.get("/auth/settings").await.1, before);
        let body =
            json!({"access_token_expiry_mins": 30, "max_login_attempts": 1, "password_min_length": 12});
        let (status, json) = admin.put("/auth/settings").json(body).await;
        assert_eq!((status, &json["message"]), (200, &json!("Settings updated")));
        let claims = claims(&text(&bench.tokens("admin").await["access_token"]));
        assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 1800);
        let body = json!({"username": "new", "password": "GoodPass1"});
        assert_eq!(admin.post("/auth/users").json(body).await.0, 400);
        assert_eq!(bench.login("admin", "WrongPass1").await.0, 401);
        assert_eq!(bench.login("admin", PASSWORD).await.0, 429);
        // Nothing is pending by it.
        let snapshot = bench.store.snapshot();
        assert_eq!(snapshot.config.auth, snapshot.applied.auth);
        assert_eq!(snapshot.config.auth.access_token_expiry_mins, 30);
    });
}

#[test]
fn b17_bad_requests_say_what_is_wrong() {
    smol::block_on(async {
        let bench = bench().await;
        let admin = bench.admin().await;
        let bad = [
            bench.client.post("/auth/login").body("{broken"),
            bench.client.post("/auth/login").json(json!({"password": PASSWORD})),
            bench.client.post("/auth/login").json(json!({"username": 5, "password": PASSWORD})),
            bench.client.post("/auth/login").body(""),
            admin.get("/auth/audit?limit=abc"),
            admin.get("/auth/audit?limit=-1"),
            admin.get("/auth/audit?user_id=x"),
            admin.get("/auth/users/not-a-uuid"),
            admin.post("/auth/users").json(json!({"username": "a b", "password": PASSWORD})),
            admin.post("/auth/users").json(json!({"username": "a", "password": PASSWORD, "role": "none"})),
        ];
        for request in bad {
            let answer = request.send().await;
            assert_eq!(answer.status, 400, "{}", answer.text());
            assert_eq!(answer.header("content-type"), Some("application/json"));
            assert!(!text(&answer.json()["error"]).is_empty());
        }
        // A number that no counter holds is a number all the same: the limit is clamped, the offset is past the end.
        let huge = "9".repeat(30);
        let (status, json) = admin.get(&format!("/auth/audit?limit={huge}")).await;
        assert_eq!((status, json["data"].as_array().unwrap().is_empty()), (200, false));
        let (status, json) = admin.get(&format!("/auth/audit?offset={huge}")).await;
        assert_eq!((status, &json["data"]), (200, &json!([])));
        let (status, json) = admin.get("/nope").await;
        assert_eq!(status, 404);
        assert!(json["error"].is_string());
    });
}

#[test]
fn b18_providers_are_set_up_without_showing_their_secret() {
    smol::block_on(async {
        let bench = bench().await;
        let admin = bench.admin().await;
        let make = |body: Value| admin.post("/auth/oauth/providers").json(body);
        let google = json!({"name": "whatever", "provider_type": "google", "client_id": "abc",
            "client_secret": "GOCSPX-hush", "auth_url": "https://evil.example/"});
        let (status, made) = make(google.clone()).await;
        assert_eq!((status, &made["data"]["name"]), (201, &json!("Google")));
        assert_eq!(made["data"]["auth_url"], "https://accounts.google.com/o/oauth2/v2/auth");
        assert_eq!(made["data"]["scopes"], "openid email profile");
        assert_eq!(make(google).await.0, 409);
        let oidc = json!({"name": "Corp", "provider_type": "oidc", "client_id": "abc", "client_secret": "hush",
            "auth_url": "https://idp.example/a", "token_url": "https://idp.example/t",
            "userinfo_url": "https://idp.example/u"});
        for (field, value) in [
            ("provider_type", json!("saml")),
            ("auth_url", json!("http://idp.example/a")),
            ("token_url", Value::Null),
            ("client_secret", json!("")),
            ("name", json!("a/b")),
        ] {
            let mut bad = oidc.clone();
            bad[field] = value;
            assert_eq!(make(bad).await.0, 400, "{field}");
        }
        let (status, corp) = make(oidc).await;
        assert_eq!(status, 201);
        let path = format!("/auth/oauth/providers/{}", text(&corp["data"]["id"]));
        let (status, json) = admin.put(&path).json(json!({"client_secret": "hush2", "enabled": false})).await;
        assert_eq!((status, &json["data"]["enabled"]), (200, &json!(false)));
        let (_, list) = admin.get("/auth/oauth/providers").await;
        let names: Vec<String> = list["data"].as_array().unwrap().iter().map(|p| text(&p["name"])).collect();
        assert_eq!(names, ["Corp", "Google"]);
        for answer in [&made, &corp, &json, &list] {
            assert!(!answer.to_string().contains("client_secret") && !answer.to_string().contains("hush"));
        }
        let get = |path: &str| bench.client.get(&format!("/auth/oauth/{path}"));
        assert_eq!(get("nobody/authorize").await.0, 404);
        assert_eq!(get("corp/authorize").await.0, 404, "disabled");
        let (status, begun) = get("GOOGLE/authorize").await;
        assert_eq!(status, 200);
        let url = url::Url::parse(&text(&begun["authorize_url"])).unwrap();
        let query: std::collections::HashMap<_, _> = url.query_pairs().into_owned().collect();
        assert_eq!(query["redirect_uri"], "https://appliance.test/api/v1/auth/oauth/Google/callback");
        assert_eq!(query["state"], text(&begun["state"]));
        assert_eq!(
            (query["response_type"].as_str(), query["code_challenge_method"].as_str()),
            ("code", "S256")
        );
        assert!(url.as_str().contains("scope=openid%20email%20profile"), "{url}");
        for path in ["google/callback", "google/callback?code=&state=x", "google/callback?code=x"] {
            assert_eq!(get(path).await.0, 400, "{path}");
        }
        assert_eq!(get("google/callback?code=x&state=unknown").await.0, 400);
        assert_eq!(admin.delete("/auth/oauth/providers/x").await.0, 400);
        let id = text(&corp["data"]["id"]);
        assert_eq!(admin.delete(&path).await.1["message"], format!("Provider {id} deleted"));
        assert_eq!(admin.delete(&path).await.0, 404);
    });
}

#[test]
fn b19_the_audit_log_tells_who_did_what_from_where() {
    smol::block_on(async {
        let bench = bench().await;
        let admin = bench.admin().await;
        let id = bench.user(&admin, "vera", "viewer").await;
        for _ in 0..6 {
            bench.login_from("192.0.2.7", "vera", "WrongPass1").await;
        }
        bench.login_from("192.0.2.8", "ghost", "WrongPass1").await;
        let (_, json) = admin.get("/auth/audit?limit=2").await;
        assert_eq!(json["data"].as_array().unwrap().len(), 2);
        assert!(json["total"].as_u64().unwrap() > 9);
        let newest = &json["data"][0];
        assert_eq!((&newest["action"], &newest["details"]), (&json!("login_failed"), &json!("ghost")));
        assert_eq!((&newest["actor_id"], &newest["ip_addr"]), (&json!("anonymous"), &json!("192.0.2.8")));
        assert_eq!(newest["user_id"], Value::Null);
        let locked = &json["data"][1];
        assert_eq!((&locked["action"], &locked["ip_addr"]), (&json!("login_locked"), &json!("192.0.2.7")));
        assert_eq!((&locked["user_id"], &locked["actor_id"]), (&json!(id), &json!(id)));
        let (_, json) = admin.get(&format!("/auth/audit?action=login_failed&user_id={id}")).await;
        assert_eq!(json["total"], 5);
        let answer = admin.get("/auth/audit?limit=0").send().await;
        assert_eq!(answer.json()["data"], json!([]));
        assert!(answer.header("x-total-count").unwrap().parse::<u64>().unwrap() > 9);
        // A write by key names the key.
        let (_, minted) = admin.post("/auth/api-keys").json(json!({"name": "robot"})).await;
        let body = json!({"name": "made", "permissions": []});
        bench.client.post("/auth/roles").api_key(text(&minted["key"])).json(body).await;
        let (_, json) = admin.get("/auth/audit?limit=1").await;
        assert_eq!(json["data"][0]["details"], "made via key robot");
        let log = admin.get("/auth/audit?limit=1000").await.1.to_string();
        for secret in [PASSWORD, "WrongPass1", text(&minted["key"]).as_str()] {
            assert!(!log.contains(secret));
        }
    });
}
