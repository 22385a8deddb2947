//! A bash with somebody at it: what Tab makes of a line, by bash's own machinery.

use std::path::Path;
use std::time::Duration;

use localcluster::Terminal;
use tokio::process::{Child, Command};

/// A shell is done with a line.
const DONE_WITHIN: Duration = Duration::from_secs(30);
const PROMPT: &str = "~> ";
/// Typed behind Tab: where it stands, all that Tab did is done.
const MARK: &str = "%";
/// Kills the line, then clears the screen.
const FRESH: &str = "\u{15}\u{c}";

/// Killed when dropped.
pub struct Bash {
    terminal: Terminal,
    _shell: Child,
}

impl Bash {
    /// With the completion of the program loaded, which must be on the PATH of this environment.
    pub async fn sit(own: impl FnOnce(Command) -> Command) -> Self {
        let mut terminal = Terminal::open(160, 24).unwrap();
        let seat = terminal.seat(Path::new("/bin/bash")).unwrap();
        let mut command = own(Command::from(seat));
        command.args(["--norc", "--noprofile", "-i"]).env("TERM", "xterm").env("PS1", PROMPT);
        command.env("INPUTRC", "/dev/null").kill_on_drop(true);
        let shell = command.spawn().expect("setsid of util-linux is needed for tests at a terminal");
        terminal.press("source <(kubectl-kubervisor completion bash) && echo loa''ded\n").unwrap();
        terminal.shows("loaded", DONE_WITHIN).await.unwrap();
        let mut this = Self { terminal, _shell: shell };
        this.fresh().await;
        this
    }

    async fn fresh(&mut self) {
        self.terminal.press(FRESH).unwrap();
        let empty = async || {
            let clear = self.terminal.screen().trim() == PROMPT.trim();
            Ok(if clear { Ok(()) } else { Err(self.terminal.screen()) })
        };
        localcluster::until("an empty line", DONE_WITHIN, empty).await.unwrap();
    }

    /// What becomes of these words and Tab behind the program's name.
    pub async fn completes(&mut self, typed: &str, becomes: &str) {
        self.terminal.press(&format!("kubectl-kubervisor {typed}\t{MARK}")).unwrap();
        let line = format!("{PROMPT}kubectl-kubervisor {becomes}{MARK}");
        self.terminal.shows(&line, DONE_WITHIN).await.unwrap();
        self.fresh().await;
    }

    /// What is offered where Tab is pressed twice.
    pub async fn offers(&mut self, typed: &str, words: &[&str]) {
        self.terminal.press(&format!("kubectl-kubervisor {typed}\t\t")).unwrap();
        self.terminal.shows(&format!("\n{}\n", words.join("  ")), DONE_WITHIN).await.unwrap();
        self.fresh().await;
    }
}
