//! Which path of the dashboard is what.

use std::rc::Rc;
use std::time::Duration;

use oxicorn_proto::message::RequestHead;
use tokio::sync::oneshot;

use super::access::Denied;
use super::{Dashboard, page};
use crate::control::{DashboardOrder, FromGateway};
use crate::gateway::Gateway;
use crate::gateway::monitoring::answer::Answer;
use crate::transport::timer::timeout;

/// How long a worker's stacks are waited for.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is to be done about a request.
#[derive(Debug)]
pub(in crate::gateway::monitoring) enum Routed {
    Answer(Answer),
    /// The figures from now on.
    Stream(Rc<Dashboard>),
    /// Stacks that the arbiter will have.
    Stacks(oneshot::Receiver<String>),
}

impl Routed {
    /// What can be answered at once, or in a moment; else who wants the stream.
    pub(in crate::gateway::monitoring) async fn answer(self) -> Result<Answer, Rc<Dashboard>> {
        match self {
            Self::Answer(answer) => Ok(answer),
            Self::Stream(dashboard) => Err(dashboard),
            Self::Stacks(stacks) => Ok(match timeout(PATIENCE, stacks).await {
                Ok(Ok(text)) if !text.is_empty() => Answer::text(200, "OK", text),
                _ => Answer::text(503, "Service Unavailable", "the worker gave no stacks\n"),
            }),
        }
    }
}

impl Gateway {
    /// `None`: it is no path of the dashboard, or there is none.
    pub(in crate::gateway::monitoring) fn route_dashboard(
        &mut self,
        head: &RequestHead<'_>,
    ) -> Option<Routed> {
        let path = head.path().strip_prefix(b"/dashboard")?;
        let dashboard = Rc::clone(self.dashboard.as_ref()?);
        let methods: &[&[u8]] = match path {
            b"" | b"/" => &[b"GET", b"HEAD"],
            b"/reload" | b"/recycle" => &[b"POST"],
            _ => &[b"GET"],
        };
        if !methods.contains(&head.method()) {
            let text = match methods {
                [b"POST"] => "use POST\n",
                _ => "use GET\n",
            };
            return Some(Routed::Answer(Answer::text(
                405,
                "Method Not Allowed",
                text,
            )));
        }
        let routed = match path {
            b"" | b"/" => Ok(Routed::Answer(page_answer())),
            b"/stream" => (dashboard.allows_looking(head)).map(|()| dashboard.admit()),
            b"/stacks" => {
                (dashboard.allows_looking(head)).map(|()| self.ask_stacks(&dashboard, head))
            }
            b"/reload" => {
                (dashboard.allows_changing(head)).map(|()| self.order(DashboardOrder::Reload))
            }
            b"/recycle" => (dashboard.allows_changing(head)).map(|()| match asked_for(head) {
                Some((pid, _)) => self.order(DashboardOrder::Recycle { pid }),
                None => no_pid(),
            }),
            _ => return None,
        };
        Some(routed.unwrap_or_else(|denied| Routed::Answer(denial(denied))))
    }

    fn order(&mut self, order: DashboardOrder) -> Routed {
        self.control.send(&FromGateway::Dashboard(order));
        Routed::Answer(Answer::text(202, "Accepted", "ordered\n"))
    }

    /// One at a time: the workers have other things to do.
    fn ask_stacks(&mut self, dashboard: &Dashboard, head: &RequestHead<'_>) -> Routed {
        let Some((pid, request)) = asked_for(head) else {
            return no_pid();
        };
        let mut stacks = dashboard.stacks.borrow_mut();
        if (stacks.waiting.as_ref()).is_some_and(|waiting| !waiting.is_closed()) {
            let text = "somebody else is being shown stacks: try again\n";
            return Routed::Answer(Answer::text(503, "Service Unavailable", text));
        }
        let (sender, receiver) = oneshot::channel();
        stacks.number += 1;
        stacks.waiting = Some(sender);
        self.control.send(&FromGateway::WantStacks {
            token: stacks.number,
            pid,
            request,
        });
        Routed::Stacks(receiver)
    }
}

fn no_pid() -> Routed {
    Routed::Answer(Answer::text(400, "Bad Request", "which worker? ?pid=PID\n"))
}

/// `pid=PID`, and perhaps `&request=ID`.
fn asked_for(head: &RequestHead<'_>) -> Option<(u32, String)> {
    let query = std::str::from_utf8(head.query_string()).ok()?;
    let (pid, request) = query.split_once('&').unwrap_or((query, ""));
    let request = request.strip_prefix("request=").unwrap_or_default();
    let pid = pid.strip_prefix("pid=")?.parse().ok()?;
    Some((pid, request.to_owned()))
}

fn denial(denied: Denied) -> Answer {
    match denied {
        Denied::Token => Answer::text(401, "Unauthorized", denied.text()),
        Denied::Name | Denied::ReadOnly => Answer::text(403, "Forbidden", denied.text()),
    }
}

fn page_answer() -> Answer {
    match page::page() {
        Ok((body, policy)) => Answer {
            content_type: "text/html; charset=utf-8",
            policy: Some(policy),
            ..Answer::text(200, "OK", body)
        },
        Err(error) => {
            let text = format!("no random number for the page: {error}\n");
            Answer::text(503, "Service Unavailable", text)
        }
    }
}

impl Dashboard {
    /// Somebody wants to watch.
    fn admit(self: Rc<Self>) -> Routed {
        if self.viewers.get() >= super::stream::VIEWERS {
            let text = format!("{} viewers watch already\n", super::stream::VIEWERS);
            return Routed::Answer(Answer::text(503, "Service Unavailable", text));
        }
        Routed::Stream(self)
    }
}
