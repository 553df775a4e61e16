//! The validators: from what a source said to what it means, or what would have been allowed.
//!
//! They accept what Gunicorn's accept, text from the command line and objects from the config file alike; where Gunicorn
//! finds out later (a directory that is none, a file mode out of range) the refusal comes here. Checks that need more than
//! one value are in `settings`.

use crate::bind_address::BindAddress;
use crate::definition::{Choice, Default, Definition, Kind, NoneMeans};
use crate::environment::{Environment, Host};
use crate::network::Network;
use crate::resolver::SettingError;
use crate::value::{Quoted, Raw, Source, Value};
use crate::{log_fields, log_format, otlp};

/// The port of `StatsD` where its address names none.
pub(crate) const STATSD_PORT: u16 = 8125;

/// What is wrong, in words that follow "Invalid value for NAME: VALUE (SOURCE): ".
type Refusal = String;

/// What `raw` means to the setting.
pub(crate) fn validate(
    definition: &'static Definition,
    raw: Raw,
    source: &Source,
    environment: &Environment,
    host: &dyn Host,
) -> Result<Value, SettingError> {
    // A setting nobody set need not be something its users may say: no hook is a callable, for one.
    if matches!(
        (definition.default, source, &raw),
        (Default::None, Source::Default, Raw::None)
    ) {
        return Ok(Value::None);
    }
    let shown = raw.to_string();
    check(definition.kind, raw, environment, host).map_err(|allowed| SettingError::NotAllowed {
        setting: definition.name,
        value: shown,
        allowed,
        source: source.clone(),
    })
}

fn check(
    kind: Kind,
    raw: Raw,
    environment: &Environment,
    host: &dyn Host,
) -> Result<Value, Refusal> {
    match kind {
        Kind::Bool => boolean(&raw),
        Kind::Integer { least, most } => integer(&raw, least, most).map(Value::Int),
        Kind::Text => text(raw),
        Kind::TextList => text_list(raw).map(Value::List),
        Kind::CommaList => comma_list(raw).map(Value::List),
        Kind::NetworkList => network_list(raw),
        Kind::FileList => file_list(raw, host),
        Kind::Choice(choice) => one_of(choice, raw),
        Kind::Protocols => protocols(raw),
        Kind::TextDict => text_dict(raw),
        Kind::ObjectDict => object_dict(raw, host),
        Kind::Class => class(raw, host),
        Kind::Hook {
            parameters,
            arities,
            ..
        } => hook(&raw, parameters, arities),
        Kind::User => account(&raw, environment.effective_user, "user", |name| {
            host.user_id(name)
        }),
        Kind::Group => account(&raw, environment.effective_group, "group", |name| {
            host.group_id(name)
        }),
        Kind::Directory => directory(raw, environment, host),
        Kind::StatsdAddress => statsd_address(raw),
        Kind::LogFormat => log_format(raw),
        Kind::LogFields => log_fields(raw),
        Kind::HeaderName => header_name(raw),
        Kind::HttpUrl => http_url(raw),
        Kind::Pairs => pairs(raw),
        Kind::Ratio => ratio(&raw),
        Kind::Anything => Ok(anything(raw)),
    }
}

fn boolean(raw: &Raw) -> Result<Value, Refusal> {
    let refusal = || "must be True or False".to_owned();
    match raw {
        Raw::None => Ok(Value::None),
        Raw::Bool(value) => Ok(Value::Bool(*value)),
        Raw::Str(text) => match text.trim().to_ascii_lowercase().as_str() {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            _ => Err(refusal()),
        },
        _ => Err(refusal()),
    }
}

fn integer(raw: &Raw, least: i64, most: i64) -> Result<i64, Refusal> {
    let value = match raw {
        // Booleans are integers to Python.
        Raw::Bool(value) => Some(i64::from(*value)),
        Raw::Int(value) => Some(*value),
        Raw::Str(text) => parse_integer(text, Base::Prefixed),
        _ => None,
    };
    value
        .filter(|value| (least..=most).contains(value))
        .ok_or_else(|| match most {
            i64::MAX => format!("must be an integer, {least} or more"),
            _ => format!("must be an integer from {least} to {most}"),
        })
}

