//! Clients and servers that others wrote, driven by the scripts in `tests/clients/`. `./test`
//! installs them, at the versions that `requirements.txt` and `package-lock.json` there name.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::poll::until_true;
use crate::ports::answers;
use crate::processes::{Process, Spawn};

/// How long a script may take: the first import of a package on a loaded machine takes seconds.
pub const SCRIPT: Duration = Duration::from_secs(180);

/// The Python that has the packages of `requirements.txt`.
pub fn python_program() -> PathBuf {
    installed().join("python/bin/python")
}

/// The folder that has `node_modules` with the packages of `package-lock.json`.
pub fn node_folder() -> PathBuf {
    installed().join("node")
}

/// `tests/clients/<script>`, to be given arguments and variables, and then [`run`] or [`serve`].
pub fn python(script: &str) -> Spawn {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(script);
    Spawn::program("python", python_program())
        // `-B`: no compiled files among the sources.
        .args(["-B", "-u", text(&script)])
        .own_group()
}

/// The same for a script of Node.
pub fn node(script: &str) -> Spawn {
    let script = node_folder().join("scripts").join(script);
    // The scripts are linked to from beside `node_modules`: by their own place Node finds no package.
    let kept = ["--preserve-symlinks", "--preserve-symlinks-main"];
    Spawn::program("node", "node").args(kept).args([text(&script)]).own_group()
}

/// `tests/clients/console/<script>`, which drives Debian's Chromium.
pub fn browser(script: &str) -> Spawn {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/console").join(script);
    let folder = installed().join("console");
    let failures = folder.parent().and_then(Path::parent).expect("in target").join("console-failures");
    Spawn::program("browser", "node")
        .args([text(&script)])
        // Its packages lie elsewhere than the script.
        .env("CONSOLE_PACKAGES", text(&folder))
        .env("CONSOLE_FAILURES", text(&failures))
        .own_group()
}

/// A program that a package of Node brings, such as `mcp-server-everything`.
pub fn node_program(name: &str) -> Spawn {
    Spawn::program(name, node_folder().join("node_modules/.bin").join(name)).own_group()
}

/// Runs a script to its end: its standard output. Panics with all of its output where it
/// fails or takes longer than [`SCRIPT`].
pub async fn run(script: Spawn) -> String {
    script.run_within(SCRIPT).await
}

/// Starts a server and waits until it listens on this port of 127.0.0.1.
pub async fn serve(server: Spawn, port: u16) -> Process {
    let mut process = server.spawn();
    until_true(&format!("a server listens on {port}"), SCRIPT, || {
        assert!(process.try_exit().is_none(), "the server ended");
        answers(port)
    })
    .await;
    process
}

/// Beside the folder of this test's own program.
fn installed() -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    let target = test.ancestors().nth(3).expect("target/debug/deps/…");
    let folder = target.join("clients");
    assert!(folder.exists(), "{} is not there: run the tests by ./test", folder.display());
    folder
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}
