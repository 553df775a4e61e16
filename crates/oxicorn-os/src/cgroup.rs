//! Whether the kernel has ended processes of this control group because its memory was used up.
//!
//! Version 2 counts in `memory.events`, version 1 in `memory.oom_control`; both call it `oom_kill`.

use std::fs;
use std::path::{Path, PathBuf};

/// The processes ended for want of memory, counted since the last look.
#[derive(Debug)]
pub struct OutOfMemory {
    file: Option<PathBuf>,
    seen: u64,
}

impl OutOfMemory {
    /// Begins to count, for the control group this process is in. Where none can be found nothing is ever counted.
    pub fn watch() -> Self {
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self::watch_below(Path::new("/sys/fs/cgroup"), &groups)
    }

    fn watch_below(root: &Path, groups: &str) -> Self {
        let file = candidates(root, groups)
            .into_iter()
            .find(|file| count_in(file).is_some());
        let seen = file.as_deref().and_then(count_in).unwrap_or(0);
        Self { file, seen }
    }

    /// Whether a process was ended that nobody has asked about yet: each counts for one answer.
    pub fn take_one(&mut self) -> bool {
        let now = self.file.as_deref().and_then(count_in);
        let is_new = now.is_some_and(|now| now > self.seen);
        self.seen += u64::from(is_new);
        is_new
    }
}

/// Where the count may stand. In a container the names of groups may be the host's, which it does not see.
fn candidates(root: &Path, groups: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let path = path.trim_start_matches('/');
        if controllers.is_empty() {
            found.push(root.join(path).join("memory.events"));
        } else if controllers.split(',').any(|name| name == "memory") {
            found.push(root.join("memory").join(path).join("memory.oom_control"));
        }
    }
    found.push(root.join("memory.events"));
    found.push(root.join("memory/memory.oom_control"));
    found
}

fn count_in(file: &Path) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("oom_kill "))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, file: &str, content: &str) {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    #[test]
    fn each_process_the_kernel_has_ended_is_told_of_once() {
        for (groups, file) in [
            ("0::/shop/web\n", "shop/web/memory.events"),
            ("0::/names/of/the/host\n", "memory.events"),
            (
                "3:cpu,memory:/shop\n1:name=systemd:/x\n",
                "memory/shop/memory.oom_control",
            ),
        ] {
            let root = tempfile::tempdir().unwrap();
            write(
                root.path(),
                file,
                "low 0\noom 2\noom_kill 2\noom_group_kill 0\n",
            );
            let mut watch = OutOfMemory::watch_below(root.path(), groups);
            assert!(!watch.take_one(), "what was before does not count");
            write(root.path(), file, "low 0\noom 4\noom_kill 4\n");
            assert!(watch.take_one() && watch.take_one());
            assert!(!watch.take_one());
        }
    }

    #[test]
    fn without_control_groups_nothing_is_told() {
        let root = tempfile::tempdir().unwrap();
        let mut watch = OutOfMemory::watch_below(root.path(), "rubbish\n0::\n");
        assert!(!watch.take_one());
        write(root.path(), "memory.events", "oom_kill many\n");
        assert!(!OutOfMemory::watch_below(root.path(), "").take_one());
    }
}
