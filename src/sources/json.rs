//! What the parsers of both bodies share.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use kubervisor_core::sample::{Row, Samples};
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use tokio::time::Instant;

use super::{Answer, SourceError};

/// What a parser makes of a body.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Parsed {
    pub(super) rows: Vec<Row>,
    /// Something is missing, by the source's own word.
    pub(super) partial: bool,
    /// Series that name no pod, or have no value.
    pub(super) dropped: usize,
    pub(super) warnings: Vec<String>,
}

impl Parsed {
    /// Of a question that was sent and answered then.
    pub(super) fn answer(self, asked_at: Instant, answered_at: Instant) -> Answer {
        let Self { rows, partial, dropped, warnings } = self;
        Answer { samples: Samples::new(rows, partial), asked_at, answered_at, dropped, warnings }
    }
}

/// A JSON string, borrowed from the body unless it holds an escape.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Text<'de>(pub(super) Cow<'de, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrow;
        impl<'de> Visitor<'de> for Borrow {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Borrow)
    }
}

/// One allocation for each distinct text of an answer: a namespace or a status code stands in thousands of rows.
#[derive(Default)]
pub(super) struct Interner(HashSet<Arc<str>>);

impl Interner {
    pub(super) fn get(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.get(text) {
            return Arc::clone(known);
        }
        let new: Arc<str> = Arc::from(text);
        self.0.insert(Arc::clone(&new));
        new
    }
}

/// What an error of the parser means. `foreign` is what to call JSON of another shape.
pub(super) fn classify(error: &serde_json::Error, body: &[u8], foreign: &'static str) -> SourceError {
    use serde_json::error::Category;
    let text = body.trim_ascii();
    // A number or an escape that is cut off is a syntax error to the parser.
    let cut = text.starts_with(b"{") && !text.ends_with(b"}");
    match error.classify() {
        Category::Data => SourceError::Malformed(foreign),
        Category::Eof if !text.is_empty() => SourceError::Truncated,
        Category::Syntax if cut => SourceError::Truncated,
        Category::Eof | Category::Syntax | Category::Io => SourceError::NotJson,
    }
}
