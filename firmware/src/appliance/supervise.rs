//! `aifw supervise`: the appliance itself, on FreeBSD. init(8) starts it through a line of ttys(5), with no files open and
//! hardly an environment, and starts it again when it ends; so every start, the first after power-on or one after
//! a kill, takes the machine as it is and goes on.
//!
//! The order: nothing comes in through pf; the data partition; the store; the host's settings; the local socket, over
//! which the console sets an appliance up that nobody has set up yet; then network, rules, services and the API.
//! Whatever fails is told, and what does not need it goes on.

mod network;
mod report;

use std::fs::File;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_channel::Receiver;
use async_signal::Signal;

use super::ending::{Ending, stop_signal};
use super::trial::{self, Doors};
use super::{Appliance, Parts, StartError};
use crate::api::Options;
use crate::api::console::KEYS_OF;
use crate::api::server::Listen;
use crate::compile;
use crate::compile::services::ListenMap;
use crate::pf::Pf;
use crate::pf::pfctl::Pfctl;
use crate::pf::sim::Simulator;
use crate::platform::freebsd::{FreeBsd, boot, data_disk};
use crate::platform::{Platform, Power};
use crate::services::{Components, sshd};
use crate::store::StoreError;
use crate::update::slots::freebsd::GpartSlots;
use network::Network;
use report::Report;

/// Below the data partition.
const STATE: &str = "aifw";
/// Below the state: certificates and keys of the API that are not the appliance's own.
const OWN_FILES: &str = "etc/tls";
/// Where the state is when there is no data partition: lost with the next reboot.
const MEMORY_STATE: &str = "/var/db/aifw-memory";
const SOCKET: &str = "/var/run/aifw.sock";
const PID_FILE: &str = "/var/run/aifw.pid";
const CONSOLE: &str = "/dev/console";
const RELEASE_KEYS: &str = "/usr/local/share/aifw/release.keys";
const WEB_UI: &str = "/usr/local/share/aifw/ui";
/// init(8) gives programs no search path; newfs(8), for one, calls another program by its name.
const PATH: &str = "/sbin:/bin:/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin";
/// An instance that is asked to end has so long to do it. init(8) kills 10 s after it has asked.
const LONGEST_STOP: Duration = Duration::from_secs(8);
/// So long another instance may still be ending.
const PATIENCE: Duration = Duration::from_secs(10);

/// Options of `aifw supervise`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Arguments {
    /// The entry of ttys(5) by which init(8) has started it: it appends the name, which means nothing here
    #[arg(hide = true)]
    entry: Option<String>,
    /// Trials on other hosts: every path lies below DIR, stand-ins for FreeBSD's tools are in DIR/tools, pf is simulated
    #[arg(long, value_name = "DIR", hide = true)]
    root: Option<PathBuf>,
    /// Trials: where the API listens, whatever the configuration says
    #[arg(long, value_name = "ADDR:PORT", hide = true, requires = "root")]
    listen: Option<SocketAddr>,
}

/// What differs between the machine and a trial.
struct Machine {
    root: PathBuf,
    platform: Arc<FreeBsd>,
    pf: Arc<dyn Pf>,
    components: Components,
    trial: bool,
}

impl Machine {
    fn new(arguments: &Arguments) -> Result<Self, StartError> {
        let Some(root) = &arguments.root else {
            if !cfg!(target_os = "freebsd") {
                let reason = "expected FreeBSD; on other hosts there is aifw sandbox".into();
                return Err(StartError::Input { what: "supervise".into(), reason });
            }
            return Ok(Self {
                root: "/".into(),
                platform: Arc::new(FreeBsd::new()),
                pf: Arc::new(Pfctl::new()),
                components: Components::of_the_appliance(),
                trial: false,
            });
        };
        let root = root.canonicalize()?;
        let tools = root.join("tools");
        let simulator = Simulator::new(Vec::new());
        // As the kernel's.
        simulator
            .set_enabled(false)
            .map_err(|error| StartError::Input { what: "pf".into(), reason: error.to_string() })?;
        let files = root.clone();
        simulator.set_files(move |name| std::fs::read_to_string(files.join(name.trim_start_matches('/'))));
        Ok(Self {
            platform: Arc::new(FreeBsd::with_tools(tools).with_root(&root)),
            pf: Arc::new(simulator),
            components: Components::in_directories([root.join("usr/local/sbin"), root.join("usr/local/bin")]),
            root,
            trial: true,
        })
    }

