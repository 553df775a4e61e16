//! How a WebSocket ends, from either side, and what the gateway is told of it.

use std::sync::Arc;

use oxicorn_link::wire::{self, AbortReason, ResponseKind, flags};
use oxicorn_proto::websocket::CloseCode;
use pyo3::intern;
use pyo3::prelude::*;

use super::{State, WebSocketExchange};
use crate::asgi::exchange::Verdict;
use crate::asgi::head::Head;
use crate::asgi::waiting::Waiters;

impl WebSocketExchange {
    /// The client has closed, or broken a rule. The application is told behind the messages that came
    /// before; what it still has to say to them goes before the answer.
    pub(super) fn handle_client_close(
        &mut self,
        py: Python<'_>,
        ending: (u16, String),
    ) -> PyResult<()> {
        self.ended.get_or_insert(ending);
        self.incoming.drop_partial();
        // After a close of the application's own, that is the answer.
        self.unanswered = self.state == State::Open && !self.gone && !self.returned;
        if self.incoming.is_empty() && !self.busy {
            // Nothing is being answered, and who only sends would not learn of it otherwise.
            return self.answer_close(py);
        }
        Ok(())
    }

    /// The client may have the answer to its close, behind everything that was sent.
    pub(super) fn answer_close(&mut self, py: Python<'_>) -> PyResult<()> {
        if !std::mem::take(&mut self.unanswered) {
            return Ok(());
        }
        self.gone = true;
        let shared = Arc::clone(&self.shared);
        let code = self
            .ended
            .as_ref()
            .map_or(CloseCode::NORMAL.0, |(code, _)| *code);
        let ending = (code, String::new());
        self.outgoing
            .close(py, &shared.link, self.stream, ending, false)
            .map(drop)
    }

    /// It is over, and the application did not end it: it learns that from `receive` and `send`, and is
    /// cancelled if it does not end by itself.
    pub(super) fn disconnect(
        slf: &Bound<'_, Self>,
        ending: (u16, String),
        at_once: bool,
    ) -> PyResult<()> {
        let py = slf.py();
        let mut this = slf.try_borrow_mut()?;
        let first = !std::mem::replace(&mut this.leaving, true);
        this.gone = true;
        this.unanswered = false;
        this.ended.get_or_insert(ending);
        this.incoming.drop_partial();
        this.outgoing.clear();
        if let Some(denial) = &mut this.denial {
            denial.drop_held();
        }
        if this.returned {
            return this.say_last(py);
        }
        let shared = Arc::clone(&this.shared);
        let (receivers, senders) = (this.receivers.take(), this.senders.take());
        drop(this);
        receivers.wake(py)?;
        senders.wake(py)?;
        if at_once {
            return Self::cancel(slf);
        }
        if shared.grace <= 0.0 {
            return Self::_cancel(slf);
        }
        if first {
            let cancel = slf.getattr(intern!(py, "_cancel"))?;
            slf.try_borrow_mut()?.cancel_timer.begin(&shared, &cancel)?;
        }
        Ok(())
    }

    /// Cancels the task, if it runs.
    pub(crate) fn cancel(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.try_borrow()?;
        let task = this.task.as_ref().map(|task| task.clone_ref(py));
        drop(this);
        if let Some(task) = task {
            task.bind(py).call_method0(intern!(py, "cancel"))?;
        }
        Ok(())
    }

    /// Whether the gateway that placed the request has died: nobody will ever say anything.
    pub(crate) fn check_gateway(slf: &Bound<'_, Self>) -> PyResult<()> {
        let lost = {
            let this = slf.try_borrow()?;
            !this.leaving && !this.shared.link.is_current(slf.py(), this.stream)
        };
        if lost {
            Self::disconnect(slf, (CloseCode::ABNORMAL.0, String::new()), false)?;
        }
        Ok(())
    }

    /// The application's call has returned: where it said nothing of an end, that is one.
    pub(crate) fn handle_returned(&mut self, py: Python<'_>) -> PyResult<(Verdict, Waiters)> {
        let shared = Arc::clone(&self.shared);
        self.task = None;
        self.cancel_timer.end(py)?;
        self.returned = true;
        self.unanswered = false;
        self.incoming.clear();
        let mut verdict = Verdict::Fine;
        if let Some(denial) = &mut self.denial {
            if !denial.is_complete() && !self.gone && shared.is_stopping() {
                denial.break_off(py, &shared.link)?;
            } else if !denial.is_complete() && !self.gone {
                denial.fail(py, &shared.link)?;
                verdict = Verdict::Broke("ASGI application returned without completing its denial");
            } else if self.gone {
                denial.abort(py, &shared.link, AbortReason::Silent)?;
            }
        } else if matches!(self.state, State::Connecting | State::Asked) && !self.gone {
            self.deny(py)?;
            let rule = "ASGI application returned without accepting or closing";
            verdict = Verdict::Broke(rule);
        } else {
            self.say_last(py)?;
        }
        Ok((verdict, self.receivers.take()))
    }

    /// The application's call has raised.
    pub(crate) fn handle_raised(&mut self, py: Python<'_>) -> PyResult<Waiters> {
        let shared = Arc::clone(&self.shared);
        self.task = None;
        self.cancel_timer.end(py)?;
        self.returned = true;
        self.unanswered = false;
        self.incoming.clear();
        match &mut self.denial {
            Some(denial) if self.gone => denial.abort(py, &shared.link, AbortReason::Silent)?,
            Some(denial) if denial.is_complete() => {}
            Some(denial) if shared.is_stopping() => denial.break_off(py, &shared.link)?,
            Some(denial) => denial.fail(py, &shared.link)?,
            None if self.gone || self.state == State::Closed => self.say_last(py)?,
            None if shared.is_stopping() => self.abort(py, AbortReason::Stopping)?,
            None => self.abort(py, AbortReason::ApplicationFailed)?,
        }
        Ok(self.receivers.take())
    }

    /// The last message of the exchange, behind everything that waits for the client.
    fn say_last(&mut self, py: Python<'_>) -> PyResult<()> {
        if self.over {
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        if let Some(denial) = &mut self.denial {
            return denial.abort(py, &shared.link, AbortReason::Silent);
        }
        if matches!(self.state, State::Connecting | State::Asked) {
            return self.abort(py, AbortReason::Silent);
        }
        let ending = (CloseCode::NORMAL.0, String::new());
        self.over = self
            .outgoing
            .close(py, &shared.link, self.stream, ending, true)?;
        Ok(())
    }

    fn abort(&mut self, py: Python<'_>, reason: AbortReason) -> PyResult<()> {
        self.over = true;
        let reason = wire::encode_abort(reason);
        let link = &self.shared.link;
        link.send(py, ResponseKind::Abort, self.stream, 0, &reason, &[])
    }

    /// The answer to a handshake that is not wanted.
    pub(super) fn deny(&mut self, py: Python<'_>) -> PyResult<()> {
        self.over = true;
        let head = Head::new(403, None)?;
        let link = &self.shared.link;
        let kind = ResponseKind::Head;
        link.send(py, kind, self.stream, flags::END, &head.bytes, &[])
    }
}
