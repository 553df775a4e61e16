//! Stream sockets: listening, accepting, options.
//!
//! Everything made or adopted here is close-on-exec and non-blocking. Whether a stale Unix socket
//! may be removed, how often a bind is tried, and what an address is called are decided elsewhere.

use std::ffi::OsStr;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::{Errno, FdFlags};
use rustix::net::{AddressFamily, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType, sockopt};

/// Where a socket is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// IPv4 or IPv6.
    Ip(SocketAddr),
    /// Unix: empty if unnamed, beginning with NUL if abstract, else a path.
    Unix(Vec<u8>),
}

impl Address {
    fn from_system(address: SocketAddrAny) -> io::Result<Self> {
        match address.address_family() {
            AddressFamily::UNIX => Ok(Self::Unix(unix_name(&address))),
            _ => Ok(Self::Ip(SocketAddr::try_from(address)?)),
        }
    }
}

/// The longest path of a Unix socket in bytes: `sun_path` of unix(7) without the NUL behind it.
pub const UNIX_PATH_MAX: usize = 107;

/// The name of a Unix socket. Not read as [`SocketAddrUnix`], which panics where a path fills `sun_path` and has no NUL
/// behind it: a peer may be bound to such a path.
fn unix_name(address: &SocketAddrAny) -> Vec<u8> {
    let length = usize::try_from(address.addr_len()).unwrap_or(0);
    // SAFETY: the address has this many bytes, which the kernel wrote.
    let bytes = unsafe { std::slice::from_raw_parts(address.as_ptr().cast::<u8>(), length) };
    let name = bytes
        .get(size_of::<libc::sa_family_t>()..)
        .unwrap_or_default();
    match name {
        [] | [0] => Vec::new(),
        // An abstract name, in which NUL is a letter like others.
        [0, ..] => name.to_vec(),
        _ => name
            .split(|byte| *byte == 0)
            .next()
            .unwrap_or_default()
            .to_vec(),
    }
}

/// Options of a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BindOptions {
    /// Several listeners may share the address, the kernel deals connections among them.
    pub reuse_port: bool,
}

/// Binds a TCP socket (not listening yet) with `SO_REUSEADDR` and `TCP_NODELAY`, which accepted
/// connections inherit. IPv6 sockets take IPv4 too, if that is the machine's default.
pub fn bind_tcp(address: SocketAddr, options: BindOptions) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket = stream_socket(family)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    if options.reuse_port {
        share_port(&socket)?;
    }
    rustix::net::bind(&socket, &address)?;
    Ok(socket)
}

/// Where the kernel does not know the option, the port is not shared, which is no reason not to serve.
fn share_port(socket: &OwnedFd) -> io::Result<()> {
    match sockopt::set_socket_reuseport(socket, true) {
        Ok(()) | Err(Errno::NOPROTOOPT | Errno::INVAL) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Binds a Unix socket (not listening yet). A path that begins with NUL is an abstract name. With
/// `umask` the file gets that (the umask belongs to the whole process: only while there is one
/// thread).
pub fn bind_unix(path: &[u8], umask: Option<u32>) -> io::Result<OwnedFd> {
    let address = match path.split_first() {
        Some((0, name)) => SocketAddrUnix::new_abstract_name(name)?,
        // One byte more would do for the kernel, but no C program could name it.
        _ if path.len() > UNIX_PATH_MAX => {
            return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
        }
        _ => SocketAddrUnix::new(path)?,
    };
    let socket = stream_socket(AddressFamily::UNIX)?;
    let before = umask.map(|umask| rustix::process::umask(Mode::from_raw_mode(umask)));
    let bound = rustix::net::bind(&socket, &address);
    if let Some(before) = before {
        rustix::process::umask(before);
    }
    bound?;
    Ok(socket)
}

fn stream_socket(family: AddressFamily) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(
        family,
        SocketType::STREAM,
        flags,
        None,
    )?)
}

/// Whether there is a Unix socket (and no other file) at this path.
pub fn is_unix_socket(path: &[u8]) -> bool {
    let path = Path::new(OsStr::from_bytes(path));
    rustix::fs::lstat(path)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Socket)
}

