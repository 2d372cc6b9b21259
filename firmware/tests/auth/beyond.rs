//! What goes beyond the list of behaviours: no growth of permissions, self-service, enrolment, sign-ins, expiry,
//! housekeeping, the administrator of the setup file, live revocation.

use aifw::auth::{AdminPassword, NewAdmin, Options, Presented};
use aifw::config::Secret;
use serde_json::{Value, json};

use super::bench::{PASSWORD, bench, bench_with, claims, status, text};

/// With `users:write` alone nobody becomes more than they are.
#[test]
fn nobody_grows() {
    smol::block_on(async {
        let bench = bench().await;
        let admin = bench.admin().await;
        let admin_id = text(&admin.get("/auth/me").await.1["id"]);
        let permissions = json!(["users:read", "users:write", "rules:read"]);
        let (_, clerk) =
            admin.post("/auth/roles").json(json!({"name": "clerk", "permissions": permissions})).await;
        let (_, strong) = admin
            .post("/auth/roles")
            .json(json!({"name": "strong", "permissions": ["system:reboot", "rules:read"]}))
            .await;
        let viewer_id = bench.user(&admin, "vera", "viewer").await;
        let clara_id = bench.user(&admin, "clara", "clerk").await;
        bench.user(&admin, "rita", "clerk").await;
        let clara = bench.sign_in("clara").await;
        let user = |role: &str| json!({"username": "x", "password": PASSWORD, "role": role});
        let role = |id: &Value| format!("/auth/roles/{}", text(id));
        let refused = [
            clara.post("/auth/users").json(user("admin")),
            clara.post("/auth/users").json(user("viewer")),
            clara.put(&format!("/auth/users/{admin_id}")).json(json!({"password": "Another1Pass"})),
            clara.put(&format!("/auth/users/{admin_id}")).json(json!({"enabled": false})),
            clara.put(&format!("/auth/users/{viewer_id}")).json(json!({"password": "Another1Pass"})),
            clara.put(&format!("/auth/users/{clara_id}")).json(json!({"role": "admin"})),
            clara.delete(&format!("/auth/users/{admin_id}")),
            clara.post("/auth/roles").json(json!({"name": "y", "permissions": ["settings:write"]})),
            clara.put(&role(&clerk["id"])).json(json!({"permissions": ["settings:write"]})),
            clara.put(&role(&strong["id"])).json(json!({"permissions": []})),
            clara.put(&role(&strong["id"])).json(json!({"name": "weak"})),
            clara.delete(&role(&strong["id"])),
            clara.post("/auth/api-keys").json(json!({"name": "k", "permissions": ["system:reboot"]})),
            clara.put("/auth/settings").json(json!({"allow_registration": true})),
        ];
        for (number, request) in refused.into_iter().enumerate() {
            let answer = request.send().await;
            assert_eq!(answer.status, 403, "request {number}: {}", answer.text());
        }
        // What she holds she may give.
        assert_eq!(status(clara.post("/auth/users").json(user("clerk"))).await, 201);
        let body = json!({"name": "readers", "permissions": ["rules:read"]});
        assert_eq!(status(clara.post("/auth/roles").json(body)).await, 201);
        let body = json!({"name": "k", "permissions": ["rules:read"]});
        assert_eq!(status(clara.post("/auth/api-keys").json(body)).await, 201);
        let denied = bench.actions(&admin).await.iter().filter(|action| *action == "access_denied").count();
        assert!(denied >= 12, "{denied}");
    });
}

