//! `/reverse-proxy`: the reverse proxy (contract/reverse-proxy.md). Objects in `rows`, the daemon in `service`.

mod rows;
mod service;

use super::{Access, Route};
use crate::config::Permission;
use crate::config::proxy::*;

const READ: Access = Access::Needs(Permission::ProxyRead);
const WRITE: Access = Access::Needs(Permission::ProxyWrite);

pub fn routes() -> Vec<Route> {
    [
        service::routes(),
        rows::routes::<EntryPoint>(["/reverse-proxy/entrypoints", "/reverse-proxy/entrypoints/{id}"]),
        rows::routes::<HttpRouter>(["/reverse-proxy/http/routers", "/reverse-proxy/http/routers/{id}"]),
        rows::routes::<HttpService>(["/reverse-proxy/http/services", "/reverse-proxy/http/services/{id}"]),
        rows::routes::<Middleware>([
            "/reverse-proxy/http/middlewares",
            "/reverse-proxy/http/middlewares/{id}",
        ]),
        rows::routes::<TcpRouter>(["/reverse-proxy/tcp/routers", "/reverse-proxy/tcp/routers/{id}"]),
        rows::routes::<TcpService>(["/reverse-proxy/tcp/services", "/reverse-proxy/tcp/services/{id}"]),
        rows::routes::<UdpRouter>(["/reverse-proxy/udp/routers", "/reverse-proxy/udp/routers/{id}"]),
        rows::routes::<UdpService>(["/reverse-proxy/udp/services", "/reverse-proxy/udp/services/{id}"]),
        rows::routes::<TlsCert>(["/reverse-proxy/tls/certs", "/reverse-proxy/tls/certs/{id}"]),
        rows::routes::<TlsOption>(["/reverse-proxy/tls/options", "/reverse-proxy/tls/options/{id}"]),
        rows::routes::<CertResolver>(["/reverse-proxy/cert-resolvers", "/reverse-proxy/cert-resolvers/{id}"]),
    ]
    .concat()
}