/// How the digits of a number are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Base {
    /// As `int(text)` of Python.
    Decimal,
    /// As `int(text, 0)`: `0x`, `0o` and `0b` choose the base, and a decimal number does not begin with 0.
    Prefixed,
    /// As `Prefixed`, but a leading 0 means octal, which is how file modes have always been written.
    OctalByZero,
}

/// Reads a number as Python does: white space around it, a sign, single underscores between digits.
pub(crate) fn parse_integer(text: &str, base: Base) -> Option<i64> {
    let text = text.trim();
    let (negative, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) => (text.starts_with('-'), digits),
        None => (false, text),
    };
    let (radix, digits) = split_radix(digits, base)?;
    let well_formed = !digits.starts_with('_') && !digits.ends_with('_') && !digits.contains("__");
    let digits = digits.replace('_', "");
    if !well_formed || !digits.starts_with(|first: char| first.is_digit(radix)) {
        return None;
    }
    let sign = if negative { "-" } else { "" };
    i64::from_str_radix(&format!("{sign}{digits}"), radix).ok()
}

fn split_radix(digits: &str, base: Base) -> Option<(u32, &str)> {
    if base == Base::Decimal {
        return Some((10, digits));
    }
    let lower = digits.to_ascii_lowercase();
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if lower.starts_with(prefix) {
            // One underscore may stand between the prefix and the digits.
            let rest = &digits[prefix.len()..];
            return Some((radix, rest.strip_prefix('_').unwrap_or(rest)));
        }
    }
    let leading_zero =
        digits.starts_with('0') && digits.contains(|digit| !matches!(digit, '0' | '_'));
    match (leading_zero, base) {
        (true, Base::OctalByZero) => Some((8, digits)),
        (true, _) => None,
        (false, _) => Some((10, digits)),
    }
}

/// Text or None.
fn optional_text(raw: Raw) -> Result<Option<String>, Refusal> {
    match raw {
        Raw::None => Ok(None),
        Raw::Str(text) => Ok(Some(text.trim().to_owned())),
        _ => Err("must be text".into()),
    }
}

fn text(raw: Raw) -> Result<Value, Refusal> {
    optional_text(raw).map(|text| text.map_or(Value::None, Value::Str))
}

fn text_list(raw: Raw) -> Result<Vec<String>, Refusal> {
    let items = match raw {
        Raw::None | Raw::Bool(false) | Raw::Int(0) => Vec::new(),
        Raw::Str(text) if text.is_empty() => Vec::new(),
        Raw::Str(_) => vec![raw],
        Raw::List(items) => items,
        Raw::Dict(entries) if entries.is_empty() => Vec::new(),
        _ => return Err("must be a list of texts".into()),
    };
    items
        .into_iter()
        .map(|item| optional_text(item)?.ok_or_else(String::new))
        .collect::<Result<_, _>>()
        .map_err(|_| "must be a list of texts".into())
}

fn comma_list(raw: Raw) -> Result<Vec<String>, Refusal> {
    let text = optional_text(raw).map_err(|_| "must be text, its parts separated by commas")?;
    Ok(text
        .unwrap_or_default()
        .split(',')
        .filter(|part| !part.is_empty())
        .map(|part| part.trim().to_owned())
        .collect())
}

fn network_list(raw: Raw) -> Result<Value, Refusal> {
    let entries = comma_list(raw)?;
    for entry in entries.iter().filter(|entry| *entry != "*") {
        Network::parse(entry).map_err(|fault| {
            format!(
                "must be IP addresses and networks separated by commas, or '*': {} {fault}",
                Quoted(entry)
            )
        })?;
    }
    Ok(Value::List(entries))
}

