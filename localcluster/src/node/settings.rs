//! How each program of the node is told what to do.

use std::path::Path;

use serde_json::{Value, json};

use super::missing::CNI_PLUGINS;

/// `/run` is the node's own.
pub(super) const SOCKET: &str = "/run/containerd/containerd.sock";

/// Pods' addresses.
const PODS: &str = "10.244.0.0/16";

/// What holds the namespaces of a pod; it comes with the node.
pub(super) const PAUSE: &str = "docker.io/library/localcluster-pause:1";

pub(super) fn containerd(cni: &Path) -> String {
    format!(
        r#"version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
oom_score = 0
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing"]
[grpc]
  address = "{SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    # Copies: an overlay on the overlay of a container is refused.
    snapshotter = "native"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_PLUGINS}"
    conf_dir = "{}"
"#,
        cni.display()
    )
}

pub(super) fn network() -> Value {
    json!({
        "cniVersion": "0.4.0", "name": "pods",
        "plugins": [
            {
                // Hairpin: a pod may reach itself through a ClusterIP.
                "type": "bridge", "bridge": "pods", "isGateway": true, "ipMasq": true, "hairpinMode": true,
                "ipam": { "type": "host-local", "ranges": [[{ "subnet": PODS }]], "routes": [{ "dst": "0.0.0.0/0" }] },
            },
            { "type": "portmap", "capabilities": { "portMappings": true } },
        ],
    })
}

pub(super) fn kubelet(cgroup: &str) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": format!("unix://{SOCKET}"),
        "authentication": { "anonymous": { "enabled": true }, "webhook": { "enabled": false } },
        "authorization": { "mode": "AlwaysAllow" },
        // Whatever control groups the machine has, the pods' are below one of our own, whose size nobody limits.
        "failCgroupV1": false, "cgroupDriver": "cgroupfs", "cgroupRoot": format!("/{cgroup}"),
        "cgroupsPerQOS": true, "enforceNodeAllocatable": [], "localStorageCapacityIsolation": false,
        "failSwapOn": false, "oomScoreAdj": 0,
        "resolvConf": "",
        // A full disk of the machine is not the node's business, and an image that nobody uses yet cannot be had again.
        "evictionHard": { "memory.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%",
            "imagefs.available": "0%", "imagefs.inodesFree": "0%" },
        "imageGCHighThresholdPercent": 100, "imageGCLowThresholdPercent": 99,
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        "registryPullQPS": 0, "eventRecordQPS": 0,
    })
}

pub(super) fn kubelet_args(config: &Path, kubeconfig: &Path, name: &str) -> Vec<String> {
    vec![
        format!("--config={}", config.display()),
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--hostname-override={name}"),
        format!("--node-ip={}", super::address()),
    ]
}

pub(super) fn kube_proxy_args(kubeconfig: &Path, name: &str) -> Vec<String> {
    vec![
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--hostname-override={name}"),
        format!("--cluster-cidr={PODS}"),
        "--proxy-mode=iptables".to_owned(),
        // There is one limit for the whole machine.
        "--conntrack-max-per-core=0".to_owned(),
    ]
}

pub(super) fn scheduler_args(kubeconfig: &Path) -> Vec<String> {
    vec![
        format!("--kubeconfig={}", kubeconfig.display()),
        "--leader-elect=false".to_owned(),
        // Serves nothing.
        "--secure-port=0".to_owned(),
    ]
}
