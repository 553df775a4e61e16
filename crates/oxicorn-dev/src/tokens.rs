//! The tokens of a file of Rust, as far as modules and paths are made of them: names, `::` and single symbols, without
//! comments and literals.

/// A token, and the line it stands on, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) kind: Kind<'a>,
    pub(crate) line: usize,
}

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind<'a> {
    /// An identifier, a keyword or a number.
    Name(&'a str),
    /// `::`
    Separator,
    Symbol(char),
}

/// The tokens of `text`.
pub(crate) fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut reader = Reader {
        rest: text,
        line: 1,
    };
    let mut found = Vec::new();
    while let Some(first) = reader.rest.chars().next() {
        let line = reader.line;
        if let Some(kind) = reader.read(first) {
            found.push(Token { kind, line });
        }
    }
    found
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Reader<'a> {
    /// Reads what begins with `first`: a token, or something that is none.
    fn read(&mut self, first: char) -> Option<Kind<'a>> {
        if self.rest.starts_with("//") {
            let end = self.rest.find('\n').unwrap_or(self.rest.len());
            self.take(end);
            None
        } else if self.rest.starts_with("/*") {
            self.skip_block_comment();
            None
        } else if self.rest.starts_with("::") {
            self.take(2);
            Some(Kind::Separator)
        } else if first == '"' {
            self.skip_string();
            None
        } else if first == '\'' {
            self.skip_character();
            None
        } else if is_of_name(first) {
            self.name()
        } else {
            self.take(first.len_utf8());
            (!first.is_whitespace()).then_some(Kind::Symbol(first))
        }
    }

    fn take(&mut self, len: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(len);
        self.rest = rest;
        self.line += taken.matches('\n').count();
        taken
    }

    /// A name; `None` where it begins a raw string.
    fn name(&mut self) -> Option<Kind<'a>> {
        let end = self.rest.find(|letter| !is_of_name(letter));
        let name = self.take(end.unwrap_or(self.rest.len()));
        if matches!(name, "r" | "br" | "cr") && self.skip_raw_string() {
            return None;
        }
        Some(Kind::Name(name))
    }

    /// Behind the `r` of a raw string; `false` if it was of something else.
    fn skip_raw_string(&mut self) -> bool {
        let behind = self.rest.trim_start_matches('#');
        if !behind.starts_with('"') {
            return false;
        }
        let hashes = self.rest.len() - behind.len();
        let end = format!("\"{}", &self.rest[..hashes]);
        let begin = hashes + 1;
        let len = self.rest[begin..].find(&end);
        self.take(len.map_or(self.rest.len(), |len| begin + len + end.len()));
        true
    }

    fn skip_string(&mut self) {
        let mut escaped = true;
        let end = self.rest.find(|letter| {
            let ends = letter == '"' && !escaped;
            escaped = letter == '\\' && !escaped;
            ends
        });
        self.take(end.map_or(self.rest.len(), |end| end + 1));
    }

    /// A character, or the apostrophe of a lifetime.
    fn skip_character(&mut self) {
        let mut letters = self.rest.char_indices().skip(1);
        let first = letters.next().map(|(_, letter)| letter);
        let second = letters.next();
        let len = match (first, second) {
            (Some('\\'), Some((escaped, letter))) => {
                let behind = escaped + letter.len_utf8();
                let end = self.rest[behind..].find('\'');
                end.map_or(self.rest.len(), |end| behind + end + 1)
            }
            (Some(_), Some((end, '\''))) => end + 1,
            _ => 1,
        };
        self.take(len);
    }

    fn skip_block_comment(&mut self) {
        let mut depth = 0_usize;
        while !self.rest.is_empty() {
            if self.rest.starts_with("/*") {
                depth += 1;
                self.take(2);
            } else if self.rest.starts_with("*/") {
                depth -= 1;
                self.take(2);
                if depth == 0 {
                    return;
                }
            } else {
                let len = self.rest.chars().next().map_or(0, char::len_utf8);
                self.take(len);
            }
        }
    }
}

fn is_of_name(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(source: &str) -> String {
        let text = |token: Token<'_>| match token.kind {
            Kind::Name(name) => name.to_owned(),
            Kind::Separator => "::".to_owned(),
            Kind::Symbol(symbol) => symbol.to_string(),
        };
        tokens(source)
            .into_iter()
            .map(text)
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn names_and_separators_are_found_between_comments_and_literals() {
        for (source, expected) in [
            ("use a::b_2::{C, d};", "use a :: b_2 :: { C , d } ;"),
            ("a // b\nc", "a c"),
            ("a /* b /* c */ d */ e", "a e"),
            ("f(\"a\\\"b\\\\\", c)", "f ( , c )"),
            ("f(r#\"a\" b\"#, br\"c\\\", d)", "f ( , , d )"),
            ("r#type", "r # type"),
            ("f('a', '\\'', '\\u{41}', b'\"', c)", "f ( , , , b , c )"),
            ("fn f<'a>(b: &'a c)", "fn f < a > ( b : & a c )"),
            ("'outer: loop {}", "outer : loop { }"),
        ] {
            assert_eq!(text_of(source), expected, "{source}");
        }
    }

    #[test]
    fn a_token_knows_its_line() {
        let found = tokens("a\n\"\n\"\n/*\n*/ b");
        let lines: Vec<usize> = found.iter().map(|token| token.line).collect();
        assert_eq!(lines, [1, 5]);
    }
}
