//! What there is to say about one setting, as data.

use crate::environment::{Environment, Host};
use crate::value::{Quoted, Raw};

/// One setting. Everything that is said about it anywhere (help, validation, reference page) is said here.
#[derive(Debug, Clone, Copy)]
pub struct Definition {
    /// Its name in the config file and as attribute of `cfg`.
    pub name: &'static str,
    /// The heading it stands under.
    pub section: Section,
    /// How the command line sets it.
    pub flags: Flags,
    /// Which values it takes.
    pub kind: Kind,
    /// What it is where nobody sets it.
    pub default: Default,
    /// What it means. The first sentence is its line in `--help`.
    pub doc: &'static str,
    /// Since when it exists.
    pub since: Since,
    /// When a changed value takes effect.
    pub applies: Applies,
    /// How far Gunicorn's meaning is kept.
    pub parity: Parity,
}

impl Definition {
    /// The line of `--help`: the first sentence of the description.
    pub fn summary(&self) -> &'static str {
        let end = self.doc.find(". ").or_else(|| self.doc.find(".\n"));
        end.map_or(self.doc, |end| &self.doc[..=end])
    }

    /// Whether it takes a Python callable that the server calls.
    pub fn is_hook(&self) -> bool {
        matches!(self.kind, Kind::Hook { .. })
    }

    /// Whether only oxicorn has it.
    pub fn is_own(&self) -> bool {
        matches!(self.since, Since::Oxicorn(_))
    }
}

/// The headings of `--help` and of the reference page, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the titles say it")]
pub enum Section {
    ConfigFile,
    ServerSocket,
    WorkerProcesses,
    Gateway,
    Tracing,
    Security,
    Debugging,
    ServerMechanics,
    Logging,
    ProcessNaming,
    ServerHooks,
    Tls,
    Http2,
    DirtyArbiters,
    DirtyArbiterHooks,
    Control,
}

impl Section {
    /// Every section, in the order of the reference page.
    pub const ALL: [Self; 16] = [
        Self::ConfigFile,
        Self::ServerSocket,
        Self::WorkerProcesses,
        Self::Gateway,
        Self::Tracing,
        Self::Security,
        Self::Debugging,
        Self::ServerMechanics,
        Self::Logging,
        Self::ProcessNaming,
        Self::ServerHooks,
        Self::Tls,
        Self::Http2,
        Self::DirtyArbiters,
        Self::DirtyArbiterHooks,
        Self::Control,
    ];

    /// The heading; Gunicorn's where Gunicorn has the section.
    pub const fn title(self) -> &'static str {
        match self {
            Self::ConfigFile => "Config File",
            Self::ServerSocket => "Server Socket",
            Self::WorkerProcesses => "Worker Processes",
            Self::Gateway => "Gateway",
            Self::Tracing => "Ids and Traces",
            Self::Security => "Security",
            Self::Debugging => "Debugging",
            Self::ServerMechanics => "Server Mechanics",
            Self::Logging => "Logging",
            Self::ProcessNaming => "Process Naming",
            Self::ServerHooks => "Server Hooks",
            Self::Tls => "SSL",
            Self::Http2 => "HTTP/2",
            Self::DirtyArbiters => "Dirty Arbiters",
            Self::DirtyArbiterHooks => "Dirty Arbiter Hooks",
            Self::Control => "Control",
        }
    }
}

/// How the command line sets a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags {
    /// Every spelling, Gunicorn's letter for letter; none: the config file only.
    pub names: &'static [&'static str],
    /// Stands for the value in `--help`.
    pub metavar: &'static str,
    /// What the flag does.
    pub action: Action,
}

/// What giving a flag does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Takes a text.
    Text,
    /// Takes a whole number in decimal digits.
    Integer,
    /// Takes a whole number; `0x`, `0o`, `0b` and a leading 0 (octal) choose the base.
    AnyBaseInteger,
    /// Takes a text and may be repeated.
    Repeat,
    /// Takes nothing and says this.
    Switch(bool),
    /// Takes a text, or nothing, which says this.
    OptionalText(&'static str),
}

impl Flags {
    /// No flag.
    pub const NONE: Self = Self::new(&[], "", Action::Text);

