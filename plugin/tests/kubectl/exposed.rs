//! Controllers behind a Service, so that the API server passes questions on to them.

use std::net::{IpAddr, UdpSocket};

use k8s_openapi::api::core::v1::{Endpoints, Pod};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use localcluster::KWOK_NODE;
use serde_json::json;

use crate::harness::{Controller, SOON, Shop, eventually};

/// Of the Service, as the plugin expects it.
const NAME: &str = "kubervisor";
/// Its port.
const PORT: u16 = 8086;
/// Pods' addresses are none of loopback: the controller listens on all, so that this machine's own one reaches it.
pub const EVERYWHERE: &str = "--http-addr=0.0.0.0:0";

/// An address of this machine that is not loopback. Nothing is sent.
fn own_address() -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("198.51.100.1:9").expect("this machine has no address but loopback");
    socket.local_addr().unwrap().ip()
}

/// Puts controllers that were started with [`EVERYWHERE`] behind the Service `kubervisor` in the shop's namespace.
pub async fn expose(shop: &Shop, controllers: &[&Controller]) {
    shop.apply(&json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": NAME},
        "spec": {"selector": {"app": NAME}, "ports": [{"port": PORT, "targetPort": "pages"}]},
    }));
    for (number, controller) in controllers.iter().enumerate() {
        let port: u16 = controller.url.rsplit(':').next().unwrap().parse().unwrap();
        stands_in(shop, &format!("controller-{number}"), port).await;
    }
    let api: Api<Endpoints> = Api::namespaced(shop.client.clone(), &shop.namespace);
    eventually("the controllers are endpoints of their Service", SOON, || async {
        let found = api.get_opt(NAME).await.unwrap().and_then(|all| all.subsets).unwrap_or_default();
        let own = own_address().to_string();
        let ports = found.iter().filter(|s| s.addresses.iter().flatten().any(|a| a.ip == own));
        ports.count() == controllers.len()
    })
    .await;
}

/// A pod that runs nowhere has the address of this machine, and its port.
async fn stands_in(shop: &Shop, name: &str, port: u16) {
    shop.apply(&json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": NAME}},
        "spec": {
            "nodeName": KWOK_NODE,
            "automountServiceAccountToken": false,
            "containers": [{"name": NAME, "image": "none", "ports": [{"name": "pages", "containerPort": port}]}],
        },
    }));
    let pods: Api<Pod> = shop.pods_api();
    eventually("the pod has an address", SOON, || async {
        let pod = pods.get(name).await.unwrap();
        assert_eq!(pod.name_any(), name);
        pod.status.and_then(|status| status.pod_ip).is_some()
    })
    .await;
    let own = own_address();
    let patch = Patch::Merge(json!({"status": {"podIP": own, "podIPs": [{"ip": own}]}}));
    pods.patch_status(name, &PatchParams::default(), &patch).await.unwrap();
}
