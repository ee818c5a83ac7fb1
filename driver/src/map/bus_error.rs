//! A page of a map that the disk cannot give: says which, then ends the process.
//!
//! Reading it raises SIGBUS, whose default is to end the process without a word. The handler here looks the address up
//! among the maps, writes one line to stderr, and lets the default happen. It cannot do more: whoever reads holds a slice
//! and has no way to be told.
//!
//! The table of maps is read by the handler, which interrupts any thread at any place, so it consists of atomics, and
//! takes no lock. A map that finds no free entry is served as any other, without a line at its end.

#![allow(unsafe_code)]

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use memmap2::MmapRaw;

/// Maps that are watched at a time. A member has one; simulated ones come and go by the dozen.
const ENTRY_COUNT: usize = 64;
/// Longest line; a path that is too long for it is cut.
const LINE_SIZE_BYTES: usize = 1536;
const PATH_SIZE_BYTES_MAX: usize = 1024;

const CAUSE: &[u8] = b": the page could not be read from the disk (SIGBUS): the disk failed, or another program cut the \
file. The member ends. Look into the kernel's log (dmesg); if the disk is sound, check the file (bbolt check) and start \
again; else remove this member and add it again with an empty data directory on another disk\n";

/// One map. `end` is 0 while the entry is free or changes.
struct Entry {
    start: AtomicUsize,
    end: AtomicUsize,
    path: AtomicPtr<u8>,
    path_len: AtomicUsize,
}

static ENTRIES: [Entry; ENTRY_COUNT] = [const {
    Entry {
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        path: AtomicPtr::new(ptr::null_mut()),
        path_len: AtomicUsize::new(0),
    }
}; ENTRY_COUNT];

/// Held while entries are taken and given back; never by the handler.
static CHANGING: Mutex<()> = Mutex::new(());

/// An entry of the table, as long as the map lives.
pub(super) struct Watch {
    entry: Option<&'static Entry>,
    /// What `entry` points to.
    _path: Box<[u8]>,
}

impl Watch {
    /// Enters a map; installs the handler with the first one.
    pub(super) fn new(map: &MmapRaw, path: &Path) -> io::Result<Self> {
        install()?;
        let path: Box<[u8]> = path.as_os_str().as_bytes().into();
        let _guard = CHANGING.lock().unwrap_or_else(PoisonError::into_inner);
        let is_free = |entry: &&Entry| entry.end.load(Ordering::Relaxed) == 0;
        let entry = ENTRIES.iter().find(is_free);
        if let Some(entry) = entry {
            let start = map.as_ptr() as usize;
            entry.start.store(start, Ordering::SeqCst);
            entry.path.store(path.as_ptr().cast_mut(), Ordering::SeqCst);
            let path_len = path.len().min(PATH_SIZE_BYTES_MAX);
            entry.path_len.store(path_len, Ordering::SeqCst);
            entry.end.store(start + map.len(), Ordering::SeqCst);
        }
        Ok(Self { entry, _path: path })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _guard = CHANGING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = self.entry {
            entry.end.store(0, Ordering::SeqCst);
        }
    }
}

fn install() -> io::Result<()> {
    static INSTALLED: OnceLock<Result<(), Option<i32>>> = OnceLock::new();
    let installed = INSTALLED.get_or_init(|| {
        // SAFETY: all zeros is a valid `sigaction`: no flags, an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
            on_bus_error;
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        // SAFETY: `action` is whole, its handler has the type that SA_SIGINFO asks for and lives for ever, and does only
        // what a handler may.
        let result = unsafe { libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut()) };
        match result {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error().raw_os_error()),
        }
    });
    installed.map_err(|errno| io::Error::from_raw_os_error(errno.unwrap_or(libc::EINVAL)))
}

/// Runs on the thread that read the page, or wherever a foreign signal hits. Async-signal-safe: loads of atomics, `write`,
/// `signal` and `raise`; no allocation, no lock, no panic.
extern "C" fn on_bus_error(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    _context: *mut libc::c_void,
) {
    // SAFETY: the kernel gives a whole `siginfo_t` to a handler with SA_SIGINFO; a fault (code above 0) has an address.
    let fault = unsafe { ((*info).si_code > 0).then(|| (*info).si_addr() as usize) };
    if let Some(address) = fault {
        tell(address);
    }
    // SAFETY: both are async-signal-safe. The signal is blocked until the handler returns, and then ends the process.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
}

/// Writes the line, if `address` is of a map.
fn tell(address: usize) {
    for entry in &ENTRIES {
        let end = entry.end.load(Ordering::SeqCst);
        let start = entry.start.load(Ordering::SeqCst);
        let path = entry.path.load(Ordering::SeqCst);
        let path_len = entry.path_len.load(Ordering::SeqCst);
        // An entry that changed meanwhile is of another map than the one that faulted, which is being read.
        if end != entry.end.load(Ordering::SeqCst) || !(start..end).contains(&address) {
            continue;
        }
        // SAFETY: the entry is whole and its map holds the address that a thread is reading. So that map is borrowed,
        // `Watch`, which owns the path, is alive as long, and this thread does not go on before the process ends.
        let path = unsafe { std::slice::from_raw_parts(path, path_len) };
        let mut line = Line::new();
        line.push(b"etcore: ");
        line.push(path);
        line.push(b", byte ");
        line.push_number(address - start);
        line.push(CAUSE);
        line.write();
        return;
    }
}