    const fn new(names: &'static [&'static str], metavar: &'static str, action: Action) -> Self {
        Self {
            names,
            metavar,
            action,
        }
    }

    /// Flags that take a text.
    pub const fn text(names: &'static [&'static str], metavar: &'static str) -> Self {
        Self::new(names, metavar, Action::Text)
    }

    /// Flags that take a whole number.
    pub const fn integer(names: &'static [&'static str]) -> Self {
        Self::new(names, "INT", Action::Integer)
    }

    /// Flags that take a whole number in any base.
    pub const fn any_base_integer(names: &'static [&'static str]) -> Self {
        Self::new(names, "INT", Action::AnyBaseInteger)
    }

    /// Flags that may be repeated.
    pub const fn repeat(names: &'static [&'static str], metavar: &'static str) -> Self {
        Self::new(names, metavar, Action::Repeat)
    }

    /// Flags that switch something on.
    pub const fn switch_on(names: &'static [&'static str]) -> Self {
        Self::new(names, "", Action::Switch(true))
    }

    /// Flags that switch something off.
    pub const fn switch_off(names: &'static [&'static str]) -> Self {
        Self::new(names, "", Action::Switch(false))
    }

    /// Flags whose value may be left out.
    pub const fn optional_text(
        names: &'static [&'static str],
        metavar: &'static str,
        missing: &'static str,
    ) -> Self {
        Self::new(names, metavar, Action::OptionalText(missing))
    }

    /// The long form that messages name.
    pub fn long(&self) -> Option<&'static str> {
        self.names
            .iter()
            .copied()
            .find(|name| name.starts_with("--"))
    }
}

/// Which values a setting takes; `validate` has the rules.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// True, False or None; as text in any case.
    Bool,
    /// A whole number within bounds, both allowed; as text in any base Python's `int(text, 0)` knows.
    Integer {
        /// The smallest allowed.
        least: i64,
        /// The largest allowed.
        most: i64,
    },
    /// Text, stripped of white space around it, or None.
    Text,
    /// A list of texts; one text is a list of one.
    TextList,
    /// Texts separated by commas.
    CommaList,
    /// Addresses and networks separated by commas, or `*`.
    NetworkList,
    /// Existing files, or patterns.
    FileList,
    /// One of several words.
    Choice(&'static Choice),
    /// `h1` and `h2` separated by commas.
    Protocols,
    /// A dictionary from text to text.
    TextDict,
    /// A Python dictionary of any content.
    ObjectDict,
    /// A Python class, or the name of one.
    Class,
    /// A Python callable with one of these numbers of positional arguments.
    Hook {
        /// The parameters of the full form.
        parameters: &'static str,
        /// How many it may take.
        arities: &'static [usize],
        /// Where it is called.
        process: Process,
    },
    /// A user's name or number.
    User,
    /// A group's name or number.
    Group,
    /// An existing directory; made absolute.
    Directory,
    /// `host:port` or `unix://PATH`.
    StatsdAddress,
    /// What an access log line looks like, or None.
    LogFormat,
    /// Fields of the JSON access log, separated by commas.
    LogFields,
    /// The name of a header that is not the protocol's.
    HeaderName,
    /// `http://HOST:PORT` or `https://HOST:PORT`, with or without a path, or None.
    HttpUrl,
    /// `NAME=VALUE` separated by commas, percent-encoded, or None.
    Pairs,
    /// A number from 0 to 1, kept as text, or None.
    Ratio,
    /// Any value.
    Anything,
}

impl Kind {
    /// How the reference page says which values are taken.
    pub fn described(&self) -> String {
        let fixed = match self {
            Self::Bool => "True or False",
            Self::Text | Self::LogFormat => "text",
            Self::TextList => "list of texts",
            Self::CommaList => "texts separated by commas",
            Self::LogFields => "names of fields separated by commas",
            Self::NetworkList => "IP addresses and networks separated by commas, or `*`",
            Self::FileList => "list of existing files or patterns",
            Self::Protocols => "`h1` and `h2` separated by commas",
            Self::TextDict => "dictionary from text to text",
            Self::ObjectDict => "dictionary",
            Self::Class => "class, or the name of one",
            Self::User => "user, by name or number",
            Self::Group => "group, by name or number",
            Self::Directory => "existing directory",
            Self::StatsdAddress => "`HOST:PORT` or `unix://PATH`",
            Self::HeaderName => "name of a header",
            Self::HttpUrl => "`http://HOST:PORT` or `https://HOST:PORT`, with or without a path",
            Self::Pairs => "`NAME=VALUE` separated by commas, percent-encoded",
            Self::Ratio => "number from 0 to 1",
            Self::Anything => "anything",
            Self::Integer {
                least,
                most: i64::MAX,
            } => return format!("integer, {least} or more"),
            Self::Integer { least, most } => return format!("integer from {least} to {most}"),
            Self::Choice(choice) => return format!("one of `{}`", choice.words.join("`, `")),
            Self::Hook { parameters, .. } => return format!("callable `({parameters})`"),
        };
        fixed.to_owned()
    }
}

