//! What a pod's marks say of its traffic, and which moves are legal.
//!
//! ```text
//!             cut                 pause
//!   Open -----------> Cut ------------------> Paused
//!    ^                 | \                       |
//!    |     restore     |  \ evict                | release
//!    +-----------------+   \                     |
//!    |                      v                    |
//!    |                     gone                  |
//!    +-------------------------------------------+
//! ```
//! A release gives back whatever carries our mark, and so does a restore that a person asks for. Forgiving a strike is
//! written on an open pod and moves nothing. A move that is not drawn is refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

/// The three traffic states; `yes`, `no`, `pause` on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TrafficState {
    /// In traffic.
    Open,
    /// Out, to come back.
    Cut,
    /// Out, for people to look at.
    Paused,
}

/// A step that a plan may take with a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Move {
    /// Take out of traffic.
    Cut,
    /// Put back.
    Restore,
    /// Keep out for investigation.
    Pause,
    /// Remove through the eviction API.
    Evict,
    /// One strike less; its traffic stays as it is.
    Forgive,
}

impl Move {
    /// For logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::Restore => "restore",
            Self::Pause => "pause",
            Self::Evict => "evict",
            Self::Forgive => "forgive",
        }
    }

    /// Whether it needs the floor to hold after it. A restore only ever adds traffic.
    #[must_use]
    pub fn spends(self) -> bool {
        match self {
            Self::Cut | Self::Pause | Self::Evict => true,
            Self::Restore | Self::Forgive => false,
        }
    }
}

impl TrafficState {
    /// Whether the drawing above has an arrow for `step`.
    #[must_use]
    pub fn allows(self, step: Move) -> bool {
        matches!(
            (self, step),
            (Self::Open, Move::Cut | Move::Forgive) | (Self::Cut, Move::Restore | Move::Pause | Move::Evict)
        )
    }
}

/// What the labels and annotations of a pod say.
#[derive(Debug, Clone, PartialEq)]
pub enum Traffic {
    /// No traffic label yet.
    Unlabelled,
    /// `yes`.
    Open,
    /// `yes`, but our cut is still written beside it: a person put it back.
    OpenedByHand(Cut),
    /// `no`, by us, to come back.
    Cut(Cut),
    /// `no`, by us, because a person asked for it: it stays until that person takes the word back.
    KeptOut,
    /// `no`, without our marks: a person's, never undone by itself.
    CutByHand,
    /// `pause`.
    Paused,
    /// Any other value: somebody else's meaning; nothing is done with this pod.
    Odd,
}

impl Traffic {
    /// One word, as explanations tell it.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Unlabelled => "Unlabelled",
            Self::Open => "Open",
            Self::OpenedByHand(_) => "OpenedByHand",
            Self::Cut(_) => "Cut",
            Self::KeptOut => "KeptOut",
            Self::CutByHand => "CutByHand",
            Self::Paused => "Paused",
            Self::Odd => "Odd",
        }
    }

    /// Its place in the drawing; `None` where a person or somebody else's meaning keeps it out of our hands.
    /// Unlabelled counts as open: it serves only where the Service does not hold the key.
    #[must_use]
    pub fn state(&self) -> Option<TrafficState> {
        match self {
            Self::Unlabelled | Self::Open | Self::OpenedByHand(_) => Some(TrafficState::Open),
            Self::Cut(_) | Self::KeptOut => Some(TrafficState::Cut),
            Self::Paused => Some(TrafficState::Paused),
            Self::CutByHand | Self::Odd => None,
        }
    }

    /// Whether the drawing has an arrow for `step`.
    #[must_use]
    pub fn allows(&self, step: Move) -> bool {
        self.state().is_some_and(|state| state.allows(step))
    }
}

/// A timed cut as stored on the pod.
#[derive(Debug, Clone, PartialEq)]
pub struct Cut {
    /// When; `None` where the stored text is not a time.
    pub at: Option<Timestamp>,
    /// When it is due to return, drawn once at the cut; `None` on pods that the original cut.
    pub restore_at: Option<Timestamp>,
    /// The breaker that cut it; `None` on pods that lost the label.
    pub breaker: Option<Arc<str>>,
    /// How far beyond the rule it was; 0 where that cannot be read.
    pub severity: f64,
}

/// Cuts not yet forgiven, per breaker. The original kept one number: it stands under the empty name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Strikes(pub BTreeMap<Arc<str>, u32>);

impl Strikes {
    /// Over all breakers.
    #[must_use]
    pub fn total(&self) -> u32 {
        self.0.values().fold(0, |sum, k| sum.saturating_add(*k))
    }

