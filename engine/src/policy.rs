//! Who may decide about a call, how many must, and what becomes of it where nobody does. A
//! policy is frozen with the question that it is asked under, so that a decision is judged by
//! what was shown.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::time::{Span, Timestamp};

/// The most people that a policy may ask for.
pub const MOST_QUORUM: u32 = 10;
/// The most groups that a policy or a key may name.
pub const MOST_GROUPS: usize = 32;
/// What a denial says that nobody made.
pub const NOBODY_DECIDED: &str = "nobody decided in time";
/// Who decided, where the policy did.
pub const BY_TIMEOUT: &str = "on_timeout";

/// The roles that have the right to decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum ApproverRole {
    Approve,
    Admin,
}

impl ApproverRole {
    /// The role's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            ApproverRole::Approve => "approve",
            ApproverRole::Admin => "admin",
        }
    }
}

/// Whose decision counts: whoever has one of the roles, or is in one of the groups.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Approvers {
    /// Roles of keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<ApproverRole>,
    /// Groups of keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
}

impl Approvers {
    /// Whether they are among them.
    pub fn have(&self, who: &Decider) -> bool {
        self.roles.iter().any(|role| role.as_str() == who.role)
            || self.groups.iter().any(|group| who.groups.contains(group))
    }
}

/// What becomes of a question that nobody answered in time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnTimeout {
    /// The execution fails with `approval_timeout`.
    #[default]
    Fail,
    /// The call is denied; the execution goes on.
    Deny,
    /// Further approvers are asked.
    Escalate(Escalation),
}

/// Who is asked next, and for how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Escalation {
    /// Asked besides those that were asked first.
    pub approvers: Approvers,
    /// How long they have, from the first expiry on.
    pub expires_after: Span,
    /// What becomes of it where they do not answer either.
    #[serde(default)]
    pub then: Then,
}

/// The last word on a question that nobody answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Then {
    /// The execution fails with `approval_timeout`.
    #[default]
    Fail,
    /// The call is denied; the execution goes on.
    Deny,
}

/// A policy as it is frozen with its question. Without any member, whoever has the right
/// decides alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "ApprovalPolicy")]
pub struct Policy {
    /// Whose decision counts; everyone's that has the right where there are none.
    pub approvers: Option<Approvers>,
    /// How many distinct people must approve.
    pub quorum: u32,
    /// Whoever started the execution does not decide.
    pub no_self_approval: bool,
    /// What becomes of it where nobody decides in time.
    pub on_timeout: OnTimeout,
    /// Whether a decision may edit the arguments.
    pub allow_edit: bool,
    /// Why it is asked although `when` could not say so: its expression failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when_failed: Option<String>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            approvers: None,
            quorum: 1,
            no_self_approval: false,
            on_timeout: OnTimeout::Fail,
            allow_edit: true,
            when_failed: None,
        }
    }
}

/// Who decides, as their key has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decider {
    /// The key's id.
    pub key: String,
    /// The key's role.
    pub role: String,
    /// The key's groups.
    pub groups: Vec<String>,
    /// The key's own end user. One that a header names makes nobody a different person.
    pub end_user: Option<String>,
}

impl Decider {
    /// The person: the key's own end user, else the key.
    pub fn person(&self) -> String {
        match &self.end_user {
            Some(user) => format!("user:{user}"),
            None => format!("key:{}", self.key),
        }
    }
}

/// Who asked for what is decided about: who started the execution.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requester {
    /// The key's id.
    pub key: String,
    /// The execution's end user.
    pub end_user: Option<String>,
}

/// Why somebody's decision does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Barred {
    /// They are not among the approvers.
    NotAnApprover,
    /// They asked for it themselves.
    SelfApproval,
}

/// What the passing of its time has made of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Undecided then, it expires.
    pub expires_at: Timestamp,
    /// When further approvers were asked.
    pub escalated_at: Option<Timestamp>,
}

