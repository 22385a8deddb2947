//! Labels and annotations on pods: how they are read and what is written.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use kubervisor_core::fleet::Wish;
use kubervisor_core::plan::CutOrder;
use kubervisor_core::traffic::{Cut, Strikes, Traffic};
use kubervisor_core::verdict::SEVERITY_MAX;
use serde_json::{Value, json};

/// Every key that we read or write on a pod or a Service.
pub mod key {
    /// Label: `yes`, `no`, `pause`. Also the key in the Service's selector.
    pub const TRAFFIC: &str = "kubervisor/traffic";
    /// Label: the KubervisorService that cut the pod.
    pub const NAME: &str = "kubervisor/name";
    /// Label: the breaker that cut the pod.
    pub const STRATEGY: &str = "kubervisor/strategy";
    /// Annotation of the original: when the pod was cut.
    pub const BREAK_AT: &str = "breaker/breakAt";
    /// Annotation of the original: strikes over all breakers.
    pub const RETRY_COUNT: &str = "breaker/retryCount";
    /// Annotation: when the cut ends.
    pub const RESTORE_AT: &str = "kubervisor.k8s.io/restore-at";
    /// Annotation: when the last cut ended.
    pub const RESTORED_AT: &str = "kubervisor.k8s.io/restored-at";
    /// Annotation: strikes per breaker.
    pub const STRIKES: &str = "kubervisor.k8s.io/strikes";
    /// Annotation of people: `Never`, `Cut` or `Serve`.
    pub const OVERRIDE: &str = "kubervisor.k8s.io/override";
    /// Annotation, of a Service whose key is ours too: the number of the Lease's holder that wrote last.
    pub const EPOCH: &str = "kubervisor.k8s.io/epoch";
    /// Annotation: why.
    pub const EVIDENCE: &str = "kubervisor.k8s.io/evidence";
    /// Annotation of a Service: the KubervisorService that answers for the key in its selector, by uid.
    pub const MANAGED_BY: &str = "kubervisor.k8s.io/selector-managed-by";

    /// Annotation that a ReplicaSet reads: pods with a low one go first when it shrinks.
    pub const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
    /// Annotation: the deletion cost that we wrote.
    pub const OUR_COST: &str = "kubervisor.k8s.io/deletion-cost";
    /// Label that the API server copies from the node.
    pub const ZONE: &str = "topology.kubernetes.io/zone";
    /// Labels that name the template: of a ReplicaSet's pods, and of a StatefulSet's or a DaemonSet's.
    pub const REVISIONS: [&str; 2] = ["pod-template-hash", "controller-revision-hash"];

    /// Value of [`TRAFFIC`]: in traffic.
    pub const YES: &str = "yes";
    /// Value of [`TRAFFIC`]: out.
    pub const NO: &str = "no";
    /// Value of [`TRAFFIC`]: out, for investigation.
    pub const PAUSE: &str = "pause";
}

/// Breakers in a strikes annotation at most: the spec allows 16, and edits may leave as many behind.
const STRIKES_MAX: usize = 32;

/// The value of the traffic label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TrafficLabel {
    /// No label.
    #[default]
    Absent,
    /// `yes`
    Yes,
    /// `no`
    No,
    /// `pause`
    Pause,
    /// Anything else.
    Odd,
}

impl TrafficLabel {
    /// Reads the label's value.
    #[must_use]
    pub fn of(value: Option<&str>) -> Self {
        match value {
            None => Self::Absent,
            Some(key::YES) => Self::Yes,
            Some(key::NO) => Self::No,
            Some(key::PAUSE) => Self::Pause,
            Some(_) => Self::Odd,
        }
    }

    /// As it stands on the wire; `None` where it cannot be told.
    #[must_use]
    pub fn value(self) -> Option<&'static str> {
        match self {
            Self::Yes => Some(key::YES),
            Self::No => Some(key::NO),
            Self::Pause => Some(key::PAUSE),
            Self::Absent | Self::Odd => None,
        }
    }
}

/// What a person decided about one pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Override {
    /// Nothing.
    #[default]
    Unset,
    /// This.
    Wish(Wish),
    /// A word that we do not know: as good as nothing, but worth telling.
    Odd,
}

impl Override {
    /// Reads the annotation's value.
    #[must_use]
    pub fn of(value: Option<&str>) -> Self {
        match value {
            None => Self::Unset,
            Some("Never") => Self::Wish(Wish::Never),
            Some("Cut") => Self::Wish(Wish::Cut),
            Some("Serve") => Self::Wish(Wish::Serve),
            Some(_) => Self::Odd,
        }
    }

