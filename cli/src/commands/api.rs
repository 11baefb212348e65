//! `holdpoint api`: the HTTP API alone.

use std::process::ExitCode;

use crate::configuration::Configuration;
use crate::shutdown;
use crate::wiring::{Foundation, roles};

/// Serves until it is told to stop.
pub async fn run(configuration: Configuration) -> anyhow::Result<ExitCode> {
    let stop = shutdown::token()?;
    let foundation = Foundation::build(configuration)?;
    let listener = roles::bind(&foundation.configuration.api.listen).await?;
    if foundation.wait_for_schema(&stop).await {
        roles::api(&foundation, listener, &stop).await?;
    }
    foundation.close().await;
    Ok(ExitCode::SUCCESS)
}
