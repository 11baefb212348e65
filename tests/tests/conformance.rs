//! Features about workflows, run as the specification's conformance kit is run.

use std::path::Path;

use holdpoint_tests::conformance::{Counts, run, start};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_features_hold() {
    let (system, _stubs) = start().await;
    let features = Path::new(env!("CARGO_MANIFEST_DIR")).join("features");
    let counts = run(system.client(), &features).await;
    assert_eq!(Counts { passed: 0, ..counts }, Counts { passed: 0, failed: 0, skipped: 0, unreadable: 0 });
    assert!(counts.passed >= 14, "{counts:?}");
}
