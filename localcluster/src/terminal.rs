//! A terminal that nobody sees: a pty of the kernel, which every machine has, and what stands on its screen.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZero;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::wait::until;

/// What is written to it, as bytes.
type Written = Arc<Mutex<Vec<u8>>>;

/// The person's side of it.
pub struct Terminal {
    keyboard: File,
    /// The program's side. Held open, so that its modes can be read after the program has gone.
    end: File,
    written: Written,
    reader: JoinHandle<()>,
    columns: NonZero<u16>,
    lines: NonZero<u16>,
}

impl Terminal {
    /// Of a fixed size.
    ///
    /// # Errors
    /// When the kernel gives no pty, or there is no room on it.
    pub fn open(columns: u16, lines: u16) -> anyhow::Result<Terminal> {
        let cells = |n| NonZero::new(n).context("a terminal has columns and lines");
        let (columns, lines) = (cells(columns)?, cells(lines)?);
        let (keyboard, end) = pty().context("the kernel gives no pty")?;
        let size = Winsize { ws_row: lines.get(), ws_col: columns.get(), ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&end, size).context("the pty takes no size")?;
        let screen = keyboard.try_clone().context("the pty cannot be read")?;
        let written = Written::default();
        let into = Arc::clone(&written);
        let reader = std::thread::spawn(move || read(screen, &into));
        Ok(Terminal { keyboard, end, written, reader, columns, lines })
    }

    /// This program at this terminal, which it controls as a shell's would. The environment is the caller's to set, TERM
    /// and a PATH on which `setsid` of util-linux or busybox is.
    ///
    /// # Errors
    /// When there are too many open files.
    pub fn seat(&self, program: &Path) -> anyhow::Result<Command> {
        let end = || self.end.try_clone().map(Stdio::from).context("the pty cannot be handed on");
        let mut command = Command::new("setsid");
        command.arg("-c").arg(program).stdin(end()?).stdout(end()?).stderr(end()?);
        Ok(command)
    }

    /// Presses these.
    ///
    /// # Errors
    /// When nobody reads, and the kernel keeps no more of it.
    pub fn press(&mut self, keys: &str) -> anyhow::Result<()> {
        self.keyboard.write_all(keys.as_bytes()).context("the pty takes no more keys")
    }

    /// All that was written to it, escape sequences too.
    pub fn written(&self) -> String {
        text(&self.written)
    }

    /// What stands on it now, a line for each of its own, without trailing blanks.
    pub fn screen(&self) -> String {
        drawn(&self.written, self.columns, self.lines)
    }

    /// Waits until that was written.
    ///
    /// # Errors
    /// When it is not within this time, with all that was.
    pub async fn hears(&self, words: &str, limit: Duration) -> anyhow::Result<()> {
        let heard = || has(self.written(), words);
        until(&format!("{words:?} on the wire of a terminal"), limit, || async { Ok(heard()) }).await
    }

    /// Waits until that stands on it. A change writes only what is new, in pieces.
    ///
    /// # Errors
    /// When it does not within this time, with what does.
    pub async fn shows(&self, words: &str, limit: Duration) -> anyhow::Result<()> {
        let shown = || has(self.screen(), words);
        until(&format!("{words:?} on the screen of a terminal"), limit, || async { Ok(shown()) }).await
    }

    /// How it treats what is typed.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn modes(&self) -> anyhow::Result<LocalModes> {
        Ok(tcgetattr(&self.end).context("the pty does not tell its modes")?.local_modes)
    }

    /// What stands on it at the end, after all that its program wrote: call it once that has ended, as it blocks until
    /// nobody holds the terminal any more.
    pub fn last(self) -> String {
        let Terminal { keyboard, end, written, reader, columns, lines } = self;
        drop(end);
        // It has no result; that it panicked shows in what is missing.
        let _ = reader.join();
        drop(keyboard);
        drawn(&written, columns, lines)
    }
}

/// Our side and the program's.
fn pty() -> anyhow::Result<(File, File)> {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let name = ptsname(&ours, Vec::new())?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let end = rustix::fs::open(name, flags, Mode::empty())?;
    Ok((File::from(ours), File::from(end)))
}

/// Until nobody holds the other side: the kernel gives what is left, then an error.
fn read(mut screen: File, into: &Written) {
    let mut some = [0; 4096];
    while let Ok(n @ 1..) = screen.read(&mut some) {
        into.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&some[..n]);
    }
}

fn text(written: &Written) -> String {
    String::from_utf8_lossy(&written.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
}

fn drawn(written: &Written, columns: NonZero<u16>, lines: NonZero<u16>) -> String {
    let mut parser = vt100::Parser::new(lines, columns, 0);
    parser.process(&written.lock().unwrap_or_else(PoisonError::into_inner));
    parser.screen().rows(0, columns.get()).map(|line| format!("{}\n", line.trim_end())).collect()
}

fn has(text: String, words: &str) -> Result<(), String> {
    if text.contains(words) { Ok(()) } else { Err(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    fn shell(terminal: &Terminal, script: &str) -> std::process::Child {
        let mut command = terminal.seat(Path::new("/bin/sh")).expect("a seat");
        command.args(["-c", script]).env("TERM", "xterm-256color").spawn().expect("setsid")
    }

    #[tokio::test]
    async fn a_program_draws_and_hears_keys_and_its_last_words_are_kept() {
        let mut terminal = Terminal::open(20, 4).expect("a pty");
        let before = terminal.modes().expect("modes");
        assert!(before.contains(LocalModes::ECHO));
        let script = r"printf 'gone\033[2J\033[2;3Hhere \033[1mbold\033[m'; read key; printf '\033[4;1H%s' $key; exec stty size";
        let mut child = shell(&terminal, script);
        terminal.shows("  here bold", SOON).await.expect("a picture");
        assert!(!terminal.screen().contains("gone") && terminal.written().contains("\u{1b}[2J"));
        terminal.press("pear\n").expect("pressed");
        assert!(child.wait().expect("its end").success());
        let last = terminal.last();
        assert!(last.contains("pear4 20\n") && last.lines().count() == 4, "it scrolled: {last:?}");
    }

    #[tokio::test]
    async fn what_never_comes_is_told_with_what_stands_there() {
        let terminal = Terminal::open(20, 4).expect("a pty");
        let mut child = shell(&terminal, "echo plum");
        terminal.hears("plum\r\n", SOON).await.expect("heard");
        child.wait().expect("its end");
        let error = terminal.shows("pear", Duration::ZERO).await.expect_err("no pear").to_string();
        assert!(error.contains("\"pear\" on the screen") && error.contains("plum"), "{error}");
    }
}
