//! What a child takes from itself before its first program.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::param::page_size;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::MEMORY_BYTES;

/// The most that a stack takes; it counts towards [`MEMORY_BYTES`].
const STACK_BYTES: u64 = 8 * 1024 * 1024;
/// What is assumed where a process cannot read its own size.
const USUAL_BYTES: u64 = 16 * 1024 * 1024;
/// A child that has grown so far ends after its answer, so that each program has its memory
/// for itself.
const GROWN_BYTES: u64 = MEMORY_BYTES / 3;
/// Seconds of processor time after which the kernel ends a program that nobody waits for.
const ORPHAN_SECONDS: u64 = 2;

/// Sets every limit that holds for good; what is open stays open. What cannot be set is an error: no program runs then.
pub(super) fn set(size: &Size) -> io::Result<()> {
    lower(Resource::Core, 0)?;
    lower(Resource::Fsize, 0)?;
    lower(Resource::Nofile, 0)?;
    lower(Resource::Nproc, 0)?;
    lower(Resource::Stack, STACK_BYTES)?;
    lower(Resource::Data, size.at_first.unwrap_or(USUAL_BYTES) + MEMORY_BYTES - STACK_BYTES)
}

fn lower(resource: Resource, to: u64) -> io::Result<()> {
    let to = getrlimit(resource).maximum.map_or(to, |most| most.min(to));
    Ok(setrlimit(resource, Rlimit { current: Some(to), maximum: Some(to) })?)
}

/// The time of programs, as far as the kernel keeps it: in whole seconds. The parent is
/// stricter; this is for a child whose parent is gone.
#[derive(Default)]
pub(super) struct Time {
    until: u64,
}

impl Time {
    /// A program begins.
    pub fn begin(&mut self) -> io::Result<()> {
        let until = cpu() / 1_000_000_000 + ORPHAN_SECONDS;
        if until == self.until {
            return Ok(());
        }
        self.until = until;
        let maximum = getrlimit(Resource::Cpu).maximum;
        let current = Some(maximum.map_or(until, |most| most.min(until)));
        Ok(setrlimit(Resource::Cpu, Rlimit { current, maximum })?)
    }
}

/// This process's processor time, in nanoseconds.
pub(super) fn cpu() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// How much memory this process has from the kernel, as the kernel counts it for its limit.
pub(super) struct Size {
    statistics: Option<File>,
    at_first: Option<u64>,
}

impl Size {
    /// As it is now, before any program.
    pub fn now() -> Self {
        let statistics = File::open("/proc/self/statm").ok();
        let at_first = statistics.as_ref().and_then(data_bytes);
        Self { statistics, at_first }
    }

    /// Whether programs left more behind than they should.
    pub fn has_grown(&self) -> bool {
        let now = self.statistics.as_ref().and_then(data_bytes);
        now.zip(self.at_first).is_some_and(|(now, first)| now > first + GROWN_BYTES)
    }
}

/// The sixth number of `statm`: data and stack, in pages.
fn data_bytes(statistics: &File) -> Option<u64> {
    let mut text = [0; 128];
    let read = statistics.read_at(&mut text, 0).ok()?;
    let pages = str::from_utf8(&text[..read]).ok()?.split_whitespace().nth(5)?;
    Some(pages.parse::<u64>().ok()? * page_size() as u64)
}
