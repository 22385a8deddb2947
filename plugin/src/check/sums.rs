//! What a policy allows with so many pods, by the controller's own sums.
//!
//! Takes a valid KubervisorService and a number of pods; gives the sums over a fleet that is all well, each with how it
//! came about, and a finding where nothing can be cut.

use kubervisor_core::budget::{Budget, floor, inert, large_enough, share_rounded_up};
use kubervisor_core::policy::{BreakerPolicy, CutsPerPeriod, FloorPolicy, Mode, ServicePolicy, share};
use serde::Serialize;

use super::finding::Finding;
use super::lint::Seen;
use super::object::Object;
use super::object::Subject;
use super::rules::Rule;
use super::validate::Policy;

/// A number of pods, and how it came about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sum {
    /// Pods. None: there is no such limit.
    pub pods: Option<u32>,
    /// In words.
    pub because: String,
}

/// The sums of one KubervisorService.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sums {
    /// Of which.
    #[serde(flatten)]
    pub subject: Subject,
    /// N.
    pub replicas: u32,
    /// Where N was taken from.
    pub from: String,
    /// Pods that must keep serving.
    pub floor: Sum,
    /// Most pods that are out at once.
    pub max_out: Sum,
    /// Most cuts within one window.
    pub max_cuts_per_period: Sum,
    /// Most pods that may be cut in all, while the others are well.
    pub can_be_cut: Sum,
    /// So many anomalous or cut at once, and nothing new is cut.
    pub storm: Sum,
    /// A breaker that sees fewer serving pods cuts nothing.
    pub coverage: Sum,
}

/// The sums of a policy, where the number of its pods is known.
pub fn sums(
    policy: &Policy<'_>,
    replicas: Option<u32>,
    seen: Seen<'_>,
    findings: &mut Vec<Finding>,
) -> Option<Sums> {
    let parsed = policy.parsed.as_ref()?;
    if parsed.policy.mode == Mode::Disabled {
        return None;
    }
    let (n, from) = match replicas {
        Some(n) => (n, "--replicas".to_owned()),
        None => written(policy, seen)?,
    };
    // What only shows decides by the same sums.
    let shown = parsed.policy.enforcing().next().is_none();
    let rules = if shown { parsed.policy.enforced() } else { parsed.policy.clone() };
    let why_inert = inert(&rules, n);
    if let Some(why) = &why_inert {
        let reason = format!("with {n} pods ({from}) nothing can be cut: {why}");
        findings.push(Finding::of(Rule::Inert, policy.object, reason));
    }
    Some(Sums {
        subject: policy.object.subject(),
        replicas: n,
        from,
        floor: Sum { pods: Some(floor(&rules, n)), because: floor_because(&rules, n) },
        max_out: max_out(&rules, n),
        max_cuts_per_period: max_cuts(&rules, n),
        can_be_cut: can_be_cut(&rules, n, why_inert),
        storm: storm(&rules, n),
        coverage: coverage(&rules, n),
    })
}

/// The replicas of the workloads behind the Service, where each of them says how many.
fn written(policy: &Policy<'_>, seen: Seen<'_>) -> Option<(u32, String)> {
    let workloads = &seen.doors.named(&policy.object.namespace, &policy.service)?.behind;
    let count = |workload: &&Object| {
        let replicas = workload.value.pointer("/spec/replicas").and_then(serde_json::Value::as_u64)?;
        u32::try_from(replicas).ok()
    };
    let counts: Option<Vec<u32>> = workloads.iter().map(count).collect();
    let n = counts?.into_iter().fold(0, u32::saturating_add);
    let names: Vec<_> = workloads.iter().map(|w| format!("{} {}", w.kind, w.name)).collect();
    (n > 0).then(|| (n, names.join(", ")))
}

