//! The body of a custom service: a v1 PodList, of which only names and namespaces are read.

use std::fmt;

use kubervisor_core::sample::{Reading, Row};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::SourceError;
use super::json::{Interner, Text, classify};

/// One row for each pod that the service calls bad.
pub(super) fn parse(body: &[u8], max_pods: usize) -> Result<Vec<Row>, SourceError> {
    let mut read = Reader { max_pods, ..Reader::default() };
    let mut json = serde_json::Deserializer::from_slice(body);
    let result = List(&mut read).deserialize(&mut json).and_then(|()| json.end());
    match result {
        Err(_) if read.too_many => Err(SourceError::TooManySeries { limit: max_pods }),
        Err(error) => Err(classify(&error, body, "not a v1 PodList")),
        Ok(()) => read.finish(),
    }
}

#[derive(Default)]
struct Reader {
    max_pods: usize,
    names: Interner,
    rows: Vec<Row>,
    too_many: bool,
    items: Items,
    kind: Kind,
}

#[derive(Default)]
enum Items {
    #[default]
    Absent,
    Null,
    Array,
}

#[derive(Default)]
enum Kind {
    #[default]
    Absent,
    PodList,
    Other,
}

impl Reader {
    fn finish(self) -> Result<Vec<Row>, SourceError> {
        match (self.kind, self.items) {
            (Kind::Other, _) => Err(SourceError::Malformed("of another kind than PodList")),
            // Go writes an empty list as null; only a service that says what it means is believed.
            (Kind::PodList, Items::Null) | (_, Items::Array) => Ok(self.rows),
            (Kind::PodList, Items::Absent) | (Kind::Absent, Items::Absent | Items::Null) => {
                Err(SourceError::Malformed("it holds no items"))
            }
        }
    }
}

struct List<'r>(&'r mut Reader);

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a PodList")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Text<'de>>()? {
            match &*key.0 {
                "kind" => self.0.kind = kind(&map.next_value::<Text<'de>>()?.0),
                "items" => map.next_value_seed(Pods(self.0))?,
                _ => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        Ok(())
    }
}

fn kind(text: &str) -> Kind {
    match text {
        "" => Kind::Absent,
        "PodList" => Kind::PodList,
        _ => Kind::Other,
    }
}

struct Pods<'r>(&'r mut Reader);

impl<'de> DeserializeSeed<'de> for Pods<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Pods<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of pods or null")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.0.items = Items::Null;
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        self.0.items = Items::Array;
        while let Some(pod) = seq.next_element::<Pod<'de>>()? {
            if self.0.rows.len() >= self.0.max_pods {
                self.0.too_many = true;
                return Err(A::Error::custom("too many pods"));
            }
            self.0.push(&pod.metadata);
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Pod<'a> {
    #[serde(borrow)]
    metadata: Metadata<'a>,
}

#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(borrow, default)]
    namespace: Option<Text<'a>>,
}

impl Reader {
    fn push(&mut self, metadata: &Metadata<'_>) {
        let namespace = metadata.namespace.as_ref().filter(|text| !text.0.is_empty());
        self.rows.push(Row {
            namespace: namespace.map(|text| self.names.get(&text.0)),
            pod: self.names.get(&metadata.name.0),
            key: None,
            reading: Reading::Number(1.0),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(body: &str) -> Result<Vec<String>, SourceError> {
        let name = |row: Row| format!("{}/{}", row.namespace.as_deref().unwrap_or("?"), row.pod);
        parse(body.as_bytes(), 3).map(|rows| rows.into_iter().map(name).collect())
    }

    #[test]
    fn every_item_is_a_named_pod() {
        let body = r#"{"kind":"PodList","apiVersion":"v1","metadata":{},"items":[
            {"metadata":{"name":"cart-1","namespace":"shop","labels":{"app":"cart"}},"spec":{"containers":[]}},
            {"metadata":{"name":"cart-2","namespace":""}}]}"#;
        assert_eq!(names(body).unwrap(), ["shop/cart-1", "?/cart-2"]);
    }

    #[test]
    fn an_empty_list_means_that_all_are_healthy() {
        let none: Vec<String> = vec![];
        assert_eq!(names(r#"{"kind":"PodList","items":[]}"#), Ok(none.clone()));
        assert_eq!(names(r#"{"items":[]}"#), Ok(none.clone()));
        assert_eq!(names(r#"{"kind":"PodList","items":null}"#), Ok(none));
    }

    #[test]
    fn what_is_no_pod_list_is_an_error() {
        for body in [
            "{}",
            "null",
            r#"{"items":null}"#,
            r#"{"kind":"PodList"}"#,
            r#"{"kind":"NodeList","items":[{"metadata":{"name":"n"}}]}"#,
            r#"{"items":[{"name":"cart-1"}]}"#,
            r#"{"items":["cart-1"]}"#,
            r#"{"items":{"cart-1":true}}"#,
            r#"["cart-1"]"#,
        ] {
            let error = names(body).expect_err(body);
            assert!(matches!(error, SourceError::Malformed(_)), "{body}: {error:?}");
        }
        assert_eq!(names("<html>"), Err(SourceError::NotJson));
        assert_eq!(names(r#"{"items":[{"metadata":{"#), Err(SourceError::Truncated));
    }

    #[test]
    fn more_pods_than_are_kept_are_an_error_and_not_a_choice() {
        let body =
            |n: usize| format!(r#"{{"items":[{}]}}"#, vec![r#"{"metadata":{"name":"p"}}"#; n].join(","));
        assert_eq!(names(&body(3)).unwrap().len(), 3);
        assert_eq!(names(&body(4)), Err(SourceError::TooManySeries { limit: 3 }));
    }

    proptest! {
        #[test]
        fn every_name_is_read_as_it_was_written(pods in proptest::collection::vec(("\\PC{0,9}", "\\PC{0,9}"), 0..4)) {
            let item = |(name, namespace): &(String, String)| {
                serde_json::json!({"metadata": {"name": name, "namespace": namespace}, "spec": {"name": "other"}})
            };
            let body = serde_json::json!({"items": pods.iter().map(item).collect::<Vec<_>>()}).to_string();
            let rows = parse(body.as_bytes(), 3).unwrap();
            let read: Vec<_> =
                rows.iter().map(|r| (r.pod.to_string(), r.namespace.as_deref().unwrap_or("").to_owned())).collect();
            prop_assert_eq!(read, pods);
        }

        #[test]
        fn no_bytes_make_it_panic(body in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = parse(&body, 3);
        }
    }
}
