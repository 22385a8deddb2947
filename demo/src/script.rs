//! The play: who goes bad, when and how long, as pure values.
//!
//! Takes the time since the curtain rose and what an outside observer sees; gives the next scene. Scenes follow
//! each other at fixed times, but for those that wait until the fleet is whole again, each with a latest time: a
//! controller that does not bring its pods back must cost promises, not the demo's end.

use std::time::Duration;

use incidents::{Behaviour, Episode, Incident, Pods};

/// Pods of the Deployment.
pub const PODS: usize = 10;
/// Pods that must keep serving, by both policies of the play.
pub const FLOOR: usize = 5;
/// Enough for 100 requests a pod in a query's window of 5 s: a share in it is then known within 10 %.
pub const REQUESTS_PER_SECOND: u32 = 200;

/// Ordinals of the two pods that answer 500.
pub const FAILING: [u32; 2] = [2, 5];
/// Ordinal of the pod whose prices are off by half.
pub const MISPRICED: u32 = 7;
/// Ordinal of the pod that never recovers.
pub const HOPELESS: u32 = 4;

/// Every pod's errors when all is well.
const USUAL: Behaviour = Behaviour::Healthy { error_share: 0.002 };
/// What is wrong with a failing pod. Not every request: a detector must tell a share from its threshold.
const FAILS: Behaviour = Behaviour::Failing { share: 0.9 };
const HALF_PRICE: Behaviour = Behaviour::MisPriced { factor: 0.5 };

/// When the first fault strikes: the calm before it gives the error rate to compare with.
const TWO_FAIL_AT: Duration = Duration::from_secs(6);
/// Detection takes up to 6 s (window, scrape, period), a cut at least 22 s: the pods are healthy again before
/// they return, and ill long enough to show that their illness no longer reaches the clients.
const HEALS_AFTER: Duration = Duration::from_secs(20);
/// Late enough for 8 s in which the first two are out and nothing else is wrong.
const NEVER_RECOVERS_AFTER: Duration = Duration::from_secs(14);
const WRONG_PRICES_AFTER: Duration = Duration::from_secs(6);
/// A deviation is judged among pods that are Ready for 30 s; a little more, so that the time from fault to cut
/// measures the detector and not the wait for its peers.
const PEERS_NEED: Duration = Duration::from_secs(32);
/// The latest start of the storm that leaves time for all that follows within the three minutes.
const STORM_LATEST: Duration = Duration::from_secs(95);
/// Up to 6 s until all are seen ill, then three evaluations and more in which nothing is cut.
const STORM_LASTS: Duration = Duration::from_secs(12);
/// The policy and five cuts take up to 6 s, since all are ill already; then the floor is held through five evaluations and more. The
/// first cut ends 22 s after it was made: by then the last errors must have left the query's window of 5 s, or the pods
/// that go back make room for cuts of pods that are well again.
const GATE_OFF_LASTS: Duration = Duration::from_secs(17);
/// Cuts of the last scene end within 22 s × 1.2 of their start, so 16 s after it. Five were out, so that two come back at
/// a time; each of three rounds is watched for some 10 s (4 s to settle, three healthy answers).
const RECOVERY_LASTS: Duration = Duration::from_secs(41);
/// How long the fleet is shown whole before the curtain falls or the next incident begins.
const WHOLE_FOR: Duration = Duration::from_secs(2);

/// A part of the play.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scene {
    /// Nothing is wrong.
    Calm,
    /// Two pods answer 500, and heal.
    TwoFail,
    /// One answers 500 for ever.
    NeverRecovers,
    /// One answers 200 with prices off by half, and heals.
    WrongPrices,
    /// All ten answer 500 at once: a fault that cutting cannot mend.
    Storm,
    /// They still do, under a policy that takes no storm for one and would let all of them be cut.
    GateOff,
    /// All are well again.
    Recovery,
}

impl Scene {
    /// In the order of the play.
    pub const ALL: [Self; 7] = [
        Self::Calm,
        Self::TwoFail,
        Self::NeverRecovers,
        Self::WrongPrices,
        Self::Storm,
        Self::GateOff,
        Self::Recovery,
    ];

    /// For people, a line without its end.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Calm => "all is well",
            Self::TwoFail => "two pods answer 500",
            Self::NeverRecovers => "one pod answers 500 and never recovers",
            Self::WrongPrices => "one pod answers 200 with prices off by half",
            Self::Storm => "all ten answer 500 at once",
            Self::GateOff => "all ten still do, and maxAnomalousRatio and maxCutRatio are 100",
            Self::Recovery => "all are well again",
        }
    }

    /// Its place in the play, from 1.
    pub fn number(self) -> usize {
        1 + Self::ALL.into_iter().take_while(|scene| *scene < self).count()
    }

    /// What befalls the pods when it begins at this time.
    fn episodes(self, at: Duration) -> Vec<Episode> {
        let ill = |pods, lasts: Option<Duration>, behaviour| Episode {
            pods,
            from: at,
            until: lasts.map(|lasts| at + lasts),
            behaviour,
        };
        match self {
            Self::Calm | Self::GateOff | Self::Recovery => vec![],
            Self::TwoFail => FAILING.map(|pod| ill(Pods::One(pod), Some(HEALS_AFTER), FAILS)).to_vec(),
            Self::NeverRecovers => vec![ill(Pods::One(HOPELESS), None, FAILS)],
            Self::WrongPrices => vec![ill(Pods::One(MISPRICED), Some(HEALS_AFTER), HALF_PRICE)],
            Self::Storm => vec![ill(Pods::All, Some(STORM_LASTS + GATE_OFF_LASTS), FAILS)],
        }
    }
}

/// The incidents' timeline before the first scene.
pub const fn quiet() -> Incident {
    Incident::new(USUAL)
}