fn file_list(raw: Raw, host: &dyn Host) -> Result<Value, Refusal> {
    let entries = text_list(raw)?;
    match entries
        .iter()
        .find(|entry| !is_pattern(entry) && !host.path_exists(entry))
    {
        Some(missing) => Err(format!(
            "must be existing files or patterns: {} does not exist",
            Quoted(missing)
        )),
        None => Ok(Value::List(entries)),
    }
}

/// Whether an entry of a file list stands for whatever matches it.
pub(crate) fn is_pattern(entry: &str) -> bool {
    entry.contains(['*', '?', '['])
}

fn one_of(choice: &Choice, raw: Raw) -> Result<Value, Refusal> {
    let word = match (raw, choice.switches) {
        (Raw::None, _) => match choice.none {
            NoneMeans::Unset => return Ok(Value::None),
            NoneMeans::Word(word) => Some(word),
            NoneMeans::Nothing => None,
        },
        (Raw::Bool(value), Some((on, off))) => Some(if value { on } else { off }),
        (Raw::Str(text), _) => find_word(choice, &text),
        _ => None,
    };
    word.map(|word| Value::Str(word.into()))
        .ok_or_else(|| format!("must be one of: {}", choice.words.join(", ")))
}

fn find_word(choice: &Choice, text: &str) -> Option<&'static str> {
    let folded = text.trim().to_lowercase();
    let text = if choice.exact { text } else { &folded };
    let synonym = choice
        .synonyms
        .iter()
        .find(|(synonym, _)| *synonym == text)
        .map(|(_, word)| *word);
    synonym.or_else(|| choice.words.iter().copied().find(|word| *word == text))
}

fn protocols(raw: Raw) -> Result<Value, Refusal> {
    let refusal = || "must be h1 and h2 separated by commas, each at most once".to_owned();
    let text = optional_text(raw)
        .map_err(|_| refusal())?
        .unwrap_or_default()
        .to_lowercase();
    let mut protocols: Vec<String> = Vec::new();
    for protocol in text
        .split(',')
        .map(str::trim)
        .filter(|protocol| !protocol.is_empty())
    {
        if !["h1", "h2"].contains(&protocol) || protocols.iter().any(|before| before == protocol) {
            return Err(refusal());
        }
        protocols.push(protocol.into());
    }
    if protocols.is_empty() {
        protocols.push("h1".into());
    }
    Ok(Value::List(protocols))
}

fn text_dict(raw: Raw) -> Result<Value, Refusal> {
    let refusal = || "must be a dictionary from text to text".to_owned();
    let Raw::Dict(entries) = raw else {
        return Err(refusal());
    };
    let as_text = |(name, value)| match value {
        Raw::Str(text) => Ok((name, text)),
        _ => Err(refusal()),
    };
    entries
        .into_iter()
        .map(as_text)
        .collect::<Result<_, _>>()
        .map(Value::Dict)
}

/// A dictionary of texts is kept as it is; any other comes as the handle of the object, because nothing here could hold it.
fn object_dict(raw: Raw, host: &dyn Host) -> Result<Value, Refusal> {
    match raw {
        Raw::Object(object, _) if host.is_dictionary(object) => Ok(Value::Object(object)),
        Raw::Dict(_) => text_dict(raw),
        _ => Err("must be a dictionary".into()),
    }
}

fn class(raw: Raw, host: &dyn Host) -> Result<Value, Refusal> {
    match raw {
        Raw::Object(object, _) if host.is_class(object) => Ok(Value::Object(object)),
        _ => text(raw).map_err(|_| "must be a class or the name of one".into()),
    }
}

fn hook(raw: &Raw, parameters: &str, arities: &[usize]) -> Result<Value, Refusal> {
    match raw {
        Raw::Object(object, Some(arity)) if arities.contains(arity) => Ok(Value::Object(*object)),
        _ => Err(format!(
            "must be a callable with the arguments ({parameters})"
        )),
    }
}

