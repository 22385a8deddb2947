//! The control plane itself, against the real programs.

use localcluster::{Cluster, Options};

#[tokio::test]
async fn a_cluster_is_ready_when_start_returns() {
    let begin = std::time::Instant::now();
    let cluster = Cluster::start(Options { kwok: true, ..Options::default() }).await.unwrap();
    eprintln!("ready in {:?}", begin.elapsed());
    let client = cluster.client("admin").unwrap();
    eprintln!("{:?}", client.apiserver_version().await.unwrap());
    let n = cluster.new_namespace(&client, "x").await.unwrap();
    let o = cluster.kubectl("admin", &["get", "nodes,sa,ns", "-A"], None).unwrap();
    eprintln!("{n} {:?} {}", cluster.pids(), String::from_utf8_lossy(&o.stdout));
}
