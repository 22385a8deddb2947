//! A second cluster, for faults that every other test would feel.

use localcluster::{Cluster, Options};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

/// One test's turn with it; the others that need it wait.
pub struct Troubled {
    pub cluster: &'static Cluster,
    _turn: MutexGuard<'static, ()>,
}

/// Started by the first test that asks.
pub async fn troubled() -> Troubled {
    static TURN: Mutex<()> = Mutex::const_new(());
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    let turn = TURN.lock().await;
    let start = || async { Cluster::start(Options { kwok: true, ..Options::default() }).await.unwrap() };
    let cluster = CLUSTER.get_or_init(start).await;
    // The test before may have ended while its API server was away.
    cluster.start_apiserver().await.unwrap();
    Troubled { cluster, _turn: turn }
}
