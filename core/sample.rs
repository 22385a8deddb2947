//! What a source said, pod by pod.
//!
//! Takes rows as a source read them; gives the rows of one pod. Nothing here turns an odd value into a number:
//! missing is not 0, and what is not finite has a name.

use std::sync::Arc;

/// One answer of a source, sorted so that a pod's rows are found without looking at the others': an answer may be
/// shared by thousands of services.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Samples {
    rows: Vec<Row>,
    /// The source said that its answer may be incomplete.
    pub partial: bool,
}

/// One series.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The pod's namespace, where the series says it.
    pub namespace: Option<Arc<str>>,
    /// The pod's name.
    pub pod: Arc<str>,
    /// The value of the label that a discrete detector asks for.
    pub key: Option<Arc<str>>,
    /// What was measured.
    pub reading: Reading,
}

/// A measured value, or what stood in its place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reading {
    /// A finite number.
    Number(f64),
    /// NaN: no data, by arithmetic.
    NotANumber,
    /// ±Inf.
    Infinite,
    /// A native histogram.
    Histogram,
}

impl Reading {
    /// Names what `value` is.
    #[must_use]
    pub fn of(value: f64) -> Self {
        if value.is_nan() {
            Self::NotANumber
        } else if value.is_infinite() {
            Self::Infinite
        } else {
            Self::Number(value)
        }
    }
}

impl Samples {
    /// Sorts `rows`. `partial` = the source itself warned of missing data.
    #[must_use]
    pub fn new(mut rows: Vec<Row>, partial: bool) -> Self {
        rows.sort_by(|a, b| order(a).cmp(&order(b)));
        Self { rows, partial }
    }

    /// All rows of `pod`: those that name its namespace, or, where there are none, those that name no namespace.
    #[must_use]
    pub fn of(&self, namespace: &str, pod: &str) -> &[Row] {
        let named = self.find(Some(namespace), pod);
        if named.is_empty() { self.find(None, pod) } else { named }
    }

    /// Whether the source said nothing at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Number of series.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    fn find(&self, namespace: Option<&str>, pod: &str) -> &[Row] {
        let key = (namespace, pod);
        let start = self.rows.partition_point(|r| place(r) < key);
        let end = start + self.rows[start..].partition_point(|r| place(r) == key);
        &self.rows[start..end]
    }
}

fn place(row: &Row) -> (Option<&str>, &str) {
    (row.namespace.as_deref(), &row.pod)
}

fn order(row: &Row) -> (Option<&str>, &str, Option<&str>) {
    (row.namespace.as_deref(), &row.pod, row.key.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(namespace: Option<&str>, pod: &str, key: &str) -> Row {
        Row {
            namespace: namespace.map(Into::into),
            pod: pod.into(),
            key: Some(key.into()),
            reading: Reading::Number(1.0),
        }
    }

    #[test]
    fn a_pod_of_the_same_name_in_another_namespace_is_not_this_pod() {
        let samples = Samples::new(vec![row(Some("north"), "p", "x"), row(Some("south"), "p", "y")], false);
        let found = samples.of("south", "p");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].key.as_deref(), Some("y"));
        assert!(samples.of("west", "p").is_empty());
    }

    #[test]
    fn series_without_a_namespace_are_matched_by_name() {
        let samples =
            Samples::new(vec![row(None, "p", "x"), row(None, "q", "x"), row(None, "p", "y")], false);
        assert_eq!(samples.of("north", "p").len(), 2);
    }

    #[test]
    fn what_is_no_finite_number_has_a_name() {
        assert_eq!(Reading::of(f64::NAN), Reading::NotANumber);
        assert_eq!(Reading::of(f64::NEG_INFINITY), Reading::Infinite);
        assert_eq!(Reading::of(-1.5), Reading::Number(-1.5));
    }

    proptest! {
        #[test]
        fn the_rows_of_a_pod_are_those_that_name_its_namespace_or_else_those_that_name_none(
            rows in proptest::collection::vec((0_usize..3, 0_usize..3, 0_usize..3), 0..20),
        ) {
            let spaces = [None, Some("north"), Some("south")];
            let (pods, keys) = (["p", "p-1", "q"], ["x", "y", "z"]);
            let rows: Vec<_> = rows.iter().map(|(n, p, k)| row(spaces[*n], pods[*p], keys[*k])).collect();
            let samples = Samples::new(rows.clone(), false);
            for pod in pods {
                let of = |space: Option<&str>| {
                    let own = rows.iter().filter(|r| r.namespace.as_deref() == space && &*r.pod == pod);
                    let mut keys: Vec<_> = own.map(|r| r.key.clone()).collect();
                    keys.sort();
                    keys
                };
                let wanted = Some(of(Some("north"))).filter(|own| !own.is_empty()).unwrap_or_else(|| of(None));
                let found: Vec<_> = samples.of("north", pod).iter().map(|r| r.key.clone()).collect();
                prop_assert_eq!(found, wanted);
            }
        }
    }
}
