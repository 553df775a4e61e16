//! Spans on their way to a collector, which may be slow, gone or hostile without any request noticing.
//!
//! Decides what happens when it does not keep up: a bounded number of spans waits, more are dropped and counted. The
//! event loop appends a span to a buffer and now and then hands that over; a thread posts it (OTLP over HTTP, protobuf),
//! tries again where the specification says that this may help, and gives up after a while. What a collector answers is
//! read up to a bound, and nothing in it is followed.

use std::error::Error;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::protobuf::{Fields, Value};
use super::span::Sender;
use crate::config::tracing::{Authorities, Export};

/// How long the end of the process waits for the last spans to be sent.
pub(crate) const FLUSH_LIMIT: Duration = Duration::from_secs(2);

/// How often a batch is posted before it is given up.
const ATTEMPTS: u32 = 5;

/// The pause after the first failure; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// No `Retry-After` is waited for longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How soon is asked what became of spans.
const LOOK: Duration = Duration::from_secs(1);

/// Bytes read of an answer.
const LONGEST_ANSWER: u64 = 64 * 1024;

/// The thread needs no more, but for the resolver of the C library.
const STACK: usize = 512 * 1024;

/// Bytes shown of what a collector says.
const SHOWN: usize = 200;

/// The event loop's end.
#[derive(Debug)]
pub(crate) struct Exporter {
    batch: Batch,
    /// When its first span came.
    since: Duration,
    most: usize,
    delay: Duration,
    batches: SyncSender<Batch>,
    shared: Arc<Shared>,
    /// Its other end goes with the thread.
    thread: Receiver<()>,
    /// Spans that were added and are not counted yet, neither as exported nor as dropped.
    underway: u64,
}

/// Spans as they are sent.
#[derive(Debug, Default)]
struct Batch {
    spans: usize,
    bytes: Vec<u8>,
}

#[derive(Debug, Default)]
struct Shared {
    exported: AtomicU64,
    dropped: AtomicU64,
    /// The thread has looked at what it needs to reach the collector.
    prepared: AtomicBool,
    state: Mutex<State>,
    stopping: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The process ends: nothing is tried twice.
    stopping: bool,
    news: Option<News>,
}

/// For the error log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News {
    Failing(String),
    Recovered,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic with the lock held leaves plain data behind; there is nothing to distrust.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopping(&self) -> bool {
        self.lock().stopping
    }

    /// Waits, unless the process ends.
    fn pause(&self, duration: Duration) {
        let state = self.lock();
        drop(
            self.stopping
                .wait_timeout_while(state, duration, |state| !state.stopping),
        );
    }

    fn settle(&self, spans: usize, rejected: u64) {
        let spans = spans as u64;
        let rejected = rejected.min(spans);
        self.dropped.fetch_add(rejected, Ordering::Release);
        self.exported.fetch_add(spans - rejected, Ordering::Release);
    }
}

