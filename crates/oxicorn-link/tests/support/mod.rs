//! Both ends of a link in one process: the same memory file, mapped twice.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::time::Duration;

use oxicorn_link::{GatewayEnd, LinkParts, Sizes, WaitMode, WorkerEnd, WorkerParts};

/// Longer than anything takes; a test that waits so long has failed.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// Small rings, so that they are often full and often wrap.
pub(crate) const SMALL: Sizes = Sizes {
    requests: 4096,
    events: 4096,
    responses: 4096,
};

pub(crate) fn gateway(parts: &LinkParts) -> GatewayEnd {
    let [memory, gateway_doorbell, worker_doorbell, side] = parts.for_gateway().unwrap();
    GatewayEnd::attach(memory, gateway_doorbell, worker_doorbell, side).unwrap()
}

pub(crate) fn worker(parts: &LinkParts, mode: WaitMode) -> WorkerParts {
    let [memory, gateway_doorbell, worker_doorbell, _] = parts.for_gateway().unwrap();
    let side = parts.worker_side.try_clone().unwrap();
    WorkerEnd::attach(memory, gateway_doorbell, worker_doorbell, side, mode)
        .unwrap()
        .split()
}

pub(crate) fn pair_of(sizes: Sizes, mode: WaitMode) -> (GatewayEnd, WorkerParts) {
    let parts = LinkParts::create(sizes).unwrap();
    (gateway(&parts), worker(&parts, mode))
}

pub(crate) fn pair() -> (GatewayEnd, WorkerParts) {
    pair_of(SMALL, WaitMode::Futex)
}

/// Sleeps as the gateway's thread does, in epoll, until the doorbell rings.
pub(crate) fn sleep_gateway(gateway: &GatewayEnd) {
    if gateway.sleep_begin() {
        wait_readable(gateway.doorbell());
        gateway.silence_doorbell();
    }
    gateway.sleep_end();
}

pub(crate) fn wait_readable(descriptor: std::os::fd::BorrowedFd<'_>) {
    use oxicorn_os::poll::{Polled, wait_readable};
    assert!(matches!(
        wait_readable(&[descriptor], Some(LONG)).unwrap(),
        Polled::Ready(_)
    ));
}
