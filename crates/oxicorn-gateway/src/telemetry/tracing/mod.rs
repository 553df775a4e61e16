//! Names of requests, and their traces.
//!
//! Decides which id a request has, which trace it belongs to and whether its span is recorded, and what of that the
//! application, the client, the logs and a collector are told. The grammar is `oxicorn-proto`'s.
//!
//! A request has a [`RequestTrace`] only where some of it is switched on: where nothing is, a request costs one
//! comparison with none. The application is told by headers, in place of those that came: so they reach WSGI's environ,
//! ASGI's scope and every library that knows them.
//!
//! ```text
//!   read: begin() --> place: headers(), given() --> apply: answered(), response headers --> ending: write_span()
//!                                                                                                 |
//!                                                                    exporter's thread <-- batch -+
//! ```

pub(crate) mod exporter;
mod ids;
mod protobuf;
mod server_timing;
pub(crate) mod span;

use std::rc::Rc;
use std::time::Duration;

use oxicorn_link::wire::HeaderList;
use oxicorn_proto::message::{Header, RequestHead};
use oxicorn_proto::trace_context::{self, TRACEPARENT, TRACEPARENT_LEN, TRACESTATE, TraceParent};
use oxicorn_proto::{request_id, request_start};

pub use ids::RequestIds;
pub(crate) use server_timing::ServerTiming;
pub(crate) use span::Facts;

use crate::config::tracing::{TraceContext, Tracing};

/// Length of a made id.
const NEW_ID: usize = 36;

/// One reload's settings, ready for use.
#[derive(Debug)]
pub(crate) struct Rules {
    id: Option<IdRules>,
    request_start: bool,
    context: TraceContext,
    follows_parent: bool,
    /// Trace ids whose right half is below it are sampled.
    sampled_below: u128,
    exports: bool,
}

#[derive(Debug)]
struct IdRules {
    header: Box<[u8]>,
    respond: bool,
}

impl Rules {
    /// `None`: requests have neither ids nor traces, and nothing is looked for in them.
    pub(crate) fn new(settings: &Tracing) -> Option<Rc<Self>> {
        let is_on = settings.request_id.is_some()
            || settings.request_start
            || settings.context != TraceContext::Off;
        is_on.then(|| {
            Rc::new(Self {
                id: settings.request_id.as_ref().map(|wanted| IdRules {
                    header: wanted.header.as_bytes().into(),
                    respond: wanted.respond,
                }),
                request_start: settings.request_start,
                context: settings.context,
                follows_parent: settings.sampler.follows_parent,
                sampled_below: part_of_ids(settings.sampler.ratio),
                exports: settings.export.is_some(),
            })
        })
    }

    fn is_id_header(&self, name: &[u8]) -> bool {
        let id = self.id.as_ref();
        id.is_some_and(|id| is_same_variable(name, &id.header))
    }

    fn is_context_header(&self, name: &[u8]) -> bool {
        let is_one = |known| is_same_variable(name, known);
        self.context != TraceContext::Off && (is_one(TRACEPARENT) || is_one(TRACESTATE))
    }

    /// Whether the application is told this header by us, or not at all.
    fn replaces(&self, name: &[u8]) -> bool {
        self.is_id_header(name) || self.is_context_header(name)
    }
}

/// OpenTelemetry's `TraceIdRatioBased`: an id is sampled by its right half, so that all who ask decide alike.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a product of two positive numbers, of which one is at most 2^64"
)]
fn part_of_ids(ratio: f64) -> u128 {
    const ALL: f64 = 18_446_744_073_709_551_616.0;
    (ratio.clamp(0.0, 1.0) * ALL).round() as u128
}

/// Whether two names become one in an environ, where case and the kind of dash are lost.
fn is_same_variable(one: &[u8], other: &[u8]) -> bool {
    let folded = |byte: &u8| match byte {
        b'_' => b'-',
        byte => byte.to_ascii_lowercase(),
    };
    one.len() == other.len() && one.iter().map(folded).eq(other.iter().map(folded))
}

/// What is known of the way of one request, beside the request.
#[derive(Debug)]
pub(crate) struct RequestTrace {
    rules: Rc<Rules>,
    id: Box<[u8]>,
    context: Option<Context>,
    /// How long the request was with proxies.
    pub(crate) proxy_time: Option<Duration>,
    times: Times,
}

