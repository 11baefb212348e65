//! Named points where a crash test holds the process, to kill it there. Without the cargo
//! feature `failpoints` a point is nothing.

/// Holds the process for ever where `HOLDPOINT_FAILPOINT` names this point (`name`, or
/// `name:3` for the third time it is reached), after saying so on standard error.
#[cfg(feature = "failpoints")]
pub fn hit(name: &str) {
    use std::sync::atomic::{AtomicU32, Ordering};
    static REACHED: AtomicU32 = AtomicU32::new(0);
    let Ok(wanted) = std::env::var("HOLDPOINT_FAILPOINT") else {
        return;
    };
    let (point, time) = wanted.split_once(':').unwrap_or((&wanted, "1"));
    if point != name || REACHED.fetch_add(1, Ordering::SeqCst) + 1 != time.parse().unwrap_or(1) {
        return;
    }
    eprintln!("failpoint {name}");
    loop {
        std::thread::park();
    }
}

/// Holds the process for ever where `HOLDPOINT_FAILPOINT` names this point and this item, as
/// `name=item`.
#[cfg(feature = "failpoints")]
pub fn hit_for(name: &str, item: &str) {
    if std::env::var("HOLDPOINT_FAILPOINT").is_ok_and(|wanted| wanted == format!("{name}={item}")) {
        hit(&format!("{name}={item}"));
    }
}

/// Nothing.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub fn hit(_name: &str) {}

/// Nothing.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub fn hit_for(_name: &str, _item: &str) {}
