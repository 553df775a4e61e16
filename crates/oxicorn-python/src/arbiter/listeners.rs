//! Binding the listeners, with Gunicorn's patience and words.

use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;
use std::{fs, io};

use oxicorn_arbiter::Level;
use oxicorn_gateway::{ListenerSetup, Protocol};
use oxicorn_os::sockets::{self, Address, BindOptions};
use oxicorn_settings::{BindAddress, Scheme, Settings};

use super::log;
use super::python::PyArbiter;
use super::unbound::{self, reason};

/// How often an address in use is tried, and the pause in between (as Gunicorn: a predecessor may
/// just be on its way out).
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);

/// A bound, listening socket.
#[derive(Debug)]
pub(crate) struct Listener {
    /// As the settings name it: what a reload compares.
    pub(crate) bind: BindAddress,
    /// As the logs name it.
    pub(crate) text: String,
    pub(crate) socket: OwnedFd,
    /// What is spoken.
    pub(crate) scheme: Scheme,
    /// The socket file that is ours to remove: path, device and inode.
    file: Option<(String, u64, u64)>,
}

impl Listener {
    /// A second handle of the same listener.
    pub(crate) fn share(&self) -> io::Result<Self> {
        Ok(Self {
            bind: self.bind.clone(),
            text: self.text.clone(),
            socket: self.socket.try_clone()?,
            scheme: self.scheme,
            file: self.file.clone(),
        })
    }

    /// The same, where this is spoken.
    pub(crate) fn speaking(self, scheme: Scheme) -> io::Result<Self> {
        Ok(Self {
            text: text_of(&self.socket, &self.bind, scheme)?,
            scheme,
            ..self
        })
    }

    /// What the gateway is told of it.
    pub(crate) fn setup(&self, protocol: Protocol) -> ListenerSetup {
        ListenerSetup {
            protocol,
            name: self.text.clone(),
            tls: self.scheme.is_secure(),
        }
    }

    /// Removes the socket file, unless somebody else has put theirs in its place.
    pub(crate) fn remove_file(&self) {
        let Some((path, device, inode)) = &self.file else {
            return;
        };
        if let Ok(found) = fs::symlink_metadata(path)
            && (found.dev(), found.ino()) == (*device, *inode)
        {
            // Gone in the meantime is as good as removed.
            let _ = fs::remove_file(path);
        }
    }
}

/// What the settings say about listeners, beside their addresses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    pub(crate) backlog: u32,
    /// For socket files.
    pub(crate) umask: u32,
    /// Whose the socket files are: the user and group of the processes that serve.
    pub(crate) owner: (u32, u32),
    pub(crate) reuse_port: bool,
}

impl Options {
    pub(crate) fn of(settings: &Settings) -> Self {
        // Numbers beyond 32 bits do not pass the validators, but for `backlog`, where more is as good as much.
        let number = |name| {
            let number = settings.get(name).as_int().unwrap_or(0);
            u32::try_from(number).unwrap_or(u32::MAX)
        };
        Self {
            backlog: number("backlog"),
            umask: number("umask"),
            owner: (number("user"), number("group")),
            reuse_port: settings.get("reuse_port").is_true(),
        }
    }
}

/// Listeners that came with the process, and the addresses they are known by.
///
/// Those of systemd stand in for all addresses of the settings. Those of a predecessor are recognised as what the
/// settings name, so that a reload goes on from there; what they do not name any more is let go of.
pub(crate) fn inherit(
    descriptors: &[i32],
    binds: &[BindAddress],
    origin: Origin,
    options: Options,
) -> io::Result<Vec<Listener>> {
    let mut found = Vec::with_capacity(descriptors.len());
    // Their numbers were others in the predecessor; their order is the same.
    let mut by_number = binds
        .iter()
        .filter(|bind| matches!(bind, BindAddress::Descriptor(_)));
    for &descriptor in descriptors {
        let mut listener = try_open(&BindAddress::Descriptor(descriptor), options)?;
        if origin == Origin::Predecessor {
            let named = named_by(&listener.socket, binds)?;
            let Some(bind) = named.or_else(|| by_number.next()) else {
                continue;
            };
            if let BindAddress::Unix { path } = bind {
                listener.file = file_at(path).ok();
            }
            listener.bind = bind.clone();
        }
        found.push(listener);
    }
    Ok(found)
}

/// Who left listeners to this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// systemd, or somebody who does as it does.
    Activation,
    /// The arbiter this one takes over from.
    Predecessor,
}

/// The address of the settings at which `socket` listens.
fn named_by<'a>(socket: &OwnedFd, binds: &'a [BindAddress]) -> io::Result<Option<&'a BindAddress>> {
    let local = sockets::local_address(socket)?;
    let is_it = |bind: &&BindAddress| match (&local, bind) {
        (Address::Ip(local), BindAddress::Tcp { host, port }) => {
            local.port() == *port
                && resolve(host, *port).is_ok_and(|mut all| all.any(|address| address == *local))
        }
        (Address::Unix(local), BindAddress::Unix { path }) => local == path.as_bytes(),
        (Address::Unix(local), BindAddress::Abstract { name }) => {
            local.strip_prefix(b"\0") == Some(name.as_bytes())
        }
        _ => false,
    };
    Ok(binds.iter().find(is_it))
}

