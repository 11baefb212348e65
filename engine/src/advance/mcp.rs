//! Tools of MCP servers: listed before the first turn that may call them, pinned by the digest
//! of the list, and asked about where the list is another than the pinned one.

use super::Turn;
use crate::definition::{McpTool, Retry, Tool, check_against};
use crate::digest;
use crate::effect::{Effect, ListEffect, McpEffect, McpServer};
use crate::entry::{ApprovalClosed, Entry, ToolCall, ToolsListed, ToolsListing};
use crate::mcp::{List, ListedTool, list_digest, name_of};
use crate::run::{StepState, ToolWork, Work};
use crate::status::{ApprovalStatus, ErrorType, Failure};
use crate::team::Member;

impl<'a> Turn<'a> {
    /// Asks the servers of the agent that speaks that have not listed their tools yet; whether
    /// there are any.
    pub(super) fn list_servers(&mut self) -> bool {
        let speaker = self.pinned.listed_for(self.run.speaker.as_ref());
        let Some(agent) = self.agent() else { return false };
        let known = |name: &String| self.run.lists.contains_key(&(speaker.clone(), name.clone()));
        let unknown: Vec<String> =
            agent.servers().map(|(tool, _)| tool.name.clone()).filter(|name| !known(name)).collect();
        for name in &unknown {
            let step = self.run.next_step();
            self.begin_listing(step, 1, speaker.clone(), name);
        }
        !unknown.is_empty()
    }

    pub(super) fn begin_listing(&mut self, step: i32, attempt: u32, agent: Option<Member>, name: &str) {
        let Some((tool, mcp)) = self.server(agent.as_ref(), name) else { return };
        let effect = ListEffect { step, attempt, server: server_of(mcp), timeout: tool.timeout() };
        self.push(Entry::ToolsListing(ToolsListing { step, agent, tool: name.to_owned(), attempt }));
        self.effects.push(Effect::List(effect));
    }

    pub(super) fn listing_retry(&self, agent: Option<&Member>, name: &str) -> Retry {
        self.server(agent, name).map_or_else(Retry::default, |(tool, _)| tool.retry)
    }

    pub(super) fn listing_secret(&self, agent: Option<&Member>, name: &str) -> Option<String> {
        self.server(agent, name).and_then(|(_, mcp)| mcp.secret.clone())
    }

    fn server(&self, agent: Option<&Member>, name: &str) -> Option<(&'a Tool, &'a McpTool)> {
        self.pinned.agent(agent)?.servers().find(|(tool, _)| tool.name == name)
    }

    fn list(&self, asker: Option<&Member>, server: &str) -> Option<&List> {
        self.run.lists.get(&(self.pinned.listed_for(asker), server.to_owned()))
    }

    /// A list came: of a listing its result, for a call the reason why it was not made.
    pub(super) fn listed(&mut self, step: i32, tools: Vec<ListedTool>) {
        let calling = self.run.steps.get(&step).filter(|step| step.state == StepState::Calling);
        match calling.map(|step| step.work.clone()) {
            Some(Work::Listing { agent, tool }) => self.take_list(step, agent, &tool, tools),
            Some(Work::Tool(work)) => self.list_changed(step, work, tools),
            _ => {}
        }
    }

    fn take_list(&mut self, step: i32, agent: Option<Member>, name: &str, tools: Vec<ListedTool>) {
        let Some((_, mcp)) = self.server(agent.as_ref(), name) else { return };
        let digest = list_digest(&tools);
        let list = List { first: digest.clone(), digest, tools };
        let (_, skipped) = list.offered(name, mcp);
        let (List { digest, tools, .. }, tool) = (list, name.to_owned());
        self.push(Entry::ToolsListed(ToolsListed { step, agent, tool, digest, tools, skipped }));
    }

