//! `/dns`: the name servers that the appliance itself asks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::audit;
use crate::api::resource::Message;
use crate::api::{Access, ApiError, Call, Reply, Route};
use crate::apply::name_servers::NameServersError;
use crate::config::Permission;
use crate::config::dns::names::NameServer;
use crate::platform::resolv;

/// resolv.conf(5) knows three; more than these nobody waits for.
const MOST: usize = 8;

#[derive(Debug, Serialize, JsonSchema)]
struct Shown {
    servers: Vec<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Request {
    servers: Vec<NameServer>,
}

pub fn routes() -> Vec<Route> {
    let (read, write) = (Access::Needs(Permission::DnsRead), Access::Needs(Permission::DnsWrite));
    vec![
        Route::new("GET", "/dns", read, "Name servers that the appliance itself asks", get)
            .answers::<Shown>(200),
        Route::new("PUT", "/dns", write, "Replace the appliance's own name servers; acts at once", put)
            .takes::<Request>()
            .answers::<Message>(200),
    ]
}

async fn get(call: Call) -> Result<Reply, ApiError> {
    let path = call.app.applier.resolv_conf().await;
    let text = blocking::unblock(move || std::fs::read_to_string(path)).await.unwrap_or_default();
    Ok(Reply::json(&Shown { servers: resolv::name_server_words(&text) }))
}

async fn put(call: Call) -> Result<Reply, ApiError> {
    let Request { servers } = call.json()?;
    let mut wanted: Vec<NameServer> = Vec::new();
    for server in servers {
        if !wanted.contains(&server) {
            wanted.push(server);
        }
    }
    if wanted.len() > MOST {
        return Err(ApiError::bad_request(format!("servers: expected at most {MOST} addresses")));
    }
    let author = call.author();
    let entry = audit(&author, "name servers of the appliance replaced");
    call.app.applier.set_name_servers(&author, wanted, entry).await.map_err(|error| match error {
        NameServersError::File(error) => ApiError::new(500, error.to_string()),
        NameServersError::Store(error) => error.into(),
    })?;
    Ok(Reply::message("DNS configuration updated"))
}
