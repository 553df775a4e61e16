//! Splits the content of `GUNICORN_CMD_ARGS` into arguments, as Python's `shlex.split` does: single quotes keep everything,
//! double quotes everything but `\"` and `\\`, a backslash outside keeps the next character, and `#` is nothing special.

use std::fmt;

/// Why a text cannot be split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unbalanced {
    /// A quotation mark has no partner.
    Quotation,
    /// The text ends with a backslash.
    Escape,
}

impl fmt::Display for Unbalanced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quotation => "no closing quotation",
            Self::Escape => "no escaped character",
        })
    }
}

/// The arguments in `text`.
pub(crate) fn split(text: &str) -> Result<Vec<String>, Unbalanced> {
    let mut words = Vec::new();
    // None between words; an empty pair of quotation marks makes a word, too.
    let mut word: Option<String> = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' | '\t' | '\r' | '\n' => words.extend(word.take()),
            '\'' | '"' => quoted(&mut characters, character, word.get_or_insert_default())?,
            '\\' => {
                let escaped = characters.next().ok_or(Unbalanced::Escape)?;
                word.get_or_insert_default().push(escaped);
            }
            _ => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Takes what is left until the closing mark.
fn quoted(
    characters: &mut impl Iterator<Item = char>,
    mark: char,
    word: &mut String,
) -> Result<(), Unbalanced> {
    while let Some(character) = characters.next() {
        if character == mark {
            return Ok(());
        }
        if character == '\\' && mark == '"' {
            let escaped = characters.next().ok_or(Unbalanced::Escape)?;
            if !matches!(escaped, '"' | '\\') {
                word.push('\\');
            }
            word.push(escaped);
        } else {
            word.push(character);
        }
    }
    Err(Unbalanced::Quotation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_as_shlex_does() {
        let cases: [(&str, &[&str]); 9] = [
            ("", &[]),
            ("  -w 3\t--reload\n", &["-w", "3", "--reload"]),
            ("--name 'a b'c", &["--name", "a bc"]),
            (r#"--name "a \"b\" \n""#, &["--name", r#"a "b" \n"#]),
            (r"a\ b \\", &["a b", r"\"]),
            ("'' \"\"", &["", ""]),
            (r"'a\'", &[r"a\"]),
            ("--name #1 # 2", &["--name", "#1", "#", "2"]),
            ("--bind=unix:/a -b :1", &["--bind=unix:/a", "-b", ":1"]),
        ];
        for (text, expected) in cases {
            assert_eq!(split(text).expect(text), expected, "{text}");
        }
    }

    #[test]
    fn refuses_what_is_not_closed() {
        assert_eq!(split("'a"), Err(Unbalanced::Quotation));
        assert_eq!(split("a \"b'"), Err(Unbalanced::Quotation));
        assert_eq!(split("a\\"), Err(Unbalanced::Escape));
        assert_eq!(split("\"a\\"), Err(Unbalanced::Escape));
    }
}
