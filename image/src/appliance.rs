//! `cargo appliance`: everything that is needed before the sandbox appliance can run, and then the appliance in
//! this process's place, so that signals and the exit status are its own.

use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::tool::{Error, require};
use crate::{cargo, components};

/// Options of `aifw sandbox`, passed on as they are. Without `--state`, the state is kept in target/appliance;
/// without `--replay` or `--no-replay`, the two captures of the repository are replayed in a loop.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS OF aifw sandbox")]
    options: Vec<String>,
}

/// Builds the daemons and the firmware and becomes the appliance; returns only when that fails.
pub fn run(arguments: &Arguments) -> Result<(), Error> {
    // ring compiles C and assembler.
    require("cc", "gcc")?;
    components::prepare();
    let program = cargo::build(
        Command::new("cargo").args(["build", "--release", "--package", "aifw", "--bin", "aifw"]),
        "aifw",
    )?;
    let mut appliance = Command::new(&program);
    let options = arguments.options.iter().filter(|option| *option != NO_REPLAY);
    appliance.arg("sandbox").args(options);
    if !names(&arguments.options, "--state") {
        appliance.arg("--state").arg(cargo::workspace().join("target/appliance"));
    }
    if !names(&arguments.options, "--replay") && !names(&arguments.options, NO_REPLAY) {
        let captures = cargo::workspace().join("firmware/captures");
        for capture in ["office.pcap", "scans.pcap"] {
            appliance.arg("--replay").arg(captures.join(capture));
        }
        if !names(&arguments.options, "--loop") {
            appliance.arg("--loop");
        }
    }
    let source = appliance.exec();
    Err(Error::Start { program: program.display().to_string(), source })
}

/// Taken here: no capture is replayed.
const NO_REPLAY: &str = "--no-replay";

/// Whether an option is among those given, in either form (`--state DIR`, `--state=DIR`).
fn names(options: &[String], wanted: &str) -> bool {
    options.iter().any(|option| option.split('=').next() == Some(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_directory_of_ones_own_is_kept() {
        let options = |words: &[&str]| words.iter().map(|word| word.to_string()).collect::<Vec<_>>();
        assert!(names(&options(&["--listen", "127.0.0.1:0", "--state", "/srv/a"]), "--state"));
        assert!(names(&options(&["--state=/srv/a"]), "--state"));
        assert!(!names(&options(&["--stateful"]), "--state"));
        assert!(!names(&[], "--state"));
    }
}
