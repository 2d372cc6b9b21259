//! Every operation × {no credential, a wrong one, one without the permission, one with it}: 401, 401, 403, and
//! neither. Walks the real table with the real authentication; the credentials are API keys and a signed-in
//! administrator.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashMap;
use std::sync::Arc;

use aifw::api::testing::{Client, bare_app, guarded};
use aifw::api::{self, Access, Route};
use aifw::config::Permission;
use serde_json::json;

const ADMIN: (&str, &str) = ("admin", "TestPass123");

async fn token(client: &Client) -> String {
    let body = json!({ "username": ADMIN.0, "password": ADMIN.1 });
    let (status, body) = client.post("/auth/login").json(body).await;
    assert_eq!(status, 200, "{body}");
    body["access_token"].as_str().unwrap().to_owned()
}

/// A key with exactly these permissions.
async fn key(client: &Client, token: &str, permissions: &[Permission]) -> String {
    let names: Vec<&str> = permissions.iter().map(|permission| permission.name()).collect();
    let body = json!({ "name": format!("matrix {}", names.len()), "permissions": names });
    let (status, body) = client.post("/auth/api-keys").bearer(token).json(body).await;
    assert_eq!(status, 201, "{body}");
    body["key"].as_str().unwrap().to_owned()
}

/// Each parameter replaced by an id that nothing has.
fn path(route: &Route) -> String {
    let fill = |part: &str| {
        if part.starts_with('{') { "00000000-0000-4000-8000-000000000000" } else { part }.to_owned()
    };
    route.path.split('/').map(fill).collect::<Vec<_>>().join("/")
}

async fn status(client: &Client, route: &Route, authorization: Option<String>) -> u16 {
    let mut request = client.request(route.method, &path(route));
    if let Some(authorization) = authorization {
        request = request.header("Authorization", authorization);
    }
    // Streams have no end: the status is enough.
    let (status, headers, _) = request.stream().await;
    if status >= 400 {
        assert_eq!(
            headers.get("content-type").map(String::as_str),
            Some("application/json"),
            "{}",
            route.path
        );
    }
    status
}

#[test]
fn every_operation_asks_for_its_permission() {
    smol::block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let app = Arc::new(guarded(bare_app(dir.path())).await);
        let mut routes = api::routes();
        let client = Client::new(api::app(app, routes.clone()));
        let body = json!({ "username": ADMIN.0, "password": ADMIN.1 });
        assert_eq!(client.post("/auth/register").json(body).await.0, 201);
        let admin = token(&client).await;
        // Otherwise registering is refused to everybody, whatever their credential.
        let open = json!({ "allow_registration": true });
        assert_eq!(client.put("/auth/settings").bearer(&admin).json(open).await.0, 200);
        let mut keys = HashMap::new();
        for permission in Permission::ALL {
            let others: Vec<Permission> =
                Permission::ALL.into_iter().filter(|other| *other != permission).collect();
            let pair = (key(&client, &admin, &[permission]).await, key(&client, &admin, &others).await);
            keys.insert(permission.name(), pair);
        }
        // Ends the administrator's own session, so it comes last.
        routes.sort_by_key(|route| route.path == "/auth/logout");
        let mut wrong = Vec::new();
        let mut operations = 0;
        for route in &routes {
            let ask = |authorization: Option<String>| status(&client, route, authorization);
            let mut expect = |what: &str, got: u16, good: bool| {
                if !good {
                    wrong.push(format!("{} {}: {what} gives {got}", route.method, route.path));
                }
            };
            operations += 1;
            let nobody = ask(None).await;
            if route.access == Access::Public {
                expect("no credential", nobody, !matches!(nobody, 403 | 501));
                continue;
            }
            expect("no credential", nobody, nobody == 401);
            for bad in ["Bearer junk", "ApiKey aifw_0123456789abcdef0123456789abcdef", "Basic YTpi", "Bearer"]
            {
                let got = ask(Some(bad.into())).await;
                expect(bad, got, got == 401);
            }
            match route.access {
                Access::Needs(permission) => {
                    let (only, others) = &keys[permission.name()];
                    let without = ask(Some(format!("ApiKey {others}"))).await;
                    expect("a key without the permission", without, without == 403);
                    let with = ask(Some(format!("ApiKey {only}"))).await;
                    expect("a key with the permission alone", with, !matches!(with, 401 | 403 | 501));
                }
                // Nothing that comes over the network will do: the local socket alone serves it.
                Access::Local => {
                    let administrator = ask(Some(format!("Bearer {admin}"))).await;
                    expect("a signed-in administrator", administrator, administrator == 403);
                }
                _ => {
                    let with = ask(Some(format!("Bearer {admin}"))).await;
                    expect("a signed-in user", with, !matches!(with, 401 | 403 | 501));
                }
            }
        }
        println!("{operations} operations");
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}
