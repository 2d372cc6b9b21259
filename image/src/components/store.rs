//! The directory in which components are kept: what of it is whole, one writer at a time, and each component there
//! as a whole or as before.

use std::env;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::pins::{COMPONENTS, Component};
use super::record;
use crate::tool::{Error, file};

#[derive(Debug)]
pub struct Store {
    home: PathBuf,
}

/// Held as long as components may be written.
#[derive(Debug)]
pub struct Lock {
    /// Closing it gives the lock back; so does the end of the process, whatever ended it.
    _file: File,
}

impl Store {
    /// `$AIFW_COMPONENTS`, else `aifw/components` in the user's cache directory. The firmware looks for its
    /// daemons by the same rule (`services::Components`).
    pub fn of_this_user() -> Result<Self, Error> {
        let home = match set("AIFW_COMPONENTS") {
            Some(home) => home,
            None => cache()?.join("components"),
        };
        Ok(Self { home: std::path::absolute(&home).map_err(file(&home))? })
    }

    /// Where the programs are.
    pub fn programs(&self) -> PathBuf {
        self.home.join("bin")
    }

    /// The components that are not there, or not proven to be what they should.
    pub fn missing(&self) -> Vec<Component> {
        let is_there = |component: &Component| {
            let linked = |program: &&str| {
                fs::read_link(self.programs().join(program))
                    .is_ok_and(|to| to == target_of(component, program))
            };
            component.programs.iter().all(linked)
                && record::check(component, &self.directory(component)).is_ok()
        };
        COMPONENTS.into_iter().filter(|component| !is_there(component)).collect()
    }

    /// Waits until no one else builds.
    pub fn lock(&self) -> Result<Lock, Error> {
        fs::create_dir_all(&self.home).map_err(file(&self.home))?;
        let path = self.home.join("lock");
        let lock =
            OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(file(&path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                eprintln!("The daemons are being built by another run; waiting for it");
                lock.lock().map_err(file(&path))?;
            }
            Err(TryLockError::Error(error)) => return Err(file(&path)(error)),
        }
        Ok(Lock { _file: lock })
    }

    /// Puts a component in place. `install` gets a directory to install into and one for compiled dependencies;
    /// it is not called when only the links are amiss. Whatever fails, `bin` is as before.
    pub fn obtain(
        &self,
        component: &Component,
        install: impl FnOnce(&Path, &Path) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let directory = self.directory(component);
        if record::check(component, &directory).is_err() {
            let partial = self.home.join("partial");
            remove_all(&partial)?;
            fs::create_dir(&partial).map_err(file(&partial))?;
            install(&partial, &self.home.join("target"))?;
            record::check(component, &partial)?;
            remove_all(&directory)?;
            fs::rename(&partial, &directory).map_err(file(&directory))?;
        }
        self.link(component)
    }

    /// Lets `bin` lead to this version.
    fn link(&self, component: &Component) -> Result<(), Error> {
        let programs = self.programs();
        fs::create_dir_all(&programs).map_err(file(&programs))?;
        for program in component.programs {
            let path = programs.join(program);
            // Renamed over what is there, so that at no time there is nothing.
            let new = programs.join(format!(".{program}.new"));
            remove_all(&new)?;
            symlink(target_of(component, program), &new).map_err(file(&new))?;
            fs::rename(&new, &path).map_err(file(&path))?;
        }
        Ok(())
    }

    /// Gives the disk space of compiled dependencies back.
    pub fn forget_intermediates(&self) -> Result<(), Error> {
        remove_all(&self.home.join("target"))
    }

    fn directory(&self, component: &Component) -> PathBuf {
        self.home.join(component.directory())
    }
}

/// `aifw` in the user's cache directory.
pub fn cache() -> Result<PathBuf, Error> {
    let caches = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    caches.map(|caches| caches.join("aifw")).ok_or(Error::NoCache)
}

fn set(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Where the link of a program leads, seen from `bin`.
fn target_of(component: &Component, program: &str) -> PathBuf {
    Path::new("..").join(component.directory()).join("bin").join(program)
}

/// Removes a file, a link or a directory with all that is in it; it need not be there.
fn remove_all(path: &Path) -> Result<(), Error> {
    let removed = match fs::symlink_metadata(path) {
        Ok(data) if data.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(file(path)(error)),
        _ => Ok(()),
    }
}
