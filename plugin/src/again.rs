//! Commands that a reader pastes: they reach the cluster, the namespace and the controller that this one reached.

use crate::args::{ControllerArgs, Reach};

/// Verbs that ask who holds the Lease, or write it.
const OF_THE_LEASE: [&str; 7] = ["cut", "describe", "explain", "freeze", "release", "restore", "thaw"];
/// Verbs that ask the controller itself.
const OF_ITS_PAGES: [&str; 2] = ["describe", "explain"];
/// Verbs that look into no namespace but the controller's.
const OF_NO_NAMESPACE: [&str; 2] = ["freeze", "thaw"];

/// The flags that this command was given.
#[derive(Debug, Clone, Default)]
pub struct Again {
    reach: Reach,
    controller: Option<ControllerArgs>,
}

impl Again {
    /// As a person gave them.
    #[must_use]
    pub fn new(reach: &Reach) -> Self {
        Self { reach: reach.clone(), controller: None }
    }

    /// Of this controller.
    #[must_use]
    pub fn of(&self, controller: &ControllerArgs) -> Self {
        Self { controller: Some(controller.clone()), ..self.clone() }
    }

    /// A command of this program.
    #[must_use]
    pub fn command(&self, words: &[&str]) -> String {
        let verb = words.first().copied().unwrap_or_default();
        let mut flags = self.cluster(OF_NO_NAMESPACE.contains(&verb) || names_a_namespace(words));
        if let Some(ControllerArgs { controller_url, controller_namespace, controller_name }) =
            &self.controller
        {
            let lease = OF_THE_LEASE.contains(&verb);
            let is = |value: &String| lease && value != "kubervisor" && !value.is_empty();
            let url = controller_url.as_ref().filter(|url| OF_ITS_PAGES.contains(&verb) && !url.is_empty());
            flag(&mut flags, "--controller-url", url);
            flag(&mut flags, "--controller-namespace", Some(controller_namespace).filter(|v| is(v)));
            flag(&mut flags, "--controller-name", Some(controller_name).filter(|v| is(v)));
        }
        line("kubectl kubervisor", words, &flags)
    }

    /// A command of kubectl's own.
    #[must_use]
    pub fn kubectl(&self, words: &[&str]) -> String {
        line("kubectl", words, &self.cluster(names_a_namespace(words)))
    }

    fn cluster(&self, no_namespace: bool) -> Vec<String> {
        let Reach { kubeconfig, context, cluster, user, as_user, as_groups, namespace, all_namespaces: _ } =
            &self.reach;
        let mut flags = Vec::new();
        flag(&mut flags, "-n", namespace.as_ref().filter(|_| !no_namespace));
        let path = kubeconfig.as_ref().map(|path| path.display().to_string());
        flag(&mut flags, "--kubeconfig", path.as_ref());
        flag(&mut flags, "--context", context.as_ref());
        flag(&mut flags, "--cluster", cluster.as_ref());
        flag(&mut flags, "--user", user.as_ref());
        flag(&mut flags, "--as", as_user.as_ref());
        for group in as_groups {
            flag(&mut flags, "--as-group", Some(group));
        }
        flags
    }
}

fn names_a_namespace(words: &[&str]) -> bool {
    words.iter().any(|word| ["-n", "-A"].contains(word))
}

fn flag(flags: &mut Vec<String>, name: &str, value: Option<&String>) {
    match value {
        // By itself it would be read as a flag.
        Some(value) if value.starts_with('-') => flags.push(format!("{name}={value}")),
        Some(value) => flags.extend([name.to_owned(), value.clone()]),
        None => {}
    }
}

fn line(program: &str, words: &[&str], flags: &[String]) -> String {
    let all = words.iter().copied().chain(flags.iter().map(String::as_str));
    all.fold(program.to_owned(), |line, word| line + " " + &quoted(word))
}

/// A word as a POSIX shell takes it.
#[must_use]
pub fn quoted(word: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(bare) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::Command;

    fn far() -> Reach {
        Reach {
            kubeconfig: Some("my files/config".into()),
            context: Some("prod".into()),
            as_groups: vec!["ops".into(), "-odd".into()],
            namespace: Some("shop".into()),
            ..Reach::default()
        }
    }

    #[test]
    fn a_command_says_again_where_it_leads_and_no_flag_that_its_verb_does_not_take() {
        let again = Again::new(&far());
        let flags = "--kubeconfig 'my files/config' --context prod --as-group ops --as-group=-odd";
        let resume = again.command(&["resume", "web", "--reason", "Ada's $x"]);
        assert_eq!(resume, format!("kubectl kubervisor resume web --reason 'Ada'\\''s $x' -n shop {flags}"));
        assert_eq!(again.command(&["get", "-A"]), format!("kubectl kubervisor get -A {flags}"));
        assert_eq!(again.kubectl(&["get", "pods"]), format!("kubectl get pods -n shop {flags}"));
        let controller = ControllerArgs {
            controller_url: Some("http://localhost:1".into()),
            controller_namespace: "ops".into(),
            controller_name: "kubervisor".into(),
        };
        let near = Again::default().of(&controller);
        assert_eq!(near.command(&["thaw"]), "kubectl kubervisor thaw --controller-namespace ops");
        assert_eq!(near.command(&["dry-run", "web", "--off"]), "kubectl kubervisor dry-run web --off");
        assert_eq!(
            near.command(&["explain", "web-0"]),
            "kubectl kubervisor explain web-0 --controller-url http://localhost:1 --controller-namespace ops"
        );
        assert!(!again.of(&controller).command(&["thaw"]).contains("-n "));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_shell_gives_every_word_back(words in proptest::collection::vec("[^\0\r]{0,12}", 1..8)) {
            let line: Vec<_> = words.iter().map(|word| quoted(word)).collect();
            let script = format!("printf '%s\\0' {}", line.join(" "));
            let out = Command::new("sh").arg("-c").arg(script).output().unwrap();
            let wanted: String = words.iter().map(|word| format!("{word}\0")).collect();
            prop_assert_eq!(String::from_utf8(out.stdout).unwrap(), wanted);
        }
    }
}
