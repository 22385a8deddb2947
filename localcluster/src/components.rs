//! How each program of the control plane is called.

use std::net::IpAddr;
use std::path::Path;

use crate::access::{CONTROLLER_MANAGER, KWOK};

/// A node of every cluster, on which nothing happens by itself: a pod bound to it (`spec.nodeName`; there is no scheduler)
/// is what its status says, and the test patches that. A pod on a node that does not exist gets into no EndpointSlice.
pub const NODE: &str = "node-0";

/// The node that kwok plays, if it runs: pods bound to it get an address and become Ready. More of them may be made: kwok
/// plays each node with the label `type: kwok`.
pub const KWOK_NODE: &str = "kwok-node-0";

/// What kwok does to nodes and pods, see the comments in the file.
pub(crate) const KWOK_STAGES: &str = include_str!("kwok-stages.yaml");

pub(crate) fn etcd(dir: &Path, client: &str, peer: &str) -> Vec<String> {
    let data = dir.join("etcd");
    vec![
        format!("--data-dir={}", data.display()),
        format!("--listen-client-urls=http://{client}"),
        format!("--advertise-client-urls=http://{client}"),
        format!("--listen-peer-urls=http://{peer}"),
        format!("--initial-advertise-peer-urls=http://{peer}"),
        format!("--initial-cluster=default=http://{peer}"),
        // The data does not outlive the process, so a power cut may lose it.
        "--unsafe-no-fsync".to_owned(),
        // 100,000 pods of 15 kB and their old versions are over the default of 2 GiB.
        format!("--quota-backend-bytes={}", 8_u64 << 30),
        "--log-level=warn".to_owned(),
    ]
}

pub(crate) fn apiserver(dir: &Path, port: u16, etcd: &str, address: Option<IpAddr>) -> Vec<String> {
    let path = |name: &str| dir.join(name).display().to_string();
    let mut args = vec![
        format!("--etcd-servers=http://{etcd}"),
        format!("--secure-port={port}"),
        format!("--cert-dir={}", path("certs")),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-key-file={}", path("service-account.pub")),
        format!("--service-account-signing-key-file={}", path("service-account.key")),
        format!("--token-auth-file={}", path("tokens.csv")),
        "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
        "--allow-privileged=true".to_owned(),
        format!("--audit-policy-file={}", path("audit-policy.yaml")),
        format!("--audit-log-path={}", path("audit.log")),
        // Batched writing would drop records under load, and a rotated file would lose them to the reader.
        "--audit-log-mode=blocking".to_owned(),
        "--audit-log-maxsize=1000000".to_owned(),
        "--profiling=false".to_owned(),
    ];
    args.extend(match address {
        None => vec![
            "--bind-address=127.0.0.1".to_owned(),
            "--advertise-address=127.0.0.1".to_owned(),
            // It would publish an Endpoints object with a loopback address, which validation refuses.
            "--endpoint-reconciler-type=none".to_owned(),
            "--authorization-mode=RBAC".to_owned(),
        ],
        Some(address) => vec![
            "--bind-address=0.0.0.0".to_owned(),
            format!("--advertise-address={address}"),
            // A kubelet may do what its own pods need, and no more.
            "--authorization-mode=Node,RBAC".to_owned(),
            // Nobody resolves the name of a node.
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
        ],
    });
    args
}

pub(crate) fn controller_manager(dir: &Path, real_nodes: bool) -> Vec<String> {
    let path = |name: &str| dir.join(name).display().to_string();
    // NODE never beats, and kwok's may miss some while the API server is away: these two would mark its pods not ready
    // after 50 s and delete those of a missing node.
    let controllers =
        if real_nodes { "*" } else { "*,-node-lifecycle-controller,-pod-garbage-collector-controller" };
    vec![
        format!("--kubeconfig={}", kubeconfig(dir, CONTROLLER_MANAGER)),
        format!("--service-account-private-key-file={}", path("service-account.key")),
        format!("--root-ca-file={}", path("certs/apiserver.crt")),
        "--leader-elect=false".to_owned(),
        // Serves nothing.
        "--secure-port=0".to_owned(),
        format!("--controllers={controllers}"),
        "--kube-api-qps=200".to_owned(),
        "--kube-api-burst=400".to_owned(),
        "--concurrent-service-endpoint-syncs=20".to_owned(),
        "--concurrent-deployment-syncs=20".to_owned(),
        "--concurrent-replicaset-syncs=20".to_owned(),
    ]
}

pub(crate) fn kwok(dir: &Path) -> Vec<String> {
    vec![
        format!("--kubeconfig={}", kubeconfig(dir, KWOK)),
        format!("--config={}", dir.join("kwok-stages.yaml").display()),
        "--manage-nodes-with-label-selector=type=kwok".to_owned(),
        // Room for 262,000 pods; no other machine has these addresses in a lab, and nothing answers there.
        "--cidr=10.244.0.0/14".to_owned(),
        "--node-ip=10.200.0.1".to_owned(),
    ]
}

/// Where the kubeconfig of an actor lies.
pub(crate) fn kubeconfig(dir: &Path, actor: &str) -> String {
    dir.join(format!("kubeconfig-{}.yaml", actor.replace(':', "-"))).display().to_string()
}
