//! The chart as helm renders it: compared with files, and refused where a value is wrong.
//!
//! With `KUBERVISOR_GENERATE=1` (as `make chart` has it) the files are written instead.
#![allow(missing_docs, clippy::panic, clippy::unwrap_used, reason = "a test ends this way")]

#[path = "../generated/mod.rs"]
mod generated;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use localcluster::tools::{self, Tool};
use serde_json::Value;

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
        &["--set=scope.namespaces={shop,meadow,shop}", "--set=rbac.patchServices=false"],
    );
}

#[test]
fn it_renders_as_it_did_with_everything_on() {
    let values = here().join("tests/chart/everything.values.yaml");
    is_as_in("everything.yaml", &[&format!("--values={}", values.display())]);
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
        ("scope.namespaces={Shop}", "/scope/namespaces/0"),
        ("scope.namespace=shop", "'namespace' not allowed"),
        ("prometheus.caSecret.name=ca", "/prometheus/caSecret"),
        ("maxCutsPerMinute=some", "/maxCutsPerMinute"),
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
    let values = here().join("tests/chart/everything.values.yaml");
    let all = rendered(&[&format!("--values={}", values.display())]).unwrap();
    let words = |kind| {
        let found = one(&objects(&all), kind);
        found["spec"]["template"]["spec"]["containers"][0]["args"].as_array().unwrap().clone()
    };
    let words = [words("Deployment"), words("Job")].concat();
    let reference = std::fs::read_to_string(here().join("docs/reference/flags.md")).unwrap();
    let flags: Vec<_> = words.iter().filter_map(|word| word.as_str()?.strip_prefix("--")).collect();
    assert!(flags.len() > 20, "{flags:?}");
    for flag in flags {
        let name = flag.split('=').next().unwrap();
        assert!(reference.contains(&format!("`--{name}")), "--{name} is no flag");
    }
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
