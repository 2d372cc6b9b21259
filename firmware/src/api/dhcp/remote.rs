//! Names of clients in the DNS, and high availability: settings, and what is true of them.

use schemars::JsonSchema;
use serde::Serialize;

use super::{KIND, READ, WRITE};
use crate::api::services_common::audit;
use crate::api::{ApiError, Call, Reply, Route};
use crate::config::Config;
use crate::config::dhcp::remote::{MASK, SIGNABLE, derived};
use crate::config::dhcp::{DdnsRequest, DhcpDdns, DhcpHa, HaRequest};

pub fn routes() -> Vec<Route> {
    vec![
        Route::new("GET", "/dhcp/ddns", READ, "How names of clients are entered into the DNS", ddns)
            .answers::<DdnsView>(200),
        Route::new(
            "PUT",
            "/dhcp/ddns",
            WRITE,
            "Change how names of clients are entered into the DNS",
            change_ddns,
        )
        .takes::<DdnsRequest>()
        .answers::<Warned>(200),
        Route::new("GET", "/dhcp/ha/config", READ, "High availability of the DHCP server", ha)
            .answers::<DhcpHa>(200),
        Route::new("PUT", "/dhcp/ha/config", WRITE, "Set high availability of the DHCP server", change_ha)
            .takes::<HaRequest>()
            .answers::<DhcpHa>(200),
        Route::new("GET", "/dhcp/ha/status", READ, "Whether the DHCP server serves as it should", ha_status)
            .answers::<HaStatus>(200),
    ]
}

/// `{"message": …}`, and what about it is not as its author may expect.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Warned {
    message: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<String>,
}

/// Settings, the secret being `***` when one is set.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DdnsView {
    enabled: bool,
    forward_zone: String,
    reverse_zone_v4: String,
    reverse_zone_v6: String,
    dns_server: String,
    tsig_key: String,
    tsig_algorithm: String,
    tsig_secret: &'static str,
    tsig_secret_set: bool,
    ttl: u32,
    /// Why the last update failed, if it did.
    last_error: Option<String>,
}

async fn ddns(call: Call) -> Result<Reply, ApiError> {
    let snapshot = call.app.store.snapshot();
    let DhcpDdns {
        enabled,
        forward_zone,
        reverse_zone_v4,
        reverse_zone_v6,
        dns_server,
        tsig_key,
        tsig_algorithm,
        tsig_secret,
        ttl,
    } = (*snapshot.config.dhcp_ddns).clone();
    let set = !tsig_secret.expose().is_empty();
    Ok(Reply::json(&DdnsView {
        enabled,
        forward_zone,
        reverse_zone_v4,
        reverse_zone_v6,
        dns_server,
        tsig_key,
        tsig_algorithm,
        tsig_secret: if set { MASK } else { "" },
        tsig_secret_set: set,
        ttl,
        last_error: call.app.services.ddns().last_error(),
    }))
}

async fn change_ddns(call: Call) -> Result<Reply, ApiError> {
    let request: DdnsRequest = call.json()?;
    let author = call.author();
    let by = author.clone();
    let unsigned = call
        .app
        .store
        .commit(&author, move |draft| {
            let settings = request.change(&draft.config.dhcp_ddns)?;
            let signs = settings.tsig_key.is_empty() || SIGNABLE.contains(&settings.tsig_algorithm.as_str());
            let unsigned = (!signs).then(|| settings.tsig_algorithm.clone());
            draft.audit.push(audit("dhcp", &by, "DDNS settings updated"));
            if settings != *draft.config.dhcp_ddns {
                draft.config.dhcp_ddns = settings.into();
            }
            Ok::<_, ApiError>(unsigned)
        })
        .await?;
    let warning = unsigned.map(|algorithm| {
        format!("{algorithm} is weak, and updates cannot be signed with it here: none are sent")
    });
    Ok(Reply::json(&Warned { message: "DDNS config updated", warning }))
}

/// As stored, with the peers that the cluster derives.
fn shown(config: &Config) -> DhcpHa {
    let mut ha = (*config.dhcp_ha).clone();
    if let Some(derived) = derived(config) {
        ha.peer = derived.peer;
        ha.peers = Some(derived.peers);
    }
    ha
}

async fn ha(call: Call) -> Result<Reply, ApiError> {
    Ok(Reply::json(&shown(&call.app.store.snapshot().config)))
}

async fn change_ha(call: Call) -> Result<Reply, ApiError> {
    let request: HaRequest = call.json()?;
    let author = call.author();
    let by = author.clone();
    readable(request.tls_files()).await?;
    let done = call
        .app
        .store
        .commit(&author, move |draft| {
            let settings = request.settings(derived(&draft.config).as_ref())?;
            draft.audit.push(audit("dhcp", &by, format!("high availability set: {}", settings.mode)));
            if settings != *draft.config.dhcp_ha {
                draft.config.dhcp_ha = settings.into();
            }
            Ok::<_, ApiError>(shown(&draft.config))
        })
        .await
        .map_err(ApiError::from);
    match done {
        Ok(ha) => Ok(Reply::json(&ha)),
        // The reference's clients read `detail`.
        Err(error) if error.status == 409 => {
            let text = &error.message;
            let body = serde_json::json!({ "error": text, "message": text, "detail": text });
            Ok(Reply::json(&body).with_status(409))
        }
        Err(error) => Err(error),
    }
}

/// Refuses files that are not there, or that cannot be read.
async fn readable(files: Vec<(&'static str, String)>) -> Result<(), ApiError> {
    let look = move || {
        files.into_iter().find_map(|(field, path)| {
            match std::fs::File::open(&path).and_then(|file| file.metadata()) {
                Ok(kind) if kind.is_file() => None,
                Ok(_) => Some(format!("{field}: expected a file, which {path} is not")),
                Err(error) => Some(format!("{field}: expected a file that can be read; {path}: {error}")),
            }
        })
    };
    blocking::unblock(look).await.map_or(Ok(()), |text| Err(ApiError::bad_request(text)))
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct HaStatus {
    mode: String,
    /// `primary`: it serves.
    role: &'static str,
    peer_state: Option<&'static str>,
    healthy: bool,
}

/// What can be said of this node. Leases are not mirrored yet, so with a peer it is never healthy.
pub(super) fn ha_now(call: &Call) -> HaStatus {
    let snapshot = call.app.store.snapshot();
    let mode = snapshot.config.dhcp_ha.mode.clone();
    let serves = call.app.services.runner(KIND).is_running() || !KIND.is_enabled(&snapshot.applied);
    let alone = mode == "standalone";
    HaStatus { mode, role: "primary", peer_state: (!alone).then_some("unknown"), healthy: serves && alone }
}

async fn ha_status(call: Call) -> Result<Reply, ApiError> {
    Ok(Reply::json(&ha_now(&call)))
}
