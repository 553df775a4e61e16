//! What listeners that speak TLS offer, and the beginning and the failure of TLS on a connection.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use oxicorn_link::scoreboard::Counter;
use oxicorn_tls::{Material, Offer};

use crate::connection::Connection;
use crate::gateway::Gateway;
use crate::transport::endpoint::Endpoint;
use crate::transport::tls::{Settled, Terms, Tls, are_behind, help, set_threads, take_settled};

/// The most bytes that certificates, keys and authorities may have together: all the authorities of a system are a
/// quarter of a megabyte.
const MATERIAL_LIMIT: u64 = 16 * 1024 * 1024;

/// How long the owner makes no step of a handshake after a client has asked again on its connection: the time in which
/// a quick worker answers, and a client that is answered asks once more.
const PRECEDENCE: Duration = Duration::from_micros(500);

/// Clients that keep their connections go before new ones, where it is the owner who makes steps of handshakes.
#[derive(Debug, Default)]
pub(crate) struct Precedence {
    until: Duration,
}

impl Precedence {
    /// A client has asked again.
    #[inline]
    pub(crate) fn note(&mut self, now: Duration) {
        self.until = now + PRECEDENCE;
    }

    /// Until when no step is to be made, if that is not yet over.
    fn holds(&self, now: Duration) -> Option<Duration> {
        (now < self.until).then_some(self.until)
    }
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Secure {
    offer: Offer,
    asks_clients: bool,
}

impl Secure {
    /// What a memory file has; `before` is what it takes the place of.
    pub(crate) fn read(file: &OwnedFd, before: Option<&Self>) -> Result<Self, String> {
        let bytes =
            content(file).map_err(|error| format!("certificates cannot be read: {error}"))?;
        let material = Material::decode(&bytes).map_err(|fault| fault.to_string())?;
        let tickets = before.map(|before| before.offer.tickets());
        Ok(Self {
            offer: Offer::new(&material, tickets).map_err(|fault| fault.to_string())?,
            asks_clients: material.asks_clients(),
        })
    }
}

/// From its beginning, whoever has read it before.
fn content(file: &OwnedFd) -> std::io::Result<Vec<u8>> {
    let file = File::from(file.try_clone()?);
    let length = file.metadata()?.len().min(MATERIAL_LIMIT);
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

impl Gateway {
    /// Makes a step of a handshake where the threads are behind; `true`: the runtime is not to sleep.
    pub(crate) fn helps_threads(&mut self, is_needed: bool) -> bool {
        if !are_behind() {
            return false;
        }
        let now = self.clock.now();
        if let Some(until) = self.precedence.holds(now) {
            self.timer.arm(now, until);
            return false;
        }
        help(is_needed)
    }

    /// Has as many threads for handshakes as the settings say, where anybody speaks TLS.
    pub(crate) fn start_threads(&mut self) {
        let beside = self.resolved.settings.threads.saturating_sub(1);
        let count = if self.secure.is_some() { beside } else { 0 };
        if let Err(error) = set_threads(count) {
            self.error_log.warning(format_args!(
                "Not all of the threads can be started ({error}; gateway_threads)"
            ));
        }
    }

    /// TLS begins, if it is to, with what has come of it behind a PROXY header. `false`: it cannot, and the connection
    /// is closed.
    pub(crate) fn start_tls(&mut self, key: usize) -> bool {
        let Some(connection) = self.connections.get_mut(key) else {
            return false;
        };
        if !std::mem::take(&mut connection.awaits_tls) {
            return true;
        }
        let Some(secure) = &self.secure else {
            self.error_log
                .error(format_args!("A listener speaks TLS and has no certificate"));
            self.close(key);
            return false;
        };
        let early = connection.input.take_unread();
        connection.input.forget_all();
        let terms = Terms {
            wants_goodbye: !connection.resolved.settings.suppress_ragged_eofs,
            asks_clients: secure.asks_clients,
        };
        let config = secure.offer.config();
        let started = connection
            .transport
            .start_tls(|socket| Tls::new(socket, config, early, terms));
        if let Err(error) = started {
            self.error_log
                .error(format_args!("TLS cannot be spoken: {error}"));
            self.close(key);
            return false;
        }
        true
    }

    /// Says why a client could not be understood.
    pub(crate) fn tell_of_failed_tls(&mut self, key: usize) {
        let connection = self.connections.get_mut(key);
        let transport = connection.map(|connection| &mut connection.transport);
        let failure = transport.and_then(|transport| {
            let is_settled = transport.tls().is_some_and(|tls| tls.about().is_some());
            Some((transport.take_failure()?, is_settled))
        });
        if let Some((reason, is_settled)) = failure {
            if !is_settled {
                self.metrics.count(Counter::TlsFailed);
            }
            self.tell_of_tls(key, &format!("TLS failed: {reason}"));
        }
    }

    /// A client that has begun and does not go on.
    pub(crate) fn tell_of_slow_handshake(&mut self, key: usize) {
        let connection = self.connections.get(key);
        let tls = connection.and_then(|connection| connection.transport.tls());
        if tls.is_some_and(Tls::is_opening) {
            self.metrics.count(Counter::TlsTooSlow);
            self.tell_of_tls(
                key,
                "the TLS handshake did not end in time (header_timeout)",
            );
        }
    }

    /// Writes the handshakes that were completed since the last time where the figures are.
    pub(crate) fn count_handshakes(&self) {
        let settled = take_settled();
        if settled == Settled::default() {
            return;
        }
        for (counter, number) in [
            (Counter::Tls12, settled.tls12),
            (Counter::Tls12Resumed, settled.tls12_resumed),
            (Counter::Tls13, settled.tls13),
            (Counter::Tls13Resumed, settled.tls13_resumed),
        ] {
            self.metrics.add(counter, number);
        }
    }

    fn tell_of_tls(&mut self, key: usize, text: &str) {
        let client = self.connections.get(key).map(Connection::client);
        let address = client.map(Endpoint::shown).unwrap_or_default();
        self.warn_of_client(format_args!(
            "Closed a connection from ip={address}: {text}"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_asked_again_goes_before_handshakes_for_a_while() {
        let now = Duration::from_secs(7);
        let mut precedence = Precedence::default();
        assert_eq!(precedence.holds(now), None);
        precedence.note(now);
        assert_eq!(precedence.holds(now), Some(now + PRECEDENCE));
        assert_eq!(precedence.holds(now + PRECEDENCE), None);
        precedence.note(now + PRECEDENCE / 2);
        assert!(precedence.holds(now + PRECEDENCE).is_some());
    }
}
