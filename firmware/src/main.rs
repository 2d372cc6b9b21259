//! The appliance's one program: the commands.

use std::ffi::OsString;
use std::process::ExitCode;

use aifw::appliance::{StartError, ask, network_event, sandbox, supervise};
use aifw::console;
use aifw::live::syslog::LogRing;
use aifw::supervisor::guardian;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "aifw", version, about = "The firmware of the AiFw firewall appliance")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the appliance on this host without privileges: pf is simulated, traffic comes from captures
    Sandbox(Box<sandbox::Arguments>),
    /// Answer the first-boot questions, or set up from a file
    Setup(console::SetupArguments),
    /// The menu of the machine's console, root's login shell; an appliance that is not set up asks its questions first
    Console(console::ConsoleArguments),
    /// Run the appliance itself, on FreeBSD; init(8) starts it
    Supervise(supervise::Arguments),
    /// Look for a newer version, install it, go back
    Update(console::UpdateArguments),
    /// Print what a configuration file is compiled to
    Compile(ask::CompileArguments),
    /// Tell what pf would do with a packet under a configuration file; exit status 1 = blocked
    Explain(ask::ExplainArguments),
    /// Stands by a supervisor, by itself: ends what it launched, should it be killed
    #[command(hide = true)]
    Guardian,
    /// Takes what DHCP clients and router advertisements tell
    #[command(hide = true)]
    NetworkEvent(network_event::Arguments),
    /// Print the version
    Version,
}

/// Exit status for bad input and for what could not be started (sysexits(3): EX_USAGE is clap's own 2).
const FAILED: u8 = 3;

/// `aifw setup`'s status for a setup file at fault (contract/console.md §1).
const BAD_FILE: u8 = 2;

/// Called through a link named `aifw-console` or `aifw-setup`, the program is that command: a login shell is a path
/// without arguments (passwd(5)), and login(1) puts a `-` before its name.
fn by_name(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.collect();
    let name = arguments.first().map(std::path::Path::new).and_then(|path| path.file_name()?.to_str());
    let command = name.map(|name| name.trim_start_matches('-')).and_then(|name| name.strip_prefix("aifw-"));
    if let Some(command) = command.filter(|command| ["console", "setup"].contains(command)) {
        let command = OsString::from(command);
        arguments[0] = "aifw".into();
        arguments.insert(1, command);
    }
    arguments
}

fn main() -> ExitCode {
    give_large_blocks_back();
    let printer = env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).build();
    let level = printer.filter();
    if let Err(error) = LogRing::new(Box::new(printer)).install(level) {
        eprintln!("[WARN] {error}");
    }
    let outcome: Result<ExitCode, StartError> = match Cli::parse_from(by_name(std::env::args_os())).command {
        Command::Sandbox(arguments) => sandbox::run(*arguments).map(|()| ExitCode::SUCCESS),
        Command::Setup(arguments) if arguments.pf_only => {
            return ask::main_ruleset(arguments.config.as_deref()).map_or_else(
                |error| {
                    eprintln!("[ERROR] {error}");
                    ExitCode::from(BAD_FILE)
                },
                |()| ExitCode::SUCCESS,
            );
        }
        Command::Setup(arguments) => Ok(console::setup(&arguments)),
        Command::Console(arguments) => Ok(console::console(&arguments)),
        Command::Supervise(arguments) => supervise::run(arguments).map(|()| ExitCode::SUCCESS),
        Command::Update(arguments) => Ok(console::update(&arguments)),
        Command::Compile(arguments) => ask::compile(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Explain(arguments) => {
            ask::explain(&arguments).map(|passed| if passed { ExitCode::SUCCESS } else { ExitCode::from(1) })
        }
        Command::Guardian => {
            guardian::stand(std::io::stdin().lock());
            Ok(ExitCode::SUCCESS)
        }
        Command::NetworkEvent(arguments) => network_event::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Version => {
            println!("aifw {}", env!("CARGO_PKG_VERSION"));
            Ok(ExitCode::SUCCESS)
        }
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("[ERROR] {error}");
        ExitCode::from(FAILED)
    })
}

/// glibc keeps large blocks that were freed once one of their size was freed before: a login's 19 MB for Argon2
/// would stay with the process for ever. With fixed thresholds they go back to the system at once, as FreeBSD's
/// jemalloc does by itself; and few arenas are enough for few threads.
fn give_large_blocks_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: mallopt(3) only sets parameters of the allocator; no other thread runs yet.
    unsafe {
        use nix::libc::{M_ARENA_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, mallopt};
        mallopt(M_MMAP_THRESHOLD, 1024 * 1024);
        mallopt(M_TRIM_THRESHOLD, 1024 * 1024);
        mallopt(M_ARENA_MAX, 4);
    }
}
