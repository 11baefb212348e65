//! Streams: Server-Sent Events of executions, for many readers at a time.
//!
//! What is sent always comes from rows. A message ('X has events up to N') only says when
//! to look, and each process looks for all of its streams together: nudge for speed, poll
//! for truth. A reader never sees a gap or a number twice, however it came to its place.

mod cursor;
mod hub;
mod index;
mod news;
mod reader;
mod render;

pub use cursor::{Cursor, Moved, permit};
pub use hub::{Hub, Subscription};
pub use index::{Place, after, after_param, place};
pub use news::listen;
pub use reader::{Reader, event_stream, response};
pub use render::{COMMENT, push_envelope};

/// The most events that are read for one stream at a time.
pub const PAGE: usize = 128;
