//! Free loopback ports.

use std::net::TcpListener;
use std::path::Path;

/// A port of 127.0.0.1 that nobody listens on, below the range from which the kernel takes
/// ports for outgoing connections, and that no other test of this run has drawn, so that it is
/// still free when a process takes it.
pub fn free_port() -> u16 {
    for _ in 0..1_000 {
        let random = uuid::Uuid::now_v7().as_u128() as u64;
        let port = 20_000 + u16::try_from(random % 12_000).expect("below 12000");
        if draw(port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port");
}

/// Whether it is the first time in this run of `./test`; alone, a test has nobody to share with.
fn draw(port: u16) -> bool {
    let Ok(run) = std::env::var("HOLDPOINT_TEST_RUN") else { return true };
    let drawn = Path::new(&run).join("ports").join(port.to_string());
    std::fs::File::create_new(drawn).is_ok()
}

/// Whether somebody listens on a port of 127.0.0.1.
pub fn answers(port: u16) -> bool {
    std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
}
