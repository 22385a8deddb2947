//! Reasons to hold an action now. A gate stops new cuts, pauses and evictions; a return is never held.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;

use crate::words;

/// One reason. Those with a breaker hold only what that breaker wants.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gate {
    /// Nobody has proved for a minute that the watch of this kind is alive.
    StaleView {
        /// The kind whose view is unproven.
        resource: &'static str,
    },
    /// Another KubervisorService governs one of the pods.
    Conflict {
        /// Its name.
        with: Arc<str>,
    },
    /// The spec as it stands was refused; the last valid one serves to end cuts.
    InvalidSpec,
    /// Nobody knows yet whether a cut would break the workload behind the Service.
    Unchecked {
        /// What stands in the way.
        why: Arc<str>,
    },
    /// The Service's selector does not hold the traffic key: a cut would change nothing.
    NotActivated,
    /// Decisions are shown, not carried out.
    DryRun,
    /// People hold: a hold of the spec, or the whole controller is frozen.
    Held {
        /// Their reason.
        reason: Arc<str>,
        /// When it ends by itself, where it does.
        until: Option<Timestamp>,
    },
    /// This process is not, or not yet, the one that may take traffic away.
    Lease {
        /// What it waits for.
        why: Arc<str>,
    },
    /// More cuts were wanted within a minute, over all services, than the controller may make.
    ClusterStorm {
        /// How many it may make.
        limit: u32,
    },
    /// Too many pods are anomalous at once.
    Storm {
        /// Anomalous ones, and those that are cut.
        anomalous: u32,
        /// Of so many.
        of: u32,
        /// Percent that is tolerated.
        limit: u32,
    },
    /// Cuts of ours overloaded the rest: the last ones were taken back.
    Overload {
        /// When new cuts are allowed again.
        until: Timestamp,
    },
    /// This breaker sees too few of the pods that serve.
    LowCoverage {
        /// The breaker.
        breaker: Arc<str>,
        /// Serving pods with a series.
        seen: u32,
        /// Serving pods.
        serving: u32,
    },
    /// The source of this breaker failed, fell silent, or has not answered since the start.
    Blind {
        /// The breaker.
        breaker: Arc<str>,
    },
}

impl Gate {
    words! {
        /// One word for conditions and metrics.
        pub fn as_str(self: &Self) -> WORDS {
            Self::StaleView { .. } => "StaleView",
            Self::Conflict { .. } => "Conflict",
            Self::InvalidSpec => "InvalidSpec",
            Self::Unchecked { .. } => "Unchecked",
            Self::NotActivated => "NotActivated",
            Self::DryRun => "DryRun",
            Self::Held { .. } => "Held",
            Self::Lease { .. } => "Lease",
            Self::ClusterStorm { .. } => "ClusterStorm",
            Self::Storm { .. } => "Storm",
            Self::Overload { .. } => "Overload",
            Self::LowCoverage { .. } => "LowCoverage",
            Self::Blind { .. } => "Blind",
        }
    }

    /// The breaker that it holds; `None` where it holds all.
    #[must_use]
    pub fn breaker(&self) -> Option<&str> {
        match self {
            Self::Blind { breaker } | Self::LowCoverage { breaker, .. } => Some(breaker),
            Self::StaleView { .. }
            | Self::Conflict { .. }
            | Self::InvalidSpec
            | Self::Unchecked { .. }
            | Self::NotActivated
            | Self::DryRun
            | Self::Held { .. }
            | Self::Lease { .. }
            | Self::ClusterStorm { .. }
            | Self::Storm { .. }
            | Self::Overload { .. } => None,
        }
    }

    /// Whether it holds what `breaker` wants.
    #[must_use]
    pub fn holds(&self, breaker: &str) -> bool {
        self.breaker().is_none_or(|own| own == breaker)
    }

    /// Whether it doubts the evidence, rather than the view, the spec or the right to act: what a person asks for needs
    /// no evidence.
    #[must_use]
    pub fn doubts_evidence(&self) -> bool {
        match self {
            Self::Blind { .. } | Self::LowCoverage { .. } | Self::Storm { .. } | Self::Overload { .. } => {
                true
            }
            Self::StaleView { .. }
            | Self::Conflict { .. }
            | Self::InvalidSpec
            | Self::Unchecked { .. }
            | Self::NotActivated
            | Self::DryRun
            | Self::Held { .. }
            | Self::Lease { .. }
            | Self::ClusterStorm { .. } => false,
        }
    }

    /// When it ends at the latest, where that is known.
    #[must_use]
    pub fn until(&self) -> Option<Timestamp> {
        match self {
            Self::Held { until, .. } => *until,
            Self::Overload { until } => Some(*until),
            Self::StaleView { .. }
            | Self::Conflict { .. }
            | Self::InvalidSpec
            | Self::Unchecked { .. }
            | Self::NotActivated
            | Self::DryRun
            | Self::Lease { .. }
            | Self::ClusterStorm { .. }
            | Self::Storm { .. }
            | Self::LowCoverage { .. }
            | Self::Blind { .. } => None,
        }
    }
}

/// The first gate that holds what `breaker` wants.
#[must_use]
pub fn first<'a>(gates: &'a [Gate], breaker: &str) -> Option<&'a Gate> {
    gates.iter().find(|gate| gate.holds(breaker))
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StaleView { resource } => {
                write!(
                    f,
                    "the view of {resource} is unproven for a minute: the API server may be out of reach"
                )
            }
            Self::Conflict { with } => {
                write!(f, "KubervisorService {with} governs some of the same pods: let only one select them")
            }
            Self::InvalidSpec => write!(f, "the spec was refused: see condition InitFailed"),
            Self::Unchecked { why } => {
                write!(f, "the workloads behind the Service are not checked yet: {why}")
            }
            Self::NotActivated => {
                write!(
                    f,
                    "the Service's selector does not hold kubervisor/traffic: \"yes\": add it to let cuts work"
                )
            }
            Self::DryRun => write!(f, "dry run"),
            Self::Lease { why } => f.write_str(why),
            Self::ClusterStorm { limit } => write!(
                f,
                "more than {limit} cuts within a minute were wanted over all services (--max-cuts-per-minute): \
                 held until fewer are wanted for 5 minutes"
            ),
            Self::Held { reason, until: None } => write!(f, "held: {reason}"),
            Self::Held { reason, until: Some(until) } => write!(f, "held until {until}: {reason}"),
            Self::Storm { anomalous, of, limit } => write!(
                f,
                "more than {limit} % of the pods were anomalous or cut at once (now {anomalous} of {of}), and cutting cannot \
                 mend what all share"
            ),
            Self::Overload { until } => write!(
                f,
                "pods that were healthy failed, or may have failed, under the load of those that were cut: nothing new is cut \
                 until {until}"
            ),
            Self::LowCoverage { breaker, seen, serving } => write!(
                f,
                "breaker {breaker} sees {seen} of {serving} serving pods: its source may know a part of the fleet only"
            ),
            Self::Blind { breaker } => write!(f, "the source of breaker {breaker} gives no answer to go by"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blind_breaker_holds_only_itself() {
        let gates = [Gate::Blind { breaker: "latency".into() }];
        assert_eq!(first(&gates, "latency"), gates.first());
        assert_eq!(first(&gates, "errors"), None);
        assert_eq!(first(&[Gate::DryRun], "errors"), Some(&Gate::DryRun));
    }
}
