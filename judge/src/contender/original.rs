//! The original Kubervisor (AmadeusITGroup/kubervisor, 2019): the rules of its analysers (package anomalydetector),
//! its breaker and its activator, with its defaults.
//!
//! In its favour: every evaluation happens at its period and every write works at once; both were not so.

use incidents::{Purpose, Seed};

use super::Contender;
use super::question::{Question, range};
use crate::case::Case;
use crate::world::World;

/// evaluationPeriod, activator.period: seconds.
const PERIOD: u32 = 5;
const OUT_FOR: u32 = 10;
/// tolerance, minActivity, maxDeviationPercent, minPodsAvailableCount
const TOLERANCE: u64 = 50;
const MIN_ACTIVITY: u64 = 2;
const MAX_DEVIATION: f64 = 0.75;
const FLOOR_COUNT: usize = 1;
/// minPodsAvailableRatio: the one number that is not a default, the same as ours is given.
const FLOOR_PERCENT: usize = 50;
/// One discreteValueOutOfList, two continuousValueDeviation: all that it can ask of what is counted here.
const BREAKERS: [Question; 3] = [Question::Codes, Question::LatencyToMean, Question::PriceToMean];

/// The original.
#[derive(Debug)]
pub struct Original {
    seed: Seed,
    range: u32,
    /// When each pod was cut.
    cut: Vec<Option<u32>>,
}

impl Original {
    /// Before the first second.
    #[must_use]
    pub fn new(case: &Case) -> Self {
        Self { seed: case.seed, range: range(case.scrape), cut: vec![None; case.pods() as usize] }
    }

    fn evaluate(&mut self, world: &World<'_>, question: Question) {
        let bad = anomalous(question, world, self.range);
        let open = |pod: &u32| self.cut[*pod as usize].is_none();
        let mut bad: Vec<u32> = world.alive().filter(|pod| bad.contains(pod)).filter(open).collect();
        // It goes through a Go map, whose order is random.
        let now = u64::from(world.second);
        bad.sort_by_key(|pod| self.seed.draw(Purpose::Fate, now << 20, (*pod).into()));
        let in_traffic = world.alive().filter(open).count();
        let allowed = in_traffic.saturating_sub(floor(in_traffic));
        for pod in bad.into_iter().take(allowed) {
            self.cut[pod as usize] = Some(world.second);
        }
    }
}

/// Over the pods that are still in traffic, and rounded down.
fn floor(in_traffic: usize) -> usize {
    (in_traffic * FLOOR_PERCENT / 100).max(FLOOR_COUNT)
}

fn anomalous(question: Question, world: &World<'_>, range: u32) -> Vec<u32> {
    let series = question.answer(world, range);
    match question {
        Question::Codes => {
            let count = |pod: u32, bad: bool| {
                let of = series.iter().filter(|s| s.pod == pod && (s.code == Some("500")) == bad);
                of.map(|s| whole(s.value)).sum::<u64>()
            };
            let pods = series.iter().filter(|s| s.code == Some("500")).map(|s| s.pod);
            pods.filter(|pod| too_many(count(*pod, false), count(*pod, true))).collect()
        }
        _ => series.iter().filter(|s| (1.0 - s.value).abs() > MAX_DEVIATION).map(|s| s.pod).collect(),
    }
}

/// It casts values to unsigned integers.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "what it does")]
fn whole(value: f64) -> u64 {
    value as u64
}

fn too_many(good: u64, bad: u64) -> bool {
    let all = good + bad;
    all >= MIN_ACTIVITY && bad * 100 / all > TOLERANCE
}

impl Contender for Original {
    fn decide(&mut self, world: &World<'_>, out: &mut [bool]) {
        let now = world.second;
        for cut in &mut self.cut {
            *cut = cut.filter(|at| at + OUT_FOR >= now);
        }
        if now > 0 && now.is_multiple_of(PERIOD) {
            for question in BREAKERS {
                self.evaluate(world, question);
            }
        }
        for (out, cut) in out.iter_mut().zip(&self.cut) {
            *out = cut.is_some();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_floor_shrinks_with_every_cut() {
        let mut in_traffic = vec![10];
        (0..3).for_each(|i| in_traffic.push(floor(in_traffic[i])));
        assert_eq!(in_traffic, [10, 5, 2, 1]);
    }

    #[test]
    fn two_errors_of_two_are_enough_for_it_and_half_is_tolerated() {
        assert!(too_many(0, 2) && !too_many(0, 1));
        assert!(!too_many(50, 50) && too_many(48, 52));
    }
}