/// When pods that fell ill in a scene that began at `began` are well again.
pub fn heals_at(began: Duration) -> Duration {
    began + HEALS_AFTER
}

/// What the script goes by: nothing that the controller says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Pods in the EndpointSlices.
    pub serving: usize,
    /// The pod that never recovers is gone.
    pub hopeless_gone: bool,
    /// Since when the youngest of the first ten pods is Ready.
    pub ready_for: Duration,
}

/// What happens next.
#[derive(Clone, Debug, PartialEq)]
pub enum Cue {
    /// A scene begins, and with it these episodes.
    Begin(Scene, Vec<Episode>),
    /// The curtain falls.
    End,
}

/// Where the play is.
#[derive(Clone, Debug)]
pub struct Script {
    scene: Scene,
    began: Vec<(Scene, Duration)>,
    whole_since: Option<Duration>,
}

impl Default for Script {
    fn default() -> Self {
        Self { scene: Scene::Calm, began: vec![(Scene::Calm, Duration::ZERO)], whole_since: None }
    }
}

impl Script {
    /// The scene that is on.
    pub const fn scene(&self) -> Scene {
        self.scene
    }

    /// When a scene began, if it has.
    pub fn began(&self, scene: Scene) -> Option<Duration> {
        self.began.iter().find(|(other, _)| *other == scene).map(|(_, at)| *at)
    }

    /// The next scene, once its time has come. Times are since the curtain rose and never go back.
    pub fn next(&mut self, at: Duration, seen: Seen) -> Option<Cue> {
        let whole = seen.serving == PODS;
        self.whole_since = whole.then(|| self.whole_since.unwrap_or(at));
        let next = self.due(at, seen)?;
        let Some(scene) = next else { return Some(Cue::End) };
        self.scene = scene;
        self.began.push((scene, at));
        self.whole_since = None;
        Some(Cue::Begin(scene, scene.episodes(at)))
    }

    /// The scene that is due now; inner none: the end of the play.
    fn due(&self, at: Duration, seen: Seen) -> Option<Option<Scene>> {
        let since = at.saturating_sub(self.began.last().map_or(Duration::ZERO, |(_, began)| *began));
        let whole = self.whole_since.is_some_and(|whole| at >= whole + WHOLE_FOR);
        let (is_due, next) = match self.scene {
            Scene::Calm => (since >= TWO_FAIL_AT, Some(Scene::TwoFail)),
            Scene::TwoFail => (since >= NEVER_RECOVERS_AFTER, Some(Scene::NeverRecovers)),
            Scene::NeverRecovers => {
                (since >= WRONG_PRICES_AFTER && seen.ready_for >= PEERS_NEED, Some(Scene::WrongPrices))
            }
            Scene::WrongPrices => {
                let settled = whole && seen.hopeless_gone && since > HEALS_AFTER;
                (settled || at >= STORM_LATEST, Some(Scene::Storm))
            }
            Scene::Storm => (since >= STORM_LASTS, Some(Scene::GateOff)),
            Scene::GateOff => (since >= GATE_OFF_LASTS, Some(Scene::Recovery)),
            Scene::Recovery => (whole || since >= RECOVERY_LASTS, None),
        };
        is_due.then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: Seen = Seen { serving: PODS, hopeless_gone: true, ready_for: Duration::from_secs(300) };

    /// The starts of all scenes and the end, in seconds, asked ten times a second.
    fn play(seen: impl Fn(Duration) -> Seen) -> (Vec<(Scene, u64)>, u64) {
        let mut script = Script::default();
        for tenth in 0..3_000 {
            let at = Duration::from_millis(tenth * 100);
            if script.next(at, seen(at)) == Some(Cue::End) {
                return (
                    script.began.iter().map(|(scene, at)| (*scene, at.as_secs())).collect(),
                    at.as_secs(),
                );
            }
        }
        panic!("no end");
    }

    #[test]
    fn every_scene_is_played_once_and_in_order() {
        let (began, _) = play(|_| WELL);
        assert_eq!(began.iter().map(|(scene, _)| *scene).collect::<Vec<_>>(), Scene::ALL);
    }

    #[test]
    fn the_play_ends_in_time_even_if_no_pod_ever_comes_back() {
        let (began, end) = play(|_| Seen { serving: 3, hopeless_gone: false, ..WELL });
        assert_eq!(began.len(), Scene::ALL.len());
        // Bringing up takes 4 s of the 180; a slow machine has 15.
        assert!(end <= 165, "{end}");
    }

    #[test]
    fn the_storm_waits_for_a_whole_fleet() {
        let whole_at = Duration::from_secs(80);
        let (began, _) = play(|at| Seen { serving: if at < whole_at { 9 } else { PODS }, ..WELL });
        assert!(began.contains(&(Scene::Storm, 82)), "{began:?}");
    }

    #[test]
    fn prices_go_wrong_only_once_there_are_peers_to_compare_with() {
        let (began, _) = play(|at| Seen { ready_for: at, ..WELL });
        assert!(began.contains(&(Scene::WrongPrices, 32)), "{began:?}");
    }

    #[test]
    fn the_pods_that_fall_ill_are_different_ones() {
        let mut ill = vec![FAILING[0], FAILING[1], MISPRICED, HOPELESS];
        ill.sort_unstable();
        ill.dedup();
        assert_eq!(ill.len(), 4);
    }

    #[test]
    fn the_one_that_never_recovers_has_no_end_and_the_others_have_one() {
        let open =
            |scene: Scene| scene.episodes(Duration::ZERO).iter().any(|episode| episode.until.is_none());
        assert_eq!(Scene::ALL.map(open), [false, false, true, false, false, false, false]);
    }
}
