//! What interfaces are for.

use schemars::JsonSchema;
use serde::Serialize;

use super::{admin, confirmed, named, well_named};
use crate::api::resource::{Data, Message, config_changed};
use crate::api::{Access, ApiError, Call, Reply, Route};
use crate::apply::network::{Subject, may_fail};
use crate::config::network::{self, InterfaceRole, RoleName, RoleRequest};
use crate::config::{Config, InterfaceName, Permission, Timestamp};

const READ: Access = Access::Needs(Permission::InterfacesRead);
const WRITE: Access = Access::Needs(Permission::InterfacesWrite);

pub fn routes() -> Vec<Route> {
    vec![
        Route::new("GET", "/interfaces/roles", READ, "Roles: pairs of interface and role", list)
            .answers::<Data<Vec<(String, String)>>>(200),
        Route::new("GET", "/interfaces/{name}/role", READ, "What an interface is for", role)
            .answers::<Data<NamedRole>>(200),
        Route::new("PUT", "/interfaces/{name}/role", WRITE, "Say what an interface is for", assign)
            .takes::<RoleRequest>()
            .answers::<Message>(200)
            .with_query(super::CONFIRM),
        Route::new("DELETE", "/interfaces/{name}/role", WRITE, "Take an interface's role away", unassign)
            .answers::<Message>(200)
            .with_query(super::CONFIRM),
    ]
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct NamedRole {
    #[schemars(with = "String")]
    name: InterfaceName,
    #[schemars(with = "Option<String>")]
    role: Option<RoleName>,
}

async fn list(call: Call) -> Result<Reply, ApiError> {
    Ok(Reply::data(&network::roles(&call.app.store.snapshot().config)))
}

async fn role(call: Call) -> Result<Reply, ApiError> {
    let (name, _) = named(&call).await?;
    let role = network::role_of(&call.app.store.snapshot().config, name.as_str());
    Ok(Reply::data(&NamedRole { name, role }))
}

/// The main rules follow: they name the WAN and the LAN.
async fn set<F>(call: &Call, what: String, change: F) -> Result<(), ApiError>
where
    F: Fn(&mut Config) + Send + 'static,
{
    let author = call.author();
    let by = author.clone();
    let done = call.app.applier.set_network(
        &author,
        admin(call, confirmed(call)?),
        Subject { interface: String::new(), verdict: may_fail },
        move |_| Ok::<_, ApiError>(config_changed(&by, what)),
        move |config| {
            change(config);
            Ok(())
        },
    );
    done.await?;
    Ok(())
}

async fn assign(call: Call) -> Result<Reply, ApiError> {
    let role = call.json::<RoleRequest>()?.role()?;
    let (name, _) = named(&call).await?;
    let row = InterfaceRole { name: name.clone(), role: role.clone(), updated_at: Timestamp::now() };
    set(&call, format!("interface {name} is {role}"), move |config| {
        // One that has it keeps its place among those that have it.
        if config.interface_roles.get(&row.name).is_none_or(|held| held.role != row.role) {
            config.interface_roles.insert(row.clone());
        }
    })
    .await?;
    Ok(Reply::message(format!("Interface {name} is {role}")))
}

async fn unassign(call: Call) -> Result<Reply, ApiError> {
    let name = well_named(&call)?;
    let gone = name.clone();
    set(&call, format!("interface {name} has no role"), move |config| {
        config.interface_roles.remove(&gone);
    })
    .await?;
    Ok(Reply::message(format!("Interface {name} has no role")))
}
