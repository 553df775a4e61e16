//! Python callables of the config file, called as the server goes through its life.

use crate::definition::{
    Applies, Default, Definition, Flags, Kind, Parity, Process, Section, Since,
};

/// The section's settings.
pub(super) const DEFINITIONS: &[Definition] = &[
    Definition {
        name: "on_starting",
        section: Section::ServerHooks,
        flags: Flags::NONE,
        kind: Kind::Hook {
            parameters: "server",
            arities: &[1],
            process: Process::Arbiter,
        },
        default: Default::None,
        doc: "Called in the arbiter when the server starts, before it listens.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "on_reload",
        section: Section::ServerHooks,
        flags: Flags::NONE,
        kind: Kind::Hook {
            parameters: "server",
            arities: &[1],
            process: Process::Arbiter,
        },
        default: Default::None,
        doc: "Called in the arbiter when it reloads (HUP), after the new settings were read and before new workers \
          are made.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "when_ready",
        section: Section::ServerHooks,
        flags: Flags::NONE,
        kind: Kind::Hook {
            parameters: "server",
            arities: &[1],
            process: Process::Arbiter,
        },
        default: Default::None,
        doc: "Called in the arbiter when it listens, before the first worker is made.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "pre_fork",
        section: Section::ServerHooks,
        flags: Flags::NONE,
        kind: Kind::Hook {
            parameters: "server, worker",
            arities: &[2],
            process: Process::Arbiter,
        },
        default: Default::None,
        doc: "Called in the arbiter before each worker is forked.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "post_fork",
        section: Section::ServerHooks,
        flags: Flags::NONE,
        kind: Kind::Hook {
            parameters: "server, worker",
            arities: &[2],
            process: Process::Worker,
        },
        default: Default::None,
        doc: "Called in each worker right after it was forked, before the application is loaded.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "post_worker_init",
        section: Section::ServerHooks,
        flags: Flags::NONE,
        kind: Kind::Hook {
            parameters: "worker",
            arities: &[1],
            process: Process::Worker,
        },
        default: Default::None,
        doc: "Called in each worker when the application is loaded, before it takes requests.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "worker_int",
        section: Section::ServerHooks,
        flags: Flags::NONE,
        kind: Kind::Hook {
            parameters: "worker",
            arities: &[1],
            process: Process::Worker,
        },
        default: Default::None,
        doc: "Called in a worker that got INT or QUIT.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "worker_abort",
        section: Section::ServerHooks,
        flags: Flags::NONE,
        kind: Kind::Hook {
            parameters: "worker",
            arities: &[1],
            process: Process::Worker,
        },
        default: Default::None,
        doc: "Called in a worker that got ABRT, which is what the arbiter sends when a request has taken longer \
          than `timeout`.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "pre_exec",
        section: Section::ServerHooks,
        flags: Flags::NONE,
        kind: Kind::Hook {
            parameters: "server",
            arities: &[1],
            process: Process::Successor,
        },
        default: Default::None,
        doc: "Called in the process that is about to become the new arbiter, before it runs the new program.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "pre_request",
        section: Section::ServerHooks,
        flags: Flags::NONE,
        kind: Kind::Hook {
            parameters: "worker, req",
            arities: &[2],
            process: Process::Worker,
        },
        default: Default::None,
        doc: "Called in a worker before each request.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "post_request",
        section: Section::ServerHooks,
        flags: Flags::NONE,
        kind: Kind::Hook {
            parameters: "worker, req, environ, resp",
            arities: &[4, 3, 2],
            process: Process::Worker,
        },
        default: Default::None,
        doc: "Called in a worker after each request. Callables of two or three arguments get as many.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "child_exit",
        section: Section::ServerHooks,
        flags: Flags::NONE,
        kind: Kind::Hook {
            parameters: "server, worker",
            arities: &[2],
            process: Process::Arbiter,
        },
        default: Default::None,
        doc: "Called in the arbiter when a worker has exited.",
        since: Since::Gunicorn("19.7"),
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "worker_exit",
        section: Section::ServerHooks,
        flags: Flags::NONE,
        kind: Kind::Hook {
            parameters: "server, worker",
            arities: &[2],
            process: Process::Worker,
        },
        default: Default::None,
        doc: "Called in a worker right before it exits.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "nworkers_changed",
        section: Section::ServerHooks,
        flags: Flags::NONE,
        kind: Kind::Hook {
            parameters: "server, new_value, old_value",
            arities: &[3],
            process: Process::Arbiter,
        },
        default: Default::None,
        doc: "Called in the arbiter when the number of workers changes; the old one is None the first time.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "on_exit",
        section: Section::ServerHooks,
        flags: Flags::NONE,
        kind: Kind::Hook {
            parameters: "server",
            arities: &[1],
            process: Process::Arbiter,
        },
        default: Default::None,
        doc: "Called in the arbiter right before the server exits.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "ssl_context",
        section: Section::ServerHooks,
        flags: Flags::NONE,
        kind: Kind::Hook {
            parameters: "config, default_ssl_context_factory",
            arities: &[2],
            process: Process::Arbiter,
        },
        default: Default::None,
        doc: "Called to make the TLS context; it returns an `ssl.SSLContext`, and may ask the factory for the \
          usual one. What the context says is what the gateway offers: certificates and keys it was given by name, \
          versions, ciphers, and what it wants of clients. What cannot be taken over (`sni_callback`, a context made \
          elsewhere) keeps the server from starting.",
        since: Since::Gunicorn("21.0"),
        applies: Applies::Reload,
        parity: Parity::Better(
            "called at the start and when certificates are read again, not for each connection",
        ),
    },
];

#[cfg(test)]
mod tests {
    use crate::definition::Kind;
    use crate::table::TABLE;
    use crate::testing::{accepted, default_in, refused, text};
    use crate::value::{Raw, Value};

    #[test]
    fn takes_callables_with_the_right_number_of_arguments() {
        for definition in &TABLE {
            let Kind::Hook {
                parameters,
                arities,
                ..
            } = definition.kind
            else {
                continue;
            };
            let name = definition.name;
            assert_eq!(parameters.split(", ").count(), arities[0], "{name}");
            assert_eq!(default_in(&[], name), Value::None);
            for arity in 0..6 {
                let hook = Raw::Object(9, Some(arity));
                if arities.contains(&arity) {
                    assert_eq!(accepted(name, hook), Value::Object(9), "{name}");
                } else {
                    let allowed = format!("must be a callable with the arguments ({parameters})");
                    assert_eq!(refused(name, hook), allowed);
                }
            }
        }
    }

    #[test]
    fn refuses_what_cannot_be_called() {
        for raw in [
            Raw::None,
            text("module.hook"),
            Raw::Object(9, None),
            Raw::Int(1),
        ] {
            assert_eq!(
                refused("pre_fork", raw),
                "must be a callable with the arguments (server, worker)"
            );
        }
    }

    #[test]
    fn takes_the_short_forms_of_post_request() {
        for arity in [2, 3, 4] {
            assert_eq!(
                accepted("post_request", Raw::Object(1, Some(arity))),
                Value::Object(1)
            );
        }
    }
}