/// A key that is narrower than its owner cannot be turned into the owner.
#[test]
fn a_narrow_key_does_not_become_its_owner() {
    smol::block_on(async {
        let bench = bench().await;
        let admin = bench.admin().await;
        let id = text(&admin.get("/auth/me").await.1["id"]);
        let body = json!({"name": "k", "permissions": ["users:write", "users:read"]});
        let key = text(&admin.post("/auth/api-keys").json(body).await.1["key"]);
        let body = json!({"name": "view", "permissions": ["dashboard:view"]});
        let view = text(&admin.post("/auth/api-keys").json(body).await.1["key"]);
        let own = format!("/auth/users/{id}");
        let password = json!({"password": "Another1Pass"});
        assert_eq!(status(bench.client.put(&own).api_key(&key).json(&password)).await, 403);
        assert_eq!(status(bench.client.put(&own).api_key(&view).json(&password)).await, 403);
        let all = json!({"name": "all"});
        assert_eq!(status(bench.client.post("/auth/api-keys").api_key(&key).json(all)).await, 403);
        let same = json!({"name": "same", "permissions": ["users:read"]});
        assert_eq!(status(bench.client.post("/auth/api-keys").api_key(&key).json(same)).await, 201);
        // A ticket of a narrow key is as narrow.
        let (_, minted) = bench.client.post("/auth/ws-ticket").api_key(&key).await;
        assert_eq!(bench.open_stream(&text(&minted["ticket"])).await, 403);
        let (_, minted) = bench.client.post("/auth/ws-ticket").api_key(&view).await;
        assert_eq!(bench.open_stream(&text(&minted["ticket"])).await, 101);
    });
}

#[test]
fn a_viewer_looks_after_themselves() {
    smol::block_on(async {
        let bench = bench().await;
        let admin = bench.admin().await;
        let admin_path = format!("/auth/users/{}", text(&admin.get("/auth/me").await.1["id"]));
        let path = format!("/auth/users/{}", bench.user(&admin, "vera", "viewer").await);
        let vera = bench.sign_in("vera").await;
        let elsewhere = bench.tokens("vera").await;
        assert_eq!(vera.get(&path).await.1["data"]["username"], "vera");
        assert_eq!(vera.get(&admin_path).await.0, 403);
        assert_eq!(vera.get("/auth/users/no-uuid").await.0, 403);
        let put = |body: Value| vera.put(&path).json(body);
        assert_eq!(put(json!({"role": "admin"})).await.0, 403);
        assert_eq!(put(json!({"username": "v"})).await.0, 403);
        assert_eq!(put(json!({"enabled": false, "password": "Another1Pass"})).await.0, 403);
        assert_eq!(status(vera.put(&admin_path).body("{broken")).await, 403);
        assert_eq!(put(json!({"password": "short"})).await.0, 400);
        let body = json!({"password": "Another1Pass", "current_password": "WrongPass1"});
        assert_eq!(put(body).await.0, 403);
        let body = json!({"password": "Another1Pass", "current_password": PASSWORD});
        assert_eq!(put(body).await.0, 200);
        // This sign-in goes on, the others have ended.
        assert_eq!(vera.get("/auth/me").await.0, 200);
        let other = bench.client.with_bearer(text(&elsewhere["access_token"]));
        assert_eq!(other.get("/auth/me").await.0, 401);
        let body = json!({"refresh_token": elsewhere["refresh_token"]});
        assert_eq!(bench.post("/auth/refresh", body).await.0, 401);
        assert_eq!(bench.login("vera", PASSWORD).await.0, 401);
        let (code, fresh) = bench.login("vera", "Another1Pass").await;
        assert_eq!(code, 200);
        // A token of the very second of the change is good.
        let fresh = bench.client.with_bearer(text(&fresh["access_token"]));
        assert_eq!(fresh.get("/auth/me").await.0, 200);
    });
}

