//! `aifw sandbox`: the appliance on a development host, without privileges. pf is the simulator, traffic comes
//! from captures, the machine's interfaces are simulated; nothing outside the state directory is touched. It
//! says what it is.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde_json::json;

use super::ending::stop_signal;
use super::trial::{self, Doors};
use super::{Appliance, Parts, StartError, certificate, listener_tls, power_cycle, read};
use crate::api::console::{KEYS_OF, Reached};
use crate::api::server::{Listen, ServerError};
use crate::api::{Cors, Options};
use crate::apply::ApplyError;
use crate::compile::services::ListenMap;
use crate::config::setup::{Facts, Setup};
use crate::config::{Config, InterfaceName, ServiceKind, Timestamp};
use crate::pf::Pf;
use crate::pf::sim::replay::{self, Capture};
use crate::pf::sim::{SimInterface, Simulator};
use crate::platform::Interface;
use crate::platform::sandbox::Sandbox;
use crate::services::{Components, Services, ids, sshd};

/// Options of `aifw sandbox`.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Where everything is kept
    #[arg(long, value_name = "DIR", default_value = "target/appliance")]
    state: PathBuf,
    /// Where to listen; port 0 picks a free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// The real address is written there once requests are answered
    #[arg(long, value_name = "FILE")]
    address_file: Option<PathBuf>,
    /// Unattended setup file (JSON), used when the state directory is new
    #[arg(long, value_name = "FILE")]
    setup: Option<PathBuf>,
    /// Nobody has set it up: `aifw console --socket PATH` asks the questions. Needs --socket
    #[arg(long, requires = "socket", conflicts_with = "setup")]
    unconfigured: bool,
    /// Names of the simulated network cards, comma separated, while nobody has set it up
    #[arg(long, value_name = "NAMES", default_value = "em0,em1", value_delimiter = ',')]
    interfaces: Vec<InterfaceName>,
    /// A capture (pcap or pcapng) whose packets go through the rules; may be given more than once
    #[arg(long, value_name = "FILE")]
    replay: Vec<PathBuf>,
    /// Replay again and again
    #[arg(long = "loop")]
    repeat: bool,
    /// Replay so many times faster than captured; 0 = as fast as possible
    #[arg(long, value_name = "N", default_value_t = 1.0, value_parser = speed)]
    speed: f64,
    /// A directory with a static web UI, served at /
    #[arg(long, value_name = "DIR")]
    ui: Option<PathBuf>,
    /// Serve TLS, with a self-signed certificate that is kept in the state directory
    #[arg(long)]
    tls: bool,
    /// Allow plain HTTP on an address that others can reach
    #[arg(long)]
    plain_http_anywhere: bool,
    /// Also listen on this Unix socket, for root and the user who runs this
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Daemons listen on loopback; a port below 1024 becomes so much higher
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u16).range(1024..=64000))]
    port_offset: u16,
    /// Daemons listen exactly where they are configured to (needs the addresses, and root for ports below 1024)
    #[arg(long)]
    as_configured: bool,
    /// Origins that a browser may call from, comma separated; * = any
    #[arg(long, value_name = "LIST", default_value = "*", value_parser = Cors::parse)]
    cors: Cors,
    /// Public keys of releases, one a line; release.keys in the state directory unless given
    #[arg(long, value_name = "FILE")]
    release_keys: Option<PathBuf>,
    /// Size of each of the two slots of the simulated disk, in MiB
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=65_536))]
    slot_mib: u64,
    /// Speak to identity providers on loopback in plain HTTP (tests)
    #[arg(long, hide = true)]
    insecure_loopback: bool,
    /// Where keys of a GitHub user are fetched
    #[arg(long, value_name = "URL", default_value = KEYS_OF, hide = true)]
    keys_url: String,
}

/// Interfaces of the sandbox when no setup file says otherwise.
fn default_setup() -> Vec<u8> {
    let file = json!({
        "wan_interface": "em0", "wan_mode": "static", "wan_ip": "203.0.113.2/24", "wan_gateway": "203.0.113.1",
        "lan_interface": "em1", "lan_ip": "192.168.1.1/24", "nat_enabled": true, "dhcp_enabled": true,
        "dns_servers": ["192.0.2.53"],
    });
    file.to_string().into_bytes()
}

