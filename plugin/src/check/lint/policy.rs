//! Rules over a KubervisorService and the Service that it names.

use kubervisor_core::detector::{Detector, Lists};
use kubervisor_core::policy::Mode;

use super::Seen;
use crate::check::finding::Finding;
use crate::check::rules::Rule;
use crate::check::validate::Policy;

/// Looks at one of them.
pub fn lint(policy: &Policy<'_>, seen: Seen<'_>, findings: &mut Vec<Finding>) {
    let found = |rule, reason: String| Finding::of(rule, policy.object, reason);
    if let Some(parsed) = &policy.parsed {
        let breakers = &parsed.policy.breakers;
        for breaker in breakers {
            let Detector::Discrete(rule) = &breaker.detector else { continue };
            let Lists::Both { good, bad } = &rule.lists else { continue };
            let both: Vec<_> = good.intersection(bad).map(|value| &**value).collect();
            if !both.is_empty() {
                let reason = format!("{} is good and bad, and counts as bad", both.join(", "));
                let at = format!("spec.breakers[{}].discreteValueOutOfList", breaker.name);
                findings.push(found(Rule::GoodAndBadOverlap, reason).at(at));
            }
        }
        if breakers.iter().all(|b| b.floor.count.is_none() && b.floor.percent.is_none()) {
            let reason = format!(
                "no breaker has minPodsAvailableCount or minPodsAvailableRatio: the floor is one pod, and only maxCutRatio \
                 ({} %) keeps more",
                parsed.policy.limits.max_cut_percent
            );
            findings.push(found(Rule::FloorOfOne, reason).at("spec.breakers"));
        }
    }
    if let Some(reason) = rival(policy, seen) {
        findings.push(found(Rule::SamePods, reason).at("spec.service"));
    }
    service(policy, seen, findings);
}

/// Another KubervisorService, of another name, that reaches the same pods.
fn rival(policy: &Policy<'_>, seen: Seen<'_>) -> Option<String> {
    let namespace = &policy.object.namespace;
    let other = |service: &str| {
        let others = seen.doors.policies(namespace, service).iter();
        others.map(|other| other.object).find(|other| other.name != policy.object.name)
    };
    if let Some(other) = other(&policy.service) {
        let (name, service) = (other.subject(), &policy.service);
        return Some(format!("{name} names Service {service} too: both hold everything but returns"));
    }
    let workloads = &seen.doors.named(namespace, &policy.service)?.behind;
    workloads.iter().find_map(|workload| {
        let (service, other) = seen.doors.before(workload).find_map(|door| {
            let name = &door.service.name;
            Some((name, other(name)?))
        })?;
        let (name, workload) = (other.subject(), workload.subject());
        Some(format!("{name} reaches the pods of {workload} too, by Service {service}: both hold everything but returns"))
    })
}

fn service(policy: &Policy<'_>, seen: Seen<'_>, findings: &mut Vec<Finding>) {
    let found = |rule, reason: String| Finding::of(rule, policy.object, reason).at("spec.service");
    let (name, namespace) = (&policy.service, &policy.object.namespace);
    let known: Vec<_> = seen.doors.near(namespace).map(|door| door.service.name.as_str()).collect();
    if known.is_empty() || name.is_empty() {
        return;
    }
    let Some(door) = seen.doors.named(namespace, name) else {
        let reason = format!(
            "no Service {name} among those of namespace {namespace} here: {}",
            known[..known.len().min(5)].join(", ")
        );
        let finding = found(Rule::ServiceMissing, reason);
        let meant = crate::check::schema::meant(name, known.into_iter());
        findings.push(match meant {
            Some(meant) => finding.cured_by(format!("did you mean {meant}?")),
            None => finding,
        });
        return;
    };
    let external = door.service.value.pointer("/spec/type").is_some_and(|kind| kind == "ExternalName");
    if external || door.selector.is_empty() {
        let reason = format!("Service {name} selects no pods by a label of its own");
        findings.push(found(Rule::ServiceSelectsNothing, reason));
        return;
    }
    let active = policy.parsed.as_ref().is_some_and(|parsed| parsed.policy.mode == Mode::Active);
    // Somebody else may add the key by then: `selectorManagement: Managed`.
    let managed = policy.object.value.pointer("/spec/selectorManagement").is_some_and(|who| who == "Managed");
    if active && !managed && !door.key {
        let reason =
            format!("the selector of Service {name} does not hold kubervisor/traffic, so nothing is cut");
        findings.push(found(Rule::NotActivated, reason));
    }
}

