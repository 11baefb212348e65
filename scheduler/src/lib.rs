//! Sweeps: emitted on time, carried out wherever they are called for.
//!
//! A scheduler only reads which ticks are due and sends a command for each; a worker (or an
//! HTTP door) carries the sweep out. When a pass is due stands in rows, so there may be as
//! many schedulers as you like, and none of them leads. A tick stays due until a pass has
//! closed it: a lost command is sent again.

mod metrics;
mod relay;
mod settings;
mod sweeps;
mod ticks;

pub use relay::Relay;
pub use settings::Settings;
pub use sweeps::{Bounds, Sweeper};
pub use ticks::run;
