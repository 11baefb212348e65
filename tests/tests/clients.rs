//! The clients that others wrote are the ones that their files pin, and can be run.

use std::collections::BTreeMap;

use holdpoint_tests::clients::{node, node_program, python, run};
use serde_json::Value;

const REQUIREMENTS: &str = include_str!("../clients/requirements.txt");
const PACKAGE: &str = include_str!("../clients/package.json");

fn printed(text: &str) -> BTreeMap<String, String> {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test]
async fn python_has_the_packages_at_their_pins() {
    let pins: BTreeMap<&str, &str> = REQUIREMENTS.lines().filter_map(|line| line.split_once("==")).collect();
    let names = ["openai", "pika", "mcp", "standardwebhooks"];
    let found = printed(&run(python("versions.py").args(names)).await);
    for name in names {
        assert_eq!(Some(found[name].as_str()), pins.get(name).copied(), "{name}");
    }
}

#[tokio::test]
async fn node_has_the_packages_at_their_pins() {
    let package: Value = serde_json::from_str(PACKAGE).expect("JSON");
    let pins: BTreeMap<String, String> =
        serde_json::from_value(package["dependencies"].clone()).expect("names and versions");
    assert!(
        ["openai", "ai", "@modelcontextprotocol/server-everything"]
            .iter()
            .all(|name| pins.contains_key(*name))
    );
    assert_eq!(printed(&run(node("versions.mjs")).await), pins);
}

#[tokio::test]
async fn a_script_that_fails_fails_its_test_with_what_it_wrote() {
    let failed = tokio::spawn(run(python("versions.py").args(["no_such_package"]))).await;
    let panic = failed.expect_err("it failed").into_panic();
    let said = panic.downcast_ref::<String>().expect("a text");
    assert!(said.contains("No module named 'no_such_package'"), "{said}");
    let hung = node_program("mcp-server-everything").args(["nonsense"]);
    assert!(tokio::spawn(run(hung)).await.is_err());
}
