//! Runs the features of a folder: `conformance FOLDER`. It starts a Holdpoint of its own, or,
//! with `HOLDPOINT_URL` and `HOLDPOINT_KEY`, uses the one that is there (which then has to
//! reach the hosts that the features call).

use std::path::PathBuf;
use std::process::ExitCode;

use holdpoint_tests::client::Client;
use holdpoint_tests::conformance;

#[tokio::main]
async fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from).filter(|folder| folder.exists()) else {
        eprintln!("usage: conformance FOLDER (a folder of features that is there, or one of them)");
        return ExitCode::from(2);
    };
    let running = std::env::var("HOLDPOINT_URL").ok().zip(std::env::var("HOLDPOINT_KEY").ok());
    let counts = match running {
        Some((url, key)) => conformance::run(Client::new(&url, Some(&key)), &folder).await,
        None => {
            let (system, _stubs) = conformance::start().await;
            conformance::run(system.client(), &folder).await
        }
    };
    let conformance::Counts { passed, failed, skipped, unreadable } = counts;
    println!("scenarios: {passed} passed, {failed} failed, {skipped} skipped; files not read: {unreadable}");
    if failed + skipped + unreadable == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