    /// What a person approved, or the definition lets go, was a call of another list: a person
    /// is asked again. A call that the new list does not take is told to the model.
    fn list_changed(&mut self, step: i32, work: ToolWork, tools: Vec<ListedTool>) {
        let Some(tool) = self.tool_of(&work).map(|tool| &tool.tool) else { return };
        let agent = self.pinned.listed_for(work.asker.as_ref());
        self.take_list(step, agent, &tool.name, tools);
        if work.gate.is_some() {
            self.push(Entry::ApprovalClosed(ApprovalClosed {
                step,
                tool_call_id: work.call_id.clone(),
                tool: work.tool.clone(),
                status: ApprovalStatus::DigestMismatch,
                delegated_by: None,
            }));
        }
        match self.check_listed(tool, &work) {
            Ok(()) => self.ask(step),
            Err(message) => self.tool_failed(step, work, Failure::new(ErrorType::Logic, message)),
        }
    }

    /// As [`Self::check_listed`], for a call of the agent that speaks.
    pub(super) fn check_listed_call(&self, tool: &Tool, call: &ToolCall) -> Result<(), String> {
        self.check_against_list(tool, self.run.speaker.as_ref(), &call.name, &call.arguments)
    }

    /// Whether the server lists the tool and its schema takes the arguments; nothing to say of
    /// a tool that is none of a server's.
    pub(super) fn check_listed(&self, tool: &Tool, work: &ToolWork) -> Result<(), String> {
        self.check_against_list(tool, work.asker.as_ref(), &work.tool, &work.arguments)
    }

    fn check_against_list(
        &self,
        tool: &Tool,
        asker: Option<&Member>,
        function: &str,
        arguments: &str,
    ) -> Result<(), String> {
        if tool.mcp.is_none() {
            return Ok(());
        }
        match self.list(asker, &tool.name).and_then(|list| list.find(&tool.name, function)) {
            Some(listed) => check_against(&listed.input_schema, arguments),
            None => {
                let shown: String = function.chars().take(64).collect();
                Err(format!("there is no tool `{shown}`: the server `{}` does not list it", tool.name))
            }
        }
    }

    /// Whether its server's list is the one that the definition expects, or was first seen.
    pub(super) fn is_pinned(&self, tool: &Tool, asker: Option<&Member>) -> bool {
        let list = || self.list(asker, &tool.name);
        tool.mcp.as_ref().is_none_or(|mcp| list().is_some_and(|list| list.is_pinned(mcp)))
    }

    /// For a tool of a server: of the list that it is called under.
    pub(super) fn list_digest(&self, work: &ToolWork) -> Option<String> {
        let tool = self.tool_of(work).filter(|tool| tool.tool.mcp.is_some())?;
        Some(self.list(work.asker.as_ref(), &tool.tool.name)?.digest.clone())
    }

    /// `None` where the server does not list it.
    pub(super) fn mcp_effect(
        &self,
        tool: &Tool,
        mcp: &McpTool,
        (step, attempt): (i32, u32),
        work: &ToolWork,
    ) -> Option<Effect> {
        let list = self.list(work.asker.as_ref(), &tool.name)?;
        Some(Effect::Mcp(McpEffect {
            step,
            attempt,
            tool_call_id: work.call_id.clone(),
            class: tool.class(),
            server: server_of(mcp),
            name: name_of(&tool.name, &work.tool)?.to_owned(),
            arguments: work.arguments.clone(),
            key: digest::effect_key(self.pinned.first_run, step),
            expected: list.digest.clone(),
            timeout: tool.timeout(),
        }))
    }
}

/// An agent without the tools of a server would be another agent: the execution fails, and says
/// which server it was.
pub(super) fn of_listing(failure: Failure, work: &Work) -> Failure {
    match work {
        Work::Listing { tool, .. } => {
            let message =
                format!("the tools of the server `{tool}` could not be listed: {}", failure.message);
            Failure { message, ..failure }
        }
        _ => failure,
    }
}

fn server_of(mcp: &McpTool) -> McpServer {
    McpServer {
        url: mcp.url.clone(),
        headers: mcp.headers.clone(),
        secret: mcp.secret.clone(),
        forwarded_headers: mcp.forwarded_headers.clone(),
        only: mcp.tools.clone(),
    }
}