/// A factor that time can be divided by, or 0.
fn speed(text: &str) -> Result<f64, &'static str> {
    let factor = text.parse().ok().filter(|factor: &f64| factor.is_finite() && *factor >= 0.0);
    factor.ok_or("expected a number, 0 or more")
}

/// Runs until INT or TERM.
pub fn run(arguments: Arguments) -> Result<(), StartError> {
    smol::block_on(serve(arguments))
}

async fn serve(mut arguments: Arguments) -> Result<(), StartError> {
    arguments.listen = power_cycle::address(arguments.listen);
    let stop = stop_signal(&[])?;
    crate::supervisor::become_reaper()?;
    crate::supervisor::guardian::post(&std::env::current_exe()?)?;
    let state = arguments.state.clone();
    let platform = Arc::new(Sandbox::new(&state));
    let simulator = Arc::new(Simulator::new(Vec::new()));
    let root = state.join("root");
    let files = root.clone();
    simulator.set_files(move |name| std::fs::read_to_string(files.join(name.trim_start_matches('/'))));
    let captures: Vec<(PathBuf, Capture)> = arguments
        .replay
        .iter()
        .map(|path| match Capture::open(path) {
            Ok(capture) => Ok((path.clone(), capture)),
            Err(error) => {
                Err(StartError::Input { what: path.display().to_string(), reason: error.to_string() })
            }
        })
        .collect::<Result<_, _>>()?;
    let input = |what: &Path, reason: String| StartError::Input { what: what.display().to_string(), reason };
    if let Some(ui) = arguments.ui.as_deref().filter(|ui| !ui.join("index.html").is_file()) {
        return Err(input(ui, "expected a directory with an index.html".into()));
    }
    if !arguments.tls && !arguments.plain_http_anywhere && !arguments.listen.ip().is_loopback() {
        return Err(ServerError::PlainRefused(arguments.listen).into());
    }
    // All that was asked for is judged before the first file is made: what is refused leaves nothing behind.
    let asked = match &arguments.setup {
        Some(path) => {
            let setup = Setup::parse(&read(path)?, Timestamp::now(), &Facts::default());
            Some(setup.map_err(|error| input(path, error.to_string()))?)
        }
        None => None,
    };
    if let Some(file) = &arguments.address_file {
        let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
        if parent.is_some_and(|parent| !parent.is_dir()) {
            return Err(input(file, "expected a file in a directory that exists".into()));
        }
    }
    let appliance = Appliance::assemble(Parts {
        state_dir: state.clone(),
        pf: simulator.clone(),
        platform: platform.clone(),
        auth: crate::auth::Options {
            insecure_loopback: arguments.insecure_loopback,
            ..crate::auth::Options::from_env()
        },
        root,
        sshd: sshd::Programs::None,
        inside_allowed: true,
        keys_url: arguments.keys_url.clone(),
        listens_once_set_up: true,
        components: Components::of_this_host(),
        listen: match arguments.as_configured {
            true => ListenMap::AsConfigured,
            false => ListenMap::Loopback { offset: arguments.port_offset },
        },
        slots: Arc::new(power_cycle::disk(&state, arguments.slot_mib << 20)?),
        release_keys: arguments.release_keys.clone().unwrap_or_else(|| state.join("release.keys")),
        emergency: None,
    })
    .await?;
    if let Some(file) = &arguments.address_file {
        // The state is ours now. One left by a process that was killed names an address where nobody, or somebody else, answers.
        match std::fs::remove_file(file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(input(file, error.to_string()));
            }
            _ => {}
        }
    }
    let filter = simulator.clone();
    platform.when_changed(move |interfaces, gateway| join(&filter, interfaces, gateway));
    if arguments.unconfigured {
        // What they are is configured by whoever sets it up.
        platform.set_interfaces(cards(&arguments.interfaces));
    }
    let (mut local, mut loaded) = (None, None);
    if arguments.unconfigured && appliance.is_new() {
        let closed = told(appliance.start().await);
        let places: Vec<Listen> = arguments.socket.clone().map(Listen::Local).into_iter().collect();
        local = Some(appliance.listen(&places, Options::default())?);
        let socket = arguments.socket.clone().unwrap_or_default();
        println!("[OK] sandbox appliance, not set up; aifw console --socket {}", socket.display());
        let doors = Doors { addresses: Vec::new(), socket: arguments.socket.clone() };
        let judged = smol::spawn(trial::judge(appliance.app.clone(), doors, closed));
        let set_up = async {
            appliance.until_set_up().await;
            None
        };
        let end = async { Some(power_cycle::wait(&appliance, &stop, &platform).await) };
        if let Some(ending) = futures_lite::future::or(end, set_up).await {
            println!("[OK] stopping");
            let slot = appliance.app.updater.slot();
            appliance.stop(local).await;
            return power_cycle::again(ending, arguments.listen, slot);
        }
        judged.cancel().await;
        loaded = Some(Ok(()));
    } else if appliance.is_new() {
        let setup = match asked {
            Some(setup) => setup,
            None => Setup::parse_without_admin(&default_setup(), Timestamp::now())
                .map_err(|error| StartError::Input { what: "setup".into(), reason: error.to_string() })?,
        };
        setup.warnings.iter().for_each(|warning| eprintln!("[!] {warning}"));
        appliance.set_up(setup.config, setup.admin).await?;
    } else if let Some(path) = &arguments.setup {
        eprintln!("[!] {}: not used, {} is set up already", path.display(), state.display());
    }
    let loaded = match loaded {
        Some(loaded) => loaded,
        None => {
            if !arguments.unconfigured {
                connect(&appliance.app.store.snapshot().applied, &platform, &simulator);
            }
            told(appliance.start().await)
        }
    };
    let listen = place(&arguments, &state, &appliance).await?;
    let mut places = vec![listen];
    places.extend(arguments.socket.clone().filter(|_| local.is_none()).map(Listen::Local));
    let options = Options { cors: arguments.cors.clone(), ui: arguments.ui.clone(), ..Options::default() };
    let server = appliance.listen(&places, options)?;
    let doors = Doors { addresses: server.addresses().to_vec(), socket: arguments.socket.clone() };
    smol::spawn(trial::judge(appliance.app.clone(), doors, loaded)).detach();
    let scheme = if arguments.tls { "https" } else { "http" };
    let address = server.addresses().first().copied().unwrap_or(arguments.listen);
    appliance.app.local.set_reached(Reached { tls: arguments.tls, address });
    println!("[OK] sandbox appliance (pf is simulated) on {scheme}://{address}");
    if appliance.app.store.snapshot().identity.users.is_empty() {
        println!(
            "[!] no user yet: the first who registers (POST /api/v1/auth/register) becomes the administrator"
        );
    }
    if let Some(file) = &arguments.address_file {
        let temporary = file.with_extension("new");
        std::fs::write(&temporary, format!("{address}\n"))
            .and_then(|()| std::fs::rename(&temporary, file))
            .map_err(|error| input(file, error.to_string()))?;
    }
    for (path, capture) in captures {
        println!("[OK] replaying {} ({} packets)", path.display(), capture.len());
        let simulator = simulator.clone();
        let options = replay::Options { speed: arguments.speed, repeat: arguments.repeat };
        let progress = Arc::new(replay::Progress::default());
        smol::spawn(feed_engine(appliance.app.services.clone(), path, progress.clone())).detach();
        smol::spawn(async move {
            replay::replay(&simulator, &capture, options, &progress).await;
        })
        .detach();
    }
    smol::spawn(count_traffic(simulator.clone(), platform.clone())).detach();
    let ending = power_cycle::wait(&appliance, &stop, &platform).await;
    println!("[OK] stopping");
    let slot = appliance.app.updater.slot();
    appliance.stop(local.into_iter().chain([server])).await;
    if let Some(file) = &arguments.address_file {
        std::fs::remove_file(file).ok();
    }
    power_cycle::again(ending, address, slot)
}

