//! Sends to several sockets by one system call, with `io_uring`.
//!
//! Theory of operation: every send is asked for with `MSG_DONTWAIT`, so the kernel carries it out, or refuses
//! it, while it is being submitted; one `io_uring_enter` therefore hands in a whole batch and comes back with
//! all its results. Nothing is under way between two calls, and what is sent is only borrowed for the call.

use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::{fmt, io};

use io_uring::types::Fd;
use io_uring::{IoUring, opcode, squeue};

/// Most sends of one batch.
pub const MOST: usize = 64;

/// Sends of one thread. Linux 6.1 has what the ring is built with.
pub struct SendBatch {
    /// None once it has failed.
    ring: Option<IoUring>,
    entries: Vec<squeue::Entry>,
    results: Vec<i32>,
}

impl fmt::Debug for SendBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_open = self.is_open();
        f.debug_struct("SendBatch")
            .field("is_open", &is_open)
            .finish_non_exhaustive()
    }
}

impl SendBatch {
    /// Opens a ring, which only this thread may use.
    ///
    /// # Errors
    /// The kernel is older than 6.1, or `io_uring` is forbidden here (`EPERM`: seccomp, as in most containers,
    /// or `kernel.io_uring_disabled`).
    pub fn new() -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(u32::try_from(MOST).unwrap_or(u32::MAX))?;
        Ok(Self {
            ring: Some(ring),
            entries: Vec::with_capacity(MOST),
            results: Vec::with_capacity(MOST),
        })
    }

    /// Whether it can still be used: a ring that has failed once is closed.
    pub fn is_open(&self) -> bool {
        self.ring.is_some()
    }

    /// Sends the first [`MOST`] of `sends`, from the front of each, without waiting for room; afterwards
    /// [`result`](Self::result) says what became of each.
    pub fn send<'s>(&mut self, sends: impl Iterator<Item = (BorrowedFd<'s>, &'s [u8])>) {
        self.entries.clear();
        self.results.clear();
        for (index, (socket, bytes)) in sends.take(MOST).enumerate() {
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            let entry = opcode::Send::new(Fd(socket.as_raw_fd()), bytes.as_ptr(), length)
                .flags(libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT)
                .build()
                .user_data(index as u64);
            self.entries.push(entry);
            self.results.push(NONE);
        }
        if let Some(ring) = &mut self.ring
            && !run(ring, &self.entries, &mut self.results)
        {
            self.ring = None;
        }
    }

    /// How many bytes of the send with this index have left. `None`: none, as far as is known; to be sent in the
    /// ordinary way, which finds out why.
    pub fn result(&self, index: usize) -> Option<usize> {
        let result = self.results.get(index)?;
        usize::try_from(*result).ok()
    }
}

/// No result has come.
const NONE: i32 = -1;

/// Carries out the entries; afterwards none is under way. `false`: the ring cannot be used any more.
fn run(ring: &mut IoUring, entries: &[squeue::Entry], results: &mut [i32]) -> bool {
    // SAFETY: what the entries point to is borrowed until `send` returns, and what follows returns only when the
    // kernel has said of each that it has taken that it is done with it.
    if unsafe { ring.submission().push_multiple(entries) }.is_err() {
        return false;
    }
    let (mut taken, mut done) = (0, 0);
    while done < entries.len() {
        match ring.submit_and_wait(entries.len() - done) {
            Ok(count) => taken += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The others are never taken: the ring is closed with them in it.
            Err(_) if taken == done => return false,
            Err(_) => {}
        }
        for completion in ring.completion() {
            done += 1;
            let index = usize::try_from(completion.user_data());
            if let Some(result) = index.ok().and_then(|index| results.get_mut(index)) {
                *result = completion.result();
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    /// None where `io_uring` is not to be had.
    fn batch() -> Option<SendBatch> {
        match SendBatch::new() {
            Ok(batch) => Some(batch),
            Err(error) => {
                let code = error.raw_os_error();
                let known = [libc::EPERM, libc::ENOSYS, libc::EINVAL].map(Some);
                assert!(known.contains(&code), "{error}");
                None
            }
        }
    }

    fn pair() -> (UnixStream, UnixStream) {
        let (here, there) = UnixStream::pair().unwrap();
        here.set_nonblocking(true).unwrap();
        (here, there)
    }

    #[test]
    fn every_socket_gets_its_own() {
        let Some(mut batch) = batch() else { return };
        let mut pairs: Vec<_> = (0..MOST).map(|_| pair()).collect();
        for round in 0..3_u8 {
            let bytes: Vec<Vec<u8>> = (0..MOST).map(|n| vec![round; n + 1]).collect();
            let sends = pairs.iter().zip(&bytes);
            batch.send(sends.map(|(pair, bytes)| (pair.0.as_fd(), bytes.as_slice())));
            for (index, (pair, bytes)) in pairs.iter_mut().zip(&bytes).enumerate() {
                assert_eq!(batch.result(index), Some(bytes.len()));
                let mut got = vec![0; bytes.len()];
                pair.1.read_exact(&mut got).unwrap();
                assert_eq!(&got, bytes);
            }
            assert_eq!(batch.result(MOST), None);
        }
        assert!(batch.is_open());
    }

    #[test]
    fn more_than_fit_are_left() {
        let Some(mut batch) = batch() else { return };
        let (here, mut there) = pair();
        batch.send((0..=MOST).map(|_| (here.as_fd(), b"x".as_slice())));
        let sent: usize = (0..=MOST).filter_map(|index| batch.result(index)).sum();
        assert_eq!(sent, MOST);
        drop(here);
        let mut got = Vec::new();
        there.read_to_end(&mut got).unwrap();
        assert_eq!(got.len(), MOST);
    }

    #[test]
    fn a_full_and_a_closed_socket_harm_no_other() {
        let Some(mut batch) = batch() else { return };
        let (mut full, _unread) = pair();
        while full.write(&[0; 4096]).is_ok() {}
        let (closed, gone) = pair();
        drop(gone);
        let (here, mut there) = pair();
        let sockets = [&full, &closed, &here];
        batch.send(
            sockets
                .map(|one| (one.as_fd(), b"answer".as_slice()))
                .into_iter(),
        );
        let results = [0, 1, 2].map(|index| batch.result(index));
        assert_eq!(results, [None, None, Some(6)]);
        let mut got = [0; 6];
        there.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"answer");
    }

    #[test]
    fn what_does_not_fit_whole_is_sent_in_part() {
        let Some(mut batch) = batch() else { return };
        let (here, there) = pair();
        let much = vec![7; 8 << 20];
        batch.send([(here.as_fd(), much.as_slice())].into_iter());
        let sent = batch.result(0);
        drop(here);
        let mut got = Vec::new();
        (&there).read_to_end(&mut got).unwrap();
        assert_eq!(sent, Some(got.len()));
        assert!((1..much.len()).contains(&got.len()), "{}", got.len());
    }

    #[test]
    fn of_another_thread_it_is_closed_and_nothing_is_sent() {
        let Some(mut batch) = batch() else { return };
        let (here, there) = pair();
        batch.send([(here.as_fd(), b"a".as_slice())].into_iter());
        let there = std::thread::spawn(move || {
            batch.send([(here.as_fd(), b"b".as_slice())].into_iter());
            assert_eq!((batch.result(0), batch.is_open()), (None, false));
            there
        });
        let mut got = Vec::new();
        there.join().unwrap().read_to_end(&mut got).unwrap();
        assert_eq!(got, b"a");
    }
}
