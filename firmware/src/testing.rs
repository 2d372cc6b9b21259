//! What tests beside the code share.

use std::path::{Path, PathBuf};

/// The folder `shared/<name>`: under `AIFW_SHARED`, or beside or above the sources. Without it the test has nothing
/// to compare with; this says so, and the test passes over it.
pub fn shared(name: &str) -> Option<PathBuf> {
    let given = std::env::var_os("AIFW_SHARED").map(PathBuf::from);
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|folder| folder.join("shared"));
    let found = given.into_iter().chain(above).map(|folder| folder.join(name)).find(|folder| folder.is_dir());
    if found.is_none() {
        eprintln!("skipped: no folder shared/{name} above this crate, nor under AIFW_SHARED");
    }
    found
}
