//! How the server runs as a process, whom it trusts, and how strictly it reads HTTP.

use crate::definition::{
    Applies, Choice, Default, Definition, Flags, Kind, NoneMeans, Parity, Section, Since,
};
use crate::table::computed;

const PROXY_PROTOCOL: Choice = Choice {
    words: &["off", "v1", "v2", "auto"],
    synonyms: &[
        ("false", "off"),
        ("0", "off"),
        ("none", "off"),
        ("true", "auto"),
        ("1", "auto"),
    ],
    switches: Some(("auto", "off")),
    none: NoneMeans::Word("off"),
    exact: false,
};

const HEADER_MAP: Choice = Choice {
    words: &["drop", "refuse", "dangerous"],
    synonyms: &[],
    switches: None,
    none: NoneMeans::Unset,
    exact: false,
};

/// Settings among these that Gunicorn does not have.
pub(super) const OWN: usize = 2;

/// The section's settings.
pub(super) const DEFINITIONS: &[Definition] = &[
    Definition {
        name: "preload_app",
        section: Section::ServerMechanics,
        flags: Flags::switch_on(&["--preload"]),
        kind: Kind::Bool,
        default: Default::Bool(false),
        doc: "Load the application once and fork the workers from there. They share its memory and start at once; \
          what it opens while it is imported is shared too. A process of its own does it, the *template*, which each \
          reload makes anew: it loads the code that is on disk then, and whatever happens meanwhile, workers are \
          supervised and signals are obeyed. The template runs as the user who started the server, and runs the \
          hook `pre_fork`. `boot_timeout` bounds how long it may take.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Better(
            "a template process loads the application, and each reload makes a new one",
        ),
    },
    Definition {
        name: "preload_in_arbiter",
        section: Section::ServerMechanics,
        flags: Flags::switch_on(&["--preload-in-arbiter"]),
        kind: Kind::Bool,
        default: Default::Bool(false),
        doc: "With `preload_app`: load the application in the arbiter itself, as Gunicorn does, before the hooks \
          `on_starting` and `when_ready`. For hooks that share objects of the application between the arbiter and its \
          workers. What Gunicorn's way costs comes with it: a reload keeps the code, and while the application is \
          loaded nothing is supervised and no signal is obeyed.",
        since: Since::Oxicorn("0.1.0"),
        applies: Applies::Reload,
        parity: Parity::Own,
    },
    Definition {
        name: "sendfile",
        section: Section::ServerMechanics,
        flags: Flags::switch_off(&["--no-sendfile"]),
        kind: Kind::Bool,
        default: Default::None,
        doc: "Send files of `wsgi.file_wrapper` without `sendfile(2)`, the kernel's short way. In the config file \
              False does so and True does not; unset, the variable `SENDFILE` of the environment decides, and \
              without that the short way is taken.",
        since: Since::Gunicorn("19.2"),
        applies: Applies::Reload,
        parity: Parity::Better(
            "True in the config file leaves it on; Gunicorn switches it off for any value",
        ),
    },
    Definition {
        name: "reuse_port",
        section: Section::ServerMechanics,
        flags: Flags::switch_on(&["--reuse-port"]),
        kind: Kind::Bool,
        default: Default::Bool(false),
        doc: "Set `SO_REUSEPORT` on the listening sockets, so that several servers can listen on the same port.",
        since: Since::Gunicorn("19.8"),
        applies: Applies::Start,
        parity: Parity::Better(
            "one socket for all workers, which no reload and no worker's end resets",
        ),
    },
    Definition {
        name: "chdir",
        section: Section::ServerMechanics,
        flags: Flags::text(&["--chdir"], "CHDIR"),
        kind: Kind::Directory,
        default: Default::Computed {
            described: "the working directory",
            compute: computed::chdir,
        },
        doc: "The directory to go to before the application is loaded; it also comes first where modules are \
          looked for.",
        since: Since::Always,
        applies: Applies::Start,
        parity: Parity::Better("it must be a directory; Gunicorn finds out when it goes there"),
    },
    Definition {
        name: "daemon",
        section: Section::ServerMechanics,
        flags: Flags::switch_on(&["-D", "--daemon"]),
        kind: Kind::Bool,
        default: Default::Bool(false),
        doc: "Detach from the terminal and run in the background. What was started ends as soon as the server listens.",
        since: Since::Always,
        applies: Applies::Start,
        parity: Parity::Better(
            "what was started waits until the server listens, or tells why it does not",
        ),
    },
    Definition {
        name: "raw_env",
        section: Section::ServerMechanics,
        flags: Flags::repeat(&["-e", "--env"], "ENV"),
        kind: Kind::TextList,
        default: Default::List(&[]),
        doc: "Environment variables for the application, `NAME=VALUE`. May be given several times.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Better("an entry without `=` is refused before anything is started"),
    },
    Definition {
        name: "pidfile",
        section: Section::ServerMechanics,
        flags: Flags::text(&["-p", "--pid"], "FILE"),
        kind: Kind::Text,
        default: Default::None,
        doc: "A file for the pid of the arbiter. The server does not start while the process it names lives.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "worker_tmp_dir",
        section: Section::ServerMechanics,
        flags: Flags::text(&["--worker-tmp-dir"], "DIR"),
        kind: Kind::Text,
        default: Default::None,
        doc: "The directory of Gunicorn's heartbeat files. It must exist. Temporary files are made in it where \
          `tmp_upload_dir` and the system's directories cannot be used.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::NotApplicable(
            "heartbeats are beaten in shared memory; long request bodies go there if nothing better can be written to",
        ),
    },
    Definition {
        name: "user",
        section: Section::ServerMechanics,
        flags: Flags::text(&["-u", "--user"], "USER"),
        kind: Kind::User,
        default: Default::Computed {
            described: "the user that starts the server",
            compute: computed::user,
        },
        doc: "The user the gateway and the workers run as, by name or number. The arbiter stays who it is: it binds, \
          makes log files and writes the pid file. On a reload the new workers take it over, the gateway only when \
          it is started anew.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Better("rotated logs are made anew by the arbiter and handed over"),
    },
    Definition {
        name: "group",
        section: Section::ServerMechanics,
        flags: Flags::text(&["-g", "--group"], "GROUP"),
        kind: Kind::Group,
        default: Default::Computed {
            described: "the group that starts the server",
            compute: computed::group,
        },
        doc: "The group the gateway and the workers run as, by name or number.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "umask",
        section: Section::ServerMechanics,
        flags: Flags::any_base_integer(&["-m", "--umask"]),
        kind: Kind::Integer {
            least: 0,
            most: i64::MAX,
        },
        default: Default::Int(0),
        doc: "The file mode bits that are cleared on what the server creates, such as unix sockets. A leading 0 \
          makes the number octal.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "initgroups",
        section: Section::ServerMechanics,
        flags: Flags::switch_on(&["--initgroups"]),
        kind: Kind::Bool,
        default: Default::Bool(false),
        doc: "Give the gateway and the workers all groups of their user.",
        since: Since::Gunicorn("19.7"),
        applies: Applies::Reload,
        parity: Parity::Better(
            "`group` becomes the group of the process too; Gunicorn leaves the old one",
        ),
    },
    Definition {
        name: "tmp_upload_dir",
        section: Section::ServerMechanics,
        flags: Flags::NONE,
        kind: Kind::Text,
        default: Default::None,
        doc: "The directory of request bodies that are longer than `body_memory`. The first is taken in which the \
          server's `user` can make a file, of this one, the variables `TMPDIR`, `TEMP` and `TMP`, `/tmp`, `/var/tmp`, \
          `/usr/tmp`, `worker_tmp_dir` and the working directory. Where there is none they are kept in memory, in all \
          up to half of `buffer_limit`, and the log says so.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Better("it is used; Gunicorn takes it and does nothing"),
    },
    Definition {
        name: "secure_scheme_headers",
        section: Section::ServerMechanics,
        flags: Flags::NONE,
        kind: Kind::TextDict,
        default: Default::Dict(&[
            ("X-FORWARDED-PROTOCOL", "ssl"),
            ("X-FORWARDED-PROTO", "https"),
            ("X-FORWARDED-SSL", "on"),
        ]),
        doc: "Headers by which a trusted proxy says that its client spoke https, and the value that says so. They \
          count only if `forwarded_allow_ips` has the peer's address, and must not contradict each other.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "forwarded_allow_ips",
        section: Section::ServerMechanics,
        flags: Flags::text(&["--forwarded-allow-ips"], "STRING"),
        kind: Kind::NetworkList,
        default: Default::Computed {
            described: "`127.0.0.1,::1`, or `$FORWARDED_ALLOW_IPS`",
            compute: computed::forwarded_allow_ips,
        },
        doc: "Proxies whose headers about the client are believed: addresses and networks separated by commas, or \
          `*` for everybody. A peer on a unix socket is always believed. `FORWARDED_ALLOW_IPS` in the \
          environment sets the default.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "pythonpath",
        section: Section::ServerMechanics,
        flags: Flags::text(&["--pythonpath"], "STRING"),
        kind: Kind::Text,
        default: Default::None,
        doc: "Directories, separated by commas, that come first where modules are looked for.",
        since: Since::Always,
        applies: Applies::Start,
        parity: Parity::Same,
    },
    Definition {
        name: "paste",
        section: Section::ServerMechanics,
        flags: Flags::text(&["--paste", "--paster"], "STRING"),
        kind: Kind::Text,
        default: Default::None,
        doc: "Load the application from a Paste Deploy file, `FILE` or `FILE#SECTION`. If it has a section `loggers`, it \
          is the `logconfig` too.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Better(
            "it counts wherever it is set; Gunicorn looks at the command line only",
        ),
    },
    Definition {
        name: "proxy_protocol",
        section: Section::ServerMechanics,
        flags: Flags::optional_text(&["--proxy-protocol"], "MODE", "auto"),
        kind: Kind::Choice(&PROXY_PROTOCOL),
        default: Default::Str("off"),
        doc: "Whether connections begin with a PROXY protocol header: `off`, `v1` (text), `v2` (binary) or `auto` \
          (either). The flag alone means `auto`. Only peers in `proxy_allow_ips` may send one.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "proxy_allow_ips",
        section: Section::ServerMechanics,
        flags: Flags::text(&["--proxy-allow-from"], "PROXY_ALLOW_IPS"),
        kind: Kind::NetworkList,
        default: Default::Str("127.0.0.1,::1"),
        doc: "Peers that may send a PROXY protocol header: addresses and networks separated by commas, or `*` for \
          everybody.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "protocol",
        section: Section::ServerMechanics,
        flags: Flags::text(&["--protocol"], "STRING"),
        kind: Kind::Text,
        default: Default::Str("http"),
        doc: "What clients speak: `http`, or what a web server in front does: `uwsgi` as nginx' `uwsgi_pass`, `fastcgi` as \
          `fastcgi_pass`, `scgi` as `scgi_pass`.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Better(
            "what the web server says of its client and of SCRIPT_NAME is believed, and its path is decoded once",
        ),
    },
    Definition {
        name: "uwsgi_allow_ips",
        section: Section::ServerMechanics,
        flags: Flags::text(&["--uwsgi-allow-from"], "UWSGI_ALLOW_IPS"),
        kind: Kind::NetworkList,
        default: Default::Str("127.0.0.1,::1"),
        doc: "Peers that may speak uwsgi, FastCGI or SCGI: addresses and networks separated by commas, or `*` for \
          everybody.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Better(
            "networks count as networks; everybody else is answered 403, not 500",
        ),
    },
    Definition {
        name: "raw_paste_global_conf",
        section: Section::ServerMechanics,
        flags: Flags::repeat(&["--paste-global"], "CONF"),
        kind: Kind::TextList,
        default: Default::List(&[]),
        doc: "Variables for the Paste Deploy file, `NAME=VALUE`; `\\=` stands for an equals sign within. May be \
          given several times.",
        since: Since::Gunicorn("19.7"),
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "permit_obsolete_folding",
        section: Section::ServerMechanics,
        flags: Flags::switch_on(&["--permit-obsolete-folding"]),
        kind: Kind::Bool,
        default: Default::Bool(false),
        doc: "Accept headers that go on in a second line, which RFC 9112 has made obsolete.",
        since: Since::Gunicorn("23.0.0"),
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "strip_header_spaces",
        section: Section::ServerMechanics,
        flags: Flags::switch_on(&["--strip-header-spaces"]),
        kind: Kind::Bool,
        default: Default::Bool(false),
        doc: "Accept white space between a header's name and its colon. Proxies disagree about such a header, so \
          it opens the door to request smuggling.",
        since: Since::Gunicorn("20.0.1"),
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "permit_unconventional_http_method",
        section: Section::ServerMechanics,
        flags: Flags::switch_on(&["--permit-unconventional-http-method"]),
        kind: Kind::Bool,
        default: Default::Bool(false),
        doc: "Accept any method RFC 9110 allows, also in lower case, with `#`, or of fewer than 3 or more than 20 \
              characters.",
        since: Since::Gunicorn("22.0.0"),
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "permit_unconventional_http_version",
        section: Section::ServerMechanics,
        flags: Flags::switch_on(&["--permit-unconventional-http-version"]),
        kind: Kind::Bool,
        default: Default::Bool(false),
        doc: "Accept versions other than HTTP/1.0 and HTTP/1.1.",
        since: Since::Gunicorn("22.0.0"),
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "permit_connect",
        section: Section::ServerMechanics,
        flags: Flags::switch_on(&["--permit-connect"]),
        kind: Kind::Bool,
        default: Default::Bool(false),
        doc: "Give CONNECT requests to the application instead of answering them with 501. Clients take an answer of \
          2xx for a tunnel, so this is for applications that are proxies.",
        since: Since::Oxicorn("0.1.0"),
        applies: Applies::Reload,
        parity: Parity::Own,
    },
    Definition {
        name: "casefold_http_method",
        section: Section::ServerMechanics,
        flags: Flags::switch_on(&["--casefold-http-method"]),
        kind: Kind::Bool,
        default: Default::Bool(false),
        doc: "Turn the method into capital letters. RFC 9110 says that case matters, so this is for clients that \
          cannot be mended.",
        since: Since::Gunicorn("22.0.0"),
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "forwarder_headers",
        section: Section::ServerMechanics,
        flags: Flags::text(&["--forwarder-headers"], "FORWARDER_HEADERS"),
        kind: Kind::CommaList,
        default: Default::Str("SCRIPT_NAME,PATH_INFO"),
        doc: "Headers with an underscore in their name that a trusted proxy may send, separated by commas, or `*` \
          for all. `header_map` decides about the others.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "header_map",
        section: Section::ServerMechanics,
        flags: Flags::text(&["--header-map"], "HEADER_MAP"),
        kind: Kind::Choice(&HEADER_MAP),
        default: Default::Str("drop"),
        doc: "What becomes of a header whose name has an underscore, which a WSGI application cannot tell from a \
          hyphen: `drop` it, `refuse` the request, or `dangerous`, which passes it on.",
        since: Since::Gunicorn("22.0.0"),
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "root_path",
        section: Section::ServerMechanics,
        flags: Flags::text(&["--root-path"], "STRING"),
        kind: Kind::Text,
        default: Default::Str(""),
        doc: "Where the application is mounted, for the `root_path` of ASGI scopes.",
        since: Since::Gunicorn("24.0.0"),
        applies: Applies::Reload,
        parity: Parity::Same,
    },
];

