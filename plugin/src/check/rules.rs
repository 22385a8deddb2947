//! The rules: their names, how bad it is to break one, why, and what to do. `docs/reference/check.md` has the same table.

use serde::Serialize;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It is refused, or does not do what it says.
    Error,
    /// It works, and will surprise.
    Warning,
}

impl Severity {
    /// As it is printed.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One row of the table.
#[derive(Debug)]
pub struct Row {
    /// Which.
    pub rule: Rule,
    /// In kebab-case.
    pub name: &'static str,
    /// Of every finding of this rule.
    pub severity: Severity,
    /// What is found, and what comes of it.
    pub finds: &'static str,
    /// What to do, where a finding has nothing more exact.
    pub cure: &'static str,
}

macro_rules! rules {
    ($($rule:ident $name:literal $severity:ident $finds:literal $cure:literal)*) => {
        /// What is looked for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Rule {
            $(#[doc = $finds] $rule,)*
        }

        /// Every rule, in the order of the enum.
        pub const RULES: &[Row] = &[
            $(Row { rule: Rule::$rule, name: $name, severity: Severity::$severity, finds: $finds, cure: $cure },)*
        ];
    };
}

impl Rule {
    /// Its row.
    #[must_use]
    pub fn row(self) -> &'static Row {
        &RULES[self as usize]
    }
}

