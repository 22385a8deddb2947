//! Where the API server itself listens, so that no source is asked there.
//!
//! Asked once at start. A control plane that moves later keeps its ClusterIP; its other addresses are then not known
//! before the next start.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::{Api, Client};

use super::call;

/// The Service that every cluster has for it, in namespace `default`.
const SERVICE: &str = "kubernetes";

/// Every address of Service `kubernetes` and of the EndpointSlices behind it. What may not be read is left out.
pub async fn server_addresses(client: &Client) -> BTreeSet<IpAddr> {
    let services: Api<Service> = Api::namespaced(client.clone(), "default");
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), "default");
    let of_service = ListParams::default().labels(&format!("kubernetes.io/service-name={SERVICE}"));
    let (service, slices) = tokio::join!(call(services.get(SERVICE)), call(slices.list(&of_service)));
    for error in [service.as_ref().err(), slices.as_ref().err()].into_iter().flatten() {
        tracing::info!(%error, "not every address of the API server is known: sources are not kept from the others");
    }
    let spec = service.ok().and_then(|service| service.spec);
    let cluster_ips = spec.and_then(|spec| spec.cluster_ips).unwrap_or_default();
    let endpoints = slices.into_iter().flatten().flat_map(|slice| slice.endpoints);
    let all = endpoints.flat_map(|endpoint| endpoint.addresses).chain(cluster_ips);
    all.filter_map(|address| address.parse().ok()).collect()
}
