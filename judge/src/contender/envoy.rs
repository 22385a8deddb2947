//! Envoy's outlier detection, from its documentation: "Outlier detection" of the architecture overview (sections
//! Consecutive 5xx, Success Rate, Failure Percentage) and the fields and defaults of `OutlierDetection`
//! (`config/cluster/v3/outlier_detection.proto`).
//!
//! One proxy that sees all requests. Since 2023 the cap is tested as it would stand after the removal, and
//! `always_eject_one_host` is off: a fleet below ten loses nobody to a cap of 10 %.

use super::Contender;
use super::sweep::{Counts, Host, INTERVAL, living, success_threshold};
use crate::case::Case;
use crate::world::World;

/// `consecutive_5xx`, by default.
const CONSECUTIVE: u32 = 5;
/// `success_rate_minimum_hosts` and `failure_percentage_minimum_hosts`, by default.
const MINIMUM_HOSTS: usize = 5;
/// `success_rate_request_volume`, by default.
const SUCCESS_VOLUME: u32 = 100;
/// `success_rate_stdev_factor` / 1000, by default.
const STDEV_FACTOR: f64 = 1.9;
/// `failure_percentage_request_volume`, by default.
const FAILURE_VOLUME: u32 = 50;
/// `failure_percentage_threshold`, by default.
const FAILURE_THRESHOLD: f64 = 85.0;

/// Which rules are enforced, and the cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    consecutive: bool,
    success_rate: bool,
    failure_percentage: bool,
    /// `max_ejection_percent`
    cap: u32,
}

impl Rules {
    /// What an empty `outlier_detection: {}` does.
    pub const SHIPPED: Self =
        Self { consecutive: true, success_rate: true, failure_percentage: false, cap: 10 };
    /// Success rate alone.
    pub const SUCCESS_RATE: Self = Self { consecutive: false, ..Self::SHIPPED };
    /// Failure percentage alone. It ships unenforced; here it is.
    pub const FAILURE_PERCENTAGE: Self =
        Self { consecutive: false, success_rate: false, failure_percentage: true, cap: 10 };
    /// All three, with the share of the fleet that ours may take out.
    pub const WIDE: Self = Self { consecutive: true, success_rate: true, failure_percentage: true, cap: 34 };
}

/// One proxy.
#[derive(Debug)]
pub struct Envoy {
    rules: Rules,
    hosts: Vec<Host>,
    /// Errors in a row, by host.
    runs: Vec<u32>,
}

impl Envoy {
    /// Before the first second.
    #[must_use]
    pub fn new(case: &Case, rules: Rules) -> Self {
        let pods = case.pods() as usize;
        Self { rules, hosts: vec![Host::default(); pods], runs: vec![0; pods] }
    }

    fn consecutive(&mut self, world: &World<'_>, living: &[usize]) {
        for &host in living {
            let last = &world.pods[host].last;
            let run = self.runs[host] + last.first_run;
            let longest = run.max(last.longest_run);
            self.runs[host] = if last.good == 0 { run } else { last.last_run };
            if self.rules.consecutive && longest >= CONSECUTIVE {
                self.runs[host] = 0;
                self.remove(host, living, world.second);
            }
        }
    }

    fn sweep(&mut self, now: u32, living: &[usize]) {
        for &host in living {
            let host = &mut self.hosts[host];
            if host.due(now) {
                (host.out_since, host.back_at) = (None, now);
            } else if host.out_since.is_none() && host.times > 0 && now - host.back_at >= INTERVAL {
                host.times -= 1;
            }
        }
        let counted: Vec<(usize, Counts)> =
            living.iter().map(|host| (*host, self.hosts[*host].take())).collect();
        if self.rules.success_rate {
            self.success_rate(now, living, &counted);
        }
        if self.rules.failure_percentage && living.len() >= MINIMUM_HOSTS {
            for (host, counts) in &counted {
                let enough = counts.volume() >= FAILURE_VOLUME;
                if enough && 100.0 - counts.success() >= FAILURE_THRESHOLD {
                    self.remove(*host, living, now);
                }
            }
        }
    }

