//! What is found: a rule, where, on which object, and why.

use serde::Serialize;

use super::read::Object;
use super::rules::{Rule, Severity};

/// Where a document stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// As it was named, or found in a folder that was; `-` for standard input.
    pub file: String,
    /// From 1, documents without content not counted; 0 where it is about the file.
    pub document: usize,
    /// Of the document's first line, or of the fault where it is known; from 1.
    pub line: usize,
}

/// An object, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Subject {
    /// Such as `Service`.
    pub kind: String,
    /// As written, else that of `--namespace`, else `default`.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

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
