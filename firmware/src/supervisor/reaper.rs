//! Descendants that lost their parent: this process inherits them, and waits for those that nobody else will.
//! Without that, what a daemon leaves behind would pass to init, and stay as a zombie here.

use std::collections::HashSet;
use std::io;
use std::time::Duration;

use nix::libc;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

/// A zombie that is still there after so long is nobody's: whoever starts a process here waits for it at once.
const INTERVAL: Duration = Duration::from_secs(10);

/// Makes this process inherit orphaned descendants, and waits for them as long as it lives.
pub fn become_reaper() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_child_subreaper(true)?;
    #[cfg(target_os = "freebsd")]
    {
        // SAFETY: PROC_REAP_ACQUIRE takes no data.
        let set = unsafe { libc::procctl(libc::P_PID, 0, libc::PROC_REAP_ACQUIRE, std::ptr::null_mut()) };
        if set != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    smol::spawn(async {
        let mut seen = HashSet::new();
        loop {
            async_io::Timer::after(INTERVAL).await;
            seen = blocking::unblock(move || reap(&seen)).await;
        }
    })
    .detach();
    Ok(())
}

/// Waits for the zombies that were there the last time, too; returns those that are there now for the first.
fn reap(before: &HashSet<libc::pid_t>) -> HashSet<libc::pid_t> {
    let zombies = zombie_children();
    let (old, new): (HashSet<_>, HashSet<_>) = zombies.into_iter().partition(|pid| before.contains(pid));
    for pid in old {
        if waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG)).is_ok() {
            log::info!("an orphan has ended: process {pid}");
        }
    }
    new
}

/// This process's children that have ended and that nobody has waited for yet.
#[cfg(target_os = "linux")]
fn zombie_children() -> Vec<libc::pid_t> {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let children: Vec<libc::pid_t> = lists
        .flat_map(|list| list.split(' ').filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect();
    let is_zombie = |pid: &libc::pid_t| {
        // proc_pid_stat(5): the state follows the name, which is in brackets and may hold anything.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
    };
    children.into_iter().filter(is_zombie).collect()
}

/// procctl(2), PROC_REAP_GETPIDS.
#[cfg(target_os = "freebsd")]
fn zombie_children() -> Vec<libc::pid_t> {
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Info {
        pid: libc::pid_t,
        subtree: libc::pid_t,
        flags: libc::c_uint,
        pad: [libc::c_uint; 15],
    }
    #[repr(C)]
    struct Pids {
        count: libc::c_uint,
        pad: [libc::c_uint; 15],
        infos: *mut Info,
    }
    const PROC_REAP_GETPIDS: libc::c_int = 5;
    const VALID_CHILD_ZOMBIE: libc::c_uint = 0x1 | 0x2 | 0x8;
    let mut infos = [Info { pid: 0, subtree: 0, flags: 0, pad: [0; 15] }; 256];
    let mut pids = Pids { count: infos.len() as libc::c_uint, pad: [0; 15], infos: infos.as_mut_ptr() };
    // SAFETY: the structure and the array it points to live across the call, and `count` is the array's length.
    let told =
        unsafe { libc::procctl(libc::P_PID, 0, PROC_REAP_GETPIDS, (&raw mut pids).cast::<libc::c_void>()) };
    if told != 0 {
        return Vec::new();
    }
    let ended = |info: &&Info| info.flags & VALID_CHILD_ZOMBIE == VALID_CHILD_ZOMBIE;
    infos.iter().filter(ended).map(|info| info.pid).collect()
}

#[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
fn zombie_children() -> Vec<libc::pid_t> {
    Vec::new()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A child nobody waits for is found, and gone after the second look; one that runs is left alone.
    #[test]
    fn a_zombie_is_waited_for_at_the_second_look() {
        let dead = std::process::Command::new("true").spawn().unwrap();
        let mut alive = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let pid = dead.id() as libc::pid_t;
        while !zombie_children().contains(&pid) {
            std::thread::yield_now();
        }
        let first = reap(&HashSet::new());
        assert!(first.contains(&pid) && !first.contains(&(alive.id() as libc::pid_t)));
        reap(&HashSet::from([pid]));
        assert!(!zombie_children().contains(&pid));
        alive.kill().unwrap();
        alive.wait().unwrap();
        drop(dead);
    }
}