/// When what happened; `None`: it did not.
#[derive(Debug, Default, Clone, Copy)]
struct Times {
    /// The request was complete.
    submitted: Option<Duration>,
    /// A worker was given it.
    given: Option<Duration>,
    /// The head of its response came.
    answered: Option<Duration>,
    /// All of its response came.
    completed: Option<Duration>,
}

/// The request's place in a trace.
#[derive(Debug)]
struct Context {
    /// What the application is told: its parent is our span, where one is recorded.
    told: TraceParent,
    text: [u8; TRACEPARENT_LEN],
    state: Box<[u8]>,
    /// The caller's span.
    parent: Option<[u8; 8]>,
    recorded: bool,
}

/// What a request says of its way.
#[derive(Default)]
struct Said<'a> {
    id: Option<&'a [u8]>,
    ids: u32,
    parent: Option<&'a [u8]>,
    parents: u32,
    states: Vec<&'a [u8]>,
    start: Option<&'a [u8]>,
}

impl<'a> Said<'a> {
    fn by(head: &RequestHead<'a>, rules: &Rules) -> Self {
        let mut said = Self::default();
        for Header { name, value } in head.headers() {
            if rules.is_id_header(name) {
                said.id = Some(value);
                said.ids += 1;
            } else if rules.is_context_header(name) {
                if is_same_variable(name, TRACEPARENT) {
                    said.parent = Some(value);
                    said.parents += 1;
                } else {
                    said.states.push(value);
                }
            } else if rules.request_start && said.start.is_none() {
                let is_name = |known: &[u8]| name.eq_ignore_ascii_case(known);
                let is_start = request_start::NAMES.into_iter().any(is_name);
                said.start = is_start.then_some(value);
            }
        }
        said
    }
}

impl RequestTrace {
    /// Looks at a request: what it says, and whether it is `trusted` to say so. `random` gives bytes for ids, `now` is
    /// since 1970.
    pub(crate) fn begin(
        rules: &Rc<Rules>,
        head: &RequestHead<'_>,
        trusted: bool,
        now: impl FnOnce() -> Duration,
        mut random: impl FnMut(&mut [u8]),
    ) -> Self {
        let said = Said::by(head, rules);
        let id = rules.id.as_ref().map(|_| {
            // Of several nobody knows which the others have taken.
            let theirs = said
                .id
                .filter(|id| trusted && said.ids == 1 && request_id::is_acceptable(id));
            theirs.map_or_else(|| new_id(&mut random), Into::into)
        });
        let started = said
            .start
            .filter(|_| trusted)
            .and_then(request_start::parse);
        Self {
            id: id.unwrap_or_default(),
            context: Context::of(rules, &said, trusted, &mut random),
            proxy_time: started.and_then(|started| request_start::wait(started, now())),
            times: Times::default(),
            rules: Rc::clone(rules),
        }
    }

    /// What the application is told in place of what came.
    fn headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let id = self
            .rules
            .id
            .as_ref()
            .map(|rules| (&*rules.header, &*self.id));
        let context = self.context.as_ref();
        let parent = context.map(|context| (TRACEPARENT, &context.text[..]));
        let state = context.map(|context| (TRACESTATE, &*context.state));
        let state = state.filter(|(_, state)| !state.is_empty());
        id.into_iter().chain(parent).chain(state)
    }

    /// All headers of a request as the application is told them.
    pub(crate) fn told_headers<'a>(
        &'a self,
        head: &RequestHead<'a>,
    ) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let came = head
            .headers()
            .filter(|header| !self.rules.replaces(header.name));
        came.map(|header| (header.name, header.value))
            .chain(self.headers())
    }

    /// The header for the client, where it is to know the id.
    pub(crate) fn response_header(&self) -> Option<(&[u8], &[u8])> {
        let rules = self.rules.id.as_ref().filter(|rules| rules.respond)?;
        Some((&rules.header, &self.id))
    }

    /// The id, where requests have one.
    pub(crate) fn id(&self) -> Option<&[u8]> {
        self.rules.id.is_some().then_some(&*self.id)
    }

    /// The id of the trace, where requests have one.
    pub(crate) fn trace_id(&self) -> Option<[u8; 32]> {
        self.context
            .as_ref()
            .map(|context| context.told.trace_id_text())
    }

    /// Whether there is a span of it to be exported.
    pub(crate) fn is_recorded(&self) -> bool {
        self.context
            .as_ref()
            .is_some_and(|context| context.recorded)
    }

    /// A worker was given the request, which was complete at `submitted`.
    pub(crate) fn note_given(&mut self, submitted: Duration, now: Duration) {
        self.times.submitted = Some(submitted);
        self.times.given = Some(now);
    }

    /// The head of the response came.
    pub(crate) fn note_answered(&mut self, now: Duration) {
        self.times.answered = Some(now);
    }

    /// The last of the response came: what remains is the client's reading.
    pub(crate) fn note_completed(&mut self, now: Duration) {
        self.times.completed = Some(now);
    }
}

