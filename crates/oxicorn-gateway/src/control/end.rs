//! The gateway's end of the control channel: sends without waiting, receives one packet at a time.

use std::collections::VecDeque;
use std::os::fd::{AsFd as _, OwnedFd};

use oxicorn_os::channel::{Blocking, Channel, Received};

use crate::control::{self, ControlFault, FromGateway, ToGateway};
use crate::transport::readiness::{Watched, watch};

/// Messages that may wait for the arbiter to read; beyond it the oldest are given up. It takes an
/// arbiter that has stood still for a long time.
const OUTBOX: usize = 4096;

/// Messages that may wait before lines for the logs are left out.
const OPTIONAL: usize = 256;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct ControlEnd {
    channel: Channel,
    outbox: VecDeque<Vec<u8>>,
}

/// What the channel gave.
#[derive(Debug)]
pub(crate) enum Packet {
    Message(ToGateway, Vec<OwnedFd>),
    Undecodable(ControlFault),
    Nothing,
    /// The arbiter is gone.
    Closed,
}

impl ControlEnd {
    pub(crate) fn new(channel: OwnedFd) -> Self {
        Self {
            channel: channel.into(),
            outbox: VecDeque::new(),
        }
    }

    /// To wait for packets with.
    pub(crate) fn watched(&self) -> std::io::Result<Watched> {
        watch(self.channel.as_fd().try_clone_to_owned()?)
    }

    pub(crate) fn send(&mut self, message: &FromGateway) {
        // Our own messages are short: they cannot fail to encode.
        let Ok(packet) = control::encode(message) else {
            return;
        };
        if self.outbox.len() >= OUTBOX {
            self.outbox.pop_front();
        }
        self.outbox.push_back(packet);
        self.flush();
    }

    /// Whether the arbiter keeps up. What can be left out is not sent to one that does not.
    pub(crate) fn has_room(&self) -> bool {
        self.outbox.len() < OPTIONAL
    }

    /// Whether the arbiter was given everything.
    pub(crate) fn is_flushed(&self) -> bool {
        self.outbox.is_empty()
    }

    /// Sends what can be sent now.
    pub(crate) fn flush(&mut self) {
        while let Some(packet) = self.outbox.front() {
            match self.channel.send(packet, &[], Blocking::No) {
                Ok(false) => return,
                // Gone is noticed where packets are received.
                Ok(true) | Err(_) => drop(self.outbox.pop_front()),
            }
        }
    }

    /// Receives a packet; `buffer` is room for it.
    pub(crate) fn receive(&self, buffer: &mut Vec<u8>) -> Packet {
        let mut descriptors = Vec::new();
        match self.channel.recv(buffer, &mut descriptors, Blocking::No) {
            Ok(Received::Message(_)) => match control::decode(buffer) {
                Ok(message) => Packet::Message(message, descriptors),
                Err(fault) => Packet::Undecodable(fault),
            },
            Ok(Received::Nothing) => Packet::Nothing,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => Packet::Nothing,
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                Packet::Undecodable(ControlFault::TooLong(control::PACKET_LIMIT))
            }
            Ok(Received::Closed) | Err(_) => Packet::Closed,
        }
    }
}
