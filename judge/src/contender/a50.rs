//! gRPC's outlier detection, from gRFC A50 (grpc/proposal, "A50: gRPC xDS Outlier Detection Support", sections LB
//! Policy Config, Outlier Detection Behavior, Success Rate Algorithm, Failure Percentage Algorithm), with its defaults.
//!
//! One client that sends all requests. The cap of 10 % is tested before a removal, so that at least one address goes
//! whatever the fleet's size.

use super::Contender;
use super::sweep::{Counts, Host, INTERVAL, living, success_threshold};
use crate::case::Case;
use crate::world::World;

const MINIMUM_HOSTS: usize = 5;
const CAP: usize = 10;
const STDEV_FACTOR: f64 = 1.9;
const SUCCESS_VOLUME: u32 = 100;
const FAILURE_VOLUME: u32 = 50;
const FAILURE_THRESHOLD: f64 = 85.0;

/// Which of the two is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// `success_rate_ejection`
    SuccessRate,
    /// `failure_percentage_ejection`
    FailurePercentage,
}

/// One client.
#[derive(Debug)]
pub struct A50 {
    algorithm: Algorithm,
    hosts: Vec<Host>,
}

impl A50 {
    /// Before the first second.
    #[must_use]
    pub fn new(case: &Case, algorithm: Algorithm) -> Self {
        Self { algorithm, hosts: vec![Host::default(); case.pods() as usize] }
    }

    fn sweep(&mut self, now: u32, living: &[usize]) {
        let counted: Vec<(usize, Counts)> =
            living.iter().map(|host| (*host, self.hosts[*host].take())).collect();
        match self.algorithm {
            Algorithm::SuccessRate => self.success_rate(now, living, &counted),
            Algorithm::FailurePercentage => self.failure_percentage(now, living, &counted),
        }
        for &host in living {
            let host = &mut self.hosts[host];
            if host.out_since.is_none() {
                host.times = host.times.saturating_sub(1);
            } else if host.due(now) {
                host.out_since = None;
            }
        }
    }

    fn success_rate(&mut self, now: u32, living: &[usize], counted: &[(usize, Counts)]) {
        let valid: Vec<_> = counted
            .iter()
            .filter(|(_, counts)| counts.volume() >= SUCCESS_VOLUME)
            .map(|(host, counts)| (*host, counts.success()))
            .collect();
        if valid.len() < MINIMUM_HOSTS {
            return;
        }
        let rates: Vec<_> = valid.iter().map(|(_, rate)| *rate).collect();
        let threshold = success_threshold(&rates, STDEV_FACTOR);
        for (host, rate) in valid {
            if self.full(living) {
                return;
            }
            if rate < threshold {
                self.remove(host, now);
            }
        }
    }

    fn failure_percentage(&mut self, now: u32, living: &[usize], counted: &[(usize, Counts)]) {
        if living.len() < MINIMUM_HOSTS {
            return;
        }
        for (host, counts) in counted {
            if self.full(living) {
                return;
            }
            if counts.volume() >= FAILURE_VOLUME && 100.0 - counts.success() > FAILURE_THRESHOLD {
                self.remove(*host, now);
            }
        }
    }

    /// "If the percentage of ejected addresses is greater than `max_ejection_percent`, stop."
    fn full(&self, living: &[usize]) -> bool {
        let out = living.iter().filter(|host| self.hosts[**host].out_since.is_some()).count();
        out * 100 > living.len() * CAP
    }

    fn remove(&mut self, host: usize, now: u32) {
        if self.hosts[host].out_since.is_none() {
            self.hosts[host].remove(now);
        }
    }
}

impl Contender for A50 {
    fn decide(&mut self, world: &World<'_>, out: &mut [bool]) {
        let living = living(world);
        for &host in &living {
            self.hosts[host].count(&world.pods[host].last);
        }
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

    fn swept(algorithm: Algorithm, counts: &[(u32, u32)]) -> Vec<usize> {
        let hosts: Vec<_> =
            counts.iter().map(|(good, bad)| Host { good: *good, bad: *bad, ..Host::default() }).collect();
        let living: Vec<_> = (0..hosts.len()).collect();
        let mut client = A50 { algorithm, hosts };
        client.sweep(20, &living);
        living.into_iter().filter(|host| client.hosts[*host].out_since.is_some()).collect()
    }

    #[test]
    fn at_least_one_address_goes_whatever_the_cap() {
        let mut counts = [(150, 0); 5];
        counts[3] = (0, 150);
        assert_eq!(swept(Algorithm::SuccessRate, &counts), [3]);
        assert_eq!(swept(Algorithm::FailurePercentage, &counts), [3]);
        assert!(swept(Algorithm::SuccessRate, &counts[1..]).is_empty());
    }

    #[test]
    fn above_the_cap_no_further_address_goes() {
        let mut counts = [(150, 0); 10];
        [1, 4, 7].into_iter().for_each(|host| counts[host] = (0, 150));
        assert_eq!(swept(Algorithm::FailurePercentage, &counts), [1, 4]);
    }

    #[test]
    fn failure_percentage_takes_more_than_85_percent_of_fifty_requests() {
        let fleet = |good, bad| {
            let mut counts = [(100, 0); 10];
            counts[2] = (good, bad);
            swept(Algorithm::FailurePercentage, &counts)
        };
        assert_eq!(fleet(14, 86), [2]);
        assert!(fleet(15, 85).is_empty());
        assert!(fleet(0, 49).is_empty());
    }
}
