//! Kinds, flags and reasons: the small numbers of the link's messages.

use crate::wire_enum::wire_enum;

/// Bits of a message header's `flags`. One set for all rings; which bit may stand beside which kind
/// is in the table at the head of [`wire`](crate::wire).
pub mod flags {
    /// Last message of its body (or of its WebSocket message).
    pub const END: u8 = 1;
    /// A descriptor with the same stream id was sent before this message.
    pub const HAS_DESCRIPTOR: u8 = 1 << 1;
    /// The payload did not fit into the ring: it is the whole content of the descriptor sent
    /// before, and a descriptor for the body follows that one if `HAS_DESCRIPTOR` is set too.
    pub const SPILLED: u8 = 1 << 2;
    /// The application wants the connection closed after this response.
    pub const CLOSE: u8 = 1 << 3;
    /// The WebSocket message is binary, not text.
    pub const BINARY: u8 = 1 << 4;
    /// The worker writes the access log's line of this request.
    pub const LOGGED: u8 = 1 << 5;
    /// The client waits for the answer to its close: the worker says when it may go, by a close of
    /// its own.
    pub const AWAITED: u8 = 1 << 6;
    /// The response is over and the application's call is not (`close()`, hooks): `CallEnd` follows.
    pub const GOES_ON: u8 = 1 << 7;
}

// Kind 0 is nobody's: cleared memory is not a message. 255 is the ring's own (padding).
wire_enum! {
    /// What a worker sends.
    ResponseKind {
        /// 1xx head, such as 103 Early Hints.
        Informational = 1,
        /// Head of the response, with the first piece of the body.
        Head = 2,
        /// More of the body.
        BodyChunk = 3,
        /// Trailers; ends the response.
        Trailers = 4,
        /// A piece of a file, whose descriptor was sent before, is the next piece of the body.
        File = 5,
        /// There will be no (more) response.
        Abort = 6,
        /// The application wants the client's socket.
        Hijack = 7,
        /// The gateway may send so many more bytes of the request's body.
        Credit = 8,
        /// The WebSocket handshake is accepted.
        WebSocketAccept = 9,
        /// A WebSocket message or a fragment of one.
        WebSocketMessage = 10,
        /// Close the WebSocket with this code.
        WebSocketClose = 11,
        /// The call of the application has ended, after a response that ended with `GOES_ON`.
        CallEnd = 12,
        /// The calls this worker has in hand of gateways that are gone.
        InHand = 13,
    }
}

wire_enum! {
    /// What the gateway sends to the worker about a request that was taken.
    EventKind {
        /// More of the request's body.
        BodyChunk = 1,
        /// End of the request's body, with trailers.
        BodyEnd = 2,
        /// The worker may send so many more bytes of the response's body.
        Credit = 3,
        /// Nobody waits for the response any more.
        Cancel = 4,
        /// The client's socket was sent; the payload is what had been read from it already.
        Hijacked = 5,
        /// A WebSocket message or a fragment of one.
        WebSocketMessage = 6,
        /// The WebSocket is closed.
        WebSocketClose = 7,
    }
}

wire_enum! {
    /// Why a worker gives an exchange up.
    AbortReason {
        /// The application raised, before or after the head (the gateway knows which).
        ApplicationFailed = 1,
        /// The body was shorter or longer than the head promised.
        LengthMismatch = 2,
        /// Nothing was run for this request: it may be given to another worker.
        Declined = 3,
        /// The response could not be put on the link (a head larger than a message may be).
        TooLarge = 4,
        /// The worker is told to stop at once.
        Interrupted = 5,
        /// The application wants the connection closed without a word (`StopIteration`, by which
        /// libraries that took the socket over used to end).
        Silent = 6,
        /// The worker ends, and broke the call off: no fault of the application's.
        Stopping = 7,
    }
}

wire_enum! {
    /// Why nobody waits for a response any more.
    CancelReason {
        /// The client went away.
        ClientGone = 1,
        /// The request was older than it may get.
        Expired = 2,
        /// The worker broke the protocol of this exchange.
        WorkerFault = 3,
        /// The server is stopping.
        Stopping = 4,
        /// The rest of the request's body did not come or was not well-formed.
        BodyFault = 5,
    }
}

#[cfg(test)]
mod tests {
    use super::{AbortReason, CancelReason, EventKind, ResponseKind};

    #[test]
    fn numbers_name_what_they_came_from_and_no_others() {
        for kind in ResponseKind::ALL {
            assert_eq!(ResponseKind::from_u8(kind.as_u8()), Some(*kind));
        }
        for kind in EventKind::ALL {
            assert_eq!(EventKind::from_u8(kind.as_u8()), Some(*kind));
        }
        for reason in AbortReason::ALL {
            assert_eq!(AbortReason::from_u8(reason.as_u8()), Some(*reason));
        }
        for reason in CancelReason::ALL {
            assert_eq!(CancelReason::from_u8(reason.as_u8()), Some(*reason));
        }
        assert_eq!(ResponseKind::from_u8(0), None);
        assert_eq!(EventKind::from_u8(255), None);
    }
}
