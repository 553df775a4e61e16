//! The gateway's thread: its runtime, its tasks, its beginning and end.
//!
//! One current-thread tokio runtime. Its sleep hooks are where the rings are read: just before the
//! thread would sleep and just after it woke. So a ring costs no task and no wake-up of its own;
//! while the gateway is busy workers write without a system call, and while it sleeps the doorbell
//! (an eventfd in the same epoll) wakes it.

use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::Poll;

use oxicorn_os::privileges::Identity;
use oxicorn_os::{heap, signals};
use rustix::process::Signal;
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::spawn_local;

use crate::active::ActiveConfig;
use crate::config::settings::Settings;
use crate::control::FromGateway;
use crate::control::end::ControlEnd;
use crate::gateway::arbiter::commands::obey;
use crate::gateway::clients::handshake::Secure;
use crate::gateway::deadlines::{ring_for_ever, tick_for_ever};
use crate::gateway::monitoring;
use crate::gateway::monitoring::dashboard::{self, Dashboard};
use crate::gateway::workers::coalesce::look_after_coalescing;
use crate::gateway::{Gateway, Parts, install, uninstall, with};
use crate::telemetry::error_log::ErrorLog;
use crate::telemetry::log_files::LogFiles;
use crate::telemetry::metrics::Metrics;
use crate::time::clock::TimeSource;
use crate::transport::timer;
use crate::transport::tls::look_after_handshakes;
use crate::{CANNOT_CHANGE_USER, ListenerSetup, Setup};

/// Exit code when the gateway could not begin. The arbiter starts another one.
const CANNOT_BEGIN: i32 = 1;

/// Free memory that is kept while there is something to do: what several dozen responses of usual size have in buffers.
/// Given back to the kernel and asked for again it would cost more than all else that is done for such a response.
const SPARE_HEAP: usize = 8 * 1024 * 1024;

/// Blocks from this size on are tables, of thousands of connections: they grow, and would leave holes behind.
const LARGE_BLOCK: usize = 1024 * 1024;

pub(crate) fn run(mut setup: Setup, time: TimeSource) -> i32 {
    // sendfile has no flag against it, and a log may be a pipe. Nothing to do if it cannot be.
    let _ = signals::ignore(Signal::PIPE.as_raw());
    heap::keep_spare(SPARE_HEAP, LARGE_BLOCK);
    // Before the logs are opened: what it opens now it can open again when they are rotated.
    let changed = setup.identity.as_ref().map_or(Ok(()), Identity::assume);
    let log_files = LogFiles::new(setup.log_files.take());
    let Ok(mut error_log) = open_error_log(&setup.settings, &log_files) else {
        return CANNOT_BEGIN;
    };
    if let (Err(error), Some(Identity { user, group, .. })) = (changed, &setup.identity) {
        error_log.error(format_args!(
            "Cannot run as user {user} and group {group}: {error}"
        ));
        return CANNOT_CHANGE_USER;
    }
    let runtime = Builder::new_current_thread()
        .enable_io()
        .on_thread_park(|| {
            with(Gateway::before_sleep);
        })
        .on_thread_unpark(|| {
            with(Gateway::after_sleep);
        })
        .build_local(LocalOptions::default());
    let result = match runtime {
        Ok(runtime) => runtime.block_on(serve(setup, time, error_log, log_files)),
        Err(_) => Err(CANNOT_BEGIN),
    };
    result.map_or_else(|code| code, |()| 0)
}

/// Where it cannot be opened, standard error is at least as good as nowhere.
fn open_error_log(settings: &Settings, files: &LogFiles) -> io::Result<ErrorLog> {
    ErrorLog::open(&settings.error_log, files).or_else(|error| {
        let mut log = ErrorLog::open(&crate::config::settings::ErrorLog::default(), files)?;
        log.error(format_args!("Error log cannot be opened: {error}"));
        Ok(log)
    })
}

async fn serve(
    setup: Setup,
    time: TimeSource,
    error_log: ErrorLog,
    log_files: LogFiles,
) -> Result<(), i32> {
    let Setup {
        settings,
        identity: _,
        log_files: _,
        control,
        listeners,
        certificates,
        monitoring,
        dashboard,
        scoreboard,
        metric_store,
    } = setup;
    let control = ControlEnd::new(control);
    let orders = control.watched();
    let resolved = Rc::new(ActiveConfig::new(settings, Rc::default()));
    let mut gateway = Gateway::new(Parts {
        time,
        resolved,
        error_log,
        log_files,
        control,
    });
    let attached =
        Metrics::attach(&scoreboard).and_then(|metrics| metrics.with_store(metric_store));
    match attached {
        Ok(metrics) => gateway.metrics = metrics,
        Err(error) => {
            gateway
                .error_log
                .warning(format_args!("Nothing is counted: {error}"));
        }
    }
    let begun = orders.and_then(|orders| {
        timer::start()?;
        begin(&mut gateway, listeners, certificates.as_ref())?;
        Ok(orders)
    });
    let orders = match begun {
        Ok(orders) => orders,
        Err(error) => {
            gateway
                .error_log
                .error(format_args!("Gateway cannot begin: {error}"));
            return Err(CANNOT_BEGIN);
        }
    };
    if let Some(dashboard) = dashboard.and_then(Dashboard::new) {
        gateway.error_log.set_tail(dashboard.tail().clone());
        gateway.dashboard = Some(Rc::clone(&dashboard));
        spawn_local(dashboard::take_figures_for_ever(dashboard));
    }
    let forwards = gateway.resolved.settings.log_forwarding.errors;
    gateway.error_log.set_forwarding(forwards);
    gateway.tell_of_spool(None);
    install(gateway);
    spawn_local(obey(orders));
    spawn_local(ring_for_ever());
    spawn_local(tick_for_ever());
    spawn_local(look_after_coalescing());
    spawn_local(look_after_handshakes());
    if let Some(listener) = monitoring {
        spawn_local(monitoring::serve(listener));
    }
    with(|gateway| gateway.control.send(&FromGateway::Ready));
    poll_fn(|cx| {
        let finished = with(|gateway| {
            gateway.finished_waker.clone_from(cx.waker());
            gateway.finished
        });
        if finished.unwrap_or(true) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    with(|gateway| {
        gateway.finish_tracing();
        gateway.forward_lines();
        gateway.control.flush();
    });
    // Still within the runtime, where its sockets are registered. The logs write what is left.
    drop(uninstall());
    timer::stop();
    Ok(())
}

fn begin(
    gateway: &mut Gateway,
    listeners: Vec<(ListenerSetup, OwnedFd)>,
    certificates: Option<&OwnedFd>,
) -> io::Result<()> {
    let settings: Settings = gateway.resolved.settings.clone();
    gateway.open_logs(&settings);
    let secure = certificates.map(|file| Secure::read(file, None));
    gateway.secure = secure.transpose().map_err(io::Error::other)?;
    gateway.start_threads();
    gateway.choose_sending();
    for (setup, socket) in listeners {
        gateway.open_listener(setup, socket)?;
    }
    Ok(())
}
