//! `cargo appliance`: everything that is needed before the sandbox appliance can run, and then the appliance in
//! this process's place, so that signals and the exit status are its own.

use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::cargo;
use crate::tool::{Error, require};

/// Options of `aifw sandbox`, passed on as they are. Without `--state`, the state is kept in target/appliance.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS OF aifw sandbox")]
    options: Vec<String>,
}

/// Builds the firmware and becomes the appliance; returns only when that fails.
pub fn run(arguments: &Arguments) -> Result<(), Error> {
    // ring compiles C and assembler.
    require("cc", "gcc")?;
    let program = cargo::build(
        Command::new("cargo").args(["build", "--release", "--package", "aifw", "--bin", "aifw"]),
        "aifw",
    )?;
    let mut appliance = Command::new(&program);
    appliance.arg("sandbox").args(&arguments.options);
    if !names_state(&arguments.options) {
        appliance.arg("--state").arg(cargo::workspace().join("target/appliance"));
    }
    let source = appliance.exec();
    Err(Error::Start { program: program.display().to_string(), source })
}

/// Whether the options say where the state is kept.
fn names_state(options: &[String]) -> bool {
    options.iter().any(|option| option == "--state" || option.starts_with("--state="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_directory_of_ones_own_is_kept() {
        let options = |words: &[&str]| words.iter().map(|word| word.to_string()).collect::<Vec<_>>();
        assert!(names_state(&options(&["--listen", "127.0.0.1:0", "--state", "/srv/a"])));
        assert!(names_state(&options(&["--state=/srv/a"])));
        assert!(!names_state(&options(&["--stateful"])));
        assert!(!names_state(&[]));
    }
}