/// The header with the id, where the client is to know it and the application has not said it itself.
pub(crate) fn id_for_response<'a>(
    trace: Option<&'a RequestTrace>,
    headers: &HeaderList<'_>,
) -> Option<(&'a [u8], &'a [u8])> {
    let header = trace?.response_header()?;
    let is_it = |(name, _): (&[u8], _)| name.eq_ignore_ascii_case(header.0);
    (!headers.iter().any(is_it)).then_some(header)
}

fn new_id(random: &mut impl FnMut(&mut [u8])) -> Box<[u8]> {
    let mut bytes = [0; 16];
    random(&mut bytes);
    let id: [u8; NEW_ID] = request_id::new(bytes);
    id.into()
}

impl Context {
    fn of(
        rules: &Rules,
        said: &Said<'_>,
        trusted: bool,
        random: &mut impl FnMut(&mut [u8]),
    ) -> Option<Self> {
        let believed = match rules.context {
            TraceContext::Off => return None,
            TraceContext::Any => true,
            TraceContext::Trusted => trusted,
        };
        let parent = said.parent.filter(|_| believed && said.parents == 1);
        Some(match parent.and_then(TraceParent::parse) {
            Some(caller) => {
                let state = trace_context::state(said.states.iter().copied());
                Self::continued(rules, caller, state.unwrap_or_default(), random)
            }
            None => Self::begun(rules, random),
        })
    }

    /// Where nothing is recorded here the caller stays the parent, as if we were not there.
    fn continued(
        rules: &Rules,
        caller: TraceParent,
        state: Vec<u8>,
        random: &mut impl FnMut(&mut [u8]),
    ) -> Self {
        let sampled = if rules.follows_parent {
            caller.is_sampled()
        } else {
            is_sampled(rules, &caller.trace_id)
        };
        let mut told = caller;
        told.set_sampled(sampled);
        let recorded = rules.exports && sampled;
        if recorded {
            fill_id(&mut told.parent_id, random);
        }
        Self {
            text: told.encode(),
            told,
            state: state.into(),
            parent: Some(caller.parent_id),
            recorded,
        }
    }

    fn begun(rules: &Rules, random: &mut impl FnMut(&mut [u8])) -> Self {
        let mut told = TraceParent {
            trace_id: [0; 16],
            parent_id: [0; 8],
            flags: TraceParent::RANDOM,
        };
        fill_id(&mut told.trace_id, random);
        fill_id(&mut told.parent_id, random);
        let sampled = is_sampled(rules, &told.trace_id);
        told.set_sampled(sampled);
        Self {
            text: told.encode(),
            told,
            state: Box::default(),
            parent: None,
            recorded: rules.exports && sampled,
        }
    }
}

fn is_sampled(rules: &Rules, trace_id: &[u8; 16]) -> bool {
    let right = trace_id.last_chunk().copied();
    u128::from(u64::from_be_bytes(right.unwrap_or_default())) < rules.sampled_below
}

/// Ids of zeros are no ids.
fn fill_id(id: &mut [u8], random: &mut impl FnMut(&mut [u8])) {
    random(id);
    if id.iter().all(|&byte| byte == 0) {
        id[0] = 1;
    }
}

#[cfg(test)]
mod tests;
