//! Starting one process the way a supervisor must: own process group, bounded resources, the right user, and
//! a death signal, so that no child outlives the appliance. The only unsafe code of the room is here.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc;

use async_process::Child;
use nix::libc;
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::unistd::{Pid, User};

use super::guardian;
use super::private_run;
use super::spec::{Limits, ServiceSpec};

/// Starts the program of a spec with its output in pipes.
pub fn start(spec: &ServiceSpec) -> io::Result<Child> {
    let mut command = Command::new(&spec.program);
    command.args(&spec.args).env_clear();
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command.envs(spec.env.iter().map(|(name, value)| (name, value)));
    if let Some(directory) = &spec.directory {
        command.current_dir(directory);
    }
    let user = match &spec.user {
        Some(name) => Some(User::from_name(name)?.ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("no user {name:?} on this machine"))
        })?),
        None => None,
    };
    let groups = user.as_ref().and_then(|user| std::ffi::CString::new(user.name.as_str()).ok());
    let (limits, parent) = (spec.limits, std::process::id());
    let private = private_run::prepare(spec.private_run.as_deref())?;
    // SAFETY: between fork and exec only async-signal-safe system calls are made; nothing is allocated.
    unsafe {
        command.pre_exec(move || {
            nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
            SigSet::empty().thread_set_mask()?;
            apply_limits(limits)?;
            private_run::enter(&private)?;
            if let (Some(user), Some(groups)) = (&user, &groups) {
                set_user(user, groups)?;
            }
            // After the change of user, which clears it.
            die_with_parent(parent)
        });
    }
    let child = spawn_on_lasting_thread(command)?;
    guardian::started(child.id());
    Ok(child)
}

/// Sets both limits of a resource; one that may not be raised becomes as high as it may be. libc's own calls, since
/// its types and nix's differ from system to system.
macro_rules! limit {
    ($resource:expr, $value:expr) => {{
        #[allow(clippy::unnecessary_cast)] // u64 here, i64 there
        let mut value = $value as libc::rlim_t;
        let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: getrlimit(2) fills the structure behind the pointer, which lives across the call; the other
        // calls are of the same kind or take nothing.
        unsafe {
            if libc::getrlimit($resource, &raw mut now) == 0 && value > now.rlim_max {
                let raised = libc::rlimit { rlim_cur: value, rlim_max: value };
                if libc::setrlimit($resource, &raw const raised) != 0 {
                    value = now.rlim_max;
                }
            }
        }
        let both = libc::rlimit { rlim_cur: value, rlim_max: value };
        // SAFETY: setrlimit(2) reads the structure behind the pointer, which lives across the call.
        if unsafe { libc::setrlimit($resource, &raw const both) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }};
}

fn apply_limits(limits: Limits) -> io::Result<()> {
    if let Some(files) = limits.open_files {
        limit!(libc::RLIMIT_NOFILE, files);
    }
    if let Some(bytes) = limits.address_space {
        limit!(libc::RLIMIT_AS, bytes);
    }
    if !limits.core_files {
        limit!(libc::RLIMIT_CORE, 0_u64);
    }
    Ok(())
}

fn set_user(user: &User, name: &std::ffi::CStr) -> io::Result<()> {
    // initgroups(3) reads a file, but in a child that has one thread and calls exec next.
    let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
    // SAFETY: `name` is a terminated string that lives across the call; the ids are plain numbers.
    let done = unsafe {
        libc::initgroups(name.as_ptr(), gid as _) == 0 && libc::setgid(gid) == 0 && libc::setuid(uid) == 0
    };
    if done { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The child gets KILL when its parent dies, however the parent dies.
fn die_with_parent(parent: u32) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    #[cfg(target_os = "freebsd")]
    {
        let mut signal: libc::c_int = libc::SIGKILL;
        // SAFETY: procctl(2) with PROC_PDEATHSIG_CTL reads one int behind the pointer.
        let set = unsafe {
            libc::procctl(libc::P_PID, 0, libc::PROC_PDEATHSIG_CTL, (&raw mut signal).cast::<libc::c_void>())
        };
        if set != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    // It may have died in between.
    if nix::unistd::getppid().as_raw() as u32 == parent {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(libc::ESRCH))
    }
}

type Order = (Command, mpsc::SyncSender<io::Result<Child>>);

/// On Linux the death signal comes when the *thread* that forked ends, so all children are forked by one thread
/// that never does.
fn spawn_on_lasting_thread(command: Command) -> io::Result<Child> {
    static ORDERS: OnceLock<Option<mpsc::Sender<Order>>> = OnceLock::new();
    let gone = || io::Error::other("the thread that starts children is gone");
    let orders = ORDERS.get_or_init(|| {
        let (sender, receiver) = mpsc::channel::<Order>();
        let thread = std::thread::Builder::new().name("children".into()).spawn(move || {
            for (command, answer) in receiver {
                // Set here: what was set before the conversion would not count.
                let mut command = async_process::Command::from(command);
                command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
                answer.send(command.spawn()).ok();
            }
        });
        thread.map(|_| sender).ok()
    });
    let (answer, answered) = mpsc::sync_channel(1);
    orders.as_ref().ok_or_else(gone)?.send((command, answer)).map_err(|_| gone())?;
    answered.recv().map_err(|_| gone())?
}

/// Signals a child and everything in its process group. A group that is gone is no error.
pub fn signal_group(pid: u32, signal: Signal) {
    if let Ok(pid) = i32::try_from(pid) {
        killpg(Pid::from_raw(pid), signal).ok();
    }
}
