//! A client that speaks HTTP/2, driven by a thread of its own.

use std::future::poll_fn;
use std::io;
use std::net::TcpStream;
use std::thread::JoinHandle;

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Method, Request, Response};
use tokio::runtime::{Builder as RuntimeBuilder, Runtime};

use crate::scenario::{PATIENCE, Scenario};

/// A connection.
pub(crate) struct Http2Client {
    runtime: Runtime,
    send: SendRequest<Bytes>,
    driver: Option<JoinHandle<Result<(), h2::Error>>>,
}

/// A request under way.
pub(crate) struct Asked {
    pub(crate) response: ResponseFuture,
    pub(crate) body: SendStream<Bytes>,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

fn runtime() -> Runtime {
    RuntimeBuilder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

impl Http2Client {
    pub(crate) fn connect(scenario: &Scenario) -> Self {
        Self::with(scenario, &Builder::new())
    }

    pub(crate) fn with(scenario: &Scenario, builder: &Builder) -> Self {
        let socket = TcpStream::connect(scenario.address).unwrap();
        Self::over(socket, builder)
    }

    pub(crate) fn over(socket: TcpStream, builder: &Builder) -> Self {
        socket.set_nonblocking(true).unwrap();
        let of_driver = runtime();
        let (send, connection) = of_driver.block_on(async {
            let socket = tokio::net::TcpStream::from_std(socket).unwrap();
            builder.handshake(socket).await.unwrap()
        });
        let driver = std::thread::spawn(move || of_driver.block_on(connection));
        Self {
            runtime: runtime(),
            send,
            driver: Some(driver),
        }
    }

    pub(crate) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(async {
            tokio::time::timeout(PATIENCE, future)
                .await
                .expect("what was waited for did not come")
        })
    }

    pub(crate) fn speaks_extended_connect(&self) -> bool {
        self.send.is_extended_connect_protocol_enabled()
    }

    /// Begins a request; `ends`: it has no body.
    pub(crate) fn ask(&mut self, request: Request<()>, ends: bool) -> Asked {
        let mut send = self.send.clone();
        self.wait(poll_fn(|cx| send.poll_ready(cx))).unwrap();
        let (response, body) = send.send_request(request, ends).unwrap();
        Asked { response, body }
    }

    pub(crate) fn get(&mut self, path: &str) -> Asked {
        self.ask(get(path), true)
    }

    pub(crate) fn post(&mut self, path: &str) -> Asked {
        let request = Request::builder().method(Method::POST).uri(uri(path));
        self.ask(request.body(()).unwrap(), false)
    }

    pub(crate) fn send(&self, asked: &mut Asked, bytes: &[u8], ends: bool) {
        let body = &mut asked.body;
        let mut rest = bytes;
        while !rest.is_empty() {
            body.reserve_capacity(rest.len());
            let room = self
                .wait(poll_fn(|cx| body.poll_capacity(cx)))
                .unwrap()
                .unwrap();
            let (now, later) = rest.split_at(room.min(rest.len()));
            rest = later;
            body.send_data(Bytes::copy_from_slice(now), ends && rest.is_empty())
                .unwrap();
        }
        if bytes.is_empty() && ends {
            body.send_data(Bytes::new(), true).unwrap();
        }
    }

    pub(crate) fn head(&self, response: ResponseFuture) -> Response<RecvStream> {
        self.wait(response).unwrap()
    }

    /// All of an answer, or why there is not all of it.
    pub(crate) fn try_read(&self, response: ResponseFuture) -> Result<Answer, h2::Error> {
        let head = self.wait(response)?;
        let (parts, mut stream) = head.into_parts();
        let mut body = Vec::new();
        while let Some(data) = self.wait(stream.data()) {
            let data = data?;
            stream.flow_control().release_capacity(data.len()).unwrap();
            body.extend_from_slice(&data);
        }
        Ok(Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body,
            trailers: self.wait(stream.trailers())?,
        })
    }

    pub(crate) fn read(&self, response: ResponseFuture) -> Answer {
        self.try_read(response).unwrap()
    }

    /// Waits for the end of the connection, and says how it ended.
    pub(crate) fn end(mut self) -> Result<(), h2::Error> {
        let driver = self.driver.take().unwrap();
        drop(self.send);
        driver.join().unwrap()
    }

    /// The reason the server gives for the end.
    pub(crate) fn end_reason(self) -> Option<Reason> {
        match self.end() {
            Ok(()) => None,
            Err(error) => error.reason(),
        }
    }
}

pub(crate) fn uri(path: &str) -> String {
    format!("http://t.example{path}")
}

pub(crate) fn get(path: &str) -> Request<()> {
    Request::builder().uri(uri(path)).body(()).unwrap()
}

/// Frames, by hand.
pub(crate) struct RawHttp2 {
    pub(crate) stream: TcpStream,
}

impl RawHttp2 {
    pub(crate) fn connect(scenario: &Scenario) -> Self {
        let stream = TcpStream::connect(scenario.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let mut client = Self { stream };
        client.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        client.frame(4, 0, 0, &[]);
        client
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        io::Write::write_all(&mut self.stream, bytes).unwrap();
    }

    pub(crate) fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.write(&frame(kind, flags, stream, payload));
    }

    /// The next frame: kind, flags, stream, payload. `None`: the connection is over.
    pub(crate) fn read(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        let mut header = [0; 9];
        io::Read::read_exact(&mut self.stream, &mut header).ok()?;
        let [a, b, c, kind, flags, stream @ ..] = header;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        io::Read::read_exact(&mut self.stream, &mut payload).ok()?;
        Some((kind, flags, u32::from_be_bytes(stream), payload))
    }

    /// The next frame of this kind.
    pub(crate) fn read_kind(&mut self, wanted: u8) -> (u8, u32, Vec<u8>) {
        loop {
            let (kind, flags, stream, payload) = self.read().expect("a frame");
            if kind == wanted {
                return (flags, stream, payload);
            }
        }
    }

    /// Kinds of the frames that come before the answer to a PING: all that the server had to say by now.
    pub(crate) fn said_by_now(&mut self) -> Vec<u8> {
        self.frame(6, 0, 0, b"question");
        let mut kinds = Vec::new();
        loop {
            match self.read().expect("a frame") {
                (6, 1, ..) => return kinds,
                (kind, ..) => kinds.push(kind),
            }
        }
    }
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap();
    let mut out = length.to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// Fields in the way that needs no table (RFC 7541 section 6.2.2).
pub(crate) fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            out.push(u8::try_from(text.len()).unwrap());
            out.extend(text.as_bytes());
        }
    }
    out
}

/// The fields of a request.
pub(crate) fn request(method: &str, path: &str) -> Vec<u8> {
    fields(&[
        (":method", method),
        (":scheme", "http"),
        (":path", path),
        (":authority", "t.example"),
    ])
}
