//! Alerts as messages to a syslog server (RFC 5424 over UDP, RFC 5426).

use std::net::{ToSocketAddrs, UdpSocket};

use super::alerts::Alert;

/// security/authorization messages
const FACILITY: u8 = 4;

/// Sends alerts to `target`; what cannot be sent is lost, as is the way of UDP.
pub fn send(target: &str, hostname: &str, alerts: &[Alert]) {
    let Some(place) = target.to_socket_addrs().ok().and_then(|mut places| places.next()) else { return };
    let any = if place.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let Ok(socket) = UdpSocket::bind(any) else { return };
    for alert in alerts {
        socket.send_to(message(hostname, alert).as_bytes(), place).ok();
    }
}

fn message(hostname: &str, alert: &Alert) -> String {
    let severity = match alert.severity {
        1 => 1,
        2 => 2,
        3 => 4,
        _ => 6,
    };
    let plain: String = alert.signature_msg.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let port = |port: Option<u16>| port.map(|port| format!(":{port}")).unwrap_or_default();
    format!(
        "<{}>1 {} {hostname} aifw - ids - [{}] {plain} {} {}{} -> {}{} ({})",
        FACILITY * 8 + severity,
        alert.timestamp,
        alert.signature_id.map(|sid| sid.to_string()).unwrap_or_default(),
        alert.protocol,
        alert.src_ip,
        port(alert.src_port),
        alert.dst_ip,
        port(alert.dst_port),
        alert.action,
    )
}
