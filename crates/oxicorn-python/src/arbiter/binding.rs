//! The addresses the server listens at: inherited, bound anew, shown to hooks and announced.

use std::os::fd::AsRawFd;

use oxicorn_arbiter::Level;
use oxicorn_os::process;
use oxicorn_settings::BindAddress;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::generation::with_settings;
use super::listeners::{self, Listener, Origin};
use super::log;
use super::python::PyArbiter;
use crate::forked;
use crate::settings::convert::address_to_python;

/// The listeners this process was started with, and whether they are systemd's.
pub(crate) fn inherit(
    server: &PyArbiter<'_>,
    cfg: &Bound<'_, PyAny>,
) -> PyResult<(Vec<Listener>, bool)> {
    let (descriptors, is_activated) = server.inherited_listeners()?;
    let (binds, options) = with_settings(cfg, |settings| {
        let options = listeners::Options::of(&settings.inner);
        (settings.inner.bind().to_vec(), options)
    })?;
    let origin = if is_activated {
        Origin::Activation
    } else {
        Origin::Predecessor
    };
    let listeners = listeners::inherit(&descriptors, &binds, origin, options)
        .map_err(|error| PyRuntimeError::new_err(format!("inherited listeners: {error}")))?;
    let speaks = |listener: &Listener| {
        with_settings(cfg, |settings| settings.inner.scheme_at(&listener.bind))
    };
    let listeners = listeners
        .into_iter()
        .map(|listener| {
            let scheme = speaks(&listener)?;
            Ok(listener.speaking(scheme)?)
        })
        .collect::<PyResult<_>>()?;
    Ok((listeners, is_activated))
}

/// Binds every address of `cfg`; those in `bound_before` are shared. On failure nothing is changed.
pub(crate) fn bind_all(
    server: &PyArbiter<'_>,
    cfg: &Bound<'_, PyAny>,
    bound_before: &[Listener],
) -> PyResult<Vec<Listener>> {
    let (binds, options) = with_settings(cfg, |settings| {
        let settings = &settings.inner;
        let binds = settings.bind().iter();
        let binds = binds.map(|bind| (bind.clone(), settings.scheme_at(bind)));
        (binds.collect::<Vec<_>>(), listeners::Options::of(settings))
    })?;
    let mut bound = Vec::with_capacity(binds.len());
    for (bind, scheme) in binds {
        let listener = match bound_before.iter().find(|listener| listener.bind == bind) {
            Some(listener) => listener.share()?,
            None => listeners::open(server, &bind, options).ok_or_else(|| {
                leave_no_files(&bound, bound_before);
                unbound(&bind)
            })?,
        };
        bound.push(listener.speaking(scheme)?);
    }
    Ok(bound)
}

/// Removes the files of sockets that were bound just now, and in vain.
fn leave_no_files(bound: &[Listener], before: &[Listener]) {
    let is_new = |one: &&Listener| before.iter().all(|old| old.bind != one.bind);
    bound.iter().filter(is_new).for_each(Listener::remove_file);
}

/// Lets hooks see the listeners. The descriptors stay ours: before they are closed hooks are shown others, or none.
pub(crate) fn show(server: &PyArbiter<'_>, listeners: &[Listener]) -> PyResult<()> {
    let shown = described(server.py(), listeners)?;
    server.listening(shown)
}

/// Listeners for Python: text, descriptor, address in the settings.
pub(crate) fn described<'py>(
    py: Python<'py>,
    listeners: &[Listener],
) -> PyResult<Bound<'py, PyList>> {
    let described = PyList::empty(py);
    for listener in listeners {
        let address = address_to_python(py, &listener.bind)?;
        described.append((&listener.text, listener.socket.as_raw_fd(), address))?;
    }
    Ok(described)
}

/// `Listening at: ...`; with the pid at the start, without after a reload, as Gunicorn.
pub(crate) fn announce(
    server: &PyArbiter<'_>,
    listeners: &[Listener],
    with_pid: bool,
) -> PyResult<()> {
    show(server, listeners)?;
    let texts: Vec<&str> = listeners
        .iter()
        .map(|listener| listener.text.as_str())
        .collect();
    for listener in listeners {
        forked::keep_from_children(&listener.socket);
    }
    let pid = if with_pid {
        format!(" ({})", process::id())
    } else {
        String::new()
    };
    log::write(
        server,
        Level::Info,
        &format!("Listening at: {}{pid}", texts.join(",")),
    );
    Ok(())
}

pub(crate) fn unbound(bind: &BindAddress) -> PyErr {
    PyRuntimeError::new_err(format!("cannot listen at {bind}"))
}
