//! What may stand next on a command line: the scripts of the shells ask this, and kubectl by
//! `kubectl_complete-kubervisor`. The answer is in the form that kubectl takes from a plugin: a word a line, behind a tab
//! what it means, last how to go on.

use std::fmt::Debug;

use clap::builder::StyledStr;
use clap::{Arg, Command, CommandFactory, FromArgMatches, ValueHint};
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use kube::api::{Api, ListParams, Resource};
use serde::de::DeserializeOwned;

use crate::args::{Cli, Reach};
use crate::objects::{list, name, one, text};
use crate::out::print;
use crate::reach::{Cluster, kubeconfig};
use crate::{ground, objects, pod};

/// What a word names.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Names {
    Governors,
    /// A KubervisorService or a Service.
    Doors,
    Pods,
    Namespaces,
    /// Of this KubervisorService.
    Breakers(String),
    Contexts,
    Clusters,
    Users,
}

/// What may stand next, and where the rest of it comes from.
#[derive(Debug, Default, PartialEq, Eq)]
struct Next {
    words: Vec<String>,
    names: Option<Names>,
    files: bool,
}

/// Prints what may stand in place of the last of these words. Of `--flag=value` that is the value.
///
/// # Errors
/// Nobody reads.
pub async fn run(words: &[String]) -> anyhow::Result<()> {
    let words = split(words);
    let last = words.last().map(String::as_str).unwrap_or_default();
    let mut next = next(&words);
    if let Some(names) = next.names {
        // A shell that waits for a word wants no sentence about a cluster that is away.
        next.words.extend(known(&reach_in(&words), names, last).await.unwrap_or_default());
    }
    next.words.retain(|word| word.starts_with(last));
    // Of cobra: 0 is the shell's own way, which is files; 4 is none of them.
    let on = if next.files { ":0\n" } else { ":4\n" };
    print(&next.words.iter().map(|word| format!("{word}\n")).chain([on.to_owned()]).collect::<String>())
}

/// A flag and its value in one word are two.
fn split(words: &[String]) -> Vec<String> {
    let mut words = words.to_vec();
    let last = words.pop().unwrap_or_default();
    match last.split_once('=') {
        Some((flag, value)) if flag.starts_with("--") => words.extend([flag.to_owned(), value.to_owned()]),
        _ => words.push(last),
    }
    words
}

/// Where these words, the last of which is not whole yet, lead. Flags of reach may stand behind the verb.
fn reach_in(words: &[String]) -> Reach {
    let whole = words.split_last().map_or(&[][..], |(_, before)| before);
    let line = ["kubectl-kubervisor"].into_iter().chain(whole.iter().map(String::as_str));
    let Ok(matches) = Cli::command().ignore_errors(true).try_get_matches_from(line) else {
        return Reach::default();
    };
    let mut here = &matches;
    while let Some((_, below)) = here.subcommand() {
        here = below;
    }
    Reach::from_arg_matches(here).unwrap_or_default()
}

async fn known(reach: &Reach, names: Names, begun: &str) -> anyhow::Result<Vec<String>> {
    match names {
        Names::Governors | Names::Doors | Names::Pods => {
            let cluster = Cluster::reach(reach).await?;
            objects(&cluster, &names, begun.split_once('/').map(|(kind, _)| kind)).await
        }
        Names::Namespaces => listed(Api::<Namespace>::all(Cluster::reach(reach).await?.client)).await,
        Names::Breakers(of) => {
            let object = one(&Cluster::reach(reach).await?, &of).await?;
            let breakers = object.pointer("/spec/breakers").and_then(serde_json::Value::as_array);
            Ok(breakers.into_iter().flatten().map(|breaker| text(breaker, "/name").to_owned()).collect())
        }
        Names::Contexts => Ok(kubeconfig(reach)?.contexts.into_iter().map(|one| one.name).collect()),
        Names::Clusters => Ok(kubeconfig(reach)?.clusters.into_iter().map(|one| one.name).collect()),
        Names::Users => Ok(kubeconfig(reach)?.auth_infos.into_iter().map(|one| one.name).collect()),
    }
}

