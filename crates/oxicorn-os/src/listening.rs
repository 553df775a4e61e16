//! Who listens at an address: what `ss -ltnp` finds in `/proc`.

use std::fmt::{self, Write as _};
use std::fs;
use std::net::{IpAddr, SocketAddr};

use crate::sockets::Address;

/// A listening socket's state in `/proc/net/tcp`.
const LISTEN: &str = "0A";
/// A listening socket's flags in `/proc/net/unix` (`__SO_ACCEPTCON`).
const ACCEPTS: &str = "00010000";

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its short name.
    pub name: String,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.name, self.pid)
    }
}

/// The process that listens where `address` cannot be bound for that reason; of several that share the socket the one with
/// the lowest number. `None`: nobody, or a process that this one may not look into.
pub fn process_at(address: &Address) -> Option<Process> {
    let inode = match address {
        Address::Ip(address) => inode_of_tcp(*address)?,
        Address::Unix(path) => inode_of_unix(&String::from_utf8_lossy(path))?,
    };
    let wanted = format!("socket:[{inode}]");
    let pid = processes().find(|pid| has_open(*pid, &wanted))?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(Process {
        pid,
        name: name.trim_end().to_owned(),
    })
}

fn inode_of_tcp(address: SocketAddr) -> Option<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let texts = tables.map(|path| fs::read_to_string(path).unwrap_or_default());
    let is_in_the_way = |row: &&str| {
        let mut columns = row.split_whitespace().skip(1);
        let local = columns.next().and_then(|local| local.rsplit_once(':'));
        let Some((ip, port)) = local else {
            return false;
        };
        u16::from_str_radix(port, 16) == Ok(address.port())
            && columns.nth(1) == Some(LISTEN)
            && (address.ip().is_unspecified()
                || ip == written(address.ip())
                || ip.bytes().all(|digit| digit == b'0'))
    };
    let row = texts
        .iter()
        .flat_map(|text| text.lines())
        .find(is_in_the_way)?;
    row.split_whitespace().nth(9).map(str::to_owned)
}

/// As `/proc/net/tcp` has it: each four bytes a number in the machine's order.
fn written(ip: IpAddr) -> String {
    let octets = match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let (words, _) = octets.as_chunks::<4>();
    let mut text = String::new();
    for word in words {
        // A String takes everything.
        let _ = write!(text, "{:08X}", u32::from_ne_bytes(*word));
    }
    text
}

fn inode_of_unix(path: &str) -> Option<String> {
    let text = fs::read_to_string("/proc/net/unix").ok()?;
    // An abstract name has an `@` for its NUL there.
    let path = path.replace('\0', "@");
    let columns = text.lines().map(|row| row.split_whitespace().collect());
    let found = |columns: &Vec<&str>| {
        columns.get(3) == Some(&ACCEPTS) && columns.get(7) == Some(&path.as_str())
    };
    let row = columns.into_iter().find(found)?;
    row.get(6).map(|inode| (*inode).to_owned())
}

/// The numbers of all processes, lowest first.
fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<u32> = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    pids.into_iter()
}

fn has_open(pid: u32, wanted: &str) -> bool {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"));
    let links = entries.into_iter().flatten().flatten();
    links
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .any(|link| link.as_os_str() == wanted)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn is_this_process(found: Option<Process>) {
        assert_eq!(found.map(|process| process.pid), Some(std::process::id()));
    }

    #[test]
    fn finds_who_listens_at_a_port() {
        for ip in ["127.0.0.1", "0.0.0.0"] {
            let listener = TcpListener::bind((ip, 0)).unwrap();
            let mut address = listener.local_addr().unwrap();
            is_this_process(process_at(&Address::Ip(address)));
            address.set_ip([127, 0, 0, 1].into());
            is_this_process(process_at(&Address::Ip(address)));
            address.set_ip([0, 0, 0, 0].into());
            is_this_process(process_at(&Address::Ip(address)));
            drop(listener);
            assert_eq!(process_at(&Address::Ip(address)), None);
        }
    }

    #[test]
    fn writes_addresses_as_the_kernel_does() {
        assert_eq!(written([127, 0, 0, 1].into()), "0100007F");
        let loopback = IpAddr::V6(std::net::Ipv6Addr::LOCALHOST);
        assert_eq!(written(loopback), "00000000000000000000000001000000");
    }

    #[test]
    fn finds_who_listens_at_an_abstract_name() {
        let name = format!("oxicorn-listening-{}", std::process::id());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixListener::bind_addr(&address).unwrap();
        let address = Address::Unix(format!("\0{name}").into_bytes());
        is_this_process(process_at(&address));
        drop(listener);
        assert_eq!(process_at(&address), None);
    }
}
