//! Where the daemons' programs are.

use std::path::{Path, PathBuf};

use crate::config::ServiceKind;

/// Directories in which programs are looked for, in order.
#[derive(Debug, Clone, Default)]
pub struct Components {
    directories: Vec<PathBuf>,
}

impl Components {
    /// No daemons at all.
    pub fn none() -> Self {
        Self::default()
    }

    pub fn in_directories(directories: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { directories: directories.into_iter().collect() }
    }

    /// The appliance's own places.
    pub fn of_the_appliance() -> Self {
        Self::in_directories(["/usr/local/sbin", "/usr/local/bin"].map(PathBuf::from))
    }

    /// On a development host: `$AIFW_COMPONENTS` (a directory), else where `cargo image components` puts them;
    /// then the directories of `PATH`.
    pub fn of_this_host() -> Self {
        let built = std::env::var_os("AIFW_COMPONENTS").map(PathBuf::from).or_else(Self::cache);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let usual = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
        Self::in_directories(built.into_iter().chain(std::env::split_paths(&path)).chain(usual))
    }

    /// `<cache>/aifw/components/bin`, the user's cache directory being `$XDG_CACHE_HOME` or `~/.cache`.
    fn cache() -> Option<PathBuf> {
        let cache = match std::env::var_os("XDG_CACHE_HOME").filter(|set| !set.is_empty()) {
            Some(cache) => PathBuf::from(cache),
            None => PathBuf::from(std::env::var_os("HOME")?).join(".cache"),
        };
        Some(cache.join("aifw/components/bin"))
    }

    /// The program; where it would be if it were there, when it is not.
    pub fn program(&self, kind: ServiceKind) -> PathBuf {
        self.tool(kind.program())
    }

    /// As [`Components::program`], for a program that goes with a daemon (`suricatasc`).
    pub fn tool(&self, name: &str) -> PathBuf {
        let places = || self.directories.iter().map(|directory| directory.join(name));
        let fallback = || places().next().unwrap_or_else(|| Path::new("/nonexistent").join(name));
        places().find(|path| path.is_file()).unwrap_or_else(fallback)
    }
}
