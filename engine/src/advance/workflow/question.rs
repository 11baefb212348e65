//! What a task asks where nobody knows whether its call happened: a request of its own, computed
//! from the task's input each time that it is asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::effects::pairs;
use super::{Halt, Machine, Made, Step, lost, task_of};
use crate::advance::Turn;
use crate::advance::reconcile::Question;
use crate::definition::Definition;
use crate::effect::RequestEffect;
use crate::status::EffectClass;
use crate::workflow::document::{HttpCall, Task, Work, Workflow};
use crate::workflow::state::{FrameId, State, read};

impl<'t> Turn<'t> {
    /// Whether the step is of a workflow's task that names a question.
    pub(in crate::advance) fn flow_asks(&self, step: i32) -> bool {
        let Definition::Workflow(workflow) = self.pinned.definition.as_ref() else { return false };
        self.asking_task(workflow, step).is_some()
    }

    fn asking_task(&self, workflow: &Workflow, step: i32) -> Option<(FrameId, Arc<Task>)> {
        let state = self.run.flow.state.as_ref()?;
        let id = state.frame_of_step(step)?;
        let task = task_of(workflow, state, state.frames.get(&id)?)?;
        question_of(&task).is_some().then_some((id, task))
    }

    /// The question; a person's where it cannot be computed.
    pub(in crate::advance) fn flow_question(
        &mut self,
        step: i32,
        attempt: u32,
        patience: Duration,
    ) -> Question {
        let pinned = self.pinned;
        let Definition::Workflow(workflow) = pinned.definition.as_ref() else { return Question::None };
        let Some((id, task)) = self.asking_task(workflow, step) else { return Question::None };
        let Some(call) = question_of(&task) else { return Question::None };
        let Some(asked) = self.run.steps.get(&step).and_then(|step| step.tool()) else {
            return Question::None;
        };
        let (call_id, arguments) = (asked.call_id.clone(), read(&asked.arguments));
        let machine = Machine {
            state: self.run.flow.state.clone().unwrap_or_else(|| State::new(self.now)),
            next_step: self.run.next_step(),
            turn: self,
            workflow,
            made: Made::default(),
            values: BTreeMap::new(),
            written: BTreeMap::new(),
            changed: false,
        };
        let request = machine.question(id, call).and_then(|request| {
            Ok(RequestEffect { key: machine.key(id, &task, step, &arguments)?, ..request })
        });
        match request {
            Ok(request) => Question::Ask(Box::new(RequestEffect {
                step,
                attempt,
                tool_call_id: call_id,
                timeout: patience,
                ..request
            })),
            Err(Halt::Unavailable) => Question::Later,
            Err(_) => Question::None,
        }
    }
}

pub(super) fn question_of(task: &Task) -> Option<&HttpCall> {
    let performance = match &task.work {
        Work::Http(call) => &call.performance,
        Work::OpenApi(call) => &call.performance,
        Work::Mcp(call) => &call.performance,
        Work::Queue(queue) => &queue.performance,
        _ => return None,
    };
    performance.reconcile.as_deref()
}

impl Machine<'_, '_> {
    /// Whose it is, its caller fills in.
    fn question(&self, id: FrameId, call: &HttpCall) -> Step<RequestEffect> {
        let (dot, scope) = (self.input(id)?, self.scope(id)?);
        let arguments = self.http(call, &dot, &scope)?;
        let headers = self.headers(call.headers.as_ref(), &dot, &scope)?;
        let credentials =
            call.authentication.as_ref().map(|found| self.credentials(found, &dot, &scope)).transpose()?;
        let text = |name: &str| arguments[name].as_str().ok_or_else(|| lost("a request"));
        Ok(RequestEffect {
            step: 0,
            attempt: 0,
            tool_call_id: String::new(),
            class: EffectClass::Idempotent,
            method: text("method")?.to_owned(),
            uri: text("uri")?.to_owned(),
            query: pairs(&arguments["query"]),
            headers: pairs(&headers),
            body: arguments.get("body").cloned(),
            credentials,
            output: call.output,
            redirect: call.redirect,
            key: String::new(),
            timeout: Duration::ZERO,
        })
    }
}
