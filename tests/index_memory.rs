//! What a pod costs in the index: 10,000 of them as an API server sends them, read and fed as the watch does, with every
//! byte on the heap counted.
#![allow(missing_docs, unsafe_code, clippy::unwrap_used, reason = "an allocator cannot be written without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kubervisor::cluster::cache::Cache;
use kubervisor::cluster::slim::SlimPod;
use kubervisor::cluster::watch::Sink;
use serde_json::{Value, json};

/// Deployments, and pods of each.
const SHAPE: (usize, usize) = (500, 20);
/// They run on so many nodes of each zone, in so many zones; the API server copies a node's zone to its pods' labels.
const NODES: usize = 80;
const ZONES: usize = 3;
/// DESIGN.md asks for it: 20,000 pods in 12 MB.
const BYTES_PER_POD: usize = 600;

struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed on to the system's allocator as it came; counting touches no memory of the caller.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_pod_in_the_index_takes_at_most_600_bytes() {
    let (deployments, replicas) = SHAPE;
    let same = same_in_all();
    let cache = Arc::new(Cache::default());
    let before = HELD.load(Ordering::Relaxed);
    let mut sink = cache.pods(None);
    let mut size = 0;
    sink.begin();
    // In the order of a list: by namespace and name.
    for number in 0..deployments * replicas {
        let text = pod(number / replicas, number % replicas, &same);
        size = text.len();
        sink.apply(serde_json::from_str::<SlimPod>(&text).unwrap());
    }
    sink.end();
    let held = HELD.load(Ordering::Relaxed) - before;
    let (pods, _) = cache.sizes();
    assert_eq!(pods, deployments * replicas);
    println!("{} bytes held for each of {pods} pods, which came as {size} bytes of JSON", held / pods);
    assert!(size >= 15_000, "a real pod is larger than {size} bytes");
    assert!(held / pods <= BYTES_PER_POD, "{} bytes for each pod, {BYTES_PER_POD} are allowed", held / pods);
}

/// A pod of two containers behind a Deployment, with what the API server adds to it.
fn pod(deployment: usize, replica: usize, same: &str) -> String {
    let hash = format!("{:08x}f9", deployment * 7_919 + 13);
    let meta = json!({
        "name": format!("storefront-{deployment:03}-{hash}-{:05x}", replica * 51_817 + deployment),
        "generateName": format!("storefront-{deployment:03}-{hash}-"),
        "namespace": format!("team-{:02}", deployment / 10),
        "uid": format!("6f1c{deployment:04x}-{replica:04x}-4b8e-9a51-{:012x}", deployment * 1_000 + replica),
        "resourceVersion": (9_000_000 + deployment * 1_000 + replica).to_string(),
        "creationTimestamp": "2026-01-07T09:21:44Z",
        "labels": labels(deployment, replica, &hash),
        "annotations": annotations(replica),
        "ownerReferences": [{
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("storefront-{deployment:03}-{hash}"),
            "uid": format!("aa10{deployment:04x}-0000-4c00-8000-000000000000"),
            "controller": true, "blockOwnerDeletion": true,
        }],
    });
    let meta = meta.to_string();
    // Its node ends the spec, which ends the pod.
    let same = &same[..same.len() - 1];
    let node = format!("ip-10-0-{}-{}.internal", replica % ZONES, (deployment * 7 + replica) % NODES);
    format!(
        "{{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{},{same},\"nodeName\":\"{node}\"}}}}",
        &meta[..meta.len() - 1]
    )
}

/// The rest of every pod, from within its metadata on: made once, since making it takes longer than reading it.
fn same_in_all() -> String {
    let volume = |n| json!({"name": format!("volume-{n}"), "configMap": {"name": format!("settings-{n}"), "defaultMode": 420}});
    let managed = Vec::from(["kube-controller-manager", "kubelet", "kubervisor"].map(managed));
    let spec = json!({
        "serviceAccountName": "storefront",
        "containers": Vec::from(["web", "proxy"].map(container)),
        "volumes": (0..6).map(volume).collect::<Vec<_>>(),
        "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}],
    });
    let status = json!({
        "phase": "Running",
        "podIP": "10.40.3.7",
        "conditions": conditions(),
        "containerStatuses": Vec::from(["web", "proxy"].map(status)),
    });
    format!("\"managedFields\":{}}},\"status\":{status},\"spec\":{spec}", json!(managed))
}

