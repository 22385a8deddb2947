//! What `GET /explain/{namespace}/{name}[/{pod}]` answers: read by the plugin and by people's scripts.
//!
//! Types only; every field is described in `docs/reference/explain.md`. Times are RFC 3339, spans are seconds.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Raised where a field changes its meaning; a new field changes nothing.
pub const EXPLAINED_VERSION: u32 = 1;
/// Pods in one answer at most: a page that nobody reads to its end, and about 1 MiB.
pub const EXPLAINED_PODS_MAX: usize = 500;

/// A KubervisorService, with one pod or all of them.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Explained {
    /// Version of this form.
    pub version: u32,
    /// When this was looked at.
    pub at: String,
    /// Namespace of the KubervisorService and of its pods.
    pub namespace: String,
    /// Name of the KubervisorService.
    pub name: String,
    /// Name of its Service.
    pub service: String,
    /// All of it is a dry run: pods are explained as if what is shown had been done.
    pub only_shown: bool,
    /// What may still be cut, written out.
    pub budget: ExplainedBudget,
    /// Everything that holds now.
    pub gates: Vec<ExplainedGate>,
    /// Its breakers, as the spec has them, and what they say of the whole.
    pub breakers: Vec<ExplainedBreaker>,
    /// Pods, by name: the one that was asked for, or the first 500.
    pub pods: Vec<ExplainedPod>,
    /// Pods that this answer has no room for.
    pub more_pods: u64,
}

/// The budget written out.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct ExplainedBudget {
    /// Members that the floor is counted over: those of the last five minutes, where there were more.
    pub size: u32,
    /// Members that are there now.
    pub present: u32,
    /// Members that must serve.
    pub floor: u32,
    /// How the floor came about.
    pub floor_sum: String,
    /// Members that serve.
    pub serving: u32,
    /// Members that are not Ready.
    pub not_ready: u32,
    /// Members that are out.
    pub out: u32,
    /// Most that may be out.
    pub max_out: u32,
    /// How that came about.
    pub max_out_sum: String,
    /// Cuts within the window.
    pub cuts: u32,
    /// Most cuts within the window.
    pub max_cuts: u32,
    /// How that came about.
    pub max_cuts_sum: String,
    /// That window, in seconds.
    pub cut_window_seconds: f64,
    /// Writes that the watch has not shown yet.
    pub in_flight: u32,
    /// Cuts that are allowed now.
    pub headroom: u32,
    /// The limit that allows the fewest.
    pub limited_by: String,
    /// Why nothing could be cut even of a healthy fleet of this size, where that is so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inert: Option<String>,
}

/// Something that holds.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct ExplainedGate {
    /// One word.
    pub gate: String,
    /// A sentence.
    pub why: String,
    /// The breaker that it holds; absent where it holds all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<String>,
    /// When it ends at the latest, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// A breaker.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct ExplainedBreaker {
    /// Its name.
    pub name: String,
    /// Which detector, as the spec names it.
    pub detector: String,
    /// What it finds is only shown.
    pub only_shown: bool,
    /// What a pod must show to be anomalous.
    pub threshold: String,
    /// Time between two questions.
    pub evaluation_period_seconds: f64,
    /// Time between two scrapes: answers closer together count once.
    pub scrape_interval_seconds: f64,
    /// How far back an answer looks.
    pub range_seconds: f64,
    /// Age up to which the source may take a sample, where it is asked for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lookback_seconds: Option<f64>,
    /// Anomalous verdicts that confirm…
    pub confirm_anomalous: u32,
    /// …of so many.
    pub confirm_of: u32,
    /// Pods that it finds healthy.
    pub healthy: u32,
    /// Pods that it finds anomalous.
    pub anomalous: u32,
    /// Pods that it cannot judge.
    pub unknown: u32,
    /// Why its source gave no answer, where it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What is odd about its answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub doubt: Option<String>,
}

/// A pod.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct ExplainedPod {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Why it is out, or why it is not, in a sentence.
    pub answer: String,
    /// What would have to change for it to come back, or to be cut, in a sentence.
    pub change: String,
    /// Open, Cut, KeptOut, CutByHand, Paused, OpenedByHand, Unlabelled or Odd.
    pub traffic: String,
    /// It gets traffic.
    pub serving: bool,
    /// Its condition Ready is True.
    pub ready: bool,
    /// It is being deleted.
    pub terminating: bool,
    /// Since when it is Ready, or there.
    pub ready_since: String,
    /// Since when it is cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut_at: Option<String>,
    /// The breaker that cut it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut_by: Option<String>,
    /// The evidence of its cut, as it stands on the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
    /// When its cut is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due_at: Option<String>,
    /// What is wanted then: restore, pause or evict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub then: Option<String>,
    /// When its last cut ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restored_at: Option<String>,
    /// Cuts not yet forgiven, by breaker.
    pub strikes: BTreeMap<String, u32>,
    /// A person's word on it: Never, Cut or Serve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wish: Option<String>,
    /// A write of ours that the watch has not shown yet: cut, restore, pause, evict or forgive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<String>,
    /// A person put it back: it is not cut before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quiet_until: Option<String>,
    /// The API server refused the last write: it is not written before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_off_until: Option<String>,
    /// What would refuse a cut of it now, were a breaker sure of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<ExplainedRefusal>,
    /// What the last answers wanted of it, and why it was not done.
    pub refusals: Vec<ExplainedRefusal>,
    /// What every breaker says of it.
    pub findings: Vec<ExplainedFinding>,
    /// Acts of the last time that name it, oldest first.
    pub recent: Vec<String>,
}

