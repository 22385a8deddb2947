//! Which pods get traffic, read from the EndpointSlices as a kube-proxy reads them.

use std::collections::{BTreeMap, BTreeSet};

use futures::{Stream, StreamExt};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::runtime::watcher;

use crate::follow::follow;

/// Names of the pods that are ready endpoints, sorted.
pub type Endpoints = Vec<String>;

/// Follows the endpoints of a Service in the namespace of `api`; an item for each change of a slice.
pub fn of_service(api: Api<EndpointSlice>, service: &str) -> impl Stream<Item = Endpoints> + use<> {
    let slices = watcher::Config::default().labels(&format!("kubernetes.io/service-name={service}"));
    follow(api, slices, ready).map(|slices| merged(&slices))
}

/// The pods behind the ready endpoints of a slice. An endpoint that does not say whether it is ready, is.
fn ready(slice: &EndpointSlice) -> Vec<String> {
    let ready = slice.endpoints.iter().filter(|endpoint| {
        endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
    });
    ready.filter_map(|endpoint| endpoint.target_ref.as_ref()?.name.clone()).collect()
}

/// A pod that is in two slices, for a moment or for two families of addresses, is one endpoint.
fn merged(slices: &BTreeMap<String, Vec<String>>) -> Endpoints {
    slices.values().flatten().cloned().collect::<BTreeSet<_>>().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(endpoints: &serde_json::Value) -> EndpointSlice {
        let slice = serde_json::json!({ "addressType": "IPv4", "endpoints": endpoints });
        serde_json::from_value(slice).expect("an EndpointSlice")
    }

    #[test]
    fn an_endpoint_is_ready_unless_it_says_no() {
        let slice = slice(&serde_json::json!([
            { "addresses": [], "conditions": { "ready": true }, "targetRef": { "name": "red" } },
            { "addresses": [], "conditions": { "ready": false }, "targetRef": { "name": "blue" } },
            { "addresses": [], "targetRef": { "name": "green" } },
            { "addresses": [], "conditions": { "ready": true } },
        ]));
        assert_eq!(ready(&slice), ["red", "green"]);
        assert!(ready(&EndpointSlice::default()).is_empty());
    }

    #[test]
    fn a_pod_in_two_slices_is_one_endpoint() {
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let slices = BTreeMap::from([
            ("checkout-1".to_owned(), names(&["red", "blue"])),
            ("checkout-2".to_owned(), names(&["red"])),
        ]);
        assert_eq!(merged(&slices), ["blue", "red"]);
    }
}
