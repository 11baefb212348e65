//! Real processes: started, killed, stopped, woken; their output kept and shown when a test fails.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::poll::until_true;

/// Lines that are shown of a process when its test fails.
const SHOWN: usize = 80;

/// What to start.
#[derive(Debug, Clone)]
pub struct Spawn {
    name: String,
    program: PathBuf,
    args: Vec<String>,
    env: BTreeMap<String, String>,
    cwd: Option<PathBuf>,
    own_group: bool,
}

impl Spawn {
    /// A program.
    pub fn program(name: &str, program: impl Into<PathBuf>) -> Self {
        let own_group = false;
        Self {
            name: name.to_owned(),
            program: program.into(),
            args: vec![],
            env: BTreeMap::new(),
            cwd: None,
            own_group,
        }
    }

    /// The binary under test.
    pub fn holdpoint(name: &str) -> Self {
        Self::program(name, holdpoint_binary())
    }

    /// Arguments to add.
    pub fn args<S: AsRef<str>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// A variable of the environment.
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.insert(name.to_owned(), value.into());
        self
    }

    /// Variables of the environment.
    pub fn envs(mut self, env: &BTreeMap<String, String>) -> Self {
        self.env.extend(env.clone());
        self
    }

    /// Where it works.
    pub fn cwd(mut self, folder: &Path) -> Self {
        self.cwd = Some(folder.to_owned());
        self
    }

    /// With a process group of its own, so that what it starts can be ended with it.
    pub fn own_group(mut self) -> Self {
        self.own_group = true;
        self
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args).stdin(Stdio::null());
        // Only what the test says reaches the process: no settings of the person who runs it.
        for (name, _) in std::env::vars() {
            if name.starts_with("HOLDPOINT__")
                || ["DATABASE_URL", "AMQP_URL", "HOLDPOINT_FAILPOINT"].contains(&name.as_str())
            {
                command.env_remove(name);
            }
        }
        command.envs(&self.env);
        if let Some(folder) = &self.cwd {
            command.current_dir(folder);
        }
        if self.own_group {
            std::os::unix::process::CommandExt::process_group(&mut command, 0);
        }
        command
    }

    /// Starts it.
    pub fn spawn(self) -> Process {
        let mut child = self
            .command()
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{} cannot be started: {error}", self.program.display()));
        let log = Arc::new(Mutex::new(Vec::new()));
        let readers = [
            keep_lines(child.stdout.take().expect("piped"), Arc::clone(&log)),
            keep_lines(child.stderr.take().expect("piped"), Arc::clone(&log)),
        ];
        let note = note_process(child.id());
        Process { spawn: self, child, log, readers, note, ended: None }
    }

    /// Runs it to its end: its standard output. Panics where it fails.
    pub fn run(self) -> String {
        let output =
            self.command().output().unwrap_or_else(|error| panic!("{}: {error}", self.program.display()));
        self.succeeded(&output)
    }

    /// The same with a deadline, after which it is killed, with its group where it has one.
    pub async fn run_within(self, deadline: Duration) -> String {
        let mut command = self.command();
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = tokio::process::Command::from(command)
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{} cannot be started: {error}", self.program.display()));
        let id = child.id().expect("it runs");
        let note = note_process(id);
        let ended = tokio::time::timeout(deadline, child.wait_with_output()).await;
        if ended.is_err() && self.own_group {
            signal_group("KILL", id);
        }
        if let Some(note) = note {
            let _ = std::fs::remove_file(note);
        }
        let output =
            ended.unwrap_or_else(|_| panic!("{} {:?}: not within {deadline:?}", self.name, self.args));
        self.succeeded(&output.expect("a child can be waited for"))
    }

    /// Its standard output; panics with all of it where it failed.
    fn succeeded(&self, output: &Output) -> String {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{} {:?}: {}\n{out}{err}", self.name, self.args, output.status);
        out
    }
}

