//! Who may decide about a question of a workflow: the members of an agent's tool's rule, as
//! the DSL writes names.

use super::expressions::Scope;
use super::spot::Spot;
use super::{Checker, flip};
use crate::policy::{
    ApproverRole, Approvers, Escalation, MOST_QUORUM, OnTimeout, Policy, Then, check_groups,
};
use crate::time::Span;

/// The members of `with` that are the policy's.
pub(super) const KEYS: [&str; 5] = ["approvers", "quorum", "noSelfApproval", "onTimeout", "allowEdit"];

impl<'n> Checker<'n, '_> {
    pub(super) fn decision_policy(&mut self, with: &Spot<'n>, scope: Scope<'_>) -> Option<Policy> {
        let approvers = flip(with.get("approvers").map(|found| self.approvers(&found)));
        let quorum = flip(with.get("quorum").map(|found| self.whole(&found, 1, u64::from(MOST_QUORUM))));
        let no_self_approval = self.boolean(with, "noSelfApproval", false);
        let on_timeout = flip(with.get("onTimeout").map(|found| self.on_timeout(&found, scope)));
        let allow_edit = self.boolean(with, "allowEdit", true);
        Some(Policy {
            approvers: approvers?,
            quorum: quorum?.map_or(1, |quorum| quorum as u32),
            no_self_approval: no_self_approval?,
            on_timeout: on_timeout?.unwrap_or_default(),
            allow_edit: allow_edit?,
            when_failed: None,
        })
    }

    fn approvers(&mut self, spot: &Spot<'n>) -> Option<Approvers> {
        self.object(spot, "`approvers`", &["roles", "groups"])?;
        let roles = flip(spot.get("roles").map(|roles| self.roles(&roles)));
        let groups = flip(spot.get("groups").map(|groups| {
            let named = self.texts(&groups)?;
            match check_groups(&named) {
                Ok(()) => Some(named),
                Err(message) => self.refuse(groups.wrong(message)),
            }
        }));
        let (roles, groups) = (roles?.unwrap_or_default(), groups?.unwrap_or_default());
        if roles.is_empty() && groups.is_empty() {
            return self.refuse(spot.wrong("names nobody: give `roles` or `groups`"));
        }
        Some(Approvers { roles, groups })
    }

    fn roles(&mut self, spot: &Spot<'n>) -> Option<Vec<ApproverRole>> {
        self.list(spot)?;
        let roles: Vec<_> = spot
            .items()
            .map(|item| {
                Some(match self.word(&item, &["approve", "admin"])? {
                    "admin" => ApproverRole::Admin,
                    _ => ApproverRole::Approve,
                })
            })
            .collect();
        roles.into_iter().collect()
    }

    fn on_timeout(&mut self, spot: &Spot<'n>, scope: Scope<'_>) -> Option<OnTimeout> {
        if spot.text().is_some() {
            return Some(match self.word(spot, &["fail", "deny"])? {
                "deny" => OnTimeout::Deny,
                _ => OnTimeout::Fail,
            });
        }
        self.object(spot, "`onTimeout`", &["escalate"])?;
        let spot = self.required(spot, "escalate")?;
        self.object(&spot, "`escalate`", &["approvers", "expiresAfter", "then"])?;
        let approvers = self.required(&spot, "approvers").and_then(|found| self.approvers(&found));
        let length = self.required(&spot, "expiresAfter").and_then(|found| {
            let length = self.fixed_duration(&found, scope)?;
            if length.is_zero() { self.refuse(found.wrong("is 0: it must be longer")) } else { Some(length) }
        });
        let then = flip(spot.get("then").map(|found| self.word(&found, &["fail", "deny"])));
        Some(OnTimeout::Escalate(Escalation {
            approvers: approvers?,
            expires_after: Span(length?),
            then: if then? == Some("deny") { Then::Deny } else { Then::Fail },
        }))
    }
}