#[cfg(test)]
mod tests {
    use crate::testing::{accepted, default_in, list, refused, text, texts};
    use crate::value::{Raw, Value};

    fn word(word: &str) -> Value {
        Value::Str(word.into())
    }

    #[test]
    fn goes_to_an_existing_directory() {
        for (path, expected) in [
            ("/srv", "/srv"),
            ("..", "/srv"),
            (".", "/srv/app"),
            ("", "/srv/app"),
            ("/srv//app/../app/.", "/srv/app"),
            ("../../..", "/"),
        ] {
            assert_eq!(accepted("chdir", text(path)), word(expected), "{path}");
        }
        for raw in [text("gone"), text("app.ini"), Raw::None, Raw::Int(1)] {
            assert_eq!(refused("chdir", raw), "must be an existing directory");
        }
    }

    #[test]
    fn starts_where_the_user_believes_to_be() {
        assert_eq!(default_in(&[], "chdir"), word("/srv/app"));
        assert_eq!(
            default_in(&[("PWD", "/elsewhere")], "chdir"),
            word("/srv/app")
        );
        assert_eq!(default_in(&[("PWD", "/link")], "chdir"), word("/link"));
    }

    #[test]
    fn looks_up_users_and_groups() {
        for name in ["user", "group"] {
            assert_eq!(default_in(&[], name), Value::Int(1000));
            assert_eq!(accepted(name, Raw::None), Value::Int(1000));
            assert_eq!(accepted(name, Raw::Int(0)), Value::Int(0));
            assert_eq!(accepted(name, text("33")), Value::Int(33));
            assert_eq!(accepted(name, text("www")), Value::Int(33));
            for raw in [
                text("nobody knows"),
                text("-1"),
                Raw::Int(-1),
                Raw::Int(1 << 32),
                text(""),
            ] {
                assert_eq!(
                    refused(name, raw),
                    format!("must be an existing {name} or a number")
                );
            }
        }
    }

