//! How the kernel's scheduler treats a thread.

use std::io;

/// From now on this thread, when it is woken, does not interrupt whoever runs on the processor
/// (`SCHED_BATCH`); it runs as soon as a processor is free or a time slice is over. For a thread that
/// is woken very often by one that goes on working: it then finds several things to do at once.
/// Threads and processes made by this thread inherit it, as they inherit its niceness.
pub fn yield_to_waker() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: 0 names the calling thread; the parameters are a live value of the type asked for.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    fn policy() -> i32 {
        // SAFETY: 0 names the calling thread.
        unsafe { libc::sched_getscheduler(0) }
    }

    #[test]
    fn this_thread_and_no_other_is_rescheduled() {
        let before = policy();
        let changed = std::thread::spawn(|| {
            super::yield_to_waker().unwrap();
            policy()
        });
        assert_eq!(changed.join().unwrap(), libc::SCHED_BATCH);
        assert_eq!(policy(), before);
    }
}
