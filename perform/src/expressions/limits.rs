//! What a child takes from itself before its first program.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::MEMORY_BYTES;

/// The most that a stack takes.
const STACK_BYTES: u64 = 8 * 1024 * 1024;
/// Descriptors: the socket, three standard ones, and one to read our own size.
const FILES: u64 = 8;
/// What is assumed where a process cannot read its own size.
const USUAL_BYTES: u64 = 16 * 1024 * 1024;
/// Seconds of processor time after which the kernel ends a program that nobody waits for.
const ORPHAN_SECONDS: u64 = 2;

/// Sets every limit that holds for good. What cannot be set is an error: no program runs then.
pub(super) fn set() -> io::Result<()> {
    lower(Resource::Core, 0)?;
    lower(Resource::Fsize, 0)?;
    lower(Resource::Nofile, FILES)?;
    lower(Resource::Nproc, 0)?;
    lower(Resource::Stack, STACK_BYTES)?;
    // The stack is counted apart from what is allocated.
    lower(Resource::Data, data_bytes().unwrap_or(USUAL_BYTES) + MEMORY_BYTES - STACK_BYTES)?;
    Ok(())
}

fn lower(resource: Resource, to: u64) -> io::Result<()> {
    let to = getrlimit(resource).maximum.map_or(to, |most| most.min(to));
    Ok(setrlimit(resource, Rlimit { current: Some(to), maximum: Some(to) })?)
}

/// Begins a program's time, of which the kernel counts whole seconds. The parent is stricter;
/// this is for a child whose parent is gone.
pub(super) fn begin_time() -> io::Result<()> {
    let until = cpu() / 1_000_000_000 + ORPHAN_SECONDS;
    let maximum = getrlimit(Resource::Cpu).maximum;
    let current = Some(maximum.map_or(until, |most| most.min(until)));
    Ok(setrlimit(Resource::Cpu, Rlimit { current, maximum })?)
}

/// This process's processor time, in nanoseconds.
pub(super) fn cpu() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// What this process has allocated from the kernel, as the kernel counts it for its limit.
pub(super) fn data_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmData:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}
