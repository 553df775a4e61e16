//! Whether a text can be `access_log_format`: what Python's `%` takes when it is given the atoms by name.
//!
//! `%(NAME)` with flags, width and precision as in C, then the letter of a conversion. What would raise for every request
//! is refused; names nobody knows are fine, they print `-`.

/// Why a format cannot be used: words that follow "must be text with atoms such as %(h)s: ".
pub(crate) fn fault(format: &str) -> Option<String> {
    let mut rest = format;
    let mut unnamed = 0;
    while let Some((_, after)) = rest.split_once('%') {
        match placeholder(after) {
            Ok((Placeholder::Percent | Placeholder::Named, after)) => rest = after,
            Ok((Placeholder::Unnamed, after)) => {
                unnamed += 1;
                rest = after;
            }
            Err(fault) => return Some(fault),
        }
    }
    // A single one prints all atoms, more find nothing to print.
    (unnamed > 1).then(|| "a placeholder has no name; a percent sign is written %%".to_owned())
}

enum Placeholder {
    /// `%%`.
    Percent,
    /// `%(NAME)s`.
    Named,
    /// `%s`.
    Unnamed,
}

/// What begins behind a percent sign, and what follows it.
fn placeholder(text: &str) -> Result<(Placeholder, &str), String> {
    if let Some(after) = text.strip_prefix('%') {
        return Ok((Placeholder::Percent, after));
    }
    let (named, rest) = match text.strip_prefix('(') {
        Some(name) => (true, after_name(name)?),
        None => (false, text),
    };
    let rest = rest.trim_start_matches(['#', '0', '-', ' ', '+']);
    let rest = rest.trim_start_matches(|digit: char| digit.is_ascii_digit());
    let rest = rest.strip_prefix('.').map_or(rest, |precision| {
        precision.trim_start_matches(|digit: char| digit.is_ascii_digit())
    });
    let rest = rest.strip_prefix(['h', 'l', 'L']).unwrap_or(rest);
    let Some(conversion) = rest.chars().next() else {
        return Err("it ends within a placeholder; a percent sign is written %%".to_owned());
    };
    let after = &rest[conversion.len_utf8()..];
    match conversion {
        's' | 'r' | 'a' if !named => Ok((Placeholder::Unnamed, after)),
        'd' | 'i' | 'o' | 'u' | 'x' | 'X' | 'e' | 'E' | 'f' | 'F' | 'g' | 'G' | 'c' | 'r' | 's'
        | 'a'
            if named =>
        {
            Ok((Placeholder::Named, after))
        }
        _ if named => Err(format!(
            "{conversion:?} cannot follow a name, s can; a percent sign is written %%"
        )),
        _ => Err("a placeholder has no name; a percent sign is written %%".to_owned()),
    }
}

/// What follows the parenthesis that closes the name; names may hold pairs of them.
fn after_name(text: &str) -> Result<&str, String> {
    let mut depth = 1;
    for (position, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Ok(&text[position + 1..]);
        }
    }
    Err("a parenthesis is not closed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_python_formats_with_atoms() {
        for format in [
            "",
            "no atoms",
            "%(h)s %(l)s \"%(r)s\" %(s)s %(b)s",
            "%({x-forwarded-for}i)s %(D)d %(L).3f %(M)-8d %(T)05d",
            "100%% %(a(b)c)s %%(h",
            "%(nobody knows)r %(h)a",
            "all of them: %s",
            "%(B)ld",
        ] {
            assert_eq!(fault(format), None, "{format}");
        }
    }

    #[test]
    fn refuses_what_would_raise_for_every_request() {
        for (format, expected) in [
            ("%(h", "a parenthesis is not closed"),
            ("%({x}i", "a parenthesis is not closed"),
            (
                "%(h)",
                "it ends within a placeholder; a percent sign is written %%",
            ),
            (
                "50%",
                "it ends within a placeholder; a percent sign is written %%",
            ),
            (
                "%(h)z",
                "'z' cannot follow a name, s can; a percent sign is written %%",
            ),
            (
                "%(h) - %(s)s",
                "'%' cannot follow a name, s can; a percent sign is written %%",
            ),
            (
                "%h %l",
                "a placeholder has no name; a percent sign is written %%",
            ),
            (
                "%s %s",
                "a placeholder has no name; a percent sign is written %%",
            ),
            (
                "%(h)é",
                "'é' cannot follow a name, s can; a percent sign is written %%",
            ),
        ] {
            assert_eq!(fault(format).as_deref(), Some(expected), "{format}");
        }
    }
}
