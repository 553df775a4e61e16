//! `fuzz-corpus unpack FOLDER`: writes the seeds and the kept inputs of every target below FOLDER,
//! one file an input, as libFuzzer wants them. `fuzz-corpus pack FOLDER`: the reverse, from folders
//! that libFuzzer has minimised (`cargo fuzz cmin`); long inputs stay out, and so does what is beyond
//! a number that people and repositories bear.
#![expect(clippy::print_stdout, reason = "a tool reports")]

use std::collections::BTreeSet;
use std::path::Path;
use std::{env, fs, io};

use oxicorn_fuzz::{TARGETS, kept, seeds};

/// Longer inputs are not kept: nobody would read them, and nothing here needs so many bytes.
const LENGTH_MAX: usize = 256;
/// Most inputs of one target: the first in the order of their bytes, which is as good as any.
const INPUTS_MAX: usize = 120;

fn main() -> io::Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let [verb, folder] = &words[..] else {
        return Err(io::Error::other("usage: fuzz-corpus unpack|pack FOLDER"));
    };
    for (target, _) in TARGETS {
        let folder = Path::new(folder).join(target);
        match &**verb {
            "unpack" => unpack(target, &folder)?,
            "pack" => pack(target, &folder)?,
            _ => return Err(io::Error::other("neither unpack nor pack")),
        }
    }
    Ok(())
}

fn unpack(target: &str, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let inputs = seeds::of(target).into_iter().chain(kept::read(target));
    for (number, input) in inputs.enumerate() {
        fs::write(folder.join(format!("seed-{number:04}")), input)?;
    }
    Ok(())
}

/// A target without a folder was not run: it keeps what it has.
fn pack(target: &str, folder: &Path) -> io::Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    let mut lines = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        let input = fs::read(entry?.path())?;
        if input.len() <= LENGTH_MAX {
            lines.insert(kept::line(&input));
        }
    }
    let inputs = lines.len().min(INPUTS_MAX);
    let text: String = lines.into_iter().take(INPUTS_MAX).collect();
    fs::write(kept::path(target), text)?;
    println!("{target}: {inputs} inputs kept");
    Ok(())
}
