//! The counters in Prometheus' text exposition format, version 0.0.4.

use std::fmt::Write;

use crate::api::Call;
use crate::live::tick::Sample;

pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Writing into a string does not fail, so results of `write!` are dropped.
struct Exposition(String);

impl Exposition {
    fn family(&mut self, name: &str, kind: &str, help: &str) -> &mut Self {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        self
    }
    fn value(&mut self, name: &str, labels: &[(&str, &str)], value: f64) -> &mut Self {
        self.0.push_str(name);
        if !labels.is_empty() {
            let escape = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let pairs: Vec<String> =
                labels.iter().map(|(label, text)| format!("{label}=\"{}\"", escape(text))).collect();
            let _ = write!(self.0, "{{{}}}", pairs.join(","));
        }
        let _ = writeln!(self.0, " {value}");
        self
    }
    fn single(&mut self, name: &str, kind: &str, help: &str, value: f64) {
        self.family(name, kind, help).value(name, &[], value);
    }
}

pub fn exposition(call: &Call, sample: Option<&Sample>) -> Vec<u8> {
    let app = &call.app;
    let status = app.live.status();
    let mut out = Exposition(String::with_capacity(4096));
    let build = [("version", env!("CARGO_PKG_VERSION")), ("platform", app.platform.kind())];
    out.family("aifw_build_info", "gauge", "Version and platform of the firmware.").value(
        "aifw_build_info",
        &build,
        1.0,
    );
    out.single("aifw_pf_running", "gauge", "Whether pf is enabled.", f64::from(u8::from(status.pf_running)));
    out.single("aifw_pf_states", "gauge", "Entries of the state table.", status.pf_states as f64);
    out.single("aifw_pf_rules", "gauge", "Filter rules of the main ruleset.", status.pf_rules as f64);
    for (name, help, inward, outward) in [
        ("aifw_pf_packets_total", "Passed packets.", status.packets_in, status.packets_out),
        ("aifw_pf_bytes_total", "Passed bytes.", status.bytes_in, status.bytes_out),
    ] {
        out.family(name, "counter", help).value(name, &[("direction", "in")], inward as f64).value(
            name,
            &[("direction", "out")],
            outward as f64,
        );
    }
    out.family("aifw_rules", "gauge", "Stored filter rules.")
        .value("aifw_rules", &[("status", "active")], status.aifw_active_rules as f64)
        .value(
            "aifw_rules",
            &[("status", "disabled")],
            (status.aifw_rules - status.aifw_active_rules) as f64,
        );
    out.single("aifw_nat_rules", "gauge", "Stored translation rules.", status.nat_rules as f64);
    let counters = app.live.counters();
    out.single("aifw_api_requests_total", "counter", "Requests answered.", counters.requests() as f64);
    out.single("aifw_api_errors_total", "counter", "Answers of 400 and above.", counters.errors() as f64);
    if let Some(sample) = sample {
        machine(&mut out, sample);
    }
    out.0.into_bytes()
}

fn machine(out: &mut Exposition, sample: &Sample) {
    let system = &sample.system;
    out.single("aifw_cpu_usage_percent", "gauge", "Use of all cores.", system.cpu_usage);
    out.single("aifw_memory_bytes", "gauge", "Physical memory.", system.memory_total as f64);
    out.single("aifw_memory_used_bytes", "gauge", "Memory in use.", system.memory_used as f64);
    let resident = sample.memory.api_rss_mb * 1024.0 * 1024.0;
    out.single("aifw_resident_memory_bytes", "gauge", "Resident size of this process.", resident);
    out.single(
        "aifw_pf_states_limit",
        "gauge",
        "Limit of the state table.",
        sample.memory.pf_states_max as f64,
    );
    out.single("aifw_uptime_seconds", "gauge", "Since the machine was started.", system.uptime_secs as f64);
    for (name, help, of) in [
        (
            "aifw_disk_bytes",
            "Size of a file system.",
            (|disk| disk.total) as fn(&crate::live::view::DiskUse) -> u64,
        ),
        ("aifw_disk_used_bytes", "Use of a file system.", |disk| disk.used),
    ] {
        out.family(name, "gauge", help);
        for disk in &system.disks {
            out.value(name, &[("mount", &disk.mount)], of(disk) as f64);
        }
    }
    for (name, help, inward, outward) in [
        (
            "aifw_interface_bytes_total",
            "Bytes of an interface.",
            (|interface| interface.bytes_in) as fn(&crate::live::view::InterfaceView) -> u64,
            (|interface| interface.bytes_out) as fn(&crate::live::view::InterfaceView) -> u64,
        ),
        (
            "aifw_interface_packets_total",
            "Packets of an interface.",
            |interface| interface.packets_in,
            |interface| interface.packets_out,
        ),
    ] {
        out.family(name, "counter", help);
        for interface in &sample.interfaces {
            out.value(name, &[("interface", &interface.name), ("direction", "in")], inward(interface) as f64);
            out.value(
                name,
                &[("interface", &interface.name), ("direction", "out")],
                outward(interface) as f64,
            );
        }
    }
}
