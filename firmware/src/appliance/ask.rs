//! `aifw explain` and `aifw compile`: questions to a configuration file, without a running appliance.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::IpNet;

use super::{StartError, read};
use crate::apply::machine::{Compiled, Machine};
use crate::apply::url_tables::UrlTables;
use crate::compile::os::network::settings;
use crate::config::backup::ConfigDocument;
use crate::config::setup::Setup;
use crate::config::{Config, Timestamp};
use crate::pf::packet::Direction;
use crate::pf::sim::{Explanation, Question};
use crate::platform::Interface;
use crate::platform::geoip::GeoIp;
use crate::platform::sandbox::Sandbox;

/// Options of `aifw compile`.
#[derive(Debug, Clone, clap::Args)]
pub struct CompileArguments {
    /// A configuration: an export of the API, its `config` document, or a setup file
    file: PathBuf,
}

/// Options of `aifw explain`.
#[derive(Debug, Clone, clap::Args)]
pub struct ExplainArguments {
    /// A configuration: an export of the API, its `config` document, or a setup file
    file: PathBuf,
    /// Interface that the packet passes
    #[arg(long)]
    interface: String,
    /// in or out
    #[arg(long, default_value = "in")]
    direction: String,
    /// tcp, udp, icmp, icmp6, esp, ah, gre, igmp, or a number
    #[arg(long, default_value = "tcp")]
    protocol: String,
    #[arg(long)]
    src: IpAddr,
    #[arg(long)]
    src_port: Option<u16>,
    #[arg(long)]
    dst: IpAddr,
    #[arg(long)]
    dst_port: Option<u16>,
    /// Print JSON, as the API answers
    #[arg(long)]
    json: bool,
}

fn input(what: &Path, reason: impl std::fmt::Display) -> StartError {
    StartError::Input { what: what.display().to_string(), reason: reason.to_string() }
}

/// The configuration of a file in any of the three forms.
fn configuration(path: &Path) -> Result<Config, StartError> {
    let text = read(path)?;
    let value: serde_json::Value = serde_json::from_slice(&text).map_err(|error| input(path, error))?;
    let document = match value.get("config") {
        Some(document) => document.clone(),
        None if value.get("schema_version").is_some() => value,
        None => {
            let setup =
                Setup::parse_without_admin(&text, Timestamp::now()).map_err(|error| input(path, error))?;
            return Ok(setup.config);
        }
    };
    let document =
        ConfigDocument::parse(&document.to_string().into_bytes()).map_err(|error| input(path, error))?;
    document.to_config(&Config::default(), Timestamp::now()).map_err(|error| input(path, error))
}

/// A machine with the interfaces that the configuration names, and nothing else.
fn machine(config: &Config) -> (Machine, PathBuf) {
    let nowhere = std::env::temp_dir().join("aifw-none");
    let platform = Sandbox::new(&nowhere);
    let wanted = settings(config);
    let mut interfaces: Vec<Interface> = wanted
        .interfaces
        .iter()
        .map(|setting| {
            let inet = setting.inet.map(IpNet::V4).into_iter();
            Interface {
                name: setting.name.to_string(),
                up: setting.up,
                addresses: inet.chain(setting.inet6.map(IpNet::V6)).collect(),
                ..Interface::default()
            }
        })
        .collect();
    // One of which nothing is said has a name all the same.
    let system = &config.system;
    for name in [&system.wan_interface, &system.lan_interface].into_iter().flatten() {
        if wanted.interface(name.as_str()).is_none() {
            interfaces.push(Interface { name: name.to_string(), up: true, ..Interface::default() });
        }
    }
    platform.set_interfaces(interfaces);
    platform.set_default_gateway(system.wan_gateway);
    let machine = Machine::new(
        Arc::new(crate::pf::absent::Absent),
        Arc::new(platform),
        Arc::new(GeoIp::new(nowhere.join("geoip"))),
        Arc::new(UrlTables::new(nowhere.join("url-tables"), false)),
        nowhere.clone(),
    );
    (machine, nowhere)
}

