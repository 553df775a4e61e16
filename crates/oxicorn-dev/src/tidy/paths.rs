//! The paths within its crate that a source file names.

use std::path::Path;

use crate::tokens::{Kind, Token, tokens};

/// A path that a file names, from the root of its crate on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) line: usize,
    pub(super) path: Vec<String>,
}

/// The module that a file below a crate's `src` is; empty for the root.
pub(super) fn module_of(below_src: &Path) -> Vec<String> {
    let mut names: Vec<String> = below_src
        .with_extension("")
        .iter()
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    if matches!(names.last().map(String::as_str), Some("mod" | "lib")) {
        names.pop();
    }
    names
}

/// What the file that is `module` names of its own crate: paths that begin with `crate`, `self`, `super` or a module
/// that it declares. Items that came by an import are not followed: the import is what counts.
pub(super) fn named_in(module: &[String], text: &str) -> Vec<Named> {
    let tokens = tokens(text);
    let mut walk = Walk {
        tokens: &tokens,
        at: 0,
        module: module.to_vec(),
        inline: Vec::new(),
        depth: 0,
        children: children_of(&tokens),
        found: Vec::new(),
    };
    walk.run();
    walk.found
}

/// The modules that are declared in a file, inline or not.
fn children_of<'a>(tokens: &[Token<'a>]) -> Vec<&'a str> {
    let declared =
        tokens.windows(3).filter_map(
            |three| match [three[0].kind, three[1].kind, three[2].kind] {
                [Kind::Name("mod"), Kind::Name(name), Kind::Symbol(';' | '{')] => Some(name),
                _ => None,
            },
        );
    declared.collect()
}

struct Walk<'a> {
    tokens: &'a [Token<'a>],
    at: usize,
    /// The module that the present token stands in.
    module: Vec<String>,
    /// How deep in braces the inline modules around it began.
    inline: Vec<usize>,
    depth: usize,
    children: Vec<&'a str>,
    found: Vec<Named>,
}

impl<'a> Walk<'a> {
    fn run(&mut self) {
        while let Some(kind) = self.kind(0) {
            match kind {
                Kind::Symbol('{') => self.depth += 1,
                Kind::Symbol('}') => self.close(),
                Kind::Name("mod") => self.enter_inline(),
                Kind::Name(name) if self.begins_path() => {
                    if let Some(start) = self.start_of(name) {
                        self.at += 1;
                        self.path(start);
                        continue;
                    }
                }
                _ => {}
            }
            self.at += 1;
        }
    }

    fn kind(&self, ahead: usize) -> Option<Kind<'a>> {
        self.tokens.get(self.at + ahead).map(|token| token.kind)
    }

    /// At the keyword `mod`.
    fn enter_inline(&mut self) {
        if let (Some(Kind::Name(name)), Some(Kind::Symbol('{'))) = (self.kind(1), self.kind(2)) {
            self.module.push(name.to_owned());
            self.inline.push(self.depth);
        }
    }

    /// At a closing brace.
    fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        if self.inline.last() == Some(&self.depth) {
            self.inline.pop();
            self.module.pop();
        }
    }

    /// Whether the name here is the first of several.
    fn begins_path(&self) -> bool {
        let before = self.at.checked_sub(1).map(|at| self.tokens[at].kind);
        self.kind(1) == Some(Kind::Separator) && before != Some(Kind::Separator)
    }

    /// Where a path that begins with `name` begins.
    fn start_of(&self, name: &str) -> Option<Vec<String>> {
        match name {
            "crate" => Some(Vec::new()),
            "self" => Some(self.module.clone()),
            "super" => Some(above(&self.module)),
            child if self.children.contains(&child) => {
                let mut start = self.module.clone();
                start.push(child.to_owned());
                Some(start)
            }
            _ => None,
        }
    }

    /// Behind the part `path` of a path; goes on to its end, or to the ends of all paths of a group.
    fn path(&mut self, mut path: Vec<String>) {
        let line = self.tokens[self.at - 1].line;
        while self.kind(0) == Some(Kind::Separator) {
            self.at += 1;
            match self.kind(0) {
                Some(Kind::Name("super")) => path = above(&path),
                Some(Kind::Name(name)) => path.push(name.to_owned()),
                Some(Kind::Symbol('{')) => return self.group(&path),
                Some(Kind::Symbol('*')) => {
                    self.at += 1;
                    break;
                }
                // The angle bracket of an argument.
                _ => break,
            }
            self.at += 1;
        }
        self.found.push(Named { line, path });
    }

    /// At the opening brace of a group of an import.
    fn group(&mut self, prefix: &[String]) {
        let mut depth = 0_usize;
        while let Some(kind) = self.kind(0) {
            self.at += 1;
            match kind {
                Kind::Symbol('{') => depth += 1,
                Kind::Symbol('}') if depth == 1 => return,
                Kind::Symbol('}') => depth -= 1,
                Kind::Name("self") | Kind::Symbol('*') => self.path(prefix.to_vec()),
                Kind::Name("as") => self.at += 1,
                Kind::Name(name) => {
                    let mut path = prefix.to_vec();
                    path.push(name.to_owned());
                    self.path(path);
                }
                _ => {}
            }
        }
    }
}

fn above(module: &[String]) -> Vec<String> {
    module[..module.len().saturating_sub(1)].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(module: &str, text: &str) -> Vec<String> {
        let module: Vec<String> = module.split("::").map(str::to_owned).collect();
        named_in(&module, text)
            .into_iter()
            .map(|named| named.path.join("::"))
            .collect()
    }

    #[test]
    fn a_file_is_a_module() {
        for (file, module) in [
            ("lib.rs", ""),
            ("runtime.rs", "runtime"),
            ("a/mod.rs", "a"),
            ("a/b.rs", "a::b"),
        ] {
            assert_eq!(module_of(Path::new(file)).join("::"), module);
        }
    }

    #[test]
    fn paths_are_named_from_the_root() {
        for (text, expected) in [
            ("use crate::a::B;", &["a::B"][..]),
            (
                "use crate::{a::{self, B as C, c::*}, d};",
                &["a", "a::B", "a::c", "d"],
            ),
            (
                "use super::a::{\n    B,\n    C,\n};",
                &["x::a::B", "x::a::C"],
            ),
            ("use super::super::a;", &["a"]),
            (
                "crate::a::f::<T>(self::g(), super::H)",
                &["a::f", "x::y::g", "x::H"],
            ),
            (
                "pub(crate) mod z;\nuse z::B;\nlet c = z::c();",
                &["x::y::z::B", "x::y::z::c"],
            ),
            (
                "self.a; Self::b(); std::crate_; // crate::a\nf(\"crate::a\")",
                &[],
            ),
            (
                "mod t {\n use super::B;\n fn f() { super::super::c(); }\n}\nsuper::d();",
                &["x::y::B", "x::c", "x::d"],
            ),
            ("pub(super) fn f() {}\npub(in crate::a) fn g() {}", &["a"]),
        ] {
            assert_eq!(named("x::y", text), expected, "{text}");
        }
    }

    #[test]
    fn a_path_knows_its_line() {
        let found = named_in(&[], "use crate::{\n    a::B,\n    c,\n};\n");
        let lines: Vec<usize> = found.iter().map(|named| named.line).collect();
        assert_eq!(lines, [2, 3]);
    }
}
