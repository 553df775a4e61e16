//! The dashboard: one page beside metrics and probes, and a stream of what it shows.
//!
//! | decides | module |
//! |---|---|
//! | the page and what a browser may do with it | `page` |
//! | who may see or change something | `access` |
//! | which path is what | `routes` |
//! | the figures of each second, and the last ten minutes of them | `points` |
//! | workers and requests as they are now | `state` |
//! | who watches, and what they are sent | `stream` |
//!
//! Everything in it is known to the gateway: the application is asked nothing. Where it is switched on, a second costs one
//! reading of the scoreboard; where it is watched, also a look at the workers and the requests. Requests cost nothing.
//! A viewer has one message under way, so that one who does not read costs a buffer of the kernel's, and is let go of.

mod access;
mod page;
mod points;
mod routes;
mod state;
mod stream;

use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use oxicorn_link::log_tail::LogTail;
use oxicorn_os::time::monotonic;
use tokio::sync::{oneshot, watch};

use self::points::Points;
use crate::gateway::{Gateway, with};
use crate::transport::timer::Sleep;

pub(super) use routes::Routed;

/// How often figures are taken.
const SECOND: Duration = Duration::from_secs(1);

/// What the dashboard is made with.
#[derive(Debug)]
pub struct DashboardSetup {
    /// What viewers must know; none: whoever reaches the listener may look, and nobody may change anything.
    pub token: Option<String>,
    /// The memory file of the last warnings (`oxicorn_link::log_tail`).
    pub log_tail: OwnedFd,
}

/// The dashboard of this gateway.
#[derive(Debug)]
pub(crate) struct Dashboard {
    token: Option<String>,
    tail: LogTail,
    points: RefCell<Points>,
    /// Workers and requests, as JSON; made where somebody watches.
    state: RefCell<Rc<str>>,
    /// How many times figures were taken: viewers wait for the next.
    taken: watch::Sender<u64>,
    viewers: Cell<u32>,
    stacks: RefCell<Stacks>,
}

/// Whose stacks were asked for, and who waits for them.
#[derive(Debug, Default)]
struct Stacks {
    number: u64,
    waiting: Option<oneshot::Sender<String>>,
}

impl Dashboard {
    /// `None`: what it needs cannot be attached.
    pub(crate) fn new(setup: DashboardSetup) -> Option<Rc<Self>> {
        Some(Rc::new(Self {
            token: setup.token,
            tail: LogTail::attach(setup.log_tail).ok()?,
            points: RefCell::default(),
            state: RefCell::new("{}".into()),
            taken: watch::Sender::new(0),
            viewers: Cell::new(0),
            stacks: RefCell::default(),
        }))
    }

    /// The last warnings of all processes.
    pub(crate) const fn tail(&self) -> &LogTail {
        &self.tail
    }

    /// The arbiter's answer to [`FromGateway::WantStacks`](crate::control::FromGateway::WantStacks).
    pub(crate) fn take_stacks(&self, number: u64, text: String) {
        let mut stacks = self.stacks.borrow_mut();
        if stacks.number == number
            && let Some(waiting) = stacks.waiting.take()
        {
            // Who asked may have left.
            let _ = waiting.send(text);
        }
    }

    fn take_figures(&self, gateway: &mut Gateway) {
        gateway.clock.tick();
        gateway.set_gauges(gateway.clock.now());
        self.points.borrow_mut().take(gateway);
        if self.viewers.get() > 0 {
            *self.state.borrow_mut() = gateway.dashboard_state().into();
        }
        self.taken.send_modify(|taken| *taken += 1);
    }
}

/// The task that takes the figures.
pub(crate) async fn take_figures_for_ever(dashboard: Rc<Dashboard>) {
    let mut due = monotonic();
    loop {
        with(|gateway| dashboard.take_figures(gateway));
        // What was missed is not made up for.
        due = (due + SECOND).max(monotonic());
        Sleep::until(due).await;
    }
}