#[test]
fn who_must_enrol_gets_a_token_for_that_alone() {
    smol::block_on(async {
        let bench = bench().await;
        let admin = bench.admin().await;
        let path = format!("/auth/users/{}", bench.user(&admin, "vera", "viewer").await);
        admin.put("/auth/settings").json(json!({"require_totp": true})).await;
        let (code, json) = bench.login("vera", PASSWORD).await;
        assert_eq!(code, 200);
        assert_eq!((&json["totp_required"], &json["totp_setup_required"]), (&json!(true), &json!(true)));
        assert_eq!(json["tokens"]["refresh_token"], Value::Null);
        assert_eq!(json["tokens"]["refresh_expires_at"], Value::Null);
        let token = text(&json["tokens"]["access_token"]);
        let claims = claims(&token);
        assert_eq!(claims["perm"], 0);
        assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 900);
        let vera = bench.client.with_bearer(token);
        for request in [
            vera.get("/rules"),
            vera.post("/auth/ws-ticket"),
            vera.post("/auth/totp/disable").json(json!({"code": "000000"})),
            vera.put(&path).json(json!({"password": "Another1Pass"})),
            vera.get("/auth/sessions"),
        ] {
            assert_eq!(status(request).await, 403);
        }
        assert_eq!(vera.get("/auth/me").await.1["permissions"], json!([]));
        assert_eq!(vera.get(&path).await.0, 200);
        let secret = text(&vera.post("/auth/totp/setup").await.1["secret"]);
        assert_eq!(vera.post("/auth/totp/verify").json(json!({"code": bench.code(&secret)})).await.0, 200);
        assert_eq!(bench.login("vera", PASSWORD).await.1, json!({"tokens": null, "totp_required": true}));
        // The code that enrolled is good for the sign-in that has to follow.
        let body = json!({"username": "vera", "password": PASSWORD, "totp_code": bench.code(&secret)});
        let (code, pair) = bench.post("/auth/totp/login", body).await;
        assert_eq!(code, 200);
        let vera_now = bench.client.with_bearer(text(&pair["access_token"]));
        assert_eq!(vera_now.get("/rules").await.0, 200);
        bench.advance(30);
        let body = json!({"code": bench.code(&secret)});
        assert_eq!(vera_now.post("/auth/totp/disable").json(body).await.0, 409);
        assert_eq!(vera.post("/auth/logout").await.0, 200);
        assert_eq!(vera.get("/auth/me").await.0, 401);
    });
}

/// An unconfirmed secret is no second factor, and codes are guessed no faster than passwords.
#[test]
fn codes_are_guessed_no_faster_than_passwords() {
    smol::block_on(async {
        let bench = bench().await;
        let client = bench.admin().await;
        let secret = text(&client.post("/auth/totp/setup").await.1["secret"]);
        let second = |code: &str| {
            let body = json!({"username": "admin", "password": PASSWORD, "totp_code": code});
            bench.post("/auth/totp/login", body)
        };
        assert_eq!(second(&bench.code(&secret)).await.0, 401);
        assert_eq!(client.post("/auth/totp/verify").json(json!({"code": bench.code(&secret)})).await.0, 200);
        bench.advance(30);
        let good = bench.code(&secret);
        let wrong = if good == "123456" { "654321" } else { "123456" };
        // The right password alone does not clear the counter.
        for _ in 0..4 {
            assert_eq!(bench.login("admin", PASSWORD).await.0, 200);
            assert_eq!(second(wrong).await.0, 401);
        }
        let answer = bench.login("admin", PASSWORD).send().await;
        assert_eq!(answer.status, 429);
        assert_eq!(second(&good).await.0, 429);
        assert_eq!(client.post("/auth/totp/disable").json(json!({"code": good})).await.0, 429);
        bench.advance(300);
        assert_eq!(second(&bench.code(&secret)).await.0, 200);
    });
}