impl Exporter {
    /// Starts the thread; nothing is resolved here.
    pub(crate) fn start(settings: &Export) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let most = settings.batch.max(1);
        let (batches, waiting) = sync_channel((settings.queue / most).max(1));
        let (lives, thread) = channel::<()>();
        let mut collector = Collector::new(settings, Arc::clone(&shared));
        thread::Builder::new()
            .name("spans".into())
            .stack_size(STACK)
            .spawn(move || {
                collector.prepare();
                for batch in waiting {
                    collector.export(&batch);
                }
                drop(lives);
            })?;
        Ok(Self {
            batch: Batch::default(),
            since: Duration::ZERO,
            most,
            delay: settings.delay,
            batches,
            shared,
            thread,
            underway: 0,
        })
    }

    /// Adds one span, which `write` appends, or drops it where too many wait.
    pub(crate) fn add(&mut self, now: Duration, write: impl FnOnce(&mut Vec<u8>)) {
        self.underway += 1;
        if self.batch.spans >= self.most && !self.hand_over() {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if self.batch.spans == 0 {
            self.since = now;
        }
        write(&mut self.batch.bytes);
        self.batch.spans += 1;
        if self.batch.spans >= self.most {
            self.hand_over();
        }
    }

    /// Hands over what has been gathered for long enough.
    pub(crate) fn tick(&mut self, now: Duration) {
        if self.batch.spans > 0 && now >= self.since + self.delay {
            self.hand_over();
        }
    }

    /// When a tick is needed: spans have been gathered for long enough, or something may have become of those that the
    /// thread has.
    pub(crate) fn next_look(&self, now: Duration) -> Option<Duration> {
        let is_busy = self.underway > self.batch.spans as u64
            || !self.shared.prepared.load(Ordering::Acquire);
        if is_busy || self.shared.lock().news.is_some() {
            return Some(now + LOOK);
        }
        (self.batch.spans > 0).then(|| self.since + self.delay)
    }

    /// `false`: the thread has as many as it may have.
    fn hand_over(&mut self) -> bool {
        if self.batch.spans == 0 {
            return true;
        }
        let batch = std::mem::take(&mut self.batch);
        let spans = batch.spans as u64;
        match self.batches.try_send(batch) {
            Ok(()) => true,
            Err(TrySendError::Full(batch)) => {
                self.batch = batch;
                false
            }
            // The thread is gone, which nothing but a bug of ours explains.
            Err(TrySendError::Disconnected(_)) => {
                self.shared.dropped.fetch_add(spans, Ordering::Relaxed);
                true
            }
        }
    }

    /// Spans that arrived at the collector and that did not, since the last time of asking.
    pub(crate) fn take_counts(&mut self) -> (u64, u64) {
        let take = |count: &AtomicU64| count.swap(0, Ordering::Acquire);
        let (exported, dropped) = (take(&self.shared.exported), take(&self.shared.dropped));
        self.underway -= exported + dropped;
        (exported, dropped)
    }

    pub(crate) fn take_news(&self) -> Option<News> {
        self.shared.lock().news.take()
    }

    /// Sends what is left, for as long as [`FLUSH_LIMIT`] allows. How many spans were exported, and how many were not:
    /// the last post ends at the same limit, so that its failure may have been heard of or not.
    pub(crate) fn finish(mut self) -> (u64, u64) {
        self.shared.lock().stopping = true;
        self.shared.stopping.notify_all();
        self.hand_over();
        // Closed, so that the thread ends behind the last one.
        self.batches = sync_channel(0).0;
        let _ = self.thread.recv_timeout(FLUSH_LIMIT);
        let (exported, dropped) = self.take_counts();
        (exported, dropped + self.underway)
    }
}

/// The thread's end: the collector as far as we know it.
#[derive(Debug)]
struct Collector {
    /// None: it is made by the next post, of certificates that are read anew.
    agent: Option<ureq::Agent>,
    endpoint: String,
    authorities: Option<Authorities>,
    headers: Vec<(String, String)>,
    timeout: Duration,
    sender: Sender,
    shared: Arc<Shared>,
    failing: bool,
}

/// What became of a post.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// All but so many spans were taken.
    Taken { rejected: u64, message: String },
    /// Another time it may be.
    Again {
        reason: String,
        after: Option<Duration>,
    },
    /// It will not be.
    Refused { reason: String },
}

impl Collector {
    fn new(settings: &Export, shared: Arc<Shared>) -> Self {
        Self {
            agent: None,
            endpoint: settings.endpoint.clone(),
            authorities: settings.authorities.clone(),
            headers: settings.headers.clone(),
            timeout: settings.timeout,
            sender: Sender::new(&settings.resource),
            shared,
            failing: false,
        }
    }

    /// Finds out before the first span whether there is what it takes to reach the collector.
    fn prepare(&mut self) {
        if let Err(reason) = self.agent() {
            self.tell(Some(reason));
        }
        self.shared.prepared.store(true, Ordering::Release);
    }

