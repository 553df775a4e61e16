//! Why an address cannot be listened at, and what to do about it.

use std::net::ToSocketAddrs;
use std::path::Path;
use std::{fs, io};

use oxicorn_os::listening::{self, Process};
use oxicorn_os::sockets::{Address, UNIX_PATH_MAX};
use oxicorn_settings::BindAddress;

/// Ports below need a right, where the kernel does not say otherwise.
const FIRST_FREE_PORT: u16 = 1024;

/// The reason, in words.
pub(super) fn reason(bind: &BindAddress, error: &io::Error) -> String {
    let words = plain(error);
    match advice(bind, error) {
        Some(advice) => format!("{words} ({advice})"),
        None => words,
    }
}

/// Who listens there already.
pub(super) fn holder(bind: &BindAddress) -> String {
    match process_at(bind) {
        Some(process) => format!("{process} listens there"),
        None => "a process of another user listens there (ss -lxtnp as root shows which)".into(),
    }
}

/// Whether it is this process.
pub(super) fn is_held_by_us(bind: &BindAddress) -> bool {
    process_at(bind).is_some_and(|process| process.pid == std::process::id())
}

fn process_at(bind: &BindAddress) -> Option<Process> {
    let addresses = match bind {
        BindAddress::Tcp { host, port } => {
            let host = if host.is_empty() { "0.0.0.0" } else { host };
            let found = (host, *port).to_socket_addrs();
            found.into_iter().flatten().map(Address::Ip).collect()
        }
        BindAddress::Unix { path } => vec![Address::Unix(path.clone().into_bytes())],
        BindAddress::Abstract { name } => vec![Address::Unix(format!("\0{name}").into_bytes())],
        BindAddress::Descriptor(_) => Vec::new(),
    };
    addresses.iter().find_map(listening::process_at)
}

/// What the system's words do not say.
fn advice(bind: &BindAddress, error: &io::Error) -> Option<String> {
    let code = error.raw_os_error();
    match bind {
        BindAddress::Tcp { host, port } => match code {
            Some(libc::EADDRNOTAVAIL) => Some(format!(
                "no interface of this machine has it; 0.0.0.0:{port} is all of them"
            )),
            Some(libc::EACCES) => Some(format!(
                "ports below {} need root or CAP_NET_BIND_SERVICE (AmbientCapabilities of systemd)",
                first_free_port()
            )),
            Some(libc::EAFNOSUPPORT) => Some("this machine has no IPv6".into()),
            Some(libc::EINVAL) if host.starts_with("fe80:") && !host.contains('%') => Some(
                format!("a link-local address needs its interface, as in [{host}%eth0]:{port}"),
            ),
            None => Some("the host has no address; 0.0.0.0 is every interface".into()),
            _ => None,
        },
        BindAddress::Unix { path } => match error.kind() {
            io::ErrorKind::NotFound => Some(format!("there is no directory {}", directory(path))),
            io::ErrorKind::PermissionDenied => Some(format!(
                "this user may not make files in {}",
                directory(path)
            )),
            io::ErrorKind::AlreadyExists => Some("choose another path".into()),
            _ if code == Some(libc::ENAMETOOLONG) => Some(format!(
                "{} bytes, where a unix socket has {UNIX_PATH_MAX} at most",
                path.len()
            )),
            _ => None,
        },
        BindAddress::Descriptor(_) => match code {
            Some(libc::EBADF) => Some("nobody has passed it to this process".into()),
            Some(libc::ENOTSOCK) => Some("it is open, as a file or terminal".into()),
            Some(libc::ESOCKTNOSUPPORT) => Some("it is no stream socket".into()),
            _ => None,
        },
        BindAddress::Abstract { .. } => None,
    }
}

fn directory(path: &str) -> String {
    let parent = Path::new(path).parent();
    let parent = parent.filter(|parent| !parent.as_os_str().is_empty());
    parent.map_or_else(|| ".".into(), |parent| parent.display().to_string())
}

fn first_free_port() -> u16 {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    text.ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(FIRST_FREE_PORT)
}

/// The system's words, without the number that Rust adds.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text
        .strip_prefix("failed to lookup address information: ")
        .unwrap_or(&text);
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_owned(),
        None => text.to_owned(),
    }
}
