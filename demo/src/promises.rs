//! What the demo promises, judged from the record alone: each promise with its figures, kept or not.

use std::fmt::Write;
use std::time::Duration;

use crate::desk::Answers;
use crate::record::Record;
use crate::script::{FAILING, FLOOR, HOPELESS, MISPRICED, PODS, Scene, Script, heals_at};
use crate::words::{after, after_each, percent, seconds};

/// Client errors that count as none: pods that are well answer 0.2 % with 500.
const WELL_AT_MOST: f64 = 0.01;
/// Two of ten pods with nine errors in ten answers make 18 %; less than half of that was no incident.
const ILL_AT_LEAST: f64 = 0.08;
/// From fault to cut: half of the query's window (2.5 s) until the errors prevail, a scrape (1 s), a period (2 s)
/// and the API server; the rest is room for a slow machine.
const CUT_WITHIN: Duration = Duration::from_secs(10);
/// In the storm the gate must be seen to hold over several evaluations after all pods are known to be ill.
const STILL_AT_LEAST: Duration = Duration::from_secs(10);
/// The floor must be seen held over several evaluations, 2 s apart.
const HELD_AT_LEAST: Duration = Duration::from_secs(8);
/// From "cluster ready" to the end.
const LIMIT: Duration = Duration::from_secs(180);

/// One promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promise {
    /// Was it kept?
    pub kept: bool,
    /// What was promised, and the figures.
    pub text: String,
}

/// What the judge needs to know beyond the record and the script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// When the play ended.
    pub end: Duration,
    /// How long before the curtain rose the cluster was ready.
    pub bring_up: Duration,
    /// When the API server granted the controller's eviction of the pod that never recovers.
    pub evicted: Option<Duration>,
    /// The ordinal of the pod that was born after the eviction.
    pub successor: Option<u32>,
    /// What the plugin said at the floor, where the controller answered it.
    pub answers: Option<Answers>,
}

/// The promises in the order of the play.
pub fn judge(record: &Record, script: &Script, facts: &Facts) -> Vec<Promise> {
    let case = Case { record, script, facts };
    vec![
        case.before(),
        case.two_are_cut(),
        case.during(),
        case.after(),
        case.two_come_back(),
        case.hopeless_is_evicted(),
        case.wrong_prices(),
        case.nobody_else(),
        case.storm_holds(),
        case.floor_reached(),
        case.explained(),
        case.all_come_back(),
        case.never_below(),
        case.in_time(),
    ]
}

/// The list as printed: a line each, `ok` or `FAILED` first.
pub fn list(promises: &[Promise]) -> String {
    let mut list = String::new();
    for Promise { kept, text } in promises {
        // Writing to a String cannot fail.
        let _ = writeln!(list, "{:<6}  {text}", if *kept { "ok" } else { "FAILED" });
    }
    list
}

struct Case<'a> {
    record: &'a Record,
    script: &'a Script,
    facts: &'a Facts,
}