impl Policy {
    /// Whether that decision would count. `named` is the end user that the request is made for.
    pub fn judge(
        &self,
        who: &Decider,
        named: Option<&str>,
        requester: &Requester,
        escalated: bool,
    ) -> Result<(), Barred> {
        if !self.asks(who, escalated) {
            return Err(Barred::NotAnApprover);
        }
        let user = requester.end_user.as_deref();
        let same_user = user.is_some() && (who.end_user.as_deref() == user || named == user);
        if self.no_self_approval && (who.key == requester.key || same_user) {
            return Err(Barred::SelfApproval);
        }
        Ok(())
    }

    fn asks(&self, who: &Decider, escalated: bool) -> bool {
        let further = self.escalation().filter(|_| escalated);
        self.approvers.as_ref().is_none_or(|first| first.have(who))
            || further.is_some_and(|further| further.approvers.have(who))
    }

    /// Who is asked after the first expiry, where anybody is.
    pub fn escalation(&self) -> Option<&Escalation> {
        match &self.on_timeout {
            OnTimeout::Escalate(escalation) => Some(escalation),
            OnTimeout::Fail | OnTimeout::Deny => None,
        }
    }

    /// Where a question stands now: an escalation takes effect at the instant of the first
    /// expiry, whenever that is written down.
    pub fn standing(&self, noted: Standing, now: Timestamp) -> Standing {
        match self.escalation() {
            Some(next) if noted.escalated_at.is_none() && noted.expires_at <= now => Standing {
                expires_at: noted.expires_at.plus(next.expires_after.0),
                escalated_at: Some(noted.expires_at),
            },
            _ => noted,
        }
    }

    /// What becomes of a question after its last expiry.
    pub fn last_word(&self) -> Then {
        match &self.on_timeout {
            OnTimeout::Fail => Then::Fail,
            OnTimeout::Deny => Then::Deny,
            OnTimeout::Escalate(escalation) => escalation.then,
        }
    }

    /// How long the last of its approvers have after the first expiry.
    pub fn grace(&self) -> Duration {
        self.escalation().map_or(Duration::ZERO, |next| next.expires_after.0)
    }

    /// What is wrong with it: a member's path and a sentence.
    pub fn errors(&self) -> Vec<(String, String)> {
        let mut errors = Vec::new();
        if !(1..=MOST_QUORUM).contains(&self.quorum) {
            let message = format!("is {}: it may be 1 to {MOST_QUORUM}", self.quorum);
            errors.push(("quorum".to_owned(), message));
        }
        if let Some(approvers) = &self.approvers {
            approvers_errors("approvers", approvers, &mut errors);
        }
        if let Some(next) = self.escalation() {
            let place = "on_timeout.escalate";
            approvers_errors(&format!("{place}.approvers"), &next.approvers, &mut errors);
            if next.expires_after.0.is_zero() {
                errors.push((format!("{place}.expires_after"), "is 0: it must be longer".to_owned()));
            }
        }
        errors
    }
}

fn approvers_errors(place: &str, approvers: &Approvers, errors: &mut Vec<(String, String)>) {
    if approvers.roles.is_empty() && approvers.groups.is_empty() {
        errors.push((place.to_owned(), "names nobody: give `roles` or `groups`".to_owned()));
    }
    if let Err(message) = check_groups(&approvers.groups) {
        errors.push((format!("{place}.groups"), message));
    }
}

