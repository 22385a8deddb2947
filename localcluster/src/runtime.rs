//! A runtime that lives as long as the process.
//!
//! Tests bring a runtime each and often a single thread; a proxy on that thread would stand still while the test waits
//! for kubectl. So everything that serves runs here.

use std::future::Future;
use std::sync::OnceLock;

use anyhow::Context;
use tokio::runtime::{Builder, Runtime};

/// # Panics
/// When the machine gives this process no threads.
pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("localcluster")
            .enable_all()
            .build()
            .expect("cannot start the threads of the local cluster")
    })
}

/// Runs the future there; the caller may wait on any runtime.
pub(crate) async fn run<T: Send + 'static>(
    future: impl Future<Output = anyhow::Result<T>> + Send + 'static,
) -> anyhow::Result<T> {
    runtime().spawn(future).await.context("a task of the local cluster panicked")?
}

/// Runs what blocks (builds, files, processes) on a thread where it may.
pub(crate) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    runtime().spawn_blocking(work).await.context("a task of the local cluster panicked")?
}

/// Drops a value that blocks when it is dropped, such as a process that has to end.
pub(crate) async fn drop_blocking<T: Send + 'static>(value: T) -> anyhow::Result<()> {
    run_blocking(move || {
        drop(value);
        Ok(())
    })
    .await
}
