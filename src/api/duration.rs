//! A duration as users write it: a number of seconds, fractions allowed, or a text such as `2m30s`.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration as Std;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// Units that humantime reads and that mean one length: years and months do not, and are left out.
const TEXT: &str = r"^([0-9]+(nanos|nsec|ns|micros|usec|us|millis|msec|ms|seconds|second|secs|sec|s|minutes|minute|mins|min|m|hours|hour|hrs|hr|h|days|day|d|weeks|week|wks|wk|w) ?)+$";
/// A year: longer than any period that makes sense, short enough that no sum overflows.
const LONGEST: Std = Std::from_hours(24 * 366);

/// The value of a duration field. Kept as written, so that what is read back is what was applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Duration(Value);

impl Duration {
    /// Its length.
    ///
    /// # Errors
    /// A sentence, where the value is neither a number of seconds from 0 to a year nor a readable text.
    pub fn length(&self) -> Result<Std, String> {
        let length = match &self.0 {
            Value::Number(seconds) => seconds
                .as_f64()
                .and_then(|s| Std::try_from_secs_f64(s).ok())
                .ok_or_else(|| self.unreadable())?,
            Value::String(text) if !text.split(|c: char| !c.is_alphabetic()).any(ambiguous) => {
                humantime::parse_duration(text).map_err(|_| self.unreadable())?
            }
            Value::String(_) | Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
                return Err(self.unreadable());
            }
        };
        if length > LONGEST { Err(format!("{self} is longer than a year")) } else { Ok(length) }
    }

    fn unreadable(&self) -> String {
        format!("{self} is not a duration: write seconds (2.5) or a text such as \"500ms\" or \"2m30s\"")
    }
}

/// Units of humantime that have no one length: years and months.
fn ambiguous(unit: &str) -> bool {
    unit.starts_with('y') || unit.starts_with('M') || unit.starts_with("mon")
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<f64> for Duration {
    fn from(seconds: f64) -> Self {
        Self(seconds.into())
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(Self)
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    /// No `type`: int-or-string would refuse 0.5. Each bound applies to its own kind of value only; lists and
    /// objects are refused by having no room.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-preserve-unknown-fields": true,
            "minimum": 0,
            "maximum": 31_622_400,
            "pattern": TEXT,
            "maxLength": 32,
            "maxItems": 0,
            "maxProperties": 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn length(value: Value) -> Result<Std, String> {
        Duration(value).length()
    }

    #[test]
    fn numbers_are_seconds_and_texts_carry_their_unit() {
        assert_eq!(length(json!(5)), Ok(Std::from_secs(5)));
        assert_eq!(length(json!(0.5)), Ok(Std::from_millis(500)));
        assert_eq!(length(json!("500ms")), Ok(Std::from_millis(500)));
        assert_eq!(length(json!("2m30s")), Ok(Std::from_secs(150)));
        assert_eq!(length(json!("2days")), Ok(Std::from_hours(48)));
    }

    #[test]
    fn what_is_no_duration_is_refused_in_a_sentence() {
        for value in [
            json!(-1),
            json!(true),
            json!("soon"),
            json!(""),
            json!([]),
            json!({}),
            json!("1y"),
            json!("2 months"),
        ] {
            let error = length(value.clone()).unwrap_err();
            assert!(error.contains("is not a duration"), "{value}: {error}");
        }
        assert!(length(json!(1e300)).is_err());
        assert!(length(json!("53w")).unwrap_err().contains("longer than a year"));
    }

    proptest! {
        #[test]
        fn a_length_is_what_was_written_and_never_more_than_a_year(
            seconds in prop_oneof![any::<f64>(), 0.0..40_000_000.0], text in "[0-9]{0,12}[a-zA-Z ]{0,4}|\\PC{0,9}",
        ) {
            let fits = (0.0..=LONGEST.as_secs_f64()).contains(&seconds);
            let length = Duration(serde_json::json!(seconds)).length();
            prop_assert_eq!(length.is_ok(), fits);
            prop_assert!(length.is_err() || (length.unwrap().as_secs_f64() - seconds).abs() < 1e-6);
            prop_assert!(!Duration(serde_json::json!(text)).length().is_ok_and(|l| l > LONGEST));
        }
    }
}