/// The binary under test: beside this program, or beside the folder that it is in.
pub fn holdpoint_binary() -> PathBuf {
    if let Some(path) = std::env::var_os("HOLDPOINT_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().expect("a running program has a path");
    let folder = test.parent().expect("a file is in a folder");
    let places = [Some(folder), folder.parent()].into_iter().flatten().map(|place| place.join("holdpoint"));
    let found = places.into_iter().find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{} has no holdpoint: run the tests by ./test", folder.display()))
}

fn keep_lines(from: impl Read + Send + 'static, log: Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines() {
            let Ok(line) = line else { return };
            log.lock().expect("no writer panics").push(line);
        }
    })
}

/// `./test` ends what a test that was killed left behind.
fn note_process(pid: u32) -> Option<PathBuf> {
    let note = PathBuf::from(std::env::var_os("HOLDPOINT_TEST_RUN")?).join("pids").join(pid.to_string());
    std::fs::write(&note, "").ok()?;
    Some(note)
}

/// A started process; killed when it is dropped.
#[derive(Debug)]
pub struct Process {
    spawn: Spawn,
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    readers: [JoinHandle<()>; 2],
    note: Option<PathBuf>,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Its id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What to start to have the same again.
    pub fn again(&self) -> Spawn {
        self.spawn.clone()
    }

    /// What it wrote, both outputs together.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().expect("no writer panics").clone()
    }

    /// Whether it wrote something with this text in it.
    pub fn said(&self, text: &str) -> bool {
        self.log.lock().expect("no writer panics").iter().any(|line| line.contains(text))
    }

    /// Waits until it hangs at its failpoint; panics after 30 s, or if it ended.
    pub async fn wait_for_failpoint(&mut self) {
        let name = self.spawn.env.get("HOLDPOINT_FAILPOINT").expect("a failpoint was set").clone();
        let point = format!("failpoint {}", name.split(':').next().unwrap_or(&name));
        self.wait_said(&point).await;
    }

    /// Waits until it wrote something with this text in it; panics after 30 s, or if it ended.
    pub async fn wait_said(&mut self, text: &str) {
        let what = format!("{} says `{text}`", self.spawn.name);
        until_true(&what, crate::poll::SOON, || {
            assert!(self.said(text) || self.try_exit().is_none(), "{} ended before: {what}", self.spawn.name);
            self.said(text)
        })
        .await;
    }

    /// How it ended, if it did.
    pub fn try_exit(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("a child can be waited for");
        }
        self.ended
    }

    /// Waits for its end, and until its last words are in the log; panics after the deadline.
    pub async fn wait_exit(&mut self, deadline: Duration) -> ExitStatus {
        let what = format!("{} ends", self.spawn.name);
        until_true(&what, deadline, || {
            self.try_exit().is_some() && self.readers.iter().all(JoinHandle::is_finished)
        })
        .await;
        self.ended.expect("just seen")
    }

    /// SIGKILL, to its whole group where it has one.
    pub fn kill9(&mut self) {
        if self.try_exit().is_none() {
            if self.spawn.own_group {
                signal_group("KILL", self.child.id());
            }
            let _ = self.child.kill();
            self.ended = self.child.wait().ok();
        }
        if let Some(note) = self.note.take() {
            let _ = std::fs::remove_file(note);
        }
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// SIGSTOP.
    pub fn stop(&self) {
        self.signal("STOP");
    }

    /// SIGCONT.
    pub fn cont(&self) {
        self.signal("CONT");
    }

    /// Any signal, by its name.
    pub fn signal(&self, name: &str) {
        if self.ended.is_none() {
            signal(name, &self.child.id().to_string());
        }
    }
}

fn signal_group(name: &str, leader: u32) {
    signal(name, &format!("-{leader}"));
}

fn signal(name: &str, target: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), "--", target]).stderr(Stdio::null()).status();
    assert!(sent.is_ok(), "kill cannot be started");
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(SHOWN);
            eprintln!("---- {} ({} of {} lines)", self.spawn.name, log.len() - from, log.len());
            for line in &log[from..] {
                eprintln!("{line}");
            }
        }
        self.kill9();
    }
}