    /// Of one breaker, with what the original counted without naming one.
    #[must_use]
    pub fn of(&self, breaker: &str) -> u32 {
        let own = self.0.get(breaker).copied().unwrap_or(0);
        let nameless = if breaker.is_empty() { 0 } else { self.0.get("").copied().unwrap_or(0) };
        own.saturating_add(nameless)
    }

    /// With one more for `breaker`, which also takes over the nameless ones.
    #[must_use]
    pub fn plus_one(&self, breaker: &Arc<str>) -> Self {
        let mut strikes = self.0.clone();
        let nameless = strikes.remove("").unwrap_or(0);
        let own = strikes.entry(Arc::clone(breaker)).or_default();
        *own = own.saturating_add(nameless).saturating_add(1);
        Self(strikes)
    }

    /// With one less for `breaker`; where it has none, for a name that `known` does not know: of the original, or of a
    /// breaker that is gone. `None` where there is nothing to forgive.
    #[must_use]
    pub fn minus_one(&self, breaker: &str, known: impl Fn(&str) -> bool) -> Option<Self> {
        let mut counted = self.0.iter().filter(|(_, k)| **k > 0).map(|(name, _)| name);
        let own = counted.clone().find(|name| ***name == *breaker);
        let name = own.or_else(|| counted.find(|name| !known(name)))?;
        let mut strikes = self.0.clone();
        let left = strikes.get(name).map_or(0, |k| k.saturating_sub(1));
        if left == 0 {
            strikes.remove(name);
        } else {
            strikes.insert(Arc::clone(name), left);
        }
        Some(Self(strikes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_drawn_moves_are_allowed() {
        let all = [Move::Cut, Move::Restore, Move::Pause, Move::Evict, Move::Forgive];
        let allowed = |state: TrafficState| all.into_iter().filter(|m| state.allows(*m)).collect::<Vec<_>>();
        assert_eq!(allowed(TrafficState::Open), [Move::Cut, Move::Forgive]);
        assert_eq!(allowed(TrafficState::Cut), [Move::Restore, Move::Pause, Move::Evict]);
        assert!(allowed(TrafficState::Paused).is_empty());
    }

    #[test]
    fn strikes_of_the_original_count_for_the_next_breaker_that_cuts() {
        let original = Strikes(BTreeMap::from([("".into(), 2)]));
        assert_eq!(original.of("latency"), 2);
        let next = original.plus_one(&"latency".into());
        assert_eq!((next.of("latency"), next.of("errors"), next.total()), (3, 0, 3));
    }

    #[test]
    fn a_strike_is_forgiven_to_the_breaker_that_saw_health_and_then_to_names_that_nobody_knows() {
        let strikes = Strikes(BTreeMap::from([("".into(), 1), ("errors".into(), 2), ("gone".into(), 1)]));
        let known = |name: &str| name == "errors" || name == "latency";
        let next = |s: &Strikes, breaker| s.minus_one(breaker, known);
        let after = next(&strikes, "errors").unwrap();
        assert_eq!((after.total(), after.of("gone")), (3, 2));
        let after = next(&strikes, "latency").unwrap();
        assert_eq!((after.0.get(""), after.total()), (None, 3));
        let own = Strikes(BTreeMap::from([("errors".into(), 1)]));
        assert_eq!((next(&own, "errors"), next(&own, "latency")), (Some(Strikes::default()), None));
    }

    proptest! {
        #[test]
        fn a_strike_more_or_less_is_exactly_one_and_no_other_breakers(
            counts in proptest::collection::vec(0_u32..4, 4),
        ) {
            let names = ["", "errors", "latency", "gone"];
            let strikes = Strikes(names.iter().zip(counts).map(|(name, k)| (Arc::from(*name), k)).collect());
            let more = strikes.plus_one(&"errors".into());
            prop_assert_eq!((more.total(), more.of("errors")), (strikes.total() + 1, strikes.of("errors") + 1));
            prop_assert_eq!(more.0.get("latency"), strikes.0.get("latency"));
            let known = |name: &str| ["errors", "latency"].contains(&name);
            match strikes.minus_one("errors", known) {
                Some(less) => {
                    prop_assert_eq!(less.total() + 1, strikes.total());
                    prop_assert_eq!(less.0.get("latency"), strikes.0.get("latency"));
                }
                None => prop_assert_eq!(strikes.total(), strikes.0["latency"], "nothing was there to forgive"),
            }
        }
    }
}
