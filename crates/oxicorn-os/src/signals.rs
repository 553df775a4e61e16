//! Signals, turned into bytes of a pipe that a loop can wait for.
//!
//! The handler does the least a handler can do: it writes the signal's number into the pipe. A
//! forked child shares pipe and handlers until it resets them, and a signal sent to the child in
//! that moment must not look like one sent to the parent: so the handler does nothing in a process
//! that is not the one that installed it. To lose nothing either, block signals around the fork
//! ([`block_all`]) and reset before unblocking.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::io::Errno;
use rustix::pipe::PipeFlags;

/// Where the handler writes; -1: nowhere.
static PIPE: AtomicI32 = AtomicI32::new(-1);
/// The process whose handler it is.
static OWNER: AtomicI32 = AtomicI32::new(0);

/// Highest signal number there is on Linux.
const LAST_SIGNAL: i32 = 64;

/// Reading end of the pipe into which signals are written. One at a time per process.
#[derive(Debug)]
pub struct SignalPipe {
    read: OwnedFd,
    write: OwnedFd,
}

impl SignalPipe {
    /// Makes the pipe this process's one. An earlier one gets nothing any more.
    pub fn new() -> io::Result<Self> {
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        OWNER.store(process_id(), Ordering::Relaxed);
        PIPE.store(write.as_raw_fd(), Ordering::Release);
        Ok(Self { read, write })
    }

    /// From now on `signal` is written into the pipe. System calls it interrupts are not restarted.
    pub fn catch(&self, signal: i32) -> io::Result<()> {
        let handler = write_to_pipe as extern "C" fn(libc::c_int);
        set_action(signal, handler as libc::sighandler_t)
    }