/// Connects to see whether somebody listens at this Unix address.
pub fn is_unix_served(path: &[u8]) -> bool {
    let address = match path.split_first() {
        Some((0, name)) => SocketAddrUnix::new_abstract_name(name),
        _ => SocketAddrUnix::new(path),
    };
    let connect = |address: SocketAddrUnix| {
        let socket = stream_socket(AddressFamily::UNIX)?;
        match rustix::net::connect(&socket, &address) {
            // AGAIN: its backlog is full, so there is one.
            Ok(()) | Err(Errno::AGAIN) => Ok(()),
            Err(error) => Err(io::Error::from(error)),
        }
    };
    address.is_ok_and(|address| connect(address).is_ok())
}

/// Takes over a listener by its number, as systemd or a parent passes it: it must be a stream
/// socket. From then on the descriptor belongs to the result, so each number may be given once.
pub fn adopt(descriptor: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl with F_GETFD asks about a number, whatever it is.
    if descriptor < 0 || unsafe { libc::fcntl(descriptor, libc::F_GETFD) } < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: the number is an open descriptor; that nobody else of this process owns it is what a
    // number on the command line or in the environment says.
    let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
    match prepare_adopted(&socket) {
        Ok(()) => Ok(socket),
        Err(error) => {
            // It is not what it was said to be, so it may well be somebody else's: leave it open.
            std::mem::forget(socket);
            Err(error)
        }
    }
}

fn prepare_adopted(socket: &OwnedFd) -> io::Result<()> {
    if sockopt::socket_type(socket)? != SocketType::STREAM {
        return Err(io::Error::from_raw_os_error(libc::ESOCKTNOSUPPORT));
    }
    set_inheritable(socket, false)?;
    set_nonblocking(socket, true)
}

/// Starts to listen, or changes the backlog.
pub fn listen<F: AsFd>(socket: F, backlog: u32) -> io::Result<()> {
    Ok(rustix::net::listen(
        socket,
        i32::try_from(backlog).unwrap_or(i32::MAX),
    )?)
}

/// Whether the socket listens.
pub fn is_listening<F: AsFd>(socket: F) -> io::Result<bool> {
    Ok(sockopt::socket_acceptconn(socket)?)
}

/// How many connections wait at a TCP listener to be accepted; `None` for other sockets, which do not say.
pub fn waiting_connections<F: AsFd>(listener: F) -> io::Result<Option<u32>> {
    // SAFETY: `tcp_info` is plain numbers, for which zero is a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = libc::socklen_t::try_from(size_of::<libc::tcp_info>()).unwrap_or(0);
    // SAFETY: the kernel writes at most `length` bytes, which is the size of `info`.
    let result = unsafe {
        libc::getsockopt(
            std::os::fd::AsRawFd::as_raw_fd(&listener.as_fd()),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        // For a listener the kernel keeps the length of its accept queue here.
        return Ok(Some(info.tcpi_unacked));
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(None),
        error => Err(error),
    }
}

/// What an [`accept`] gave.
#[derive(Debug)]
pub enum Accepted {
    /// A connection, and who is at its other end.
    Connection(OwnedFd, Address),
    /// None waits.
    Nothing,
    /// This one is gone again, or its network had a fault; the next may be fine.
    Aborted,
    /// No descriptors or no memory: try again later, the connection keeps waiting.
    Exhausted(io::Error),
}

/// Accepts one connection, non-blocking and close-on-exec.
pub fn accept<F: AsFd>(listener: F) -> io::Result<Accepted> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    loop {
        return match rustix::net::acceptfrom_with(&listener, flags) {
            Ok((socket, Some(peer))) => {
                // A family we do not know cannot come from a listener that we bound or adopted.
                let peer = Address::from_system(peer).unwrap_or(Address::Unix(Vec::new()));
                Ok(Accepted::Connection(socket, peer))
            }
            Ok((socket, None)) => Ok(Accepted::Connection(socket, Address::Unix(Vec::new()))),
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => Ok(Accepted::Nothing),
            Err(error) if concerns_one_connection(error) => Ok(Accepted::Aborted),
            Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
                Ok(Accepted::Exhausted(error.into()))
            }
            Err(error) => Err(error.into()),
        };
    }
}

