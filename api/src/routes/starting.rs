//! From a checked start to what it became: a workflow's input is held against its
//! `input.schema` before the transaction, and the transaction holds the version that was checked
//! against the one that it starts.

use holdpoint_db::{Created, InputCheck, NewExecution, Store};
use holdpoint_engine::definition::builtin;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::DefinitionKind;
use holdpoint_engine::workflow::Misfit;

use crate::app::App;
use crate::problem::{Answer, Code, Problem};

/// So often a start is tried while new versions come between its check and its transaction.
const TRIES: usize = 20;

/// Commits one start, together with all starts that wait at this moment.
pub async fn create(app: &App, new: &mut NewExecution) -> Answer<Created> {
    for _ in 0..TRIES {
        check_input(app, new).await?;
        match app.db.create(new.clone()).await? {
            Created::OtherVersion { version } => learn(app, new, version),
            created => return Ok(created),
        }
    }
    let detail = format!("versions of the workflow `{}` come too fast; try again", new.name);
    Err(Problem::new(Code::Unavailable, detail))
}

/// Commits many starts, each with an answer of its own.
pub async fn create_each(app: &App, starts: &mut [NewExecution]) -> Vec<Answer<Created>> {
    let mut unchecked = Vec::with_capacity(starts.len());
    for new in starts.iter_mut() {
        unchecked.push(check_input(app, new).await.err());
    }
    let checked = starts.iter().zip(&unchecked).filter(|(_, problem)| problem.is_none());
    let mut created = app.db.create_each(checked.map(|(new, _)| new.clone()).collect()).await.into_iter();
    let mut answers = Vec::with_capacity(starts.len());
    for (new, problem) in starts.iter_mut().zip(unchecked) {
        answers.push(match problem {
            Some(problem) => Err(problem),
            None => match created.next() {
                Some(Ok(Created::OtherVersion { version })) => {
                    learn(app, new, version);
                    create(app, new).await
                }
                Some(created) => created.map_err(Problem::from),
                None => Err(Problem::internal()),
            },
        });
    }
    answers
}

/// Whether this version of a workflow would take the input; the latest where none is named.
/// Nothing where there is no such workflow.
pub async fn judge(
    app: &App,
    scope: &Scope,
    name: &str,
    version: Option<i32>,
    input: Option<&str>,
) -> Answer<Option<InputCheck>> {
    let known = version.or_else(|| app.schemas.latest(scope, name));
    let version = match known {
        Some(version) => version,
        None => {
            let (of, wanted) = (scope.clone(), name.to_owned());
            let find =
                move |store: &dyn Store| store.definition_get(&of, DefinitionKind::Workflow, &wanted, None);
            let Some(row) = app.read(find).await? else { return Ok(None) };
            app.schemas.learn_latest(scope, name, row.version);
            row.version
        }
    };
    let Some(workflow) = app.schemas.workflow(app, scope, name, version).await? else { return Ok(None) };
    Ok(Some(InputCheck { version, misfit: workflow.check_input(input).err() }))
}

/// What a caller is told of it.
pub fn misfit(misfit: &Misfit) -> Problem {
    let pointer = format!("/input{}", misfit.pointer);
    let detail =
        format!("`input` does not satisfy the workflow's `input.schema`: {} at `{pointer}`", misfit.message);
    Problem::new(Code::InvalidInput, detail).with("field", "input").with("pointer", pointer)
}

async fn check_input(app: &App, new: &mut NewExecution) -> Answer<()> {
    if new.kind != DefinitionKind::Workflow || builtin(new.kind, &new.name).is_some() {
        return Ok(());
    }
    let input = new.input.as_deref();
    let check = judge(app, &new.key.scope, &new.name, new.version, input).await?;
    // A workflow that is made only now has a version, and so another one than none.
    new.extras.input_check = Some(check.unwrap_or(InputCheck { version: 0, misfit: None }));
    Ok(())
}

fn learn(app: &App, new: &NewExecution, version: i32) {
    if new.version.is_none() {
        app.schemas.learn_latest(&new.key.scope, &new.name, version);
    }
}
