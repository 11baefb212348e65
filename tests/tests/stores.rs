//! What the suites of the store stand on: each of their tests runs on both stores.

use std::sync::Arc;

use holdpoint_db::{Settings, Store};
use holdpoint_tests::store_builders::{Bed, open_store};

/// Makes two tests of each function: on Postgres and on SQLite. It takes a `&Bed`, or what the
/// function after `of` makes of one.
macro_rules! on_both_stores {
    (of $of:path: $($name:ident;)+) => {
        $(mod $name {
            use holdpoint_tests::store_builders::Bed;
            #[test]
            fn on_postgres() {
                super::$name(&$of(Bed::postgres()));
            }
            #[test]
            fn on_sqlite() {
                super::$name(&$of(Bed::sqlite()));
            }
        })+
    };
    ($($name:ident;)+) => {
        on_both_stores! { of std::convert::identity: $($name;)+ }
    };
}

/// A store with enough connections for all parties of a race. The suites add what they need.
pub struct Ground {
    pub store: Arc<dyn Store>,
    pub settings: Settings,
    pub bed: Bed,
}

impl Ground {
    pub fn new(mut bed: Bed) -> Self {
        // Parties wait for each other's locks and connections: on a slow disk for longer than callers would.
        let settings = Settings {
            hot_connections: 10,
            read_connections: 4,
            connect_timeout_ms: 60_000,
            statement_timeout_ms: 60_000,
            ..bed.settings.clone()
        };
        // A folder belongs to one store; a database has room for another.
        let store = if bed.schema.is_some() {
            open_store(&settings)
        } else {
            bed.settings = settings.clone();
            bed.reopen();
            Arc::clone(&bed.store)
        };
        Self { store, settings, bed }
    }
}
