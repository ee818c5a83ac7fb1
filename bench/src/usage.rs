//! CPU time and memory of a process and of the machine, read from `/proc`.
//!
//! Two clocks are read for a process, because neither alone is enough:
//!
//! - `/proc/<pid>/task/*/schedstat`: nanoseconds, but only of threads alive now. A thread that ended (a worker of
//!   io_uring leaves after seconds) takes its time with it, so its last reading is kept.
//! - `/proc/<pid>/stat`: all threads that ever lived, but in ticks of 10 ms.
//!
//! The nanoseconds are used unless the ticks say that they miss more than the ticks' own error.
//!
//! Work that the kernel does for a process in interrupts is in neither; [`busy_ticks`] of the machine has it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::time::Duration;

use serde::Serialize;

/// Linux reports to user space in hundredths of a second, whatever its own tick is.
const TICK: Duration = Duration::from_millis(10);

/// Error of a difference of two tick counters (user and system time round by themselves).
const TICKS_ERROR: Duration = Duration::from_millis(30);

/// Reads of the CPU time of one process, all threads.
#[derive(Debug)]
pub struct CpuClock {
    pid: u32,
    /// Nanoseconds of each thread seen so far, by thread id; kept when the thread is gone.
    threads: BTreeMap<u32, Schedstat>,
    ticks_at_start: Duration,
    fine_at_start: Schedstat,
}

/// What the scheduler knows of a thread, or of several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Schedstat {
    on_cpu_ns: u64,
    /// How often it was put on a core: for an idle server, its wake-ups.
    switch_count: u64,
}

/// CPU used since the clock was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuUsage {
    pub on_cpu: Duration,
    pub switch_count: u64,
}

impl CpuClock {
    /// Starts to count the CPU time of the process `pid`.
    ///
    /// # Errors
    /// If the process is gone or `/proc` cannot be read.
    pub fn start(pid: u32) -> io::Result<Self> {
        let mut clock = Self {
            pid,
            threads: BTreeMap::new(),
            ticks_at_start: Duration::ZERO,
            fine_at_start: Schedstat::default(),
        };
        clock.ticks_at_start = process_ticks(pid)?;
        clock.fine_at_start = clock.read_threads()?;
        Ok(clock)
    }

    /// CPU time since the start.
    ///
    /// # Errors
    /// If the process is gone or `/proc` cannot be read.
    pub fn read(&mut self) -> io::Result<CpuUsage> {
        let now = self.read_threads()?;
        let fine_ns = now.on_cpu_ns.saturating_sub(self.fine_at_start.on_cpu_ns);
        let fine = Duration::from_nanos(fine_ns);
        let coarse = process_ticks(self.pid)?.saturating_sub(self.ticks_at_start);
        let on_cpu = if coarse > fine + TICKS_ERROR {
            coarse
        } else {
            fine
        };
        let switch_count = now
            .switch_count
            .saturating_sub(self.fine_at_start.switch_count);
        Ok(CpuUsage {
            on_cpu,
            switch_count,
        })
    }

    fn read_threads(&mut self) -> io::Result<Schedstat> {
        for entry in fs::read_dir(format!("/proc/{}/task", self.pid))? {
            let name = entry?.file_name();
            let Some(tid) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // A thread that ends between the listing and this read keeps its last reading.
            if let Ok(text) = fs::read_to_string(format!("/proc/{}/task/{tid}/schedstat", self.pid))
            {
                let stat = Schedstat::parse(&text).ok_or_else(|| malformed("schedstat", &text))?;
                self.threads.insert(tid, stat);
            }
        }
        Ok(self
            .threads
            .values()
            .fold(Schedstat::default(), |sum, stat| Schedstat {
                on_cpu_ns: sum.on_cpu_ns + stat.on_cpu_ns,
                switch_count: sum.switch_count + stat.switch_count,
            }))
    }
}

impl Schedstat {
    /// Fields: time on a core, time waiting for one, times put on one.
    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split_ascii_whitespace();
        let on_cpu_ns = fields.next()?.parse().ok()?;
        let switch_count = fields.nth(1)?.parse().ok()?;
        Some(Self {
            on_cpu_ns,
            switch_count,
        })
    }
}

/// CPU time of a process over its whole life, in steps of 10 ms; works for a zombie as well.
///
/// # Errors
/// If there is no such process.
pub fn process_ticks(pid: u32) -> io::Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse_stat(&text).ok_or_else(|| malformed("stat", &text))
}

/// Sums `utime` and `stime` (fields 14 and 15). The name in field 2 may hold anything, `)` too.
fn parse_stat(text: &str) -> Option<Duration> {
    let (_, after_name) = text.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some(TICK * user.checked_add(system)?)
}

