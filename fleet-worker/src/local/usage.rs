//! What processes have used so far, out of `/proc`; where there is none, nothing is said.

use std::fs;
use std::ops::AddAssign;
use std::time::Duration;

use super::Process;

/// CPU time and memory of a process and what it has started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// User and system time, that of children which have ended included.
    pub cpu: Duration,
    /// The largest resident sets so far, bytes, added up; what a server and its children share counts in each.
    pub peak_memory: u64,
}

impl Usage {
    /// What this process has used itself, without what it has started.
    pub fn own() -> Option<Self> {
        of(std::process::id())
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.cpu += other.cpu;
        self.peak_memory += other.peak_memory;
    }
}

impl Process {
    /// What it and its living children have used.
    pub fn usage(&self) -> Option<Usage> {
        let id = self.id()?;
        let mut usage = of(id)?;
        for child in children(id) {
            usage += of(child).unwrap_or_default();
        }
        Some(usage)
    }
}

pub(super) fn children(id: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>())
        .collect()
}

fn of(id: u32) -> Option<Usage> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let ticks = ticks(&stat)?;
    let cpu = Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64);
    Some(Usage { cpu, peak_memory: peak(&status)? })
}

/// `utime`, `stime`, `cutime` and `cstime` (proc_pid_stat(5)): the name before them may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let after = stat.rsplit_once(')')?.1;
    let times = after.split_whitespace().skip(11).take(4).map(str::parse::<u64>);
    times.sum::<Result<u64, _>>().ok()
}

/// `VmHWM` in kB (proc_pid_status(5)).
fn peak(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_found_behind_any_name() {
        let stat = "7 (a) 1 (b) S 1 7 7 0 -1 4194560 1 2 3 4 10 20 300 4000 20 0 1 0 5 6 7";
        assert_eq!(ticks(stat), Some(4330));
        assert_eq!(peak("VmPeak:\t  10 kB\nVmHWM:\t   2048 kB\n"), Some(2 << 20));
    }

    #[test]
    fn this_process_has_used_something() {
        let usage = Usage::own().unwrap();
        assert!(usage.peak_memory > 1 << 20, "{usage:?}");
    }
}
