//! Processes that others fork off one of ours: an application in a request, a library, a hook.
//!
//! Such a child has copies of everything its parent speaks to the rest of the server with, and must
//! use none of it. That it is one is told by a page which the kernel wipes in every child, by whatever
//! call it was forked (`MADV_WIPEONFORK`): a look costs a load. A child made with shared memory (vfork,
//! `posix_spawn`) sees the page of its parent, which is right: it runs nothing of ours.
//!
//! What is open only for the server's own processes is noted ([`keep_from_children`]), so that a child
//! can let go of it: the end of file of many of these sockets means that a process has ended.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, Ordering};
use std::sync::{Mutex, Once};

use rustix::fs::{Mode, OFlags};
use rustix::mm::{Advice, MapFlags, ProtFlags};

use crate::process;

/// Bytes of the page that is wiped; the kernel rounds up.
const PAGE: usize = 4096;
/// What stands in it in a process of ours.
const OWNED: u32 = 1;

/// The page; null where there is none: not asked for yet, or a kernel that cannot wipe.
static MARK: AtomicPtr<AtomicU32> = AtomicPtr::new(std::ptr::null_mut());
/// The process that is ours, for kernels that cannot wipe; 0: none said so.
static OWNER: AtomicI32 = AtomicI32::new(0);
/// What [`keep_from_children`] was told.
static KEPT: Mutex<Vec<Kept>> = Mutex::new(Vec::new());

/// This process is one of the server's: called at its start and in every child it forks for itself.
pub fn own_process() {
    OWNER.store(process::id(), Ordering::Relaxed);
    if MARK.load(Ordering::Relaxed).is_null()
        && let Ok(page) = wiped_page()
    {
        MARK.store(page, Ordering::Relaxed);
    }
    if let Some(mark) = mark() {
        mark.store(OWNED, Ordering::Relaxed);
    }
}

/// Whether this process was forked off one of the server's by somebody else.
#[inline]
pub fn is_forked() -> bool {
    match mark() {
        Some(mark) => mark.load(Ordering::Relaxed) != OWNED,
        None => is_of_another_number(),
    }
}

#[cold]
fn is_of_another_number() -> bool {
    let owner = OWNER.load(Ordering::Relaxed);
    owner != 0 && owner != process::id()
}

fn mark() -> Option<&'static AtomicU32> {
    let page = MARK.load(Ordering::Relaxed);
    // SAFETY: null, or a page that `wiped_page` mapped, which is never unmapped and holds an aligned
    // word; children have it too, with zeros in it.
    unsafe { page.as_ref() }
}

fn wiped_page() -> io::Result<*mut AtomicU32> {
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: the kernel chooses the place, so nothing of ours is mapped over.
    let page = unsafe {
        rustix::mm::mmap_anonymous(std::ptr::null_mut(), PAGE, protection, MapFlags::PRIVATE)?
    };
    // SAFETY: the page was mapped a line ago and nobody else knows it.
    if let Err(error) = unsafe { rustix::mm::madvise(page, PAGE, Advice::LinuxWipeOnFork) } {
        // SAFETY: as above.
        unsafe { rustix::mm::munmap(page, PAGE)? };
        return Err(error.into());
    }
    Ok(page.cast())
}

/// See [`count_forks`].
static FORKS: AtomicU32 = AtomicU32::new(0);

/// From now on [`forks`] tells a process from the one that it was forked off, whoever forks.
pub fn count_forks() {
    static REGISTERED: Once = Once::new();
    extern "C" fn count() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
    REGISTERED.call_once(|| {
        // SAFETY: the handler only touches an atomic, which a child of a process with threads may. It fails where
        // there is no memory; then children are taken for their parent.
        unsafe { libc::pthread_atfork(None, None, Some(count)) };
    });
}

/// How many forks lie between this process and the one that called [`count_forks`].
#[inline]
pub fn forks() -> u32 {
    FORKS.load(Ordering::Relaxed)
}

/// A descriptor that children have no business with. The file it stands for is noted with it, because
/// the number may be that of another file by the time of a fork.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kept {
    number: i32,
    device: u64,
    inode: u64,
}