#[test]
fn a_key_can_be_bound_to_a_time_and_to_places() {
    smol::block_on(async {
        let bench = bench().await;
        let admin = bench.admin().await;
        let day = bench.clock.seconds() + 86_400;
        let day = jiff::Timestamp::from_second(day).unwrap().to_string();
        let body = json!({"name": "k", "expires_at": day, "allowed_ips": ["192.0.2.0/24", "2001:db8::7"]});
        let (status, minted) = admin.post("/auth/api-keys").json(body).await;
        assert_eq!((status, &minted["expires_at"]), (201, &json!(day)));
        assert_eq!(minted["allowed_ips"], json!(["192.0.2.0/24", "2001:db8::7/128"]));
        let key = text(&minted["key"]);
        let from = |ip: &str| bench.client.get("/rules").api_key(&key).from(ip.parse().unwrap());
        for (ip, status) in [
            ("192.0.2.77", 200),
            ("::ffff:192.0.2.77", 200),
            ("2001:db8::7", 200),
            ("2001:db8::8", 401),
            ("198.51.100.1", 401),
        ] {
            assert_eq!(from(ip).await.0, status, "{ip}");
        }
        assert_eq!(bench.client.get("/rules").api_key(&key).await.0, 401);
        bench.advance(86_400);
        assert_eq!(from("192.0.2.77").await.0, 401);
        let admin = bench.sign_in("admin").await;
        for bad in
            [json!({"expires_at": day}), json!({"expires_at": "soon"}), json!({"allowed_ips": ["here"]})]
        {
            let mut body = json!({"name": "x"});
            body.as_object_mut().unwrap().extend(bad.as_object().unwrap().clone());
            assert_eq!(admin.post("/auth/api-keys").json(&body).await.0, 400, "{body}");
        }
    });
}

#[test]
fn lists_have_pages() {
    smol::block_on(async {
        let bench = bench().await;
        let admin = bench.admin().await;
        bench.user(&admin, "vera", "viewer").await;
        let answer = admin.get("/auth/users?limit=1&offset=1").send().await;
        assert_eq!(answer.header("x-total-count"), Some("2"));
        let json = answer.json();
        assert_eq!((&json["data"][0]["username"], &json["total"]), (&json!("vera"), &json!(2)));
        let (_, json) = admin.get("/auth/roles?offset=2").await;
        assert_eq!(json["roles"].as_array().unwrap().len(), 1);
        for list in ["users", "roles", "api-keys", "sessions", "oauth/providers"] {
            assert_eq!(admin.get(&format!("/auth/{list}?limit=x")).await.0, 400, "{list}");
            assert_eq!(admin.get(&format!("/auth/{list}?limit=0")).await.0, 200, "{list}");
        }
    });
}

#[test]
fn sign_ins_can_be_seen_and_ended() {
    smol::block_on(async {
        let bench = bench().await;
        let admin = bench.admin().await;
        let vera_id = bench.user(&admin, "vera", "viewer").await;
        let request = bench.login("vera", PASSWORD).header("User-Agent", "Browser/1");
        let laptop = request.from("192.0.2.5".parse().unwrap()).await.1;
        let phone = bench.tokens("vera").await;
        let client = bench.client.with_bearer(text(&laptop["access_token"]));
        let on_phone = bench.client.with_bearer(text(&phone["access_token"]));
        let (_, list) = client.get("/auth/sessions").await;
        let sessions = list["data"].as_array().unwrap().clone();
        assert_eq!(sessions.len(), 2);
        let own = sessions.iter().find(|session| session["current"] == true).unwrap();
        assert_eq!((&own["ip_addr"], &own["user_agent"]), (&json!("192.0.2.5"), &json!("Browser/1")));
        let other = sessions.iter().find(|session| session["current"] == false).unwrap();
        let path = format!("/auth/sessions/{}", text(&other["id"]));
        assert_eq!(client.delete(&path).await.1["message"], "Signed out");
        assert_eq!(on_phone.get("/auth/me").await.0, 401);
        let body = json!({"refresh_token": phone["refresh_token"]});
        assert_eq!(bench.post("/auth/refresh", body).await.0, 401);
        assert_eq!(client.delete(&path).await.0, 404);
        // Others see theirs only; the administrator sees and ends all.
        let (_, admins) = admin.get("/auth/sessions").await;
        let admins = format!("/auth/sessions/{}", text(&admins["data"][0]["id"]));
        assert_eq!(client.delete(&admins).await.0, 404);
        let admin_id = text(&admin.get("/auth/me").await.1["id"]);
        assert_eq!(client.get(&format!("/auth/sessions?user_id={admin_id}")).await.0, 403);
        let (_, veras) = admin.get(&format!("/auth/sessions?user_id={vera_id}")).await;
        assert_eq!(veras["data"].as_array().unwrap().len(), 1);
        let path = format!("/auth/sessions/{}", text(&veras["data"][0]["id"]));
        assert_eq!(admin.delete(&path).await.0, 200);
        assert_eq!(client.get("/auth/me").await.0, 401);
    });
}

