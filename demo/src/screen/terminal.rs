//! Puts lines on standard output: redrawn in place on a terminal, one after the other where it is piped.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Stdout, Write, stdout};

use super::View;
use super::draw::{Line, Tone, draw};

/// Size of a terminal that does not tell it.
const USUAL_SIZE: (usize, usize) = (100, 30);

/// Standard output. On a terminal it hides the cursor while it draws and shows it again when dropped.
pub struct Terminal {
    out: Stdout,
    live: bool,
    colours: bool,
    /// Lines on the screen that the next drawing replaces.
    drawn: usize,
}

impl Terminal {
    /// Colours only on a terminal, and not where the environment says `NO_COLOR`.
    pub fn new() -> Self {
        let live = stdout().is_terminal();
        Self { out: stdout(), live, colours: live && std::env::var_os("NO_COLOR").is_none(), drawn: 0 }
    }

    /// Is a person looking at a terminal? If not, entries must be said one by one.
    pub const fn live(&self) -> bool {
        self.live
    }

    /// A line that stays, below what was drawn.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub fn say(&mut self, line: &str) -> io::Result<()> {
        self.drawn = 0;
        writeln!(self.out, "{line}")
    }

    /// Draws the view over the last one.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub fn show(&mut self, view: &View) -> io::Result<()> {
        let (width, height) = size();
        // The last line stays free for the cursor: a full screen would scroll at each drawing.
        let lines = draw(view, width, height.saturating_sub(1));
        let mut text = String::from("\x1b[?25l");
        if self.drawn > 0 {
            // Writing to a String cannot fail.
            let _ = write!(text, "\x1b[{}F", self.drawn);
        }
        for line in &lines {
            text.push_str(&self.painted(line));
            text.push_str("\x1b[K\n");
        }
        text.push_str("\x1b[J");
        self.drawn = lines.len();
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    fn painted(&self, line: &Line) -> String {
        line.iter().map(|(tone, text)| if self.colours { paint(*tone, text) } else { text.clone() }).collect()
    }
}

impl Default for Terminal {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if self.live {
            // Nothing to be done where nobody reads any more.
            let _ = write!(self.out, "\x1b[?25h").and_then(|()| self.out.flush());
        }
    }
}

fn paint(tone: Tone, text: &str) -> String {
    let code = match tone {
        Tone::Plain => return text.to_owned(),
        Tone::Strong => "1",
        Tone::Good => "32",
        Tone::Bad => "31",
        Tone::Odd => "33",
        Tone::Faint => "2",
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// Columns and rows.
fn size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => USUAL_SIZE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_painted_stretch_ends_its_colour() {
        assert_eq!(paint(Tone::Bad, "red"), "\x1b[31mred\x1b[0m");
        assert_eq!(paint(Tone::Plain, "as it is"), "as it is");
    }
}
