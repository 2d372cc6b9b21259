//! Static routes, as the configuration document has them (contract/config.md §2 `static_routes`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::value::{epoch, id_or_new, plain_object, yes};
use super::{Id, InterfaceName, Timestamp};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StaticRoute {
    #[serde(default = "Id::new_v4", deserialize_with = "id_or_new")]
    pub id: Id,
    pub destination: String,
    pub gateway: String,
    pub interface: Option<InterfaceName>,
    #[serde(default)]
    pub metric: i32,
    #[serde(default = "yes")]
    pub enabled: bool,
    pub description: Option<String>,
    /// Routing table (setfib(1)).
    #[serde(default)]
    pub fib: u32,
    #[serde(default = "epoch")]
    pub created_at: Timestamp,
}
plain_object!(StaticRoute);
