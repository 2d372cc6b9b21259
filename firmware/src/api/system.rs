//! `/system`: the host itself (contract/system.md §1). Every write acts at once; what a step of it could not do stands
//! in the answer's `warning`.

use schemars::JsonSchema;
use serde::Serialize;

use super::services_common::audit;
use super::{Access, ApiError, Call, Reply, Route};
use crate::apply::host::HostReport;
use crate::config::system::Console;
use crate::config::system::request::{Banner, ConsoleRequest, General, Ssh, SshRequest};
use crate::config::{Permission, System};
use crate::platform::resolv;
use crate::platform::system::load_average;

const READ: Access = Access::Needs(Permission::SettingsRead);
const WRITE: Access = Access::Needs(Permission::SettingsWrite);

pub fn routes() -> Vec<Route> {
    vec![
        Route::new("GET", "/system/general", READ, "Host name, domain and time zone", general)
            .answers::<General>(200),
        Route::new("PUT", "/system/general", WRITE, "Change host name, domain and time zone", set_general)
            .takes::<General>()
            .answers::<ApplyReport>(200),
        Route::new("GET", "/system/banner", READ, "Texts before and after a login", banner)
            .answers::<Banner>(200),
        Route::new("PUT", "/system/banner", WRITE, "Change the texts before and after a login", set_banner)
            .takes::<Banner>()
            .answers::<ApplyReport>(200),
        Route::new("GET", "/system/ssh", READ, "Settings of SSH", ssh).answers::<Ssh>(200),
        Route::new("PUT", "/system/ssh", WRITE, "Change settings of SSH; open sessions stay", set_ssh)
            .takes::<SshRequest>()
            .answers::<ApplyReport>(200),
        Route::new("GET", "/system/console", READ, "Where the console is", console).answers::<Console>(200),
        Route::new(
            "PUT",
            "/system/console",
            WRITE,
            "Change where the console is, from the next boot on",
            set_console,
        )
        .takes::<ConsoleRequest>()
        .answers::<ApplyReport>(200),
        Route::new("GET", "/system/info", READ, "The machine, and how busy it is", info)
            .answers::<SystemInfo>(200),
        Route::new("GET", "/system/timezones", READ, "Names of time zones, sorted", zones)
            .answers::<Vec<String>>(200),
    ]
}

/// What became of a write.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ApplyReport {
    /// Unset when it was stored but nothing of it could be put in force.
    ok: bool,
    requires_reboot: bool,
    /// The service that was made to follow.
    requires_service_restart: Option<&'static str>,
    /// What could not be done, one part per step.
    warning: Option<String>,
}

fn report(done: &HostReport) -> ApplyReport {
    ApplyReport {
        ok: done.done > 0,
        requires_reboot: false,
        requires_service_restart: None,
        warning: done.warning(),
    }
}

/// Stores a change and makes the host follow.
async fn set<F>(call: &Call, what: &'static str, change: F) -> Result<HostReport, ApiError>
where
    F: Fn(&mut System) -> Result<(), ApiError> + Send + 'static,
{
    let author = call.author();
    let entry = audit("system", &author, format!("{what} changed"));
    Ok(call.app.applier.set_host(&author, entry, change).await?)
}

async fn general(call: Call) -> Result<Reply, ApiError> {
    Ok(Reply::json(&General::of(&call.app.store.snapshot().config.system)))
}

async fn set_general(call: Call) -> Result<Reply, ApiError> {
    let request: General = call.json()?;
    request.check(&known_zones(&call).await)?;
    let done = set(&call, "host name, domain or time zone", move |system| {
        request.clone().put(system);
        Ok(())
    });
    Ok(Reply::json(&report(&done.await?)))
}

async fn banner(call: Call) -> Result<Reply, ApiError> {
    Ok(Reply::json(&Banner::of(&call.app.store.snapshot().config.system)))
}

async fn set_banner(call: Call) -> Result<Reply, ApiError> {
    let request = call.json::<Banner>()?.checked()?;
    let done = set(&call, "login banner or message of the day", move |system| {
        request.clone().put(system);
        Ok(())
    });
    Ok(Reply::json(&report(&done.await?)))
}

async fn ssh(call: Call) -> Result<Reply, ApiError> {
    Ok(Reply::json(&Ssh::of(&call.app.store.snapshot().config.system)))
}

async fn set_ssh(call: Call) -> Result<Reply, ApiError> {
    let request: SshRequest = call.json()?;
    request.clone().checked(&call.app.store.snapshot().config.system)?;
    let ssh = request.ssh;
    let done = set(&call, "SSH settings", move |system| {
        ssh.clone().put(system);
        Ok(())
    });
    Ok(Reply::json(&ApplyReport { requires_service_restart: Some("sshd"), ..report(&done.await?) }))
}

async fn console(call: Call) -> Result<Reply, ApiError> {
    Ok(Reply::json(&call.app.store.snapshot().config.system.console))
}

async fn set_console(call: Call) -> Result<Reply, ApiError> {
    let wanted: Console = call.json::<ConsoleRequest>()?.into();
    wanted.check()?;
    let done = set(&call, "console", move |system| {
        system.console = wanted.clone();
        Ok(())
    });
    Ok(Reply::json(&ApplyReport { requires_reboot: true, ..report(&done.await?) }))
}

async fn known_zones(call: &Call) -> Vec<String> {
    let platform = call.app.platform.clone();
    blocking::unblock(move || platform.time_zones()).await
}

async fn zones(call: Call) -> Result<Reply, ApiError> {
    Ok(Reply::json(&known_zones(&call).await))
}

/// A core's temperature.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Temperature {
    core: u32,
    celsius: f64,
}

