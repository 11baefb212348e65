//! A limit is reached: it is ready and not taken, or a call of it does not begin.

use std::collections::BTreeMap;

use holdpoint_db::{LimitKind, LimitStanding, Rate};
use holdpoint_engine::time::Span;

use super::evidence::Evidence;
use super::scene::{Said, Scene};
use super::sentences::Sentence;

impl Scene<'_> {
    /// The first of its limits that lets nothing through; each of them is evidence.
    pub fn limited(&mut self, is: &str) -> Option<Said> {
        let limits = std::mem::take(&mut self.beside.limits);
        let has_begun = self.standing.row.started_at.is_some();
        let mut said = None;
        for limit in &limits {
            self.push(evidence(limit));
            if let Some(why) = reached(limit, has_begun).filter(|_| said.is_none()) {
                let text = format!("{is}, and waits for {why}, {}", before(limit));
                said = Some(Said::new(Sentence::Limited, text));
            }
        }
        said
    }

    /// What the calls that have not begun wait for, by step; each limit is evidence.
    pub fn limited_calls(&mut self) -> BTreeMap<i32, String> {
        let limits = std::mem::take(&mut self.beside.limits);
        self.evidence.extend(limits.iter().map(evidence));
        let why = |limit: &LimitStanding| {
            let reached = reached(limit, false).unwrap_or_else(|| whose(limit));
            Some((limit.step?, format!("waits for {reached}, {}", before(limit))))
        };
        limits.iter().filter_map(why).collect()
    }
}

fn before(limit: &LimitStanding) -> String {
    match limit.before {
        0 => "it is next".to_owned(),
        1 => "1 waits before it".to_owned(),
        before => format!("{before} wait before it"),
    }
}

fn whose(limit: &LimitStanding) -> String {
    match limit.kind {
        LimitKind::Tenant => "the tenant's limit".to_owned(),
        kind => format!("the limit of the {} `{}`", kind.as_str(), limit.name),
    }
}

fn evidence(limit: &LimitStanding) -> Evidence {
    Evidence::Limit {
        of: limit.kind.as_str().to_owned(),
        name: limit.name.clone(),
        concurrency: limit.concurrency,
        count: limit.rate.map(|rate| rate.count),
        per: limit.rate.map(|rate| Span(rate.per)),
        running: limit.running,
        begun: limit.begun,
        before: limit.before,
        step: limit.step,
    }
}

/// Which limit it is, and that it is reached; nothing where it lets one more through.
fn reached(limit: &LimitStanding, has_begun: bool) -> Option<String> {
    let (whose, is_call) = (whose(limit), limit.kind == LimitKind::Tool);
    if let Some(most) = limit.concurrency.filter(|most| limit.running >= *most) {
        let (what, running) = if is_call { ("call", "under way") } else { ("execution", "running") };
        let (s, are) = if most == 1 { ("", "is") } else { ("s", "are") };
        return Some(format!("{whose}, {most} {what}{s} at a time: {} {are} {running}", limit.running));
    }
    let Rate { count, per } = limit.rate.filter(|rate| !has_begun && limit.begun >= rate.count)?;
    let (what, s) = (if is_call { "call" } else { "start" }, if count == 1 { "" } else { "s" });
    Some(format!("{whose}, {count} {what}{s} in {}: {} began in the last", Span(per), limit.begun))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn limit(kind: LimitKind) -> LimitStanding {
        LimitStanding {
            kind,
            name: "acme".to_owned(),
            concurrency: Some(5),
            rate: Some(Rate { count: 100, per: Duration::from_secs(60) }),
            running: 5,
            begun: 7,
            before: 12,
            step: None,
        }
    }

    #[test]
    fn a_limit_that_is_reached_is_named_with_its_figures() {
        let told = reached(&limit(LimitKind::Tenant), false);
        assert_eq!(told.as_deref(), Some("the tenant's limit, 5 executions at a time: 5 are running"));
        let one = LimitStanding { running: 4, begun: 100, ..limit(LimitKind::Agent) };
        let told = reached(&one, false);
        assert_eq!(
            told.as_deref(),
            Some("the limit of the agent `acme`, 100 starts in 1m: 100 began in the last")
        );
        assert_eq!(reached(&one, true), None, "what has begun is under no rate");
        let tool = LimitStanding { concurrency: Some(1), running: 1, ..limit(LimitKind::Tool) };
        let told = reached(&tool, false);
        assert_eq!(told.as_deref(), Some("the limit of the tool `acme`, 1 call at a time: 1 is under way"));
        assert_eq!(reached(&LimitStanding { running: 4, ..limit(LimitKind::Workflow) }, false), None);
    }
}
