//! Conditions about what is behind a Service: nothing is held for them, and nobody else would tell.

use super::status::{Facts, Row, condition, told};
use crate::api::Condition;

/// Percent of the pods that must be out for an autoscaler to be misled by as much as it tolerates and more: its own
/// tolerance is 10.
const DILUTED_PERCENT: u64 = 20;

/// Unknown before anybody has looked: a template is not in order for want of a right to read it.
pub(super) fn template_label(facts: &Facts<'_>, former: &[Condition]) -> Condition {
    let Some(looked) = facts.looked else {
        let text = "the workloads behind the Service have not been looked at";
        return told("TemplateLabelMissing", "Unknown", ("Template", text.to_owned()), facts, former);
    };
    let text = match looked.unlabelled.as_slice() {
        [] => String::new(),
        names => format!(
            "the pod template of {} lacks the label kubervisor/traffic: \"yes\": pods born while the controller is away \
             get no traffic from a Service that holds the key",
            names.join(", ")
        ),
    };
    condition(("TemplateLabelMissing", !text.is_empty(), "Template", text), facts, former)
}

/// An autoscaler averages over pods that are cut too: it sees less load than those that serve bear.
pub(super) fn diluted(facts: &Facts<'_>) -> Row {
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
    use super::super::status::compose;
    use super::super::status::tests::{facts, status_of};
    use super::super::workloads::Looked;
    use super::*;
    use crate::api::KubervisorServiceStatus;

    fn with(looked: &Looked, out: u32) -> KubervisorServiceStatus {
        let mut report = crate::cluster::testing::report();
        (report.members, report.budget.out) = (10, out);
        let facts = Facts { looked: Some(looked), report: Some(&report), ..facts(&[], &[]) };
        compose(&facts, &KubervisorServiceStatus::default())
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
}