/// Text put together without memory from the heap; what does not fit is left out.
struct Line {
    bytes: [u8; LINE_SIZE_BYTES],
    len: usize,
}

impl Line {
    fn new() -> Self {
        Self {
            bytes: [0; LINE_SIZE_BYTES],
            len: 0,
        }
    }

    fn push(&mut self, text: &[u8]) {
        let room = self.bytes[self.len..].iter_mut();
        for (to, from) in room.zip(text) {
            *to = *from;
            self.len += 1;
        }
    }

    fn push_number(&mut self, number: usize) {
        let mut digits = [0; 20];
        let mut rest = number;
        let mut first = digits.len();
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
            first -= 1;
            if rest == 0 {
                break;
            }
        }
        self.push(&digits[first..]);
    }

    fn write(&self) {
        // SAFETY: the bytes are ours and initialised. A short or failed write cannot be mended here.
        unsafe { libc::write(libc::STDERR_FILENO, self.bytes.as_ptr().cast(), self.len) };
    }
}

const _: () = assert!(PATH_SIZE_BYTES_MAX + CAUSE.len() + 64 < LINE_SIZE_BYTES);

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Output};

    use super::super::{MappedFile, MemoryFile};
    use super::*;

    const ROLE: &str = "ETCORE_TEST_BUS_ERROR";

    /// Runs one test of this binary again, as a process of its own that plays `role`.
    fn play(role: &str) -> Output {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "map::bus_error::tests::player", "--nocapture"])
            .env(ROLE, role)
            .output()
            .unwrap()
    }

    fn read(map: &MappedFile, offset: u64) {
        std::hint::black_box(map.bytes(offset, 1).unwrap()[0]);
    }

    /// Nothing by itself; the others call it by name.
    #[test]
    fn player() {
        let Ok(role) = std::env::var(ROLE) else {
            return;
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("some.db");
        std::fs::write(&path, [1; 16384]).unwrap();
        let file = std::fs::OpenOptions::new()
            .write(true)
            .read(true)
            .open(&path)
            .unwrap();
        let before = MappedFile::new(&file, dir.path().join("gone")).unwrap();
        let map = MappedFile::new(&file, &path).unwrap();
        drop(before);
        let _other = MemoryFile::new("other").unwrap();
        match role.as_str() {
            "read what was cut" => {
                file.set_len(4096).unwrap();
                read(&map, 4095);
                read(&map, 8200);
            }
            "read a map that is not ours" => {
                let foreign = memmap2::MmapOptions::new()
                    .len(8192)
                    .map_raw(&file)
                    .unwrap();
                file.set_len(4096).unwrap();
                // SAFETY: mapped, though without a page: the process ends here, which is what is tested.
                std::hint::black_box(unsafe { foreign.as_ptr().add(4096).read_volatile() });
            }
            "be killed" => {
                // SAFETY: a plain system call.
                unsafe { libc::kill(libc::getpid(), libc::SIGBUS) };
            }
            other => panic!("no role {other}"),
        }
        unreachable!("the process has ended");
    }

    #[test]
    fn a_page_that_cannot_be_read_is_named() {
        let output = play("read what was cut");
        assert_eq!(output.status.signal(), Some(libc::SIGBUS), "{output:?}");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(
            text.contains("/some.db, byte 8200: the page could not be read"),
            "{text}"
        );
        assert_eq!(text.matches("SIGBUS").count(), 1, "{text}");
    }

    #[test]
    fn other_bus_errors_end_as_ever() {
        for role in ["read a map that is not ours", "be killed"] {
            let output = play(role);
            assert_eq!(
                output.status.signal(),
                Some(libc::SIGBUS),
                "{role}: {output:?}"
            );
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(!text.contains("SIGBUS"), "{role}: {text}");
        }
    }

    #[test]
    fn more_maps_than_entries_work() {
        let files: Vec<_> = (0..2 * ENTRY_COUNT)
            .map(|no| MemoryFile::new(&no.to_string()).unwrap())
            .collect();
        for (no, file) in files.iter().enumerate() {
            file.write_at(&[no as u8], 0).unwrap();
            assert_eq!(file.map().bytes(0, 1), Some(&[no as u8][..]));
        }
    }

    #[test]
    fn numbers_are_written_in_full() {
        for number in [0, 7, 10, 4096, usize::MAX] {
            let mut line = Line::new();
            line.push_number(number);
            assert_eq!(line.bytes[..line.len], *number.to_string().as_bytes());
        }
    }

    #[test]
    fn a_line_does_not_overflow() {
        let mut line = Line::new();
        line.push(&[b'x'; LINE_SIZE_BYTES - 1]);
        line.push(b"yz");
        assert_eq!(line.len, LINE_SIZE_BYTES);
        line.push(b"z");
        assert_eq!(line.bytes[LINE_SIZE_BYTES - 1], b'y');
    }
}
