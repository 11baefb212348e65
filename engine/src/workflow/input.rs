//! What a workflow is started with, held against its `input.schema` before anything is begun.

use serde_json::Value;

use super::document::Workflow;

/// The longest words about a value that does not fit, in characters.
const TOLD: usize = 300;

/// An input that a workflow does not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// A JSON pointer into the input; empty for the whole of it.
    pub pointer: String,
    /// What is wrong there.
    pub message: String,
}

impl Workflow {
    /// Whether a run would take this input (JSON). One that is left out is null.
    pub fn check_input(&self, input: Option<&str>) -> Result<(), Misfit> {
        let Some(schema) = &self.input.schema else { return Ok(()) };
        let value: Value = input.map_or(Ok(Value::Null), serde_json::from_str).unwrap_or_default();
        match schema.validator.iter_errors(&value).next() {
            None => Ok(()),
            Some(error) => Err(Misfit {
                pointer: error.instance_path().to_string(),
                message: error.to_string().chars().take(TOLD).collect(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workflow(input: &str) -> Workflow {
        let text = format!(
            "document: {{dsl: 1.0.3, namespace: test, name: flow, version: 0.1.0}}\n{input}\ndo:\n- s: {{set: {{a: 1}}}}\n"
        );
        Workflow::load(&text, 1).expect("a workflow")
    }

    #[test]
    fn an_input_is_held_against_the_schema_with_a_pointer() {
        let schema = "{type: object, required: [n], properties: {n: {type: object, properties: {'a/b': {type: integer}}}}}";
        let flow = workflow(&format!("input: {{schema: {{document: {schema}}}}}"));
        assert_eq!(flow.check_input(Some(r#"{"n": {"a/b": 7}}"#)), Ok(()));
        let pointer = |input| flow.check_input(input).expect_err("a misfit").pointer;
        assert_eq!(pointer(Some(r#"{"n": {"a/b": "7"}}"#)), "/n/a~1b");
        assert_eq!(pointer(Some("{}")), "");
        assert_eq!(pointer(None), "");
        let long = format!("[{:?}]", "x".repeat(10_000));
        assert!(flow.check_input(Some(&long)).expect_err("a misfit").message.chars().count() <= TOLD);
    }

    #[test]
    fn without_a_schema_everything_is_taken() {
        assert_eq!(workflow("").check_input(None), Ok(()));
        assert_eq!(workflow("input: {from: '${ . }'}").check_input(Some("[1]")), Ok(()));
    }
}
