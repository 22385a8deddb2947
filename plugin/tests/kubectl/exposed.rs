//! What listens on this machine behind a Service, so that the API server passes questions on to it.

use std::net::{IpAddr, UdpSocket};

use k8s_openapi::api::core::v1::{Endpoints, Pod};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use localcluster::KWOK_NODE;
use serde_json::json;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Controller, SOON, Shop, eventually};

/// Of the controller's Service, as the plugin expects it.
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
    let port = |controller: &&Controller| controller.url.rsplit(':').next().unwrap().parse().unwrap();
    let ports: Vec<u16> = controllers.iter().map(port).collect();
    serve(shop, (NAME, "controller", PORT), &ports).await;
}

/// Puts a server that listens on loopback behind a Service of this name and port in the shop's namespace.
pub async fn expose_at(shop: &Shop, name: &str, port: u16, address: &str) {
    // The API server passes nothing on to loopback.
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let everywhere = listener.local_addr().unwrap().port();
    let address = address.to_owned();
    tokio::spawn(async move {
        while let Ok((mut asker, _)) = listener.accept().await {
            let address = address.clone();
            tokio::spawn(async move {
                let mut server = TcpStream::connect(address).await?;
                copy_bidirectional(&mut asker, &mut server).await
            });
        }
    });
    serve(shop, (name, name, port), &[everywhere]).await;
}

async fn serve(shop: &Shop, (name, pods, port): (&str, &str, u16), ports: &[u16]) {
    shop.apply(&json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": port, "targetPort": "pages"}]},
    }));
    for (number, port) in ports.iter().enumerate() {
        stands_in(shop, name, &format!("{pods}-{number}"), *port).await;
    }
    let api: Api<Endpoints> = Api::namespaced(shop.client.clone(), &shop.namespace);
    eventually("the servers are endpoints of their Service", SOON, || async {
        let found = api.get_opt(name).await.unwrap().and_then(|all| all.subsets).unwrap_or_default();
        let own = own_address().to_string();
        let there = found.iter().filter(|s| s.addresses.iter().flatten().any(|a| a.ip == own));
        there.count() == ports.len()
    })
    .await;
}

/// A pod that runs nowhere has the address of this machine, and a port of it.
async fn stands_in(shop: &Shop, app: &str, name: &str, port: u16) {
    shop.apply(&json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": app}},
        "spec": {
            "nodeName": KWOK_NODE,
            "automountServiceAccountToken": false,
            "containers": [{"name": app, "image": "none", "ports": [{"name": "pages", "containerPort": port}]}],
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
