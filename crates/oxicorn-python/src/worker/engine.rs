//! How a worker takes its requests, and what it answers them with.

use std::sync::Arc;

use oxicorn_link::{WaitMode, WorkerParts};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::Serving;
use super::direct::Direct;
use super::link::WorkerLink;
use super::loop_link::LoopLink;
use super::pool::Pool;
use super::responder::Responder;

/// How a worker takes its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WorkerKind {
    /// Threads that wait for them, so many.
    Threads(usize),
    /// An event loop.
    Loop,
    /// A hub of greenlets.
    Hub,
    /// Not at all: the class accepts connections itself.
    Direct,
}

impl WorkerKind {
    /// How it is woken.
    pub(super) const fn wait_mode(self) -> WaitMode {
        match self {
            Self::Threads(_) | Self::Direct => WaitMode::Futex,
            Self::Loop | Self::Hub => WaitMode::Doorbell,
        }
    }
}

/// Who takes the requests. What serves them is made by Python, of what is here: a server of `wsgi`, `gevent` or `asgi`.
pub(super) enum Engine {
    Threads {
        pool: Arc<Pool>,
        responder: Arc<Responder>,
    },
    Loop(Arc<LoopLink>),
    Hub {
        link: Arc<LoopLink>,
        responder: Arc<Responder>,
    },
    Direct(Arc<Direct>),
}

impl Engine {
    pub(super) fn new(kind: WorkerKind, parts: WorkerParts) -> PyResult<Self> {
        Ok(match kind {
            WorkerKind::Loop => Self::Loop(Arc::new(LoopLink::new(parts)?)),
            WorkerKind::Direct => Self::Direct(Arc::new(Direct::new(parts))),
            WorkerKind::Hub => {
                let link = LoopLink::new(parts)?;
                let responder = Arc::new(Responder::new(link.shared()));
                let link = Arc::new(link);
                Self::Hub { link, responder }
            }
            WorkerKind::Threads(count) => {
                let link = WorkerLink::new(parts.events, parts.responses, parts.descriptors);
                Self::Threads {
                    pool: Arc::new(Pool::new(parts.requests, parts.waker, count)),
                    responder: Arc::new(Responder::new(Arc::new(link))),
                }
            }
        })
    }

    pub(super) fn serving(&self) -> Arc<dyn Serving> {
        match self {
            Self::Threads { pool, .. } => Arc::clone(pool) as _,
            Self::Loop(link) | Self::Hub { link, .. } => Arc::clone(link) as _,
            Self::Direct(direct) => Arc::clone(direct) as _,
        }
    }

    /// The pool of threads and what they answer with.
    pub(super) fn threads(&self) -> PyResult<(&Arc<Pool>, &Arc<Responder>)> {
        match self {
            Self::Threads { pool, responder } => Ok((pool, responder)),
            _ => Err(misfit("its requests are not taken by threads")),
        }
    }

    /// The link's end of a hub and what its greenlets answer with.
    pub(super) fn hub(&self) -> PyResult<(&Arc<LoopLink>, &Arc<Responder>)> {
        match self {
            Self::Hub { link, responder } => Ok((link, responder)),
            _ => Err(misfit("it has no hub")),
        }
    }

    /// The link's end of an event loop.
    pub(super) fn event_loop(&self) -> PyResult<&Arc<LoopLink>> {
        match self {
            Self::Loop(link) => Ok(link),
            _ => Err(misfit("it has no event loop")),
        }
    }

    /// What threads and greenlets answer with.
    pub(super) fn responder(&self) -> Option<&Arc<Responder>> {
        match self {
            Self::Threads { responder, .. } | Self::Hub { responder, .. } => Some(responder),
            Self::Loop(_) | Self::Direct(_) => None,
        }
    }

    pub(super) fn is_alive(&self) -> bool {
        match self {
            Self::Threads { pool, .. } => pool.is_alive(),
            Self::Loop(link) | Self::Hub { link, .. } => link.is_alive(),
            Self::Direct(direct) => direct.is_alive(),
        }
    }

    pub(super) fn claimed(&self) -> u64 {
        match self {
            Self::Threads { pool, .. } => pool.claimed(),
            Self::Loop(link) | Self::Hub { link, .. } => link.claimed(),
            Self::Direct(_) => 0,
        }
    }
}

fn misfit(reason: &str) -> PyErr {
    PyRuntimeError::new_err(format!("the worker cannot be served like this: {reason}"))
}
