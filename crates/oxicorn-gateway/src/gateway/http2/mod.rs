//! HTTP/2: which connections speak it, and what follows from what happens on them.
//!
//! A connection that turns out to speak it becomes a *carrier*: it has no exchange of its own, and its streams are
//! connections beside it, each with an exchange as any other. So queue, workers, deadlines, refusals and logs know
//! nothing of streams. Carrier and stream know each other by key and serial.
//!
//! ```text
//!   Idle --"h2" by ALPN, or the preface--> carrier (Idle: no stream, Open: some)
//!                                           |  a request: a connection whose transport is the stream
//!                                           |  idle for too long, a bound passed, a stop: GOAWAY
//!                                           v
//!                                    Lingering or gone
//! ```

pub(crate) mod begin;
mod drive;
mod end;
