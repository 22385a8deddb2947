//! What is found: a rule, where, on which object, and why.

use super::object::{Object, Place, Subject};
use super::rules::{Rule, Severity};

/// One fault or doubt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The rule.
    pub rule: Rule,
    /// Where.
    pub place: Place,
    /// On which object; none where a file or a document is no object.
    pub subject: Option<Subject>,
    /// The field, such as `spec.breakers[errors].promQL`; none where it is about the object.
    pub field: Option<String>,
    /// What is wrong, and what comes of it.
    pub reason: String,
    /// What to do.
    pub cure: String,
}

impl Finding {
    /// About a file.
    #[must_use]
    pub fn of_place(rule: Rule, place: Place, reason: impl Into<String>) -> Self {
        let cure = rule.row().cure.to_owned();
        Self { rule, place, subject: None, field: None, reason: reason.into(), cure }
    }

    /// About an object.
    #[must_use]
    pub fn of(rule: Rule, object: &Object, reason: impl Into<String>) -> Self {
        let subject = Some(object.subject());
        Self { subject, ..Self::of_place(rule, object.place.clone(), reason) }
    }

    /// In this field.
    #[must_use]
    pub fn at(self, field: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..self }
    }

    /// With another cure than the rule's.
    #[must_use]
    pub fn cured_by(self, cure: impl Into<String>) -> Self {
        Self { cure: cure.into(), ..self }
    }

    /// How bad it is.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.rule.row().severity
    }
}
