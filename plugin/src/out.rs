//! Standard output, which whoever reads it may close at any time.

use std::io::{IsTerminal as _, Write as _};

use ratatui::crossterm::terminal::size;
use serde_json::Value;

use crate::args::{Form, Output};
use crate::words::plain;

/// Prints sentences for people. What others wrote may be in them.
///
/// # Errors
/// Nobody reads any more.
pub fn tell(text: &str) -> anyhow::Result<()> {
    print(&each_plain(text))
}

/// Prints it as it is.
///
/// # Errors
/// Nobody reads any more.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Says it on standard error, beside what is printed. Nobody reading there is no failure.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", each_plain(text));
}

fn each_plain(lines: &str) -> String {
    lines.split('\n').map(plain).collect::<Vec<_>>().join("\n")
}

/// Whether there is a terminal that can be drawn on.
#[must_use]
pub fn is_screen() -> bool {
    std::io::stdout().is_terminal()
        && std::env::var("TERM").is_ok_and(|term| !term.is_empty() && term != "dumb")
}

/// Columns of the terminal that it is read at; `None` where it goes elsewhere, and a line should stay one.
#[must_use]
pub fn columns() -> Option<usize> {
    let there = std::io::stdout().is_terminal().then(size)?.ok();
    there.map(|(columns, _)| usize::from(columns)).filter(|columns| *columns > 0)
}

/// Whether this is the end that a reader such as `head` makes: no failure of ours.
#[must_use]
pub fn closed(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
}

impl Output {
    /// For programs, where it is that.
    #[must_use]
    pub fn form(self) -> Option<Form> {
        match self {
            Self::Json => Some(Form::Json),
            Self::Yaml => Some(Form::Yaml),
            Self::Wide | Self::Name => None,
        }
    }
}

/// JSON with kubectl's indent, or YAML.
///
/// # Errors
/// It cannot be written so.
pub fn formed(value: &Value, form: Form) -> anyhow::Result<String> {
    match form {
        Form::Json => {
            let mut text = Vec::new();
            let indent = serde_json::ser::PrettyFormatter::with_indent(b"    ");
            let mut writer = serde_json::Serializer::with_formatter(&mut text, indent);
            serde::Serialize::serialize(value, &mut writer)?;
            Ok(String::from_utf8(text)? + "\n")
        }
        Form::Yaml => Ok(serde_yaml_ng::to_string(value)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_a_sentence_stay_lines_and_what_moves_a_cursor_does_not() {
        assert_eq!(each_plain("held: a\u{1b}[2Jb\r\nnext\n"), "held: a [2Jb \nnext\n");
    }
}
