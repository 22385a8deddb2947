//! Words for kubectl's completion: kubectl asks `kubectl_complete-kubervisor`, which asks this.

use clap::{Arg, Command, CommandFactory, FromArgMatches};
use kube::Api;
use kube::api::ListParams;

use crate::args::{Cli, Reach};
use crate::objects::{list, name, one, text};
use crate::out::print;
use crate::reach::Cluster;

/// What a verb's word names.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Names {
    Services,
    Pods,
    /// Of this KubervisorService.
    Breakers(String),
}

/// What may stand next, and where the rest of it comes from.
#[derive(Debug, Default, PartialEq, Eq)]
struct Next {
    words: Vec<String>,
    names: Option<Names>,
}

/// Prints what may stand in place of the last of these words, a line each, and how kubectl shall go on.
///
/// # Errors
/// Nobody reads.
pub async fn run(reach: &Reach, words: &[String]) -> anyhow::Result<()> {
    let last = words.last().map(String::as_str).unwrap_or_default();
    let mut next = next(words);
    if let Some(names) = next.names {
        // A shell that waits for a word wants no sentence about a cluster that is away.
        let reach = reach_in(words).unwrap_or_else(|| reach.clone());
        next.words.extend(known(&reach, names).await.unwrap_or_default());
    }
    next.words.retain(|word| word.starts_with(last));
    // 4: no file names.
    print(&next.words.iter().map(|word| format!("{word}\n")).chain([":4\n".to_owned()]).collect::<String>())
}

/// Where these words, the last of which is not whole yet, lead. Flags of reach may stand behind the verb.
fn reach_in(words: &[String]) -> Option<Reach> {
    let whole = words.split_last().map_or(&[][..], |(_, before)| before);
    let line = ["kubectl-kubervisor"].into_iter().chain(whole.iter().map(String::as_str));
    let matches = Cli::command().ignore_errors(true).try_get_matches_from(line).ok()?;
    let mut here = &matches;
    while let Some((_, below)) = here.subcommand() {
        here = below;
    }
    Reach::from_arg_matches(here).ok()
}

async fn known(reach: &Reach, names: Names) -> anyhow::Result<Vec<String>> {
    let cluster = Cluster::reach(reach).await?;
    match names {
        Names::Services => {
            let all = list(&cluster.client, Some(&cluster.namespace), None).await?;
            Ok(all.iter().map(|object| name(object).to_owned()).collect())
        }
        Names::Pods => {
            let pods: Api<k8s_openapi::api::core::v1::Pod> =
                Api::namespaced(cluster.client.clone(), &cluster.namespace);
            let all = pods.list_metadata(&ListParams::default()).await?;
            Ok(all.items.into_iter().filter_map(|pod| pod.metadata.name).collect())
        }
        Names::Breakers(of) => {
            let object = one(&cluster, &of).await?;
            let breakers = object.pointer("/spec/breakers").and_then(serde_json::Value::as_array);
            Ok(breakers.into_iter().flatten().map(|breaker| text(breaker, "/name").to_owned()).collect())
        }
    }
}

fn next(words: &[String]) -> Next {
    let root = Cli::command();
    let (last, before) = words.split_last().map_or(("", &[][..]), |(last, before)| (last.as_str(), before));
    let verb = before.iter().find_map(|word| root.find_subcommand(word));
    let here = verb.unwrap_or(&root);
    let global = || root.get_arguments().filter(|arg| arg.is_global_set());
    let all = || here.get_arguments().chain(global());
    if let Some(flag) = before.last().and_then(|word| all().find(|arg| takes_value(arg, word))) {
        let words = flag.get_possible_values().iter().map(|v| v.get_name().to_owned()).collect();
        let of = verb.filter(|_| flag.get_id() == "breaker").and_then(|verb| given(verb, before).next());
        return Next { words, names: of.map(|of| Names::Breakers(of.to_owned())) };
    }
    if last.starts_with('-') {
        let shown = all().filter(|arg| !arg.is_hide_set()).filter_map(Arg::get_long);
        return Next { words: shown.map(|long| format!("--{long}")).collect(), names: None };
    }
    let Some(verb) = verb else {
        let verbs = root.get_subcommands().filter(|verb| !verb.is_hide_set());
        return Next { words: verbs.map(|verb| verb.get_name().to_owned()).collect(), names: None };
    };
    place(verb, before)
}

fn takes_value(arg: &Arg, word: &str) -> bool {
    let long = word.strip_prefix("--").is_some_and(|word| arg.get_long() == Some(word));
    let short = word.strip_prefix('-').is_some_and(|w| arg.get_short().is_some_and(|c| *w == c.to_string()));
    (long || short) && arg.get_action().takes_values()
}

/// The words behind the verb that are no flags and no values of flags.
fn given<'w>(verb: &Command, before: &'w [String]) -> impl Iterator<Item = &'w str> {
    let root = Cli::command();
    let flags: Vec<_> = verb.get_arguments().chain(root.get_arguments()).cloned().collect();
    let behind = before.iter().skip_while(|word| *word != verb.get_name()).skip(1);
    let mut value = false;
    behind.map(String::as_str).filter(move |word| {
        let free = !std::mem::take(&mut value) && !word.starts_with('-');
        value = flags.iter().any(|arg| takes_value(arg, word));
        free
    })
}

/// What stands in the place after the words behind the verb.
fn place(verb: &Command, before: &[String]) -> Next {
    let given = given(verb, before).count();
    let many =
        verb.get_positionals().last().filter(|arg| arg.get_num_args().is_some_and(|n| n.max_values() > 1));
    let Some(arg) = verb.get_positionals().nth(given).or(many) else { return Next::default() };
    let words: Vec<_> = arg.get_possible_values().iter().map(|v| v.get_name().to_owned()).collect();
    let names = match arg.get_id().as_str() {
        "name" | "names" => Some(Names::Services),
        "pod" => Some(Names::Pods),
        _ => None,
    };
    Next { words, names }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(words: &[&str]) -> Next {
        next(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn verbs_names_words_and_flags_are_offered_where_they_stand() {
        let verbs = after(&[""]).words;
        assert!(verbs.contains(&"describe".to_owned()) && !verbs.contains(&"man".to_owned()), "{verbs:?}");
        assert_eq!(after(&["describe", ""]).names, Some(Names::Services));
        assert_eq!(after(&["describe", "checkout", "c"]).names, Some(Names::Services));
        assert_eq!(after(&["hold", "checkout", ""]).names, None);
        assert_eq!(after(&["-n", "shop", "cut", ""]).names, Some(Names::Pods));
        assert_eq!(after(&["override", "pick-0", ""]).words, ["never", "cut", "serve", "clear"]);
        assert_eq!(after(&["cut", "-n", "shop", ""]).names, Some(Names::Pods));
        let breakers = Some(Names::Breakers("checkout".to_owned()));
        assert_eq!(after(&["dry-run", "-n", "shop", "checkout", "--breaker", ""]).names, breakers);
        assert_eq!(after(&["get", "-o", ""]).words, ["wide", "json", "yaml", "name"]);
        let reach = |words: &[&str]| reach_in(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>());
        for words in [
            &["-n", "shop", "describe", ""][..],
            &["describe", "-n", "shop", ""],
            &["hold", "--reason=x", "-n=shop", "c"],
        ] {
            assert_eq!(reach(words).unwrap().namespace.as_deref(), Some("shop"), "{words:?}");
        }
        let flags = after(&["get", "--"]).words;
        assert!(
            flags.contains(&"--watch".to_owned()) && flags.contains(&"--context".to_owned()),
            "{flags:?}"
        );
    }
}