#[cfg(test)]
mod tests {
    use crate::check::testing::rules;

    const POLICY: &str = "
apiVersion: kubervisor.k8s.io/v1alpha1
kind: KubervisorService
metadata: {name: checkout, namespace: shop}
spec:
  service: checkout
  breakers:
  - {name: b, minPodsAvailableRatio: 50, customService: 'judge.shop:80/'}
";
    const SERVICE: &str = "
---
apiVersion: v1
kind: Service
metadata: {name: checkout, namespace: shop}
spec: {selector: {app: checkout, kubervisor/traffic: 'yes'}}
";

    #[test]
    fn a_good_pair_breaks_no_rule() {
        assert_eq!(rules(&format!("{POLICY}{SERVICE}")), [""; 0]);
        assert_eq!(rules(POLICY), [""; 0]);
    }

    #[test]
    fn good_and_bad_overlap() {
        let discrete = |bad: &str| {
            let detector = format!(
                "discreteValueOutOfList: {{promQL: x, prometheusService: 'p:1', key: k, goodValues: [a, b], badValues: [{bad}]}}"
            );
            rules(&POLICY.replace("customService: 'judge.shop:80/'", &detector))
        };
        assert_eq!(discrete("b, c"), ["good-and-bad-overlap"]);
        assert_eq!(discrete("c"), [""; 0]);
    }

    #[test]
    fn floor_of_one() {
        assert_eq!(rules(&POLICY.replace("minPodsAvailableRatio: 50, ", "")), ["floor-of-one"]);
        assert_eq!(rules(&POLICY.replace("Ratio: 50", "Count: 1")), [""; 0]);
    }

    #[test]
    fn same_pods() {
        let second = POLICY.replace("name: checkout,", "name: second,");
        assert_eq!(rules(&format!("{POLICY}---{second}")), ["same-pods"]);
        let elsewhere = second.replace("namespace: shop", "namespace: bank");
        assert_eq!(rules(&format!("{POLICY}---{elsewhere}")), [""; 0]);
        assert_eq!(
            rules(&format!("{POLICY}---{POLICY}")),
            [""; 0],
            "the later of one name replaces the former"
        );
    }

    #[test]
    fn service_missing() {
        let other =
            SERVICE.replace("name: checkout,", "name: checkuot,").replace(", kubervisor/traffic: 'yes'", "");
        assert_eq!(rules(&format!("{POLICY}{other}")), ["service-missing"]);
        let elsewhere = other.replace("namespace: shop", "namespace: bank");
        assert_eq!(rules(&format!("{POLICY}{elsewhere}")), [""; 0]);
    }

    #[test]
    fn service_selects_nothing() {
        let only_key = SERVICE.replace("app: checkout, ", "");
        assert_eq!(rules(&format!("{POLICY}{only_key}")), ["service-selects-nothing"]);
        let external = SERVICE.replace("spec: {", "spec: {type: ExternalName, ");
        assert_eq!(rules(&format!("{POLICY}{external}")), ["service-selects-nothing"]);
    }

    #[test]
    fn not_activated() {
        let open = SERVICE.replace(", kubervisor/traffic: 'yes'", "");
        assert_eq!(rules(&format!("{POLICY}{open}")), ["not-activated"]);
        let dry = POLICY.replace("service: checkout", "service: checkout\n  mode: DryRun");
        assert_eq!(rules(&format!("{dry}{open}")), [""; 0]);
    }
}