impl Kept {
    fn of(descriptor: BorrowedFd<'_>) -> Option<Self> {
        let stat = rustix::fs::fstat(descriptor).ok()?;
        Some(Self {
            number: descriptor.as_raw_fd(),
            device: stat.st_dev,
            inode: stat.st_ino,
        })
    }

    fn is_open(self) -> bool {
        // SAFETY: the number is only asked about; that it is closed is an answer, too.
        let descriptor = unsafe { BorrowedFd::borrow_raw(self.number) };
        Self::of(descriptor) == Some(self)
    }

    /// Whoever believes to own the descriptor may go on to close it.
    fn replace_by(self, nothing: &OwnedFd) {
        // SAFETY: both numbers are open; the file behind the second one is ours to let go of.
        unsafe { libc::dup3(nothing.as_raw_fd(), self.number, libc::O_CLOEXEC) };
    }
}

/// Children that others fork shall not hold `descriptor` (a socket, a pipe or a memory file: what has
/// an inode of its own).
pub fn keep_from_children<F: AsFd>(descriptor: F) {
    // Whatever panicked with the lock in hand left a list that is whole.
    let mut kept = KEPT
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    kept.retain(|kept| kept.is_open());
    kept.extend(Kept::of(descriptor.as_fd()));
}

/// In such a child: what was to be kept from it is /dev/null now.
pub fn let_go() {
    // Held by a thread that the child has not: rather keep descriptors than wait for ever.
    let Ok(mut kept) = KEPT.try_lock() else {
        return;
    };
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let Ok(nothing) = rustix::fs::open("/dev/null", flags, Mode::empty()) else {
        return;
    };
    for descriptor in kept.drain(..).filter(|kept| kept.is_open()) {
        descriptor.replace_by(&nothing);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    /// Forks; the child does `body` and ends with the code it gives.
    fn code_of_child(body: impl FnOnce() -> i32) -> i32 {
        // SAFETY: the child calls only what is safe in a fork of a process with threads: system
        // calls, and an allocator that the C library makes usable again.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            process::exit_now(body());
        }
        let mut status = 0;
        // SAFETY: a child of ours and a live int.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        assert!(libc::WIFEXITED(status));
        libc::WEXITSTATUS(status)
    }

    /// One test, because what it is about belongs to the process.
    #[test]
    fn child_knows_that_it_is_one_and_holds_nothing() {
        assert!(!is_forked(), "nobody has said that this process is ours");
        own_process();
        assert!(!is_forked());
        assert_eq!(code_of_child(|| i32::from(is_forked())), 1);
        let grandchild = || code_of_child(|| i32::from(is_forked()));
        assert_eq!(code_of_child(grandchild), 1);
        let own_child = || {
            own_process();
            i32::from(is_forked())
        };
        assert_eq!(code_of_child(own_child), 0);
        assert!(!is_forked(), "the parent's page is its own");

        count_forks();
        assert_eq!(code_of_child(|| code_of_child(|| forks().cast_signed())), 2);
        assert_eq!(forks(), 0);

        let (ours, mut other_end) = UnixStream::pair().unwrap();
        let number = ours.as_raw_fd();
        keep_from_children(&ours);
        let lets_go = || {
            let_go();
            let (device, inode) = std::fs::metadata("/dev/null")
                .map(|null| {
                    use std::os::unix::fs::MetadataExt as _;
                    (null.dev(), null.ino())
                })
                .unwrap();
            let null = Kept {
                number,
                device,
                inode,
            };
            i32::from(null.is_open())
        };
        assert_eq!(code_of_child(lets_go), 1);
        drop(ours);
        assert_eq!(
            other_end.read(&mut [0]).unwrap(),
            0,
            "the parent had the only one"
        );

        // The number is another file's by now: that one is left alone.
        let reused = std::fs::File::open("/proc/self/status").unwrap();
        // SAFETY: the second number is free or that of `reused`, by which nobody else goes.
        unsafe { libc::dup2(reused.as_raw_fd(), number) };
        // SAFETY: it is open for the rest of the test.
        let kept = Kept::of(unsafe { BorrowedFd::borrow_raw(number) }).unwrap();
        assert_eq!(
            code_of_child(|| {
                let_go();
                i32::from(kept.is_open())
            }),
            1
        );
    }
}