/// The process that calls a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process {
    /// The arbiter.
    Arbiter,
    /// A worker.
    Worker,
    /// A child of the arbiter that is about to become the new server.
    Successor,
    /// A worker of the pool for heavy applications.
    Pool,
}

impl Process {
    /// How the reference page calls it; users know the arbiter as the master.
    pub const fn described(self) -> &'static str {
        match self {
            Self::Arbiter => "master",
            Self::Worker => "worker",
            Self::Successor => "child of the master",
            Self::Pool => "worker of the pool",
        }
    }
}

/// The words of a [`Kind::Choice`] and what else is understood.
#[derive(Debug, Clone, Copy)]
pub struct Choice {
    /// The words.
    pub words: &'static [&'static str],
    /// Other spellings of them.
    pub synonyms: &'static [(&'static str, &'static str)],
    /// What True and False mean, if anything.
    pub switches: Option<(&'static str, &'static str)>,
    /// What None means.
    pub none: NoneMeans,
    /// Whether white space and case must match.
    pub exact: bool,
}

/// What None means to a [`Choice`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoneMeans {
    /// It is no choice.
    Nothing,
    /// It stays None.
    Unset,
    /// It is this word.
    Word(&'static str),
}

/// What a setting is where nobody sets it.
#[derive(Debug, Clone, Copy)]
pub enum Default {
    /// Not set.
    None,
    /// A switch.
    Bool(bool),
    /// A number.
    Int(i64),
    /// A text; validated like any other.
    Str(&'static str),
    /// Several texts.
    List(&'static [&'static str]),
    /// Texts by name.
    Dict(&'static [(&'static str, &'static str)]),
    /// It depends on where the server runs.
    Computed {
        /// How the reference page says it.
        described: &'static str,
        /// What it is in this environment, and the variable that made it so.
        compute: fn(&Environment, &dyn Host) -> (Raw, Option<&'static str>),
    },
}

impl Default {
    /// How the reference page says it: as Python writes it, or in words where it is computed.
    pub fn described(&self) -> String {
        let quoted = |text: &&str| Quoted(text).to_string();
        let python = match self {
            Self::Computed { described, .. } => return (*described).to_owned(),
            Self::None => "None".to_owned(),
            Self::Bool(value) => if *value { "True" } else { "False" }.to_owned(),
            Self::Int(value) => value.to_string(),
            Self::Str(text) => quoted(text),
            Self::List(items) => format!(
                "[{}]",
                items.iter().map(quoted).collect::<Vec<_>>().join(", ")
            ),
            Self::Dict(entries) => {
                let entry =
                    |(name, value): &(&str, &str)| format!("{}: {}", quoted(name), quoted(value));
                format!(
                    "{{{}}}",
                    entries.iter().map(entry).collect::<Vec<_>>().join(", ")
                )
            }
        };
        format!("`{python}`")
    }

    /// What a source that said this would have said, and the environment variable it was taken from.
    pub fn raw(&self, environment: &Environment, host: &dyn Host) -> (Raw, Option<&'static str>) {
        let text = |text: &&str| Raw::Str((*text).into());
        let raw = match self {
            Self::None => Raw::None,
            Self::Bool(value) => Raw::Bool(*value),
            Self::Int(value) => Raw::Int(*value),
            Self::Str(value) => text(value),
            Self::List(values) => Raw::List(values.iter().map(text).collect()),
            Self::Dict(entries) => Raw::Dict(
                entries
                    .iter()
                    .map(|(name, value)| ((*name).into(), text(value)))
                    .collect(),
            ),
            Self::Computed { compute, .. } => return compute(environment, host),
        };
        (raw, None)
    }
}

/// Since when a setting exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// From the beginning, as far as anybody who still upgrades is concerned.
    Always,
    /// A release of Gunicorn.
    Gunicorn(&'static str),
    /// A release of oxicorn, which alone has it.
    Oxicorn(&'static str),
}

/// When a changed value takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applies {
    /// When the server starts.
    Start,
    /// Also when it is told to reload (HUP).
    Reload,
}

/// How far Gunicorn's meaning is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parity {
    /// To the letter.
    Same,
    /// Kept and bettered: how.
    Better(&'static str),
    /// Understood, checked and without effect: why.
    NotApplicable(&'static str),
    /// Gunicorn has no such setting.
    Own,
}
