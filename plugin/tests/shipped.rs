//! What is shipped beside the program fits it: the page of its verbs and flags, krew's manifest, kubectl's completion.
//!
//! With `KUBERVISOR_GENERATE=1` (as `make reference` has it) the page is written instead.
#![allow(
    missing_docs,
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends this way"
)]

#[path = "../../tests/generated/mod.rs"]
mod generated;
mod shell;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command as Process;

use clap::{Arg, Command, CommandFactory};
use plugin::args::Cli;
use serde_json::{Value, json};
use shell::Bash;

const HEAD: &str = "\
# kubectl kubervisor: verbs and flags

Generated from the program by `make reference`; a test compares them. What to use when is in [kubectl](../kubectl.md).
";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_default()
}

#[test]
fn the_reference_of_verbs_and_flags_is_that_of_the_program() {
    generated::generated(&root(), "docs/reference/kubectl.md", &page(), "make reference");
}

#[test]
fn the_screen_in_the_guide_is_the_golden_one_and_make_reference_puts_it_there() {
    let golden = read("plugin/src/screen/snapshots/plugin__screen__draw__tests__several_services.snap");
    let lines = golden.lines().filter_map(|line| line.strip_prefix('"')?.strip_suffix('"'));
    let mut screen: Vec<_> = lines.map(str::trim_end).collect();
    // A terminal is higher than what stands on it.
    screen.dedup_by(|a, b| a.is_empty() && b.is_empty());
    assert!(screen.len() > 10, "{screen:?}");
    let wanted = format!("\n```text\n{}\n```\n", screen.join("\n"));
    let (path, marks) = ("docs/kubectl.md", ["<!-- screen -->", "<!-- end of screen -->"]);
    let page = read(path);
    let parts =
        page.split_once(marks[0]).and_then(|(before, rest)| Some((before, rest.split_once(marks[1])?)));
    let (before, (found, after)) = parts.unwrap_or_else(|| panic!("{path} lacks {marks:?}"));
    if std::env::var_os("KUBERVISOR_GENERATE").is_some() {
        std::fs::write(root().join(path), [before, marks[0], &wanted, marks[1], after].concat()).unwrap();
    } else {
        assert_eq!(found, wanted, "{path}: run `make reference` and commit it");
    }
}

fn page() -> String {
    let (mut page, root) = (HEAD.to_owned(), Cli::command());
    let _ = writeln!(page, "\n## kubectl kubervisor\n\n{}", root.get_long_about().unwrap());
    write_args(&mut page, root.get_arguments().filter(|arg| !arg.is_global_set()));
    let _ = writeln!(page, "\n## Flags of every verb");
    write_args(&mut page, root.get_arguments().filter(|arg| arg.is_global_set()));
    for verb in root.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let _ = writeln!(page, "\n## {}\n\n{}", usage(verb), verb.get_about().unwrap());
        write_args(&mut page, verb.get_arguments());
    }
    page
}

fn usage(verb: &Command) -> String {
    let many = |arg: &Arg| if arg.get_num_args().is_some_and(|n| n.max_values() > 1) { "..." } else { "" };
    let place = |arg: &Arg| match arg.is_required_set() {
        true => format!(" {}{}", arg.get_id().as_str().to_uppercase(), many(arg)),
        false => format!(" [{}{}]", arg.get_id().as_str().to_uppercase(), many(arg)),
    };
    format!("{}{}", verb.get_name(), verb.get_positionals().map(place).collect::<String>())
}

fn write_args<'a>(page: &mut String, args: impl Iterator<Item = &'a Arg>) {
    let args: Vec<_> = args.filter(|arg| !arg.is_hide_set()).collect();
    if !args.is_empty() {
        let _ = writeln!(page, "\n| | default | meaning |\n|---|---|---|");
    }
    for arg in args {
        let default = arg.get_default_values().first().map(|v| format!("`{}`", v.to_string_lossy()));
        let meaning = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let words: Vec<_> = arg.get_possible_values().iter().map(|v| format!("`{}`", v.get_name())).collect();
        let words = if words.is_empty() || !takes_value(arg) {
            String::new()
        } else {
            format!(": {}", words.join(", "))
        };
        let _ = writeln!(page, "| {} | {} | {meaning}{words} |", name(arg), default.unwrap_or_default());
    }
}

fn takes_value(arg: &Arg) -> bool {
    arg.is_positional() || arg.get_action().takes_values()
}

