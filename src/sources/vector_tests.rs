//! Bodies of answers to samples, on recorded and on made-up ones.

use super::*;

macro_rules! recorded {
    ($name:literal) => {
        include_str!(concat!("../../tests/fixtures/prometheus/", $name, ".200.json"))
    };
}

const WANTED: Wanted<'_> = Wanted { pod: "pod", namespace: "namespace", key: Some("code"), max_series: 100 };

fn read(body: &str) -> Parsed {
    parse(body.as_bytes(), WANTED).unwrap()
}

fn refused(body: &str) -> SourceError {
    parse(body.as_bytes(), WANTED).expect_err(body)
}

/// `namespace/pod key reading`, sorted.
fn rows(body: &str) -> Vec<String> {
    let text = |label: Option<&std::sync::Arc<str>>| label.map_or("-".to_owned(), ToString::to_string);
    let row = |r: &Row| {
        format!("{}/{} {} {:?}", text(r.namespace.as_ref()), r.pod, text(r.key.as_ref()), r.reading)
    };
    let mut rows: Vec<_> = read(body).rows.iter().map(row).collect();
    rows.sort();
    rows
}

fn vector(result: &str) -> String {
    format!(r#"{{"status":"success","data":{{"resultType":"vector","result":{result}}}}}"#)
}

#[test]
fn counts_by_code_keep_pod_namespace_and_key() {
    let parsed = read(recorded!("by_code"));
    assert_eq!((parsed.rows.len(), parsed.dropped, parsed.partial), (6, 0, false));
    let bad = |r: &&Row| &*r.pod == "checkout-2" && r.key.as_deref() == Some("500");
    let row = parsed.rows.iter().find(bad).unwrap();
    assert_eq!(row.namespace.as_deref(), Some("shop"));
    assert!(matches!(row.reading, Reading::Number(n) if n > 0.0), "{row:?}");
}

#[test]
fn values_are_read_as_they_are() {
    assert_eq!(
        rows(recorded!("ratio")),
        [
            "shop/checkout-0 - Number(1.0)",
            "shop/checkout-1 - Number(0.5)",
            "shop/checkout-2 - Number(1500000.0)"
        ]
    );
}

#[test]
fn what_is_not_finite_has_a_name_and_fails_nothing() {
    assert_eq!(
        rows(recorded!("not_finite")),
        ["shop/checkout-0 - NotANumber", "shop/checkout-1 - Infinite", "shop/checkout-2 - Infinite"]
    );
}

#[test]
fn a_native_histogram_is_named_and_the_series_beside_it_are_read() {
    assert_eq!(rows(recorded!("native_histogram")), ["shop/checkout-0 - Histogram"]);
    assert_eq!(
        rows(recorded!("histogram_among_numbers")),
        [
            "shop/checkout-0 - Histogram",
            "shop/checkout-1 - Number(0.5)",
            "shop/checkout-2 - Number(1500000.0)"
        ]
    );
}

#[test]
fn series_without_a_namespace_have_none() {
    assert_eq!(rows(recorded!("no_namespace"))[1], "-/checkout-1 - Number(0.5)");
}

#[test]
fn a_series_without_the_pod_label_is_dropped_and_counted() {
    let parsed = read(recorded!("no_pod_label"));
    assert_eq!((parsed.rows.len(), parsed.dropped), (3, 1));
    assert_eq!(read(&vector(r#"[{"metric":{"pod":""},"value":[1,"1"]}]"#)).dropped, 1);
    assert_eq!(read(&vector(r#"[{"metric":{"pod":"p"}}]"#)).dropped, 1, "no value either");
}

#[test]
fn all_series_of_a_pod_are_kept_for_the_detector_to_call_ambiguous() {
    let wanted = Wanted { key: None, ..WANTED };
    let parsed = parse(recorded!("two_series_for_one_pod").as_bytes(), wanted).unwrap();
    assert_eq!(parsed.rows.iter().filter(|r| &*r.pod == "checkout-0").count(), 2);
    assert!(parsed.rows.iter().all(|r| r.key.is_none()));
}

#[test]
fn escaped_labels_are_read() {
    assert_eq!(rows(recorded!("escaped_labels")), ["shop/a\"b\\c\nd<é> - Number(1.0)"]);
}

#[test]
fn nothing_found_is_an_answer() {
    assert_eq!(read(recorded!("empty")), Parsed::default());
}

#[test]
fn other_results_than_a_vector_are_refused_by_their_type() {
    assert_eq!(refused(recorded!("scalar")), SourceError::WrongType(ResultType::Scalar));
    assert_eq!(refused(recorded!("string")), SourceError::WrongType(ResultType::String));
    assert_eq!(refused(recorded!("matrix")), SourceError::WrongType(ResultType::Matrix));
    let turned = r#"{"data":{"result":[1,"1"],"resultType":"scalar"},"status":"success"}"#;
    assert_eq!(refused(turned), SourceError::WrongType(ResultType::Scalar));
}

#[test]
fn a_warning_makes_an_answer_partial_and_an_info_does_not() {
    let warned = read(recorded!("warnings"));
    assert!(warned.partial && warned.warnings.len() == 1 && warned.rows.len() == 3, "{warned:?}");
    let informed = read(recorded!("infos"));
    assert!(!informed.partial && informed.warnings.is_empty() && informed.rows.len() == 3);
    let with = |more: &str| vector("[]").replacen('{', &format!("{{{more},"), 1);
    assert!(!read(&with(r#""warnings":["PromQL info: metric might not be a counter"]"#)).partial);
    assert!(!read(&with(r#""warnings":null"#)).partial);
    assert!(read(&with(r#""isPartial":true"#)).partial, "VictoriaMetrics");
}

#[test]
fn warnings_are_bounded_in_number_and_length() {
    let many = vec![format!("\"{}\"", "é".repeat(1_000)); 50].join(",");
    let parsed = read(&format!(r#"{{"warnings":[{many}],{}"#, &vector("[]")[1..]));
    assert_eq!((parsed.warnings.len(), parsed.warnings[0].chars().count()), (WARNINGS, WARNING_LENGTH));
}

#[test]
fn more_series_than_the_limit_are_an_error_and_as_many_are_not() {
    let series = |n| vector(&format!("[{}]", vec![r#"{"metric":{"pod":"p"},"value":[1,"1"]}"#; n].join(",")));
    assert_eq!(read(&series(100)).rows.len(), 100);
    assert_eq!(refused(&series(101)), SourceError::TooManySeries { limit: 100 });
    let useless = vector(&format!("[{}]", vec!["{}"; 101].join(",")));
    assert_eq!(refused(&useless), SourceError::TooManySeries { limit: 100 }, "dropped ones count too");
}

#[test]
fn one_label_may_be_wanted_twice() {
    let wanted = Wanted { key: Some("pod"), ..WANTED };
    let parsed = parse(recorded!("ratio").as_bytes(), wanted).unwrap();
    assert!(parsed.rows.iter().all(|r| r.key.as_ref() == Some(&r.pod)));
}

#[test]
fn json_that_is_no_answer_is_malformed() {
    for body in [
        "null",
        "[]",
        "{}",
        "\"success\"",
        r#"{"status":"success"}"#,
        r#"{"status":"success","data":null}"#,
        r#"{"status":"success","data":{"resultType":"vector"}}"#,
        r#"{"status":"perhaps","data":{"resultType":"vector","result":[]}}"#,
        &vector("null"),
        &vector("{}"),
        &vector("[null]"),
        &vector(r#"[{"metric":{"pod":1},"value":[1,"1"]}]"#),
        &vector(r#"[{"metric":{"pod":"p","pod":"q"},"value":[1,"1"]}]"#),
        &vector(r#"[{"metric":{"pod":"p"},"value":[1,"many"]}]"#),
        &vector(r#"[{"metric":{"pod":"p"},"value":[1]}]"#),
        &vector(r#"[],"result":[]"#),
    ] {
        let error = refused(body);
        assert!(matches!(error, SourceError::Malformed(_)), "{body}: {error:?}");
    }
}

#[test]
fn an_error_inside_a_good_status_is_an_error() {
    let body = r#"{"status":"error","errorType":"bad_data","error":"no"}"#;
    assert_eq!(refused(body), SourceError::Execution(ServerFault::Other));
}

#[test]
fn what_is_not_json_or_not_whole_is_told_apart() {
    for body in ["", " \n", "<html>", "up 1", "\u{1f}\u{8b}", "{\"status\": success}"] {
        assert_eq!(refused(body), SourceError::NotJson, "{body}");
    }
    let whole = recorded!("by_code").trim_end();
    for length in 1..whole.len() {
        assert_eq!(refused(&whole[..length]), SourceError::Truncated, "{length}");
    }
    assert_eq!(refused(&format!("{whole}{whole}")), SourceError::NotJson);
}

#[test]
fn equal_texts_are_kept_once() {
    let parsed = read(recorded!("by_code"));
    let namespace = |r: &Row| r.namespace.as_ref().map(|n| n.as_ptr());
    assert!(parsed.rows.iter().all(|r| namespace(r) == namespace(&parsed.rows[0])));
}

#[test]
fn no_depth_of_nesting_overflows_the_stack() {
    let deep = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
    assert!(read(&vector("[]").replacen('{', &format!("{{\"stats\":{deep},"), 1)).rows.is_empty());
    refused(&vector(&deep));
    refused(&deep);
}

#[test]
fn the_namespace_is_read_from_the_label_that_is_asked_for() {
    let body = br#"{"status":"success","data":{"resultType":"vector","result":[
        {"metric":{"namespace":"monitoring","exported_namespace":"shop","pod":"cart-1"},"value":[1,"2"]}]}}"#;
    let rows = parse(body, Wanted { namespace: "exported_namespace", ..WANTED }).unwrap().rows;
    assert_eq!(rows[0].namespace.as_deref(), Some("shop"));
}

proptest::proptest! {
    #[test]
    fn every_series_is_read_as_it_was_written(
        series in proptest::collection::vec(("\\PC{1,9}", "\\PC{0,9}", proptest::num::f64::NORMAL), 0..6),
    ) {
        let one = |(pod, code, value): &(String, String, f64)| {
            let metric = serde_json::json!({"pod": pod, "code": code, "job": "x"});
            serde_json::json!({"metric": metric, "value": [1, value.to_string()]})
        };
        let result: Vec<_> = series.iter().map(one).collect();
        let data = serde_json::json!({"resultType": "vector", "result": result});
        let body = serde_json::json!({"status": "success", "data": data}).to_string();
        let wanted = Wanted { pod: "pod", namespace: "namespace", key: Some("code"), max_series: 6 };
        let rows = parse(body.as_bytes(), wanted).unwrap().rows;
        proptest::prop_assert_eq!(rows.len(), series.len());
        for (row, (pod, code, value)) in rows.iter().zip(&series) {
            proptest::prop_assert_eq!((&*row.pod, row.key.as_deref().unwrap_or("")), (&**pod, &**code));
            proptest::prop_assert_eq!(row.reading, Reading::of(*value));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(body in proptest::collection::vec(proptest::num::u8::ANY, 0..80)) {
        let wanted = Wanted { pod: "pod", namespace: "namespace", key: None, max_series: 6 };
        let _ = parse(&body, wanted);
    }
}
