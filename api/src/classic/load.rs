//! The agent of a classic run: its latest version, or the one that the turn names, with
//! everything that it can become. An agent that could need a person is refused.

use std::collections::BTreeSet;
use std::sync::Arc;

use holdpoint_engine::definition::{Agent, Definition, Reference, parse_agent};
use holdpoint_engine::status::{DefinitionKind, ExecutionMode};
use holdpoint_engine::team::{MAX_TEAM, Member, Team};

use crate::app::App;
use crate::auth::Caller;
use crate::problem::{Answer, Code, Problem};

/// An agent as it is stored, before it is made ready.
pub struct Stored {
    reference: Reference,
    version: i32,
    document: String,
    agent: Agent,
}

/// An agent that may run classic, made ready.
pub struct Loaded {
    pub name: String,
    pub version: i32,
    pub definition: Arc<Definition>,
    /// The agents that it can be transferred to, however often.
    pub team: Team,
}

/// Reads an agent. 404 where there is none of that name or version.
pub async fn find(app: &App, caller: &Caller, name: &str, version: Option<i32>) -> Answer<Stored> {
    let (scope, wanted) = (caller.scope.clone(), name.to_owned());
    let read = move |store: &dyn holdpoint_db::Store| {
        store.definition_get(&scope, DefinitionKind::Agent, &wanted, version)
    };
    let Some(row) = app.read(read).await? else {
        let version = version.map_or(String::new(), |version| format!(" with version {version}"));
        let detail = format!("there is no agent `{name}`{version}");
        return Err(Problem::new(Code::UnknownDefinition, detail));
    };
    let agent = parse_agent(&row.document).map_err(|errors| unreadable(name, &errors))?;
    let reference = Reference { agent: name.to_owned(), version };
    Ok(Stored { reference, version: row.version, document: row.document, agent })
}

fn unreadable(name: &str, errors: &impl std::fmt::Debug) -> Problem {
    tracing::error!(agent = name, ?errors, "a stored agent cannot be read");
    Problem::internal()
}

impl Stored {
    /// How its chats run, where a request does not say.
    pub fn mode(&self) -> Option<ExecutionMode> {
        self.agent.execution_mode
    }

    /// Makes it ready, and checks it and every agent that it can be transferred to.
    pub async fn load(self, app: &App, caller: &Caller) -> Answer<Loaded> {
        check(&self.reference.agent, &self.agent)?;
        let own = Reference { agent: self.reference.agent.clone(), version: None };
        let (mut seen, mut team) = (BTreeSet::from([self.reference.clone()]), Team::default());
        team.pins.insert(own.agent, self.version);
        let mut open = transfers(&self.agent);
        while let Some(reference) = open.pop() {
            if !seen.insert(reference.clone()) || team.members.len() >= MAX_TEAM {
                continue;
            }
            let pinned = team.resolve(&reference).map(|member| member.version);
            let next = find(app, caller, &reference.agent, pinned).await?;
            check(&reference.agent, &next.agent)?;
            open.extend(transfers(&next.agent));
            if reference.version.is_none() {
                team.pins.insert(reference.agent.clone(), next.version);
            }
            let member = Member { agent: reference.agent, version: next.version };
            team.members.insert(member, next.compile()?);
        }
        let definition = self.compile()?;
        Ok(Loaded { name: self.reference.agent, version: self.version, definition, team })
    }

    fn compile(&self) -> Answer<Arc<Definition>> {
        let compiled = Definition::compile(DefinitionKind::Agent, self.version, &self.document);
        compiled.map(Arc::new).map_err(|errors| unreadable(&self.reference.agent, &errors))
    }
}

fn transfers(agent: &Agent) -> Vec<Reference> {
    let reference = |transfer: &holdpoint_engine::definition::Transfer| Reference {
        agent: transfer.agent.clone(),
        version: transfer.version,
    };
    agent.transfers.iter().map(reference).collect()
}

fn check(name: &str, agent: &Agent) -> Answer<()> {
    for tool in &agent.tools {
        if tool.approval.is_needed() {
            let detail =
                format!("the tool `{}` of the agent `{name}` needs approval: run it durable", tool.name);
            return Err(Problem::new(Code::ApprovalRequiresDurable, detail).with("tool", tool.name.as_str()));
        }
        if tool.agent.is_some() {
            let detail = format!(
                "the tool `{}` of the agent `{name}` gives each call an execution of its own: run it durable",
                tool.name
            );
            return Err(Problem::new(Code::RequiresDurable, detail).with("tool", tool.name.as_str()));
        }
    }
    Ok(())
}
