//! Sign-in, tokens, second factor, registration, tickets (contract/auth.md §4).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::{Access, ApiError, Call, Reply, Route};
use super::users::UserView;
use super::{Data, Message, client, route};
use crate::auth::{Caller, Credential, Login, TICKET_LIFETIME, TokenPair};
use crate::config::{Id, Permission, Secret, Timestamp};

#[derive(Deserialize, JsonSchema)]
struct LoginBody {
    username: String,
    password: String,
}

/// Name and password, or the challenge that a sign-in through a provider has given; and the code.
#[derive(Deserialize, JsonSchema)]
struct TotpLoginBody {
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    password: Option<String>,
    #[serde(default)]
    challenge: Option<String>,
    /// Six digits, or a recovery code.
    totp_code: String,
}

#[derive(Deserialize, JsonSchema)]
struct RefreshBody {
    refresh_token: String,
}

#[derive(Deserialize, JsonSchema, Default)]
struct LogoutBody {
    #[serde(default)]
    refresh_token: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
struct CodeBody {
    code: String,
}

/// `refresh_token` and `refresh_expires_at` are null in a pair that is good for enrolment only.
#[derive(Serialize, JsonSchema, Clone)]
pub(super) struct TokenPairView {
    access_token: String,
    refresh_token: Option<String>,
    access_expires_at: Timestamp,
    refresh_expires_at: Option<Timestamp>,
    /// `Bearer`.
    token_type: &'static str,
}

impl From<TokenPair> for TokenPairView {
    fn from(pair: TokenPair) -> Self {
        Self {
            access_token: pair.access_token,
            refresh_token: Some(pair.refresh_token),
            access_expires_at: pair.access_expires_at,
            refresh_expires_at: Some(pair.refresh_expires_at),
            token_type: "Bearer",
        }
    }
}

/// The pair stands in `tokens` and beside it.
#[derive(Serialize, JsonSchema)]
pub(super) struct LoginView {
    pub(super) tokens: Option<TokenPairView>,
    totp_required: bool,
    /// The token is good for setting up the second factor only.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    totp_setup_required: bool,
    /// Stands for name and password in `totp/login`.
    #[serde(skip_serializing_if = "Option::is_none")]
    challenge: Option<String>,
    #[serde(flatten)]
    flat: Option<TokenPairView>,
}

impl From<Login> for LoginView {
    fn from(login: Login) -> Self {
        let (tokens, totp_required, totp_setup_required, challenge) = match login {
            Login::Complete(pair) => (Some(TokenPairView::from(pair)), false, false, None),
            Login::TotpRequired { challenge } => (None, true, false, challenge),
            Login::Enrolment(token) => {
                let pair = TokenPairView {
                    access_token: token.access_token,
                    refresh_token: None,
                    access_expires_at: token.access_expires_at,
                    refresh_expires_at: None,
                    token_type: "Bearer",
                };
                (Some(pair), true, true, None)
            }
        };
        Self { flat: tokens.clone(), tokens, totp_required, totp_setup_required, challenge }
    }
}

#[derive(Serialize, JsonSchema)]
struct SetupView {
    /// Base32.
    secret: String,
    provisioning_uri: String,
    /// Eight, `XXXX-XXXX-XXXX`.
    recovery_codes: Vec<String>,
}

#[derive(Serialize, JsonSchema)]
struct MeView {
    id: Id,
    username: String,
    role: String,
    role_id: Option<String>,
    permissions: Vec<Permission>,
    totp_enabled: bool,
    auth_provider: String,
}

#[derive(Serialize, JsonSchema)]
struct TicketView {
    ticket: String,
    expires_in_seconds: u64,
}

pub(super) fn routes() -> Vec<Route> {
    use Access::{Authenticated, Enrolment, Public};
    vec![
        route("POST", "/auth/login", Public, "Sign in with a password", login)
            .takes::<LoginBody>()
            .answers::<LoginView>(200),
        route("POST", "/auth/totp/login", Public, "Sign in with a password and a code", totp_login)
            .takes::<TotpLoginBody>()
            .answers::<TokenPairView>(200),
        route("POST", "/auth/refresh", Public, "A new pair of tokens for a refresh token", refresh)
            .takes::<RefreshBody>()
            .answers::<TokenPairView>(200),
        route(
            "POST",
            "/auth/register",
            Public,
            "Make an account; the first one is the administrator",
            register,
        )
        .takes::<LoginBody>()
        .answers::<Data<UserView>>(201),
        route("POST", "/auth/logout", Enrolment, "End this sign-in", logout)
            .takes::<LogoutBody>()
            .answers::<Message>(200),
        route("POST", "/auth/totp/setup", Enrolment, "Begin setting up the second factor", totp_setup)
            .answers::<SetupView>(200),
        route("POST", "/auth/totp/verify", Enrolment, "Switch the second factor on", totp_verify)
            .takes::<CodeBody>()
            .answers::<Message>(200),
        route("POST", "/auth/totp/disable", Authenticated, "Switch the second factor off", totp_disable)
            .takes::<CodeBody>()
            .answers::<Message>(200),
        route("GET", "/auth/me", Enrolment, "Who is calling, and what they may do", me)
            .answers::<MeView>(200),
        route("POST", "/auth/ws-ticket", Authenticated, "A ticket for a stream", ws_ticket)
            .answers::<TicketView>(200),
    ]
}

async fn login(call: Call) -> Result<Reply, ApiError> {
    let body: LoginBody = call.json()?;
    let login = call.app.auth.login(&body.username, &Secret::new(body.password), &client(&call)).await?;
    Ok(Reply::json(&LoginView::from(login)))
}

async fn totp_login(call: Call) -> Result<Reply, ApiError> {
    let body: TotpLoginBody = call.json()?;
    let from = client(&call);
    let pair = match (body.challenge, body.username, body.password) {
        (Some(challenge), None, None) => {
            call.app.auth.oauth_second_factor(&challenge, &body.totp_code, &from).await?
        }
        (None, Some(username), Some(password)) => {
            call.app.auth.totp_login(&username, &Secret::new(password), &body.totp_code, &from).await?
        }
        _ => return Err(ApiError::bad_request("expected username and password, or challenge")),
    };
    Ok(Reply::json(&TokenPairView::from(pair)))
}

async fn refresh(call: Call) -> Result<Reply, ApiError> {
    let body: RefreshBody = call.json()?;
    let pair = call.app.auth.refresh(&body.refresh_token, &client(&call)).await?;
    Ok(Reply::json(&TokenPairView::from(pair)))
}

async fn register(call: Call) -> Result<Reply, ApiError> {
    call.app.auth.registration_open()?;
    let body: LoginBody = call.json()?;
    let (user, role) = call.app.auth.register(&body.username, &Secret::new(body.password), call.ip).await?;
    Ok(Reply::created(&UserView::of(&user, &role)))
}

async fn logout(call: Call) -> Result<Reply, ApiError> {
    // The token is revoked whatever the body is.
    let body = call.json_or_default::<LogoutBody>();
    let token = body.as_ref().ok().and_then(|body| body.refresh_token.as_deref());
    let known = call.app.auth.logout(call.caller()?, token).await?;
    body?;
    if !known {
        return Err(ApiError::bad_request("refresh_token: unknown, or not yours"));
    }
    Ok(Reply::message("Logged out"))
}

async fn totp_setup(call: Call) -> Result<Reply, ApiError> {
    let setup = call.app.auth.totp_setup(call.caller()?).await?;
    Ok(Reply::json(&SetupView {
        secret: setup.secret,
        provisioning_uri: setup.provisioning_uri,
        recovery_codes: setup.recovery_codes,
    }))
}

/// A code of the caller's own; who has no password sign-in is refused before the body is read.
fn own_code(call: &Call) -> Result<(&Caller, String), ApiError> {
    let caller = call.caller()?;
    if !matches!(caller.credential, Credential::Token { .. }) {
        return Err(ApiError::forbidden("TOTP is for those who sign in with a password"));
    }
    Ok((caller, call.json::<CodeBody>()?.code))
}

async fn totp_verify(call: Call) -> Result<Reply, ApiError> {
    let (caller, code) = own_code(&call)?;
    call.app.auth.totp_verify(caller, &code).await?;
    Ok(Reply::message("TOTP enabled"))
}

async fn totp_disable(call: Call) -> Result<Reply, ApiError> {
    let (caller, code) = own_code(&call)?;
    call.app.auth.totp_disable(caller, &code).await?;
    Ok(Reply::message("TOTP disabled"))
}

async fn me(call: Call) -> Result<Reply, ApiError> {
    let caller = call.caller()?;
    // root on the local socket is no user of the store.
    let user = call.app.auth.user(caller.user_id).map(|(user, _)| user);
    Ok(Reply::json(&MeView {
        id: caller.user_id,
        username: caller.username.clone(),
        role: caller.role.clone(),
        role_id: Some(caller.role_id.clone()),
        permissions: caller.permissions.iter().collect(),
        totp_enabled: user.as_ref().is_some_and(|user| user.totp.as_ref().is_some_and(|totp| totp.enabled)),
        auth_provider: user.map_or_else(|| "local".into(), |user| user.auth_provider.clone()),
    }))
}

async fn ws_ticket(call: Call) -> Result<Reply, ApiError> {
    let ticket = call.app.auth.mint_ticket(call.caller()?)?;
    Ok(Reply::json(&TicketView { ticket, expires_in_seconds: TICKET_LIFETIME.as_secs() }))
}
