//! What TLS is made of before there is a connection: certificates, keys, cipher suites; and who a client is.
//!
//! Decides what is offered to clients, and what of the settings cannot be. Reads files ([`read`]), knows no sockets,
//! no processes and no Python. Theory of operation: whoever may read the files makes of them, once, a [`Material`],
//! complete and checked, in a form that can be handed to another process; that one makes the configuration for its
//! connections of it ([`Offer`]). So the process that serves clients needs no right to read a key, and a file that is
//! broken is found where the old ones are still in use.
//!
//! The cryptography is rustls' with ring. What decides for ring is the price of building it (15 s of one processor in
//! a development build, where aws-lc-rs takes minutes of C and assembler), with the same AES-GCM and P-256 assembler
//! behind what nearly all connections use. `provider.rs` is the only file that names it.

mod ciphers;
mod client;
mod fault;
mod identity;
mod material;
mod offer;
mod pem;
mod provider;
mod read;
mod reason;
mod trust;

pub use ciphers::offered;
pub use client::ClientCertificate;
pub use fault::Fault;
pub use material::{Authorities, Certified, ClientCertificates, Material, Version};
pub use offer::{Offer, Tickets};
pub use read::{CertificateFiles, Files, read};
pub use reason::reason;
pub use trust::{believed, cryptography};