/// `KIND/NAME` is for whoever has begun so, with a kind that may stand there.
async fn objects(cluster: &Cluster, names: &Names, kind: Option<&str>) -> anyhow::Result<Vec<String>> {
    let of =
        |kinds: &[&str]| kind.is_none_or(|kind| kinds.iter().any(|known| known.eq_ignore_ascii_case(kind)));
    let mut found = Vec::new();
    if matches!(names, Names::Governors | Names::Doors) && of(&objects::KINDS) {
        let all = list(&cluster.client, Some(&cluster.namespace), None).await?;
        found.extend(all.iter().map(|object| name(object).to_owned()));
    }
    if *names == Names::Doors && of(&ground::KINDS) {
        found.extend(listed(Api::<Service>::namespaced(cluster.client.clone(), &cluster.namespace)).await?);
    }
    if *names == Names::Pods && of(&pod::KINDS) {
        found.extend(listed(Api::<Pod>::namespaced(cluster.client.clone(), &cluster.namespace)).await?);
    }
    found.sort();
    found.dedup();
    Ok(found.into_iter().map(|name| kind.map_or(name.clone(), |kind| format!("{kind}/{name}"))).collect())
}

async fn listed<K>(api: Api<K>) -> anyhow::Result<Vec<String>>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    let all = api.list_metadata(&ListParams::default()).await?;
    Ok(all.items.into_iter().filter_map(|object| object.metadata.name).collect())
}

fn next(words: &[String]) -> Next {
    let root = Cli::command();
    let (last, before) = words.split_last().map_or(("", &[][..]), |(last, before)| (last.as_str(), before));
    let verb = before.iter().find_map(|word| root.find_subcommand(word));
    let flags = || flags(&root, verb);
    if let Some(flag) = awaits(before, flags) {
        return of(flag, verb, before);
    }
    if last.starts_with('-') {
        let shown = flags().filter(|arg| !arg.is_hide_set());
        let words = shown.filter_map(|arg| Some(told(&format!("--{}", arg.get_long()?), arg.get_help())));
        return Next { words: words.collect(), ..Next::default() };
    }
    let Some(verb) = verb else {
        let verbs = root.get_subcommands().filter(|verb| !verb.is_hide_set());
        let words = verbs.map(|verb| told(verb.get_name(), verb.get_about()));
        return Next { words: words.collect(), ..Next::default() };
    };
    let given = given(verb, before).count();
    let many = verb.get_positionals().last().filter(|arg| takes_many(arg));
    let place = verb.get_positionals().nth(given).or(many);
    place.map(|arg| of(arg, Some(verb), before)).unwrap_or_default()
}

/// A word and what it means.
fn told(word: &str, means: Option<&StyledStr>) -> String {
    let means = means.map(ToString::to_string).unwrap_or_default();
    match means.lines().next() {
        Some(means) => format!("{word}\t{means}"),
        None => word.to_owned(),
    }
}

/// What a flag or a place stands for.
fn of(arg: &Arg, verb: Option<&Command>, before: &[String]) -> Next {
    let values = arg.get_possible_values();
    let words = values.iter().map(|value| told(value.get_name(), value.get_help())).collect();
    let names = match arg.get_id().as_str() {
        "name" if verb.is_some_and(|verb| ["activate", "deactivate"].contains(&verb.get_name())) => {
            Some(Names::Doors)
        }
        "name" | "names" => Some(Names::Governors),
        "pod" => Some(Names::Pods),
        "namespace" | "controller_namespace" => Some(Names::Namespaces),
        "breaker" => {
            verb.and_then(|verb| given(verb, before).next()).map(|of| Names::Breakers(of.to_owned()))
        }
        "context" => Some(Names::Contexts),
        "cluster" => Some(Names::Clusters),
        "user" => Some(Names::Users),
        _ => None,
    };
    let files = matches!(arg.get_value_hint(), ValueHint::AnyPath | ValueHint::FilePath | ValueHint::DirPath);
    Next { words, names, files }
}

/// The flags that may stand here.
fn flags<'c>(root: &'c Command, verb: Option<&'c Command>) -> impl Iterator<Item = &'c Arg> {
    let everywhere = root.get_arguments().filter(move |arg| verb.is_none() || arg.is_global_set());
    verb.into_iter().flat_map(Command::get_arguments).chain(everywhere)
}

/// The flag whose value is next: the one just given, or the last one where that takes many.
fn awaits<'c, F: Iterator<Item = &'c Arg>>(before: &[String], flags: impl Fn() -> F) -> Option<&'c Arg> {
    let just = before.last().and_then(|word| flags().find(|arg| takes_value(arg, word)));
    let last = || {
        let word = before.iter().rev().find(|word| word.starts_with('-'))?;
        flags().find(|arg| takes_many(arg) && takes_value(arg, word))
    };
    just.or_else(last)
}

