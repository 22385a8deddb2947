//! The body of an instant query, parsed straight into rows.
//!
//! Our own, because prometheus-http-query fails the whole answer for one native histogram, drops warnings (an answer
//! that lacks half of its series then looks complete) and keeps a map of strings for each series. Here only the
//! wanted labels are kept, each distinct text once, and a series that cannot be used is named or counted.

use std::borrow::Cow;
use std::fmt;

use kubervisor_core::sample::{Reading, Row};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::json::{Interner, Parsed, Text, classify};
use super::{ResultType, ServerFault, SourceError};

/// Warnings that are kept, and characters of each: they only go to the log, and the first one says it all.
const WARNINGS: usize = 5;
const WARNING_LENGTH: usize = 200;

/// How pods are found in the answer, and how many series it may have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'w> {
    pub(super) pod: &'w str,
    pub(super) namespace: &'w str,
    pub(super) key: Option<&'w str>,
    pub(super) max_series: usize,
}

pub(super) fn parse(body: &[u8], wanted: Wanted<'_>) -> Result<Parsed, SourceError> {
    let mut read = Reader::new(wanted);
    let mut json = serde_json::Deserializer::from_slice(body);
    let result = Envelope(&mut read).deserialize(&mut json).and_then(|()| json.end());
    match result {
        Err(_) if read.too_many => Err(SourceError::TooManySeries { limit: wanted.max_series }),
        Err(error) => Err(classify(&error, body, "not an answer of the query API")),
        Ok(()) => read.finish(),
    }
}

/// What has been read so far.
struct Reader<'w> {
    wanted: Wanted<'w>,
    parsed: Parsed,
    names: Interner,
    too_many: bool,
    status: Option<Status>,
    result_type: Option<Result<(), ResultType>>,
    has_result: bool,
}

#[derive(Clone, Copy)]
enum Status {
    Success,
    Error,
}

impl<'w> Reader<'w> {
    fn new(wanted: Wanted<'w>) -> Self {
        Self {
            wanted,
            parsed: Parsed::default(),
            names: Interner::default(),
            too_many: false,
            status: None,
            result_type: None,
            has_result: false,
        }
    }

    fn finish(self) -> Result<Parsed, SourceError> {
        match (self.status, self.result_type, self.has_result) {
            (None, ..) => Err(SourceError::Malformed("it does not say status success or error")),
            // With status 200: not the server's own refusal, so never permanent.
            (Some(Status::Error), ..) => Err(SourceError::Execution(ServerFault::Other)),
            (_, Some(Err(other)), _) => Err(SourceError::WrongType(other)),
            // Nothing is not the same as an empty list: missing is never 0.
            (_, None, _) | (.., false) => Err(SourceError::Malformed("it holds no result")),
            (_, Some(Ok(())), true) => {
                let mut parsed = self.parsed;
                parsed.rows.shrink_to_fit();
                Ok(parsed)
            }
        }
    }

    fn push(&mut self, series: Series<'_>) {
        match (series.pod, series.reading) {
            (Some(pod), Some(reading)) => {
                let row = Row {
                    namespace: series.namespace.map(|text| self.names.get(&text)),
                    pod: self.names.get(&pod),
                    key: series.key.map(|text| self.names.get(&text)),
                    reading,
                };
                self.parsed.rows.push(row);
            }
            _ => self.parsed.dropped += 1,
        }
    }

    fn full(&self) -> bool {
        self.parsed.rows.len() + self.parsed.dropped >= self.wanted.max_series
    }

    fn warn(&mut self, text: &str) {
        // Before 2.54 notes on style came as warnings, with this word in front; they say nothing about completeness.
        if text.starts_with("PromQL info:") {
            return;
        }
        self.parsed.partial = true;
        if self.parsed.warnings.len() < WARNINGS {
            // A log is read line by line.
            let shown = text.chars().map(|c| if c.is_control() { ' ' } else { c });
            self.parsed.warnings.push(shown.take(WARNING_LENGTH).collect());
        }
    }
}

#[derive(Default)]
struct Series<'de> {
    namespace: Option<Cow<'de, str>>,
    pod: Option<Cow<'de, str>>,
    key: Option<Cow<'de, str>>,
    reading: Option<Reading>,
}

/// A seed that reads one JSON value into a [`Reader`].
macro_rules! seed {
    ($name:ident, $ask:ident) => {
        struct $name<'r, 'w>(&'r mut Reader<'w>);

        impl<'de> DeserializeSeed<'de> for $name<'_, '_> {
            type Value = <Self as Visitor<'de>>::Value;

            fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
                deserializer.$ask(self)
            }
        }
    };
}

macro_rules! expecting {
    ($what:literal) => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str($what)
        }
    };
}

seed!(Envelope, deserialize_map);

