//! What the arbiter counts of the pool, on the scoreboard: its processes, how they end, why they are replaced.

use std::collections::HashMap;

use oxicorn_arbiter::Exit;
use oxicorn_arbiter::pool::PoolEvent;
use oxicorn_link::scoreboard::{CallGauge, PoolBlock, PoolCounter};

use crate::pool::Replacement;

/// Exit codes of a worker whose applications cannot be loaded.
const BOOT_FAILURES: [i32; 2] = [3, 4];

/// Counts what is told to the pool's machine.
pub(super) fn count(block: &PoolBlock, event: &PoolEvent) {
    match event {
        PoolEvent::BrokerSpawned { .. } => block.count(PoolCounter::BrokersSpawned),
        PoolEvent::BrokerExited(_) => block.broker_is_gone(),
        PoolEvent::WorkerSpawned { .. } => block.count(PoolCounter::WorkersSpawned),
        PoolEvent::WorkerSpawnFailed(_) => block.count(PoolCounter::BootFailed),
        PoolEvent::WorkerStuck { .. } => block.count(PoolCounter::ReplacedTimeout),
        PoolEvent::WorkerExited { exit, .. } => count_exit(block, *exit),
        _ => {}
    }
}

fn count_exit(block: &PoolBlock, exit: Exit) {
    block.count(match exit {
        Exit::Code(0) => PoolCounter::ExitedNormally,
        Exit::Code(_) => PoolCounter::ExitedWithError,
        Exit::Signal(_) => PoolCounter::EndedBySignal,
    });
    if matches!(exit, Exit::Code(code) if BOOT_FAILURES.contains(&code)) {
        block.count(PoolCounter::BootFailed);
    }
}

/// A worker wants a successor.
pub(super) fn count_replacement(block: &PoolBlock, reason: Replacement) {
    block.count(match reason {
        Replacement::MaxCalls => PoolCounter::ReplacedMaxCalls,
        Replacement::Memory => PoolCounter::ReplacedMemory,
        Replacement::Requested => PoolCounter::ReplacedRequested,
    });
}

/// Shows how many workers are given calls: `serving` has the applications of each.
pub(super) fn show_workers<'a>(block: &PoolBlock, serving: impl Iterator<Item = &'a String>) {
    let mut counts: HashMap<&str, u64> = HashMap::new();
    for path in serving {
        *counts.entry(path).or_default() += 1;
    }
    for row in block.rows() {
        let count = counts.get(row.name().as_str()).copied().unwrap_or(0);
        row.set(CallGauge::Workers, count);
    }
}
