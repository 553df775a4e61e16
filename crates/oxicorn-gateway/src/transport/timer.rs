//! Timers of the gateway's thread.
//!
//! Little here waits for a time, and seldom. A runtime that has timers of its own looks after them whenever it
//! looks at its sockets, twice for a request; so the runtime has none, and ours share one timerfd, which is one
//! more socket to it and costs nothing until it rings.
//!
//! Theory of operation: a [`Sleep`] that is waited for has its deadline and its waker in this thread's table,
//! which keeps the descriptor set to the earliest deadline. When it rings, the table's task takes out and wakes
//! who is due; whoever ends otherwise takes itself out. The descriptor may ring too early (for one that was put
//! off, or is gone), never too late.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use oxicorn_os::time::monotonic;
use oxicorn_os::timerfd;
use tokio::task::spawn_local;

use crate::transport::readiness::{Watched, watch};

/// Deadlines are rounded up to whole ones, so that those near each other ring together.
const GRAIN: u64 = 1_000_000;

thread_local! {
    static TABLE: RefCell<Option<Table>> = const { RefCell::new(None) };
}

/// Who is waiting: a handful at most.
#[derive(Debug)]
struct Table {
    clock: Watched,
    /// When the descriptor rings.
    set: Option<Duration>,
    waiting: Vec<Waiting>,
    entered: u64,
}

#[derive(Debug)]
struct Waiting {
    id: u64,
    deadline: Duration,
    waker: Waker,
}

/// Ends at a time. Nothing else wakes it: it is to be used on a thread that has called [`start`].
#[derive(Debug)]
#[must_use = "it waits when it is polled"]
pub(crate) struct Sleep {
    deadline: Duration,
    /// Its place in the table, if it ever had one.
    id: Option<u64>,
}

/// The time was over before the future was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Elapsed;

impl From<Elapsed> for io::Error {
    fn from(_: Elapsed) -> Self {
        io::ErrorKind::TimedOut.into()
    }
}

/// Gives this thread its table; within its runtime.
pub(crate) fn start() -> io::Result<()> {
    let table = Table {
        clock: watch(timerfd::create()?)?,
        set: None,
        waiting: Vec::new(),
        entered: 0,
    };
    TABLE.set(Some(table));
    spawn_local(poll_fn(poll_table));
    Ok(())
}

/// Takes it away. What still waits waits for ever.
pub(crate) fn stop() {
    drop(TABLE.take());
}

/// Ends after `length`.
pub(crate) fn sleep(length: Duration) -> Sleep {
    Sleep::new(length)
}

/// What `future` gives, if it does so within `limit`.
pub(crate) async fn timeout<F: Future>(limit: Duration, future: F) -> Result<F::Output, Elapsed> {
    let (mut future, mut limit) = (pin!(future), sleep(limit));
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Ok(output)),
        Poll::Pending => Pin::new(&mut limit).poll(cx).map(|()| Err(Elapsed)),
    })
    .await
}

impl Sleep {
    /// Ends after `length`.
    pub(crate) fn new(length: Duration) -> Self {
        Self {
            deadline: after(length),
            id: None,
        }
    }

    /// Ends at this time of the monotonic clock.
    pub(crate) fn until(time: Duration) -> Self {
        Self {
            deadline: rounded(time),
            id: None,
        }
    }

    /// Ends `length` from now instead. Who waits for it goes on waiting.
    pub(crate) fn reset(&mut self, length: Duration) {
        self.deadline = after(length);
        with_table(|table| table.put_off(self.id, self.deadline));
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if monotonic() >= self.deadline {
            with_table(|table| table.leave(self.id));
            self.id = None;
            return Poll::Ready(());
        }
        self.id = with_table(|table| table.enter(self.id, self.deadline, cx.waker()));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        with_table(|table| table.leave(self.id));
    }
}

impl Table {
    /// Enters who waits, or renews its entry; says where.
    fn enter(&mut self, id: Option<u64>, deadline: Duration, waker: &Waker) -> u64 {
        let waiting = self.waiting.iter_mut().find(|one| Some(one.id) == id);
        let id = if let Some(one) = waiting {
            one.deadline = deadline;
            one.waker.clone_from(waker);
            one.id
        } else {
            self.entered += 1;
            self.waiting.push(Waiting {
                id: self.entered,
                deadline,
                waker: waker.clone(),
            });
            self.entered
        };
        self.set_earliest();
        id
    }

    /// Another deadline for an entry. One that was due is not there any more: it is being woken, and
    /// enters itself again.
    fn put_off(&mut self, id: Option<u64>, deadline: Duration) {
        let waiting = self.waiting.iter_mut().find(|one| Some(one.id) == id);
        if let Some(one) = waiting {
            one.deadline = deadline;
            self.set_earliest();
        }
    }

    fn leave(&mut self, id: Option<u64>) {
        self.waiting.retain(|one| Some(one.id) != id);
    }

