//! `use.functions`: tasks that calls name.

use std::sync::Arc;

use super::expressions::Locals;
use super::spot::Spot;
use super::{Checker, names};
use crate::workflow::document::Task;
use crate::workflow::read::cut;

/// Functions may call functions, so deep.
const MOST_NESTED: usize = 16;

impl<'n> Checker<'n, '_> {
    /// The task of a function that a call names.
    pub(super) fn called(&mut self, spot: &Spot<'n>, name: &'n str) -> Option<Arc<Task>> {
        if self.uses.get("functions", name).is_none() {
            return self.refuse(spot.wrong(self.no_function(name)));
        }
        if self.uses.open.iter().any(|open| open == name) {
            let round = format!("{} → {name}", self.uses.open.join(" → "));
            return self.refuse(spot.wrong(format!("a function that calls itself: {round}")));
        }
        if self.uses.open.len() >= MOST_NESTED {
            return self.refuse(spot.wrong(format!("functions call functions, {MOST_NESTED} deep at most")));
        }
        self.function(name)
    }

    /// Checks a function, once. Nothing around a call is seen in it: its input is `with`.
    pub(super) fn function(&mut self, name: &'n str) -> Option<Arc<Task>> {
        if let Some(known) = self.uses.functions.get(name) {
            return known.clone();
        }
        let spot = self.uses.get("functions", name)?;
        self.uses.open.push(name.to_owned());
        let task = self.task(name, &spot, &[], &Locals::default());
        self.uses.open.pop();
        self.uses.functions.insert(name.to_owned(), task.clone());
        task
    }

    fn no_function(&self, name: &str) -> String {
        let shown = cut(name);
        if name.contains("://") {
            return format!(
                "`{shown}`: functions by URL are not carried: what is elsewhere may change under a version; write it into `use.functions`"
            );
        }
        if let Some((_, catalog)) = name.split_once('@') {
            return match catalog {
                "default" => format!(
                    "`{shown}` is not in the default catalog, which has `approval:1.0.0@default`, `agent:1.0.0@default` and `task:1.0.0@default`"
                ),
                _ => format!("`{shown}`: no catalog but `default` is carried"),
            };
        }
        let known = self.uses.names("functions").into_iter().chain(["http", "openapi", "mcp"]);
        match names::nearest(name, known) {
            Some(near) => format!("there is no function `{shown}`; did you mean `{near}`?"),
            None => format!(
                "there is no function `{shown}`: expected `http`, `openapi`, `mcp`, one of `use.functions`, or one of the default catalog"
            ),
        }
    }
}
