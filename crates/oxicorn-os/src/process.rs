//! Other processes: how they ended, signals to them, and when the parent dies.
//!
//! Forking is done by whoever can tell the interpreter of it; here is the bare call.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, WaitStatus};

/// Between two looks at who the parent is: what a process needs to end.
const NEW_PARENT_LOOK: std::time::Duration = std::time::Duration::from_micros(50);

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl Exit {
    fn from_status(status: WaitStatus) -> Option<Self> {
        status
            .exit_status()
            .map(Self::Code)
            .or(status.terminating_signal().map(Self::Signal))
    }
}

/// Reaps this child, if it has ended. Others are left to whoever started them.
///
/// # Errors
/// `ECHILD`: there is no such child; somebody else in this process has reaped it.
pub fn wait_for(pid: i32) -> io::Result<Option<Exit>> {
    let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
    loop {
        match rustix::process::waitpid(Some(pid), WaitOptions::NOHANG) {
            Ok(None) => return Ok(None),
            Ok(Some((_, status))) => {
                // Stopped and continued children are not asked for.
                if let Some(exit) = Exit::from_status(status) {
                    return Ok(Some(exit));
                }
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// A child of this thread that has ended and was not reaped, which this does not do either: one that it started, or
/// that was given to this process because its own parent died. What other threads of this process started is left to them.
pub fn ended_child() -> Option<i32> {
    // SAFETY: a siginfo_t is plain numbers, for which zero is a value.
    let mut found: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WNOTHREAD;
    // SAFETY: the kernel fills a live siginfo_t of ours, or leaves it as it is.
    let result = unsafe { libc::waitid(libc::P_ALL, 0, &raw mut found, options) };
    // SAFETY: filled for a child, or zero as made above.
    let pid = unsafe { found.si_pid() };
    (result == 0 && pid != 0).then_some(pid)
}

/// Sends a signal to one process. `false`: there is no such process (any more). A number that is
/// not that of one process (0, -1 and process groups are not) is refused.
pub fn kill(pid: i32, signal: i32) -> io::Result<bool> {
    if pid <= 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: kill takes two numbers and has no preconditions on memory.
    if unsafe { libc::kill(pid, signal) } == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::ESRCH) {
        Ok(false)
    } else {
        Err(error)
    }
}

/// Whether a process of this number exists (a zombie does).
pub fn exists(pid: i32) -> bool {
    // No permission to signal it: it exists.
    kill(pid, 0).unwrap_or(pid > 0)
}

/// This thread, as Python's `threading.get_ident()` names it.
pub fn thread_identity() -> u64 {
    // SAFETY: it takes nothing and cannot fail.
    unsafe { libc::pthread_self() }
}

/// This process.
pub fn id() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

/// The parent, or 0 if it is outside of what this process can see.
pub fn parent_id() -> i32 {
    rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get())
}

/// What a child must know to notice that its parent died before it could ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parent {
    /// It lives.
    Alive,
    /// It was gone already: no signal will come.
    Gone,
}

/// This process gets SIGTERM when its parent dies. `expected_parent` is the parent's number, taken
/// before the fork. Counted is the thread that forked, so that thread must live as long as its
/// process.
pub fn terminate_with_parent(expected_parent: i32) -> io::Result<Parent> {
    set_parent_death_signal(Some(Signal::TERM), expected_parent)
}

/// This process is killed when its parent dies.
pub fn die_with_parent(expected_parent: i32) -> io::Result<Parent> {
    set_parent_death_signal(Some(Signal::KILL), expected_parent)
}

fn set_parent_death_signal(signal: Option<Signal>, expected_parent: i32) -> io::Result<Parent> {
    rustix::process::set_parent_process_death_signal(signal)?;
    // Only now: a parent that dies after this line is noticed by the kernel, before it by us.
    Ok(if parent_id() == expected_parent {
        Parent::Alive
    } else {
        Parent::Gone
    })
}

/// Whether descendants whose parent ends become children of this process, instead of the system's first one.
pub fn adopt_orphans(adopt: bool) -> io::Result<()> {
    // SAFETY: this prctl takes numbers only.
    let result = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, libc::c_ulong::from(adopt)) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Forks; 0 in the child. The C library brings its own state in order on both sides.
///
/// # Safety
///
/// Locks that other threads hold stay locked in the child for ever: whoever has threads must bring what the child uses
/// in order, as an interpreter does around its forks.
pub unsafe fn fork() -> io::Result<i32> {
    // SAFETY: the caller's; the call itself has no preconditions.
    let pid = unsafe { libc::fork() };
    if pid < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(pid)
    }
}

