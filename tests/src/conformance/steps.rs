//! The steps of the specification's conformance kit.

use std::fmt::Display;

use cucumber::gherkin::Step;
use cucumber::{World, given, then, when};
use reqwest::Method;
use serde_json::{Value, json};

use super::{client, to_json};
use crate::poll::{SOON, until};

/// One scenario: a workflow, its input, and its run.
#[derive(Debug, Default, World)]
pub struct Flow {
    definition: String,
    input: Option<Value>,
    /// The execution as it ended.
    ended: Value,
    /// Its steps.
    steps: Vec<Value>,
}

/// The step's text, without the word for its kind that stands behind the opening quotes.
fn text(step: &Step) -> String {
    let text = step.docstring.as_deref().expect("the step has a text");
    match text.split_once('\n') {
        Some(("yaml" | "json", rest)) => rest.to_owned(),
        _ => text.to_owned(),
    }
}

#[given("a workflow with definition:")]
fn definition(flow: &mut Flow, step: &Step) {
    flow.definition = text(step);
}

#[given("given the workflow input is:")]
fn input(flow: &mut Flow, step: &Step) {
    flow.input = Some(to_json(&text(step)));
}

#[when("the workflow is executed")]
async fn executed(flow: &mut Flow) {
    let (name, version) = register(&flow.definition).await.unwrap_or_else(|answer| panic!("{answer}"));
    let mut body = json!({"workflow": name, "version": version});
    if let Some(input) = &flow.input {
        body["input"] = input.clone();
    }
    let id = client().post("/v1/executions", &body).await.expect(202).id();
    let over = |execution: &Value| {
        matches!(execution["status"].as_str(), Some("completed" | "failed" | "cancelled"))
    };
    flow.ended = until("the execution ends", SOON, async || {
        let execution = client().get(&format!("/v1/executions/{id}")).await.expect(200).body;
        over(&execution).then_some(execution)
    })
    .await;
    let steps = client().get(&format!("/v1/executions/{id}/steps")).await.expect(200).body;
    flow.steps = steps["steps"].as_array().expect("a list of steps").clone();
}

/// Registers a document under its own name; what the API answered, where it refused it.
pub async fn register(document: &str) -> Result<(String, i64), String> {
    let name = to_json(document)["document"]["name"].as_str().unwrap_or("unnamed").to_owned();
    let request = client()
        .builder(Method::PUT, &format!("/v1/workflows/{name}"))
        .header("content-type", "application/yaml")
        .body(document.to_owned());
    let answer = client().send(request).await;
    match answer.status {
        200 | 201 => Ok((name, answer.body["version"].as_i64().expect("a version"))),
        _ => Err(answer.text),
    }
}

#[then(regex = r"^the workflow should (cancel|complete|fault)$")]
fn ended(flow: &mut Flow, how: String) {
    assert_eq!(flow.ended["status"], status_of(&how), "{:#}", flow.ended);
}

#[then("the workflow should complete with output:")]
fn completed_with(flow: &mut Flow, step: &Step) {
    ended(flow, "complete".to_owned());
    assert_eq!(flow.ended["output"], to_json(&text(step)));
}

#[then("the workflow should fault with error:")]
fn faulted_with(flow: &mut Flow, step: &Step) {
    ended(flow, "fault".to_owned());
    let error = flow.steps.iter().rev().find(|step| !step["fault"].is_null()).map(|step| &step["fault"]);
    has_members(error.expect("a step that faulted"), &to_json(&text(step)));
}

#[then(regex = r"^the workflow output should have propert(?:y|ies) (.+)$")]
fn has_properties(flow: &mut Flow, names: String) {
    for name in names.split(',').map(|name| name.trim().trim_matches('\'')) {
        assert!(at(&flow.ended["output"], name).is_some(), "no `{name}` in {:#}", flow.ended["output"]);
    }
}

#[then(regex = r"^the workflow output should have a '([^']+)' property with value:$")]
fn has_property(flow: &mut Flow, step: &Step, name: String) {
    let found = at(&flow.ended["output"], &name);
    assert_eq!(found, Some(&to_json(&text(step))), "{name} in {:#}", flow.ended["output"]);
}

#[then(regex = r"^the workflow output should have a '([^']+)' property containing (\d+) items?$")]
fn has_items(flow: &mut Flow, name: String, count: usize) {
    let found = at(&flow.ended["output"], &name).and_then(Value::as_array).map(Vec::len);
    assert_eq!(found, Some(count), "{name} in {:#}", flow.ended["output"]);
}

#[then(regex = r"^(\S+) should run (first|last)$")]
fn ran_at(flow: &mut Flow, task: String, end: String) {
    let order = order(flow);
    let found = if end == "first" { order.first() } else { order.last() };
    assert_eq!(found, Some(&task), "{order:?}");
}

#[then(regex = r"^(\S+) should run (before|after) (\S+)$")]
fn ran_beside(flow: &mut Flow, task: String, side: String, other: String) {
    let order = order(flow);
    let place = |name: &str| {
        order.iter().position(|task| task == name).unwrap_or_else(|| panic!("{name} did not run: {order:?}"))
    };
    let before = place(&task) < place(&other);
    assert_eq!(before, side == "before", "{order:?}");
}

#[then(regex = r"^(\S+) should (cancel|complete|fault)$")]
fn task_ended(flow: &mut Flow, task: String, how: String) {
    let step = step_of(flow, &task);
    assert_eq!(step["status"], status_of(&how), "{step:#}");
}

#[then(regex = r"^(\S+) should complete with output:$")]
fn task_completed_with(flow: &mut Flow, step: &Step, task: String) {
    let found = step_of(flow, &task);
    assert_eq!(found["status"], "completed", "{found:#}");
    assert_eq!(found["output"], to_json(&text(step)));
}

#[then(regex = r"^(\S+) should fault with error:$")]
fn task_faulted_with(flow: &mut Flow, step: &Step, task: String) {
    let found = step_of(flow, &task);
    assert_eq!(found["status"], "failed", "{found:#}");
    has_members(&found["fault"], &to_json(&text(step)));
}

fn status_of(how: &str) -> &'static str {
    match how {
        "cancel" => "cancelled",
        "complete" => "completed",
        _ => "failed",
    }
}

/// A task's last step.
fn step_of<'a>(flow: &'a Flow, task: &str) -> &'a Value {
    let found = flow.steps.iter().rev().find(|step| step["name"] == task);
    found.unwrap_or_else(|| panic!("{task} did not run: {:#?}", flow.steps))
}

/// The tasks' names in the order in which they ran.
fn order(flow: &Flow) -> Vec<String> {
    let mut steps: Vec<&Value> = flow.steps.iter().filter(|step| step["started_at"].is_string()).collect();
    steps.sort_by_key(|step| step["step"].as_i64());
    steps.iter().map(|step| step["name"].as_str().unwrap_or_default().to_owned()).collect()
}

fn has_members(found: &Value, expected: &Value) {
    for (name, value) in expected.as_object().expect("an object") {
        assert_eq!(found.get(name), Some(value), "`{name}` of {found:#}");
    }
}

/// The value at a path `a.b`.
fn at(value: &Value, path: impl Display) -> Option<&Value> {
    value.pointer(&format!("/{}", path.to_string().replace('.', "/")))
}