rules! {
    Unreadable "unreadable" Error
        "A file cannot be read, or a document is no YAML or JSON."
        "mend the file; a template must be rendered first: `helm template … | kubectl kubervisor check -f -`"
    Empty "empty" Error
        "A file, a folder or standard input holds no document: nothing was checked."
        "name files that hold manifests, or folders with .yaml, .yml or .json files"
    NoObject "no-object" Error
        "A document has no apiVersion, kind or metadata.name, so it is no Kubernetes object. In a folder such documents are only counted."
        "give the document apiVersion, kind and metadata.name, or leave the file out"
    UnquotedYes "unquoted-yes" Error
        "kubectl reads `yes`, `no`, `on`, `off`, `y` and `n` without quotes as truth values, and the API server refuses them where a text is wanted: in kubervisor/traffic, or in a KubervisorService."
        "write it with quotes: kubervisor/traffic: \"yes\""
    UnknownKind "unknown-kind" Error
        "The group kubervisor.k8s.io has no such kind or version."
        "write apiVersion: kubervisor.k8s.io/v1alpha1 and kind: KubervisorService"
    Schema "schema" Error
        "The API server refuses it by the schema or by a rule of the definition."
        "write it as docs/reference/kubervisorservice.md says"
    UnknownField "unknown-field" Error
        "No such field. The API server drops it without a word unless it is asked to be strict (as kubectl asks), and a default holds in its place."
        "take the field out"
    Refused "refused" Error
        "The controller refuses it (InitFailed): nothing is cut."
        "write what the sentence says"
    Noted "noted" Warning
        "The controller takes it otherwise than it is written."
        "write it as it will be taken, or in plain PromQL"
    NoPrometheus "no-prometheus" Warning
        "A detector names no Prometheus, and it is not known whether the controller has one of its own."
        "give --prometheus-url as the controller has it, or write prometheusService"
    Inert "inert" Error
        "With so many pods nothing can ever be cut."
        "lower the floor, raise the limit, or run more pods"
    NotAVector "not-a-vector" Error
        "The query gives a number, a text or ranges instead of one value for each series: the answer is refused."
        "ask for an instant vector: one series for each pod"
    NoPodLabel "no-pod-label" Error
        "No series of the result can carry the label of podNamekey, so no pod gets a verdict."
        "keep the label in every aggregation and on both sides of every operator, such as sum by (namespace, pod) (…)"
    NoKeyLabel "no-key-label" Error
        "No series of the result can carry the label of `key`: its value is never in a list."
        "keep the label in every aggregation, such as sum by (code, namespace, pod) (…)"
    NamespaceMissing "namespace-missing" Warning
        "The result carries no namespace and not every selector asks for one: pods of one name in two namespaces become one."
        "aggregate by the namespace too, or select it: {namespace=\"…\"}"
    OtherNamespace "other-namespace" Error
        "Every selector asks for series of another namespace than the KubervisorService's: none is of its pods."
        "select the namespace of the pods"
    RangeTooShort "range-too-short" Warning
        "A range shorter than four scrapes: rate and its like need two samples, and one late or lost scrape leaves too few, so pods are unknown."
        "make the range four scrapeIntervals or more, or write the scrapeInterval that you have"
    DivisionWithoutVolume "division-without-volume" Warning
        "A ratio of counts without a guard on their number: one error of one request is 100 %, so quiet pods look worst."
        "give activityPromQL and minActivity"
    GoodAndBadOverlap "good-and-bad-overlap" Warning
        "A value is in goodValues and in badValues: it counts as bad."
        "leave it in one list"
    FloorOfOne "floor-of-one" Warning
        "No breaker sets minPodsAvailableCount or minPodsAvailableRatio: the floor is one pod, whatever the fleet's size."
        "say how many pods the load needs: minPodsAvailableRatio: 50"
    SamePods "same-pods" Error
        "Two KubervisorServices name one Service, or Services over one workload (Conflict): both hold everything but returns."
        "make them breakers of one KubervisorService"
    KeyInWorkloadSelector "key-in-workload-selector" Error
        "A workload's own selector holds kubervisor/traffic: a pod that is cut leaves its workload and is replaced at once."
        "take the key out of spec.selector (the label stays in the template)"
    KeyInOtherSelector "key-in-other-selector" Warning
        "Something else selects pods by kubervisor/traffic, and a cut changes what it does."
        "select by the labels of the workload alone"
    TemplateLacksLabel "template-lacks-label" Warning
        "A workload behind a Service with the key makes pods without kubervisor/traffic: \"yes\": they get no traffic until the controller labels them, and none while it is away, unless the chart's admission.labelPods does it."
        "add kubervisor/traffic: \"yes\" to the labels of the pod template"
    KeyWithoutOwner "key-without-owner" Warning
        "A Service's selector holds kubervisor/traffic and no KubervisorService here names it: pods without the label are dark."
        "add the KubervisorService, or take the key out of the selector"
    GoverningService "governing-service" Error
        "The Service gives the pods of a StatefulSet their names: a cut takes a pod's DNS name away. The controller refuses it."
        "name another Service over the same pods, or set allowGoverningService: true"
    ServiceMissing "service-missing" Warning
        "The Service is not among those of its namespace here."
        "mend spec.service, or leave it where the Service comes from elsewhere"
    ServiceSelectsNothing "service-selects-nothing" Error
        "The Service selects no pods by a label of its own (ExternalName, no selector, or only the traffic key): ServiceNotAvailable."
        "name a Service that selects the pods of a workload"
    NotActivated "not-activated" Warning
        "The Service's selector does not hold kubervisor/traffic: cuts have no effect, so none is made."
        "once the condition LabelsComplete is true, add kubervisor/traffic: \"yes\" to the Service's selector"
    MetricsFollowTraffic "metrics-follow-traffic" Warning
        "A ServiceMonitor scrapes through a Service with the key: a pod that is cut is no longer scraped, and nothing tells when it is well."
        "scrape the pods themselves, with a PodMonitor"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kebab_case_and_used_once_and_each_rule_finds_its_row() {
        let names: std::collections::BTreeSet<_> = RULES.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), RULES.len());
        for row in RULES {
            assert!(row.name.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{}", row.name);
            assert_eq!(row.rule.row().name, row.name);
            assert!(row.finds.ends_with('.') && !row.cure.ends_with('.'), "{}", row.name);
        }
    }
}