/// accept(2), "Error handling": Linux passes on errors of the new socket's network.
fn concerns_one_connection(error: Errno) -> bool {
    matches!(
        error,
        Errno::CONNABORTED
            | Errno::PERM
            | Errno::PROTO
            | Errno::NOPROTOOPT
            | Errno::HOSTDOWN
            | Errno::NONET
            | Errno::HOSTUNREACH
            | Errno::OPNOTSUPP
            | Errno::NETDOWN
            | Errno::NETUNREACH
    )
}

/// Address of this end.
pub fn local_address<F: AsFd>(socket: F) -> io::Result<Address> {
    Address::from_system(rustix::net::getsockname(socket)?)
}

/// Address of the other end.
pub fn peer_address<F: AsFd>(socket: F) -> io::Result<Address> {
    match rustix::net::getpeername(socket)? {
        Some(address) => Address::from_system(address),
        None => Ok(Address::Unix(Vec::new())),
    }
}

/// Small pieces are sent at once (TCP only; others say no, which is fine).
pub fn set_nodelay<F: AsFd>(socket: F, nodelay: bool) -> io::Result<()> {
    Ok(sockopt::set_tcp_nodelay(socket, nodelay)?)
}

/// Bytes written to a stream socket that its peer has not acknowledged (TCP) or read (Unix, where
/// the kernel counts its own overhead too).
pub fn unsent<F: AsFd>(socket: F) -> io::Result<u64> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: TIOCOUTQ (SIOCOUTQ) writes one int, which the pointer is to.
    let result = unsafe {
        libc::ioctl(
            std::os::fd::AsRawFd::as_raw_fd(&socket.as_fd()),
            libc::TIOCOUTQ,
            &raw mut bytes,
        )
    };
    if result == 0 {
        Ok(u64::try_from(bytes).unwrap_or(0))
    } else {
        Err(io::Error::last_os_error())
    }
}

/// What `close` does with bytes not yet sent: `None` sends them in the background, zero throws them
/// away and resets the connection.
pub fn set_linger<F: AsFd>(socket: F, linger: Option<Duration>) -> io::Result<()> {
    Ok(sockopt::set_socket_linger(socket, linger)?)
}

/// Whether calls on it return instead of waiting. Belongs to the open socket, that is, to all
/// processes that have it.
pub fn set_nonblocking<F: AsFd>(descriptor: F, nonblocking: bool) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(&descriptor)?;
    let wanted = if nonblocking {
        flags | OFlags::NONBLOCK
    } else {
        flags - OFlags::NONBLOCK
    };
    if wanted != flags {
        rustix::fs::fcntl_setfl(descriptor, wanted)?;
    }
    Ok(())
}

/// Whether a program this process turns into (exec) keeps the descriptor.
pub fn set_inheritable<F: AsFd>(descriptor: F, inheritable: bool) -> io::Result<()> {
    let flags = if inheritable {
        FdFlags::empty()
    } else {
        FdFlags::CLOEXEC
    };
    Ok(rustix::io::fcntl_setfd(descriptor, flags)?)
}

