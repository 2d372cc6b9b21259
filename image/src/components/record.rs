//! What proves that a directory holds a component in its pinned version: cargo's own record of the installation
//! (`.crates2.json` in the directory that was given to `cargo install --root`), and the program's own word where it
//! gives one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::pins::Component;
use crate::tool::{self, Error};

/// A program that was asked for its version and does not answer by then is not the right one.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Why a directory is not taken for a component.
#[derive(Debug, thiserror::Error)]
pub enum Unproven {
    #[error("{record}: {source}")]
    NoRecord { record: PathBuf, source: std::io::Error },
    #[error("{record} does not record {package} {version}")]
    OtherRecord { record: PathBuf, package: &'static str, version: &'static str },
    #[error("{0} is not an executable file")]
    NoProgram(PathBuf),
    #[error(transparent)]
    NoAnswer(Error),
    #[error("{program} {option} says {told:?}, not {version}")]
    OtherVersion { program: PathBuf, option: &'static str, told: String, version: &'static str },
}

impl From<Unproven> for Error {
    fn from(unproven: Unproven) -> Self {
        Self::Unproven(Box::new(unproven))
    }
}

/// Whether the component lies in `directory`, whole.
pub fn check(component: &Component, directory: &Path) -> Result<(), Unproven> {
    let Component { package, version, programs, tells } = *component;
    let record = directory.join(".crates2.json");
    let text = match fs::read_to_string(&record) {
        Ok(text) => text,
        Err(source) => return Err(Unproven::NoRecord { record, source }),
    };
    if !records(&text, component) {
        return Err(Unproven::OtherRecord { record, package, version });
    }
    let mut paths = programs.iter().map(|program| directory.join("bin").join(program));
    if let Some(path) = paths.find(|path| !tool::is_executable(path)) {
        return Err(Unproven::NoProgram(path));
    }
    let Some((program, option)) = tells else { return Ok(()) };
    let program = directory.join("bin").join(program);
    let mut command = Command::new(&program);
    let told = tool::output_within(command.arg(option).stderr(Stdio::null()), ANSWER_LIMIT)
        .map_err(Unproven::NoAnswer)?;
    if names_version(&told, version) {
        return Ok(());
    }
    Err(Unproven::OtherVersion { program, option, told: told.trim().into(), version })
}

/// Whether cargo's record has this package, in this version, from the registry, with all of its programs.
pub fn records(text: &str, component: &Component) -> bool {
    let Ok(record) = serde_json::from_str::<Value>(text) else { return false };
    let Some(installs) = record.get("installs").and_then(Value::as_object) else { return false };
    installs.iter().any(|(key, install)| {
        // "rtimed 0.15.1 (registry+…)"
        let mut words = key.split(' ');
        let named = words.next() == Some(component.package) && words.next() == Some(component.version);
        let registry = words
            .next()
            .is_some_and(|source| ["(registry+", "(sparse+"].iter().any(|scheme| source.starts_with(scheme)));
        let bins = install.get("bins").and_then(Value::as_array);
        let has = |program: &str| bins.is_some_and(|bins| bins.iter().any(|bin| bin == program));
        named && registry && component.programs.iter().all(|program| has(program))
    })
}

/// Whether a word of the first line is this version.
pub fn names_version(told: &str, version: &str) -> bool {
    told.lines().next().is_some_and(|line| line.split_whitespace().any(|word| word == version))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RDNS: Component = Component {
        package: "rdns-server",
        version: "1.17.25",
        programs: &["rdns", "rdns-control"],
        tells: None,
    };

    fn record(key: &str, bins: &str) -> String {
        format!(
            r#"{{"installs":{{"{key}":{{"version_req":"=1.17.25","bins":[{bins}],"features":[],"all_features":false,"no_default_features":false,"profile":"release","target":"x86_64-unknown-linux-gnu","rustc":"rustc 1.95.0"}}}}}}"#
        )
    }

    #[test]
    fn cargos_record_proves_package_version_source_and_programs() {
        let both = r#""rdns","rdns-control""#;
        let has = |key: &str, bins: &str| records(&record(key, bins), &RDNS);
        assert!(has("rdns-server 1.17.25 (registry+https://example.org/index)", both));
        assert!(has("rdns-server 1.17.25 (sparse+https://example.org/)", both));
        assert!(!has("rdns-server 1.17.2 (registry+https://example.org/index)", both));
        assert!(!has("rdns 1.17.25 (registry+https://example.org/index)", both));
        assert!(!has("rdns-server 1.17.25 (path+file:///src/rdns)", both));
        assert!(!has("rdns-server 1.17.25 (registry+https://example.org/index)", r#""rdns""#));
        assert!(!records("{}", &RDNS));
        assert!(!records("cut sho", &RDNS));
    }

    #[test]
    fn a_version_is_a_whole_word_of_the_first_line() {
        assert!(names_version("rtime 0.15.1\n", "0.15.1"));
        assert!(!names_version("rtime 0.15.10\n", "0.15.1"));
        assert!(!names_version("usage: rtime\n0.15.1\n", "0.15.1"));
        assert!(!names_version("", "0.15.1"));
    }
}
