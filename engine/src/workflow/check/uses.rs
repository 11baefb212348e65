//! `use`: parts with names. A part is checked where it is used, with the variables that are
//! there, and once where it is not used at all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::expressions::{Locals, Moment};
use super::spot::Spot;
use super::{Checker, names};
use crate::scope::check_name;
use crate::workflow::document::Task;
use crate::workflow::read::cut;

const KEYS: [&str; 8] =
    ["authentications", "errors", "extensions", "functions", "retries", "secrets", "timeouts", "catalogs"];

/// The parts, and which of them were used.
pub(super) struct Uses<'n> {
    spot: Option<Spot<'n>>,
    used: BTreeSet<(&'static str, String)>,
    /// Functions that were checked; nothing for one that is wrong.
    pub functions: BTreeMap<String, Option<Arc<Task>>>,
    /// Functions that are being checked, outermost first.
    pub open: Vec<String>,
}

impl<'n> Uses<'n> {
    pub fn new(spot: Option<Spot<'n>>) -> Self {
        Self { spot, used: BTreeSet::new(), functions: BTreeMap::new(), open: Vec::new() }
    }

    pub fn get(&self, kind: &str, name: &str) -> Option<Spot<'n>> {
        self.spot.as_ref()?.get(kind)?.get(name)
    }

    pub fn names(&self, kind: &str) -> Vec<&'n str> {
        let parts = self.spot.as_ref().and_then(|spot| spot.get(kind));
        parts.iter().flat_map(Spot::members).map(|member| member.key.as_str()).collect()
    }

    pub fn secrets(&self) -> Vec<&'n str> {
        let listed = self.spot.as_ref().and_then(|spot| spot.get("secrets"));
        listed.iter().flat_map(Spot::items).filter_map(|item| item.text()).collect()
    }
}

impl<'n> Checker<'n, '_> {
    /// The shape of `use`, and what of it is not carried.
    pub(super) fn check_uses(&mut self) {
        let Some(spot) = self.uses.spot.clone() else { return };
        if self.object(&spot, "`use`", &KEYS).is_none() {
            return;
        }
        for (key, message) in [
            ("extensions", "extensions are not carried: write the tasks where they run"),
            (
                "catalogs",
                "catalogs are not carried: what is elsewhere may change under a version; the default catalog is there without being named",
            ),
        ] {
            if let Some(found) = spot.get(key) {
                self.error(found.wrong_key(message));
            }
        }
        for kind in ["authentications", "errors", "functions", "retries", "timeouts"] {
            if let Some(found) = spot.get(kind).filter(|found| found.members().is_empty()) {
                let _: Option<()> = self.expected(&found, "an object of named parts");
            }
        }
        if let Some(secrets) = spot.get("secrets") {
            self.check_secret_names(&secrets);
        }
    }

    fn check_secret_names(&mut self, spot: &Spot<'n>) {
        if self.texts(spot).is_none() {
            return;
        }
        for item in spot.items() {
            if let Err(message) = check_name(item.text().unwrap_or_default()) {
                self.error(item.wrong(message));
            }
        }
    }

    /// The part that a text names.
    pub(super) fn used(&mut self, spot: &Spot<'n>, kind: &'static str) -> Option<Spot<'n>> {
        let name = self.text(spot)?;
        match self.uses.get(kind, name) {
            Some(found) => {
                self.uses.used.insert((kind, name.to_owned()));
                Some(found)
            }
            None => {
                let known = self.uses.names(kind);
                let hint = match names::nearest(name, known.into_iter()) {
                    Some(near) => format!("; did you mean `{near}`?"),
                    None => String::new(),
                };
                self.refuse(spot.wrong(format!("there is no `{}` in `use.{kind}`{hint}", cut(name))))
            }
        }
    }

    /// Parts that nothing uses must be right too.
    pub(super) fn check_unused(&mut self) {
        let locals = Locals::default();
        let scope = locals.at(Moment::During);
        for spot in self.unused("authentications") {
            self.policy(&spot, scope);
        }
        for spot in self.unused("errors") {
            self.error_template(&spot, scope);
        }
        for spot in self.unused("timeouts") {
            self.timeout_after(&spot, scope);
        }
        let with_error = locals.with([&"error".to_owned()]);
        for spot in self.unused("retries") {
            self.retry_policy(&spot, with_error.at(Moment::During));
        }
        for name in self.uses.names("functions") {
            self.function(name);
        }
    }

    fn unused(&self, kind: &'static str) -> Vec<Spot<'n>> {
        let names = self.uses.names(kind).into_iter();
        let unused = names.filter(|name| !self.uses.used.contains(&(kind, (*name).to_owned())));
        unused.filter_map(|name| self.uses.get(kind, name)).collect()
    }
}