/// From now on the kernel lets nobody new into the backlog of a TCP listener; who is in it can still
/// be accepted. Closing a listener resets whoever came after the last accept, so this goes first. It
/// holds for the socket, whoever else has handles of it, and cannot be undone.
///
/// Clients find no answer to their SYN, try again a second later, and are refused by then. On Unix
/// sockets it has no effect: there the path is removed first.
pub fn refuse_newcomers<F: AsFd>(listener: F) -> io::Result<()> {
    // A filter program of one instruction: return 0, take nothing of the packet.
    let mut program = [libc::sock_filter {
        code: u16::try_from(libc::BPF_RET | libc::BPF_K).unwrap_or(0),
        jt: 0,
        jf: 0,
        k: 0,
    }];
    let filter = libc::sock_fprog {
        len: 1,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the kernel copies the program, which lives until the call returns, and checks it; the
    // length is that of the structure passed.
    let result = unsafe {
        libc::setsockopt(
            std::os::fd::AsRawFd::as_raw_fd(&listener.as_fd()),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            libc::socklen_t::try_from(size_of::<libc::sock_fprog>()).unwrap_or(0),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_tcp_listener_tells_how_many_wait() {
        let any = "127.0.0.1:0".parse().unwrap();
        let options = super::BindOptions { reuse_port: true };
        let listener = super::bind_tcp(any, options).unwrap();
        super::listen(&listener, 8).unwrap();
        assert_eq!(super::waiting_connections(&listener).unwrap(), Some(0));
        let super::Address::Ip(address) = super::local_address(&listener).unwrap() else {
            panic!("a TCP socket has an IP address");
        };
        let _clients = [0; 3].map(|_| std::net::TcpStream::connect(address).unwrap());
        assert_eq!(super::waiting_connections(&listener).unwrap(), Some(3));
        let unix = super::bind_unix(b"\0oxicorn-waiting", None).unwrap();
        super::listen(&unix, 8).unwrap();
        assert_eq!(super::waiting_connections(&unix).unwrap(), None);
    }

    /// Such a path fills the address, without a NUL behind it.
    #[test]
    fn a_peer_may_have_a_path_of_108_bytes() {
        let directory = std::env::temp_dir();
        let start = format!("{}/oxicorn-{}-", directory.display(), std::process::id());
        let path = format!("{start:x<108}");
        let _ = std::fs::remove_file(&path);
        let too_long = super::bind_unix(path.as_bytes(), None).unwrap_err();
        assert_eq!(too_long.raw_os_error(), Some(libc::ENAMETOOLONG));

        let name = format!("\0oxicorn-long-peer-{}", std::process::id());
        let listener = super::bind_unix(name.as_bytes(), None).unwrap();
        super::listen(&listener, 8).unwrap();
        let client = super::stream_socket(super::AddressFamily::UNIX).unwrap();
        let longest = super::SocketAddrUnix::new(path.as_bytes()).unwrap();
        rustix::net::bind(&client, &longest).unwrap();
        let server = super::SocketAddrUnix::new_abstract_name(&name.as_bytes()[1..]).unwrap();
        rustix::net::connect(&client, &server).unwrap();
        std::fs::remove_file(&path).unwrap();

        let expected = super::Address::Unix(path.into_bytes());
        assert_eq!(super::local_address(&client).unwrap(), expected);
        match super::accept(&listener).unwrap() {
            super::Accepted::Connection(_, peer) => assert_eq!(peer, expected),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn newcomers_are_kept_out_while_the_backlog_can_be_accepted() {
        let listener = super::bind_tcp(
            "127.0.0.1:0".parse().unwrap(),
            super::BindOptions::default(),
        )
        .unwrap();
        super::listen(&listener, 8).unwrap();
        let super::Address::Ip(address) = super::local_address(&listener).unwrap() else {
            panic!("a TCP socket has an IP address");
        };
        let _early = std::net::TcpStream::connect(address).unwrap();
        super::refuse_newcomers(&listener).unwrap();
        let patience = std::time::Duration::from_millis(100);
        assert!(std::net::TcpStream::connect_timeout(&address, patience).is_err());
        let accepted = super::accept(&listener).unwrap();
        assert!(matches!(accepted, super::Accepted::Connection(..)));
        assert!(matches!(
            super::accept(&listener).unwrap(),
            super::Accepted::Nothing
        ));
    }

    use std::io::{Read as _, Write as _};
    use std::net::{Ipv4Addr, Ipv6Addr, TcpStream};
    use std::os::fd::{AsRawFd as _, IntoRawFd as _};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn local(socket: &OwnedFd) -> SocketAddr {
        match local_address(socket).unwrap() {
            Address::Ip(address) => address,
            Address::Unix(_) => panic!("not an IP socket"),
        }
    }

    fn accept_one(listener: &OwnedFd) -> (OwnedFd, Address) {
        crate::poll::wait_readable(&[listener.as_fd()], None).unwrap();
        match accept(listener).unwrap() {
            Accepted::Connection(socket, peer) => (socket, peer),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn tcp_listener_accepts() {
        for address in [
            SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            (Ipv6Addr::LOCALHOST, 0).into(),
        ] {
            let Ok(listener) = bind_tcp(address, BindOptions::default()) else {
                assert!(
                    address.is_ipv6(),
                    "machines without IPv6 exist, without IPv4 not yet"
                );
                continue;
            };
            assert!(!is_listening(&listener).unwrap());
            listen(&listener, 16).unwrap();
            assert!(is_listening(&listener).unwrap());
            assert!(matches!(accept(&listener).unwrap(), Accepted::Nothing));
            let mut client = TcpStream::connect(local(&listener)).unwrap();
            let (socket, peer) = accept_one(&listener);
            assert_eq!(peer, Address::Ip(client.local_addr().unwrap()));
            assert!(sockopt::tcp_nodelay(&socket).unwrap());
            set_nonblocking(&socket, false).unwrap();
            TcpStream::from(socket).write_all(b"hi").unwrap();
            let mut text = String::new();
            client.read_to_string(&mut text).unwrap();
            assert_eq!(text, "hi");
        }
    }

    #[test]
    fn address_in_use_is_told() {
        let any = (Ipv4Addr::LOCALHOST, 0).into();
        let one = bind_tcp(any, BindOptions::default()).unwrap();
        listen(&one, 1).unwrap();
        let error = bind_tcp(local(&one), BindOptions::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        let shared = BindOptions { reuse_port: true };
        let one = bind_tcp(any, shared).unwrap();
        assert!(bind_tcp(local(&one), shared).is_ok());
    }

    #[test]
    fn unix_listener_has_its_path_and_its_umask() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("socket");
        let path = file.as_os_str().as_bytes();
        assert!(!is_unix_socket(path) && !is_unix_served(path));
        let listener = bind_unix(path, Some(0o177)).unwrap();
        assert!(is_unix_socket(path) && !is_unix_served(path));
        listen(&listener, 16).unwrap();
        assert!(is_unix_served(path));
        assert_eq!(
            std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(
            local_address(&listener).unwrap(),
            Address::Unix(path.to_vec())
        );
        let _client = UnixStream::connect(&file).unwrap();
        let (_socket, peer) = accept_one(&listener);
        assert_eq!(peer, Address::Unix(Vec::new()));
    }

    #[test]
    fn abstract_listener_has_its_name() {
        let name = format!("\0oxicorn-os-test-{}", std::process::id());
        let listener = bind_unix(name.as_bytes(), None).unwrap();
        listen(&listener, 1).unwrap();
        assert_eq!(
            local_address(&listener).unwrap(),
            Address::Unix(name.clone().into_bytes())
        );
        assert!(is_unix_served(name.as_bytes()));
    }

    #[test]
    fn only_stream_sockets_are_adopted() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let adopted = adopt(listener.into_raw_fd()).unwrap();
        assert_eq!(local(&adopted), address);
        assert!(
            rustix::fs::fcntl_getfl(&adopted)
                .unwrap()
                .contains(OFlags::NONBLOCK)
        );

        let file = tempfile::tempfile().unwrap();
        assert!(adopt(file.as_raw_fd()).is_err());
        assert!(file.metadata().is_ok(), "a refused descriptor stays open");
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(adopt(udp.as_raw_fd()).is_err());
        assert!(adopt(-1).is_err());
        assert!(adopt(100_000).is_err());
    }

    #[test]
    fn closing_with_zero_linger_resets() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = listener.accept().unwrap();
        set_linger(&socket, Some(Duration::ZERO)).unwrap();
        drop(socket);
        let error = client.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[test]
    fn inheritance_is_switched() {
        let socket = stream_socket(AddressFamily::INET).unwrap();
        assert!(
            rustix::io::fcntl_getfd(&socket)
                .unwrap()
                .contains(FdFlags::CLOEXEC)
        );
        set_inheritable(&socket, true).unwrap();
        assert!(
            !rustix::io::fcntl_getfd(&socket)
                .unwrap()
                .contains(FdFlags::CLOEXEC)
        );
    }
}