/// Which breaker demands it, and by what.
fn floor_because(policy: &ServicePolicy, n: u32) -> String {
    let wanted = floor(policy, n);
    let alone = |breaker: &BreakerPolicy, floor_policy| {
        let breaker = BreakerPolicy { floor: floor_policy, ..breaker.clone() };
        floor(&ServicePolicy { breakers: vec![breaker], ..policy.clone() }, n) == wanted
    };
    let because = policy.enforcing().find_map(|breaker| {
        let FloorPolicy { count, percent } = breaker.floor;
        let name = &breaker.name;
        if count.is_some() && alone(breaker, FloorPolicy { count, percent: None }) {
            return Some(format!("minPodsAvailableCount (breaker {name})"));
        }
        let percent = percent.filter(|_| alone(breaker, FloorPolicy { count: None, percent }))?;
        Some(format!("minPodsAvailableRatio: {percent} % of {n}, rounded up (breaker {name})"))
    });
    because.unwrap_or_else(|| "the least that there is: no breaker asks for more".to_owned())
}

fn max_out(policy: &ServicePolicy, n: u32) -> Sum {
    let percent = policy.limits.max_cut_percent;
    Sum { pods: Some(share(n, percent)), because: format!("maxCutRatio: {percent} % of {n}, rounded down") }
}

fn max_cuts(policy: &ServicePolicy, n: u32) -> Sum {
    let window = humantime::format_duration(policy.cut_window());
    let because = match policy.limits.cuts_per_period {
        CutsPerPeriod::Count(_) => format!("maxCutsPerPeriod, within {window}"),
        CutsPerPeriod::Percent(percent) => {
            format!("maxCutsPerPeriod: {percent} % of {n}, rounded down, at least 1, within {window}")
        }
    };
    Sum { pods: Some(policy.limits.cuts_per_period.pods(n)), because }
}

fn can_be_cut(policy: &ServicePolicy, n: u32, inert: Option<String>) -> Sum {
    let budget = Budget {
        size: n,
        floor: floor(policy, n),
        serving: n,
        out: 0,
        max_out: share(n, policy.limits.max_cut_percent),
        recent_cuts: 0,
        // In time, one window after the other.
        max_recent_cuts: u32::MAX,
    };
    let (most, limit) = budget.headroom();
    if let Some(why) = inert {
        return Sum { pods: Some(0), because: why };
    }
    let small: Vec<_> = policy.enforcing().filter(|b| !large_enough(n, b)).map(|b| &*b.name).collect();
    let but = if small.is_empty() {
        String::new()
    } else {
        format!("; not by breaker {}: too few pods", small.join(", "))
    };
    Sum { pods: Some(most), because: format!("limited by {}{but}", limit.as_str()) }
}

fn storm(policy: &ServicePolicy, n: u32) -> Sum {
    let percent = policy.limits.max_anomalous_percent;
    // One pod is no storm.
    let first = share(n, percent).saturating_add(1).max(2);
    let pods = Some(first).filter(|first| *first <= n);
    let rule = format!("maxAnomalousRatio: more than {percent} % of {n}");
    Sum {
        pods,
        because: if pods.is_some() { format!("{rule}, and two at least") } else { format!("{rule}: never") },
    }
}

