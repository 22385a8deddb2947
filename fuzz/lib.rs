//! What the programs of this folder share.
//!
//! The parser of PromQL panics on some texts, and that is caught where it is called. libFuzzer would end the process at
//! any panic; here only one that nobody catches does.

use std::cell::Cell;
use std::panic;

thread_local! {
    static LAST: Cell<Option<String>> = const { Cell::new(None) };
}

/// Panics are noted, not printed.
pub fn quiet() {
    panic::set_hook(Box::new(|info| LAST.set(Some(info.to_string()))));
}

/// One input; a broken promise is printed and ends the process.
pub fn run(name: &str, input: &[u8]) {
    if panic::catch_unwind(|| kubervisor::fuzzing::run(name, input)).is_err() {
        eprintln!("{}", LAST.take().unwrap_or_default());
        std::process::abort();
    }
}