    /// The next signal that came, if any.
    pub fn next_signal(&self) -> io::Result<Option<i32>> {
        let mut number = [0];
        loop {
            match rustix::io::read(&self.read, &mut number) {
                Ok(0) | Err(Errno::AGAIN) => return Ok(None),
                Ok(_) => return Ok(Some(number[0].into())),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for SignalPipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }
}

impl Drop for SignalPipe {
    fn drop(&mut self) {
        // Only if it is still ours: a later pipe has its own number.
        let ours = self.write.as_raw_fd();
        let _ = PIPE.compare_exchange(ours, -1, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// The handler. Async-signal-safe: loads, `getpid`, `write`; errno is kept as it was.
extern "C" fn write_to_pipe(signal: libc::c_int) {
    let pipe = PIPE.load(Ordering::Acquire);
    if pipe < 0 || OWNER.load(Ordering::Relaxed) != process_id() {
        return;
    }
    let number = u8::try_from(signal).unwrap_or(0);
    // SAFETY: errno is a variable of this thread; write takes a live byte, and a stale descriptor
    // number at worst fails (the pipe is forgotten before its end is closed). A full pipe means
    // that a thousand signals wait to be read already: one more would tell nothing new.
    unsafe {
        let errno = *libc::__errno_location();
        libc::write(pipe, (&raw const number).cast(), 1);
        *libc::__errno_location() = errno;
    }
}

fn process_id() -> i32 {
    // SAFETY: getpid has no preconditions and cannot fail.
    unsafe { libc::getpid() }
}

/// `signal` has its default effect again.
pub fn reset(signal: i32) -> io::Result<()> {
    set_action(signal, libc::SIG_DFL)
}

/// By these the kernel tells of faults. Who catches them wants to say where they were (Python's `faulthandler`), in a
/// child as well. `SIGABRT` is none of them: the arbiter sends it.
const FAULTS: [i32; 4] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL];

/// Every signal has its default effect again (first thing in a child), but for faults and for those that are
/// ignored: SIGPIPE, which Rust and Python ignore, and what the parent's caller ignored (nohup).
pub fn reset_all_caught() {
    for signal in 1..=LAST_SIGNAL {
        if is_caught(signal) && !FAULTS.contains(&signal) {
            // Signals that cannot be changed cannot be caught either.
            let _ = reset(signal);
        }
    }
}

/// What goes into the pipe has its default effect again, the handlers of others stay: in a child that
/// is to know nothing of the pipe.
pub fn reset_own() {
    let own = write_to_pipe as extern "C" fn(libc::c_int) as libc::sighandler_t;
    for signal in 1..=LAST_SIGNAL {
        if handler_of(signal) == own {
            // A signal that was caught can be changed.
            let _ = reset(signal);
        }
    }
}

/// `signal` has no effect.
pub fn ignore(signal: i32) -> io::Result<()> {
    set_action(signal, libc::SIG_IGN)
}

/// `signal` has no effect on this process, nor on what it waits for; on a program that this one starts it has its
/// default effect, which it had not if it were ignored.
pub fn disregard(signal: i32) -> io::Result<()> {
    extern "C" fn do_nothing(_: libc::c_int) {}
    let handler = do_nothing as extern "C" fn(libc::c_int);
    set_action_with(signal, handler as libc::sighandler_t, libc::SA_RESTART)
}

fn set_action(signal: i32, handler: libc::sighandler_t) -> io::Result<()> {
    set_action_with(signal, handler, 0)
}

fn set_action_with(signal: i32, handler: libc::sighandler_t, flags: i32) -> io::Result<()> {
    // SAFETY: a sigaction is plain numbers, a mask and a pointer, for which zero is a value.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = flags;
    // SAFETY: `action` is a live sigaction of ours; the handler, if it is one, is an extern "C"
    // function of one int that does only what handlers may do.
    let result = unsafe {
        libc::sigfillset(&raw mut action.sa_mask);
        libc::sigaction(signal, &raw const action, std::ptr::null_mut())
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn is_caught(signal: i32) -> bool {
    ![libc::SIG_DFL, libc::SIG_IGN].contains(&handler_of(signal))
}

fn handler_of(signal: i32) -> libc::sighandler_t {
    // SAFETY: as in `set_action`; the kernel fills `action` or fails and leaves it as it was.
    let action = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut action);
        action
    };
    action.sa_sigaction
}

/// Signals of this thread are blocked as long as this exists.
#[derive(Debug)]
#[must_use = "dropping it unblocks the signals"]
pub struct Blocked {
    before: libc::sigset_t,
}

/// Blocks all signals of this thread, for the time around a fork.
pub fn block_all() -> io::Result<Blocked> {
    // SAFETY: a signal set is plain bits, for which zero is a value.
    let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
    let mut before = all;
    // SAFETY: both sets are live values of ours.
    let result = unsafe {
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before)
    };
    if result == 0 {
        Ok(Blocked { before })
    } else {
        Err(io::Error::from_raw_os_error(result))
    }
}

/// Starts a thread in which no signal is handled: those of the process go to its other threads.
pub fn spawn_without_signals(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    // The new thread inherits the mask of this one.
    let blocked = block_all()?;
    let spawned = std::thread::Builder::new().name(name.into()).spawn(body);
    drop(blocked);
    spawned.map(drop)
}

/// What stands behind a dump that is whole.
pub const DUMP_END: &str = "-- end of stacks --\n";

/// Where [`mark_dump_end`] writes.
static DUMP: AtomicI32 = AtomicI32::new(-1);

/// Has `signal` write [`DUMP_END`] into `descriptor`: for a handler that is set after this, writes a dump and calls the
/// one before.
pub fn mark_end_of_dumps(signal: i32, descriptor: i32) -> io::Result<()> {
    DUMP.store(descriptor, Ordering::Relaxed);
    let handler: extern "C" fn(i32) = mark_dump_end;
    // SAFETY: all of it is plain data, for which zeros are values.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as usize;
    action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
    // SAFETY: the handler only does what a signal handler may do: one write; `action` lives during the call.
    let set = unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
    if set == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

extern "C" fn mark_dump_end(_signal: i32) {
    let descriptor = DUMP.load(Ordering::Relaxed);
    // SAFETY: the buffer is static; a descriptor that is not open is an error, which nobody can be told of here. `errno`
    // is put back, since the code that was interrupted may be about to read it.
    unsafe {
        let errno = *libc::__errno_location();
        libc::write(descriptor, DUMP_END.as_ptr().cast(), DUMP_END.len());
        *libc::__errno_location() = errno;
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // SAFETY: `before` is the set the kernel gave us.
        unsafe {
            libc::pthread_sigmask(
                libc::SIG_SETMASK,
                &raw const self.before,
                std::ptr::null_mut(),
            )
        };
    }
}

/// Name as in `kill -l`, with SIG: for log lines.
pub fn name(signal: i32) -> Option<&'static str> {
    const NAMES: [(i32, &str); 24] = [
        (libc::SIGHUP, "SIGHUP"),
        (libc::SIGINT, "SIGINT"),
        (libc::SIGQUIT, "SIGQUIT"),
        (libc::SIGILL, "SIGILL"),
        (libc::SIGTRAP, "SIGTRAP"),
        (libc::SIGABRT, "SIGABRT"),
        (libc::SIGBUS, "SIGBUS"),
        (libc::SIGFPE, "SIGFPE"),
        (libc::SIGKILL, "SIGKILL"),
        (libc::SIGUSR1, "SIGUSR1"),
        (libc::SIGSEGV, "SIGSEGV"),
        (libc::SIGUSR2, "SIGUSR2"),
        (libc::SIGPIPE, "SIGPIPE"),
        (libc::SIGALRM, "SIGALRM"),
        (libc::SIGTERM, "SIGTERM"),
        (libc::SIGCHLD, "SIGCHLD"),
        (libc::SIGCONT, "SIGCONT"),
        (libc::SIGSTOP, "SIGSTOP"),
        (libc::SIGTTIN, "SIGTTIN"),
        (libc::SIGTTOU, "SIGTTOU"),
        (libc::SIGXCPU, "SIGXCPU"),
        (libc::SIGXFSZ, "SIGXFSZ"),
        (libc::SIGWINCH, "SIGWINCH"),
        (libc::SIGSYS, "SIGSYS"),
    ];
    NAMES
        .iter()
        .find(|(number, _)| *number == signal)
        .map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raise(signal: i32) {
        // SAFETY: raise has no preconditions.
        assert_eq!(unsafe { libc::raise(signal) }, 0);
    }

    // One test, since handlers belong to the whole process and tests may run in threads of one.
    #[test]
    fn signals_are_caught_blocked_ignored_and_reset() {
        let pipe = SignalPipe::new().unwrap();
        pipe.catch(libc::SIGUSR1).unwrap();
        assert_eq!(pipe.next_signal().unwrap(), None);
        raise(libc::SIGUSR1);
        assert_eq!(pipe.next_signal().unwrap(), Some(libc::SIGUSR1));

        let blocked = block_all().unwrap();
        raise(libc::SIGUSR1);
        assert_eq!(pipe.next_signal().unwrap(), None);
        drop(blocked);
        assert_eq!(pipe.next_signal().unwrap(), Some(libc::SIGUSR1));

        assert!(is_caught(libc::SIGUSR1));
        ignore(libc::SIGUSR2).unwrap();
        disregard(libc::SIGWINCH).unwrap();
        raise(libc::SIGWINCH);
        assert!(is_caught(libc::SIGWINCH));
        reset_all_caught();
        assert!(!is_caught(libc::SIGUSR1));
        raise(libc::SIGUSR2);
        assert_eq!(pipe.next_signal().unwrap(), None);
    }

    #[test]
    fn signals_that_cannot_be_caught_are_refused() {
        assert!(ignore(libc::SIGKILL).is_err());
    }

    #[test]
    fn names_are_those_of_kill() {
        assert_eq!(name(libc::SIGTTOU), Some("SIGTTOU"));
        assert_eq!(name(0), None);
    }
}
