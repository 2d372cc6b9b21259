//! Sign-ins that are alive (an addition to contract/auth.md): to see them, and to end one.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::Serialize;

use super::super::{Access, ApiError, Call, Reply, Route};
use super::{Message, Page, paged, route};
use crate::auth::Session;
use crate::config::{Id, Permission, Timestamp};

#[derive(Serialize, JsonSchema)]
struct SessionView {
    id: Id,
    user_id: Id,
    created_at: Timestamp,
    renewed_at: Timestamp,
    expires_at: Timestamp,
    ip_addr: Option<IpAddr>,
    user_agent: Option<String>,
    /// The one that the request belongs to.
    current: bool,
}

impl From<Session> for SessionView {
    fn from(session: Session) -> Self {
        Self {
            id: session.id,
            user_id: session.user_id,
            created_at: session.created_at,
            renewed_at: session.renewed_at,
            expires_at: session.expires_at,
            ip_addr: session.ip,
            user_agent: session.user_agent,
            current: session.current,
        }
    }
}

pub(super) fn routes() -> Vec<Route> {
    vec![
        route("GET", "/auth/sessions", Access::Authenticated, "One's own sign-ins, newest first", list)
            .with_query(&[
                ("user_id", "somebody else's, with users:read"),
                ("limit", "rows at most; 1000, up to 10000"),
                ("offset", "rows passed over"),
            ])
            .answers::<Page<SessionView>>(200),
        route(
            "DELETE",
            "/auth/sessions/{id}",
            Access::Authenticated,
            "End a sign-in; somebody else's with users:write",
            end,
        )
        .answers::<Message>(200),
    ]
}

async fn list(call: Call) -> Result<Reply, ApiError> {
    let caller = call.caller()?;
    let user = call.query_as::<Id>("user_id", "a UUID");
    if user.as_ref().ok().copied().flatten().is_some_and(|id| id != caller.user_id)
        && !caller.may(Permission::UsersRead)
    {
        return Err(ApiError::forbidden("the permission users:read is needed"));
    }
    let user = user?.unwrap_or(caller.user_id);
    paged(&call, call.app.auth.sessions(caller, user), SessionView::from)
}

async fn end(call: Call) -> Result<Reply, ApiError> {
    call.app.auth.end_session(call.caller()?, call.id("id")?).await?;
    Ok(Reply::message("Signed out"))
}
