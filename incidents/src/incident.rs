//! Who misbehaves, when and how: a timeline of episodes over a fleet that is otherwise healthy.

use std::time::Duration;

/// How a pod answers. Shares are of its requests, 0 to 1; what lies outside counts as the nearer end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Behaviour {
    /// Right answers, but for the few errors that every service has.
    Healthy {
        /// Share of requests answered 500.
        error_share: f64,
    },
    /// Answers 500, fast and with a green readiness probe.
    Failing {
        /// Share of requests answered 500.
        share: f64,
    },
    /// Answers 200 with a wrong price: what no status code shows.
    MisPriced {
        /// Every price is multiplied by this; 0.5 = off by half.
        factor: f64,
    },
    /// Any mixture: what one pod has of everything.
    Mixed(Symptoms),
}

/// All that can be odd about a pod's answers at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Symptoms {
    /// Share of requests answered 500.
    pub error_share: f64,
    /// Every answer takes so many times as long.
    pub latency_factor: f64,
    /// Every price is multiplied by this.
    pub price_factor: f64,
    /// Then this is added to it, in units of money.
    pub price_offset: f64,
}

impl Symptoms {
    /// Nothing is odd.
    pub const NONE: Self =
        Self { error_share: 0.0, latency_factor: 1.0, price_factor: 1.0, price_offset: 0.0 };
}

impl Behaviour {
    /// What is odd about the answers.
    pub const fn symptoms(self) -> Symptoms {
        match self {
            Self::Healthy { error_share } | Self::Failing { share: error_share } => {
                Symptoms { error_share, ..Symptoms::NONE }
            }
            Self::MisPriced { factor } => Symptoms { price_factor: factor, ..Symptoms::NONE },
            Self::Mixed(symptoms) => symptoms,
        }
    }
}

/// Which pods an episode befalls. A pod's ordinal is its place in the order in which the fleet's pods came
/// to be, from 0; the successor of an evicted pod is a new pod with a new ordinal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pods {
    /// Every pod, later ones included.
    All,
    /// The pod of this ordinal.
    One(u32),
}

impl Pods {
    /// Is the pod among them?
    pub const fn contains(self, pod: u32) -> bool {
        match self {
            Self::All => true,
            Self::One(ordinal) => ordinal == pod,
        }
    }
}

/// Pods that behave in one way for a while. Times are since the start of the run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Episode {
    /// Whom it befalls.
    pub pods: Pods,
    /// Its first instant.
    pub from: Duration,
    /// The first instant after it; none: it never ends.
    pub until: Option<Duration>,
    /// What the pods do meanwhile.
    pub behaviour: Behaviour,
}

impl Episode {
    /// Does it befall this pod at this time?
    pub fn covers(&self, pod: u32, at: Duration) -> bool {
        self.pods.contains(pod) && self.from <= at && self.until.is_none_or(|until| at < until)
    }
}

/// A timeline: how pods behave as a rule, and the episodes in which some do not.
#[derive(Clone, Debug, PartialEq)]
pub struct Incident {
    usual: Behaviour,
    episodes: Vec<Episode>,
}

impl Incident {
    /// A run in which nothing happens: every pod behaves as usual.
    pub const fn new(usual: Behaviour) -> Self {
        Self { usual, episodes: Vec::new() }
    }

    /// The same timeline with one more episode. Where episodes of a pod overlap, the one added last holds.
    #[must_use]
    pub fn with(mut self, episode: Episode) -> Self {
        self.add(episode);
        self
    }

    /// One more episode; it holds over those that are there.
    pub fn add(&mut self, episode: Episode) {
        self.episodes.push(episode);
    }

    /// How a pod behaves at a time since the start.
    pub fn behaviour(&self, pod: u32, at: Duration) -> Behaviour {
        let latest = self.episodes.iter().rev().find(|episode| episode.covers(pod, at));
        latest.map_or(self.usual, |episode| episode.behaviour)
    }

    /// The episodes in the order in which they were added.
    pub fn episodes(&self) -> &[Episode] {
        &self.episodes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Behaviour = Behaviour::Healthy { error_share: 0.01 };
    const DEAD: Behaviour = Behaviour::Failing { share: 1.0 };
    const CHEAP: Behaviour = Behaviour::MisPriced { factor: 0.5 };

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn episode(pods: Pods, from: u64, until: Option<u64>, behaviour: Behaviour) -> Episode {
        Episode { pods, from: secs(from), until: until.map(secs), behaviour }
    }

    #[test]
    fn an_episode_holds_its_first_instant_and_not_its_last() {
        let incident = Incident::new(USUAL).with(episode(Pods::One(7), 5, Some(9), DEAD));
        let seen = [4, 5, 8, 9].map(|at| incident.behaviour(7, secs(at)));
        assert_eq!(seen, [USUAL, DEAD, DEAD, USUAL]);
        assert_eq!(incident.behaviour(6, secs(5)), USUAL);
    }

    #[test]
    fn an_episode_without_an_end_never_ends() {
        let incident = Incident::new(USUAL).with(episode(Pods::One(7), 5, None, DEAD));
        assert_eq!(incident.behaviour(7, Duration::MAX), DEAD);
    }

    #[test]
    fn of_overlapping_episodes_the_one_added_last_holds() {
        let incident = Incident::new(USUAL).with(episode(Pods::One(7), 0, None, DEAD)).with(episode(
            Pods::All,
            5,
            Some(9),
            CHEAP,
        ));
        let seen = [4, 5, 9].map(|at| incident.behaviour(7, secs(at)));
        assert_eq!(seen, [DEAD, CHEAP, DEAD]);
    }
}
