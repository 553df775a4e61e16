//! Waiting for a few descriptors. For many, or for long, use epoll through the runtime.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use crate::timespec;

/// Most descriptors in one wait.
pub const MAX_POLLED: usize = 16;

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    /// These are ready (or at their end, or broken: reading or writing will tell).
    Ready(ReadySet),
    /// The time is over.
    TimedOut,
    /// A signal handler ran.
    Interrupted,
}

/// Which of the descriptors, by their place in the list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadySet(u32);

impl ReadySet {
    /// Whether the descriptor at this place is ready.
    pub const fn contains(self, place: usize) -> bool {
        place < MAX_POLLED && self.0 & 1 << place != 0
    }
}

/// Waits until at least one of the descriptors can be read; `None`: for ever.
pub fn wait_readable(
    descriptors: &[BorrowedFd<'_>],
    timeout: Option<Duration>,
) -> io::Result<Polled> {
    wait(descriptors, PollFlags::IN, timeout)
}

/// Waits until the descriptor can be written.
pub fn wait_writable(descriptor: BorrowedFd<'_>, timeout: Option<Duration>) -> io::Result<Polled> {
    wait(&[descriptor], PollFlags::OUT, timeout)
}

/// Whether the other end of a socketpair or pipe is closed. Does not block, and does not care
/// whether something is left to be read.
pub fn has_hung_up(descriptor: BorrowedFd<'_>) -> io::Result<bool> {
    // Hanging up is reported whatever is asked for; nothing else is asked for.
    let mut polled = [PollFd::from_borrowed_fd(descriptor, PollFlags::empty())];
    let now = timespec(Duration::ZERO);
    rustix::event::poll(&mut polled, Some(&now))?;
    Ok(polled[0]
        .revents()
        .intersects(PollFlags::HUP | PollFlags::ERR))
}

/// Calls `report` with the place of each of the descriptors, however many, whose other end is gone for
/// good. Does not block, and does not care whether something is left to be read.
pub fn each_hung_up<'fd>(
    descriptors: impl Iterator<Item = BorrowedFd<'fd>>,
    mut report: impl FnMut(usize),
) -> io::Result<()> {
    let mut polled: Vec<PollFd<'_>> = descriptors
        .map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::empty()))
        .collect();
    if polled.is_empty() {
        return Ok(());
    }
    rustix::event::poll(&mut polled, Some(&timespec(Duration::ZERO)))?;
    let gone = PollFlags::HUP | PollFlags::ERR;
    for (place, one) in polled.iter().enumerate() {
        if one.revents().intersects(gone) {
            report(place);
        }
    }
    Ok(())
}

fn wait(
    descriptors: &[BorrowedFd<'_>],
    what: PollFlags,
    timeout: Option<Duration>,
) -> io::Result<Polled> {
    let Some(first) = descriptors
        .first()
        .filter(|_| descriptors.len() <= MAX_POLLED)
    else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let mut polled: [PollFd<'_>; MAX_POLLED] = std::array::from_fn(|i| {
        PollFd::from_borrowed_fd(*descriptors.get(i).unwrap_or(first), what)
    });
    let polled = &mut polled[..descriptors.len()];
    match rustix::event::poll(polled, timeout.map(timespec).as_ref()) {
        Ok(0) => Ok(Polled::TimedOut),
        Ok(_) => Ok(Polled::Ready(ready_set(polled))),
        Err(Errno::INTR) => Ok(Polled::Interrupted),
        Err(error) => Err(error.into()),
    }
}

fn ready_set(polled: &[PollFd<'_>]) -> ReadySet {
    let bit = |(place, one): (usize, &PollFd<'_>)| u32::from(!one.revents().is_empty()) << place;
    ReadySet(polled.iter().enumerate().map(bit).sum())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    #[test]
    fn sees_that_the_other_end_hung_up_with_something_left_to_read() {
        use std::io::Write as _;
        let (mut far, near) = std::os::unix::net::UnixStream::pair().unwrap();
        far.write_all(b"x").unwrap();
        assert!(!super::has_hung_up(near.as_fd()).unwrap());
        drop(far);
        assert!(super::has_hung_up(near.as_fd()).unwrap());
    }

    #[test]
    fn of_many_it_tells_which_hung_up() {
        let pair = || std::os::unix::net::UnixStream::pair().unwrap();
        let near: Vec<_> = (0..40)
            .map(|place| {
                let (far, near) = pair();
                ((place % 3 != 0).then_some(far), near)
            })
            .collect();
        let mut gone = Vec::new();
        super::each_hung_up(near.iter().map(|(_, near)| near.as_fd()), |place| {
            gone.push(place);
        })
        .unwrap();
        assert_eq!(gone, (0..40).step_by(3).collect::<Vec<_>>());
        super::each_hung_up(std::iter::empty(), |_| panic!("nobody is there")).unwrap();
    }

    use super::*;
    use crate::eventfd::EventFd;

    #[test]
    fn tells_which_one_is_ready() {
        let (one, two) = (EventFd::new().unwrap(), EventFd::new().unwrap());
        let poll = || wait_readable(&[one.as_fd(), two.as_fd()], Some(Duration::ZERO)).unwrap();
        assert_eq!(poll(), Polled::TimedOut);
        two.ring();
        let Polled::Ready(ready) = poll() else {
            panic!("one of them rang")
        };
        assert!(!ready.contains(0) && ready.contains(1));
    }

    #[test]
    fn writable_descriptor_is_writable() {
        let bell = EventFd::new().unwrap();
        assert!(matches!(
            wait_writable(bell.as_fd(), None).unwrap(),
            Polled::Ready(_)
        ));
    }
}
