//! What sources answer, and what people write to have them asked: for `crate::fuzzing`.

use std::time::Duration;

use kubervisor_core::sample::Samples;

use super::vector::Wanted;
use super::{Endpoint, FIVE_MINUTES, confined, pod_list as list, range_of, vector};
use crate::fuzzing::trial::{decide, fleet, measuring, naming};

/// Rows that are kept.
const MOST: usize = 60;

pub(crate) fn prometheus_answer(body: &[u8]) {
    let wanted = Wanted { pod: "pod", namespace: "namespace", key: Some("code"), max_series: MOST };
    let Ok(parsed) = vector::parse(body, wanted) else { return };
    assert!(parsed.rows.len() + parsed.dropped <= MOST);
    assert!(parsed.warnings.len() <= 5 && (parsed.partial || parsed.warnings.is_empty()));
    for warning in &parsed.warnings {
        assert!(warning.chars().count() <= 200 && !warning.chars().any(char::is_control), "{warning:?}");
    }
    assert!(parsed.rows.iter().all(|row| !row.pod.is_empty()), "an empty label is an absent one");
    decide(fleet(), &measuring(), &Samples::new(parsed.rows, parsed.partial));
}

pub(crate) fn pod_list(body: &[u8]) {
    let Ok(rows) = list::parse(body, MOST) else { return };
    assert!(rows.len() <= MOST);
    decide(fleet(), &naming(), &Samples::new(rows, false));
}

pub(crate) fn promql(text: &[u8]) {
    let Ok(query) = str::from_utf8(text) else { return };
    let range = range_of(query, Duration::from_secs(60));
    assert!(range.understood || range.range >= FIVE_MINUTES, "{range:?}");
    let Ok(own) = confined(query, "shop") else { return };
    let selectors = own.matches(r#"namespace="shop""#).count();
    assert!(selectors >= query.matches(r#"namespace="shop""#).count());
    // Kept to a second namespace, each selector asks for both, and so for nothing.
    if let Ok(twice) = confined(&own, "zq7") {
        let added = twice.matches(r#"namespace="zq7""#).count() - own.matches(r#"namespace="zq7""#).count();
        assert!(
            twice.matches(r#"namespace="shop""#).count() >= added,
            "{own} has a selector of no namespace"
        );
    }
}

pub(crate) fn address(text: &[u8]) {
    let Ok(text) = str::from_utf8(text) else { return };
    for read in [Endpoint::parse, Endpoint::parse_page] {
        let Ok(endpoint) = read(text) else { continue };
        assert_eq!(read(endpoint.as_str()).as_ref(), Ok(&endpoint), "it reads back as another");
        let (host, port) = endpoint.host_and_port();
        assert!(!host.is_empty() && port > 0 && endpoint.origin().ends_with(&format!(":{port}")));
        let authority = endpoint.as_str().split('/').nth(2).unwrap_or_default();
        assert!(!authority.contains('@'), "a password went through");
    }
}
