//! Answers the gateway gives itself.
//!
//! Every reason not to ask (or not to wait for) a worker has a status, a phrase and a short plain
//! text here, and nowhere else.

use std::time::Duration;

use oxicorn_proto::PeerFault;
use oxicorn_proto::websocket::HandshakeFault;

/// The port that https has where none is named.
pub(crate) const HTTPS: u16 = 443;

/// An answer without a worker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) reason: &'static str,
    pub(crate) message: &'static str,
    pub(crate) retry_after: Option<Duration>,
    /// What would have been accepted.
    pub(crate) headers: &'static [(&'static str, &'static str)],
    /// The port of https at which the same is to be asked for.
    pub(crate) location: Option<u16>,
    pub(crate) whose: Whose,
}

/// Who made it necessary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// The peer broke a rule: logged, and nothing that follows on this connection can be trusted.
    Peer,
    /// The peer went away in the middle: not worth a warning.
    PeerLeft,
    /// We, or the worker; the connection is as good as before.
    Ours,
}

impl Refusal {
    /// What the logs say about it.
    pub(crate) const fn message(&self) -> &'static str {
        self.message
    }

    pub(crate) const fn new(
        status: u16,
        reason: &'static str,
        message: &'static str,
        whose: Whose,
    ) -> Self {
        Self {
            status,
            reason,
            message,
            retry_after: None,
            headers: &[],
            location: None,
            whose,
        }
    }

    /// The scheme headers of a trusted peer contradict each other.
    pub(crate) const CONTRADICTORY_SCHEMES: Self = Self::new(
        400,
        "Bad Request",
        "contradictory scheme headers",
        Whose::Peer,
    );
    /// Plain HTTP where TLS is spoken.
    pub(crate) const UNENCRYPTED: Self = Self::new(
        400,
        "Bad Request",
        "plain HTTP was sent to a port that speaks TLS: use https",
        Whose::Peer,
    );
    /// HTTP/1 where nothing but HTTP/2 is spoken.
    pub(crate) const NOT_HTTP2: Self = Self::new(
        400,
        "Bad Request",
        "only HTTP/2 is spoken here (http_protocols): its connection preface was expected",
        Whose::Peer,
    );
    /// The rest of a request did not come in time.
    pub(crate) const TOO_SLOW: Self = Self::new(
        408,
        "Request Timeout",
        "request did not come in time",
        Whose::Peer,
    );
    /// The body came too slowly.
    pub(crate) const BODY_TOO_SLOW: Self = Self::new(
        408,
        "Request Timeout",
        "request body came too slowly",
        Whose::Peer,
    );
    /// A PROXY header from somebody who may not send one.
    pub(crate) const FORBIDDEN_PROXY: Self = Self::new(
        403,
        "Forbidden",
        "proxy protocol header from an address that may not send one",
        Whose::Peer,
    );
    /// A request of a web server that may not speak for its clients.
    pub(crate) const FORBIDDEN_WEB_SERVER: Self = Self::new(
        403,
        "Forbidden",
        "request of a web server from an address that may not send one (uwsgi_allow_ips)",
        Whose::Peer,
    );
    /// One connection too many of this client.
    pub(crate) const TOO_MANY_CONNECTIONS: Self = Self {
        retry_after: Some(Duration::from_secs(1)),
        ..Self::new(
            503,
            "Service Unavailable",
            "too many connections from this address",
            Whose::Peer,
        )
    };
    /// No memory for a head like this.
    pub(crate) const NO_MEMORY: Self = Self {
        retry_after: Some(Duration::from_secs(1)),
        ..Self::new(
            503,
            "Service Unavailable",
            "no room for so long a request head now",
            Whose::Peer,
        )
    };
    /// No room for a body like this, on the disk or where memory serves for one.
    pub(crate) const NO_STORAGE: Self = Self {
        retry_after: Some(Duration::from_secs(1)),
        ..Self::new(
            503,
            "Service Unavailable",
            "no room for so long a request body now",
            Whose::Peer,
        )
    };
    /// The server ends, and nobody is left to ask.
    pub(crate) const STOPPING: Self = Self::new(
        503,
        "Service Unavailable",
        "the server is stopping",
        Whose::Ours,
    );
    /// The application gave no response.
    pub(crate) const APPLICATION_FAILED: Self = Self::new(
        500,
        "Internal Server Error",
        "internal server error",
        Whose::Ours,
    );
    /// The worker died while it served the request.
    pub(crate) const WORKER_LOST: Self = Self::new(
        502,
        "Bad Gateway",
        "the worker serving this request ended",
        Whose::Ours,
    );
    /// The worker took too long.
    pub(crate) const EXPIRED: Self = Self::new(
        504,
        "Gateway Timeout",
        "the application did not answer in time",
        Whose::Ours,
    );

    /// More to do than can be done.
    pub(crate) const fn overload(retry_after: Duration) -> Self {
        let message = "all workers are busy";
        let refusal = Self::new(503, "Service Unavailable", message, Whose::Ours);
        Self {
            retry_after: Some(retry_after),
            ..refusal
        }
    }

    /// The same is to be asked for by https, with the same method (RFC 9110 section 15.4.9).
    pub(crate) const fn to_https(port: u16) -> Self {
        let message = "this is served by https";
        let refusal = Self::new(308, "Permanent Redirect", message, Whose::Ours);
        Self {
            location: Some(port),
            ..refusal
        }
    }

    /// A rule of the protocol was broken.
    pub(crate) const fn of_fault(fault: PeerFault) -> Self {
        let whose = match fault {
            PeerFault::TruncatedHead | PeerFault::TruncatedBody => Whose::PeerLeft,
            _ => Whose::Peer,
        };
        Self::new(fault.status(), fault.reason(), fault.message(), whose)
    }

    /// A rule of the WebSocket handshake was broken.
    pub(crate) const fn of_handshake(fault: HandshakeFault) -> Self {
        let (status, message) = (fault.status(), fault.message());
        if status == 426 {
            let refusal = Self::new(status, "Upgrade Required", message, Whose::Peer);
            Self {
                // RFC 9110 section 15.5.22, RFC 6455 section 4.4.
                headers: &[("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")],
                ..refusal
            }
        } else {
            Self::new(status, "Bad Request", message, Whose::Peer)
        }
    }
}