fn conditions() -> Vec<Value> {
    let kinds = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];
    let condition = |kind: &&str| json!({"type": kind, "status": "True", "lastProbeTime": null, "lastTransitionTime": "2026-01-07T09:22:03Z"});
    kinds.iter().map(condition).collect()
}

fn status(name: &str) -> Value {
    json!({
        "name": name, "ready": true, "started": true, "restartCount": 0, "lastState": {},
        "image": format!("registry.example.com/shop/{name}:4.18.2"),
        "imageID": format!("registry.example.com/shop/{name}@sha256:{}", "3f9a".repeat(16)),
        "containerID": format!("containerd://{}", "b7e1".repeat(16)),
        "state": {"running": {"startedAt": "2026-01-07T09:21:58Z"}},
    })
}

/// One pod of twenty is cut, and one has been.
fn labels(deployment: usize, replica: usize, hash: &str) -> Value {
    let mut labels = json!({
        "app.kubernetes.io/name": format!("storefront-{deployment}"),
        "app.kubernetes.io/part-of": "shop",
        "app.kubernetes.io/version": "4.18.2",
        "pod-template-hash": hash,
        "topology.kubernetes.io/zone": format!("eu-west-1{}", ["a", "b", "c"][replica % ZONES]),
        "kubervisor/traffic": if replica == 3 { "no" } else { "yes" },
    });
    if replica == 3 {
        labels["kubervisor/name"] = json!(format!("storefront-{deployment}"));
        labels["kubervisor/strategy"] = json!("error-rate");
    }
    labels
}

fn annotations(replica: usize) -> Value {
    let mut annotations = json!({
        "prometheus.io/scrape": "true",
        "prometheus.io/port": "9102",
        "checksum/config": "9d1f".repeat(16),
        "kubectl.kubernetes.io/restartedAt": "2026-01-07T09:21:40Z",
    });
    if replica == 3 || replica == 4 {
        annotations["kubervisor.k8s.io/strikes"] = json!("{\"error-rate\":2}");
        annotations["breaker/retryCount"] = json!("2");
    }
    if replica == 3 {
        annotations["breaker/breakAt"] = json!("2026-01-07T10:00:00Z");
        annotations["kubervisor.k8s.io/restore-at"] = json!("2026-01-07T10:02:11Z");
        annotations["kubervisor.k8s.io/evidence"] = json!(
            "{\"breaker\":\"error-rate\",\"why\":\"bad 62 % > 50 % of 412\",\"severity\":1.24,\"budget\":\"of 20: 19 serve\"}"
        );
    }
    annotations
}

fn container(name: &str) -> Value {
    let probe = json!({"httpGet": {"path": "/healthz", "port": 8080, "scheme": "HTTP"}, "timeoutSeconds": 1,
        "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3});
    json!({
        "name": name,
        "image": format!("registry.example.com/shop/{name}:4.18.2"),
        "env": (0..12).map(|n| json!({"name": format!("SETTING_NUMBER_{n}"), "valueFrom": {"configMapKeyRef": {"name": "storefront-settings", "key": format!("setting-{n}")}}})).collect::<Vec<_>>(),
        "resources": {"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}},
        "livenessProbe": probe, "readinessProbe": probe, "startupProbe": probe,
        "volumeMounts": (0..6).map(|n| json!({"name": format!("volume-{n}"), "mountPath": format!("/etc/storefront/{n}"), "readOnly": true})).collect::<Vec<_>>(),
        "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File", "imagePullPolicy": "IfNotPresent",
    })
}

/// As the API server notes who wrote which field: about half of a pod.
fn managed(writer: &str) -> Value {
    let fields = |count: usize| {
        let field = |n| {
            (
                format!("f:setting-of-the-container-{n}"),
                json!({".": {}, "f:name": {}, "f:valueFrom": {".": {}, "f:configMapKeyRef": {}}}),
            )
        };
        (0..count).map(field).collect::<serde_json::Map<_, _>>()
    };
    json!({
        "manager": writer, "operation": "Update", "apiVersion": "v1", "time": "2026-01-07T09:21:44Z", "fieldsType": "FieldsV1",
        "fieldsV1": {"f:metadata": {"f:labels": fields(8)}, "f:spec": {"f:containers": fields(16)}},
    })
}
