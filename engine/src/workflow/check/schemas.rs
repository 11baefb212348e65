//! JSON schemas: written in the document, and compiled.

use super::Checker;
use super::spot::Spot;
use crate::definition::compile_schema;
use crate::workflow::document::Schema;
use crate::workflow::read::Kind;

impl<'n> Checker<'n, '_> {
    /// `{format, document}`.
    pub(super) fn schema(&mut self, spot: &Spot<'n>) -> Option<Schema> {
        self.object(spot, "a schema", &["format", "document", "resource"])?;
        if let Some(format) = spot.get("format") {
            let text = self.text(&format)?;
            if text != "json" && !text.starts_with("json:") {
                return self.refuse(format.wrong(format!("the format `{text}`: expected `json`")));
            }
        }
        if let Some(resource) = spot.get("resource") {
            let message = "`resource` is not carried: what is elsewhere may change under a version; write the schema into `document`";
            return self.refuse(resource.wrong_key(message));
        }
        let document = self.required(spot, "document")?;
        self.json_schema(&document)
    }

    /// A JSON schema itself.
    pub(super) fn json_schema(&mut self, spot: &Spot<'n>) -> Option<Schema> {
        if !matches!(spot.node.kind, Kind::Map(_) | Kind::Bool(_)) {
            return self.expected(spot, "a JSON schema");
        }
        self.local_references(spot)?;
        let document = spot.node.to_value();
        match compile_schema(&document) {
            Ok(validator) => Some(Schema { document, validator }),
            Err(message) => self.refuse(spot.wrong(format!("this is no JSON schema: {message}"))),
        }
    }

    /// A schema refers to itself only: nothing is fetched.
    fn local_references(&mut self, spot: &Spot<'n>) -> Option<()> {
        let mut fits = Some(());
        for member in spot.members() {
            let below = spot.member(member);
            let is_reference = member.key == "$ref" || member.key == "$dynamicRef";
            let outside = below.text().filter(|text| is_reference && !text.starts_with('#'));
            if let Some(outside) = outside {
                let shown = crate::workflow::read::cut(outside);
                let message = format!(
                    "the reference `{shown}` leads out of the schema: nothing is fetched; refer to a part of it with `#/…`"
                );
                fits = self.refuse(below.wrong(message));
            } else {
                fits = self.local_references(&below).and(fits);
            }
        }
        for item in spot.items() {
            fits = self.local_references(&item).and(fits);
        }
        fits
    }
}