    /// The decision, where it is one.
    #[must_use]
    pub fn wish(self) -> Option<Wish> {
        match self {
            Self::Wish(wish) => Some(wish),
            Self::Unset | Self::Odd => None,
        }
    }
}

/// Everything of ours on a pod besides the traffic label. Most pods have none of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Marks {
    /// The KubervisorService that cut it.
    pub name: Option<Arc<str>>,
    /// The breaker that cut it.
    pub strategy: Option<Arc<str>>,
    /// The outer level says whether the annotation is there, the inner one whether it is a time.
    pub break_at: Option<Option<Timestamp>>,
    /// When the cut ends.
    pub restore_at: Option<Timestamp>,
    /// When the last cut ended.
    pub restored_at: Option<Timestamp>,
    /// Not yet forgiven.
    pub strikes: Strikes,
    /// Why, in words.
    pub why: Option<Box<str>>,
    /// How far beyond the rule the pod was; 0 where that is not written.
    pub severity: f64,
}

impl Marks {
    /// Reads a pod's labels and annotations. Garbage in one of them is as good as its absence; nothing fails.
    #[must_use]
    pub fn read(
        labels: &BTreeMap<String, String>,
        annotations: &BTreeMap<String, String>,
    ) -> Option<Box<Self>> {
        let label = |k: &str| labels.get(k).map(|v| Arc::from(v.as_str()));
        let time = |k: &str| annotations.get(k).map(|v| v.parse::<Timestamp>().ok());
        let evidence = annotations.get(key::EVIDENCE).and_then(|text| serde_json::from_str(text).ok());
        let marks = Self {
            name: label(key::NAME),
            strategy: label(key::STRATEGY),
            break_at: time(key::BREAK_AT),
            restore_at: time(key::RESTORE_AT).flatten(),
            restored_at: time(key::RESTORED_AT).flatten(),
            strikes: strikes(annotations),
            why: evidence.as_ref().and_then(why),
            severity: evidence.as_ref().map_or(0.0, severity),
        };
        (marks != Self::default()).then(|| Box::new(marks))
    }

    /// Whether it carries the mark that lets us give the pod back when its KubervisorService is gone.
    #[must_use]
    pub fn ours(&self) -> bool {
        self.name.is_some() || self.break_at.is_some()
    }

    /// Whether it was written together with a traffic label: by a cut, or by a return from one. A time alone, or strikes
    /// that nobody can read, were written by somebody else.
    #[must_use]
    pub fn had_label(&self) -> bool {
        self.ours() || self.restored_at.is_some() || !self.strikes.0.is_empty()
    }

    fn kept_out(&self) -> bool {
        self.name.is_some() && self.strategy.is_none() && self.break_at.is_none()
    }

    fn cut(&self) -> Option<Cut> {
        let at = self.break_at?;
        // The original leaves breakAt behind at a restore: a `no` that is younger was made by a person.
        let ended = at.is_some_and(|at| self.restored_at.is_some_and(|restored| restored > at));
        let (restore_at, breaker) = (self.restore_at, self.strategy.clone());
        (!ended).then_some(Cut { at, restore_at, breaker, severity: self.severity })
    }
}

/// What label and marks mean together.
#[must_use]
pub fn traffic(label: TrafficLabel, marks: Option<&Marks>) -> Traffic {
    let cut = marks.and_then(Marks::cut);
    match (label, cut) {
        (TrafficLabel::Absent, _) => Traffic::Unlabelled,
        // Only what our own name still stands on: the original left breakAt on every pod that it restored.
        (TrafficLabel::Yes, Some(cut)) if marks.is_some_and(|m| m.name.is_some()) => {
            Traffic::OpenedByHand(cut)
        }
        (TrafficLabel::Yes, _) => Traffic::Open,
        (TrafficLabel::No, Some(cut)) => Traffic::Cut(cut),
        // Our name and nothing of a breaker: a person's word, carried out by us.
        (TrafficLabel::No, None) if marks.is_some_and(Marks::kept_out) => Traffic::KeptOut,
        (TrafficLabel::No, None) => Traffic::CutByHand,
        (TrafficLabel::Pause, _) => Traffic::Paused,
        (TrafficLabel::Odd, _) => Traffic::Odd,
    }
}

