//! An object of the input, and where it stands.

use serde::Serialize;
use serde_json::Value;

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

/// An object of the input.
#[derive(Debug, Clone)]
pub struct Object {
    /// Where it stands.
    pub place: Place,
    /// The API group; empty for the core.
    pub group: String,
    /// Version within the group.
    pub version: String,
    /// Such as `Service`.
    pub kind: String,
    /// As written, else that of `--namespace`, else `default`.
    pub namespace: String,
    /// Its name; empty where there is only a generateName.
    pub name: String,
    /// All of it.
    pub value: Value,
}

impl Object {
    /// By name.
    #[must_use]
    pub fn subject(&self) -> Subject {
        Subject { kind: self.kind.clone(), namespace: self.namespace.clone(), name: self.name.clone() }
    }

    /// Whether it is of this group and kind.
    #[must_use]
    pub fn is(&self, group: &str, kind: &str) -> bool {
        self.group == group && self.kind == kind
    }
}
