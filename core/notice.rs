//! What happened, in words for people.
//!
//! The one source of Events, log lines and, later, reactors. Made from what the API server acknowledged, never from
//! what was only planned.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;

use crate::backoff::hash;

/// One thing that happened to a service or to one of its pods.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    /// The same for the same transition of the same pod, also when it is told again after a crash.
    pub id: u64,
    /// The pod, where it concerns one: name and uid.
    pub pod: Option<(Arc<str>, Arc<str>)>,
    /// What.
    pub kind: Kind,
    /// One sentence.
    pub text: String,
}

/// The reason of an Event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Out of traffic.
    PodCut,
    /// Back in traffic.
    PodRestored,
    /// Out for people to look at.
    PodPaused,
    /// Removed.
    PodEvicted,
    /// The API server refused an eviction, usually for a PodDisruptionBudget.
    EvictionRefused,
    /// A cut was wanted and the floor forbade it.
    FloorReached,
    /// Fewer serve than the floor, and only pods that people keep out could mend it.
    BelowFloor,
    /// Something holds every action.
    Held,
    /// Nothing holds any more.
    Released,
    /// There is no usable Service.
    ServiceNotAvailable,
    /// The spec was refused.
    InitFailed,
    /// A cut pod still gets traffic.
    CutIneffective,
    /// A breaker lost sight of the pods that are out.
    MetricsFollowTraffic,
    /// Anomalous pods share a revision.
    SuspectRevision,
    /// Anomalous pods share a node.
    SuspectNode,
    /// Anomalous pods share a zone.
    SuspectZone,
    /// A Service holds the key, and no KubervisorService names it.
    GateWithoutOwner,
    /// The Service's selector holds the key now.
    Activated,
    /// It no longer does.
    Deactivated,
    /// Somebody else takes the key out whenever we add it.
    SelectorContested,
}

impl Kind {
    /// The reason, as Kubernetes shows it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PodCut => "PodCut",
            Self::PodRestored => "PodRestored",
            Self::PodPaused => "PodPaused",
            Self::PodEvicted => "PodEvicted",
            Self::EvictionRefused => "EvictionRefused",
            Self::FloorReached => "FloorReached",
            Self::BelowFloor => "BelowFloor",
            Self::Held => "Held",
            Self::Released => "Released",
            Self::ServiceNotAvailable => "ServiceNotAvailable",
            Self::InitFailed => "InitFailed",
            Self::CutIneffective => "CutIneffective",
            Self::MetricsFollowTraffic => "MetricsFollowTraffic",
            Self::SuspectRevision => "SuspectRevision",
            Self::SuspectNode => "SuspectNode",
            Self::SuspectZone => "SuspectZone",
            Self::GateWithoutOwner => "GateWithoutOwner",
            Self::Activated => "Activated",
            Self::Deactivated => "Deactivated",
            Self::SelectorContested => "SelectorContested",
        }
    }

    /// Whether a person should look: Events of type Warning.
    #[must_use]
    pub fn warns(self) -> bool {
        match self {
            Self::PodCut
            | Self::PodPaused
            | Self::PodEvicted
            | Self::EvictionRefused
            | Self::FloorReached
            | Self::BelowFloor
            | Self::Held
            | Self::ServiceNotAvailable
            | Self::InitFailed
            | Self::CutIneffective
            | Self::MetricsFollowTraffic
            | Self::SuspectRevision
            | Self::SuspectNode
            | Self::SuspectZone
            | Self::GateWithoutOwner
            | Self::SelectorContested => true,
            Self::PodRestored | Self::Released | Self::Activated | Self::Deactivated => false,
        }
    }
}

impl Notice {
    /// Of one pod; `stored` is the time that the transition left on the pod.
    #[must_use]
    pub fn of_pod(name: &Arc<str>, uid: &Arc<str>, kind: Kind, stored: Timestamp, text: String) -> Self {
        let id = hash(hash(0, uid.as_bytes()), format!("{} {stored}", kind.as_str()).as_bytes());
        Self { id, pod: Some((Arc::clone(name), Arc::clone(uid))), kind, text }
    }

    /// Of the whole service, by the uid of its KubervisorService.
    #[must_use]
    pub fn of_service(uid: &str, kind: Kind, at: Timestamp, text: String) -> Self {
        let id = hash(hash(1, uid.as_bytes()), format!("{} {at}", kind.as_str()).as_bytes());
        Self { id, pod: None, kind, text }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pod {
            Some((name, _)) => write!(f, "{} {name}: {}", self.kind.as_str(), self.text),
            None => write!(f, "{}: {}", self.kind.as_str(), self.text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::at;

    #[test]
    fn the_same_transition_has_the_same_id_and_another_one_has_not() {
        let cut = |second| {
            Notice::of_pod(&"pod-7".into(), &"uid-7".into(), Kind::PodCut, at(second), "told again".into()).id
        };
        assert_eq!(cut(5), cut(5));
        assert_ne!(cut(5), cut(6));
    }
}
