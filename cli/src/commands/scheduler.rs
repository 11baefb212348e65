//! `holdpoint scheduler`: a scheduler alone.

use std::process::ExitCode;

use crate::configuration::Configuration;
use crate::shutdown;
use crate::wiring::{Foundation, metrics, roles};

/// Emits sweeps until it is told to stop.
pub async fn run(configuration: Configuration) -> anyhow::Result<ExitCode> {
    let stop = shutdown::token()?;
    let foundation = Foundation::build(configuration)?;
    metrics::serve(&foundation, &stop).await?;
    if foundation.wait_for_schema(&stop).await {
        roles::scheduler(&foundation, &stop).await;
    }
    foundation.close().await;
    Ok(ExitCode::SUCCESS)
}