/// The machine.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SystemInfo {
    /// Without its domain.
    hostname: String,
    domain: String,
    os_version: String,
    kernel: String,
    uptime_secs: u64,
    /// Over 1, 5 and 15 minutes.
    load_avg: [f64; 3],
    cpu_model: String,
    cpu_count: u32,
    /// Of all cores, over the last second.
    cpu_usage_pct: f64,
    mem_total_bytes: u64,
    mem_used_bytes: u64,
    disk_total_bytes: u64,
    disk_used_bytes: u64,
    /// Cores that tell.
    temperatures_c: Vec<Temperature>,
    /// Why the appliance runs without its stored configuration; absent when it runs with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    emergency: Option<String>,
}

async fn info(call: Call) -> Result<Reply, ApiError> {
    let sample = call.app.live.sample().await;
    let platform = call.app.platform.clone();
    let resolv_conf = call.app.applier.resolv_conf().await;
    let known = sample.is_some();
    let (facts, vitals, resolver) = blocking::unblock(move || {
        let vitals = if known { None } else { platform.vitals().ok() };
        (platform.host_facts(), vitals, std::fs::read_to_string(resolv_conf).unwrap_or_default())
    })
    .await;
    let facts = facts.map_err(ApiError::internal)?;
    let vitals = vitals.unwrap_or_default();
    let mut info = SystemInfo {
        hostname: vitals.hostname,
        domain: resolv::search_domain(&resolver).unwrap_or_default(),
        os_version: vitals.os_version,
        kernel: facts.kernel,
        uptime_secs: vitals.uptime_secs,
        load_avg: load_average(),
        cpu_model: facts.cpu_model,
        cpu_count: vitals.cpu_cores,
        cpu_usage_pct: 0.0,
        mem_total_bytes: vitals.memory.total,
        mem_used_bytes: vitals.memory.used(),
        disk_total_bytes: vitals.disks.first().map_or(0, |disk| disk.total),
        disk_used_bytes: vitals.disks.first().map_or(0, |disk| disk.used),
        temperatures_c: facts
            .temperatures
            .into_iter()
            .map(|(core, celsius)| Temperature { core, celsius })
            .collect(),
        emergency: call.app.emergency.clone(),
    };
    if let Some(sample) = &sample {
        let system = &sample.system;
        info.hostname = system.hostname.clone();
        info.os_version = system.os_version.clone();
        info.uptime_secs = system.uptime_secs;
        info.cpu_count = system.cpu_cores;
        info.cpu_usage_pct = system.cpu_usage;
        (info.mem_total_bytes, info.mem_used_bytes) = (system.memory_total, system.memory_used);
        if let Some(disk) = system.disks.first() {
            (info.disk_total_bytes, info.disk_used_bytes) = (disk.total, disk.used);
        }
    }
    if let Some((host, rest)) = info.hostname.clone().split_once('.') {
        info.hostname = host.to_owned();
        if info.domain.is_empty() {
            info.domain = rest.to_owned();
        }
    }
    Ok(Reply::json(&info))
}
