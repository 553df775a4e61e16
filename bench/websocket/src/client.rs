//! One client: its handshake, the message it has under way, the echo it expects.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::frame;

const PATIENCE: Duration = Duration::from_secs(10);
const READ_SIZE: usize = 4096;
const FIN: u8 = 0x80;

pub(crate) struct Client {
    stream: TcpStream,
    message: Vec<u8>,
    frame: Vec<u8>,
    received: Vec<u8>,
    sent: Option<Instant>,
}

impl Client {
    pub(crate) fn connect(port: u16, path: &str, size: usize) -> io::Result<Self> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )?;
        read_head(&mut stream)?;
        stream.set_nonblocking(true)?;
        let message = vec![b'x'; size];
        let frame = frame::encode(frame::BINARY, &message);
        Ok(Self {
            stream,
            message,
            frame,
            received: Vec::new(),
            sent: None,
        })
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        &self.stream
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.sent.is_some()
    }

    /// Sends the message. The buffer of the socket is empty: the one before was echoed.
    pub(crate) fn send(&mut self, now: Instant) -> io::Result<()> {
        self.stream.write_all(&self.frame)?;
        self.sent = Some(now);
        Ok(())
    }

    /// Reads what is there; when the message was sent, if its echo is complete now.
    pub(crate) fn receive(&mut self) -> io::Result<Option<Instant>> {
        let mut block = [0; READ_SIZE];
        match self.stream.read(&mut block) {
            Ok(0) => return Err(io::Error::other("the server closed a connection")),
            Ok(count) => self.received.extend_from_slice(&block[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
        while let Some((first, begin, end)) = frame::decode(&self.received) {
            let payload = &self.received[begin..end];
            if first == FIN | frame::PING {
                let pong = frame::encode(frame::PONG, payload);
                self.stream.write_all(&pong)?;
            } else if first != FIN | frame::BINARY || payload != self.message {
                return Err(io::Error::other(format!(
                    "no echo: a frame that begins with {first:#04x}"
                )));
            } else {
                self.received.drain(..end);
                return Ok(self.sent.take());
            }
            self.received.drain(..end);
        }
        Ok(None)
    }
}

/// Reads the answer to the handshake byte by byte, so that nothing behind it is lost.
fn read_head(stream: &mut TcpStream) -> io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    if head.starts_with(b"HTTP/1.1 101 ") {
        return Ok(());
    }
    let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
    Err(io::Error::other(format!(
        "no handshake: {}",
        String::from_utf8_lossy(line)
    )))
}
