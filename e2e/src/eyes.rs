//! What the play sees of the cluster while it goes on: who serves, who holds the Lease, and what the controller tells.

use std::time::Duration;

use demo::endpoints;
use demo::follow::follow;
use demo::sights::{Sight, of};
use futures::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::task::JoinSet;

use crate::names::{NAMESPACE, RELEASE, SERVICE};
use crate::shared::Shared;

/// Notes every change of the Service's EndpointSlices.
pub fn on_endpoints(tasks: &mut JoinSet<()>, client: &Client, shared: &Shared) {
    let changes = endpoints::of_service(Api::namespaced(client.clone(), NAMESPACE), SERVICE);
    let shared = shared.clone();
    tasks.spawn(changes.for_each(move |pods| {
        let at = shared.now();
        shared.record().serving(at, pods.into_iter().collect());
        std::future::ready(())
    }));
}

/// Notes who holds the Lease of the release, and shows it.
pub fn on_lease(tasks: &mut JoinSet<()>, client: &Client, shared: &Shared) {
    let lease = watcher::Config::default().fields(&format!("metadata.name={RELEASE}"));
    let holder =
        |lease: &Lease| lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone()).unwrap_or_default();
    let leases = follow(Api::<Lease>::namespaced(client.clone(), RELEASE), lease, holder);
    let shared = shared.clone();
    tasks.spawn(leases.for_each(move |leases| {
        let holder = leases.get(RELEASE).cloned().unwrap_or_default();
        let at = shared.now();
        let before = shared.record().holds().unwrap_or_default().to_owned();
        shared.record().holder(at, &holder);
        if before != holder {
            shared.tell("lease", if holder.is_empty() { "nobody holds it" } else { &holder });
        }
        std::future::ready(())
    }));
}

/// Shows what the controller tells by Events.
pub fn on_events(tasks: &mut JoinSet<()>, client: &Client, shared: &Shared) {
    let shared = shared.clone();
    tasks.spawn(of(client, NAMESPACE).for_each(move |sight| {
        if let Sight::Told { what, pod, note } = sight {
            let who = pod.map(|pod| format!("{pod}: ")).unwrap_or_default();
            shared.tell(&what, &format!("{who}{note}"));
        }
        std::future::ready(())
    }));
}

/// How often a condition is looked at.
pub const BEAT: Duration = Duration::from_millis(100);
