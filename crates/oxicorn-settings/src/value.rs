//! What a source said ([`Raw`]), what it means ([`Value`]), and who said it ([`Source`]).
//!
//! Both are shown the way Python's `repr` shows them, because that is how users wrote them in their config file.

use std::fmt;

/// What a source said, not yet looked at.
#[derive(Debug, Clone, PartialEq)]
pub enum Raw {
    /// Python's `None`.
    None,
    /// A boolean, or a switch on the command line.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number with a fraction.
    Float(f64),
    /// Text, and every value given by environment or command line that is not a number.
    Str(String),
    /// A list, tuple or other sequence; also a flag that may be repeated.
    List(Vec<Raw>),
    /// A dictionary whose keys are text, in its order.
    Dict(Vec<(String, Raw)>),
    /// Handle of a Python object the caller keeps, and how many positional arguments it takes if it can be called.
    Object(u32, Option<usize>),
}

/// What a setting is set to, after its validator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Not set.
    None,
    /// A switch.
    Bool(bool),
    /// A number.
    Int(i64),
    /// Text.
    Str(String),
    /// Several texts.
    List(Vec<String>),
    /// Texts by name, in the order they were given.
    Dict(Vec<(String, String)>),
    /// Handle of a Python object the caller keeps.
    Object(u32),
}

impl Value {
    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The number, if it is one.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            _ => None,
        }
    }

    /// The list, if it is one.
    pub fn as_list(&self) -> Option<&[String]> {
        match self {
            Self::List(items) => Some(items),
            _ => None,
        }
    }

    /// Whether a switch is on; whatever is no switch is off.
    pub fn is_true(&self) -> bool {
        *self == Self::Bool(true)
    }
}

/// Who set a value; later ones win over earlier ones.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Nobody: the definition's default.
    Default,
    /// The program that embeds the server.
    Framework,
    /// The config file.
    File {
        /// The file as it was named.
        path: String,
    },
    /// An environment variable.
    Environment {
        /// Its name.
        variable: String,
    },
    /// The command line.
    CommandLine {
        /// The flag, in its long form.
        flag: String,
    },
}

impl Source {
    /// The config file as it was named, if that is where the value came from.
    pub fn file(&self) -> Option<&str> {
        match self {
            Self::File { path } => Some(path),
            _ => None,
        }
    }

    /// Precedence: the value of the source with the higher rank wins.
    pub(crate) fn rank(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::Framework => 1,
            Self::File { .. } => 2,
            Self::Environment { .. } => 3,
            Self::CommandLine { .. } => 4,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("its default"),
            Self::Framework => f.write_str("the program that runs the server"),
            Self::File { path } => f.write_str(path),
            Self::Environment { variable } => write!(f, "environment variable {variable}"),
            Self::CommandLine { flag } => write!(f, "command line, {flag}"),
        }
    }
}

/// Text as Python's `repr` writes it: single quotes, unless it holds one and no double quote.
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quote = if self.0.contains('\'') && !self.0.contains('"') {
            '"'
        } else {
            '\''
        };
        write!(f, "{quote}")?;
        for character in self.0.chars() {
            match character {
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                _ if character == quote => write!(f, "\\{character}")?,
                _ if character.is_ascii_control() => write!(f, "\\x{:02x}", u32::from(character))?,
                _ => write!(f, "{character}")?,
            }
        }
        write!(f, "{quote}")
    }
}

/// `open`, the items with commas between them, `close`.
fn write_items<T>(
    f: &mut fmt::Formatter<'_>,
    (open, close): (&str, &str),
    items: &[T],
    mut write_item: impl FnMut(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    f.write_str(open)?;
    for (position, item) in items.iter().enumerate() {
        if position > 0 {
            f.write_str(", ")?;
        }
        write_item(f, item)?;
    }
    f.write_str(close)
}

fn write_bool(f: &mut fmt::Formatter<'_>, value: bool) -> fmt::Result {
    f.write_str(if value { "True" } else { "False" })
}

impl fmt::Display for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Bool(value) => write_bool(f, *value),
            Self::Int(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value:?}"),
            Self::Str(value) => write!(f, "{}", Quoted(value)),
            Self::List(items) => write_items(f, ("[", "]"), items, |f, item| write!(f, "{item}")),
            Self::Dict(entries) => write_items(f, ("{", "}"), entries, |f, (name, value)| {
                write!(f, "{}: {value}", Quoted(name))
            }),
            Self::Object(_, Some(_)) => f.write_str("a function or class"),
            Self::Object(_, None) => f.write_str("an object"),
        }
    }
}

/// As `--print-config` shows it: text bare, everything else as Python's `repr`.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Bool(value) => write_bool(f, *value),
            Self::Int(value) => write!(f, "{value}"),
            Self::Str(value) => f.write_str(value),
            Self::List(items) => write_items(f, ("[", "]"), items, |f, item| {
                write!(f, "{}", Quoted(item))
            }),
            Self::Dict(entries) => write_items(f, ("{", "}"), entries, |f, (name, value)| {
                write!(f, "{}: {}", Quoted(name), Quoted(value))
            }),
            Self::Object(_) => f.write_str("<object>"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_values_as_python_does() {
        let cases = [
            (Raw::None, "None"),
            (Raw::Bool(true), "True"),
            (Raw::Int(-3), "-3"),
            (Raw::Float(1.0), "1.0"),
            (Raw::Str("it's".into()), "\"it's\""),
            (Raw::Str("a\n\x01\\'\"".into()), r#"'a\n\x01\\\'"'"#),
            (
                Raw::List(vec![Raw::Str("a".into()), Raw::Int(1)]),
                "['a', 1]",
            ),
            (Raw::Dict(vec![("k".into(), Raw::None)]), "{'k': None}"),
        ];
        for (raw, expected) in cases {
            assert_eq!(raw.to_string(), expected);
        }
    }

    #[test]
    fn prints_text_bare_and_lists_quoted() {
        assert_eq!(Value::Str("a b".into()).to_string(), "a b");
        assert_eq!(
            Value::List(vec!["a".into(), "b".into()]).to_string(),
            "['a', 'b']"
        );
        assert_eq!(
            Value::Dict(vec![("A".into(), "b".into())]).to_string(),
            "{'A': 'b'}"
        );
    }

    #[test]
    fn later_sources_have_higher_ranks() {
        let ranks = [
            Source::Default,
            Source::Framework,
            Source::File {
                path: String::new(),
            },
            Source::Environment {
                variable: String::new(),
            },
            Source::CommandLine {
                flag: String::new(),
            },
        ]
        .map(|source| source.rank());
        assert!(ranks.is_sorted_by(|a, b| a < b));
    }
}
