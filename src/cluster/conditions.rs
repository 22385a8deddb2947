//! The conditions of a status: what holds, what fails, and what is behind a Service that nobody else would tell.

use std::borrow::Cow;

use kubervisor_core::gates::Gate;

use super::facts::Facts;
use super::snapshot::ServiceView;
use crate::api::{Condition, State, stamp};

/// Characters of a condition's message.
const MESSAGE_MAX: usize = 1_024;
/// Percent of the pods that must be out for an autoscaler to be misled by as much as it tolerates and more: its own
/// tolerance is 10.
const DILUTED_PERCENT: u64 = 20;

/// All of them, each from the first status on; what has not turned keeps its time.
pub(super) fn conditions(facts: &Facts<'_>, former: &[Condition]) -> Vec<Condition> {
    let state = facts.state();
    let ready = state == State::Running && facts.failing.is_empty();
    let reason = match state {
        State::Running => "SourceFailed",
        State::Held => facts.gates().first().map_or("Held", Gate::as_str),
        _ => state.as_str(),
    };
    let failing: Vec<_> = facts.failing.iter().map(|(b, e)| format!("{b}: {e}")).collect();
    let gates: Vec<_> = facts.gates().iter().map(ToString::to_string).collect();
    let first = facts.gates().first().map_or("Free", Gate::as_str);
    let activated = facts.service == (ServiceView::Usable { activated: true });
    let fault = facts.service.fault();
    let running = if facts.evaluating() { "Evaluating" } else { state.as_str() };
    let floor = facts.report.is_some_and(|r| r.floor_reached);
    let budget = facts.report.map(|r| r.budget.to_string()).unwrap_or_default();
    let inert = facts.report.and_then(|r| r.inert.clone());
    let labels = match facts.unlabelled {
        0 => "every member carries the label".to_owned(),
        n => format!("{n} members lack the label kubervisor/traffic, or it is none of yes, no and pause"),
    };
    let rows = [
        ("Running", facts.evaluating(), running, String::new()),
        ("InitFailed", !facts.errors.is_empty(), "Spec", facts.errors.join("; ")),
        ("ServiceNotAvailable", fault.is_some(), "Service", fault.unwrap_or_default().to_owned()),
        ("Failed", !failing.is_empty(), "Source", failing.join("; ")),
        ("Ready", ready, if ready { "Evaluating" } else { reason }, facts.notes.join("; ")),
        (
            "Activated",
            activated,
            if activated { "SelectorHoldsKey" } else { "SelectorLacksKey" },
            facts.key_waits.unwrap_or_default().to_owned(),
        ),
        ("LabelsComplete", fault.is_none() && facts.unlabelled == 0, "Labels", labels),
        ("Held", !gates.is_empty(), first, gates.join("; ")),
        ("FloorReached", floor, "Floor", if floor { budget } else { String::new() }),
        ("Inert", inert.is_some(), "Budget", inert.unwrap_or_default()),
    ];
    let mut conditions: Vec<_> = rows.into_iter().map(|row| condition(row, facts, former)).collect();
    conditions.push(template_label(facts, former));
    conditions.push(condition(diluted(facts), facts, former));
    let contested = facts.key_contested.unwrap_or_default().to_owned();
    conditions.push(condition(
        ("SelectorContested", !contested.is_empty(), "Selector", contested),
        facts,
        former,
    ));
    conditions
}

type Row = (&'static str, bool, &'static str, String);

fn condition((type_, on, reason, message): Row, facts: &Facts<'_>, former: &[Condition]) -> Condition {
    told(type_, if on { "True" } else { "False" }, (reason, message), facts, former)
}

