//! One turn of the controller: everything that runs for one scope, until it is told to stop.
//!
//! Takes what stands outside of us as values (a client, a source, the wall clock, the decision) and starts the
//! watches, the supervisor with its owners, the janitor and the labeller. `run` starts it with the real ones, the
//! simulator with models; nobody else starts any of them.

use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use kube::Client;
use kubervisor_core::tick::tick;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::{Defaults, GROUP, PLURAL, VERSION};
use crate::cluster::apply::Writer;
use crate::cluster::brake::Brake;
use crate::cluster::cache::Cache;
use crate::cluster::events::Events;
use crate::cluster::mandate::Mandate;
use crate::cluster::registry::Registry;
use crate::cluster::scope::{Scope, request_path};
use crate::cluster::{Clock, takeover, watch};
use crate::janitor::{Janitor, label_pods};
use crate::metrics::Metrics;
use crate::owner::{Decide, Parts};
use crate::sources::Source;
use crate::supervisor::{Supervisor, SupervisorSink};

/// Writes of statuses and look-ups of workloads at once, over all services.
const CALLS_AT_ONCE: usize = 8;

/// What stands outside of the controller.
#[derive(Clone)]
pub struct Outside {
    /// It must not retry by itself.
    pub client: Client,
    /// Where samples come from.
    pub source: Arc<dyn Source>,
    /// Wall time.
    pub wall: Clock,
    /// How a tick decides.
    pub decide: Decide,
}

impl Outside {
    /// With the machine's clock and the decisions of the core.
    #[must_use]
    pub fn real(client: Client, source: Arc<dyn Source>) -> Self {
        Self { client, source, wall: Arc::new(Timestamp::now), decide: Arc::new(tick) }
    }
}

/// What a turn with one scope is built of.
pub struct Turn {
    /// Everything that is not ours.
    pub outside: Outside,
    /// The shared index, empty.
    pub cache: Arc<Cache>,
    /// The set of KubervisorServices, empty.
    pub registry: Arc<Registry>,
    /// The right to act.
    pub mandate: Mandate,
    /// The brake over all services.
    pub brake: Brake,
    /// Counts and times.
    pub metrics: Metrics,
    /// What a spec leaves open.
    pub defaults: Defaults,
    /// Makes every KubervisorService one of mode DryRun.
    pub dry_run: bool,
    /// Cancelled at the end.
    pub stop: CancellationToken,
}

/// A turn that runs.
pub struct Running {
    /// Watches, janitor, labeller: each runs until it is told to stop.
    pub parts: JoinSet<()>,
    /// Owners, and whatever they start.
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Turn {
    /// Starts everything that looks after `scope`.
    #[must_use]
    pub fn start(self, scope: &Scope) -> Running {
        let tasks = TaskTracker::new();
        let mut running = JoinSet::new();
        let parts = self.parts(&tasks);
        let supervisor = Supervisor::new(
            parts.clone(),
            self.defaults.clone(),
            self.dry_run,
            Arc::clone(&self.registry),
            self.stop.clone(),
        );
        self.watches(scope, supervisor, &mut running);
        let janitor = Janitor {
            client: parts.client,
            cache: Arc::clone(&self.cache),
            writer: parts.writer.clone(),
            registry: Arc::clone(&self.registry),
            events: parts.events,
            metrics: self.metrics.clone(),
            wall: parts.wall,
        };
        running.spawn(janitor.run(self.stop.clone()));
        // Returns go on in a dry run; labels are writes like any other.
        if !self.dry_run {
            let (cache, registry) = (Arc::clone(&self.cache), Arc::clone(&self.registry));
            running.spawn(label_pods(cache, parts.writer, registry, self.stop.clone()));
        }
        Running { parts: running, tasks, stop: self.stop }
    }

    fn parts(&self, tasks: &TaskTracker) -> Parts {
        let Outside { client, source, wall, decide } = self.outside.clone();
        let (stop, metrics) = (&self.stop, &self.metrics);
        let cache = Arc::clone(&self.cache);
        let mandate = self.mandate.clone();
        let writer = Writer::new(
            client.clone(),
            cache,
            mandate,
            self.brake.clone(),
            metrics.clone(),
            tasks.clone(),
            stop.clone(),
        );
        let events = Events::start(client.clone(), metrics.clone(), Arc::clone(&wall), tasks, stop.clone());
        Parts {
            client,
            cache: Arc::clone(&self.cache),
            registry: Arc::clone(&self.registry),
            writer,
            mandate: self.mandate.clone(),
            source,
            events,
            metrics: metrics.clone(),
            wall,
            decide,
            started: Instant::now(),
            tasks: tasks.clone(),
            calls: Arc::new(Semaphore::new(CALLS_AT_ONCE)),
        }
    }

    fn watches(&self, scope: &Scope, supervisor: Supervisor, running: &mut JoinSet<()>) {
        let supervisor = Arc::new(Mutex::new(supervisor));
        let scopes = scope.each();
        self.cache.expect(&scopes);
        self.registry.expect(&scopes);
        for scope in scopes {
            let (client, stop) = (&self.outside.client, &self.stop);
            let path = |prefix: &str, plural| request_path(prefix, scope.as_deref(), plural);
            let (cache, mandate) = (Arc::clone(&self.cache), self.mandate.clone());
            running.spawn(takeover::run(client.clone(), cache, mandate, scope.clone(), stop.clone()));
            let pods = self.cache.pods(scope.clone());
            running.spawn(watch::run(client.clone(), path("/api/v1", "pods"), pods, stop.clone()));
            let services = self.cache.services(scope.clone());
            running.spawn(watch::run(client.clone(), path("/api/v1", "services"), services, stop.clone()));
            let budgets = self.cache.budgets(scope.clone());
            let at = path("/apis/policy/v1", "poddisruptionbudgets");
            running.spawn(watch::run(client.clone(), at, budgets, stop.clone()));
            let at = path(&format!("/apis/{GROUP}/{VERSION}"), PLURAL);
            let sink = SupervisorSink::new(Arc::clone(&supervisor), scope.clone());
            running.spawn(watch::run(client.clone(), at, sink, stop.clone()));
        }
    }
}

impl Running {
    /// Everything is told to stop; writes under way have their time. Returns whether all have ended.
    pub async fn end(mut self, deadline: Instant) -> bool {
        self.stop.cancel();
        self.tasks.close();
        let ended = async {
            while self.parts.join_next().await.is_some() {}
            self.tasks.wait().await;
        };
        let in_time = tokio::time::timeout_at(deadline, ended).await.is_ok();
        if !in_time {
            tracing::warn!("some tasks did not end in time");
        }
        in_time
    }
}
