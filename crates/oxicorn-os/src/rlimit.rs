//! Resource limits.

use std::io;

use rustix::process::{Resource, Rlimit};

/// Raises the limit of open descriptors of this process as far as it may (to the hard limit);
/// returns what it is then. `u64::MAX`: no limit.
pub fn raise_nofile() -> io::Result<u64> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        rustix::process::setrlimit(Resource::Nofile, raised)?;
    }
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

/// The hard limit of open descriptors of this process, which changes nothing. `u64::MAX`: no limit.
pub fn most_files() -> u64 {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    limit.maximum.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #[test]
    fn hard_limit_is_what_a_raised_one_is() {
        assert_eq!(super::most_files(), super::raise_nofile().unwrap());
    }

    #[test]
    fn limit_is_raised_to_the_hard_one() {
        let raised = super::raise_nofile().unwrap();
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        assert_eq!(limit.current.unwrap_or(u64::MAX), raised);
    }
}