    #[test]
    fn reads_networks_to_the_bit() {
        for name in ["forwarded_allow_ips", "proxy_allow_ips", "uwsgi_allow_ips"] {
            assert_eq!(default_in(&[], name), list(&["127.0.0.1", "::1"]));
            assert_eq!(
                accepted(name, text("10.0.0.0/8, *,")),
                list(&["10.0.0.0/8", "*"])
            );
            assert_eq!(accepted(name, Raw::None), list(&[]));
            let allowed = "must be IP addresses and networks separated by commas, or '*': ";
            assert_eq!(
                refused(name, text("10.0.0.1/24")),
                format!("{allowed}'10.0.0.1/24' has host bits set")
            );
            assert_eq!(
                refused(name, text("::1, host")),
                format!("{allowed}'host' is no IP address")
            );
            assert_eq!(
                refused(name, texts(&["::1"])),
                "must be text, its parts separated by commas"
            );
        }
        assert_eq!(
            default_in(&[("FORWARDED_ALLOW_IPS", "*")], "forwarded_allow_ips"),
            list(&["*"])
        );
        assert_eq!(
            default_in(&[("FORWARDED_ALLOW_IPS", "")], "forwarded_allow_ips"),
            list(&[])
        );
        assert_eq!(
            default_in(&[("FORWARDED_ALLOW_IPS", "*")], "proxy_allow_ips"),
            list(&["127.0.0.1", "::1"])
        );
    }