/// Checks the groups of a policy or a key.
pub fn check_groups(groups: &[String]) -> Result<(), String> {
    if groups.len() > MOST_GROUPS {
        return Err(format!("are {}: there may be {MOST_GROUPS}", groups.len()));
    }
    for (index, group) in groups.iter().enumerate() {
        crate::scope::check_name(group)?;
        if groups[..index].contains(group) {
            return Err(format!("`{group}` stands twice"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(text: &str) -> Policy {
        let defaults = serde_json::to_value(Policy::default()).expect("a policy");
        let mut whole = defaults.as_object().expect("an object").clone();
        whole.extend(serde_json::from_str::<serde_json::Map<_, _>>(text).expect(text));
        serde_json::from_value(whole.into()).expect(text)
    }

    fn who(key: &str, role: &str, groups: &[&str]) -> Decider {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        Decider { key: key.to_owned(), role: role.to_owned(), groups, end_user: None }
    }

    #[test]
    fn who_is_in_any_of_them_may_decide() {
        let one = policy(r#"{"approvers": {"roles": ["admin"], "groups": ["finance"]}}"#);
        let judge = |who: &Decider| one.judge(who, None, &Requester::default(), false);
        assert_eq!(judge(&who("k", "admin", &[])), Ok(()));
        assert_eq!(judge(&who("k", "approve", &["finance", "x"])), Ok(()));
        assert_eq!(judge(&who("k", "approve", &["x"])), Err(Barred::NotAnApprover));
        assert_eq!(
            Policy::default().judge(&who("k", "approve", &[]), None, &Requester::default(), false),
            Ok(())
        );
    }

    #[test]
    fn nobody_decides_about_their_own_request() {
        let one = policy(r#"{"no_self_approval": true}"#);
        let ada = Requester { key: "k1".to_owned(), end_user: Some("ada".to_owned()) };
        let of = |key: &str, user: Option<&str>| Decider {
            end_user: user.map(str::to_owned),
            ..who(key, "admin", &[])
        };
        assert_eq!(one.judge(&of("k1", None), None, &ada, false), Err(Barred::SelfApproval));
        assert_eq!(one.judge(&of("k2", Some("ada")), None, &ada, false), Err(Barred::SelfApproval));
        // Who acts for the user that asked is that user.
        assert_eq!(one.judge(&of("k2", None), Some("ada"), &ada, false), Err(Barred::SelfApproval));
        assert_eq!(one.judge(&of("k2", None), None, &ada, false), Ok(()));
        // Nobody's end user is nobody's.
        let nobody = Requester { key: "k1".to_owned(), end_user: None };
        assert_eq!(one.judge(&of("k2", None), None, &nobody, false), Ok(()));
    }

    #[test]
    fn an_escalation_takes_effect_at_the_first_expiry() {
        let one = policy(
            r#"{"approvers": {"groups": ["a"]}, "on_timeout": {"escalate":
                {"approvers": {"groups": ["b"]}, "expires_after": "10s"}}}"#,
        );
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        let noted = Standing { expires_at: at(100), escalated_at: None };
        assert_eq!(one.standing(noted, at(99)), noted);
        let escalated = Standing { expires_at: at(110), escalated_at: Some(at(100)) };
        for now in [100, 105, 500] {
            assert_eq!(one.standing(noted, at(now)), escalated);
            assert_eq!(one.standing(escalated, at(now)), escalated, "once");
        }
        let judge = |groups: &[&str], escalated| {
            one.judge(&who("k", "approve", groups), None, &Requester::default(), escalated)
        };
        assert_eq!(judge(&["b"], false), Err(Barred::NotAnApprover));
        assert_eq!((judge(&["a"], true), judge(&["b"], true)), (Ok(()), Ok(())));
        assert_eq!(one.last_word(), Then::Fail);
        assert_eq!(policy(r#"{"on_timeout": "deny"}"#).last_word(), Then::Deny);
    }

    #[test]
    fn what_makes_no_sense_is_told_with_its_place() {
        for (text, place) in [
            (r#"{"quorum": 0}"#, "quorum"),
            (r#"{"quorum": 11}"#, "quorum"),
            (r#"{"approvers": {}}"#, "approvers"),
            (r#"{"approvers": {"groups": ["a b"]}}"#, "approvers.groups"),
            (r#"{"approvers": {"groups": ["a", "a"]}}"#, "approvers.groups"),
            (
                r#"{"on_timeout": {"escalate": {"approvers": {"roles": ["admin"]}, "expires_after": 0}}}"#,
                "on_timeout.escalate.expires_after",
            ),
            (
                r#"{"on_timeout": {"escalate": {"approvers": {}, "expires_after": "1m"}}}"#,
                "on_timeout.escalate.approvers",
            ),
        ] {
            let errors = policy(text).errors();
            assert_eq!(errors.len(), 1, "{text}: {errors:?}");
            assert_eq!(errors[0].0, place, "{text}");
        }
        assert_eq!(Policy::default().errors(), []);
    }
}