    /// Sees to it that the descriptor rings for the earliest.
    fn set_earliest(&mut self) {
        let earliest = self.waiting.iter().map(|one| one.deadline).min();
        if let Some(earliest) = earliest
            && self.set.is_none_or(|set| earliest < set)
            // A descriptor of our own, and a time that can be: there is nothing to go wrong.
            && timerfd::set(&self.clock, earliest).is_ok()
        {
            self.set = Some(earliest);
        }
    }

    /// Takes out who is due when the descriptor has rung.
    fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Vec<Waker>>> {
        loop {
            let mut guard = match self.clock.poll_read_ready(cx) {
                Poll::Ready(guard) => guard?,
                Poll::Pending => return Poll::Pending,
            };
            let has_rung = timerfd::silence(guard.get_inner());
            guard.clear_ready();
            if has_rung {
                break;
            }
        }
        self.set = None;
        let now = monotonic();
        let due = self.waiting.extract_if(.., |one| one.deadline <= now);
        let due = due.map(|one| one.waker).collect();
        self.set_earliest();
        Poll::Ready(Ok(due))
    }
}

/// The table's task.
fn poll_table(cx: &mut Context<'_>) -> Poll<()> {
    loop {
        match with_table(|table| table.poll_due(cx)) {
            Some(Poll::Ready(Ok(due))) => due.iter().for_each(Waker::wake_by_ref),
            Some(Poll::Pending) => return Poll::Pending,
            // The runtime ends, or the table is gone.
            Some(Poll::Ready(Err(_))) | None => return Poll::Ready(()),
        }
    }
}

/// `None`: there is no table (any more).
fn with_table<T>(work: impl FnOnce(&mut Table) -> T) -> Option<T> {
    let work = |table: &RefCell<Option<Table>>| table.borrow_mut().as_mut().map(work);
    TABLE.try_with(work).ok().flatten()
}

/// No time at all is over at once.
fn after(length: Duration) -> Duration {
    let now = monotonic();
    if length.is_zero() {
        now
    } else {
        rounded(now.saturating_add(length))
    }
}

fn rounded(time: Duration) -> Duration {
    let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX - GRAIN);
    Duration::from_nanos(nanoseconds.next_multiple_of(GRAIN))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    /// Beyond any test.
    const LONG: Duration = Duration::from_hours(1);
    const SHORT: Duration = Duration::from_millis(2);

    fn run<F: Future + 'static>(future: F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build_local(tokio::runtime::LocalOptions::default());
        let output = runtime.expect("a runtime").block_on(async {
            start().expect("a descriptor");
            future.await
        });
        stop();
        output
    }

    fn waiting() -> usize {
        with_table(|table| table.waiting.len()).unwrap_or_default()
    }

    #[test]
    fn sleeps_end_when_their_time_has_come_and_leave_nothing_behind() {
        run(async {
            let sleeper = |length: u64| {
                spawn_local(async move {
                    let due = monotonic() + Duration::from_millis(length);
                    sleep(Duration::from_millis(length)).await;
                    assert!(monotonic() >= due);
                })
            };
            for task in [30, 1, 60].map(sleeper) {
                task.await.expect("no panic");
            }
            assert_eq!(waiting(), 0);
        });
    }

    #[test]
    fn who_waits_goes_on_waiting_when_the_time_is_changed() {
        run(async {
            let place = Rc::new(RefCell::new(sleep(LONG)));
            let (polled, sleeping) = (Rc::new(Cell::new(false)), Rc::clone(&place));
            let seen = Rc::clone(&polled);
            let task = spawn_local(poll_fn(move |cx| {
                seen.set(true);
                Pin::new(&mut *sleeping.borrow_mut()).poll(cx)
            }));
            while !polled.get() {
                tokio::task::yield_now().await;
            }
            place.borrow_mut().reset(SHORT);
            task.await.expect("it was woken");
        });
    }

    #[test]
    fn what_was_put_off_does_not_keep_others_waiting() {
        run(async {
            let mut first = sleep(LONG);
            poll_fn(|cx| {
                assert!(Pin::new(&mut first).poll(cx).is_pending());
                Poll::Ready(())
            })
            .await;
            // The descriptor stays set to the earlier time, at which nobody is due.
            first.reset(SHORT);
            first.reset(LONG);
            sleep(2 * SHORT).await;
            assert_eq!(waiting(), 1);
            drop(first);
            assert_eq!(waiting(), 0);
        });
    }

    #[test]
    fn a_timeout_gives_what_came_first() {
        run(async {
            assert_eq!(timeout(LONG, async { 7 }).await, Ok(7));
            let never = std::future::pending::<()>();
            assert_eq!(timeout(SHORT, never).await, Err(Elapsed));
            assert_eq!(
                timeout(Duration::ZERO, std::future::pending::<()>()).await,
                Err(Elapsed)
            );
            assert_eq!(waiting(), 0);
        });
    }

    #[test]
    fn without_a_table_nothing_panics() {
        let mut cx = Context::from_waker(Waker::noop());
        let mut one = sleep(LONG);
        assert!(Pin::new(&mut one).poll(&mut cx).is_pending());
        one.reset(Duration::ZERO);
        assert!(Pin::new(&mut one).poll(&mut cx).is_ready());
    }
}