impl Case<'_> {
    /// A scene that was never played begins with the end, so that nothing in it can be kept.
    fn began(&self, scene: Scene) -> Duration {
        self.script.began(scene).unwrap_or(self.facts.end)
    }

    /// When a pod was cut for the fault of a scene, and how long after the fault.
    fn cut(&self, pod: u32, scene: Scene) -> Option<(Duration, Duration)> {
        let fault = self.began(scene);
        self.record.left(pod, fault).map(|at| (at, at - fault))
    }

    /// When the last of the two failing pods was cut; the heal where one never was.
    fn both_cut(&self) -> Duration {
        let cuts = FAILING.map(|pod| self.cut(pod, Scene::TwoFail).map(|(at, _)| at));
        cuts.into_iter()
            .map(|at| at.unwrap_or(heals_at(self.began(Scene::TwoFail))))
            .max()
            .unwrap_or_default()
    }

    fn before(&self) -> Promise {
        let failed = self.record.failed(Duration::ZERO, self.began(Scene::TwoFail));
        Promise {
            kept: failed.whole > 0 && failed.ratio() <= WELL_AT_MOST,
            text: format!(
                "before: {} of {} client requests failed (at most {})",
                failed.percent(),
                failed.whole,
                percent(WELL_AT_MOST)
            ),
        }
    }

    fn two_are_cut(&self) -> Promise {
        let waits = FAILING.map(|pod| self.cut(pod, Scene::TwoFail).map(|(_, wait)| wait));
        Promise {
            kept: waits.iter().all(|wait| wait.is_some_and(|wait| wait <= CUT_WITHIN)),
            text: format!(
                "two pods answer 500: out of traffic {} (within {})",
                after_each(&waits),
                seconds(CUT_WITHIN)
            ),
        }
    }

    fn during(&self) -> Promise {
        let failed = self.record.failed(self.began(Scene::TwoFail), self.both_cut());
        Promise {
            kept: failed.ratio() >= ILL_AT_LEAST,
            text: format!(
                "during, up to the second cut: {} of {} failed (at least {}, or the fault was none)",
                failed.percent(),
                failed.whole,
                percent(ILL_AT_LEAST)
            ),
        }
    }

    /// While both are still ill and nothing else is wrong.
    fn after(&self) -> Promise {
        let until = self.began(Scene::NeverRecovers).min(heals_at(self.began(Scene::TwoFail)));
        let failed = self.record.failed(self.both_cut(), until);
        Promise {
            kept: failed.whole > 0 && failed.ratio() <= WELL_AT_MOST,
            text: format!(
                "after, both still ill: {} of {} failed (at most {})",
                failed.percent(),
                failed.whole,
                percent(WELL_AT_MOST)
            ),
        }
    }

    fn two_come_back(&self) -> Promise {
        let out = FAILING.map(|pod| {
            let (cut, _) = self.cut(pod, Scene::TwoFail)?;
            Some(self.record.came(pod, cut)? - cut)
        });
        Promise {
            kept: out.iter().all(Option::is_some),
            text: format!("healed meanwhile: they serve again {} out of traffic", after_each(&out)),
        }
    }

    fn hopeless_is_evicted(&self) -> Promise {
        let fault = self.began(Scene::NeverRecovers);
        let end = self.began(Scene::Storm);
        let cuts = self.record.times_left(HOPELESS, fault, end);
        let evicted = self.facts.evicted.filter(|at| *at < end);
        let serves = self.facts.successor.and_then(|pod| self.record.came(pod, evicted?));
        let since = |at: Option<Duration>| after(at.map(|at| at.saturating_sub(fault)));
        Promise {
            kept: cuts >= 2 && evicted.is_some() && serves.is_some_and(|at| at < end),
            text: format!(
                "never recovers: cut {cuts} times (one retry), eviction granted by the API server {}, its \
                 successor serves {}",
                since(evicted),
                since(serves)
            ),
        }
    }

    fn wrong_prices(&self) -> Promise {
        let cut = self.cut(MISPRICED, Scene::WrongPrices);
        let back = cut.and_then(|(at, _)| Some(self.record.came(MISPRICED, at)? - at));
        let wait = cut.map(|(_, wait)| wait);
        Promise {
            kept: wait.is_some_and(|wait| wait <= CUT_WITHIN) && back.is_some(),
            text: format!(
                "prices off by half, each a 200: out of traffic {} (within {}), serves again {} out of traffic",
                after(wait),
                seconds(CUT_WITHIN),
                after(back)
            ),
        }
    }

    fn nobody_else(&self) -> Promise {
        let ill: std::collections::BTreeSet<u32> = FAILING.into_iter().chain([MISPRICED, HOPELESS]).collect();
        let left = self.record.leavers(Duration::ZERO, self.began(Scene::Storm));
        let well: Vec<_> = left.difference(&ill).collect();
        Promise {
            kept: well.is_empty() && !left.is_empty(),
            text: format!(
                "until then {} pods were taken out, {} of them healthy (none)",
                left.len(),
                well.len()
            ),
        }
    }

    /// The usual policy: what all share is no single pod's fault, and the controller says so.
    fn storm_holds(&self) -> Promise {
        let (from, until) = (self.began(Scene::Storm), self.began(Scene::GateOff));
        let cut = self.record.leavers(from, until).len();
        let why = self.record.held(from, until);
        Promise {
            kept: cut == 0 && why.is_some() && until.saturating_sub(from) >= STILL_AT_LEAST,
            text: format!(
                "all {PODS} bad at once: {cut} taken out in {} (none); Held says {:?}",
                seconds(until.saturating_sub(from)),
                why.unwrap_or("nothing")
            ),
        }
    }

    fn floor_reached(&self) -> Promise {
        let (lowest, held) = self.record.lowest(self.began(Scene::GateOff), self.began(Scene::Recovery));
        Promise {
            kept: lowest == FLOOR && held >= HELD_AT_LEAST,
            text: format!(
                "all {PODS} bad, the storm gate off: at the lowest {lowest} served, for {} (exactly the floor of \
                 {FLOOR}, at least {})",
                seconds(held),
                seconds(HELD_AT_LEAST)
            ),
        }
    }

    /// By the controller itself: a pod's marks alone do not say what keeps it.
    fn explained(&self) -> Promise {
        let by = |word: fn(&Answers) -> &str| self.facts.answers.as_ref().map_or("nothing", word);
        let (cut_by, kept_by) = (by(|answers| &answers.cut_by), by(|answers| &answers.kept_by));
        Promise {
            kept: cut_by == "error-rate" && kept_by == "floor",
            text: format!(
                "asked why, kubectl kubervisor explain says {cut_by:?} of a pod that is cut (error-rate) and {kept_by:?} \
                 of one that serves (floor)"
            ),
        }
    }

    fn all_come_back(&self) -> Promise {
        let serving = self.record.serving_now();
        let well_again = self.facts.end.saturating_sub(self.began(Scene::Recovery));
        Promise {
            kept: serving == PODS,
            text: format!("well again: {serving} of {PODS} serve {} later", seconds(well_again)),
        }
    }

    fn never_below(&self) -> Promise {
        let (lowest, _) = self.record.lowest(Duration::ZERO, self.facts.end);
        Promise {
            kept: lowest >= FLOOR,
            text: format!(
                "never below the floor: at the lowest {lowest} served, over {} changes of the EndpointSlices",
                self.record.changes()
            ),
        }
    }

    fn in_time(&self) -> Promise {
        let took = self.facts.bring_up + self.facts.end;
        Promise {
            kept: took <= LIMIT,
            text: format!("over {} after the cluster was ready (within {})", seconds(took), seconds(LIMIT)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Serving;
    use crate::script::{Cue, REQUESTS_PER_SECOND, Seen};
    use crate::workload::Clients;

    /// A run as it should go: scenes at 0, 6, 20, 26, 68, 80 and 104 s, the end at 112 s.
    struct Run {
        record: Record,
        script: Script,
        facts: Facts,
        out: Serving,
        errors: u64,
    }

    const SUCCESSOR: u32 = 10;

    fn answers() -> Answers {
        let [cut, kept] = ["red is cut", "blue serves"].map(str::to_owned);
        Answers { cut, cut_by: "error-rate".to_owned(), kept, kept_by: "floor".to_owned() }
    }

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    impl Run {
        fn good() -> Self {
            let facts = Facts {
                end: ms(112_000),
                bring_up: ms(9_000),
                evicted: Some(ms(62_000)),
                successor: Some(SUCCESSOR),
                answers: Some(answers()),
            };
            let mut run =
                Self { record: Record::default(), script: script(), facts, out: Serving::new(), errors: 0 };
            run.out.insert(SUCCESSOR);
            run.play(&moves());
            run.record.hold(ms(71_000), "all are ill");
            run
        }

        /// Each move: a tenth of a second, a pod that leaves (`true`) or comes.
        fn play(&mut self, moves: &[(u64, u32, bool)]) {
            for tenth in 0..=1_120_u64 {
                let at = ms(tenth * 100);
                for (_, pod, leaves) in moves.iter().filter(|(when, _, _)| *when == tenth) {
                    if *leaves {
                        self.out.insert(*pod)
                    } else {
                        self.out.remove(pod)
                    };
                }
                self.record.serving(at, (0..=SUCCESSOR).filter(|pod| !self.out.contains(pod)).collect());
                let ill = FAILING.iter().filter(|pod| (60..260).contains(&tenth) && !self.out.contains(pod));
                self.errors += 4 * ill.count() as u64;
                let requests = tenth * u64::from(REQUESTS_PER_SECOND) / 10;
                self.record.clients(at, Clients { requests, errors: self.errors });
            }
        }

        fn broken(&self) -> Vec<String> {
            let promises = judge(&self.record, &self.script, &self.facts);
            promises.into_iter().filter(|promise| !promise.kept).map(|promise| promise.text).collect()
        }
    }

    fn moves() -> Vec<(u64, u32, bool)> {
        let mut moves = vec![(101, 2, true), (102, 5, true), (330, 2, false), (341, 5, false)];
        moves.extend([(242, 4, true), (470, 4, false), (520, 4, true), (632, SUCCESSOR, false)]);
        moves.extend([(305, 7, true), (540, 7, false)]);
        moves.extend([0, 1, 2, 3, 5].map(|pod| (840, pod, true)));
        moves.extend([0, 1, 2, 3, 5].map(|pod| (1_090, pod, false)));
        moves
    }

    fn script() -> Script {
        let mut script = Script::default();
        for at in [6, 20, 26, 66, 68, 80, 104].map(Duration::from_secs) {
            let seen = Seen { serving: PODS, hopeless_gone: true, ready_for: Duration::from_secs(60) };
            assert!(!matches!(script.next(at, seen), Some(Cue::End)));
        }
        script
    }

    fn without(pod: u32) -> Run {
        let mut run = Run { record: Record::default(), errors: 0, out: [SUCCESSOR].into(), ..Run::good() };
        let moves: Vec<_> = moves().into_iter().filter(|(_, other, _)| *other != pod).collect();
        run.play(&moves);
        run.record.hold(ms(71_000), "all are ill");
        run
    }

    #[test]
    fn a_run_as_it_should_go_keeps_every_promise() {
        assert_eq!(Run::good().broken(), Vec::<String>::new());
    }

    #[test]
    fn an_empty_run_keeps_none_that_says_something_was_done() {
        let facts = Facts { end: ms(5), bring_up: ms(0), evicted: None, successor: None, answers: None };
        let promises = judge(&Record::default(), &Script::default(), &facts);
        assert_eq!(promises.iter().filter(|promise| promise.kept).count(), 1, "{promises:?}");
    }

    #[test]
    fn a_failing_pod_that_stays_costs_the_cut_the_errors_and_the_return() {
        let broken = without(FAILING[0]).broken().join("\n");
        for part in ["two pods", "after, both still ill", "healed", "all 10 bad, the storm"] {
            assert!(broken.contains(part), "{part}: {broken}");
        }
    }

    #[test]
    fn wrong_prices_that_nobody_sees_break_their_promise() {
        assert_eq!(without(MISPRICED).broken().len(), 1);
    }

    #[test]
    fn a_deletion_without_the_eviction_api_breaks_its_promise() {
        let mut run = Run::good();
        run.facts.evicted = None;
        assert_eq!(run.broken().len(), 1);
    }

    #[test]
    fn a_pod_that_nobody_explains_breaks_its_promise() {
        let mut run = Run::good();
        run.facts.answers = Some(Answers { kept_by: "Held".to_owned(), ..answers() });
        assert_eq!(run.broken().len(), 1);
        run.facts.answers = None;
        assert_eq!(run.broken().len(), 1);
    }

    #[test]
    fn a_healthy_pod_that_is_cut_breaks_a_promise() {
        let mut run = Run { record: Record::default(), errors: 0, out: [SUCCESSOR].into(), ..Run::good() };
        let mut moves = moves();
        moves.extend([(300, 9, true), (310, 9, false)]);
        run.play(&moves);
        run.record.hold(ms(71_000), "all are ill");
        assert_eq!(run.broken().len(), 1);
    }

    #[test]
    fn a_storm_in_which_a_pod_is_cut_or_nothing_is_said_breaks_its_promise() {
        let mut run = Run { record: Record::default(), errors: 0, out: [SUCCESSOR].into(), ..Run::good() };
        run.play(&moves());
        assert_eq!(run.broken().len(), 1, "nobody said why");
        let mut run = Run { record: Record::default(), errors: 0, out: [SUCCESSOR].into(), ..Run::good() };
        let mut moves = moves();
        moves.extend([(720, 9, true), (730, 9, false)]);
        run.play(&moves);
        run.record.hold(ms(71_000), "all are ill");
        assert_eq!(run.broken().len(), 1, "one was cut");
    }

    #[test]
    fn one_instant_below_the_floor_breaks_the_last_two_promises_on_it() {
        let mut run = Run { record: Record::default(), errors: 0, out: [SUCCESSOR].into(), ..Run::good() };
        let mut moves = moves();
        moves.extend([(900, 9, true), (901, 9, false)]);
        run.play(&moves);
        run.record.hold(ms(71_000), "all are ill");
        assert_eq!(run.broken().len(), 2);
    }

    #[test]
    fn a_floor_that_is_not_reached_breaks_its_promise() {
        assert_eq!(without(0).broken().len(), 1);
    }

    #[test]
    fn four_minutes_are_too_long() {
        let mut run = Run::good();
        run.facts.bring_up = ms(130_000);
        assert_eq!(run.broken().len(), 1);
    }

    #[test]
    fn the_list_has_a_line_a_promise() {
        let promise = |kept, text: &str| Promise { kept, text: text.to_owned() };
        let list = list(&[promise(true, "red: 3 of 4"), promise(false, "blue: never")]);
        assert_eq!(list, "ok      red: 3 of 4\nFAILED  blue: never\n");
    }
}