    fn agent(&mut self) -> Result<ureq::Agent, String> {
        if let Some(agent) = &self.agent {
            return Ok(agent.clone());
        }
        let mut config = ureq::Agent::config_builder()
            .timeout_global(Some(self.timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            // What the environment says of proxies is for the application's calls into the world.
            .proxy(None)
            .user_agent(concat!(
                "OTel-OTLP-Exporter-oxicorn/",
                env!("CARGO_PKG_VERSION")
            ));
        if self.endpoint.starts_with("https://") {
            config = config.tls_config(tls(self.authorities.as_ref())?);
        }
        let agent: ureq::Agent = config.build().into();
        Ok(self.agent.insert(agent).clone())
    }

    fn export(&mut self, batch: &Batch) {
        let body = self.sender.request(&batch.bytes);
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            let stopping = self.shared.is_stopping();
            match self.post(&body, stopping) {
                Outcome::Taken { rejected, message } => {
                    self.tell(match rejected {
                        0 => None,
                        _ => Some(format!(
                            "the collector does not take them: {rejected} spans were rejected: {message}"
                        )),
                    });
                    return self.shared.settle(batch.spans, rejected);
                }
                Outcome::Again { reason, after } => {
                    self.tell(Some(reason));
                    if attempt >= ATTEMPTS || stopping {
                        break;
                    }
                    self.shared.pause(after.unwrap_or(pause).min(LONGEST_PAUSE));
                    pause *= 2;
                }
                Outcome::Refused { reason } => {
                    self.tell(Some(reason));
                    break;
                }
            }
        }
        self.shared.settle(batch.spans, u64::MAX);
    }

    /// Says what changed: that it fails now, that it does not any more.
    fn tell(&mut self, failure: Option<String>) {
        let failing = failure.is_some();
        if failing != self.failing {
            self.failing = failing;
            let news = failure.map_or(News::Recovered, News::Failing);
            self.shared.lock().news = Some(news);
        }
    }

    fn post(&mut self, body: &[u8], stopping: bool) -> Outcome {
        let agent = match self.agent() {
            Ok(agent) => agent,
            Err(reason) => return Outcome::Refused { reason },
        };
        let mut request = agent.post(&self.endpoint);
        if stopping {
            let timeout = self.timeout.min(FLUSH_LIMIT);
            request = request.config().timeout_global(Some(timeout)).build();
        }
        request = request.header("Content-Type", "application/x-protobuf");
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let mut response = match request.send(body) {
            Ok(response) => response,
            Err(error) => {
                if is_of_tls(&error) {
                    self.agent = None;
                }
                return of_error(&error);
            }
        };
        let status = response.status().as_u16();
        let after = response.headers().get("retry-after");
        let after = after.and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let reader = response.body_mut().with_config().limit(LONGEST_ANSWER);
        // An answer that cannot be read does not undo its status.
        let answer = reader.read_to_vec().unwrap_or_default();
        of_answer(status, after.map(Duration::from_secs), &answer)
    }
}

/// TLS as a client.
fn tls(authorities: Option<&Authorities>) -> Result<TlsConfig, String> {
    let file = authorities.map(|file| file.path.as_path());
    let believed = oxicorn_tls::believed(file).map_err(|fault| match authorities {
        Some(file) => format!("{}: {fault}", file.name),
        None => fault.to_string(),
    })?;
    let certificates = believed
        .iter()
        .map(|one| Certificate::from_der(one).to_owned());
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::from(certificates))
        .unversioned_rustls_crypto_provider(oxicorn_tls::cryptography())
        .build())
}

fn is_of_tls(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Io(error) => error
            .get_ref()
            .is_some_and(<dyn Error + Send + Sync>::is::<rustls::Error>),
        ureq::Error::Rustls(_) | ureq::Error::Tls(_) => true,
        _ => false,
    }
}

/// What may pass is tried again: nobody listens, the name is not known yet, it takes too long.
fn of_error(error: &ureq::Error) -> Outcome {
    let reason = format!("the collector does not take them: {error}");
    match error {
        _ if is_of_tls(error) => Outcome::Refused { reason },
        ureq::Error::Io(_)
        | ureq::Error::Timeout(_)
        | ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed => Outcome::Again {
            reason,
            after: None,
        },
        _ => Outcome::Refused { reason },
    }
}

/// OTLP/HTTP, "Failures" and "Partial Success".
fn of_answer(status: u16, after: Option<Duration>, answer: &[u8]) -> Outcome {
    let reason = format!("the collector does not take them: it answers with status {status}");
    match status {
        200..=299 => {
            let (rejected, message) = partial_success(answer);
            Outcome::Taken { rejected, message }
        }
        429 | 502 | 503 | 504 => Outcome::Again { reason, after },
        _ => Outcome::Refused { reason },
    }
}

/// Of an `ExportTraceServiceResponse`: `rejected_spans` and `error_message` of its `partial_success`.
fn partial_success(answer: &[u8]) -> (u64, String) {
    let (mut rejected, mut message) = (0, String::new());
    for (field, value) in Fields(answer) {
        let (1, Value::Bytes(partial)) = (field, value) else {
            continue;
        };
        for (field, value) in Fields(partial) {
            match (field, value) {
                (1, Value::Number(count)) => rejected = count,
                (2, Value::Bytes(text)) => {
                    let text = &text[..text.len().min(SHOWN)];
                    message = String::from_utf8_lossy(text).into_owned();
                }
                _ => {}
            }
        }
    }
    (rejected, message)
}

#[cfg(test)]
mod tests;
