//! A Postgres of one test's own, to be killed and started again.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use diesel::{Connection, PgConnection};
use tempfile::TempDir;

use crate::poll::until_blocking;
use crate::ports::free_port;
use crate::processes::{Process, Spawn};

const START: Duration = Duration::from_secs(60);

/// A private Postgres; ended, and its data removed, when it is dropped.
#[derive(Debug)]
pub struct PrivatePostgres {
    process: Option<Process>,
    port: u16,
    folder: TempDir,
}

impl PrivatePostgres {
    /// Makes an empty one and starts it.
    pub fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("hp-postgres").tempdir().expect("a folder");
        if is_root() {
            let chown = Command::new("chown").arg("postgres").arg(folder.path()).status();
            assert!(chown.is_ok_and(|status| status.success()), "the folder goes to the user postgres");
        }
        let data = folder.path().join("data");
        let data = data.to_str().expect("a plain path");
        program("initdb")
            .cwd(folder.path())
            .args(["-D", data, "-U", "postgres", "-A", "trust", "--locale=C"])
            .run();
        let mut postgres = Self { process: None, port: free_port(), folder };
        postgres.start_again();
        postgres
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// SIGKILL to the server: every session is cut off.
    pub fn kill9(&mut self) {
        self.process.take();
    }

    /// A fast shutdown, as an operator does it: sessions are ended, then the server.
    pub fn stop_fast(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        process.signal("INT");
        until_blocking("Postgres ends", START, || process.try_exit());
    }

    /// Starts it again on the same port; returns when it answers.
    pub fn start_again(&mut self) {
        let url = self.url();
        let mut process = self.server().spawn();
        until_blocking("Postgres answers", START, || {
            // Right after a kill, the old server's children may still hold its shared memory.
            if process.try_exit().is_some() {
                process = self.server().spawn();
            }
            PgConnection::establish(&url).ok()
        });
        self.process = Some(process);
    }

    fn server(&self) -> Spawn {
        let folder = self.folder.path().to_str().expect("a plain path");
        program("postgres")
            .cwd(self.folder.path())
            .args(["-D", &format!("{folder}/data"), "-p", &self.port.to_string(), "-k", folder])
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "max_connections=100"])
            .own_group()
    }
}

impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        self.kill9();
    }
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().expect("id can be started");
    id.stdout.starts_with(b"0")
}

/// A program of Postgres, as a user that it accepts: it refuses root.
fn program(name: &str) -> Spawn {
    let path = folder_of_programs().join(name);
    if !is_root() {
        return Spawn::program(name, path);
    }
    let path = path.to_str().expect("a plain path");
    Spawn::program(name, "setpriv").args(["--reuid=postgres", "--regid=postgres", "--init-groups", path])
}

fn folder_of_programs() -> PathBuf {
    if let Some(folder) = std::env::var_os("HOLDPOINT_TEST_PG_BIN").filter(|folder| !folder.is_empty()) {
        return folder.into();
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect("Postgres is installed; ./test does it");
    let mut folders: Vec<PathBuf> = versions.flatten().map(|entry| entry.path().join("bin")).collect();
    folders.sort();
    folders.pop().expect("Postgres is installed; ./test does it")
}
