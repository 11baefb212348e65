//! The console's modules in Node, which is quick: what they read, show and write. What people
//! see of them is shown in a browser.

use std::path::Path;

use holdpoint_tests::clients::run;
use holdpoint_tests::processes::Spawn;

#[tokio::test]
async fn nothing_is_lost_between_the_api_and_the_page() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (script, assets) = (here.join("clients/console/exact.mjs"), here.join("../api/src/console/assets"));
    let script = Spawn::program("exact", "node").args([script.to_str().expect("a plain path")]);
    let told = run(script.env("ASSETS", assets.to_str().expect("a plain path"))).await;
    assert!(told.contains("exact: done"), "{told}");
}