fn told(
    type_: &'static str,
    status: &'static str,
    (reason, message): (&'static str, String),
    facts: &Facts<'_>,
    former: &[Condition],
) -> Condition {
    let same = former.iter().find(|c| c.type_ == type_ && c.status == status);
    let since = same.and_then(|c| c.last_transition_time.clone());
    Condition {
        type_: Cow::Borrowed(type_),
        status: Cow::Borrowed(status),
        reason: Some(Cow::Borrowed(reason)),
        message: Some(message.chars().take(MESSAGE_MAX).collect()),
        last_transition_time: Some(since.unwrap_or_else(|| stamp(facts.now))),
        last_probe_time: None,
        observed_generation: facts.generation,
    }
}

/// Unknown before anybody has looked: a template is not in order for want of a right to read it.
fn template_label(facts: &Facts<'_>, former: &[Condition]) -> Condition {
    let Some(looked) = facts.looked else {
        let text = "the workloads behind the Service have not been looked at";
        return told("TemplateLabelMissing", "Unknown", ("Template", text.to_owned()), facts, former);
    };
    let text = match looked.unlabelled.as_slice() {
        [] => String::new(),
        names => format!(
            "the pod template of {} lacks the label kubervisor/traffic: \"yes\": pods born while the controller is away \
             get no traffic from a Service that holds the key, unless the chart's admission.labelPods labels them",
            names.join(", ")
        ),
    };
    condition(("TemplateLabelMissing", !text.is_empty(), "Template", text), facts, former)
}

/// An autoscaler averages over pods that are cut too: it sees less load than those that serve bear.
fn diluted(facts: &Facts<'_>) -> Row {
    let autoscalers = facts.looked.map(|looked| looked.autoscalers.join(", ")).unwrap_or_default();
    let (out, of) = facts.report.map_or((0, 0), |r| (r.budget.out, r.members));
    let on = !autoscalers.is_empty() && out > 0 && u64::from(out) * 100 >= u64::from(of) * DILUTED_PERCENT;
    let text = on.then(|| {
        format!(
            "{out} of {of} pods are out, and HorizontalPodAutoscaler {autoscalers} counts them: it sees less load than \
             the serving pods bear"
        )
    });
    ("HpaDiluted", on, "Autoscaler", text.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::KubervisorServiceStatus;
    use crate::cluster::status::compose;
    use crate::cluster::testing::{facts, status_of};
    use crate::cluster::workloads::Looked;

    fn with(looked: &Looked, out: u32) -> KubervisorServiceStatus {
        let mut report = crate::cluster::testing::report();
        (report.members, report.budget.out) = (10, out);
        let facts = Facts { looked: Some(looked), report: Some(&report), ..facts(&[], &[]) };
        compose(&facts, &KubervisorServiceStatus::default())
    }

    #[test]
    fn every_condition_stands_on_the_page_about_operating() {
        let status = compose(&facts(&[], &[]), &KubervisorServiceStatus::default());
        let page = include_str!("../../docs/operating.md");
        let lacks = |c: &&Condition| !page.contains(&format!("\n| `{}` |", c.type_));
        let lacking: Vec<_> = status.conditions.iter().filter(lacks).map(|c| &c.type_).collect();
        assert!(status.conditions.len() >= 12 && lacking.is_empty(), "{lacking:?}");
    }

    #[test]
    fn a_template_without_the_label_is_told_by_name_and_one_that_nobody_has_read_is_unknown() {
        let status = compose(&facts(&[], &[]), &KubervisorServiceStatus::default());
        assert_eq!(status_of(&status, "TemplateLabelMissing"), "Unknown");
        let bare = Looked { unlabelled: vec!["Deployment mill".into()], ..Looked::default() };
        let status = with(&bare, 0);
        let told = status.conditions.iter().find(|c| c.type_ == "TemplateLabelMissing").unwrap();
        assert_eq!(told.status, "True");
        assert!(told.message.as_ref().unwrap().contains("Deployment mill"));
        assert_eq!(status_of(&with(&Looked::default(), 0), "TemplateLabelMissing"), "False");
    }

    #[test]
    fn an_autoscaler_over_a_fleet_of_which_a_fifth_is_out_is_diluted() {
        let scaled = Looked { autoscalers: vec!["more".into()], ..Looked::default() };
        let told = |looked, out| status_of(&with(looked, out), "HpaDiluted") == "True";
        assert_eq!([0, 1, 2, 5].map(|out| told(&scaled, out)), [false, false, true, true]);
        assert!(!told(&Looked::default(), 5));
    }

    #[test]
    fn every_condition_is_there_from_the_first_write_on() {
        let status = compose(&facts(&[], &[]), &KubervisorServiceStatus::default());
        let types: Vec<_> = status.conditions.iter().map(|c| &*c.type_).collect();
        let original = ["Running", "InitFailed", "ServiceNotAvailable", "Failed"];
        assert_eq!(types[..4], original);
        assert_eq!((status_of(&status, "Ready"), status_of(&status, "InitFailed")), ("True", "False"));
    }

    #[test]
    fn a_failing_source_is_told_and_is_not_ready() {
        let failing = [("errors".to_owned(), "no answer".to_owned())];
        let status = compose(&facts(&[], &failing), &KubervisorServiceStatus::default());
        assert_eq!((status_of(&status, "Failed"), status_of(&status, "Ready")), ("True", "False"));
    }

    #[test]
    fn a_condition_keeps_its_time_until_it_turns() {
        let first = compose(&facts(&[], &[]), &KubervisorServiceStatus::default());
        let later = Facts { now: jiff::Timestamp::from_second(1_700_000_060).unwrap(), ..facts(&[], &[]) };
        assert_eq!(compose(&later, &first).conditions, first.conditions);
    }
}
