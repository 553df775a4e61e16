//! Waiting for many descriptors, each known by a number of its owner's choice.

use std::ffi::c_int;
use std::fmt;
use std::fs;
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

/// Takes files, by the numbers of their inodes, out of every such set of this process, whoever has made it. To its owner it
/// looks as if nothing happened to them any more.
pub fn silence_everywhere(inodes: &[u64]) -> io::Result<()> {
    for entry in fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        // One that was closed in the meantime has nothing to be taken out of.
        if fs::read_link(entry.path())
            .is_ok_and(|link| link.as_os_str() == "anon_inode:[eventpoll]")
            && let Some(epoll) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
            && let Ok(text) = fs::read_to_string(format!("/proc/self/fdinfo/{epoll}"))
        {
            for (descriptor, inode) in text.lines().filter_map(member) {
                if inodes.contains(&inode) {
                    delete(epoll, descriptor);
                }
            }
        }
    }
    Ok(())
}

/// Descriptor and inode of a line that tells of what is waited for.
fn member(line: &str) -> Option<(c_int, u64)> {
    let mut words = line.strip_prefix("tfd:")?.split_whitespace();
    let descriptor = words.next()?.parse().ok()?;
    let inode = words.find_map(|word| word.strip_prefix("ino:"))?;
    Some((descriptor, u64::from_str_radix(inode, 16).ok()?))
}

/// Numbers that mean something else by now make it fail, which is as well: the kernel looks for the pair of file and number.
fn delete(epoll: c_int, descriptor: c_int) {
    // SAFETY: for this operation the kernel reads nothing behind the pointer.
    unsafe {
        libc::epoll_ctl(epoll, libc::EPOLL_CTL_DEL, descriptor, std::ptr::null_mut());
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::eventfd::EventFd;

    #[test]
    fn what_was_silenced_is_ready_nowhere_any_more() {
        let listeners = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let duplicate = listeners[0].try_clone().unwrap();
        let read = Interest {
            read: true,
            write: false,
        };
        let mut sets = [Epoll::new().unwrap(), Epoll::new().unwrap()];
        sets[0].add(&listeners[0], 1, read).unwrap();
        sets[0].add(&listeners[1], 2, read).unwrap();
        sets[1].add(&duplicate, 3, read).unwrap();
        let connect = |listener: &TcpListener| TcpStream::connect(listener.local_addr().unwrap());
        let _peers = [
            connect(&listeners[0]).unwrap(),
            connect(&listeners[1]).unwrap(),
        ];
        let file = fs::File::from(duplicate.as_fd().try_clone_to_owned().unwrap());
        silence_everywhere(&[file.metadata().unwrap().ino()]).unwrap();
        let mut ready = Vec::new();
        sets[0]
            .wait(Some(Duration::from_secs(10)), &mut ready)
            .unwrap();
        assert_eq!(ready.iter().map(|one| one.token).collect::<Vec<_>>(), [2]);
        sets[1].wait(Some(Duration::ZERO), &mut ready).unwrap();
        assert_eq!(ready, []);
        // Whoever wants it back has it back.
        sets[1].add(&duplicate, 3, read).unwrap();
        sets[1].wait(None, &mut ready).unwrap();
        assert_eq!(ready.len(), 1);
    }

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