/// What became of loading the rules, which a failure is told of.
fn told<T>(loaded: Result<T, ApplyError>) -> Result<(), String> {
    let loaded = loaded.map(drop).map_err(|error| error.to_string());
    if let Err(error) = &loaded {
        eprintln!("[ERROR] the applied rules could not be loaded: {error}");
    }
    loaded
}

/// Simulated network cards without an address.
fn cards(names: &[InterfaceName]) -> Vec<Interface> {
    let card = |(number, name): (usize, &InterfaceName)| Interface {
        name: name.to_string(),
        mac: Some(mac(number)),
        up: true,
        link: Some(true),
        mtu: 1500,
        ..Interface::default()
    };
    names.iter().enumerate().map(card).collect()
}

/// A locally administered address for each simulated card.
fn mac(number: usize) -> String {
    format!("02:00:00:00:00:{:02x}", number + 1)
}

/// Where the API listens: TLS that follows the stored policy and certificate (this state directory's own as long as there
/// is none), plain on loopback, or plain anywhere if that was asked for.
async fn place(arguments: &Arguments, state: &Path, appliance: &Appliance) -> Result<Listen, StartError> {
    if arguments.tls {
        let tls = listener_tls::as_stored(&appliance.app, certificate::own(state, &[])?).await;
        let tls =
            tls.map_err(|error| StartError::Input { what: "certificate".into(), reason: error.to_string() })?;
        return Ok(Listen::Tls(arguments.listen, tls));
    }
    Ok(match arguments.plain_http_anywhere {
        true => Listen::PlainAnywhere(arguments.listen),
        false => Listen::Plain(arguments.listen),
    })
}

