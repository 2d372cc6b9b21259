//! `aifw network-event`: what dhclient(8) and rtsold(8) run, by a script that the platform writes, to say what they have
//! learned. Not for people.

use std::path::PathBuf;

use super::StartError;
use crate::platform::freebsd::network::lease;

/// Arguments as rtsold(8) gives them to its script; dhclient(8) gives none, and speaks through the environment.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Where what was learned is kept
    #[arg(long, value_name = "DIR", default_value = lease::DIRECTORY)]
    directory: PathBuf,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    told: Vec<String>,
}

/// Returns when what was learned is in force.
pub fn run(arguments: &Arguments) -> Result<(), StartError> {
    let failed = |reason: String| StartError::Input { what: "network event".into(), reason };
    let told = |name: &str| std::env::var(name).ok();
    let (interface, event) = lease::read(&arguments.told, told, &mut std::io::stdin().lock())
        .map_err(|error| failed(error.to_string()))?;
    Ok(lease::report(&arguments.directory, &interface, &event)?)
}
