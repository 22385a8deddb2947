//! The built program on manifests, as a person or a pipeline would run it; no cluster.
#![allow(missing_docs, clippy::panic, clippy::unwrap_used, reason = "a test ends this way")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use plugin::check::{RULES, Row};
use serde_json::Value;

/// With `KUBECONFIG` at a file that does not exist: whoever asks for a cluster fails.
fn check(args: &[&str], stdin: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_kubectl-kubervisor"))
        .arg("check")
        .args(args)
        .env("KUBECONFIG", "no-such-kubeconfig")
        .env_remove("NO_COLOR")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Who reads no standard input may have gone.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child.wait_with_output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A shop with much that is wrong.
const SHOP: &str = include_str!("check/shop.yaml");

#[test]
fn the_text_for_people() {
    let output = check(&["-f", "-", "--replicas", "3"], SHOP);
    assert_eq!(output.status.code(), Some(1));
    insta::assert_snapshot!(stdout(&output));
}

#[test]
fn the_document_for_programs_in_json_and_the_same_in_yaml() {
    let output = check(&["-f", "-", "--replicas", "3", "-o", "json"], SHOP);
    assert_eq!(output.status.code(), Some(1));
    let json = stdout(&output);
    insta::assert_snapshot!(json);
    let yaml = stdout(&check(&["-f", "-", "--replicas", "3", "-o", "yaml"], SHOP));
    let same: Value = serde_yaml_ng::from_str(&yaml).unwrap();
    assert_eq!(same, serde_json::from_str::<Value>(&json).unwrap());
}

#[test]
fn manifests_of_the_original_of_the_demo_and_of_the_documentation_pass() {
    let folders = [root().join("tests/fixtures/original"), root().join("demo/manifests")];
    for folder in &folders {
        let output = check(&["-f", folder.to_str().unwrap(), "--prometheus-url", "prometheus.shop:9090"], "");
        assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    }
    let blocks: Vec<String> = pages().iter().flat_map(|page| blocks(page)).collect();
    assert!(blocks.len() >= 5, "{blocks:?}");
    for block in blocks {
        let output = check(&["-f", "-", "--prometheus-url", "prometheus.shop:9090"], &block);
        assert_eq!(output.status.code(), Some(0), "{block}\n{}", stdout(&output));
    }
}

/// README and every page of the documentation.
fn pages() -> Vec<String> {
    let folders = ["docs", "docs/reference"].into_iter();
    let entries = folders.flat_map(|folder| std::fs::read_dir(root().join(folder)).unwrap());
    let files = entries.map(|entry| entry.unwrap().path()).chain([root().join("README.md")]);
    let pages = files.filter(|path| path.extension().is_some_and(|e| e == "md"));
    pages.map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

/// Whole objects of a page, and breakers as part of one.
fn blocks(page: &str) -> Vec<String> {
    let blocks = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let whole = |block: &str| {
        if block.starts_with("- name: ") {
            let head = "apiVersion: kubervisor.k8s.io/v1alpha1\nkind: KubervisorService\nmetadata: {name: a, namespace: shop}\n";
            let block: String = block.lines().map(|line| format!("  {line}\n")).collect();
            return Some(format!("{head}spec:\n  service: a\n  breakers:\n{block}"));
        }
        block.contains("apiVersion:").then(|| block.to_owned())
    };
    blocks.filter_map(whole).collect()
}

#[test]
fn the_recommended_manifests_have_no_warning_either() {
    let page = std::fs::read_to_string(root().join("docs/start.md")).unwrap();
    let manifest = blocks(&page).remove(0);
    let output = check(&["-f", "-", "--strict", "--prometheus-url", "prometheus.shop:9090"], &manifest);
    assert_eq!(stdout(&output), "1 KubervisorService in 1 file: 0 errors, 0 warnings\n");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_warning_fails_where_it_is_asked_to_only() {
    let manifest = SHOP.split("---").next().unwrap().replace("sum by (code)", "sum by (code, pod)");
    let plain = check(&["-f", "-"], &manifest);
    assert!(stdout(&plain).contains("0 errors, 2 warnings"), "{}", stdout(&plain));
    assert_eq!(plain.status.code(), Some(0));
    assert_eq!(check(&["-f", "-", "--strict"], &manifest).status.code(), Some(1));
}

#[test]
fn what_is_missing_unreadable_or_empty_is_an_error_and_hides_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(
        at("broken.yaml"),
        "kind: [\n---\napiVersion: kubervisor.k8s.io/v1\nkind: KubervisorService\nmetadata: {name: a}\n",
    )
    .unwrap();
    std::fs::write(at("empty.yaml"), "# nothing\n---\n").unwrap();
    std::fs::write(at("values.yaml"), "replicas: 3\n").unwrap();
    std::fs::write(at("notes.txt"), "kind: [").unwrap();
    std::fs::create_dir(at("deeper")).unwrap();
    std::fs::write(at("deeper/good.json"), r#"{"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}]}"#).unwrap();
    let output = check(
        &["-f", folder.path().to_str().unwrap(), "-f", &at("absent.yaml"), &at("values.yaml"), "-o", "json"],
        "",
    );
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let found: Vec<_> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| {
            let file = finding["file"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
            (
                file,
                finding["document"].as_u64().unwrap(),
                finding["line"].as_u64().unwrap(),
                finding["rule"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    let expected = [
        ("broken.yaml", 1, 2, "unreadable"),
        ("broken.yaml", 2, 3, "unknown-kind"),
        ("empty.yaml", 0, 0, "empty"),
        ("absent.yaml", 0, 0, "unreadable"),
        ("values.yaml", 1, 1, "no-object"),
    ];
    for (file, document, line, rule) in expected {
        assert!(found.contains(&(file.to_owned(), document, line, rule.to_owned())), "{rule}: {found:?}");
    }
    assert_eq!(found.len(), expected.len(), "{found:?}");
    assert_eq!((&report["summary"]["files"], &report["summary"]["otherDocuments"]), (&6.into(), &1.into()));
}

#[test]
fn standard_input_without_a_document_is_an_error() {
    let output = check(&["-f", "-"], "");
    assert!(stdout(&output).contains("error empty"), "{}", stdout(&output));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_namespace_flag_is_that_of_objects_that_name_none() {
    let manifest = "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {selector: {app: a, kubervisor/traffic: 'yes'}}}";
    let output = check(&["-f", "-", "-n", "bank"], manifest);
    assert!(stdout(&output).contains("Service bank/a  warning key-without-owner"), "{}", stdout(&output));
}

#[test]
fn nothing_that_a_terminal_obeys_is_printed() {
    let manifest = "{\"apiVersion\": \"kubervisor.k8s.io/v1alpha1\", \"kind\": \"KubervisorService\", \"metadata\": {\"name\": \"a\"}, \"spec\": {\"service\": \"\\u001b[31m\"}}";
    let output = check(&["-f", "-"], manifest);
    assert!(!stdout(&output).contains('\u{1b}'), "{}", stdout(&output));
}

#[test]
fn a_replica_count_or_an_address_that_is_none_is_refused_before_anything_is_read() {
    for flags in [["--replicas", "0"], ["--replicas", "many"], ["--prometheus-url", "ftp://a"]] {
        let output = check(&["-f", "-", flags[0], flags[1]], "");
        assert_eq!(output.status.code(), Some(2), "{flags:?}");
        assert!(!output.stderr.is_empty());
    }
}

/// With `KUBERVISOR_GENERATE=1` (as `make reference` has it) the table is written instead.
#[test]
fn the_reference_of_rules_is_that_of_the_code() {
    let file = root().join("docs/reference/check.md");
    let page = std::fs::read_to_string(&file).unwrap();
    let (head, rest) = page.split_once("<!-- rules -->\n").unwrap();
    let (_, tail) = rest.split_once("<!-- end of rules -->\n").unwrap();
    let mut table = "| rule | severity | what is found | cure |\n|---|---|---|---|\n".to_owned();
    for Row { name, severity, finds, cure, .. } in RULES {
        table += &format!("| `{name}` | {} | {finds} | {} |\n", severity.as_str(), cure.replace('|', "\\|"));
    }
    let wanted = format!("{head}<!-- rules -->\n{table}<!-- end of rules -->\n{tail}");
    if std::env::var_os("KUBERVISOR_GENERATE").is_some() {
        std::fs::write(&file, &wanted).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), wanted, "run `make reference` and commit it");
}

#[test]
fn every_rule_is_shown_by_a_test() {
    let folder = root().join("plugin/src/check");
    let lint = folder.join("lint");
    let files = [folder, lint].into_iter().flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let files = files.filter_map(|file| std::fs::read_to_string(file.unwrap().path()).ok());
    let mut tests: String =
        files.filter_map(|code| Some(code.split_once("#[cfg(test)]\nmod tests {")?.1.to_owned())).collect();
    tests += include_str!("check.rs");
    for Row { name, rule, .. } in RULES {
        let shown = tests.contains(&format!("\"{name}\"")) || tests.contains(&format!("Rule::{rule:?}"));
        assert!(shown, "{name} is shown by no test");
    }
}
