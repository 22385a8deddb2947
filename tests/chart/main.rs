//! The chart as helm renders it: compared with files, and refused where a value is wrong.
//!
//! With `KUBERVISOR_GENERATE=1` (as `make chart` has it) the files are written instead.
#![allow(missing_docs, clippy::panic, clippy::unwrap_used, reason = "a test ends this way")]

#[path = "../generated/mod.rs"]
mod generated;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use clap::Parser;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kubervisor::args::Cli;
use localcluster::tools::{self, Tool};
use serde_json::{Value, json};

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn helm(args: &[&str]) -> Output {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(tools::ensure(Tool::Helm).unwrap());
    for name in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        command.env(name, home.path());
    }
    command.current_dir(here().join("charts")).args(args).output().unwrap()
}

fn rendered(args: &[&str]) -> Result<String, String> {
    // As a server of 1.36 says what it serves.
    let served = ["MutatingAdmissionPolicy", "ValidatingAdmissionPolicy"]
        .map(|kind| format!("--api-versions=admissionregistration.k8s.io/v1/{kind}"));
    let base = ["template", "kubervisor", "kubervisor", "--namespace=kubervisor", &served[0], &served[1]];
    let all = [&base, args].concat();
    let output = helm(&all);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

fn objects(text: &str) -> Vec<Value> {
    let documents = serde_yaml_ng::Deserializer::from_str(text);
    documents.map(|document| <Value as serde::Deserialize>::deserialize(document).unwrap()).collect()
}

fn one(objects: &[Value], kind: &str) -> Value {
    let mut found = objects.iter().filter(|object| object["kind"] == kind);
    let one = found.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(found.next().is_none(), "two of {kind}");
    one.clone()
}

/// Everything but the definition, which is compared for itself.
fn is_as_in(file: &str, args: &[&str]) {
    let text = rendered(&[&["--set=crds.install=false"], args].concat()).unwrap();
    generated::generated(&here(), &format!("tests/chart/{file}"), &text, "make chart");
}

#[test]
fn it_renders_as_it_did_with_no_value_set() {
    is_as_in("default.yaml", &[]);
}

#[test]
fn it_renders_as_it_did_for_some_namespaces() {
    is_as_in(
        "namespaces.yaml",
        &[
            "--set=scope.namespaces={shop,meadow,shop}",
            "--set=rbac.patchServices=false",
            "--set=prometheus.url=http://p:9090,prometheus.basicAuthSecret.name=p,prometheus.basicAuthSecret.key=login",
        ],
    );
}

#[test]
fn it_renders_as_it_did_with_everything_on() {
    let values = here().join("tests/chart/everything.values.yaml");
    is_as_in("everything.yaml", &[&format!("--values={}", values.display())]);
}

/// Without a tag its version is that of the image.
#[test]
fn the_chart_is_of_the_version_of_the_program() {
    let text = std::fs::read_to_string(here().join("charts/kubervisor/Chart.yaml")).unwrap();
    let chart: Value = serde_yaml_ng::from_str(&text).unwrap();
    let own = env!("CARGO_PKG_VERSION");
    assert_eq!([&chart["version"], &chart["appVersion"]], [own, own]);
}

#[test]
fn helm_finds_no_fault() {
    let output = helm(&["lint", "--strict", "kubervisor"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn the_definition_is_upgraded_with_the_chart_and_stays_when_the_release_goes() {
    let mut shipped = one(&objects(&rendered(&[]).unwrap()), "CustomResourceDefinition");
    let metadata = shipped["metadata"].as_object_mut().unwrap();
    assert!(metadata.remove("labels").is_some());
    let annotations = metadata["annotations"].as_object_mut().unwrap();
    assert_eq!(annotations.remove("helm.sh/resource-policy"), Some("keep".into()));
    let shipped: CustomResourceDefinition = serde_json::from_value(shipped).unwrap();
    assert!(shipped == kubervisor::api::crd(), "helm changes it");
}

#[test]
fn a_wrong_value_is_refused_by_its_name() {
    for (value, named) in [
        ("replicas=-1", "/replicas"),
        ("image.pullPolicy=Sometimes", "/image/pullPolicy"),
        ("image.digest=sha256:12", "/image/digest"),
        ("lease.duration=15", "/lease/duration"),
        ("hooks.release.keepLease=soon", "/hooks/release/keepLease"),
        // The program takes 3s to 10m: the controller would not start, and nothing could be uninstalled.
        ("lease.duration=2s", "/lease/duration"),
        ("hooks.release.keepLease=1h", "/hooks/release/keepLease"),
        ("hooks.release.keepLease=11m", "/hooks/release/keepLease"),
        ("lease.duration=2m31s", "activeDeadlineSeconds must be 281 at least"),
        ("scope.namespaces={Shop}", "/scope/namespaces/0"),
        ("scope.namespace=shop", "'namespace' not allowed"),
        ("prometheus.caSecret.name=ca", "/prometheus/caSecret"),
        ("prometheus.caSecret.name=,prometheus.caSecret.key=", "/prometheus/caSecret"),
        ("prometheus.enforceNamespace=true", "prometheus.enforceNamespace says how prometheus.url is asked"),
        ("prometheus.url=p:9090,prometheus.insecureSkipVerify=true", "prometheus.url is no https:// URL"),
        (
            "prometheus.url=p:9090,prometheus.bearerTokenSecret.name=p,prometheus.bearerTokenSecret.key=t,\
             prometheus.basicAuthSecret.name=p,prometheus.basicAuthSecret.key=l",
            "leave one of them out",
        ),
        ("podDisruptionBudget.maxUnavailable=all", "/podDisruptionBudget/maxUnavailable"),
        ("maxCutsPerMinute=some", "/maxCutsPerMinute"),
        (r"maxCutsPerMinute=5\,101%", "/maxCutsPerMinute"),
        ("serviceAccount.create=false", "serviceAccount.name is needed"),
        ("serviceAccount.name=a' || 'b", "/serviceAccount/name"),
        ("fullnameOverride=Kube_Visor", "/fullnameOverride"),
        ("prometheus.url=http://p:9090 #", "/prometheus/url"),
        // The program would take what is behind a comma for another header.
        (r"prometheus.headers.X-Scope-OrgID=shop\,meadow", "/prometheus/headers/X-Scope-OrgID"),
        // The fence compares with the Lease of the release, and would refuse every write of whoever holds another or none.
        ("extraArgs={--leader-elect=false}", "/extraArgs/0"),
        ("extraArgs={--lease-name,mine}", "/extraArgs/0"),
        ("extraEnv[0].name=KUBERVISOR_LEADER_ELECT", "/extraEnv/0"),
    ] {
        let refused = rendered(&[&format!("--set={value}")]).unwrap_err();
        assert!(refused.contains(named), "{value}: {refused}");
    }
}

#[test]
fn a_value_with_signs_of_yaml_reaches_the_program_as_it_is() {
    let values =
        ["--set=prometheus.headers.X-Team=shop: meadow #1", "--set=prometheus.url=http://p:9090/a#b"];
    let args =
        one(&objects(&rendered(&values).unwrap()), "Deployment")["spec"]["template"]["spec"]["containers"][0]
            ["args"]
            .clone();
    for word in ["--prometheus-header=X-Team=shop: meadow #1", "--prometheus-url=http://p:9090/a#b"] {
        assert!(args.as_array().unwrap().contains(&word.into()), "{args}");
    }
}

/// Who applies what `helm template` gives is not told that another release has an object: it is changed in silence.
#[test]
fn releases_of_one_name_in_two_namespaces_share_nothing_but_the_definition() {
    for scope in ["--set=replicas=2", "--set=scope.namespaces={shop}"] {
        let of = |namespace: &str| {
            let place = format!("--namespace={namespace}");
            let all = objects(&rendered(&["--set=crds.install=false", &place, scope]).unwrap());
            let key = |object: &Value| {
                let meta = &object["metadata"];
                format!("{} {}/{}", object["kind"], meta["namespace"], meta["name"])
            };
            // There two releases may not meet.
            let outside = |key: &String| !key.contains("\"shop\"/");
            all.iter().filter(|object| object.is_object()).map(key).filter(outside).collect::<BTreeSet<_>>()
        };
        let (one, other) = (of("one"), of("other"));
        assert!(one.len() > 10, "{one:?}");
        assert_eq!(one.intersection(&other).collect::<Vec<_>>(), Vec::<&String>::new());
    }
}

/// What the Deployment runs, the program knows; and a wrong flag would only be seen in production.
#[test]
fn the_program_takes_every_flag_that_the_chart_gives_it() {
    let everything = format!("--values={}", here().join("tests/chart/everything.values.yaml").display());
    for (values, least) in [("--set=replicas=2", 12), (&everything, 26)] {
        let all = objects(&rendered(&[values]).unwrap());
        let words = |kind| {
            let words = one(&all, kind)["spec"]["template"]["spec"]["containers"][0]["args"].clone();
            serde_json::from_value::<Vec<String>>(words).unwrap()
        };
        let (run, release) = (words("Deployment"), words("Job"));
        assert!(run.len() + release.len() >= least, "{run:?} {release:?}");
        for words in [run, release] {
            let read = Cli::try_parse_from([vec!["kubervisor".to_owned()], words].concat());
            assert!(read.is_ok(), "{}", read.unwrap_err());
        }
    }
}

#[test]
fn a_chart_that_this_one_is_part_of_may_switch_it_on_and_have_globals() {
    rendered(&["--set=enabled=true,global.region=orchard"]).unwrap();
}

#[test]
fn a_namespace_whose_name_is_a_number_stays_a_name() {
    let all = rendered(&["--namespace=2026", "--set-string=scope.namespaces={1e3}"]).unwrap();
    for object in objects(&all).iter().filter(|object| object.is_object()) {
        let namespace = &object["metadata"]["namespace"];
        assert!(namespace.is_null() || namespace.is_string(), "{object}");
    }
}

/// Whether what a selector says is so of these labels.
fn selects(selector: &Value, labels: &Value) -> bool {
    let equal = |(key, value): (&String, &Value)| labels[key] == *value;
    let within = |one: &Value| {
        assert_eq!(one["operator"], "In");
        one["values"].as_array().unwrap().contains(&labels[one["key"].as_str().unwrap()])
    };
    selector["matchLabels"].as_object().is_none_or(|all| all.iter().all(equal))
        && selector["matchExpressions"].as_array().is_none_or(|all| all.iter().all(within))
}

/// Where a namespace closes all ways out, a Job that does not reach the API server would hold up every uninstallation.
#[test]
fn the_network_policy_is_for_the_pods_of_the_release_job_too_and_nothing_else_is() {
    let all = objects(&rendered(&["--set=networkPolicy.enabled=true,nameOverride=pears"]).unwrap());
    let labels = |kind| one(&all, kind)["spec"]["template"]["metadata"]["labels"].clone();
    let (controller, job) = (labels("Deployment"), labels("Job"));
    for (kind, field, is_for_the_job) in [
        ("NetworkPolicy", "podSelector", true),
        ("PodDisruptionBudget", "selector", false),
        ("Deployment", "selector", false),
    ] {
        let selector = one(&all, kind)["spec"][field].clone();
        assert!(selects(&selector, &controller), "{kind}: {selector}");
        assert_eq!(selects(&selector, &job), is_for_the_job, "{kind}: {selector}");
    }
    let service = json!({"matchLabels": one(&all, "Service")["spec"]["selector"]});
    assert!(selects(&service, &controller) && !selects(&service, &job), "{service}");
}

/// Reads `expr` as Prometheus would and looks for its metrics in the reference.
///
/// # Panics
/// When it is no PromQL, looks at nothing, or at a metric that the program does not have.
fn is_promql_over_our_metrics(name: &str, expr: &str) {
    let reference = std::fs::read_to_string(here().join("docs/reference/metrics.md")).unwrap();
    // Grafana puts in a duration.
    let expr = expr.replace("$__rate_interval", "1m");
    promql_parser::parser::parse(&expr).unwrap_or_else(|error| panic!("{name}: {error}"));
    let words = expr.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let metrics: Vec<_> = words.filter(|word| word.starts_with("kubervisor_")).collect();
    assert!(!metrics.is_empty(), "{name} looks at nothing");
    for metric in metrics {
        let metric = metric.strip_suffix("_bucket").unwrap_or(metric);
        assert!(reference.contains(&format!("`{metric}`")), "{name}: there is no metric {metric}");
    }
}

#[test]
fn every_alert_is_promql_over_metrics_that_exist() {
    let all = rendered(&["--set=prometheusRule.enabled=true"]).unwrap();
    let rules = one(&objects(&all), "PrometheusRule")["spec"]["groups"][0]["rules"].clone();
    let guide = std::fs::read_to_string(here().join("docs/operating.md")).unwrap();
    assert!(rules.as_array().unwrap().len() >= 9);
    for rule in rules.as_array().unwrap() {
        let (name, expr) = (rule["alert"].as_str().unwrap(), rule["expr"].as_str().unwrap());
        is_promql_over_our_metrics(name, expr);
        assert!(
            guide.contains(&format!("`{name}`")),
            "docs/operating.md does not say what to do about {name}"
        );
    }
}

/// Two releases in one Prometheus have two leaders, and neither must hide that the other has none.
#[test]
fn whether_anybody_leads_is_asked_of_the_own_release_where_its_series_are_told_apart() {
    let expr = |value: &str| {
        let all = rendered(&["--set=prometheusRule.enabled=true", value]).unwrap();
        let rules = one(&objects(&all), "PrometheusRule")["spec"]["groups"][0]["rules"].clone();
        rules[0]["expr"].as_str().unwrap().to_owned()
    };
    let own = r#"kubervisor_leader{namespace="kubervisor",service="kubervisor"}"#;
    assert_eq!(expr("--set=serviceMonitor.enabled=true"), format!("sum({own}) != 1 or absent({own})"));
    assert_eq!(expr("--set=replicas=2"), "sum(kubervisor_leader) != 1 or absent(kubervisor_leader)");
}

fn dashboard() -> Value {
    let text = std::fs::read_to_string(here().join("charts/kubervisor/files/dashboard.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn every_panel_of_the_dashboard_is_promql_over_metrics_that_exist_and_says_what_it_shows() {
    let dashboard = dashboard();
    let variables: Vec<_> = dashboard["templating"]["list"].as_array().unwrap().iter().collect();
    let known = |name: &str| name.starts_with("__") || variables.iter().any(|v| v["name"] == name);
    let panels: Vec<_> =
        dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row").collect();
    assert!(panels.len() >= 20);
    let mut exprs = vec![("the annotation", dashboard["annotations"]["list"][0]["expr"].as_str().unwrap())];
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        assert!(panel["description"].as_str().is_some_and(|text| text.ends_with('.')), "{title}");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        let targets = panel["targets"].as_array().unwrap();
        exprs.extend(targets.iter().map(|target| (title, target["expr"].as_str().unwrap())));
    }
    for (title, expr) in &exprs {
        is_promql_over_our_metrics(title, expr);
        for name in expr.split('$').skip(1) {
            let name = name.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap();
            assert!(known(name), "{title}: no variable {name}");
        }
    }
    for variable in variables.iter().filter(|variable| variable["type"] == "query") {
        let query = variable["definition"].as_str().unwrap();
        let series = query.strip_prefix("label_values(").unwrap().rsplit_once(',').unwrap().0;
        is_promql_over_our_metrics(query, series);
    }
}

/// The panels must see what the labels of the series are: `by` of one that no metric has joins everything.
#[test]
fn the_dashboard_groups_by_labels_that_its_metrics_have() {
    let reference = std::fs::read_to_string(here().join("docs/reference/metrics.md")).unwrap();
    let labels = |metric: &str| {
        let row = reference.lines().find(|line| line.starts_with(&format!("| `{metric}` |"))).unwrap();
        row.split(" | ").nth(1).unwrap().replace(' ', "")
    };
    let text = dashboard()["panels"].to_string();
    let mut groups = 0;
    for piece in text.split(" by (").skip(1) {
        let (by, rest) = piece.split_once(')').unwrap();
        let metric = rest.split_once("kubervisor_").unwrap().1;
        let metric = metric.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap();
        let metric = format!("kubervisor_{}", metric.strip_suffix("_bucket").unwrap_or(metric));
        let has = format!("{},le,instance", labels(&metric));
        for label in by.split(", ") {
            assert!(has.split(',').any(|known| known == label), "{metric} has no label {label}, but {has}");
            groups += 1;
        }
    }
    assert!(groups > 30, "only {groups} labels were found");
}

#[test]
fn the_dashboard_comes_as_a_config_map_that_the_sidecar_of_grafana_finds() {
    let all = rendered(&["--set=dashboard.enabled=true", "--set=dashboard.annotations.grafana_folder=Pears"]);
    let map = one(&objects(&all.unwrap()), "ConfigMap");
    assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "1");
    assert_eq!(map["metadata"]["annotations"]["grafana_folder"], "Pears");
    let shipped: Value = serde_json::from_str(map["data"]["kubervisor.json"].as_str().unwrap()).unwrap();
    assert_eq!(shipped, dashboard());
    assert!(!rendered(&[]).unwrap().contains("kind: ConfigMap"));
}