fn file_at(path: &str) -> io::Result<(String, u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((path.to_owned(), found.dev(), found.ino()))
}

/// Binds `bind`, trying again where it is in use; `None` after the last try, with everything logged.
pub(crate) fn open(
    server: &PyArbiter<'_>,
    bind: &BindAddress,
    options: Options,
) -> Option<Listener> {
    let address = python_address(bind);
    let mut holder = String::new();
    for left in (0..TRIES).rev() {
        let error = match try_open(bind, options) {
            Ok(listener) => return Some(listener),
            Err(error) => error,
        };
        let in_use = error.kind() == io::ErrorKind::AddrInUse;
        if in_use && unbound::is_held_by_us(bind) {
            holder =
                ": this server listens there already (bind and metrics_bind may name an address once)".into();
            break;
        }
        match error.kind() {
            io::ErrorKind::AddrInUse => {
                log::write(
                    server,
                    Level::Error,
                    &format!("Connection in use: {address}"),
                );
            }
            io::ErrorKind::AddrNotAvailable => {
                let text = format!("Invalid address: {address}: {}", reason(bind, &error));
                log::write(server, Level::Error, &text);
            }
            _ => {
                let text = format!("Cannot bind {address}: {}", reason(bind, &error));
                log::write(server, Level::Error, &text);
            }
        }
        if in_use && left == 0 {
            holder = format!(": {}", unbound::holder(bind));
        }
        if !in_use || left == 0 {
            break;
        }
        log::write(server, Level::Error, "Retrying in 1 second.");
        server.py().detach(|| std::thread::sleep(PAUSE));
    }
    log::write(
        server,
        Level::Error,
        &format!("Cannot listen at {address}{holder}"),
    );
    None
}

fn try_open(bind: &BindAddress, options: Options) -> io::Result<Listener> {
    let mut file = None;
    let socket = match bind {
        BindAddress::Tcp { host, port } => bind_tcp(host, *port, options.reuse_port)?,
        BindAddress::Unix { path } => {
            let socket = bind_unix(path, options)?;
            file = Some(file_at(path)?);
            socket
        }
        BindAddress::Abstract { name } => sockets::bind_unix(format!("\0{name}").as_bytes(), None)?,
        BindAddress::Descriptor(number) => sockets::adopt(*number)?,
    };
    if !sockets::is_listening(&socket)? {
        sockets::listen(&socket, options.backlog)?;
    }
    sockets::set_nonblocking(&socket, true)?;
    let text = text_of(&socket, bind, Scheme::Http)?;
    Ok(Listener {
        bind: bind.clone(),
        text,
        socket,
        scheme: Scheme::Http,
        file,
    })
}

fn bind_tcp(host: &str, port: u16, reuse_port: bool) -> io::Result<OwnedFd> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in resolve(host, port)? {
        match sockets::bind_tcp(address, BindOptions { reuse_port }) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn resolve(host: &str, port: u16) -> io::Result<std::vec::IntoIter<SocketAddr>> {
    let host = if host.is_empty() { "0.0.0.0" } else { host };
    (host, port).to_socket_addrs()
}

/// A socket file left behind is replaced; one that is served, or a file of another kind, is not.
fn bind_unix(path: &str, options: Options) -> io::Result<OwnedFd> {
    if let Ok(found) = fs::symlink_metadata(path) {
        if !sockets::is_unix_socket(path.as_bytes()) {
            let text = if found.is_dir() {
                "is a directory"
            } else {
                "is not a socket"
            };
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                format!("'{path}' {text}"),
            ));
        }
        if sockets::is_unix_served(path.as_bytes()) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        fs::remove_file(path)?;
    }
    let socket = sockets::bind_unix(path.as_bytes(), Some(options.umask))?;
    if let Err(error) = give_away(path, options.owner) {
        fs::remove_file(path)?;
        return Err(error);
    }
    Ok(socket)
}

/// The processes that serve may connect to their own socket file, or remove it.
fn give_away(path: &str, (user, group): (u32, u32)) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    if (found.uid(), found.gid()) == (user, group) {
        return Ok(());
    }
    std::os::unix::fs::lchown(path, Some(user), Some(group))
}

/// The address with what the system chose (port 0), as in `Listening at: ...`.
fn text_of(socket: &OwnedFd, bind: &BindAddress, scheme: Scheme) -> io::Result<String> {
    let prefix = scheme.prefix();
    Ok(match sockets::local_address(socket)? {
        Address::Ip(SocketAddr::V4(address)) => format!("{prefix}{address}"),
        Address::Ip(SocketAddr::V6(address)) => {
            format!("{prefix}[{}]:{}", address.ip(), address.port())
        }
        // Where it was bound is all that is known of one that came as a descriptor.
        Address::Unix(path) if matches!(bind, BindAddress::Descriptor(_)) => {
            format!("unix:{}", String::from_utf8_lossy(&path).replace('\0', "@"))
        }
        Address::Unix(_) => bind.listening_at(scheme),
    })
}

/// How Gunicorn shows an address in its errors: the Python value.
fn python_address(bind: &BindAddress) -> String {
    match bind {
        BindAddress::Tcp { host, port } => format!("('{host}', {port})"),
        BindAddress::Unix { path } => path.clone(),
        BindAddress::Abstract { name } => format!("@{name}"),
        BindAddress::Descriptor(number) => format!("fd://{number}"),
    }
}