fn account(
    raw: &Raw,
    own: u32,
    what: &str,
    look_up: impl Fn(&str) -> Option<u32>,
) -> Result<Value, Refusal> {
    let id = match raw {
        Raw::None => Some(i64::from(own)),
        Raw::Bool(value) => Some(i64::from(*value)),
        Raw::Int(id) => Some(*id),
        Raw::Str(name) => numeric(name).or_else(|| look_up(name).map(i64::from)),
        _ => None,
    };
    id.filter(|id| u32::try_from(*id).is_ok())
        .map(Value::Int)
        .ok_or_else(|| {
            // daphne's `-u` is a unix socket.
            let hint = match raw {
                Raw::Str(path) if path.contains('/') => {
                    "; a unix socket is written --bind unix:PATH"
                }
                _ => "",
            };
            format!("must be an existing {what} or a number{hint}")
        })
}

fn numeric(text: &str) -> Option<i64> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
}

fn directory(raw: Raw, environment: &Environment, host: &dyn Host) -> Result<Value, Refusal> {
    let refusal = || "must be an existing directory".to_owned();
    let path = optional_text(raw).ok().flatten().ok_or_else(refusal)?;
    let path = environment.absolute(&path, host);
    if host.is_directory(&path) {
        Ok(Value::Str(path))
    } else {
        Err(refusal())
    }
}

fn statsd_address(raw: Raw) -> Result<Value, Refusal> {
    let refusal = || "must be HOST:PORT or unix://PATH".to_owned();
    let Some(address) = optional_text(raw).map_err(|_| refusal())? else {
        return Ok(Value::None);
    };
    match parse_statsd_address(&address) {
        Some(_) => Ok(Value::Str(address)),
        None => Err(refusal()),
    }
}

/// Where `StatsD` listens. `unix:123` has always been port 123 of a host called unix, so it stays that.
pub fn parse_statsd_address(text: &str) -> Option<BindAddress> {
    if let Some(port) = text
        .strip_prefix("unix:")
        .and_then(|port| numeric(port).filter(|_| !port.is_empty()))
    {
        return Some(BindAddress::Tcp {
            host: "unix".into(),
            port: u16::try_from(port).ok()?,
        });
    }
    match BindAddress::parse_with_port(text, STATSD_PORT) {
        Ok(BindAddress::Descriptor(_)) | Err(_) => None,
        Ok(address) => Some(address),
    }
}

fn log_format(raw: Raw) -> Result<Value, Refusal> {
    let value = text(raw)?;
    let fault = value.as_str().and_then(log_format::fault);
    fault.map_or(Ok(value), |fault| {
        Err(format!("must be text with atoms such as %(h)s: {fault}"))
    })
}

fn log_fields(raw: Raw) -> Result<Value, Refusal> {
    let fields = match raw {
        Raw::List(_) => text_list(raw)?,
        raw => comma_list(raw)?,
    };
    let fault = |(at, field): (usize, &String)| {
        let again = fields[..at].contains(field);
        let fault = again.then(|| format!("{} is there twice", Quoted(field)));
        fault.or_else(|| log_fields::fault(field))
    };
    match fields.iter().enumerate().find_map(fault) {
        Some(fault) => Err(format!(
            "must be names of fields separated by commas: {fault}"
        )),
        None => Ok(Value::List(fields)),
    }
}

/// Names that would take a header from the protocol, and such as an environ cannot tell from others.
fn header_name(raw: Raw) -> Result<Value, Refusal> {
    const TAKEN: [&str; 8] = [
        "connection",
        "content-length",
        "content-type",
        "host",
        "te",
        "traceparent",
        "transfer-encoding",
        "upgrade",
    ];
    let refusal = || {
        "must be the name of a header that nothing else is named by, such as X-Request-ID"
            .to_owned()
    };
    let name = optional_text(raw).ok().flatten().ok_or_else(refusal)?;
    let is_taken = TAKEN.iter().any(|taken| name.eq_ignore_ascii_case(taken));
    if is_taken || name.contains('_') || !otlp::is_token(&name) {
        return Err(refusal());
    }
    Ok(Value::Str(name))
}

