//! The figures that were written down, and whether what is measured now is worse.
//!
//! They lie in `bench/gateway-instructions.toml`, a line for each: a name in quotes, and a whole number.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::{fs, io};

/// How much worse than what was written down is no accident, in percent: two runs differ by half of one.
const TOLERANCE: u64 = 2;

const HEAD: &str = "\
# What the gateway takes: instructions of one request or message, and bytes of a connection at rest.
# `make bench-gateway` fails where it takes more than 2 % more; with RECORD=1 it writes this file anew.
# The figures hold for the toolchain of rust-toolchain.toml.
";

/// What is known and what was measured.
#[derive(Debug)]
pub(crate) struct Figures {
    path: PathBuf,
    known: Vec<(String, u64)>,
    measured: Vec<(String, u64)>,
}

impl Figures {
    /// What was written down; nothing, if there is no such file.
    pub(crate) fn read() -> io::Result<Self> {
        let path =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../bench/gateway-instructions.toml");
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            read => read?,
        };
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Ok(Self {
            path,
            known: lines.filter_map(parse).collect(),
            measured: Vec::new(),
        })
    }

    /// Takes and prints a figure, with the share of it that was written down.
    #[expect(clippy::print_stdout, reason = "a bench reports")]
    pub(crate) fn note(&mut self, name: &str, figure: u64) {
        match self.known(name) {
            Some(known) => {
                let permille = figure * 1000 / known.max(1);
                let (whole, rest) = (permille / 1000, permille % 1000);
                let verdict = if is_worse(figure, known) {
                    "  WORSE"
                } else {
                    ""
                };
                println!("{name:32} {figure:8}   {whole}.{rest:03} of {known}{verdict}");
            }
            None => println!("{name:32} {figure:8}"),
        }
        self.measured.push((name.to_owned(), figure));
    }

    /// Whether nothing was worse than what was written down.
    pub(crate) fn hold(&self) -> bool {
        let is_above = |(name, figure): &(String, u64)| {
            self.known(name)
                .is_some_and(|known| is_worse(*figure, known))
        };
        !self.measured.iter().any(is_above)
    }

    /// Writes down what was measured; what was not stays as it is.
    pub(crate) fn record(&self) -> io::Result<()> {
        let mut figures = self.known.clone();
        for (name, figure) in &self.measured {
            match figures.iter_mut().find(|known| known.0 == *name) {
                Some(known) => known.1 = *figure,
                None => figures.push((name.clone(), *figure)),
            }
        }
        let mut text = HEAD.to_owned();
        for (name, figure) in &figures {
            writeln!(text, "\"{name}\" = {figure}").expect("memory takes everything");
        }
        fs::write(&self.path, text)
    }

    fn known(&self, name: &str) -> Option<u64> {
        let mut known = self.known.iter();
        known.find(|known| known.0 == name).map(|known| known.1)
    }
}

fn parse(line: &str) -> Option<(String, u64)> {
    let (name, figure) = line.split_once('=')?;
    let name = name.trim().trim_matches('"').to_owned();
    Some((name, figure.trim().parse().ok()?))
}

fn is_worse(figure: u64, known: u64) -> bool {
    figure * 100 > known * (100 + TOLERANCE)
}