fn strikes(annotations: &BTreeMap<String, String>) -> Strikes {
    let stored =
        annotations.get(key::STRIKES).and_then(|t| serde_json::from_str::<BTreeMap<String, u32>>(t).ok());
    if let Some(stored) = stored {
        return Strikes(stored.into_iter().take(STRIKES_MAX).map(|(b, k)| (Arc::from(b), k)).collect());
    }
    let original = annotations.get(key::RETRY_COUNT).and_then(|text| text.parse::<u32>().ok());
    Strikes(original.into_iter().filter(|k| *k > 0).map(|k| (Arc::from(""), k)).collect())
}

fn severity(evidence: &Value) -> f64 {
    let stored = evidence.get("severity").and_then(Value::as_f64).unwrap_or(0.0);
    stored.clamp(0.0, SEVERITY_MAX)
}

fn why(evidence: &Value) -> Option<Box<str>> {
    evidence.get("why").and_then(Value::as_str).map(|w| w.chars().take(200).collect::<String>().into())
}

/// Patch that cuts: label, who and why, and when it ends.
#[must_use]
pub fn cut_patch(name: &str, order: &CutOrder) -> Value {
    let strikes: BTreeMap<&str, u32> = order.strikes.0.iter().map(|(b, k)| (&**b, *k)).collect();
    let why = json!({
        "breaker": &*order.breaker,
        "why": order.evidence.to_string(),
        "severity": (order.severity * 100.0).round() / 100.0,
        "budget": order.budget.to_string(),
    });
    json!({"metadata": {
        "labels": { key::TRAFFIC: key::NO, key::NAME: name, key::STRATEGY: &*order.breaker },
        "annotations": {
            key::BREAK_AT: order.at.to_string(),
            key::RETRY_COUNT: order.strikes.total().to_string(),
            key::RESTORE_AT: order.restore_at.to_string(),
            key::STRIKES: json!(strikes).to_string(),
            key::EVIDENCE: why.to_string(),
            // A clock that went back since the last restore would make this cut look older than that restore, and
            // so like a person's.
            key::RESTORED_AT: null,
        },
    }})
}

/// Patch that cuts because a person asks for it. Without a time: it ends when the person takes the word back.
#[must_use]
pub fn keep_out_patch(name: &str) -> Value {
    json!({"metadata": {
        "labels": { key::TRAFFIC: key::NO, key::NAME: name, key::STRATEGY: null },
        "annotations": { key::BREAK_AT: null, key::RESTORE_AT: null, key::EVIDENCE: null, key::RESTORED_AT: null },
    }})
}

/// Patch that restores or releases. Strikes stay unless others are given: they are forgiven for health, not for time out
/// of traffic.
#[must_use]
pub fn restore_patch(at: Timestamp, strikes: Option<&Strikes>) -> Value {
    let mut patch = json!({"metadata": {
        "labels": { key::TRAFFIC: key::YES, key::NAME: null, key::STRATEGY: null },
        "annotations": {
            key::BREAK_AT: null,
            key::RESTORE_AT: null,
            key::EVIDENCE: null,
            key::RESTORED_AT: at.to_string(),
        },
    }});
    if let Some(strikes) = strikes {
        write_strikes(&mut patch["metadata"]["annotations"], strikes);
    }
    patch
}

/// Patch that writes fewer strikes and nothing else.
#[must_use]
pub fn forgive_patch(strikes: &Strikes) -> Value {
    let mut annotations = json!({});
    write_strikes(&mut annotations, strikes);
    json!({"metadata": { "annotations": annotations }})
}

fn write_strikes(annotations: &mut Value, strikes: &Strikes) {
    let total = strikes.total();
    let left: BTreeMap<&str, u32> = strikes.0.iter().map(|(b, k)| (&**b, *k)).collect();
    annotations[key::RETRY_COUNT] = if total > 0 { json!(total.to_string()) } else { Value::Null };
    annotations[key::STRIKES] = if total > 0 { json!(json!(left).to_string()) } else { Value::Null };
}

/// Patch that pauses. The cut's marks stay, for whoever investigates.
#[must_use]
pub fn pause_patch() -> Value {
    json!({"metadata": {
        "labels": { key::TRAFFIC: key::PAUSE },
        "annotations": { key::RESTORE_AT: null },
    }})
}