fn name(arg: &Arg) -> String {
    let value = match arg.get_value_names() {
        Some(names) if arg.get_action().takes_values() => format!(" {}", names[0]),
        _ => String::new(),
    };
    let short = arg.get_short().map(|short| format!("-{short}"));
    match (arg.get_long(), short) {
        (Some(long), Some(short)) => format!("`--{long}{value}`, `{short}`"),
        (Some(long), None) => format!("`--{long}{value}`"),
        (None, Some(short)) => format!("`{short}{value}`"),
        (None, None) => format!("`{}`", arg.get_id().as_str().to_uppercase()),
    }
}

#[test]
fn the_page_about_the_plugin_tells_of_every_verb() {
    let page = read("docs/kubectl.md");
    let untold: Vec<_> = Cli::command()
        .get_subcommands()
        .filter(|verb| !verb.is_hide_set() && !page.contains(&format!("kubervisor {}", verb.get_name())))
        .map(|verb| verb.get_name().to_owned())
        .collect();
    assert!(untold.is_empty(), "docs/kubectl.md says nothing of {untold:?}");
}

#[test]
fn krews_manifest_has_its_shape_this_program_and_this_version() {
    let manifest: Value = serde_yaml_ng::from_str(&read("plugin/krew/kubervisor.yaml")).unwrap();
    assert_eq!(manifest["apiVersion"], "krew.googlecontainertools.github.com/v1alpha2");
    assert_eq!((&manifest["kind"], &manifest["metadata"]["name"]), (&"Plugin".into(), &"kubervisor".into()));
    let spec = &manifest["spec"];
    let version = format!("v{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(spec["version"], version.as_str());
    assert!(spec["shortDescription"].as_str().is_some_and(|text| text.len() <= 50 && !text.ends_with('.')));
    let mut platforms = BTreeSet::new();
    for platform in spec["platforms"].as_array().unwrap() {
        let labels = &platform["selector"]["matchLabels"];
        let (os, arch) = (labels["os"].as_str().unwrap(), labels["arch"].as_str().unwrap());
        platforms.insert((os, arch));
        assert_eq!(
            platform["bin"],
            Path::new(env!("CARGO_BIN_EXE_kubectl-kubervisor")).file_name().unwrap().to_str().unwrap()
        );
        let uri = platform["uri"].as_str().unwrap();
        assert!(
            uri.contains(&format!("/{version}/")) && uri.ends_with(&format!("-{os}-{arch}.tar.gz")),
            "{uri}"
        );
        let sum = platform["sha256"].as_str().unwrap();
        assert!(sum.len() == 64 && sum.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f')), "{sum}");
    }
    assert_eq!(
        platforms,
        [("darwin", "amd64"), ("darwin", "arm64"), ("linux", "amd64"), ("linux", "arm64")].into()
    );
}

/// What `make krew-archive` does with a program, and the platforms of the manifest that it writes.
fn packed(program: &Path, into: &Path, address: &[&str]) -> Vec<Value> {
    let mut script = Process::new(root().join("plugin/krew/archive"));
    let output = script.arg(program).arg(into).args(address).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let manifest = std::fs::read(into.join("kubervisor.yaml")).unwrap();
    let manifest: Value = serde_yaml_ng::from_slice(&manifest).unwrap();
    assert_eq!(manifest["metadata"]["name"], "kubervisor");
    manifest["spec"]["platforms"].as_array().unwrap().clone()
}

#[test]
fn the_manifest_that_is_written_for_krew_names_the_archives_there_are_with_their_sums() {
    let folder = tempfile::tempdir().unwrap();
    let (program, krew) = (folder.path().join("built"), folder.path().join("krew"));
    std::fs::write(&program, "#!/bin/sh\necho pears\n").unwrap();
    let [platform] = &packed(&program, &krew, &[])[..] else { panic!("not this machine's alone") };
    let archive = krew.join(platform["uri"].as_str().unwrap().rsplit('/').next().unwrap());
    let sum = ring::digest::digest(&ring::digest::SHA256, &std::fs::read(&archive).unwrap());
    let sum: String = sum.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(platform["sha256"], sum.as_str());

    // krew takes files only, and what it links is the program.
    let mut tar = Process::new("tar");
    let list = tar.arg("-tzf").arg(&archive).output().unwrap();
    assert_eq!(String::from_utf8(list.stdout).unwrap(), "LICENSE\nkubectl-kubervisor\n");
    let unpacked = Process::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(&krew).status().unwrap();
    let linked = krew.join(platform["bin"].as_str().unwrap());
    let said = Process::new(linked).output().unwrap();
    assert!(unpacked.success() && said.stdout == b"pears\n", "{said:?}");

    // As a release has it: an archive of another machine beside it.
    std::fs::copy(
        &archive,
        krew.join(format!("kubectl-kubervisor-v{}-darwin-arm64.tar.gz", env!("CARGO_PKG_VERSION"))),
    )
    .unwrap();
    let both = packed(&program, &krew, &["https://orchard.example/"]);
    let known = |platform: &Value| {
        let uri = platform["uri"].as_str().unwrap();
        uri.starts_with("https://orchard.example/kubectl-kubervisor-v")
            && platform["sha256"] != "0".repeat(64)
    };
    assert!(both.len() == 2 && both.iter().all(known), "{both:?}");
}

/// Runs the program where there is no cluster.
fn run(words: &[&str]) -> (bool, String, String) {
    let mut command = Process::new(env!("CARGO_BIN_EXE_kubectl-kubervisor"));
    command.args(words).env("KUBECONFIG", "/nonexistent").env_remove("KUBERNETES_SERVICE_HOST");
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[test]
fn kubectl_is_told_which_words_may_follow_and_that_none_is_a_file() {
    let (ok, words, _) = run(&["__complete", "des"]);
    assert!(ok);
    assert!(words.starts_with("describe\tShow one with ") && words.ends_with("\n:4\n"), "{words}");
    let script = read("plugin/completion/kubectl_complete-kubervisor");
    assert!(script.contains("kubectl-kubervisor __complete -- \"$@\""), "{script}");
    // Without a cluster no name is offered, and nothing is said into the line that is being written.
    for line in [&["describe", ""][..], &["-n", ""], &["-n", "shop", "describe", ""], &["--context", ""]] {
        let words = [&["__complete", "--"], line].concat();
        assert_eq!(run(&words), (true, ":4\n".to_owned(), String::new()), "{line:?}");
    }
}

#[tokio::test]
async fn bash_completes_verbs_flags_their_values_files_and_contexts_and_offers_no_file_for_a_name() {
    let (home, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(folder.path().join("shop.yaml"), "").unwrap();
    let place = json!({"cluster": "c", "user": "u"});
    let context = |name: &str| json!({"name": name, "context": place});
    let contexts = [context("arn:aws:eks:fall"), context("orchard"), context("arn:aws:eks:spring")];
    let config = home.path().join("config");
    std::fs::write(&config, json!({"kind": "Config", "apiVersion": "v1", "contexts": contexts}).to_string())
        .unwrap();
    let built = Path::new(env!("CARGO_BIN_EXE_kubectl-kubervisor")).parent().unwrap();
    let mut bash = Bash::sit(|mut command| {
        let path = std::env::join_paths([built, Path::new("/usr/bin"), Path::new("/bin")]).unwrap();
        command.env_clear().env("PATH", path).env("HOME", home.path()).env("LANG", "C.UTF-8");
        command.env("KUBECONFIG", config).current_dir(folder.path());
        command
    })
    .await;
    bash.completes("des", "describe ").await;
    bash.offers("de", &["deactivate", "describe"]).await;
    bash.completes("get --no", "get --no-headers ").await;
    bash.completes("override pick-0 n", "override pick-0 never ").await;
    for output in ["-o ", "--output ", "--output="] {
        bash.offers(&format!("get {output}"), &["json", "name", "wide", "yaml"]).await;
        bash.completes(&format!("get {output}w"), &format!("get {output}wide ")).await;
    }
    for flag in ["--context ", "--context="] {
        bash.completes(&format!("{flag}o"), &format!("{flag}orchard ")).await;
        bash.completes(&format!("{flag}a"), &format!("{flag}arn:aws:eks:")).await;
        bash.completes(&format!("{flag}arn:aws:eks:s"), &format!("{flag}arn:aws:eks:spring ")).await;
    }
    bash.completes("check -f ", "check -f shop.yaml ").await;
    bash.completes("check --filename=s", "check --filename=shop.yaml ").await;
    bash.completes("--kubeconfig s", "--kubeconfig shop.yaml ").await;
    // There is but one file: where it was offered, it would stand there.
    for none in ["describe ", "hold checkout ", "get -o s", "get --output=s", "get --nothing"] {
        bash.completes(none, none).await;
    }
}

#[test]
fn the_shells_get_a_script_and_the_client_has_a_version_without_a_cluster() {
    for shell in ["bash", "zsh", "fish"] {
        let (ok, script, _) = run(&["completion", shell]);
        assert!(ok && script.contains("__complete -- "), "{shell}");
    }
    for shell in ["elvish", "powershell"] {
        let (ok, script, _) = run(&["completion", shell]);
        assert!(ok && script.contains("kubectl-kubervisor") && script.contains("dry-run"), "{shell}");
    }
    let version = format!("Client Version: v{}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(run(&["version", "--client"]), (true, version.clone(), String::new()));
    let (ok, out, err) = run(&["version"]);
    assert!(!ok && out == version && err.starts_with("error: ") && err.lines().count() == 1, "{out}{err}");
}