fn takes_value(arg: &Arg, word: &str) -> bool {
    let long = word.strip_prefix("--").is_some_and(|word| arg.get_long() == Some(word));
    let short = word.strip_prefix('-').is_some_and(|w| arg.get_short().is_some_and(|c| *w == c.to_string()));
    (long || short) && arg.get_action().takes_values()
}

fn takes_many(arg: &Arg) -> bool {
    arg.get_num_args().is_some_and(|n| n.max_values() > 1)
}

/// The words behind the verb that are no flags and no values of flags.
fn given<'w>(verb: &Command, before: &'w [String]) -> impl Iterator<Item = &'w str> {
    let root = Cli::command();
    let flags: Vec<_> = flags(&root, Some(verb)).cloned().collect();
    let behind = before.iter().skip_while(|word| *word != verb.get_name()).skip(1);
    let mut value = false;
    behind.map(String::as_str).filter(move |word| {
        let free = !std::mem::take(&mut value) && !word.starts_with('-');
        value = flags.iter().any(|arg| takes_value(arg, word));
        free
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    fn after(words: &[&str]) -> Next {
        next(&split(&owned(words)))
    }

    /// Without what they mean.
    fn words(words: &[&str]) -> Vec<String> {
        let bare = |word: String| word.split('\t').next().unwrap().to_owned();
        after(words).words.into_iter().map(bare).collect()
    }

    #[test]
    fn verbs_words_and_flags_are_offered_where_they_stand() {
        let verbs = words(&[""]);
        assert!(verbs.contains(&"describe".to_owned()) && !verbs.contains(&"man".to_owned()), "{verbs:?}");
        assert!(after(&[""]).words.contains(&"resume\tEnd holds".to_owned()));
        assert_eq!(words(&["override", "pick-0", ""]), ["never", "cut", "serve", "clear"]);
        for output in [&["get", "-o", ""][..], &["get", "--output="], &["get", "--output=w"]] {
            assert_eq!(words(output), ["wide", "json", "yaml", "name"], "{output:?}");
        }
        let flags = words(&["get", "--"]);
        for flag in ["--watch", "--context"] {
            assert_eq!(flags.iter().filter(|one| *one == flag).count(), 1, "{flag} in {flags:?}");
        }
        assert_eq!(words(&["--"]).iter().filter(|one| *one == "--context").count(), 1);
    }

    #[test]
    fn names_are_of_what_stands_there() {
        let names = |words: &[&str]| after(words).names;
        assert_eq!(names(&["describe", ""]), Some(Names::Governors));
        assert_eq!(names(&["describe", "checkout", "c"]), Some(Names::Governors));
        assert_eq!(names(&["-k", ""]), Some(Names::Governors));
        assert_eq!(names(&["activate", "svc/"]), Some(Names::Doors));
        assert_eq!(after(&["hold", "checkout", ""]), Next::default());
        for cut in [&["-n", "shop", "cut", ""][..], &["cut", "-n", "shop", ""], &["cut", "-n=shop", ""]] {
            assert_eq!(names(cut), Some(Names::Pods), "{cut:?}");
        }
        for place in [&["get", "-n", ""][..], &["-n", "s"], &["thaw", "--controller-namespace="]] {
            assert_eq!(names(place), Some(Names::Namespaces), "{place:?}");
        }
        assert_eq!(names(&["--context=",]), Some(Names::Contexts));
        let breakers = Some(Names::Breakers("checkout".to_owned()));
        assert_eq!(names(&["dry-run", "-n", "shop", "checkout", "--breaker", ""]), breakers);
    }

    #[test]
    fn files_are_offered_where_a_file_is_wanted_and_nowhere_else() {
        for wanted in [
            &["check", "-f", ""][..],
            &["check", "--filename=sh"],
            &["check", "-f", "shop.yaml", ""],
            &["--kubeconfig", ""],
        ] {
            assert!(after(wanted).files, "{wanted:?}");
        }
        for other in [&["check", ""][..], &["describe", ""], &["check", "-f", "shop.yaml", "-o", ""], &[""]] {
            assert!(!after(other).files, "{other:?}");
        }
    }

    #[test]
    fn the_way_to_the_cluster_is_that_of_the_line() {
        for line in [
            &["-n", "shop", "describe", ""][..],
            &["describe", "-n", "shop", ""],
            &["hold", "--reason=x", "-n=shop", "c"],
        ] {
            assert_eq!(reach_in(&owned(line)).namespace.as_deref(), Some("shop"), "{line:?}");
        }
    }
}
