//! Words for kubectl's completion: kubectl asks `kubectl_complete-kubervisor`, which asks this.

use clap::{Arg, Command, CommandFactory};
use kube::Api;
use kube::api::ListParams;

use crate::args::{Cli, Reach};
use crate::objects::{list, name};
use crate::out::print;
use crate::reach::Cluster;

/// What a verb's first word names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Names {
    Services,
    Pods,
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
        next.words.extend(known(reach, names).await.unwrap_or_default());
    }
    next.words.retain(|word| word.starts_with(last));
    // 4: no file names.
    print(&next.words.iter().map(|word| format!("{word}\n")).chain([":4\n".to_owned()]).collect::<String>())
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
        let values = flag.get_possible_values();
        return Next { words: values.iter().map(|v| v.get_name().to_owned()).collect(), names: None };
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

/// What stands in the place after the words behind the verb.
fn place(verb: &Command, before: &[String]) -> Next {
    let behind = before.iter().skip_while(|word| *word != verb.get_name()).skip(1);
    let given = behind.filter(|word| !word.starts_with('-')).count();
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
        assert_eq!(after(&["get", "-o", ""]).words, ["wide", "json", "yaml", "name"]);
        let flags = after(&["get", "--"]).words;
        assert!(
            flags.contains(&"--watch".to_owned()) && flags.contains(&"--context".to_owned()),
            "{flags:?}"
        );
    }
}
