//! The ASGI bridge: a claimed request becomes a scope and a task of the event loop; what the
//! application sends becomes a response on the link (ASGI 3, HTTP part 2.5).
//!
//! Everything here runs on the event loop's thread, attached to the interpreter, in short turns that
//! never wait. The loop is Python's (asyncio's or uvloop's); it has the link's doorbell among its
//! descriptors and calls [`AsgiServer::wake`].
//!
//! ```text
//!   doorbell -> AsgiServer::wake -> events   -> HttpExchange: credit, body, disconnect -> wakes futures
//!                                -> requests -> scope, HttpExchange, Call -> asyncio.Task
//!   Task -> Call (drives the application's coroutine) -> await receive() | await send(event)
//!                                                          -> HttpExchange -> link
//! ```
//!
//! * An *exchange* ([`HttpExchange`]) is one request and its response: what came of the body, what is
//!   to be sent, who waits for either. Its bound methods are the application's `receive` and `send`.
//! * Awaitables ([`Receive`], [`Sending`]) complete at once where nothing has to be waited for; no
//!   future is made then. Otherwise they yield futures of the loop as any coroutine does.
//! * [`Call`] stands between the task and the application's coroutine, so that the end of the call is
//!   seen where it happens and needs no callback of the task.
//! * What is sent is held back until the loop turns, the response ends or enough has come together:
//!   pieces that wait together leave together, in one message, and a short response whose pieces come
//!   in one turn is a message with a known length.
//!
//! The link is [`LoopLink`](crate::worker::LoopLink): one thread, this one, uses it.
//!
//! There are two kinds of exchange, variants of [`exchange_table::Exchange`]: a request and its response, and a
//! WebSocket ([`WebSocketExchange`]). Which it is says the scheme of the request (`ws`, `wss`).

mod call;
mod cancel_timer;
mod event;
mod exchange;
mod exchange_table;
mod head;
mod report;
mod request_body;
mod response;
mod scope;
mod server;
mod shared;
mod tls;
mod waiting;
mod websocket;

pub(crate) use call::Call;
pub(crate) use exchange::{HttpExchange, Receive, Sending};
pub(crate) use server::AsgiServer;
pub(crate) use websocket::WebSocketExchange;
