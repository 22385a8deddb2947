//! Single values of a spec: within their bounds, or a fault.

use std::sync::Arc;
use std::time::Duration;

use super::{LONGEST_RANGE, Reader};
use crate::sources::{Endpoint, EndpointError, MAX_TIMEOUT};

impl Reader<'_> {
    pub(super) fn percent(&mut self, at: &str, text: &str) -> u32 {
        let read = text.strip_suffix('%').and_then(|n| n.parse::<u32>().ok()).filter(|n| *n <= 100);
        read.unwrap_or_else(|| {
            self.errors.push(format!("{at}: {text:?} is not a share; write a number of pods or \"10%\""));
            0
        })
    }

    pub(super) fn count(&mut self, at: &str, value: Option<i64>, most: u32) -> Option<u32> {
        let value = value?;
        let read = u32::try_from(value).ok().filter(|n| *n <= most);
        if read.is_none() {
            self.errors.push(format!("{at}: {value} is not within 0 and {most}"));
        }
        read
    }

    /// A number of at least `least`.
    pub(super) fn number(&mut self, at: &str, name: &str, value: Option<f64>, least: f64) -> Option<f64> {
        let value = value?;
        let read = Some(value).filter(|v| v.is_finite() && *v >= least);
        if read.is_none() {
            self.errors.push(format!("{at}.{name}: {value} is not a number of {least} or more"));
        }
        read
    }

    pub(super) fn duration(&mut self, at: &str, value: Option<&crate::api::Duration>) -> Option<Duration> {
        match value?.length() {
            Ok(length) => Some(length),
            Err(error) => {
                self.errors.push(format!("{at}: {error}"));
                None
            }
        }
    }

    /// A day at the most: it makes cuts longer.
    pub(super) fn short(&mut self, at: &str, value: Option<&crate::api::Duration>) -> Option<Duration> {
        let length = self.duration(at, value);
        if length.is_some_and(|length| length > LONGEST_RANGE) {
            self.errors.push(format!("{at}: longer than a day, and a cut lasts as long; shorten it"));
        }
        length
    }

    /// Time for an answer.
    pub(super) fn timeout(&mut self, at: &str, value: Option<&crate::api::Duration>) -> Option<Duration> {
        let length = self.duration(at, value)?;
        if length > MAX_TIMEOUT || length.is_zero() {
            self.errors.push(format!("{at}: must be more than 0 and at most {} s", MAX_TIMEOUT.as_secs()));
        }
        Some(length)
    }

    pub(super) fn endpoint(&mut self, at: &str, read: Result<Endpoint, EndpointError>) -> Option<Endpoint> {
        match read {
            Ok(endpoint) => Some(endpoint),
            Err(error) => {
                self.errors.push(format!("{at}: {error}"));
                None
            }
        }
    }

    pub(super) fn required(&mut self, at: &str, value: Option<&String>, what: &str) -> Option<Arc<str>> {
        let value = value.map(|v| v.trim()).filter(|v| !v.is_empty());
        if value.is_none() {
            self.errors.push(format!("{at}: empty; give {what}"));
        }
        value.map(Arc::from)
    }
}

/// What Kubernetes takes as a label's value, without the empty one.
pub(super) fn label_value(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let outer = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= 63 && text.chars().all(inner) && outer(text.chars().next()) && outer(text.chars().last())
}

pub(super) fn dns_label(text: &str) -> bool {
    label_value(text) && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}
