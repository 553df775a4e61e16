//! What the arbiter counts: which processes were started, how they ended, and what was reloaded.

use std::sync::Arc;

use oxicorn_os::mapping::Mapping;

use super::{add, read, write};
use crate::wire_enum::wire_enum;

/// Where it lies: in the first page, behind the file's description.
const AT: usize = 1024;
const COUNTERS_AT: usize = AT + 512;
const END: usize = super::BLOCKS_AT;

wire_enum! {
    /// What the arbiter knows and may change.
    ArbiterGauge {
        /// The arbiter's process.
        Pid = 0,
        /// When the server was started, in seconds since 1970.
        StartTime = 1,
        /// Workers that there should be.
        WorkersWanted = 2,
        /// The generation that serves; 0: none does yet.
        Generation = 3,
        /// Nanoseconds that the worker that became ready last took for it.
        BootTime = 4,
        /// The gateway's process.
        GatewayPid = 5,
    }
}

wire_enum! {
    /// What only goes up.
    ArbiterCounter {
        /// Workers forked.
        WorkersSpawned = 0,
        /// Gateways forked.
        GatewaysSpawned = 1,
        /// Configurations loaded again.
        Reloads = 2,
        /// Reloads that were given up.
        ReloadsFailed = 3,
        /// Workers that exited with 0.
        ExitedNormally = 4,
        /// Workers that exited with another code.
        ExitedWithError = 5,
        /// Workers that a signal ended.
        EndedBySignal = 6,
        /// Workers that the kernel ended because there was no memory left.
        OutOfMemory = 7,
        /// Workers replaced after `max_requests`.
        ReplacedMaxRequests = 8,
        /// Workers replaced because somebody told them to end.
        ReplacedRequested = 9,
        /// Workers replaced because a request took longer than `timeout`.
        ReplacedTimeout = 10,
        /// Workers replaced because they stood still.
        ReplacedHeartbeat = 11,
        /// Workers replaced because they broke the link.
        ReplacedFault = 12,
        /// Workers that could not be made ready.
        BootFailed = 13,
        /// Workers replaced because they had grown beyond their memory limit.
        ReplacedMemory = 14,
    }
}

/// The arbiter's part of the scoreboard. It alone writes.
#[derive(Clone, Debug)]
pub struct ArbiterBlock {
    mapping: Arc<Mapping>,
}

const fn gauge_at(gauge: ArbiterGauge) -> usize {
    AT + gauge.as_u8() as usize * 8
}

const fn counter_at(counter: ArbiterCounter) -> usize {
    COUNTERS_AT + counter.as_u8() as usize * 8
}

impl ArbiterBlock {
    pub(super) const fn new(mapping: Arc<Mapping>) -> Self {
        Self { mapping }
    }

    /// Sets a gauge.
    pub fn set(&self, gauge: ArbiterGauge, number: u64) {
        write(&self.mapping, gauge_at(gauge), number);
    }

    /// Reads a gauge.
    pub fn gauge(&self, gauge: ArbiterGauge) -> u64 {
        read(&self.mapping, gauge_at(gauge))
    }

    /// Counts one more.
    pub fn count(&self, counter: ArbiterCounter) {
        add(&self.mapping, counter_at(counter), 1);
    }

    /// Reads a counter.
    pub fn counter(&self, counter: ArbiterCounter) -> u64 {
        read(&self.mapping, counter_at(counter))
    }
}

const _: () = {
    assert!(
        AT + ArbiterGauge::ALL.len() * 8 <= COUNTERS_AT,
        "gauges do not run into the counters"
    );
    assert!(
        COUNTERS_AT + ArbiterCounter::ALL.len() * 8 <= END,
        "nor counters into what follows"
    );
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scoreboard::Scoreboard;

    #[test]
    fn every_number_has_its_own_place_and_the_head_stays_as_it_is() {
        let (board, file) = Scoreboard::create(1, 1).unwrap();
        let block = board.arbiter();
        for (number, gauge) in (1..).zip(ArbiterGauge::ALL) {
            block.set(*gauge, number);
        }
        for (times, counter) in (1..).zip(ArbiterCounter::ALL) {
            (0..times).for_each(|_| block.count(*counter));
        }
        let other = Scoreboard::attach(&file).expect("still one").arbiter();
        for (number, gauge) in (1..).zip(ArbiterGauge::ALL) {
            assert_eq!(other.gauge(*gauge), number);
        }
        for (times, counter) in (1..).zip(ArbiterCounter::ALL) {
            assert_eq!(other.counter(*counter), times);
        }
    }
}
