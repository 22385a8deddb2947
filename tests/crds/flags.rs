//! The flags of the program as a page of tables.

use std::fmt::Write as _;

use clap::{Arg, Command, CommandFactory};
use kubervisor::args::Cli;

const HEAD: &str = "\
# Flags

Generated from the program by `make reference`; a test compares them. Every flag of `kubervisor run` can also be given
as an environment variable. `RUST_LOG` filters the log, `KUBECONFIG` names the cluster; in a pod without it, the pod's
own ServiceAccount is used.
";

/// The page.
pub fn reference() -> String {
    let mut page = HEAD.to_owned();
    for command in Cli::command().get_subcommands() {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(page, "\n## kubervisor {}\n\n{about}", command.get_name());
        write_flags(&mut page, command);
    }
    page
}

fn write_flags(page: &mut String, command: &Command) {
    let flags: Vec<_> = command.get_arguments().filter(|arg| arg.get_long().is_some()).collect();
    if flags.is_empty() {
        return;
    }
    let env = flags.iter().any(|arg| arg.get_env().is_some());
    let (title, line) = if env { ("| environment | default ", "|---|---") } else { ("", "") };
    let _ = writeln!(page, "\n| flag {title}| meaning |\n|---{line}|---|");
    for flag in flags {
        let _ = writeln!(
            page,
            "| {} {}| {} |",
            name(flag),
            if env { setting(flag) } else { String::new() },
            help(flag)
        );
    }
}

fn name(flag: &Arg) -> String {
    let short = flag.get_short().map(|c| format!(", `-{c}`")).unwrap_or_default();
    let value = if flag.get_action().takes_values() {
        format!(" {}", flag.get_value_names().unwrap()[0])
    } else {
        String::new()
    };
    format!("`--{}{value}`{short}", flag.get_long().unwrap())
}

fn setting(flag: &Arg) -> String {
    let env = flag.get_env().map(|e| format!("`{}`", e.to_string_lossy())).unwrap_or_default();
    let default =
        flag.get_default_values().first().map(|v| format!("`{}`", v.to_string_lossy())).unwrap_or_default();
    format!("| {env} | {default} ")
}

fn help(flag: &Arg) -> String {
    let text = flag.get_help().map(ToString::to_string).unwrap_or_default();
    let values: Vec<_> = flag.get_possible_values().iter().map(|v| format!("`{}`", v.get_name())).collect();
    let bool_flag = values.iter().any(|v| v == "`true`");
    if values.is_empty() || bool_flag { text } else { format!("{text}: {}", values.join(", ")) }
}
