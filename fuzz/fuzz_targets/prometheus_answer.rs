//! What it does is in `kubervisor::fuzzing`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: kubervisor_fuzz::quiet(), |input: &[u8]| kubervisor_fuzz::run("prometheus_answer", input));
