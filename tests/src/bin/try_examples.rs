//! Tries out the workflow documents of a folder: `try_examples FOLDER` registers each with a
//! Holdpoint of its own, runs those that are taken, and prints what became of them.

use std::path::PathBuf;
use std::process::ExitCode;

use holdpoint_tests::conformance::{self, Tried};

#[tokio::main]
async fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from).filter(|folder| folder.is_dir()) else {
        eprintln!("usage: try_examples FOLDER (a folder of .yaml files)");
        return ExitCode::from(2);
    };
    let (system, _stubs) = conformance::start().await;
    let told = conformance::try_all(system.client(), &folder).await;
    let (mut registered, mut completed) = (0, 0);
    for (name, tried) in &told {
        match tried {
            Tried::Refused(why) => println!("{name:<52} refused    {why}"),
            Tried::Ran { status, what } => {
                registered += 1;
                completed += usize::from(status == "completed");
                println!("{name:<52} {status:<10} {what}");
            }
        }
    }
    println!("{} documents: {registered} registered, {completed} of them completed", told.len());
    ExitCode::SUCCESS
}