#[test]
fn what_has_run_out_is_refused_and_purged() {
    smol::block_on(async {
        let bench = bench().await;
        let admin = bench.admin().await;
        admin.put("/auth/settings").json(json!({"refresh_token_expiry_days": 1})).await;
        let tokens = bench.tokens("admin").await;
        bench.sign_in("admin").await.post("/auth/logout").await;
        bench.advance(480 * 60 + 1);
        assert_eq!(admin.get("/auth/me").await.0, 401);
        bench.advance(16 * 3600);
        let body = json!({"refresh_token": tokens["refresh_token"]});
        assert_eq!(bench.post("/auth/refresh", body).await.0, 401);
        assert!(bench.auth.purge().await.unwrap() >= 3);
        bench.advance(31 * 86_400);
        bench.auth.purge().await.unwrap();
        let identity = &bench.store.snapshot().identity;
        assert_eq!((identity.refresh_tokens.len(), identity.revoked_tokens.len()), (0, 0));
        assert_eq!(bench.auth.purge().await.unwrap(), 0);
    });
}

#[test]
fn streams_end_when_their_caller_may_no_longer() {
    smol::block_on(async {
        let bench = bench().await;
        let admin = bench.admin().await;
        let role = json!({"name": "watch", "permissions": ["dashboard:view", "rules:read"]});
        let (_, role) = admin.post("/auth/roles").json(role).await;
        let role = format!("/auth/roles/{}", text(&role["id"]));
        bench.user(&admin, "wanda", "watch").await;
        let token = text(&bench.tokens("wanda").await["access_token"]);
        let caller = bench.auth.authenticate(Presented::Bearer(&token), None).unwrap();
        let ticket = bench.auth.mint_ticket(&caller).unwrap();
        let streaming = bench.auth.authenticate(Presented::Ticket(&ticket), None).unwrap();
        assert!(bench.auth.still_valid(&streaming));
        admin.put(&role).json(json!({"permissions": ["dashboard:view", "rules:read", "logs:view"]})).await;
        assert!(bench.auth.still_valid(&streaming));
        admin.put(&role).json(json!({"permissions": ["rules:read"]})).await;
        assert!(!bench.auth.still_valid(&streaming));
        admin.put(&role).json(json!({"permissions": ["dashboard:view", "rules:read"]})).await;
        assert!(bench.auth.still_valid(&streaming));
        bench.client.post("/auth/logout").bearer(&token).await;
        assert!(!bench.auth.still_valid(&streaming));
        assert!(bench.auth.current(&streaming).is_none());
    });
}

