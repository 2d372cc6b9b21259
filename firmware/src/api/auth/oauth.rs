//! Identity providers, and signing in through them (contract/auth.md §11).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::{Access, ApiError, Call, Reply, Route};
use super::login::LoginView;
use super::{Data, Message, PAGING, Page, callback, client, paged, route};
use crate::auth::{NewProvider, ProviderEdit};
use crate::config::{Id, Permission, Secret, Timestamp};
use crate::store::identity::OAuthProvider;

#[derive(Serialize, JsonSchema)]
struct ProviderView {
    id: Id,
    name: String,
    /// `google`, `github` or `oidc`.
    provider_type: String,
    client_id: String,
    auth_url: String,
    token_url: String,
    userinfo_url: String,
    scopes: String,
    enabled: bool,
    created_at: Timestamp,
}

impl From<&OAuthProvider> for ProviderView {
    fn from(provider: &OAuthProvider) -> Self {
        Self {
            id: provider.id,
            name: provider.name.clone(),
            provider_type: provider.provider_type.clone(),
            client_id: provider.client_id.clone(),
            auth_url: provider.auth_url.clone(),
            token_url: provider.token_url.clone(),
            userinfo_url: provider.userinfo_url.clone(),
            scopes: provider.scopes.clone(),
            enabled: provider.enabled,
            created_at: provider.created_at,
        }
    }
}

/// `google` and `github` bring their name, addresses and scopes with them.
#[derive(Deserialize, JsonSchema)]
struct NewProviderBody {
    name: String,
    provider_type: String,
    client_id: String,
    client_secret: String,
    #[serde(default)]
    auth_url: Option<String>,
    #[serde(default)]
    token_url: Option<String>,
    #[serde(default)]
    userinfo_url: Option<String>,
    #[serde(default)]
    scopes: Option<String>,
}

#[derive(Deserialize, JsonSchema, Default)]
#[serde(default)]
struct ProviderBody {
    name: Option<String>,
    client_id: Option<String>,
    client_secret: Option<String>,
    auth_url: Option<String>,
    token_url: Option<String>,
    userinfo_url: Option<String>,
    scopes: Option<String>,
    enabled: Option<bool>,
}

#[derive(Serialize, JsonSchema)]
struct AuthorizeView {
    authorize_url: String,
    state: String,
}

pub(super) fn routes() -> Vec<Route> {
    let (read, write) = (Access::Needs(Permission::SettingsRead), Access::Needs(Permission::SettingsWrite));
    vec![
        route("GET", "/auth/oauth/providers", read, "Identity providers, by name", list)
            .with_query(PAGING)
            .answers::<Page<ProviderView>>(200),
        route("POST", "/auth/oauth/providers", write, "Set up an identity provider", create)
            .takes::<NewProviderBody>()
            .answers::<Data<ProviderView>>(201),
        route("PUT", "/auth/oauth/providers/{id}", write, "Change an identity provider", update)
            .takes::<ProviderBody>()
            .answers::<Data<ProviderView>>(200),
        route("DELETE", "/auth/oauth/providers/{id}", write, "Remove an identity provider", delete)
            .answers::<Message>(200),
        route(
            "GET",
            "/auth/oauth/{provider}/authorize",
            Access::Public,
            "Begin a sign-in through a provider",
            authorize,
        )
        .answers::<AuthorizeView>(200),
        route(
            "GET",
            "/auth/oauth/{provider}/callback",
            Access::Public,
            "Where the provider sends the browser back to; a page if it asks for one",
            came_back,
        )
        .with_query(&[("code", "what the provider gives"), ("state", "as given by authorize")])
        .answers::<LoginView>(200),
    ]
}

async fn list(call: Call) -> Result<Reply, ApiError> {
    paged(&call, call.app.auth.providers(), |provider| ProviderView::from(&*provider))
}

async fn create(call: Call) -> Result<Reply, ApiError> {
    let body: NewProviderBody = call.json()?;
    let new = NewProvider {
        name: body.name,
        provider_type: body.provider_type,
        client_id: body.client_id,
        client_secret: Secret::new(body.client_secret),
        auth_url: body.auth_url,
        token_url: body.token_url,
        userinfo_url: body.userinfo_url,
        scopes: body.scopes,
    };
    let provider = call.app.auth.create_provider(call.caller()?, new).await?;
    Ok(Reply::created(&ProviderView::from(&provider)))
}

async fn update(call: Call) -> Result<Reply, ApiError> {
    let id = call.id("id")?;
    let body: ProviderBody = call.json()?;
    let edit = ProviderEdit {
        name: body.name,
        client_id: body.client_id,
        client_secret: body.client_secret.map(Secret::new),
        auth_url: body.auth_url,
        token_url: body.token_url,
        userinfo_url: body.userinfo_url,
        scopes: body.scopes,
        enabled: body.enabled,
    };
    let provider = call.app.auth.update_provider(call.caller()?, id, edit).await?;
    Ok(Reply::data(&ProviderView::from(&provider)))
}

async fn delete(call: Call) -> Result<Reply, ApiError> {
    let id = call.id("id")?;
    call.app.auth.delete_provider(call.caller()?, id).await?;
    Ok(Reply::message(format!("Provider {id} deleted")))
}

/// The appliance as the browser names it: the provider must send the browser back to the same place.
fn origin(call: &Call) -> Result<String, ApiError> {
    let refuse = || ApiError::bad_request("Host: expected the name or address of this appliance");
    let host = call.header("host").ok_or_else(refuse)?;
    let fine = |b: u8| b.is_ascii_alphanumeric() || b".-:[]".contains(&b);
    if host.is_empty() || host.len() > 255 || !host.bytes().all(fine) {
        return Err(refuse());
    }
    let url = url::Url::parse(&format!("http://{host}")).map_err(|_| refuse())?;
    let loopback = match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    };
    let scheme = if loopback && call.app.auth.insecure_loopback() { "http" } else { "https" };
    Ok(format!("{scheme}://{host}"))
}

/// A path parameter as text: `%20` and the like undone.
fn name(call: &Call) -> String {
    let plain = call.param("provider").replace('+', "%2B");
    url::form_urlencoded::parse(format!("x={plain}").as_bytes())
        .next()
        .map_or_else(String::new, |(_, value)| value.into_owned())
}

async fn authorize(call: Call) -> Result<Reply, ApiError> {
    let origin = origin(&call)?;
    let begun = call.app.auth.oauth_authorize(&name(&call), |provider| {
        let name = provider.name.replace(' ', "%20");
        format!("{origin}/api/v1/auth/oauth/{name}/callback")
    })?;
    Ok(Reply::json(&AuthorizeView { authorize_url: begun.authorize_url, state: begun.state }))
}

async fn came_back(call: Call) -> Result<Reply, ApiError> {
    let wants_page = call.header("accept").is_some_and(|accept| accept.contains("text/html"));
    let result = finish(&call).await;
    if wants_page { Ok(callback::page(result)) } else { result.map(|view| Reply::json(&view)) }
}

async fn finish(call: &Call) -> Result<LoginView, ApiError> {
    let given = |field: &str| {
        let text = call.query(field).filter(|text| !text.is_empty());
        text.ok_or_else(|| ApiError::bad_request(format!("{field}: expected what the provider gave")))
    };
    let (code, state) = (given("code")?, given("state")?);
    let login = call.app.auth.oauth_callback(&name(call), code, state, &client(call)).await?;
    Ok(LoginView::from(login))
}