    /// A path of the appliance.
    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }
}

/// Runs until INT or TERM.
pub fn run(arguments: Arguments) -> Result<(), StartError> {
    let machine = Machine::new(&arguments)?;
    let report = Arc::new(Report::new(machine.at(CONSOLE)));
    if !machine.trial {
        become_system_process();
    }
    let outcome = claim(&machine.at(PID_FILE)).and_then(|_claimed| {
        let ended = smol::block_on(serve(&machine, &arguments, &report));
        // The claim lasts until here.
        drop(_claimed);
        ended
    });
    outcome.inspect_err(|error| report.error(&error.to_string()))
}

/// What init(8) leaves to the program: a session and an environment of its own.
fn become_system_process() {
    // It fails where it is one already: a start by hand.
    let _ = nix::unistd::setsid();
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    let _ = std::env::set_current_dir("/");
    // SAFETY: no other thread runs yet.
    unsafe { std::env::set_var("PATH", PATH) };
}

/// One instance at a time; the lock goes with the process, however it ends. One that is ending is waited for.
fn claim(path: &Path) -> Result<File, StartError> {
    let refused = |reason: String| StartError::Input { what: path.display().to_string(), reason };
    let mut options = File::options();
    let mut file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(|error| refused(error.to_string()))?;
    let begun = Instant::now();
    while let Err(error) = file.try_lock() {
        if begun.elapsed() > PATIENCE {
            let mut holder = String::new();
            // Whoever holds it may not have written yet.
            let _ = file.read_to_string(&mut holder);
            return Err(refused(match error {
                std::fs::TryLockError::WouldBlock => {
                    format!("aifw supervise runs already, as process {}", holder.trim())
                }
                std::fs::TryLockError::Error(error) => error.to_string(),
            }));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())?;
    Ok(file)
}

async fn serve(machine: &Machine, arguments: &Arguments, report: &Arc<Report>) -> Result<(), StartError> {
    let stop = stop_signal(&[Signal::Hup])?;
    crate::supervisor::become_reaper()?;
    crate::supervisor::guardian::post(&std::env::current_exe()?)?;
    report.ok(&format!("version {}", env!("CARGO_PKG_VERSION")));
    close(machine, report);
    let emergency = prepare_data(machine, report);
    let appliance = assemble(machine, report, emergency).await?;
    smol::spawn(keep_log_small(report.clone())).detach();
    let was_new = appliance.is_new();
    if !was_new {
        settle_host(&appliance, report).await;
    }
    let door = machine.at(SOCKET);
    let socket = appliance.listen(&[Listen::Local(door.clone())], Options::default())?;
    report.ok(&format!("local socket {SOCKET}"));
    let mut network = Network::new(&appliance.app, arguments.listen, web_ui(machine), report.clone());
    let judge = |addresses, loaded| {
        let doors = Doors { addresses, socket: Some(door.clone()) };
        smol::spawn(trial::judge(appliance.app.clone(), doors, loaded))
    };
    // A new firmware of an appliance that is not set up has no more to show than this.
    let judged = was_new.then(|| judge(Vec::new(), Ok(())));
    let ending = match set_up(&appliance, report, &stop).await {
        Some(ending) => ending,
        None => {
            if let Some(judged) = judged {
                judged.cancel().await;
            }
            let ended = async { Err(appliance.until_end(&stop).await) };
            let opened = async { Ok(open(&appliance, report, &mut network, was_new).await) };
            match futures_lite::future::or(ended, opened).await {
                Err(ending) => ending,
                Ok(loaded) => {
                    judge(vec![network.door()], loaded).detach();
                    futures_lite::future::or(appliance.until_end(&stop), network.follow()).await
                }
            }
        }
    };
    if ending == Ending::Reboot {
        reboot(machine, report, &stop).await;
    }
    report.ok("stopping");
    let servers = [Some(socket), network.into_server()].into_iter().flatten();
    let stopped = async {
        appliance.stop(servers).await;
        true
    };
    let late = async {
        async_io::Timer::after(LONGEST_STOP).await;
        false
    };
    match futures_lite::future::or(stopped, late).await {
        true => report.ok("stopped"),
        // What is stored is on the disk; what still runs ends with this process.
        false => report.warn(&format!("not everything ended within {} s", LONGEST_STOP.as_secs())),
    }
    Ok(())
}

/// pf first. A packet filter that is on is one that an earlier instance has left, with its rules: it filters on.
fn close(machine: &Machine, report: &Report) {
    if let Err(error) = machine.platform.load_modules(&boot::MODULES) {
        report.warn(&error.to_string());
    }
    if machine.pf.info().is_ok_and(|info| info.enabled) {
        report.ok("pf is on, and goes on with its rules");
    } else {
        let loaded = machine.pf.load(None, &compile::closed().to_string());
        match loaded.and_then(|()| machine.pf.set_enabled(true)) {
            Ok(()) => report.ok("pf is on: nothing comes in yet"),
            Err(error) => report.error(&format!("pf: {error}")),
        }
    }
    if let Err(error) = machine.platform.raise_pflog() {
        report.warn(&format!("packets that pf logs cannot be read: {error}"));
    }
}

/// Has the data partition mounted; `Some` = why it is not.
fn prepare_data(machine: &Machine, report: &Report) -> Option<String> {
    let outcome = machine.platform.prepare_data(&mut |step| report.ok(step));
    let reason = outcome.err()?.to_string();
    Some(format!("the data partition cannot be used: {reason}"))
}

/// Puts the appliance together on the data partition; where that cannot be, in memory.
async fn assemble(
    machine: &Machine,
    report: &Report,
    mut emergency: Option<String>,
) -> Result<Appliance, StartError> {
    if emergency.is_none() {
        let state = machine.at(data_disk::MOUNT_POINT).join(STATE);
        match assemble_in(machine, report, &state, None).await {
            Err(StartError::Store(error @ StoreError::InUse(_))) => return Err(error.into()),
            // The firmware before can use it: gptboot(8) boots that one now.
            Err(error) if trial::is_on_trial(&state) => {
                report.error(&format!("the new firmware cannot use what is stored: {error}"));
                machine.platform.power(Power::Reboot, Duration::ZERO)?;
                return Err(error);
            }
            Err(error) => emergency = Some(format!("what is stored cannot be used: {error}")),
            assembled => return assembled,
        }
    }
    let reason = emergency.unwrap_or_default();
    report.error("EMERGENCY: the appliance runs without its stored configuration");
    report.error(&reason);
    report.error("It runs from memory: what is set up now is lost with the next start");
    let state = machine.at(MEMORY_STATE);
    std::fs::create_dir_all(&state)?;
    if let Err(error) = machine.platform.mount_memory(&state) {
        report.warn(&format!("{MEMORY_STATE}: {error}"));
    }
    assemble_in(machine, report, &state, Some(reason)).await
}

async fn assemble_in(
    machine: &Machine,
    report: &Report,
    state: &Path,
    emergency: Option<String>,
) -> Result<Appliance, StartError> {
    if let Err(error) = report.log_to(&state.join("log")) {
        report.warn(&format!("{}: {error}", state.join("log").display()));
    }
    // What administrators bring themselves: /usr/local/etc/aifw of the read-only slot leads there.
    let own = state.join(OWN_FILES);
    if let Err(error) = std::fs::create_dir_all(&own) {
        report.warn(&format!("{}: {error}", own.display()));
    }
    Appliance::assemble(Parts {
        state_dir: state.to_owned(),
        pf: machine.pf.clone(),
        platform: machine.platform.clone(),
        auth: crate::auth::Options::from_env(),
        root: machine.root.clone(),
        sshd: match machine.trial {
            true => sshd::Programs::None,
            false => sshd::Programs::of_freebsd(),
        },
        inside_allowed: false,
        keys_url: KEYS_OF.into(),
        listens_once_set_up: true,
        components: machine.components.clone(),
        slots: Arc::new(GpartSlots),
        release_keys: machine.at(RELEASE_KEYS),
        listen: match machine.trial {
            true => ListenMap::Loopback { offset: 10_000 },
            false => ListenMap::AsConfigured,
        },
        emergency,
    })
    .await
}

/// Waits until the appliance is set up; `Some` when it ends before.
async fn set_up(appliance: &Appliance, report: &Report, stop: &Receiver<()>) -> Option<Ending> {
    if !appliance.is_new() {
        return None;
    }
    report.warn("not set up: answer the questions on the console, or aifw setup --config FILE");
    loop {
        if let Some(end) = appliance.until_set_up_or_end(stop).await {
            return Some(end);
        }
        // A setup whose rules pf has refused is taken back.
        appliance.app.applier.settled().await;
        if !appliance.is_new() {
            report.ok("set up");
            return None;
        }
    }
}

/// What makes the host this appliance: its name, its console, who signs in there. Before anybody can ask.
async fn settle_host(appliance: &Appliance, report: &Report) {
    match appliance.app.applier.apply_host_settings().await.failed.as_slice() {
        [] => report.ok("host settings are in force"),
        failed => failed.iter().for_each(|reason| report.warn(reason)),
    }
}

/// Everything that a configuration asks for: network, rules, services, the API, sshd. A setup has seen to network and sshd
/// itself. Gives what became of the rules.
async fn open(
    appliance: &Appliance,
    report: &Arc<Report>,
    network: &mut Network,
    just_set_up: bool,
) -> Result<(), String> {
    let applier = appliance.app.applier.clone();
    if !just_set_up {
        let configured = applier.apply_network().await;
        let problems: Vec<String> = configured.problems().collect();
        match problems.as_slice() {
            [] => report.ok("the network is configured"),
            problems => problems.iter().for_each(|problem| report.warn(&format!("network: {problem}"))),
        }
    }
    let loaded = appliance.start().await.map_err(|error| error.to_string());
    match &loaded {
        Ok(()) => report.ok("pf filters as configured; services are starting"),
        Err(error) => report.error(&format!("the rules could not be loaded, pf goes on as it is: {error}")),
    }
    network.listen().await;
    if !just_set_up {
        let report = report.clone();
        let sshd = async move {
            applier.apply_sshd().await.failed.iter().for_each(|reason| report.warn(reason));
        };
        smol::spawn(sshd).detach();
    }
    loaded
}

/// What was asked for begins with a reboot; if that cannot be had, with the start that follows the end of this process.
async fn reboot(machine: &Machine, report: &Report, stop: &Receiver<()>) {
    let platform = machine.platform.clone();
    match blocking::unblock(move || platform.power(Power::Reboot, Duration::ZERO)).await {
        Ok(_) => {
            report.ok("the machine restarts");
            // shutdown(8) makes init(8) end everybody.
            let asked = async {
                stop.recv().await.ok();
            };
            let late = async {
                async_io::Timer::after(Duration::from_secs(60)).await;
            };
            if !machine.trial {
                futures_lite::future::or(asked, late).await;
            }
        }
        Err(error) => report.error(&format!("the machine cannot be restarted: {error}")),
    }
}

fn web_ui(machine: &Machine) -> Option<PathBuf> {
    Some(machine.at(WEB_UI)).filter(|folder| folder.join("index.html").is_file())
}

async fn keep_log_small(report: Arc<Report>) {
    loop {
        async_io::Timer::after(Duration::from_secs(600)).await;
        let report = report.clone();
        blocking::unblock(move || report.tidy()).await;
    }
}