/// A step that is not taken.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct ExplainedRefusal {
    /// cut, restore, pause, evict or forgive.
    pub step: String,
    /// The breaker that wanted it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<String>,
    /// One word: a gate, a limit or another reason, as in the metric of refusals.
    pub reason: String,
    /// A sentence.
    pub why: String,
}

/// What a breaker says of a pod.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct ExplainedFinding {
    /// The breaker.
    pub breaker: String,
    /// It is only shown.
    pub only_shown: bool,
    /// Healthy, Anomalous, Lingering or Unknown.
    pub verdict: String,
    /// Why it is unknown: one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
    /// What was measured, or why nothing was, in words.
    pub value: String,
    /// The same in numbers.
    pub numbers: BTreeMap<String, f64>,
    /// Multiple of the threshold: 1 is the rule's edge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
    /// The middle of the pods that are compared, where the rule compares.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub median: Option<f64>,
    /// When the last answer was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked_at: Option<String>,
    /// Anomalous verdicts that count.
    pub found: u32,
    /// It is back, and what is measured before this is of the time before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settles_until: Option<String>,
    /// It is back, and one anomalous verdict is enough.
    pub probation: bool,
}

/// An answer that explains nothing.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct NotExplained {
    /// Version of this form.
    pub version: u32,
    /// One word.
    pub reason: Unexplained,
    /// A sentence.
    pub error: String,
    /// The name that may be meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meant: Option<String>,
}

/// Why nothing is explained.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
pub enum Unexplained {
    /// What was asked for is no name.
    BadName,
    /// There is no such KubervisorService.
    UnknownService,
    /// It has no such pod.
    UnknownPod,
    /// Nothing is decided for it: Disabled, or without a usable Service.
    NotEvaluated,
    /// Another controller decides for it.
    Standby,
    /// Its first lists are not complete.
    NotReady,
    /// Too many ask at once, or the answer took too long.
    #[default]
    #[serde(other)]
    Busy,
}

impl NotExplained {
    /// With the reason, as a sentence.
    #[must_use]
    pub fn new(reason: Unexplained, error: String) -> Self {
        Self { version: EXPLAINED_VERSION, reason, error, meant: None }
    }

    /// Offers a name in place of one that is not there.
    #[must_use]
    pub fn meant<'a>(self, name: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let meant = nearest(name, known);
        let error =
            meant.map_or(self.error.clone(), |meant| format!("{}; did you mean {meant:?}?", self.error));
        Self { meant: meant.map(str::to_owned), error, ..self }
    }
}

/// How alike two names must be for one to be offered in place of the other (Jaro-Winkler). Names of one product begin
/// alike, so less would offer any of them.
const ALIKE: f64 = 0.85;

/// The name that is most like this one, where any is.
fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let alike = known.into_iter().map(|other| (strsim::jaro_winkler(name, other), other));
    alike.filter(|(score, _)| *score >= ALIKE).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, other)| other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn fields(schema: &serde_json::Value, found: &mut BTreeSet<String>) {
        let objects = schema["$defs"].as_object().into_iter().flatten().map(|(_, one)| one);
        for object in objects.chain([schema]) {
            found
                .extend(object["properties"].as_object().into_iter().flatten().map(|(name, _)| name.clone()));
        }
    }

    #[test]
    fn every_field_of_an_explanation_is_in_its_reference_and_no_other() {
        let mut known = BTreeSet::new();
        for schema in [schemars::schema_for!(Explained), schemars::schema_for!(NotExplained)] {
            fields(&serde_json::to_value(schema).unwrap(), &mut known);
        }
        let page = include_str!("../../docs/reference/explain.md");
        let row =
            |line: &str| line.strip_prefix("| `").and_then(|rest| Some(rest.split_once('`')?.0.to_owned()));
        let told: BTreeSet<String> = page.lines().filter_map(row).collect();
        assert_eq!(known, told);
    }

    #[test]
    fn a_name_that_is_alike_is_offered_and_any_other_is_not() {
        let of = |known: &[&str]| {
            let it = NotExplained::new(Unexplained::UnknownPod, "no such pod".into());
            it.meant("pear-1x", known.iter().copied())
        };
        assert_eq!(of(&["plum", "pear-12"]).error, "no such pod; did you mean \"pear-12\"?");
        assert_eq!((of(&["plum"]).meant, of(&["plum"]).error), (None, "no such pod".to_owned()));
    }

    #[test]
    fn a_reason_of_a_newer_controller_is_read_as_one_to_ask_again_for() {
        let read: NotExplained =
            serde_json::from_str(r#"{"version": 9, "reason": "Tired", "error": "later"}"#).unwrap();
        assert_eq!((read.reason, read.error.as_str()), (Unexplained::Busy, "later"));
    }
}