/// Patch that labels a pod that has no traffic label.
#[must_use]
pub fn open_patch() -> Value {
    json!({"metadata": { "labels": { key::TRAFFIC: key::YES } }})
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(labels: &[(&str, &str)], annotations: &[(&str, &str)]) -> (Traffic, Strikes) {
        let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        let labels: BTreeMap<String, String> = map(labels);
        let marks = Marks::read(&labels, &map(annotations));
        let label = TrafficLabel::of(labels.get(key::TRAFFIC).map(String::as_str));
        (traffic(label, marks.as_deref()), marks.map(|m| m.strikes.clone()).unwrap_or_default())
    }

    #[test]
    fn a_pod_cut_by_the_original_is_a_timed_cut_without_a_due_time() {
        let marks = [(key::BREAK_AT, "2018-09-12T08:00:00Z"), (key::RETRY_COUNT, "2")];
        let (traffic, strikes) = read(&[(key::TRAFFIC, "no")], &marks);
        let Traffic::Cut(cut) = traffic else { panic!("{traffic:?}") };
        assert!(cut.at.is_some() && cut.restore_at.is_none());
        assert_eq!(strikes.total(), 2);
    }

    #[test]
    fn a_cut_pod_without_its_name_label_is_not_set_back_to_yes() {
        let (traffic, _) = read(&[(key::TRAFFIC, "no")], &[(key::BREAK_AT, "2018-09-12T08:00:00Z")]);
        assert!(matches!(traffic, Traffic::Cut(_)));
    }

    #[test]
    fn no_without_our_marks_is_a_persons_cut() {
        assert_eq!(read(&[(key::TRAFFIC, "no")], &[]).0, Traffic::CutByHand);
        let left_behind =
            [(key::BREAK_AT, "2026-01-01T00:00:00Z"), (key::RESTORED_AT, "2026-01-01T00:10:00Z")];
        assert_eq!(read(&[(key::TRAFFIC, "no")], &left_behind).0, Traffic::CutByHand);
    }

    #[test]
    fn yes_with_our_cut_beside_it_was_opened_by_a_person_and_the_originals_leftovers_are_not() {
        let at = [(key::BREAK_AT, "2026-01-01T00:00:00Z")];
        let opened = read(&[(key::TRAFFIC, "yes"), (key::NAME, "k")], &at).0;
        assert!(matches!(opened, Traffic::OpenedByHand(_)));
        assert_eq!(read(&[(key::TRAFFIC, "yes")], &at).0, Traffic::Open);
    }

    #[test]
    fn what_a_person_asks_for_is_told_from_what_a_person_did() {
        assert_eq!(read(&[(key::TRAFFIC, "no"), (key::NAME, "k")], &[]).0, Traffic::KeptOut);
        let by_a_breaker = [(key::TRAFFIC, "no"), (key::NAME, "k"), (key::STRATEGY, "errors")];
        assert_eq!(read(&by_a_breaker, &[]).0, Traffic::CutByHand);
    }

    #[test]
    fn forgiven_strikes_are_written_and_the_last_one_leaves_nothing_behind() {
        let strikes = |k| Strikes([(Arc::from("errors"), k)].into());
        let left = forgive_patch(&strikes(2));
        assert_eq!(left["metadata"]["annotations"][key::RETRY_COUNT], "2");
        assert_eq!(left["metadata"]["annotations"][key::STRIKES], r#"{"errors":2}"#);
        let none = restore_patch(Timestamp::UNIX_EPOCH, Some(&Strikes::default()));
        assert_eq!(none["metadata"]["annotations"][key::STRIKES], Value::Null);
        assert!(
            restore_patch(Timestamp::UNIX_EPOCH, None)["metadata"]["annotations"].get(key::STRIKES).is_none()
        );
    }

    #[test]
    fn an_unreadable_time_is_a_cut_that_is_due() {
        let (traffic, _) = read(&[(key::TRAFFIC, "no")], &[(key::BREAK_AT, "yesterday")]);
        assert_eq!(traffic, Traffic::Cut(Cut { at: None, restore_at: None, breaker: None, severity: 0.0 }));
    }

    #[test]
    fn only_the_three_words_are_a_wish_and_any_other_is_odd() {
        let read = |value| Override::of(Some(value));
        assert_eq!(
            ["Never", "Cut", "Serve"].map(|word| read(word).wish()),
            [Some(Wish::Never), Some(Wish::Cut), Some(Wish::Serve)]
        );
        assert_eq!(["never", "", "Cut "].map(read), [Override::Odd; 3]);
        assert_eq!((Override::of(None), Override::Odd.wish()), (Override::Unset, None));
    }

    proptest! {
        #[test]
        fn garbage_never_fails(traffic in ".{0,9}", at in ".{0,30}", count in ".{0,12}", strikes in ".{0,40}") {
            let annotations = [(key::BREAK_AT, &*at), (key::RETRY_COUNT, &*count), (key::STRIKES, &*strikes)];
            let _ = read(&[(key::TRAFFIC, &*traffic), (key::NAME, "k")], &annotations);
        }
    }
}