/// Memory of a process, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Heap and stacks: what the process allocated.
    pub anon_bytes: u64,
    /// With mapped files: a db file that is mapped counts here.
    pub resident_bytes: u64,
    pub peak_bytes: u64,
}

impl Memory {
    /// Reads the memory of the process `pid`.
    ///
    /// # Errors
    /// If the process is gone or `/proc` cannot be read.
    pub fn of(pid: u32) -> io::Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
        Self::parse(&text).ok_or_else(|| malformed("status", &text))
    }

    fn parse(status: &str) -> Option<Self> {
        let field = |name: &str| {
            let line = status
                .lines()
                .find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))?;
            let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
            kib.checked_mul(1024)
        };
        Some(Self {
            anon_bytes: field("RssAnon")?,
            resident_bytes: field("VmRSS")?,
            peak_bytes: field("VmHWM")?,
        })
    }
}

/// Time that all cores together were not idle since the machine started, interrupts included.
///
/// # Errors
/// If `/proc/stat` cannot be read.
pub fn busy_ticks() -> io::Result<Duration> {
    let text = fs::read_to_string("/proc/stat")?;
    parse_busy(&text).ok_or_else(|| malformed("stat", &text))
}

/// Line `cpu user nice system idle iowait irq softirq steal …`: all but idle, iowait and what follows steal
/// (guest time is counted in user time already).
fn parse_busy(text: &str) -> Option<Duration> {
    let line = text.lines().next()?.strip_prefix("cpu ")?;
    let fields: Option<Vec<u64>> = line
        .split_ascii_whitespace()
        .map(|f| f.parse().ok())
        .collect();
    let busy: u64 = match fields?.as_slice() {
        [user, nice, system, _idle, _iowait, irq, softirq, steal, ..] => {
            user + nice + system + irq + softirq + steal
        }
        _ => return None,
    };
    Some(Duration::from_millis(busy.checked_mul(10)?))
}

fn malformed(file: &str, text: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("/proc {file} not understood: {text:?}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_name_with_parentheses_is_skipped() {
        let text = "14794 (a) (b)) S 1 1 1 0 -1 4194560 63137 0 0 0 103 48 7 9 20 0 8 0 226164 1";
        assert_eq!(parse_stat(text), Some(Duration::from_millis(1510)));
        assert_eq!(parse_stat("14794 (etcd) S 1 1"), None);
    }

    #[test]
    fn schedstat_fields() {
        let stat = Schedstat::parse("16140389 8533578 309\n").unwrap();
        assert_eq!(
            stat,
            Schedstat {
                on_cpu_ns: 16_140_389,
                switch_count: 309
            }
        );
        assert_eq!(Schedstat::parse("16140389"), None);
    }

    #[test]
    fn memory_fields() {
        let status =
            "VmHWM:\t  200000 kB\nVmRSS:\t  143696 kB\nRssAnon:\t  121568 kB\nRssFile:\t 1 kB\n";
        let memory = Memory::parse(status).unwrap();
        assert_eq!(memory.anon_bytes, 121_568 * 1024);
        assert_eq!(memory.resident_bytes, 143_696 * 1024);
        assert_eq!(memory.peak_bytes, 200_000 * 1024);
        assert_eq!(Memory::parse("VmRSS:\t 1 kB\n"), None);
    }

    #[test]
    fn busy_time_leaves_out_idle_iowait_and_guest() {
        let text = "cpu  1 2 3 1000 1000 4 5 6 1000 1000\ncpu0 9 9 9 9 9 9 9 9 9 9\n";
        assert_eq!(parse_busy(text), Some(Duration::from_millis(210)));
    }

    #[test]
    fn a_thread_that_ended_still_counts() {
        let mut clock = CpuClock::start(std::process::id()).unwrap();
        let spin_for = Duration::from_millis(60);
        let spun = std::thread::spawn(move || spin(spin_for)).join().unwrap();
        // Never sampled while it lived, so only the ticks know it.
        let used = clock.read().unwrap();
        assert!(
            spun >= spin_for && used.on_cpu >= spin_for - TICKS_ERROR,
            "{used:?}"
        );
    }

    /// Burns CPU (not wall) time, so that a busy machine changes nothing.
    fn spin(cpu: Duration) -> Duration {
        let own = || {
            let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
            Duration::from_nanos(Schedstat::parse(&text).unwrap().on_cpu_ns)
        };
        let mut used = own();
        while used < cpu {
            std::hint::black_box((0..100_000_u64).sum::<u64>());
            used = own();
        }
        used
    }
}
