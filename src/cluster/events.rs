//! Notices to Kubernetes Events.
//!
//! Sent by one task from a bounded queue: an act never waits for its Event, and a burst that nobody could read is
//! dropped and counted.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kubervisor_core::notice::Notice;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::apply::Identity;
use super::call;
use crate::api::{GROUP, VERSION};
use crate::metrics::Metrics;

/// Events that wait: a storm over 500 services with one each, twice. At 10 ms a write they are out in 10 s.
const QUEUE: usize = 1_000;
/// Characters of an Event's note that the API server takes.
const NOTE_MAX: usize = 1_024;

/// Where notices are told.
#[derive(Clone)]
pub struct Events {
    queue: mpsc::Sender<(Identity, Notice)>,
    metrics: Metrics,
}

impl Events {
    /// Starts the task that sends.
    #[must_use]
    pub fn start(client: Client, metrics: Metrics, stop: CancellationToken) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        tokio::spawn(send_all(client, waiting, stop));
        Self { queue, metrics }
    }

    /// Logs a notice and queues its Events.
    pub fn tell(&self, id: &Identity, notice: Notice) {
        let pod = notice.pod.as_ref().map(|(name, _)| &**name).unwrap_or_default();
        let (kind, text) = (notice.kind.as_str(), notice.text.as_str());
        let (namespace, name) = (&*id.namespace, &*id.name);
        tracing::info!(kind, namespace, name, pod, id = notice.id, "{text}");
        if self.queue.try_send((id.clone(), notice)).is_err() {
            self.metrics.event_dropped();
        }
    }
}

async fn send_all(
    client: Client,
    mut waiting: mpsc::Receiver<(Identity, Notice)>,
    stop: CancellationToken,
) {
    let recorder = Recorder::new(client, Reporter { controller: GROUP.into(), instance: None });
    loop {
        let (id, notice) = tokio::select! {
            biased;
            next = waiting.recv() => match next { Some(next) => next, None => return },
            () = stop.cancelled() => return,
        };
        for regarding in references(&id, &notice) {
            // In a namespace that is being deleted nothing can be created; that is no fault of anybody.
            if let Err(error) = call(recorder.publish(&event(&notice), &regarding)).await {
                tracing::debug!(%error, "an Event could not be written");
            }
        }
    }
}

fn event(notice: &Notice) -> Event {
    Event {
        type_: if notice.kind.warns() { EventType::Warning } else { EventType::Normal },
        reason: notice.kind.as_str().into(),
        note: Some(notice.to_string().chars().take(NOTE_MAX).collect()),
        action: notice.kind.as_str().into(),
        secondary: None,
    }
}

fn references(id: &Identity, notice: &Notice) -> Vec<ObjectReference> {
    let service = ObjectReference {
        api_version: Some(format!("{GROUP}/{VERSION}")),
        kind: Some("KubervisorService".into()),
        name: Some(id.name.to_string()),
        namespace: Some(id.namespace.to_string()),
        uid: Some(id.uid.to_string()),
        ..ObjectReference::default()
    };
    let pod = notice.pod.as_ref().map(|(name, uid)| ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        name: Some(name.to_string()),
        namespace: Some(id.namespace.to_string()),
        uid: Some(uid.to_string()),
        ..ObjectReference::default()
    });
    pod.into_iter().chain([service]).collect()
}