    #[test]
    fn understands_every_word_for_the_proxy_protocol() {
        for (raw, expected) in [
            (text("V1"), "v1"),
            (text("v2"), "v2"),
            (text(" True "), "auto"),
            (text("1"), "auto"),
            (text("none"), "off"),
            (text("0"), "off"),
            (Raw::Bool(true), "auto"),
            (Raw::Bool(false), "off"),
            (Raw::None, "off"),
        ] {
            assert_eq!(
                accepted("proxy_protocol", raw.clone()),
                word(expected),
                "{raw}"
            );
        }
        for raw in [text("v3"), Raw::Int(1), text("")] {
            assert_eq!(
                refused("proxy_protocol", raw),
                "must be one of: off, v1, v2, auto"
            );
        }
    }

    #[test]
    fn decides_about_underscores() {
        assert_eq!(accepted("header_map", text("Refuse")), word("refuse"));
        assert_eq!(accepted("header_map", Raw::None), Value::None);
        assert_eq!(
            refused("header_map", text("keep")),
            "must be one of: drop, refuse, dangerous"
        );
        assert_eq!(
            accepted("forwarder_headers", text("A_B, C ,")),
            list(&["A_B", "C"])
        );
    }

    #[test]
    fn takes_scheme_headers_as_a_dictionary_of_texts() {
        let given = Raw::Dict(vec![("X-SCHEME".into(), text("https"))]);
        assert_eq!(
            accepted("secure_scheme_headers", given),
            Value::Dict(vec![("X-SCHEME".into(), "https".into())])
        );
        for raw in [
            Raw::Dict(vec![("X-SCHEME".into(), Raw::Int(1))]),
            Raw::None,
            text("X-SCHEME"),
        ] {
            assert_eq!(
                refused("secure_scheme_headers", raw),
                "must be a dictionary from text to text"
            );
        }
    }
}
