//! Documents made ready for deciding: schemas compiled, the model's `tools` written once.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;

use super::check::wrong;
use super::{Agent, DefinitionError, McpTool, Tool, Transfer, parse_agent};
use crate::mcp;
use crate::status::DefinitionKind;
use crate::strict_json;
use crate::workflow::document::Workflow;

/// A tool with its schema made ready.
#[derive(Debug)]
pub struct CompiledTool {
    /// As it was written.
    pub tool: Tool,
    validator: jsonschema::Validator,
}

impl CompiledTool {
    /// Checks a call's arguments: strict JSON, an object, and the tool's schema.
    pub fn check_arguments(&self, arguments: &str) -> Result<(), String> {
        strict_json::check_object(arguments).map_err(|error| format!("arguments: {error}"))?;
        let value: Value = serde_json::from_str(arguments).map_err(|error| format!("arguments: {error}"))?;
        fits(&self.validator, &value)
    }
}

/// Checks arguments, as [`CompiledTool::check_arguments`] does, against any schema.
pub fn check_against(schema: &Value, arguments: &str) -> Result<(), String> {
    let value: Value = serde_json::from_str(arguments).map_err(|error| format!("arguments: {error}"))?;
    fits(&compile_schema(schema)?, &value)
}

fn fits(validator: &jsonschema::Validator, value: &Value) -> Result<(), String> {
    match validator.iter_errors(value).next() {
        None => Ok(()),
        Some(error) => Err(format!("arguments: {error} at `{}`", error.instance_path())),
    }
}

/// What an execution is pinned to, made ready for deciding.
#[derive(Debug)]
pub enum Definition {
    /// A model with tools.
    Agent(Box<CompiledAgent>),
    /// So many steps that journal a constant; built in, for measuring (see [`builtin`]).
    Noop {
        /// How many steps.
        steps: i32,
    },
    /// A workflow that a user wrote.
    Workflow(Box<Workflow>),
}

/// An agent with everything that deciding needs.
#[derive(Debug)]
pub struct CompiledAgent {
    /// As it was written.
    pub agent: Agent,
    /// Which version: part of each approval's digest.
    pub version: i32,
    /// The `tools` member of a model request, as bytes.
    pub tools_json: Option<Box<RawValue>>,
    tools: BTreeMap<String, CompiledTool>,
    /// Entries of the kind `mcp`: each stands for all tools of its server.
    servers: BTreeMap<String, CompiledTool>,
    transfers: BTreeMap<String, Transfer>,
}

impl CompiledAgent {
    /// The tool of that name; for a tool of an MCP server, the entry of its server. What the
    /// server lists is not known here.
    pub fn tool(&self, name: &str) -> Option<&CompiledTool> {
        let server = || self.servers.iter().find(|(server, _)| mcp::name_of(server, name).is_some());
        self.tools.get(name).or_else(|| server().map(|(_, tool)| tool))
    }

    /// The entries of the kind `mcp`.
    pub fn servers(&self) -> impl Iterator<Item = (&Tool, &McpTool)> {
        self.servers.values().filter_map(|server| Some((&server.tool, server.tool.mcp.as_ref()?)))
    }

    /// The transfer that the model asks for by a tool of that name.
    pub fn transfer(&self, name: &str) -> Option<&Transfer> {
        self.transfers.get(name)
    }
}

impl Definition {
    /// Reads a stored document of this kind and version, checked as at registration.
    pub fn compile(kind: DefinitionKind, version: i32, document: &str) -> Result<Self, Vec<DefinitionError>> {
        match kind {
            DefinitionKind::Agent => {
                Ok(Definition::Agent(Box::new(compile_agent(parse_agent(document)?, version)?)))
            }
            DefinitionKind::Workflow => match Workflow::load(document, version) {
                Ok(workflow) => Ok(Definition::Workflow(Box::new(workflow))),
                Err(errors) => Err(errors.into_iter().map(DefinitionError::from).collect()),
            },
        }
    }

    /// The version that an approval's digest names.
    pub fn version(&self) -> i32 {
        match self {
            Definition::Agent(agent) => agent.version,
            Definition::Noop { .. } => 1,
            Definition::Workflow(workflow) => workflow.version,
        }
    }
}

/// The definitions that every tenant has, under names that nobody can register
/// (`holdpoint.…`). `holdpoint.noop` journals a constant three times.
pub fn builtin(kind: DefinitionKind, name: &str) -> Option<Definition> {
    match (kind, name) {
        (DefinitionKind::Workflow, "holdpoint.noop") => Some(Definition::Noop { steps: 3 }),
        _ => None,
    }
}

/// Whether a name is kept for built-in definitions.
pub fn is_reserved(name: &str) -> bool {
    name == "holdpoint" || name.starts_with("holdpoint.")
}

/// Makes an agent ready: schemas compiled, the model's `tools` written once.
pub fn compile_agent(agent: Agent, version: i32) -> Result<CompiledAgent, Vec<DefinitionError>> {
    let mut errors = Vec::new();
    let (mut tools, mut servers) = (BTreeMap::new(), BTreeMap::new());
    for (index, tool) in agent.tools.iter().enumerate() {
        // The server's own schemas come with its list.
        let any = serde_json::json!({"type": "object"});
        let kind = if tool.mcp.is_some() { &mut servers } else { &mut tools };
        match compile_schema(tool.parameters.as_ref().unwrap_or(&any)) {
            Ok(validator) => {
                kind.insert(tool.name.clone(), CompiledTool { tool: tool.clone(), validator });
            }
            Err(message) => errors.push(wrong(format!("tools[{index}].parameters"), message)),
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let transfers = agent.transfers.iter().map(|transfer| (transfer.tool_name(), transfer.clone())).collect();
    Ok(CompiledAgent { tools_json: tools_json(&agent), agent, version, tools, servers, transfers })
}

/// The linear-time pattern engine: a tenant's pattern must not hold up a worker.
pub(crate) fn compile_schema(schema: &Value) -> Result<jsonschema::Validator, String> {
    jsonschema::options()
        .with_pattern_options(jsonschema::PatternOptions::regex())
        .build(schema)
        .map_err(|error| error.to_string())
}

/// The tools whose schemas the document holds, then the transfers.
fn tools_json(agent: &Agent) -> Option<Box<RawValue>> {
    let function = |name: &str, description: &str, parameters: &Value| {
        serde_json::json!({"type": "function", "function": {
            "name": name, "description": description, "parameters": parameters,
        }})
    };
    let tools = agent
        .tools
        .iter()
        .filter_map(|tool| Some(function(&tool.name, &tool.description, tool.parameters.as_ref()?)));
    let nothing = serde_json::json!({"type": "object", "properties": {}});
    let transfers = agent.transfers.iter().map(|transfer| {
        let told = match transfer.description.as_str() {
            "" => format!("Lets the agent `{}` go on in your place.", transfer.agent),
            told => told.to_owned(),
        };
        function(&transfer.tool_name(), &told, &nothing)
    });
    let listed: Vec<Value> = tools.chain(transfers).collect();
    if listed.is_empty() { None } else { serde_json::value::to_raw_value(&listed).ok() }
}