fn http_url(raw: Raw) -> Result<Value, Refusal> {
    let value = text(raw)?;
    let fault = value.as_str().and_then(otlp::url_fault);
    fault.map_or(Ok(value), Err)
}

fn pairs(raw: Raw) -> Result<Value, Refusal> {
    let value = text(raw)?;
    let fault = value
        .as_str()
        .and_then(|text| otlp::parse_pairs(text).err());
    let fault = fault.map(|pair| {
        let pair = Quoted(pair);
        format!("must be NAME=VALUE separated by commas: {pair} is not")
    });
    fault.map_or(Ok(value), Err)
}

fn ratio(raw: &Raw) -> Result<Value, Refusal> {
    let text = match raw {
        Raw::None => return Ok(Value::None),
        Raw::Int(number) => number.to_string(),
        Raw::Float(number) => number.to_string(),
        Raw::Str(text) => text.clone(),
        _ => String::new(),
    };
    let ratio = otlp::parse_ratio(&text).map(Value::Str);
    ratio.ok_or_else(|| "must be a number from 0 to 1".into())
}

fn anything(raw: Raw) -> Value {
    match raw {
        Raw::None => Value::None,
        Raw::Bool(value) => Value::Bool(value),
        Raw::Int(value) => Value::Int(value),
        Raw::Str(value) => Value::Str(value),
        Raw::Object(object, _) => Value::Object(object),
        other => Value::Str(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_text_or_a_list_and_each_is_there_once() {
        let names = |names: &[&str]| names.iter().map(|name| Raw::Str((*name).into())).collect();
        let fields = |names: &[&str]| names.iter().map(|name| (*name).into()).collect();
        assert_eq!(
            log_fields(Raw::Str("time, {x-id}i".into())),
            Ok(Value::List(fields(&["time", "{x-id}i"])))
        );
        assert_eq!(
            log_fields(Raw::List(names(&["status", "time"]))),
            Ok(Value::List(fields(&["status", "time"])))
        );
        assert_eq!(
            log_fields(Raw::Str("time,status,time".into())),
            Err("must be names of fields separated by commas: 'time' is there twice".into())
        );
    }

    #[test]
    fn reads_integers_as_python_does() {
        let cases = [
            ("12", Some(12), Some(12), Some(12)),
            (" +1_000 ", Some(1000), Some(1000), Some(1000)),
            ("-1", Some(-1), Some(-1), Some(-1)),
            ("0x1F", None, Some(31), Some(31)),
            ("0o17", None, Some(15), Some(15)),
            ("0b_11", None, Some(3), Some(3)),
            ("007", Some(7), None, Some(7)),
            ("022", Some(22), None, Some(18)),
            ("00", Some(0), Some(0), Some(0)),
            ("", None, None, None),
            ("-", None, None, None),
            ("--1", None, None, None),
            ("1__0", None, None, None),
            ("_1", None, None, None),
            ("1_", None, None, None),
            ("1.5", None, None, None),
            ("0x", None, None, None),
            ("089", Some(89), None, None),
            ("99999999999999999999", None, None, None),
        ];
        for (text, decimal, prefixed, octal_by_zero) in cases {
            assert_eq!(parse_integer(text, Base::Decimal), decimal, "{text:?}");
            assert_eq!(parse_integer(text, Base::Prefixed), prefixed, "{text:?}");
            assert_eq!(
                parse_integer(text, Base::OctalByZero),
                octal_by_zero,
                "{text:?}"
            );
        }
    }

    #[test]
    fn knows_where_statsd_listens() {
        let host = |host: &str, port| {
            Some(BindAddress::Tcp {
                host: host.into(),
                port,
            })
        };
        let path = |path: &str| Some(BindAddress::Unix { path: path.into() });
        let cases = [
            ("localhost", host("localhost", 8125)),
            ("[::1]:9125", host("::1", 9125)),
            ("unix:123", host("unix", 123)),
            ("unix:", None),
            ("unix:///run/statsd", path("/run/statsd")),
            ("fd://3", None),
            ("a:b", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_statsd_address(text), expected, "{text:?}");
        }
    }
}