fn coverage(policy: &ServicePolicy, n: u32) -> Sum {
    let percent = policy.limits.min_coverage_percent;
    let pods = Some(share_rounded_up(n, percent)).filter(|pods| *pods > 0);
    Sum { pods, because: format!("minCoverageRatio: {percent} % of {n}, rounded up") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::checked;
    use crate::check::{Asked, Checked, check, read};

    const BAKERY: &str = "
apiVersion: kubervisor.k8s.io/v1alpha1
kind: KubervisorService
metadata: {name: bakery, namespace: market}
spec:
  service: bakery
  breakers:
  - {name: slow, minPodsAvailableCount: 2, customService: 'judge.market:80/'}
  - {name: oven, minPodsAvailableRatio: 67, customService: 'judge.market:80/'}
";
    const REST: &str = "
---
apiVersion: v1
kind: Service
metadata: {name: bakery, namespace: market}
spec: {selector: {app: bakery, kubervisor/traffic: 'yes'}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: bakery, namespace: market}
spec:
  replicas: 4
  selector: {matchLabels: {app: bakery}}
  template: {metadata: {labels: {app: bakery, kubervisor/traffic: 'yes'}}}
";

    fn of(yaml: &str, replicas: u32) -> Checked {
        check(
            read::read(&["-".into()], yaml.as_bytes(), "default"),
            &Asked { replicas: Some(replicas), ..Asked::default() },
        )
    }

    fn one(yaml: &str, replicas: u32) -> Sums {
        of(yaml, replicas).sums.remove(0)
    }

    #[test]
    fn each_sum_is_the_controllers_and_says_how_it_came_about() {
        let sums = one(BAKERY, 10);
        assert_eq!(
            (sums.floor.pods, sums.max_out.pods, sums.max_cuts_per_period.pods),
            (Some(7), Some(3), Some(1))
        );
        assert_eq!(sums.floor.because, "minPodsAvailableRatio: 67 % of 10, rounded up (breaker oven)");
        assert_eq!((sums.can_be_cut.pods, &*sums.can_be_cut.because), (Some(3), "limited by floor"));
        assert_eq!((sums.storm.pods, sums.coverage.pods), (Some(6), Some(6)));
        let small = one(BAKERY, 3);
        assert_eq!((small.floor.pods, small.can_be_cut.pods), (Some(3), Some(0)));
    }

    #[test]
    fn inert() {
        let found = of(BAKERY, 3);
        assert_eq!(found.findings.iter().map(|f| f.rule).collect::<Vec<_>>(), [Rule::Inert]);
        assert!(
            found.findings[0].reason.contains("N = 3, floor ceil(67 % of 3) = 3"),
            "{:?}",
            found.findings
        );
        assert_eq!(of(BAKERY, 10).findings, []);
        let shown = BAKERY.replace("service: bakery", "service: bakery\n  mode: DryRun");
        assert_eq!(of(&shown, 3).findings.len(), 1, "a dry run shows nothing either");
        let disabled = BAKERY.replace("service: bakery", "service: bakery\n  mode: Disabled");
        assert_eq!(of(&disabled, 3).findings, []);
    }

    #[test]
    fn a_policy_that_is_only_shown_breaker_by_breaker_is_summed_as_if_it_acted() {
        let shown = BAKERY.replace("- {name", "- {mode: DryRun, name");
        assert_eq!(one(&shown, 10).floor.pods, Some(7));
    }

    #[test]
    fn replicas_are_those_of_the_workloads_behind_the_service() {
        let sums = checked(&format!("{BAKERY}{REST}")).sums;
        assert_eq!((sums[0].replicas, &*sums[0].from), (4, "Deployment bakery"));
        let canary = REST
            .replace("name: bakery, namespace", "name: canary, namespace")
            .replace("replicas: 4", "replicas: 1");
        let canary = canary.split("---").last().unwrap();
        let both = checked(&format!("{BAKERY}{REST}---{canary}")).sums;
        assert_eq!((both[0].replicas, &*both[0].from), (5, "Deployment bakery, Deployment canary"));
    }

    #[test]
    fn where_a_workload_leaves_its_replicas_to_an_autoscaler_nothing_is_summed() {
        let scaled = REST.replace("replicas: 4", "minReadySeconds: 4");
        assert_eq!(checked(&format!("{BAKERY}{scaled}")).sums, []);
        assert_eq!(checked(BAKERY).sums, []);
    }

    #[test]
    fn limits_that_are_off_are_none() {
        let off = format!(
            "{BAKERY}  limits: {{maxAnomalousRatio: 100, minCoverageRatio: 0, maxCutsPerPeriod: 4}}\n"
        );
        let sums = one(&off, 10);
        assert_eq!(
            (sums.storm.pods, sums.coverage.pods, sums.max_cuts_per_period.pods),
            (None, None, Some(4))
        );
        assert!(sums.storm.because.ends_with("never"));
    }

    #[test]
    fn a_breaker_that_touches_no_fleet_so_small_is_named() {
        let two = BAKERY
            .replace("minPodsAvailableCount: 2", "minPodsAvailableCount: 1")
            .replace("Ratio: 67", "Ratio: 0");
        let two = format!("{two}  limits: {{maxCutRatio: 50}}\n");
        assert_eq!(one(&two, 2).can_be_cut.because, "limited by floor; not by breaker oven: too few pods");
    }
}