impl<'de> Visitor<'de> for Envelope<'_, '_> {
    type Value = ();
    expecting!("an answer of the query API");

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Text<'de>>()? {
            match &*key.0 {
                "status" => self.0.status = status(&map.next_value::<Text<'de>>()?.0),
                "data" => map.next_value_seed(Data(self.0))?,
                "warnings" => map.next_value_seed(Warnings(self.0))?,
                // VictoriaMetrics' word for the same.
                "isPartial" => self.0.parsed.partial |= map.next_value::<bool>()?,
                _ => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        Ok(())
    }
}

fn status(text: &str) -> Option<Status> {
    match text {
        "success" => Some(Status::Success),
        "error" => Some(Status::Error),
        _ => None,
    }
}

seed!(Data, deserialize_any);

impl<'de> Visitor<'de> for Data<'_, '_> {
    type Value = ();
    expecting!("an object or null");

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Text<'de>>()? {
            match &*key.0 {
                "resultType" => self.0.result_type = Some(result_type(&map.next_value::<Text<'de>>()?.0)),
                "result" => map.next_value_seed(List(self.0))?,
                _ => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        Ok(())
    }
}

fn result_type(text: &str) -> Result<(), ResultType> {
    match text {
        "vector" => Ok(()),
        "scalar" => Err(ResultType::Scalar),
        "string" => Err(ResultType::String),
        "matrix" => Err(ResultType::Matrix),
        _ => Err(ResultType::Other),
    }
}

seed!(List, deserialize_any);

impl<'de> Visitor<'de> for List<'_, '_> {
    type Value = ();
    expecting!("an array or null");

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        if self.0.has_result {
            return Err(A::Error::custom("two results"));
        }
        self.0.has_result = true;
        loop {
            // Asked before the element is read: the list ends here, or there is one too many.
            if self.0.full() {
                self.0.too_many = seq.next_element::<IgnoredAny>()?.is_some();
                return if self.0.too_many { Err(A::Error::custom("too many series")) } else { Ok(()) };
            }
            match seq.next_element_seed(Element(self.0))? {
                Some(Some(series)) => self.0.push(series),
                Some(None) => {}
                None => return Ok(()),
            }
        }
    }
}

seed!(Element, deserialize_any);

/// A series, or one of the two values of a scalar or a string: the result may stand before its type.
impl<'de> Visitor<'de> for Element<'_, '_> {
    type Value = Option<Series<'de>>;
    expecting!("a series");

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut series = Series::default();
        while let Some(key) = map.next_key::<Text<'de>>()? {
            match &*key.0 {
                "metric" => map.next_value_seed(Metric { wanted: self.0.wanted, series: &mut series })?,
                "value" => series.reading = Some(map.next_value_seed(Point)?),
                "histogram" => {
                    map.next_value::<IgnoredAny>()?;
                    series.reading = Some(Reading::Histogram);
                }
                _ => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        Ok(Some(series))
    }
}

/// The labels of one series.
struct Metric<'s, 'w, 'de> {
    wanted: Wanted<'w>,
    series: &'s mut Series<'de>,
}

impl<'de> DeserializeSeed<'de> for Metric<'_, '_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Metric<'_, '_, 'de> {
    type Value = ();
    expecting!("labels");

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Text(label)) = map.next_key::<Text<'de>>()? {
            // One label may be wanted twice: nothing forbids to count by pod.
            let roles = [
                (label == self.wanted.pod, &mut self.series.pod),
                (Some(&*label) == self.wanted.key, &mut self.series.key),
                (label == self.wanted.namespace, &mut self.series.namespace),
            ];
            if !roles.iter().any(|(wanted, _)| *wanted) {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let Text(value) = map.next_value::<Text<'de>>()?;
            for (_, place) in roles.into_iter().filter(|(wanted, _)| *wanted) {
                if place.is_some() {
                    return Err(A::Error::custom("a label stands twice in one series"));
                }
                // In Prometheus an empty label is an absent one.
                *place = Some(value.clone()).filter(|value| !value.is_empty());
            }
        }
        Ok(())
    }
}

/// `[time, "value"]`. The time is the query's own and says nothing about the sample's age.
struct Point;

impl<'de> DeserializeSeed<'de> for Point {
    type Value = Reading;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Reading, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Point {
    type Value = Reading;
    expecting!("a time and a value");

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Reading, A::Error> {
        let short = || A::Error::invalid_length(1, &"a time and a value");
        seq.next_element::<IgnoredAny>()?.ok_or_else(short)?;
        let Text(value) = seq.next_element::<Text<'de>>()?.ok_or_else(short)?;
        // Prometheus writes NaN, +Inf and -Inf; Rust reads all three.
        value.parse().map(Reading::of).map_err(|_| A::Error::custom("a value is no number"))
    }
}

seed!(Warnings, deserialize_any);

impl<'de> Visitor<'de> for Warnings<'_, '_> {
    type Value = ();
    expecting!("an array or null");

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(Text(warning)) = seq.next_element::<Text<'de>>()? {
            self.0.warn(&warning);
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "vector_tests.rs"]
mod tests;
