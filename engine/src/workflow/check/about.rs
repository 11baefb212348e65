//! `document`, and Holdpoint's own settings in it.

use super::spot::Spot;
use super::{Checker, names};
use crate::schedule::{CatchUp, parse_zone};
use crate::status::Overlap;
use crate::workflow::document::{About, RUN_RETRIES, Settings};
use crate::workflow::read::{Kind, cut};

const KEYS: [&str; 8] = ["dsl", "namespace", "name", "version", "title", "summary", "tags", "metadata"];
const SETTINGS: [&str; 5] = ["concurrency", "retries", "overlap", "catch_up", "time_zone"];
/// The most repetitions of a failed run.
const MOST_RETRIES: u64 = 20;

impl<'n> Checker<'n, '_> {
    /// `document`; the settings, and the time zone of its schedule (empty for none).
    pub(super) fn about(&mut self, spot: &Spot<'n>) -> Option<(About, Settings, String)> {
        self.object(spot, "`document`", &KEYS)?;
        let dsl = self.dsl(spot);
        let namespace = self.label(spot, "namespace");
        let name = self.label(spot, "name");
        let version = self.semantic_version(spot);
        let title = self.optional_text(spot, "title");
        let summary = self.optional_text(spot, "summary");
        let tags = self.tags(spot);
        let settings = self.settings(spot);
        let about = About {
            dsl: dsl?,
            namespace: namespace?,
            name: name?,
            version: version?,
            title: title?.map(str::to_owned),
            summary: summary?.map(str::to_owned),
            tags: tags?,
        };
        let (settings, zone) = settings?;
        Some((about, settings, zone))
    }

    fn dsl(&mut self, parent: &Spot<'n>) -> Option<String> {
        let spot = self.required(parent, "dsl")?;
        let text = self.text(&spot)?;
        if names::is_semver(text) && text.starts_with("1.0.") {
            return Some(text.to_owned());
        }
        self.refuse(spot.wrong(format!("the DSL's version `{}`: expected 1.0.x, such as `1.0.3`", cut(text))))
    }

    fn label(&mut self, parent: &Spot<'n>, key: &str) -> Option<String> {
        let spot = self.required(parent, key)?;
        let text = self.text(&spot)?;
        match names::check_label(text) {
            Ok(()) => Some(text.to_owned()),
            Err(message) => self.refuse(spot.wrong(message)),
        }
    }

    fn semantic_version(&mut self, parent: &Spot<'n>) -> Option<String> {
        let spot = self.required(parent, "version")?;
        let text = self.text(&spot)?;
        if names::is_semver(text) {
            return Some(text.to_owned());
        }
        self.refuse(
            spot.wrong(format!("`{}` is no semantic version: expected one such as `1.0.0`", cut(text))),
        )
    }

    fn tags(&mut self, parent: &Spot<'n>) -> Option<std::collections::BTreeMap<String, String>> {
        let Some(spot) = parent.get("tags") else { return Some(Default::default()) };
        if !matches!(spot.node.kind, Kind::Map(_)) {
            return self.expected(&spot, "an object of texts");
        }
        let read: Vec<_> = spot
            .members()
            .iter()
            .map(|member| Some((member.key.clone(), self.tag(&spot.member(member))?)))
            .collect();
        read.into_iter().collect()
    }

    fn tag(&mut self, spot: &Spot<'n>) -> Option<String> {
        match &spot.node.kind {
            Kind::Text(text) => Some(text.clone()),
            Kind::Number(number) => Some(number.to_string()),
            Kind::Bool(bool) => Some(bool.to_string()),
            _ => self.expected(spot, "a text"),
        }
    }

    fn settings(&mut self, parent: &Spot<'n>) -> Option<(Settings, String)> {
        let Some(spot) = self.own_metadata(parent)? else { return Some(Default::default()) };
        self.object(&spot, "`holdpoint` of a workflow", &SETTINGS)?;
        let one_at_a_time = spot.get("concurrency").map(|found| self.whole(&found, 1, 1));
        let retries = spot.get("retries").map(|found| self.whole(&found, 0, MOST_RETRIES));
        let overlap = spot.get("overlap").map(|found| self.overlap(&found));
        let catch_up = spot.get("catch_up").map(|found| self.catch_up(&found));
        let zone = self.zone(&spot);
        let settings = Settings {
            one_at_a_time: super::flip(one_at_a_time)?.is_some(),
            retries: super::flip(retries)?.map_or(RUN_RETRIES, |retries| retries as u32),
            overlap: super::flip(overlap)?.unwrap_or(Overlap::Skip),
            catch_up: super::flip(catch_up)?.unwrap_or_default(),
        };
        Some((settings, zone?))
    }

    /// `metadata.holdpoint`; other metadata is free.
    pub(super) fn own_metadata(&mut self, parent: &Spot<'n>) -> super::Maybe<Spot<'n>> {
        let Some(spot) = parent.get("metadata") else { return Some(None) };
        if !matches!(spot.node.kind, Kind::Map(_)) {
            return self.expected(&spot, "an object");
        }
        Some(spot.get("holdpoint"))
    }

    fn overlap(&mut self, spot: &Spot<'n>) -> Option<Overlap> {
        let words: Vec<&'static str> = Overlap::ALL.iter().map(|overlap| overlap.as_str()).collect();
        self.word(spot, &words)?.parse().ok()
    }

    fn catch_up(&mut self, spot: &Spot<'n>) -> Option<CatchUp> {
        self.object(spot, "`catch_up`", &["window", "limit"])?;
        let read = serde_json::from_value::<CatchUp>(spot.node.to_value()).map_err(|error| error.to_string());
        match read.and_then(|catch_up| catch_up.check().map(|()| catch_up)) {
            Ok(catch_up) => Some(catch_up),
            Err(message) => self.refuse(spot.wrong(message)),
        }
    }

    /// Empty where none is named.
    fn zone(&mut self, parent: &Spot<'n>) -> Option<String> {
        let Some(spot) = parent.get("time_zone") else { return Some(String::new()) };
        let text = self.text(&spot)?;
        match parse_zone(text) {
            Ok(_) => Some(text.to_owned()),
            Err(message) => self.refuse(spot.wrong(message)),
        }
    }
}
