//! A child as its parent sees it: asked, waited for, killed.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::frame::{Answer, HEAD};
use super::{COMMAND, MEMORY_BYTES, TIME};

/// The longest wait for a program on a machine that is too busy to run it, as long as it runs
/// a little now and then.
const PATIENCE: Duration = Duration::from_secs(20);
/// The longest wait for one that does not run at all, and for the end of one that is ending.
const STANDSTILL: Duration = Duration::from_secs(2);
/// The longest wait for a child to begin.
const START: Duration = Duration::from_secs(10);
/// Signals by which memory and stack that cannot be had end a process (ABRT, BUS, SEGV).
const OUT_OF_MEMORY: [i32; 3] = [6, 7, 11];
/// The signal by which the kernel ends what used up its processor time (XCPU).
const OUT_OF_TIME: i32 = 24;

/// Why a child brought no answer. It is gone in any case.
pub(super) enum Broken {
    /// The program passed a limit.
    Limit { name: &'static str, limit: u64 },
    /// It ended, and not by the program.
    Lost(String),
    /// It had no processor to run on.
    Starved(String),
}

/// A child process; it is killed when dropped.
pub(super) struct Child {
    process: std::process::Child,
    socket: UnixStream,
    /// Its processor time when it answered last, in nanoseconds.
    cpu: u64,
    buffer: Vec<u8>,
}

impl Drop for Child {
    fn drop(&mut self) {
        // Both fail only where it has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The binary of this process, also after another was put into its place.
pub(super) fn own_binary() -> PathBuf {
    let link = Path::new("/proc/self/exe");
    if link.exists() { link.to_owned() } else { std::env::current_exe().unwrap_or_default() }
}

impl Child {
    /// Starts one and waits until it is ready: the time of programs does not count that.
    pub fn start(program: &Path) -> Result<Self, String> {
        let failed = |error: io::Error| format!("no process for expressions: {error}");
        let (socket, theirs) = UnixStream::pair().map_err(failed)?;
        let process = Command::new(program)
            .arg0("holdpoint")
            .arg(COMMAND)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let mut child = Self { process, socket, cpu: 0, buffer: Vec::new() };
        child.socket.set_write_timeout(Some(STANDSTILL)).map_err(failed)?;
        let began = Instant::now();
        match child.answer(|_| START.checked_sub(began.elapsed())) {
            Ok(ready) => child.cpu = ready.cpu,
            Err(error) => return Err(failed(error)),
        }
        Ok(child)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Sends a request and waits for the answer, as long as the program may run.
    pub fn ask(&mut self, request: &[u8]) -> Result<Answer, Broken> {
        let mut time = Time::begins();
        let answer = match self.socket.write_all(request) {
            Ok(()) => self.answer(|child| time.left(child)),
            Err(error) => Err(error),
        };
        match answer {
            Ok(answer) => {
                self.cpu = answer.cpu;
                Ok(answer)
            }
            Err(error) if is_late(&error) => Err(self.too_late()),
            Err(error) => Err(self.ended(&error)),
        }
    }

    /// How long it ran since its last answer; not known where the kernel does not count it.
    fn cpu_used(&self) -> Option<Duration> {
        let text = std::fs::read_to_string(format!("/proc/{}/schedstat", self.process.id())).ok()?;
        let total: u64 = text.split_whitespace().next()?.parse().ok()?;
        total.checked_sub(self.cpu).map(Duration::from_nanos)
    }

    fn too_late(&mut self) -> Broken {
        match self.cpu_used() {
            Some(ran) if ran < TIME => Broken::Starved("this machine is too busy to run them".to_owned()),
            _ => Broken::Limit { name: "expression_ms", limit: TIME.as_millis() as u64 },
        }
    }

    fn ended(&mut self, error: &io::Error) -> Broken {
        // It closed its socket, so it is about to end; what does not is killed.
        let status = self.process.wait_briefly();
        match status.and_then(|status| status.signal()) {
            Some(signal) if OUT_OF_MEMORY.contains(&signal) => {
                Broken::Limit { name: "expression_memory_bytes", limit: MEMORY_BYTES }
            }
            Some(OUT_OF_TIME) => Broken::Limit { name: "expression_ms", limit: TIME.as_millis() as u64 },
            _ => Broken::Lost(format!("the process for expressions ended: {error}")),
        }
    }

    /// Reads one answer; `left` says for how long it may still wait.
    fn answer(&mut self, mut left: impl FnMut(&Self) -> Option<Duration>) -> io::Result<Answer> {
        self.buffer.clear();
        let mut wanted = HEAD;
        while self.buffer.len() < wanted {
            let left = left(self).ok_or(io::ErrorKind::TimedOut)?;
            self.socket.set_read_timeout(Some(left))?;
            let mut piece = [0; 16 * 1024];
            match self.socket.read(&mut piece) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => self.buffer.extend_from_slice(&piece[..read]),
                Err(error) if is_late(&error) || error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if let Some(head) = self.buffer.first_chunk::<HEAD>() {
                wanted = HEAD + u32::from_le_bytes(*head) as usize;
            }
        }
        Ok(serde_json::from_slice(&self.buffer[HEAD..wanted])?)
    }
}

/// The time of one program. It is its processor's: a machine with too much to do is not its
/// fault.
struct Time {
    began: Instant,
    /// How far it was when it was looked at last, and since when it has been there.
    ran: Duration,
    since: Instant,
}

impl Time {
    fn begins() -> Self {
        let now = Instant::now();
        Self { began: now, ran: Duration::ZERO, since: now }
    }

    /// For how long to wait until the next look; none if its time, or our patience, is over.
    fn left(&mut self, child: &Child) -> Option<Duration> {
        let waited = self.began.elapsed();
        if waited < TIME {
            return Some(TIME - waited);
        }
        let ran = child.cpu_used()?;
        if ran > self.ran {
            (self.ran, self.since) = (ran, Instant::now());
        }
        let goes_on = ran < TIME && waited < PATIENCE && self.since.elapsed() < STANDSTILL;
        goes_on.then(|| (TIME - ran).max(Duration::from_millis(10)))
    }
}

fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}

/// Waits for the end of a process that is ending.
trait WaitBriefly {
    fn wait_briefly(&mut self) -> Option<ExitStatus>;
}

impl WaitBriefly for std::process::Child {
    fn wait_briefly(&mut self) -> Option<ExitStatus> {
        let until = Instant::now() + STANDSTILL;
        loop {
            match self.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(1)),
                _ => return None,
            }
        }
    }
}
