//! The texts of clients' addresses: a proxy, and whoever keeps a connection open, comes again and again.

use pyo3::prelude::*;
use pyo3::types::PyString;

use super::environ::port_string;
use crate::latin1;
use crate::request::headers::{REMEMBERED_NAMES as HOSTS, place_of};

/// Ports remembered; each has one place, which another one takes over. A power of two.
const PORTS: usize = 256;

/// What a text was made of, and the text.
type Known<T> = Option<(T, Py<PyString>)>;

/// See the head of this file.
pub(crate) struct KnownAddresses {
    hosts: Vec<Known<Box<[u8]>>>,
    ports: Vec<Known<u16>>,
}

impl Default for KnownAddresses {
    fn default() -> Self {
        Self {
            hosts: (0..HOSTS).map(|_| None).collect(),
            ports: (0..PORTS).map(|_| None).collect(),
        }
    }
}

impl KnownAddresses {
    /// An address as two strings.
    pub(super) fn texts<'py>(
        &mut self,
        py: Python<'py>,
        host: &[u8],
        port: u16,
    ) -> (Bound<'py, PyString>, Bound<'py, PyString>) {
        (self.host(py, host), self.port(py, port))
    }

    fn host<'py>(&mut self, py: Python<'py>, host: &[u8]) -> Bound<'py, PyString> {
        let place = &mut self.hosts[place_of(host)];
        if let Some((known, text)) = place
            && **known == *host
        {
            return text.bind(py).clone();
        }
        let text = latin1::to_string(py, host);
        *place = Some((host.into(), text.clone().unbind()));
        text
    }

    fn port<'py>(&mut self, py: Python<'py>, port: u16) -> Bound<'py, PyString> {
        let place = &mut self.ports[usize::from(port) % PORTS];
        if let Some((known, text)) = place
            && *known == port
        {
            return text.bind(py).clone();
        }
        let text = port_string(py, port);
        *place = Some((port, text.clone().unbind()));
        text
    }
}
