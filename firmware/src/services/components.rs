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

    /// On a development host: where `cargo image components` puts them, then the directories of `PATH`.
    pub fn of_this_host() -> Self {
        let built = Self::built();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let usual = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
        Self::in_directories(built.into_iter().chain(std::env::split_paths(&path)).chain(usual))
    }

    /// `bin` in `$AIFW_COMPONENTS`, or in `aifw/components` of the user's cache directory, which is
    /// `$XDG_CACHE_HOME` or `~/.cache`.
    fn built() -> Option<PathBuf> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let cache = || set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
        let home = set("AIFW_COMPONENTS").or_else(|| Some(cache()?.join("aifw/components")));
        Some(home?.join("bin"))
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
