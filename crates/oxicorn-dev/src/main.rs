//! `cargo dev`: what the project does to itself. Never shipped.
//!
//! * `cargo dev generate-all` writes every generated file, with `--check` it only says which are stale.
//! * `cargo dev tidy` holds the rules about the source that neither the compiler nor clippy knows.

#![forbid(unsafe_code)]

mod differences;
mod generate;
mod hooks_page;
mod refusals_page;
mod settings_page;
mod settings_types;
mod signals_page;
mod source;
mod tidy;
mod tokens;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "usage: cargo dev generate-all [--check] | tidy";

#[expect(clippy::print_stderr, reason = "a command for a terminal")]
fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args.iter().map(String::as_str).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[&str]) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    match args {
        ["generate-all"] => generate::write_all(&root),
        ["generate-all", "--check"] => generate::check_all(&root),
        ["tidy"] => tidy::check(&root),
        _ => bail!("{USAGE}"),
    }
}
