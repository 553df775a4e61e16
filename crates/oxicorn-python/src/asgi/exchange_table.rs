//! The table of exchanges, of either kind.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use oxicorn_link::StreamId;
use oxicorn_link::wire::EventKind;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::exchange::{HttpExchange, Verdict};
use super::waiting::Waiters;
use super::websocket::WebSocketExchange;

/// One exchange of any kind.
pub(crate) enum Exchange {
    Http(Py<HttpExchange>),
    WebSocket(Py<WebSocketExchange>),
}

impl Exchange {
    pub(crate) fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::Http(exchange) => Self::Http(exchange.clone_ref(py)),
            Self::WebSocket(exchange) => Self::WebSocket(exchange.clone_ref(py)),
        }
    }

    pub(crate) fn handle(
        &self,
        py: Python<'_>,
        kind: EventKind,
        bits: u8,
        payload: &[u8],
    ) -> PyResult<()> {
        match self {
            Self::Http(exchange) => HttpExchange::handle(exchange.bind(py), kind, bits, payload),
            Self::WebSocket(exchange) => {
                WebSocketExchange::handle(exchange.bind(py), kind, bits, payload)
            }
        }
    }

    pub(crate) fn cancel(&self, py: Python<'_>) -> PyResult<()> {
        match self {
            Self::Http(exchange) => HttpExchange::cancel(exchange.bind(py)),
            Self::WebSocket(exchange) => WebSocketExchange::cancel(exchange.bind(py)),
        }
    }

    pub(crate) fn check_gateway(&self, py: Python<'_>) -> PyResult<()> {
        match self {
            Self::Http(exchange) => HttpExchange::check_gateway(exchange.bind(py)),
            Self::WebSocket(exchange) => WebSocketExchange::check_gateway(exchange.bind(py)),
        }
    }

    pub(crate) fn stream(&self, py: Python<'_>) -> PyResult<StreamId> {
        match self {
            Self::Http(exchange) => Ok(exchange.bind(py).try_borrow()?.stream()),
            Self::WebSocket(exchange) => Ok(exchange.bind(py).try_borrow()?.stream()),
        }
    }

    /// The call has returned and nothing waits here any more.
    pub(crate) fn is_over(&self, py: Python<'_>) -> PyResult<bool> {
        match self {
            Self::Http(exchange) => Ok(exchange.bind(py).try_borrow()?.is_over()),
            Self::WebSocket(exchange) => Ok(exchange.bind(py).try_borrow()?.is_over()),
        }
    }

    /// Whether it was not the application that ended the exchange.
    pub(crate) fn is_gone(&self, py: Python<'_>) -> PyResult<bool> {
        match self {
            Self::Http(exchange) => Ok(exchange.bind(py).try_borrow()?.is_gone()),
            Self::WebSocket(exchange) => Ok(exchange.bind(py).try_borrow()?.is_gone()),
        }
    }

    pub(crate) fn set_task(&self, py: Python<'_>, task: Py<PyAny>) -> PyResult<()> {
        match self {
            Self::Http(exchange) => exchange.bind(py).try_borrow_mut()?.set_task(task),
            Self::WebSocket(exchange) => exchange.bind(py).try_borrow_mut()?.set_task(task),
        }
        Ok(())
    }

    /// The task of its call, and for how many seconds it has been going on, where that is known. `None`: it has none yet,
    /// or is at work on this very exchange.
    pub(crate) fn task(&self, py: Python<'_>) -> Option<(Py<PyAny>, Option<f64>)> {
        match self {
            Self::Http(exchange) => {
                let exchange = exchange.bind(py).try_borrow().ok()?;
                Some((exchange.task(py)?, Some(exchange.age().as_secs_f64())))
            }
            Self::WebSocket(exchange) => {
                let task = exchange.bind(py).try_borrow().ok()?.task(py)?;
                Some((task, None))
            }
        }
    }

    pub(crate) fn handle_returned(&self, py: Python<'_>) -> PyResult<(Verdict, Waiters)> {
        match self {
            Self::Http(exchange) => exchange.bind(py).try_borrow_mut()?.handle_returned(py),
            Self::WebSocket(exchange) => exchange.bind(py).try_borrow_mut()?.handle_returned(py),
        }
    }

    pub(crate) fn handle_raised(&self, py: Python<'_>) -> PyResult<Waiters> {
        match self {
            Self::Http(exchange) => exchange.bind(py).try_borrow_mut()?.handle_raised(py),
            Self::WebSocket(exchange) => exchange.bind(py).try_borrow_mut()?.handle_raised(py),
        }
    }

    /// A message of `receive()`, or a future that is done when it is worth looking again.
    pub(crate) fn poll_receive<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<Result<Bound<'py, PyDict>, Py<PyAny>>> {
        match self {
            Self::Http(exchange) => exchange.bind(py).try_borrow_mut()?.poll_receive(py),
            Self::WebSocket(exchange) => exchange.bind(py).try_borrow_mut()?.poll_receive(py),
        }
    }

    /// `None` if all of a `send()` has left, or a future that is done when it is worth looking again.
    pub(crate) fn poll_sent(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        match self {
            Self::Http(exchange) => exchange.bind(py).try_borrow_mut()?.poll_sent(py),
            Self::WebSocket(exchange) => exchange.bind(py).try_borrow_mut()?.poll_sent(py),
        }
    }

    /// The object whose methods are `receive` and `send`.
    pub(crate) fn py_object<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        match self {
            Self::Http(exchange) => exchange.bind(py).clone().into_any(),
            Self::WebSocket(exchange) => exchange.bind(py).clone().into_any(),
        }
    }
}

/// Ids are well mixed where it matters: in their lowest bits.
#[derive(Default)]
pub(crate) struct StreamHasher(u64);

impl Hasher for StreamHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        // Fibonacci hashing: the table looks at the upper bits too.
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// Exchanges by the stream that messages about them name.
pub(crate) type ExchangeTable = HashMap<StreamId, Exchange, BuildHasherDefault<StreamHasher>>;
