//! What happened, line by line, and a hash over all of it.

use std::time::Duration;

use kubervisor_core::backoff::hash;

/// Lines that are kept; the hash is over all of them.
const KEPT: usize = 20_000;

/// With `LIVE=1` each line is printed as it is told: for a story that never ends.
#[derive(Debug, Default)]
pub struct Trace {
    pub lines: Vec<String>,
    pub hash: u64,
    pub told: u64,
}

impl Trace {
    pub fn tell(&mut self, at: Duration, text: &str) {
        let line = format!("{:>9.3} {text}", at.as_secs_f64());
        if std::env::var_os("LIVE").is_some() {
            println!("{line}");
        }
        self.hash = hash(self.hash, line.as_bytes());
        self.told += 1;
        if self.lines.len() < KEPT {
            self.lines.push(line);
        }
    }
}