/// Waits for the end of one child and reaps it. `None`: somebody else has.
pub fn wait_until_ended(child: i32) -> io::Result<Option<Exit>> {
    let pid = Pid::from_raw(child).ok_or(io::ErrorKind::InvalidInput)?;
    loop {
        match rustix::process::waitpid(Some(pid), WaitOptions::empty()) {
            Ok(Some((_, status))) => {
                if let Some(exit) = Exit::from_status(status) {
                    return Ok(Some(exit));
                }
            }
            Ok(None) | Err(Errno::INTR) => {}
            Err(Errno::CHILD) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits until this process has another parent than `parent`, which is about to end.
pub fn wait_for_new_parent(parent: i32) {
    // An end of file or a pidfd would tell that it ends, but not that this has been noted here.
    while parent_id() == parent {
        std::thread::sleep(NEW_PARENT_LOOK);
    }
}

/// Ends this process at once: no destructors, no `atexit`, nothing flushed. For a forked child that
/// shares all that with its parent.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no preconditions and does not return.
    unsafe { libc::_exit(code) }
}

/// How many threads this process has; `None` where `/proc` is not mounted.
pub fn threads() -> Option<usize> {
    Some(std::fs::read_dir("/proc/self/task").ok()?.count())
}

/// A descriptor that is readable once the process has ended, and never names another process.
pub fn pidfd(pid: i32) -> io::Result<OwnedFd> {
    let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)
}

/// Resident memory of this process in bytes, for limits on it; `None` where `/proc` is not mounted.
pub fn resident_bytes() -> Option<u64> {
    resident_bytes_at("/proc/self/statm")
}

/// The same of another process; `None` also where it is gone.
pub fn resident_bytes_of(pid: i32) -> Option<u64> {
    resident_bytes_at(&format!("/proc/{pid}/statm"))
}

fn resident_bytes_at(path: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages.saturating_mul(rustix::param::page_size() as u64))
}

/// Memory of a process that is in RAM, where each has its part of what processes share. The kernel looks at every page for
/// it: this takes a while. `None`: it is gone, or may not be looked at.
pub fn proportional_bytes_of(pid: i32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes.saturating_mul(1024))
}

/// What the kernel says of a process's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// It has ended, and nobody has waited for it yet.
    pub has_ended: bool,
    /// When it was started, in ticks since the machine was: tells processes of the same number apart.
    pub started: u64,
}

/// See [`Life`]; `None`: there is no such process, or it is not shown to this one.
pub fn life(pid: i32) -> Option<Life> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may have any characters in it (proc(5)).
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    // The state is the third field, the time of the start the twenty-second.
    let started = fields.nth(18)?.parse().ok()?;
    Some(Life {
        has_ended: matches!(state, "Z" | "X"),
        started,
    })
}

/// Processor time of this process (all threads, user and system).
pub fn cpu_time() -> std::time::Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    std::time::Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;
    use std::process::Command;

    use super::*;

    #[test]
    #[expect(clippy::zombie_processes, reason = "reaping them is what is tested")]
    fn a_child_is_reaped_with_how_it_ended_and_no_other() {
        let other = Command::new("true").spawn().unwrap();
        let code = Command::new("sh").args(["-c", "exit 3"]).spawn().unwrap();
        wait_until_ended(&other);
        wait_until_ended(&code);
        assert_eq!(wait_for(pid_of(&code)).unwrap(), Some(Exit::Code(3)));
        assert!(exists(pid_of(&other)), "it waits for whoever started it");
        assert_eq!(wait_for(pid_of(&other)).unwrap(), Some(Exit::Code(0)));

        let killed = Command::new("sleep").arg("1000").spawn().unwrap();
        assert_eq!(wait_for(pid_of(&killed)).unwrap(), None);
        assert!(kill(pid_of(&killed), libc::SIGKILL).unwrap());
        wait_until_ended(&killed);
        let exit = Some(Exit::Signal(libc::SIGKILL));
        assert_eq!(wait_for(pid_of(&killed)).unwrap(), exit);
        assert!(!kill(pid_of(&killed), libc::SIGKILL).unwrap());
        assert!(!exists(pid_of(&killed)));
        let error = wait_for(pid_of(&killed)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ECHILD));
    }

    #[test]
    fn children_of_other_threads_are_not_taken_for_adopted_ones() {
        let (started, pid) = std::sync::mpsc::channel();
        let (go_on, told) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            let mut child = Command::new("true").spawn().unwrap();
            wait_until_ended(&child);
            started.send(()).unwrap();
            told.recv().unwrap();
            child.wait().unwrap().success()
        });
        pid.recv().unwrap();
        let ended = ended_child();
        go_on.send(()).unwrap();
        assert!(thread.join().unwrap(), "its exit code is there");
        assert_eq!(ended, None);
    }

    fn pid_of(child: &std::process::Child) -> i32 {
        child.id().cast_signed()
    }

    fn wait_until_ended(child: &std::process::Child) {
        let ended = pidfd(pid_of(child)).unwrap();
        crate::poll::wait_readable(&[ended.as_fd()], None).unwrap();
    }

    #[test]
    fn groups_and_everybody_are_not_a_process() {
        for pid in [0, -1, -42] {
            assert_eq!(
                kill(pid, 0).unwrap_err().kind(),
                io::ErrorKind::InvalidInput
            );
            assert!(!exists(pid));
        }
    }

    #[test]
    #[expect(clippy::zombie_processes, reason = "what is left of one is looked at")]
    fn lives_are_told_apart() {
        let own = life(id()).unwrap();
        assert!(!own.has_ended && own.started > 0);
        assert_eq!(life(id()), Some(own));
        let child = Command::new("true").spawn().unwrap();
        wait_until_ended(&child);
        assert!(life(pid_of(&child)).unwrap().has_ended);
        wait_for(pid_of(&child)).unwrap();
        assert_eq!(life(pid_of(&child)), None);
    }

    #[test]
    fn own_figures_are_plausible() {
        assert_eq!(id(), std::process::id().cast_signed());
        assert!(resident_bytes().is_some_and(|bytes| bytes > 4096));
        let threads = std::thread::scope(|scope| {
            let (release, held) = std::sync::mpsc::channel::<()>();
            scope.spawn(move || held.recv());
            let threads = threads();
            drop(release);
            threads
        });
        assert!(threads.is_some_and(|count| count >= 2));
        assert!(cpu_time() > std::time::Duration::ZERO);
    }
}
