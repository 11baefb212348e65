//! `holdpoint dev`: all roles in one process, SQLite in `./.holdpoint`, an in-process queue,
//! loopback only. Safe to try things with, and what it runs is what production runs.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use holdpoint_api::keys::{self, Role};
use holdpoint_engine::scope::Scope;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Output;
use crate::configuration::Configuration;
use crate::demo;
use crate::dev_file::{DevFile, FOLDER};
use crate::shutdown;
use crate::usage::Usage;
use crate::wiring::{Foundation, roles};

/// Tools and models on this machine are what a developer has.
const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1/128"];

#[derive(Debug, Args)]
pub struct Arguments {
    /// Add a scripted model, a tool server and an agent `demo`
    #[arg(long)]
    demo: bool,
    /// A loopback address and port [default: 127.0.0.1:4653]
    #[arg(long)]
    listen: Option<SocketAddr>,
}

/// Runs everything until it is told to stop.
pub async fn run(
    arguments: Arguments,
    configuration: Configuration,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let folder = Path::new(FOLDER);
    let address = address(arguments.listen, &configuration)?;
    let stop = shutdown::token()?;
    let foundation = Arc::new(Foundation::build(settled(configuration))?);
    let listener = roles::bind(&address.to_string()).await?;
    foundation.db.hot(|store| store.migrate()).await??;
    let before = DevFile::read(folder)?;
    let mut file = dev_file(&foundation, before.as_ref(), &listener).await?;
    if arguments.demo {
        file.demo_port = Some(start_demo(&foundation, file.demo_port, &stop).await?);
    }
    file.write(folder)?;
    greet(&file, arguments.demo, output);
    let ended = run_roles(&foundation, listener, &stop).await;
    foundation.close().await;
    ended.map(|()| ExitCode::SUCCESS)
}

/// Without accounts and TLS of its own, this belongs on loopback.
fn address(given: Option<SocketAddr>, configuration: &Configuration) -> Result<SocketAddr, Usage> {
    let usual =
        || configuration.api.listen.parse().unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 4653));
    let address = given.unwrap_or_else(usual);
    if address.ip().is_loopback() {
        return Ok(address);
    }
    Err(Usage(format!(
        "`holdpoint dev` listens on loopback only, and {address} is not: use 127.0.0.1:PORT or [::1]:PORT, \
         or run `holdpoint api` for others to reach"
    )))
}

/// What makes it `dev`, whatever the configuration says.
fn settled(mut configuration: Configuration) -> Configuration {
    configuration.database.url = format!("sqlite:{FOLDER}");
    configuration.queue.url = "memory:".to_owned();
    configuration.outbound.allow_networks.extend(LOOPBACK.map(str::to_owned));
    configuration
}

fn scope() -> Scope {
    Scope::new("default", "default")
}

/// Keeps the key of an earlier start, if the database still knows it.
async fn dev_file(
    foundation: &Foundation,
    before: Option<&DevFile>,
    listener: &TcpListener,
) -> anyhow::Result<DevFile> {
    let url = format!("http://{}", listener.local_addr()?);
    if let Some(before) = before
        && let Ok(id) = before.key_id.parse()
        && let Some(row) = foundation.db.read(move |store| store.key_get(id)).await??
        && row.revoked_at.is_none()
    {
        return Ok(DevFile { url, ..before.clone() });
    }
    let now = foundation.db.read(|store| store.now()).await??;
    let new = keys::create(&scope(), Role::Admin, "dev", None, None, now)
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    let row = new.row.clone();
    foundation.db.hot(move |store| store.key_create(&row, "operator")).await??;
    Ok(DevFile {
        url,
        key: new.text,
        key_id: new.row.id.to_string(),
        demo_port: before.and_then(|file| file.demo_port),
    })
}

/// Starts the demonstration's server and registers its agent; the port that was taken.
async fn start_demo(
    foundation: &Foundation,
    port: Option<u16>,
    stop: &CancellationToken,
) -> anyhow::Result<u16> {
    let port = demo::serve(port, demo::TYPING, stop.clone()).await?;
    let document = demo::agent(port)?;
    let put = move |store: &dyn holdpoint_db::Store| {
        store.definition_put(
            &scope(),
            holdpoint_engine::status::DefinitionKind::Agent,
            "demo",
            &document,
            "dev",
        )
    };
    foundation.db.hot(put).await??;
    Ok(port)
}

fn greet(file: &DevFile, demo: bool, output: Output) {
    if output.json {
        println!("{}", serde_json::json!({"url": file.url, "key": file.key}));
        return;
    }
    println!("Holdpoint {} listens on {}", env!("CARGO_PKG_VERSION"), file.url);
    println!("  data  ./{FOLDER} (SQLite)");
    println!("  key   {} (admin)", file.key);
    println!();
    println!("Next, in another terminal, in this folder (it finds address and key by itself):");
    if demo {
        println!("  holdpoint start demo --input \"Refund order 42\" --watch");
        println!("  holdpoint approvals list");
        println!("  holdpoint approvals approve EXECUTION CALL");
    } else {
        println!("  holdpoint agents apply AGENT.json");
        println!("  holdpoint start AGENT --input \"Hello\" --watch");
    }
}

/// Each role is a task; where one ends, all end.
async fn run_roles(
    foundation: &Arc<Foundation>,
    listener: TcpListener,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let (shared, token) = (Arc::clone(foundation), stop.clone());
    let api = role(stop, async move { roles::api(&shared, listener, &token).await });
    let (shared, token) = (Arc::clone(foundation), stop.clone());
    let worker = role(stop, async move { roles::worker(&shared, &token).await });
    let (shared, token) = (Arc::clone(foundation), stop.clone());
    let scheduler = role(stop, async move {
        roles::scheduler(&shared, &token).await;
        Ok(())
    });
    let (api, worker, scheduler) = tokio::join!(api, worker, scheduler);
    api??;
    worker??;
    scheduler?
}

fn role(
    stop: &CancellationToken,
    work: impl Future<Output = anyhow::Result<()>> + Send + 'static,
) -> JoinHandle<anyhow::Result<()>> {
    let ends_all = stop.clone().drop_guard();
    tokio::spawn(async move {
        let _ends_all = ends_all;
        work.await
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_listens_on_loopback_only() {
        let configuration = Configuration::default();
        assert_eq!(address(None, &configuration).expect("default").to_string(), "127.0.0.1:4653");
        for good in ["127.0.0.1:0", "127.9.9.9:1", "[::1]:0"] {
            assert!(address(good.parse().ok(), &configuration).is_ok(), "{good}");
        }
        for bad in ["0.0.0.0:4653", "192.168.0.1:1", "[::]:1"] {
            assert!(address(bad.parse().ok(), &configuration).is_err(), "{bad}");
        }
        let mut open = Configuration::default();
        open.api.listen = "0.0.0.0:4653".to_owned();
        assert!(address(None, &open).is_err());
    }

    #[test]
    fn it_never_touches_the_production_database() {
        let mut configuration = Configuration::default();
        configuration.database.url = "postgres://prod/db".to_owned();
        configuration.queue.url = "amqp://prod".to_owned();
        let settled = settled(configuration);
        assert_eq!(settled.database.url, "sqlite:.holdpoint");
        assert_eq!(settled.queue.url, "memory:");
        assert_eq!(settled.outbound.allow_networks, LOOPBACK);
    }
}