    fn success_rate(&mut self, now: u32, living: &[usize], counted: &[(usize, Counts)]) {
        // Hosts that are out are no part of the mean.
        let valid: Vec<_> = counted
            .iter()
            .filter(|(host, counts)| {
                self.hosts[*host].out_since.is_none() && counts.volume() >= SUCCESS_VOLUME
            })
            .map(|(host, counts)| (*host, counts.success()))
            .collect();
        if valid.len() < MINIMUM_HOSTS {
            return;
        }
        let rates: Vec<_> = valid.iter().map(|(_, rate)| *rate).collect();
        let threshold = success_threshold(&rates, STDEV_FACTOR);
        for (host, _) in valid.into_iter().filter(|(_, rate)| *rate < threshold) {
            self.remove(host, living, now);
        }
    }

    fn remove(&mut self, host: usize, living: &[usize], now: u32) {
        let out = living.iter().filter(|host| self.hosts[**host].out_since.is_some()).count();
        if self.hosts[host].out_since.is_none() && allowed(out, living.len(), self.rules.cap) {
            self.hosts[host].remove(now);
        }
    }
}

/// Whether one more may go, as it would stand afterwards.
fn allowed(out: usize, hosts: usize, cap: u32) -> bool {
    (out + 1) * 100 <= hosts * cap as usize
}

impl Contender for Envoy {
    fn decide(&mut self, world: &World<'_>, out: &mut [bool]) {
        let living = living(world);
        for &host in &living {
            self.hosts[host].count(&world.pods[host].last);
        }
        self.consecutive(world, &living);
        if world.second > 0 && world.second.is_multiple_of(INTERVAL) {
            self.sweep(world.second, &living);
        }
        for host in living {
            out[host] = self.hosts[host].out_since.is_some();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envoy(rules: Rules, counts: &[(u32, u32)]) -> Vec<usize> {
        let hosts: Vec<_> =
            counts.iter().map(|(good, bad)| Host { good: *good, bad: *bad, ..Host::default() }).collect();
        let living: Vec<_> = (0..hosts.len()).collect();
        let mut envoy = Envoy { rules, runs: vec![0; hosts.len()], hosts };
        envoy.sweep(20, &living);
        living.into_iter().filter(|host| envoy.hosts[*host].out_since.is_some()).collect()
    }

    #[test]
    fn the_cap_of_ten_percent_is_tested_after_the_removal() {
        assert_eq!([9, 10, 19, 20].map(|hosts| allowed(0, hosts, 10)), [false, true, true, true]);
        assert_eq!([10, 19, 20].map(|hosts| allowed(1, hosts, 10)), [false, false, true]);
    }

    #[test]
    fn success_rate_takes_the_failing_one_of_ten_and_needs_five_with_a_hundred_requests() {
        let mut counts = [(150, 0); 10];
        counts[6] = (100, 50);
        assert_eq!(envoy(Rules::SUCCESS_RATE, &counts), [6]);
        let quiet: Vec<_> = counts.iter().map(|(good, bad)| (good / 2, bad / 2)).collect();
        assert!(envoy(Rules::SUCCESS_RATE, &quiet).is_empty());
        assert!(envoy(Rules::SUCCESS_RATE, &counts[5..9]).is_empty());
    }

    #[test]
    fn failure_percentage_takes_85_percent_of_fifty_requests_and_not_84() {
        let fleet = |good, bad| {
            let mut counts = [(100, 0); 10];
            counts[2] = (good, bad);
            envoy(Rules::FAILURE_PERCENTAGE, &counts)
        };
        assert_eq!(fleet(15, 85), [2]);
        assert!(fleet(16, 84).is_empty());
        assert!(fleet(0, 49).is_empty());
    }
}
