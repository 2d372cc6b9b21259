//! A `/run` of a child's own, on Linux: some daemons lock a file whose place cannot be chosen, which allows one of
//! them per machine. A mount namespace gives each child its own directory there (mount_namespaces(7)); without
//! root the child is in a user namespace too. The appliance, on FreeBSD, runs one of each and needs none of this.

use std::io;
use std::path::Path;

#[cfg(target_os = "linux")]
pub use linux::{enter, prepare};

#[cfg(target_os = "linux")]
mod linux {
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt;

    use nix::libc;

    use super::*;

    /// What the child needs, made before the fork: after it nothing may be allocated.
    pub struct Private {
        directory: CString,
        /// `None` for root, who needs no namespace of users.
        maps: Option<[(CString, Vec<u8>); 3]>,
    }

    /// Makes the directory. What `/etc/resolv.conf` points to below `/run` is copied into it, for name lookups.
    pub fn prepare(directory: Option<&Path>) -> io::Result<Option<Private>> {
        let Some(directory) = directory else { return Ok(None) };
        std::fs::create_dir_all(directory)?;
        let real = std::fs::canonicalize("/etc/resolv.conf").unwrap_or_default();
        if let Ok(below) = real.strip_prefix("/run") {
            let copy = directory.join(below);
            copy.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            std::fs::copy(&real, copy)?;
        }
        let text = |text: &[u8]| CString::new(text).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
        let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
        let maps = if user.is_root() {
            None
        } else {
            // The same ids inside as outside (user_namespaces(7)).
            Some([
                (text(b"/proc/self/setgroups")?, b"deny".to_vec()),
                (text(b"/proc/self/uid_map")?, format!("{user} {user} 1").into_bytes()),
                (text(b"/proc/self/gid_map")?, format!("{group} {group} 1").into_bytes()),
            ])
        };
        Ok(Some(Private { directory: text(directory.as_os_str().as_bytes())?, maps }))
    }

    /// In the child, between fork and exec.
    pub fn enter(private: &Option<Private>) -> io::Result<()> {
        let Some(private) = private else { return Ok(()) };
        let users = if private.maps.is_some() { libc::CLONE_NEWUSER } else { 0 };
        // SAFETY: plain system calls on terminated strings and buffers that live across them; nothing is allocated.
        unsafe {
            done(libc::unshare(libc::CLONE_NEWNS | users))?;
            for (file, line) in private.maps.iter().flatten() {
                let handle = libc::open(file.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
                done(handle)?;
                let written = libc::write(handle, line.as_ptr().cast(), line.len());
                libc::close(handle);
                done(written as libc::c_int)?;
            }
            let none = std::ptr::null();
            // What is mounted here stays here (mount_namespaces(7), "shared subtrees").
            done(libc::mount(none, c"/".as_ptr(), none, libc::MS_REC | libc::MS_PRIVATE, none.cast()))?;
            let (from, to) = (private.directory.as_ptr(), c"/run".as_ptr());
            done(libc::mount(from, to, none, libc::MS_BIND, none.cast()))
        }
    }

    fn done(outcome: libc::c_int) -> io::Result<()> {
        if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

#[cfg(not(target_os = "linux"))]
pub fn prepare(_: Option<&Path>) -> io::Result<()> {
    Ok(())
}
#[cfg(not(target_os = "linux"))]
pub fn enter(_: &()) -> io::Result<()> {
    Ok(())
}
