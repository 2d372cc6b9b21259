//! Entries 9 and 10: pf's states, and the packets that it has logged, as they happen. Any of Enter, q and Ctrl-C
//! leads back.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::Menu;
use crate::console::terminal::Left;

/// With its heading and the prompt, a screen of 24 lines.
const ROWS: usize = 20;
const EVERY: Duration = Duration::from_secs(3);
/// Packets that are shown first.
const PACKETS: usize = 50;
/// Packets that are looked through for new ones.
const WINDOW: usize = 500;

#[derive(Deserialize)]
struct States {
    data: Vec<State>,
    total: usize,
}

#[derive(Deserialize)]
struct State {
    protocol: String,
    src_addr: std::net::IpAddr,
    src_port: u16,
    dst_addr: std::net::IpAddr,
    dst_port: u16,
    state: String,
    bytes_in: u64,
    bytes_out: u64,
}

#[derive(Deserialize)]
struct Packets {
    data: Vec<Value>,
}

impl Menu {
    /// The largest states by bytes, again and again.
    pub(super) fn states(&mut self) -> Result<(), Left> {
        self.terminal.line("Enter leads back to the menu.");
        loop {
            match self.client.get::<States>(&format!("/connections?limit={ROWS}")) {
                Ok(states) => {
                    self.terminal.line(format_args!("\n{} states; the largest:", states.total));
                    self.terminal.line(format_args!(
                        "{:<5} {:<27} {:<27} {:>8} STATE",
                        "PROTO", "FROM", "TO", "BYTES"
                    ));
                    for state in &states.data {
                        self.terminal.line(row(state));
                    }
                }
                Err(error) => {
                    self.terminal.error(error);
                    return Ok(());
                }
            }
            self.terminal.wait(EVERY)?;
        }
    }

    /// The last packets that pf has logged, then each as it comes.
    pub(super) fn log(&mut self) -> Result<(), Left> {
        self.terminal.line("Ctrl-C leads back to the menu.");
        let mut last: Option<Value> = None;
        loop {
            // Newest first.
            let packets = match self.client.get::<Packets>(&format!("/blocked?action=all&limit={WINDOW}")) {
                Ok(packets) => packets.data,
                Err(error) => {
                    self.terminal.error(error);
                    return Ok(());
                }
            };
            let new = match &last {
                None => packets.len().min(PACKETS),
                Some(last) => packets.iter().position(|packet| packet == last).unwrap_or(packets.len()),
            };
            for packet in packets[..new].iter().rev() {
                self.terminal.line(packet_line(packet));
            }
            last = packets.into_iter().next().or(last);
            self.terminal.wait(Duration::from_secs(1))?;
        }
    }
}

fn row(state: &State) -> String {
    let end = |addr: std::net::IpAddr, port: u16| match (addr, port) {
        (_, 0) => addr.to_string(),
        (std::net::IpAddr::V4(addr), port) => format!("{addr}:{port}"),
        (std::net::IpAddr::V6(addr), port) => format!("{addr}.{port}"),
    };
    let (from, to) = (end(state.src_addr, state.src_port), end(state.dst_addr, state.dst_port));
    // Both ends as pfctl(8) prints them; one of them alone is what there is room for.
    let word = state.state.split(':').next().unwrap_or_default();
    let bytes = amount(state.bytes_in + state.bytes_out);
    format!("{:<5} {from:<27} {to:<27} {bytes:>8} {word}", state.protocol).chars().take(79).collect()
}

/// In at most six characters.
fn amount(bytes: u64) -> String {
    let mut rest = bytes;
    for unit in ["B", "K", "M", "G"] {
        if rest < 10_000 {
            return format!("{rest} {unit}");
        }
        rest /= 1024;
    }
    format!("{rest} T")
}

/// `12:34:56 block in em0 tcp 1.2.3.4:5 > 6.7.8.9:22`
fn packet_line(packet: &Value) -> String {
    let text = |key: &str| packet[key].as_str().unwrap_or_default();
    let end = |addr: &str, port: &str| match packet[port].as_u64() {
        None | Some(0) => text(addr).to_owned(),
        Some(port) => format!("{}:{port}", text(addr)),
    };
    let time = text("timestamp").get(11..19).unwrap_or_default();
    let (from, to) = (end("src_addr", "src_port"), end("dst_addr", "dst_port"));
    let (action, direction) = (text("action"), text("direction"));
    let reason = match text("reason") {
        "" | "policy" | "match" => String::new(),
        other => format!(" ({other})"),
    };
    format!("{time} {action} {direction} {} {} {from} > {to}{reason}", text("interface"), text("protocol"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit_a_screen_of_80() {
        let state: State = State {
            protocol: "tcp".into(),
            src_addr: std::net::Ipv4Addr::new(192, 168, 100, 100).into(),
            src_port: 50123,
            dst_addr: std::net::Ipv4Addr::new(203, 0, 113, 200).into(),
            dst_port: 443,
            state: "ESTABLISHED:ESTABLISHED".into(),
            bytes_in: 123_456_789,
            bytes_out: 1,
        };
        assert_eq!(
            row(&state),
            "tcp   192.168.100.100:50123       203.0.113.200:443              117 M ESTABLIS"
        );
        assert_eq!([0, 9_999, 10_240, u64::MAX].map(amount), ["0 B", "9999 B", "10 K", "16777215 T"]);
    }

    #[test]
    fn packets_read_as_pf_speaks() {
        let packet = serde_json::json!({
            "timestamp": "2026-11-24T12:34:56.789Z", "action": "block", "direction": "in", "interface": "em0",
            "protocol": "tcp", "src_addr": "198.51.100.7", "src_port": 4711, "dst_addr": "203.0.113.2",
            "dst_port": 22, "reason": "policy",
        });
        assert_eq!(packet_line(&packet), "12:34:56 block in em0 tcp 198.51.100.7:4711 > 203.0.113.2:22");
    }
}