/// Puts the simulated packet filter between these interfaces.
fn join(simulator: &Simulator, interfaces: &[Interface], gateway: Option<IpAddr>) {
    let simulated = interfaces.iter().map(|interface| {
        let holds = |gateway: &IpAddr| interface.addresses.iter().any(|own| own.contains(gateway));
        let known = SimInterface::new(&interface.name, interface.addresses.clone());
        match gateway.filter(holds) {
            Some(gateway) => known.with_gateway(gateway),
            None => known,
        }
    });
    simulator.set_interfaces(simulated.collect());
}

/// Gives platform and simulator the interfaces that the configuration names.
fn connect(config: &Config, platform: &Sandbox, simulator: &Arc<Simulator>) {
    let system = &config.system;
    let side = |name: &Option<crate::config::InterfaceName>, own: Option<IpNet>, fallback: &str| {
        let name = name.as_ref()?.to_string();
        let own = own.or_else(|| fallback.parse().ok());
        Some(Interface { name, up: true, addresses: own.into_iter().collect(), ..Interface::default() })
    };
    // A WAN that asks for its address is given this one here, where nobody answers.
    let wan = side(&system.wan_interface, system.wan_ip, "203.0.113.2/24");
    let lan = side(&system.lan_interface, system.lan_ip, "192.168.1.1/24");
    let mut interfaces: Vec<Interface> = [wan, lan].into_iter().flatten().collect();
    for (number, interface) in interfaces.iter_mut().enumerate() {
        interface.mac = Some(mac(number));
    }
    let gateway = system.wan_gateway.or_else(|| "203.0.113.1".parse().ok());
    join(simulator, &interfaces, gateway);
    platform.set_interfaces(interfaces);
    platform.set_hostname(&system.hostname.to_string());
    platform.set_default_gateway(gateway);
}

/// The intrusion detection sees the packets of a capture, too: when it starts, and again with each round of the replay,
/// but not more often than every half minute.
async fn feed_engine(services: Services, capture: PathBuf, progress: Arc<replay::Progress>) {
    let mut fed: Option<(u32, u64)> = None;
    let mut number = 0;
    loop {
        async_io::Timer::after(Duration::from_secs(if fed.is_some() { 30 } else { 1 })).await;
        let runner = services.runner(ServiceKind::Ids);
        let Some(pid) = runner.status().pid.filter(|_| runner.is_running()) else {
            fed = None;
            continue;
        };
        let now = (pid, progress.rounds.load(std::sync::atomic::Ordering::Relaxed));
        if fed == Some(now) {
            continue;
        }
        number += 1;
        let directory = runner.places().data.join(ids::CAPTURES);
        let path = capture.clone();
        match blocking::unblock(move || ids::captures::feed(&path, &directory, number)).await {
            Ok(()) => fed = Some(now),
            Err(error) => log::warn!("{}: {error}", capture.display()),
        }
    }
}

/// What passes the simulator is what the interfaces count.
async fn count_traffic(simulator: Arc<Simulator>, platform: Arc<Sandbox>) {
    let mut before: HashMap<String, [u64; 4]> = HashMap::new();
    loop {
        async_io::Timer::after(Duration::from_millis(500)).await;
        for now in simulator.interfaces().unwrap_or_default() {
            let sums = [now.packets_in, now.bytes_in, now.packets_out, now.bytes_out];
            let old = before.insert(now.name.clone(), sums).unwrap_or_default();
            let grown: [u64; 4] = std::array::from_fn(|at| sums[at].saturating_sub(old[at]));
            platform.count(&now.name, true, grown[0], grown[1]);
            platform.count(&now.name, false, grown[2], grown[3]);
        }
    }
}
