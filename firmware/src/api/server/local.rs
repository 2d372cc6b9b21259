//! The local socket: how root on the machine itself speaks to the API without a credential. The kernel says who
//! is at the other end.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, geteuid};

/// A bound socket file, removed when this is dropped.
#[derive(Debug)]
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody else may have removed it.
        let _ = fs::remove_file(&self.0);
    }
}

/// Listens on `path` with mode 0600. A socket that is left over from a process that has gone is replaced; one
/// that answers is not.
pub(super) fn bind(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    if let Ok(metadata) = fs::symlink_metadata(path) {
        if !metadata.file_type().is_socket() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is not a socket is there"));
        }
        if UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there"));
        }
        fs::remove_file(path)?;
    }
    // Bound under another name first, so that nobody can connect before the mode is set.
    let mut hidden = path.as_os_str().to_owned();
    hidden.push(format!(".{}", std::process::id()));
    let hidden = PathBuf::from(hidden);
    let _ = fs::remove_file(&hidden);
    let listener = UnixListener::bind(&hidden)?;
    let mode = fs::set_permissions(&hidden, fs::Permissions::from_mode(0o600));
    if let Err(error) = mode.and_then(|()| fs::rename(&hidden, path)) {
        let _ = fs::remove_file(&hidden);
        return Err(error);
    }
    Ok((listener, SocketFile(path.to_owned())))
}

/// The user at the other end, if it is root or the user we run as.
pub(super) fn trusted_peer(stream: impl AsFd) -> Option<u32> {
    let uid = peer_uid(&stream)?;
    (uid.is_root() || uid == geteuid()).then(|| uid.as_raw())
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn peer_uid(stream: &impl AsFd) -> Option<Uid> {
    use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
    getsockopt(stream, PeerCredentials).ok().map(|credentials| Uid::from_raw(credentials.uid()))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn peer_uid(stream: &impl AsFd) -> Option<Uid> {
    nix::unistd::getpeereid(stream.as_fd()).ok().map(|(uid, _)| uid)
}