/// Every artifact of a configuration, as text.
pub fn compile(arguments: &CompileArguments) -> Result<(), StartError> {
    let config = configuration(&arguments.file)?;
    let compiled = machine(&config).0.compile(&config).map_err(|error| input(&arguments.file, error))?;
    print!("{}", printed(&compiled));
    // Plain values: serialising them has no way to fail.
    let network = serde_json::to_string_pretty(&settings(&config)).unwrap_or_default();
    println!("\n# network\n{network}");
    Ok(())
}

/// `aifw setup --pf-only`: the main ruleset of a setup file, or of one that says nothing.
pub fn main_ruleset(file: Option<&Path>) -> Result<(), StartError> {
    let named = file.unwrap_or(Path::new("setup"));
    let text = file.map_or_else(|| Ok(b"{}".to_vec()), read)?;
    let setup = Setup::parse_without_admin(&text, Timestamp::now()).map_err(|error| input(named, error))?;
    let compiled = machine(&setup.config).0.compile(&setup.config).map_err(|error| input(named, error))?;
    print!("{}", compiled.main);
    Ok(())
}

fn printed(compiled: &Compiled) -> String {
    let mut out = format!("# main ruleset\n{}", compiled.main);
    for (name, text) in &compiled.anchors {
        out.push_str(&format!("\n# anchor \"{name}\"\n{text}"));
    }
    for (name, entries) in &compiled.tables {
        out.push_str(&format!("\n# table <{name}>\n"));
        entries.iter().for_each(|entry| out.push_str(&format!("{entry}\n")));
    }
    for (name, lines) in &compiled.files {
        out.push_str(&format!("\n# file {name}: {} lines\n", lines.len()));
    }
    for warning in &compiled.warnings {
        out.push_str(&format!("# warning: {warning}\n"));
    }
    out
}

/// What pf would do with one packet. Exit status 0 = passed, 1 = blocked.
pub fn explain(arguments: &ExplainArguments) -> Result<bool, StartError> {
    let config = configuration(&arguments.file)?;
    let (machine, _) = machine(&config);
    let compiled = machine.compile(&config).map_err(|error| input(&arguments.file, error))?;
    let simulator = machine.simulate(&compiled).map_err(|error| input(&arguments.file, error))?;
    let question = Question {
        interface: arguments.interface.clone(),
        direction: match arguments.direction.as_str() {
            "in" => Direction::In,
            "out" => Direction::Out,
            other => {
                return Err(StartError::Input {
                    what: "direction".into(),
                    reason: format!("expected in or out, got {other:?}"),
                });
            }
        },
        protocol: arguments.protocol.clone(),
        src: arguments.src,
        src_port: arguments.src_port,
        dst: arguments.dst,
        dst_port: arguments.dst_port,
        flags: None,
        icmp_type: None,
        icmp_code: None,
    };
    let packet = question
        .packet()
        .map_err(|error| StartError::Input { what: error.field.into(), reason: error.reason })?;
    let explanation = simulator.explain(&question.interface, question.direction, &packet);
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&explanation).unwrap_or_default());
    } else {
        print!("{}", told(&explanation));
    }
    Ok(explanation.passed())
}

/// An explanation for a terminal.
fn told(explanation: &Explanation) -> String {
    let mut out = format!("{}\n", explanation.verdict);
    for leg in &explanation.legs {
        let direction = if leg.direction == Direction::In { "in" } else { "out" };
        out.push_str(&format!("{direction} on {}: {} ({})\n", leg.interface, leg.verdict, leg.reason));
        for step in &leg.path {
            let rule = &step.rule;
            let place = if rule.anchor.is_empty() { "main ruleset" } else { rule.anchor.as_str() };
            out.push_str(&format!("  {} {} of {place}: {}\n", step.kind, rule.number, rule.text));
        }
        if let Some(done) = &leg.translation {
            let (src, dst) = (&done.after.src, &done.after.dst);
            let ports = (done.after.src_port, done.after.dst_port);
            out.push_str(&format!("  translated to {src} port {} -> {dst} port {}\n", ports.0, ports.1));
        }
    }
    match &explanation.rule {
        Some(rule) => out.push_str(&format!("decided by: {}\n", rule.text)),
        None => out.push_str("no rule decides; pf passes\n"),
    }
    out
}
