//! What the gateway keeps for ids and traces beside its requests: random bytes, and the way to the collector.

use std::rc::Rc;
use std::time::Duration;

use oxicorn_link::scoreboard::Counter;
use oxicorn_os::{random, time};
use oxicorn_proto::message::RequestHead;

use crate::config::tracing::Tracing;
use crate::gateway::Gateway;
use crate::telemetry::tracing::exporter::{Exporter, News};
use crate::telemetry::tracing::{Facts, RequestTrace, Rules, span};

/// Random bytes asked for at a time: of some two hundred requests.
const POOL: usize = 4096;

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Tracer {
    pool: Vec<u8>,
    exporter: Option<Exporter>,
}

impl Tracer {
    /// Looks at a request whose head was read.
    pub(crate) fn begin(
        &mut self,
        rules: &Rc<Rules>,
        head: &RequestHead<'_>,
        trusted: bool,
    ) -> Box<RequestTrace> {
        let random = |bytes: &mut [u8]| take_random(&mut self.pool, bytes);
        Box::new(RequestTrace::begin(
            rules,
            head,
            trusted,
            time::wall,
            random,
        ))
    }

    /// Whether the request has a span to be exported.
    pub(crate) fn wants(&self, trace: Option<&RequestTrace>) -> bool {
        self.exporter.is_some() && trace.is_some_and(RequestTrace::is_recorded)
    }

    /// When there is something to hand over or to hear of.
    pub(crate) fn next_look(&self, now: Duration) -> Option<Duration> {
        self.exporter.as_ref()?.next_look(now)
    }

    /// Adds the span of a request that is over.
    pub(crate) fn add_span(&mut self, trace: &RequestTrace, facts: &Facts<'_>) {
        if let Some(exporter) = &mut self.exporter {
            exporter.add(facts.ended, |out| span::write(trace, facts, out));
        }
    }
}

/// Bytes of the pool, each once. Without the kernel's there would be none at all: the clock is better than nothing.
fn take_random(pool: &mut Vec<u8>, bytes: &mut [u8]) {
    if pool.len() < bytes.len() {
        pool.resize(POOL, 0);
        if random::fill(pool).is_err() {
            for (byte, chunk) in (0_u8..).zip(pool.chunks_mut(8)) {
                let seed = time::wall().as_nanos().to_le_bytes();
                let seed = seed.map(|part| part.wrapping_add(byte));
                chunk.copy_from_slice(&seed[..chunk.len()]);
            }
        }
    }
    let rest = pool.len() - bytes.len();
    bytes.copy_from_slice(&pool[rest..]);
    pool.truncate(rest);
}

impl Gateway {
    /// Has spans exported as these settings say; what an exporter before has taken it still sends.
    pub(crate) fn start_tracing(&mut self, settings: &Tracing) {
        self.count_spans();
        let wanted = settings.export.as_ref();
        match wanted.map(Exporter::start).transpose() {
            Ok(exporter) => self.tracer.exporter = exporter,
            Err(error) => {
                self.tracer.exporter = None;
                self.error_log
                    .error(format_args!("Spans are not exported: {error}"));
            }
        }
        for complaint in &settings.complaints {
            self.error_log.warning(format_args!("{complaint}"));
        }
    }

    /// Hands spans over that were gathered for long enough, and says what became of others.
    pub(crate) fn look_after_tracing(&mut self, now: Duration) {
        let Some(exporter) = &mut self.tracer.exporter else {
            return;
        };
        exporter.tick(now);
        match exporter.take_news() {
            None => {}
            Some(News::Failing(reason)) => self
                .error_log
                .warning(format_args!("Spans are not exported, {reason}")),
            Some(News::Recovered) => self
                .error_log
                .info(format_args!("Spans are exported again")),
        }
        self.count_spans();
    }

    fn count_spans(&mut self) {
        if let Some(exporter) = &mut self.tracer.exporter {
            let (exported, dropped) = exporter.take_counts();
            self.metrics.add(Counter::SpansExported, exported);
            self.metrics.add(Counter::SpansDropped, dropped);
        }
    }

    /// The process ends: what is left is sent now or never.
    pub(crate) fn finish_tracing(&mut self) {
        self.count_spans();
        let Some(exporter) = self.tracer.exporter.take() else {
            return;
        };
        let (sent, lost) = exporter.finish();
        self.metrics.add(Counter::SpansExported, sent);
        self.metrics.add(Counter::SpansDropped, lost);
        if lost > 0 {
            self.error_log.warning(format_args!(
                "{lost} spans were not exported: the collector did not take them before the end"
            ));
        }
    }
}
