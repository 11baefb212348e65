//! `holdpoint worker`: a worker alone.

use std::process::ExitCode;

use crate::configuration::Configuration;
use crate::shutdown;
use crate::wiring::{Foundation, metrics, roles};

/// Works until it is told to stop, then drains.
pub async fn run(configuration: Configuration) -> anyhow::Result<ExitCode> {
    let stop = shutdown::token()?;
    let foundation = Foundation::build(configuration)?;
    metrics::serve(&foundation, &stop).await?;
    let ended = match foundation.wait_for_schema(&stop).await {
        true => roles::worker(&foundation, &stop).await,
        false => Ok(()),
    };
    foundation.close().await;
    ended.map(|()| ExitCode::SUCCESS)
}
