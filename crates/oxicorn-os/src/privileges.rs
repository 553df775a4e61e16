//! The user and the groups of this process.
//!
//! Groups first: who has given up the user may not change them any more.

use std::io;

/// Who a process is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its user.
    pub user: u32,
    /// Its group.
    pub group: u32,
    /// Its supplementary groups; `None` leaves them as they are.
    pub groups: Option<Vec<u32>>,
}

impl Identity {
    /// This process becomes it, for good: a privileged process cannot go back. What it is already is not
    /// asked for, so that nobody needs a privilege to stay who they are.
    pub fn assume(&self) -> io::Result<()> {
        if let Some(groups) = &self.groups {
            // SAFETY: the list is a live slice of as many numbers as are said.
            succeeded(unsafe { libc::setgroups(groups.len(), groups.as_ptr()) })?;
        }
        // SAFETY: these take and give numbers and touch no memory of ours.
        unsafe {
            if self.group != libc::getgid() || self.group != libc::getegid() {
                succeeded(libc::setgid(self.group))?;
            }
            if self.user != libc::getuid() || self.user != libc::geteuid() {
                succeeded(libc::setuid(self.user))?;
            }
        }
        Ok(())
    }
}

fn succeeded(result: libc::c_int) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Identity {
        // SAFETY: both only give a number.
        let (user, group) = unsafe { (libc::geteuid(), libc::getegid()) };
        Identity {
            user,
            group,
            groups: None,
        }
    }

    #[test]
    fn staying_who_one_is_needs_no_privilege() {
        own().assume().unwrap();
    }

    #[test]
    fn becoming_somebody_else_needs_one() {
        if own().user == 0 {
            // The tests' own process must stay what it is; the end-to-end tests change for real.
            return;
        }
        let root = Identity { user: 0, ..own() };
        assert_eq!(
            root.assume().unwrap_err().kind(),
            io::ErrorKind::PermissionDenied
        );
    }
}
