//! Cargo as a library would offer it: build one program, learn where it lies. Progress and diagnostics go to the
//! terminal in cargo's own form.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::tool::{self, Error};

/// The workspace's root folder.
pub fn workspace() -> &'static Path {
    let image = Path::new(env!("CARGO_MANIFEST_DIR"));
    image.parent().unwrap_or(image)
}

/// Runs a `cargo build` command for the program `name` and answers where the program lies.
pub fn build(command: &mut Command, name: &str) -> Result<PathBuf, Error> {
    let start = |source| Error::Start { program: "cargo".into(), source };
    let mut child = command
        .current_dir(workspace())
        .args(["--message-format", "json-render-diagnostics"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(start)?;
    let mut executable = None;
    for line in child.stdout.take().map(BufReader::new).into_iter().flat_map(BufRead::lines) {
        executable = program(&line.map_err(start)?, name).or(executable);
    }
    let status = child.wait().map_err(start)?;
    if !status.success() {
        return Err(tool::failed(command, status.to_string()));
    }
    executable.ok_or_else(|| Error::NothingBuilt(name.into()))
}

/// The path in cargo's message about the finished program `name`, if this line is that message.
fn program(line: &str, name: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(line).ok()?;
    let target = message.get("target")?;
    let is_program = target.get("kind")?.as_array()?.iter().any(|kind| kind == "bin");
    let named = target.get("name")? == name;
    (is_program && named).then(|| message.get("executable")?.as_str().map(PathBuf::from))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_among_cargos_messages() {
        let bin = r#"{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"aifw"},"executable":"/t/release/aifw","fresh":true}"#;
        let lib =
            r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"aifw"},"executable":null}"#;
        assert_eq!(program(bin, "aifw"), Some(PathBuf::from("/t/release/aifw")));
        assert_eq!(program(bin, "other"), None);
        assert_eq!(program(lib, "aifw"), None);
        assert_eq!(program(r#"{"reason":"build-finished","success":true}"#, "aifw"), None);
        assert_eq!(program("not json", "aifw"), None);
    }

    #[test]
    fn the_workspace_is_the_folder_above() {
        assert!(workspace().join("Cargo.lock").is_file());
    }
}
