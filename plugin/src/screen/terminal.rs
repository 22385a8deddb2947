//! The terminal: taken for the screen, and given back as it was on every way out.

use anyhow::Context;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};
use tokio::sync::mpsc;

/// Keys that wait to be read. Nobody types faster than the screen is drawn; a paste waits.
const KEYS_WAITING: usize = 64;

/// Raw mode and the alternate screen; dropped, they end.
pub struct Terminal(pub DefaultTerminal);

impl Terminal {
    /// Takes it. A panic gives it back too, before it prints.
    ///
    /// # Errors
    /// It is no terminal that can be used so.
    pub fn take() -> anyhow::Result<Self> {
        match ratatui::try_init() {
            Ok(terminal) => Ok(Self(terminal)),
            Err(error) => {
                let _ = ratatui::try_restore();
                Err(error).context("the terminal cannot show the screen: take `kubectl kubervisor get -w`")
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.0.show_cursor();
        // A panic has given it back, and has printed where the cursor stood then.
        if !std::thread::panicking() {
            let _ = ratatui::try_restore();
        }
    }
}

/// What is typed, and changes of size. A thread of its own, since reading waits; it ends with the process.
#[must_use]
pub fn keys() -> mpsc::Receiver<std::io::Result<Event>> {
    let (tell, told) = mpsc::channel(KEYS_WAITING);
    std::thread::spawn(move || {
        loop {
            let event = event::read();
            let last = event.is_err();
            if tell.blocking_send(event).is_err() || last {
                break;
            }
        }
    });
    told
}
