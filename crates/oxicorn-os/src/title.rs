//! The process title, as `ps` and `top` show it.
//!
//! The kernel shows whatever stands where the arguments stood when the program was started, so the
//! title is written there. Arguments are often short; the environment's strings lie right behind
//! them, and the kernel reads on into them if the arguments no longer end in a zero byte. So the
//! environment is first copied to the heap and the C library pointed at the copy; then the whole
//! area is ours.
//!
//! To be called for the first time early, by a process that has one thread: who holds a pointer
//! from `getenv` would otherwise see it change. `CPython` copies what it wants of both before it runs
//! anything of ours; `std::env::args` does not, so it must not be asked after this.

use std::io;
use std::sync::OnceLock;

/// Where the kernel looks for the title; `None` if that could not be found out.
static AREA: OnceLock<Option<Area>> = OnceLock::new();

/// Longest name of a thread, as the kernel keeps it.
const NAME_LEN: usize = 15;

/// Sets the title (cut at what there is room for) and the name of the calling thread, which for
/// the main thread is the one that `top` and `pgrep` show.
pub fn set(title: &str) -> io::Result<()> {
    set_name(title)?;
    match AREA.get_or_init(Area::take) {
        Some(area) => {
            area.write(title.as_bytes());
            Ok(())
        }
        None => Err(io::ErrorKind::Unsupported.into()),
    }
}

fn set_name(title: &str) -> io::Result<()> {
    let end = title.floor_char_boundary(NAME_LEN);
    let name = std::ffi::CString::new(title[..end].replace('\0', "?"))?;
    Ok(rustix::thread::set_name(&name)?)
}

/// Arguments and environment of the program as it was started.
#[derive(Debug)]
struct Area {
    start: usize,
    len: usize,
}

impl Area {
    /// Finds the area and moves the environment out of it.
    fn take() -> Option<Self> {
        let stat = std::fs::read("/proc/self/stat").ok()?;
        let area = Self::from_stat(&stat)?;
        move_environment();
        Some(area)
    }

    /// Fields 48 to 51 of proc(5): where the arguments and the environment start and end.
    fn from_stat(stat: &[u8]) -> Option<Self> {
        // The second field is the name in parentheses, which may itself have any of these bytes.
        let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
        let text = std::str::from_utf8(&stat[after_name..]).ok()?;
        let mut fields = text.split_ascii_whitespace().skip(48 - 3);
        let mut next = || fields.next()?.parse::<usize>().ok();
        let (arguments, arguments_end) = (next()?, next()?);
        let (environment, environment_end) = (next()?, next()?);
        // In a process whose program came without arguments there is nothing to show.
        if arguments == 0 || arguments_end <= arguments {
            return None;
        }
        let follows = environment == arguments_end && environment_end > environment;
        let end = if follows {
            environment_end
        } else {
            arguments_end
        };
        Some(Self {
            start: arguments,
            len: end - arguments,
        })
    }

    fn write(&self, title: &[u8]) {
        // The last byte stays zero, or the kernel would read on.
        let len = title.len().min(self.len - 1);
        let start = std::ptr::with_exposed_provenance_mut::<u8>(self.start);
        // SAFETY: the kernel told us that these bytes are the argument and environment strings of
        // this process: writable memory of the initial stack that nobody else uses since the
        // environment was moved away (see the module's head about the arguments).
        unsafe {
            start.copy_from_nonoverlapping(title.as_ptr(), len);
            start.add(len).write_bytes(0, self.len - len);
        }
    }
}

/// Points the C library at a copy of the environment. The copy is never freed: anybody may hold
/// pointers into an environment for good.
fn move_environment() {
    unsafe extern "C" {
        static mut environ: *mut *mut libc::c_char;
    }
    // SAFETY: `environ` is the C library's list of zero-terminated strings that ends with a null
    // pointer; there is one thread (the module's head asks for it), so nobody changes it meanwhile.
    unsafe {
        if environ.is_null() {
            return;
        }
        let mut copies = Vec::new();
        let mut entry = environ;
        while !(*entry).is_null() {
            let copy = libc::strdup(*entry);
            if copy.is_null() {
                return; // out of memory: leave everything as it is, `take` still finds the area
            }
            copies.push(copy);
            entry = entry.add(1);
        }
        copies.push(std::ptr::null_mut());
        environ = copies.leak().as_mut_ptr();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn title_is_shown_and_the_environment_kept() {
        let before: Vec<_> = std::env::vars_os().collect();
        set("oxicorn: a test of a title").unwrap();
        let shown = std::fs::read("/proc/self/cmdline").unwrap();
        assert!(
            shown.starts_with(b"oxicorn: a test of a title\0"),
            "{shown:?}"
        );
        let name = std::fs::read("/proc/thread-self/comm").unwrap();
        assert_eq!(name, b"oxicorn: a test\n");
        assert_eq!(std::env::vars_os().collect::<Vec<_>>(), before);

        let long = "x".repeat(1 << 20);
        set(&long).unwrap();
        set("short").unwrap();
        let shown = std::fs::read("/proc/self/cmdline").unwrap();
        let title = shown.split(|byte| *byte == 0).next();
        assert_eq!(title, Some(&b"short"[..]));
        assert_eq!(std::env::vars_os().collect::<Vec<_>>(), before);
    }

    fn stat_line(name: &str, last: [usize; 4]) -> String {
        let zeros = "0 ".repeat(48 - 3);
        let [a, b, c, d] = last;
        format!("1 ({name}) {zeros}{a} {b} {c} {d} 0\n")
    }

    #[test]
    fn area_is_found_behind_any_name() {
        let area = Area::from_stat(stat_line("a) b (", [100, 110, 110, 150]).as_bytes()).unwrap();
        assert_eq!((area.start, area.len), (100, 50));
    }

    #[test]
    fn environment_elsewhere_is_left_alone() {
        let area = Area::from_stat(stat_line("x", [100, 110, 200, 250]).as_bytes()).unwrap();
        assert_eq!((area.start, area.len), (100, 10));
    }

    #[test]
    fn no_arguments_are_no_area() {
        assert!(Area::from_stat(stat_line("x", [0, 0, 0, 0]).as_bytes()).is_none());
        assert!(Area::from_stat(b"1 (x) S 1").is_none());
    }
}
