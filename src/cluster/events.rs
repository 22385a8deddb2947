//! Notices to Kubernetes Events.
//!
//! Sent by one task from a bounded queue: an act never waits for its Event, and a burst that nobody could read is
//! dropped and counted.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use kubervisor_core::backoff::hash;
use kubervisor_core::notice::{Kind, Notice};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::workloads::Maker;
use super::{Clock, FIELD_MANAGER, call};
use crate::api::{GROUP, Identity, VERSION};
use crate::metrics::Metrics;

/// Events that wait: a storm over 500 services with one each, twice. At 10 ms a write they are out in 10 s.
const QUEUE: usize = 1_000;
/// Characters of an object's name in the name of its Event; the API server takes 253 in all.
const NAME_MAX: usize = 230;
/// Bytes of an Event's note: what the API server takes.
const NOTE_MAX: usize = 1_024;

/// Where notices are told.
#[derive(Clone)]
pub struct Events {
    queue: mpsc::Sender<(Identity, Notice, Vec<Maker>)>,
    metrics: Metrics,
}

impl Events {
    /// Starts the task that sends.
    #[must_use]
    pub fn start(
        client: Client,
        metrics: Metrics,
        wall: Clock,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        tasks.spawn(send_all(client, waiting, wall, stop));
        Self { queue, metrics }
    }

    /// Logs a notice and queues its Events.
    pub fn tell(&self, id: &Identity, notice: Notice) {
        self.tell_makers(id, notice, Vec::new());
    }

    /// The same, with an Event on each of these workloads: their owners should know, and look at nothing of ours.
    pub fn tell_makers(&self, id: &Identity, notice: Notice, makers: Vec<Maker>) {
        let pod = notice.pod.as_ref().map(|(name, _)| &**name).unwrap_or_default();
        let (kind, text) = (notice.kind.as_str(), notice.text.as_str());
        let (namespace, name) = (&*id.namespace, &*id.name);
        tracing::info!(kind, namespace, name, pod, id = notice.id, "{text}");
        if self.queue.try_send((id.clone(), notice, makers)).is_err() {
            self.metrics.event_dropped();
        }
    }
}

async fn send_all(
    client: Client,
    mut waiting: mpsc::Receiver<(Identity, Notice, Vec<Maker>)>,
    wall: Clock,
    stop: CancellationToken,
) {
    loop {
        let (id, notice, makers) = tokio::select! {
            biased;
            next = waiting.recv() => match next { Some(next) => next, None => return },
            () = stop.cancelled() => return,
        };
        let api: Api<Event> = Api::namespaced(client.clone(), &id.namespace);
        let makers = makers.into_iter().map(|maker| reference(&id, maker));
        // Of another id: a workload may have the name of the KubervisorService.
        let of_makers = Notice { id: hash(notice.id, b"maker"), ..notice.clone() };
        let own = references(&id, &notice).into_iter().map(|regarding| event(&notice, regarding, wall()));
        let theirs = makers.map(|regarding| event(&of_makers, regarding, wall()));
        for event in own.chain(theirs) {
            match call(api.create(&PostParams::default(), &event)).await {
                // Told before, by a process that died after it: the name is made of what happened, not of when it
                // was told.
                Err(error) if error.code() == Some(409) => {}
                // In a namespace that is being deleted nothing can be created; that is no fault of anybody.
                Err(error) => tracing::debug!(%error, "an Event could not be written"),
                Ok(_) => {}
            }
        }
    }
}

/// Written without kube's recorder: that one folds a repeated reason into the first Event and keeps its old sentence,
/// and the sentence is what an Event is for.
fn event(notice: &Notice, regarding: ObjectReference, now: Timestamp) -> Event {
    let kind = notice.kind.as_str();
    let name: String = regarding.name.iter().flat_map(|n| n.chars()).take(NAME_MAX).collect();
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{name}.{:016x}", notice.id)),
            namespace: regarding.namespace.clone(),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(now)),
        type_: Some(if notice.kind.warns() { "Warning" } else { "Normal" }.into()),
        reason: Some(kind.into()),
        action: Some(kind.into()),
        note: Some(note(&notice.text)),
        regarding: Some(regarding),
        reporting_controller: Some(GROUP.into()),
        reporting_instance: Some(FIELD_MANAGER.into()),
        ..Event::default()
    }
}

/// As much of a text as a note may hold, cut between two characters.
fn note(text: &str) -> String {
    let end = text.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= NOTE_MAX).last();
    text[..end.unwrap_or(0)].to_owned()
}

fn reference(id: &Identity, maker: Maker) -> ObjectReference {
    ObjectReference {
        api_version: Some(maker.api_version),
        kind: Some(maker.kind),
        name: Some(maker.name),
        namespace: Some(id.namespace.to_string()),
        uid: Some(maker.uid),
        ..ObjectReference::default()
    }
}

fn references(id: &Identity, notice: &Notice) -> Vec<ObjectReference> {
    // This one is about a Service that no KubervisorService names.
    let (api_version, kind) = if notice.kind == Kind::GateWithoutOwner {
        ("v1".to_owned(), "Service")
    } else {
        (format!("{GROUP}/{VERSION}"), "KubervisorService")
    };
    let service = ObjectReference {
        api_version: Some(api_version),
        kind: Some(kind.into()),
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
    // Without a uid the KubervisorService is gone, and nobody could look at its Events.
    pod.into_iter().chain((!id.uid.is_empty()).then_some(service)).collect()
}
