//! VPN tunnels, as the configuration document has them (contract/config.md §2 `vpn`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::value::{id_or_new, plain_object};
use super::{Id, InterfaceName, Secret};

/// A WireGuard interface with its peers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WireGuard {
    #[serde(deserialize_with = "id_or_new")]
    pub id: Id,
    pub name: String,
    pub interface: InterfaceName,
    pub listen_port: u16,
    /// CIDR.
    pub address: String,
    #[serde(default)]
    pub private_key: Secret,
    pub public_key: String,
    pub dns: Option<String>,
    pub mtu: Option<u16>,
    pub peers: Vec<WireGuardPeer>,
}
plain_object!(WireGuard);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WireGuardPeer {
    #[serde(deserialize_with = "id_or_new")]
    pub id: Id,
    pub name: String,
    pub public_key: String,
    #[serde(default)]
    pub preshared_key: Secret,
    /// `host:port`.
    pub endpoint: Option<String>,
    /// CIDR.
    pub allowed_ips: Vec<String>,
    /// Seconds.
    pub persistent_keepalive: Option<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IpsecProtocol {
    Esp,
    Ah,
    EspAh,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IpsecMode {
    Tunnel,
    Transport,
}

/// An IPsec security association.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ipsec {
    #[serde(deserialize_with = "id_or_new")]
    pub id: Id,
    pub name: String,
    pub src_addr: String,
    pub dst_addr: String,
    pub protocol: IpsecProtocol,
    pub mode: IpsecMode,
    pub enc_algo: String,
    pub auth_algo: String,
}
plain_object!(Ipsec);
