//! A terminal that nobody sees: a pty of the kernel, which every machine has, so that no test depends on tmux.

use std::fs::File;
use std::io::{Read, Write};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::harness::{SOON, eventually};

const COLUMNS: usize = 100;
const LINES: usize = 20;

/// The person's side of it.
pub struct Terminal {
    keyboard: File,
    /// Held open, so that its modes can be read after the program has gone.
    end: File,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    /// Of a fixed size.
    pub fn open() -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let end = File::from(rustix::fs::open(name, flags, Mode::empty()).unwrap());
        let cells = |n: usize| u16::try_from(n).unwrap();
        let size = Winsize { ws_row: cells(LINES), ws_col: cells(COLUMNS), ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&end, size).unwrap();
        let keyboard = File::from(ours);
        let (mut screen, seen) = (keyboard.try_clone().unwrap(), Arc::<Mutex<Vec<u8>>>::default());
        let into = seen.clone();
        std::thread::spawn(move || {
            let mut some = [0; 4096];
            while let Ok(n @ 1..) = screen.read(&mut some) {
                into.lock().unwrap().extend_from_slice(&some[..n]);
            }
        });
        Self { keyboard, end, seen }
    }

    /// The program's side.
    pub fn end(&self) -> Stdio {
        self.end.try_clone().unwrap().into()
    }

    /// Presses these.
    pub fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// All that was written to it, escape sequences too.
    pub fn seen(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }

    /// What stands on it now, a line for each.
    pub fn screen(&self) -> String {
        drawn(&self.seen())
    }

    /// Waits until that was written.
    pub async fn hears(&self, text: &str) {
        eventually(&format!("{text:?} is written"), SOON, || async { self.seen().contains(text) }).await;
    }

    /// Waits until that stands on it. A change writes only what is new, in pieces.
    pub async fn shows(&self, text: &str) {
        eventually(&format!("the screen shows {text:?}"), SOON, || async { self.screen().contains(text) })
            .await;
    }

    /// How it treats what is typed.
    pub fn modes(&self) -> LocalModes {
        tcgetattr(&self.end).unwrap().local_modes
    }
}

/// What is left of this on a screen: text, places of the cursor and clearing are all that a picture is written with.
fn drawn(written: &str) -> String {
    let mut lines = vec![vec![' '; COLUMNS]; LINES];
    let (mut y, mut x) = (0, 0);
    let mut rest = written.chars();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' if rest.as_str().starts_with('[') => {
                rest.next();
                let text = rest.as_str();
                let end = text.find(|c: char| ('@'..='~').contains(&c)).unwrap_or(text.len());
                let (words, after) = text.split_at(end);
                let last = after.get(..1).unwrap_or_default();
                rest = after.get(1..).unwrap_or_default().chars();
                let mut numbers = words.split(';').map(|n| n.parse::<usize>().unwrap_or(1));
                match last {
                    "H" => (y, x) = (numbers.next().unwrap_or(1) - 1, numbers.next().unwrap_or(1) - 1),
                    "J" => lines.iter_mut().for_each(|line| line.fill(' ')),
                    _ => {}
                }
            }
            '\r' => x = 0,
            '\n' => y += 1,
            c => {
                if let Some(cell) = lines.get_mut(y).and_then(|line| line.get_mut(x)) {
                    *cell = c;
                }
                x += 1;
            }
        }
    }
    lines.iter().map(|line| line.iter().collect::<String>() + "\n").collect()
}