/// The hash of `correct horse` and the rest come from outside, as a setup file gives them.
#[test]
fn the_setup_file_makes_the_administrator() {
    smol::block_on(async {
        let bench = bench().await;
        let secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
        let new = NewAdmin {
            username: "root.admin".into(),
            password: AdminPassword::Hash(Secret::new(
                "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            )),
            totp_secret: Some(secret.into()),
            recovery_codes: vec!["0123-4567-89AB".into()],
            require_totp: true,
        };
        bench.auth.create_admin(new.clone()).await.unwrap();
        let (code, json) = bench.login("root.admin", "password").await;
        assert_eq!((code, json), (200, json!({"tokens": null, "totp_required": true})));
        let second = |code: String| {
            let body = json!({"username": "root.admin", "password": "password", "totp_code": code});
            bench.post("/auth/totp/login", body)
        };
        let (code, pair) = second(bench.code(secret)).await;
        assert_eq!(code, 200);
        assert_eq!(second("0123-4567-89ab".into()).await.0, 200);
        let admin = bench.client.with_bearer(text(&pair["access_token"]));
        assert_eq!(admin.get("/auth/settings").await.1["require_totp"], true);
        assert_eq!(bench.post("/auth/register", json!({"username": "x", "password": PASSWORD})).await.0, 403);
        // Again, with another password: the same user, signed out.
        let plain = AdminPassword::Plain(Secret::new(PASSWORD));
        let again = NewAdmin { password: plain, totp_secret: None, ..new.clone() };
        bench.auth.create_admin(again).await.unwrap();
        assert_eq!(bench.store.snapshot().identity.users.len(), 1);
        assert_eq!(admin.get("/auth/me").await.0, 401);
        for bad in [
            NewAdmin { username: "a b".into(), ..new.clone() },
            NewAdmin { password: AdminPassword::Hash(Secret::new("plain")), ..new.clone() },
            NewAdmin { password: AdminPassword::Plain(Secret::new("weak")), ..new.clone() },
            NewAdmin { totp_secret: Some("!".into()), ..new.clone() },
        ] {
            assert!(bench.auth.create_admin(bad).await.is_err());
        }
    });
}

#[test]
fn secrets_are_not_readable_on_the_disk() {
    smol::block_on(async {
        let bench = bench().await;
        let admin = bench.admin().await;
        let (_, setup) = admin.post("/auth/totp/setup").await;
        let tokens = bench.tokens("admin").await;
        let body = json!({"name": "g", "provider_type": "google", "client_id": "abc", "client_secret": "GOCSPX-hush"});
        admin.post("/auth/oauth/providers").json(body).await;
        let code = text(&setup["recovery_codes"][0]);
        let hidden = [
            "GOCSPX-hush".to_owned(),
            PASSWORD.into(),
            "$argon2id$".into(),
            text(&setup["secret"]),
            text(&tokens["refresh_token"]),
            data_encoding::HEXLOWER
                .encode(ring::digest::digest(&ring::digest::SHA256, code.as_bytes()).as_ref()),
            code,
        ];
        let mut looked_at = 0;
        for entry in std::fs::read_dir(bench.dir.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                continue;
            }
            let bytes = std::fs::read(path).unwrap();
            looked_at += bytes.len();
            for text in &hidden {
                let found = bytes.windows(text.len()).any(|window| window == text.as_bytes());
                assert!(!found, "{text} is on the disk");
            }
        }
        assert!(looked_at > 10_000);
    });
}

#[test]
fn tokens_outlive_a_restart_and_the_signing_key_is_the_files_or_the_overrides() {
    smol::block_on(async {
        let options = Options {
            jwt_secret: Some(Secret::new("0123456789abcdef0123456789abcdef")),
            ..Options::default()
        };
        let bench = bench_with(options.clone()).await;
        bench.admin().await;
        let token = text(&bench.tokens("admin").await["access_token"]);
        assert!(!bench.keys.path().join("jwt.key").exists());
        let again = aifw::auth::Auth::new(bench.store.clone(), bench.keys.path(), options).unwrap();
        assert!(again.authenticate(Presented::Bearer(&token), None).is_ok());
        let other =
            aifw::auth::Auth::new(bench.store.clone(), bench.keys.path(), Options::default()).unwrap();
        assert!(other.authenticate(Presented::Bearer(&token), None).is_err());
        assert!(bench.keys.path().join("jwt.key").exists());
    });
}
