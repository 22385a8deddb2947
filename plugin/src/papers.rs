//! What ships beside the program: completion scripts, and man pages made from its flags.

use std::path::Path;

use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Cli;
use crate::out::print;

/// `completion`. The scripts of the usual shells ask `__complete`, as only that knows the names of a cluster; those of the
/// others are made from the flags.
///
/// # Errors
/// Nobody reads.
pub fn completion(shell: Shell) -> anyhow::Result<()> {
    match shell {
        Shell::Bash => print(include_str!("../completion/kubectl-kubervisor.bash")),
        Shell::Zsh => print(include_str!("../completion/kubectl-kubervisor.zsh")),
        Shell::Fish => print(include_str!("../completion/kubectl-kubervisor.fish")),
        other => {
            let (mut text, mut command) = (Vec::new(), Cli::command().bin_name("kubectl-kubervisor"));
            clap_complete::generate(other, &mut command, "kubectl-kubervisor", &mut text);
            print(&String::from_utf8(text)?)
        }
    }
}

/// `man`
///
/// # Errors
/// The folder cannot be written.
pub fn man(folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("{}: cannot be made", folder.display()))?;
    let command = Cli::command().bin_name("kubectl-kubervisor");
    clap_mangen::generate_to(command, folder)
        .with_context(|| format!("{}: man pages cannot be written there", folder.display()))?;
    let pages = std::fs::read_dir(folder)?.count();
    print(&format!("{pages} man pages are in {}: read one with `man -l FILE`\n", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_that_is_shown_has_a_man_page() {
        let folder = tempfile::tempdir().unwrap();
        man(folder.path()).unwrap();
        let verbs = Cli::command();
        for verb in verbs.get_subcommands().filter(|verb| !verb.is_hide_set()) {
            let page = folder.path().join(format!("kubectl-kubervisor-{}.1", verb.get_name()));
            let text = std::fs::read_to_string(&page).unwrap_or_default();
            assert!(text.contains(".SH SYNOPSIS"), "{}", page.display());
        }
    }
}
