//! Authentication and RBAC (contract/auth.md): sign-in, users, roles, keys, settings, audit log, identity providers.
//! One file per table of the contract; the rules are in the room `auth`.

mod audit;
mod callback;
mod keys;
mod login;
mod oauth;
mod roles;
mod sessions;
mod settings;
mod users;

use std::future::Future;

use schemars::JsonSchema;
use serde::Serialize;

use super::{Access, ApiError, Call, Reply, Route};
use crate::auth::Client;

pub fn routes() -> Vec<Route> {
    [
        login::routes(),
        users::routes(),
        roles::routes(),
        keys::routes(),
        sessions::routes(),
        settings::routes(),
        audit::routes(),
        oauth::routes(),
    ]
    .concat()
}

/// An operation of this area. Identities are not part of the configuration, so no snapshot follows. A write that the
/// handler refuses for want of permission is noted like those that the table refuses.
fn route<F, R>(method: &'static str, path: &'static str, access: Access, summary: &'static str, f: F) -> Route
where
    F: Fn(Call) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Reply, ApiError>> + Send + 'static,
{
    let noted = move |call: Call| {
        let writer = call.caller.clone().filter(|_| method != "GET");
        let auth = call.app.auth.clone();
        let answer = f(call);
        async move {
            let result = answer.await;
            let refused = matches!(&result, Err(refusal) if refusal.status == 403);
            if let Some(caller) = writer.filter(|_| refused) {
                auth.access_denied(&caller, method, path).await?;
            }
            result
        }
    };
    Route::new(method, path, access, summary, noted).without_snapshot()
}

/// Where a sign-in comes from.
fn client(call: &Call) -> Client {
    Client { ip: call.ip, user_agent: call.header("user-agent").map(str::to_owned) }
}

/// `{"message": text}`.
#[derive(Serialize, JsonSchema)]
#[allow(dead_code)]
struct Message {
    message: String,
}

/// `{"data": rows, "total": rows in all}`.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "{T}Page")]
#[allow(dead_code)]
struct Page<T> {
    data: Vec<T>,
    total: usize,
}

/// Query parameters of the lists here.
const PAGING: &[(&str, &str)] =
    &[("limit", "rows at most; 1000, up to 10000"), ("offset", "rows passed over")];

/// The page of the rows that the call asks for.
fn paged<R, T: Serialize>(call: &Call, rows: Vec<R>, view: impl Fn(R) -> T) -> Result<Reply, ApiError> {
    let page = call.page(1_000, 10_000)?;
    let total = rows.len();
    let views: Vec<T> = page.of(rows).into_iter().map(view).collect();
    Ok(Reply::page(&views, total))
}

/// `{"data": value}`.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "{T}Data")]
struct Data<T> {
    data: T,
}
