//! Waiting for many descriptors, each known by a number of its owner's choice.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;

use crate::timespec;

/// Most events one wait gives.
const EVENTS: usize = 256;

/// What is waited for at a descriptor. That its other end is gone is told in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interest {
    /// That it can be read.
    pub read: bool,
    /// That it can be written.
    pub write: bool,
}

impl Interest {
    fn flags(self) -> EventFlags {
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN | EventFlags::RDHUP, self.read);
        flags.set(EventFlags::OUT, self.write);
        flags
    }
}

/// What can be done at a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The number it was added with.
    pub token: u64,
    /// Reading will not block, or tells that the other end is gone.
    pub read: bool,
    /// Writing will not block, or tells so.
    pub write: bool,
    /// The other end is gone for good.
    pub hung_up: bool,
}

/// A set of descriptors. Closing a descriptor takes it out, unless it has duplicates.
pub struct Epoll {
    epoll: OwnedFd,
    events: Vec<Event>,
}

impl fmt::Debug for Epoll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Epoll").finish_non_exhaustive()
    }
}

impl Epoll {
    /// An empty set.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(EVENTS),
        })
    }

    /// Puts a descriptor in.
    pub fn add<F: AsFd>(&self, descriptor: F, token: u64, interest: Interest) -> io::Result<()> {
        let data = EventData::new_u64(token);
        Ok(epoll::add(&self.epoll, descriptor, data, interest.flags())?)
    }

    /// Changes what is waited for.
    pub fn change<F: AsFd>(&self, descriptor: F, token: u64, interest: Interest) -> io::Result<()> {
        let data = EventData::new_u64(token);
        Ok(epoll::modify(
            &self.epoll,
            descriptor,
            data,
            interest.flags(),
        )?)
    }

    /// Takes a descriptor out.
    pub fn remove<F: AsFd>(&self, descriptor: F) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, descriptor)?)
    }

    /// Waits until something can be done, `None`: for ever, and puts it into `ready`, which is emptied before. A signal
    /// handler that ran ends the wait with nothing.
    pub fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<()> {
        ready.clear();
        self.events.clear();
        let timeout = timeout.map(timespec);
        match epoll::wait(
            &self.epoll,
            spare_capacity(&mut self.events),
            timeout.as_ref(),
        ) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let gone = EventFlags::HUP | EventFlags::ERR;
        ready.extend(self.events.drain(..).map(|event| {
            let flags = event.flags;
            Ready {
                token: event.data.u64(),
                read: flags.intersects(EventFlags::IN | EventFlags::RDHUP | gone),
                write: flags.intersects(EventFlags::OUT | gone),
                hung_up: flags.intersects(gone),
            }
        }));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eventfd::EventFd;

    #[test]
    fn tells_by_their_numbers_which_are_ready() {
        let mut epoll = Epoll::new().unwrap();
        let (one, two) = (EventFd::new().unwrap(), EventFd::new().unwrap());
        let read = Interest {
            read: true,
            write: false,
        };
        epoll.add(&one, 1, read).unwrap();
        epoll.add(&two, 2, read).unwrap();
        let mut ready = Vec::new();
        epoll.wait(Some(Duration::ZERO), &mut ready).unwrap();
        assert_eq!(ready, []);
        two.ring();
        epoll.wait(None, &mut ready).unwrap();
        assert_eq!(ready.iter().map(|one| one.token).collect::<Vec<_>>(), [2]);
        let write = Interest {
            read: false,
            write: true,
        };
        epoll.change(&two, 2, write).unwrap();
        epoll.wait(None, &mut ready).unwrap();
        assert!(ready[0].write && !ready[0].read && !ready[0].hung_up);
        epoll.remove(&two).unwrap();
        epoll.wait(Some(Duration::ZERO), &mut ready).unwrap();
        assert_eq!(ready, []);
    }
}
