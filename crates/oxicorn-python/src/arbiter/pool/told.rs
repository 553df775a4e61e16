//! What Python is told of the pool, whenever it has changed.

use oxicorn_arbiter::pool::Pool;
use pyo3::prelude::*;

use crate::arbiter::supervisor::Supervisor;

/// What Python is told whenever it has changed.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Told {
    /// How many workers there are to be, the fewest there can be, and the most that are of use.
    wanted: u32,
    least: u32,
    most: Option<u32>,
    serving: u32,
    loading: Option<u32>,
    /// Reloads that were given up, and why the last one was.
    refused: u64,
    refusal: String,
    resting: usize,
    /// Applications that cannot be loaded: path, reason, how often, when it is tried again (seconds of the monotonic clock).
    failures: Vec<(String, String, u32, f64)>,
}

impl Told {
    fn of(machine: &Pool) -> Self {
        let (refused, refusal) = machine.refused();
        let failures = machine.failures().map(|(path, failure)| {
            let again = failure.not_before.as_secs_f64();
            (
                path.to_owned(),
                failure.reason.clone(),
                failure.count,
                again,
            )
        });
        Self {
            wanted: machine.wanted(),
            least: machine.least(),
            most: machine.most(),
            serving: machine.serving().0,
            loading: machine.loading().map(|generation| generation.0),
            refused,
            refusal: refusal.to_owned(),
            resting: machine.resting(),
            failures: failures.collect(),
        }
    }
}

impl Supervisor<'_> {
    pub(super) fn tell_numbers(&mut self) -> PyResult<()> {
        let Some(pool) = &mut self.pool else {
            return Ok(());
        };
        let told = Told::of(&pool.machine);
        if pool.told != told {
            let py_arbiter = pool.py_arbiter.bind(self.server.py());
            py_arbiter.call_method1("set_numbers", (told.wanted, told.least, told.most))?;
            let reload = (told.serving, told.loading, told.refused, &told.refusal);
            let failures = told.failures.clone();
            py_arbiter.call_method1("set_state", (reload, told.resting, failures))?;
            pool.told = told;
        }
        Ok(())
    }
}
