//! A detector's measure of one pod, and the verdict that follows from it and from what the pod was before.

use std::fmt;

/// What a detector measured of a pod, without regard to anything earlier.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Whether it is beyond the rule.
    pub beyond: bool,
    /// Multiple of the threshold, by the detector's own formula: about 1 at the rule's edge. Between 0 and
    /// [`SEVERITY_MAX`], so that verdicts of different detectors can be ranked.
    pub margin: f64,
    /// The numbers behind it.
    pub evidence: Evidence,
}

/// A measure, or why there is none.
pub type Measure = Result<Measured, Unknown>;

/// An anomalous pod is healthy again at once only below this share of the threshold: one that swings around the edge
/// must not go in and out with it. A pod whose best lies between this and the edge is healthy again once none of the
/// verdicts that confirmation looks back upon was beyond it.
pub const CALM: f64 = 0.8;

impl Measured {
    /// With the margin kept within its bounds.
    #[must_use]
    pub fn new(beyond: bool, margin: f64, evidence: Evidence) -> Self {
        let margin = if margin.is_nan() { 1.0 } else { margin.clamp(0.0, SEVERITY_MAX) };
        Self { beyond, margin, evidence }
    }

    /// The verdict for a pod that was anomalous before, or was not.
    #[must_use]
    pub fn verdict(self, was_anomalous: bool) -> Verdict {
        let Self { beyond, margin, evidence } = self;
        if beyond {
            Verdict::Anomalous { severity: margin.max(1.0), evidence }
        } else if was_anomalous && margin >= CALM {
            Verdict::Lingering
        } else {
            Verdict::Healthy
        }
    }
}

/// `value` as a multiple of `threshold`; any excess over a threshold of 0 is the greatest there is.
#[must_use]
pub fn multiple(value: f64, threshold: f64) -> f64 {
    if threshold > 0.0 {
        value / threshold
    } else if value > 0.0 {
        SEVERITY_MAX
    } else {
        0.0
    }
}

/// What is said of a pod.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Measured, and within the rule.
    Healthy,
    /// Measured, and beyond it. `severity` is at least 1 and grows with the distance from the rule; it is capped at
    /// [`SEVERITY_MAX`] so that verdicts of different detectors can be ranked.
    Anomalous {
        /// Multiple of the threshold, by the detector's own formula.
        severity: f64,
        /// The numbers behind it.
        evidence: Evidence,
    },
    /// Measured, within the rule again, and not far enough within: it counts as anomalous still, in what is said of the
    /// whole fleet, but is no reason for a cut.
    Lingering,
    /// No basis for a verdict. Silence is not guilt: the pod keeps its traffic.
    Unknown(Unknown),
}

/// Where severities end: also the severity of any excess over a threshold of 0.
pub const SEVERITY_MAX: f64 = 1_000.0;

/// Why there is no verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unknown {
    /// The answer has no series for this pod.
    NoSeries,
    /// NaN.
    NotANumber,
    /// ±Inf.
    Infinite,
    /// A count below zero.
    Negative,
    /// A native histogram: no detector reads one.
    Histogram,
    /// Fewer events than `minActivity`, or too few to be sure.
    TooLittle,
    /// Two series for one pod: the query lacks an aggregation.
    AmbiguousSeries,
    /// A series of this pod lacks the label that the detector counts by: the query aggregated it away.
    NoKey,
    /// Not Ready for long enough to be compared, or so new that the samples may be of the last pod of its name.
    TooYoung,
    /// Back a moment ago: the samples are of the time before.
    Settling,
    /// Fewer than three pods to compare with.
    TooFewPeers,
    /// Half the pods or more lie far from the middle: nobody can say which half is normal.
    NoMajority,
    /// The source warned that its answer is incomplete.
    PartialAnswer,
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSeries => "the answer has no series for it",
            Self::NotANumber => "its value is NaN",
            Self::Infinite => "its value is infinite",
            Self::Negative => "a count of it is negative, or there is nothing to compare with",
            Self::Histogram => "its value is a native histogram, which no rule reads",
            Self::TooLittle => "there was too little activity to be sure",
            Self::AmbiguousSeries => "the answer has several series for it: the query lacks an aggregation",
            Self::NoKey => "a series of it lacks the key that the rule counts by",
            Self::TooYoung => "it has not been Ready for long enough",
            Self::Settling => "it is back a moment ago, and the samples are of the time before",
            Self::TooFewPeers => "there are fewer than three pods to compare",
            Self::NoMajority => "half the pods or more lie far from the middle",
            Self::PartialAnswer => "the source warned that its answer is incomplete",
        })
    }
}

impl Unknown {
    /// For status, logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoSeries => "NoSeries",
            Self::NotANumber => "NotANumber",
            Self::Infinite => "Infinite",
            Self::Negative => "Negative",
            Self::Histogram => "Histogram",
            Self::TooLittle => "TooLittle",
            Self::AmbiguousSeries => "AmbiguousSeries",
            Self::NoKey => "NoKey",
            Self::TooYoung => "TooYoung",
            Self::Settling => "Settling",
            Self::TooFewPeers => "TooFewPeers",
            Self::NoMajority => "NoMajority",
            Self::PartialAnswer => "PartialAnswer",
        }
    }
}

impl Measured {
    /// What was measured, whatever it means: the same words of a pod that is well as of one that is not.
    #[must_use]
    pub fn value(&self) -> String {
        match self.evidence {
            Evidence::BadShare { percent, events, .. } => format!("bad {percent:.0} % of {events:.0}"),
            Evidence::Deviation { from_mean, from_median, .. } => {
                format!("{from_mean:+.0} % from the mean, {from_median:+.0} % from the median")
            }
            Evidence::Outlier { value, score, .. } => format!("{value:.4}, {score:+.1} spreads away"),
            Evidence::Bounds { value, .. } => format!("{value:.4}"),
            Evidence::Named => if self.beyond { "named" } else { "not named" }.to_owned(),
        }
    }
}

impl Evidence {
    /// The middle of the pods that it was compared with, where it was.
    #[must_use]
    pub fn median(&self) -> Option<f64> {
        match *self {
            Self::Deviation { median, .. } | Self::Outlier { median, .. } => Some(median),
            Self::BadShare { .. } | Self::Bounds { .. } | Self::Named => None,
        }
    }

    /// Its numbers by name.
    #[must_use]
    pub fn numbers(&self) -> Vec<(&'static str, f64)> {
        match *self {
            Self::BadShare { percent, tolerance, events } => {
                vec![("badPercent", percent), ("tolerancePercent", tolerance), ("events", events)]
            }
            Self::Deviation { from_mean, from_median, median, max } => vec![
                ("fromMeanPercent", from_mean),
                ("fromMedianPercent", from_median),
                ("median", median),
                ("maxDeviationPercent", max),
            ],
            Self::Outlier { value, median, score, max_score } => {
                vec![("value", value), ("median", median), ("score", score), ("maxScore", max_score)]
            }
            Self::Bounds { value, min, max } => {
                let bounds = [("min", min), ("max", max)];
                let given = bounds.into_iter().filter_map(|(name, bound)| Some((name, bound?)));
                std::iter::once(("value", value)).chain(given).collect()
            }
            Self::Named => Vec::new(),
        }
    }
}

/// The numbers behind an anomalous verdict.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Evidence {
    /// Percent of bad events, the most that is tolerated, events counted.
    BadShare {
        /// 0 to 100.
        percent: f64,
        /// 0 to 100.
        tolerance: f64,
        /// Good and bad ones.
        events: f64,
    },
    /// Distance from the fleet in percent, and the most that is tolerated.
    Deviation {
        /// From the mean, as the query gives it; negative below.
        from_mean: f64,
        /// From the median of the peers.
        from_median: f64,
        /// Of the peers, as the query gives them.
        median: f64,
        /// Percent.
        max: f64,
    },
    /// Distance from the middle of the fleet.
    Outlier {
        /// As measured.
        value: f64,
        /// Of the peers.
        median: f64,
        /// (value − median) / spread; negative below.
        score: f64,
        /// The most that is tolerated.
        max_score: f64,
    },
    /// A value and the bounds that it should lie within.
    Bounds {
        /// As measured.
        value: f64,
        /// Lower bound.
        min: Option<f64>,
        /// Upper bound.
        max: Option<f64>,
    },
    /// An outside service named the pod.
    Named,
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::BadShare { percent, tolerance, events } => {
                write!(f, "bad {percent:.0} % > {tolerance:.0} % of {events:.0}")
            }
            Self::Deviation { from_mean, from_median, max, .. } => {
                write!(
                    f,
                    "{from_mean:+.0} % from the mean, {from_median:+.0} % from the median, > {max:.0} %"
                )
            }
            Self::Outlier { value, median, score, max_score } => {
                write!(
                    f,
                    "{value:.4} where the fleet's middle is {median:.4}, {score:+.1} spreads away, > {max_score:.1}"
                )
            }
            Self::Bounds { value, min, max } => match (min, max) {
                (Some(min), _) if value < min => write!(f, "{value:.4} < {min:.4}"),
                (_, Some(max)) => write!(f, "{value:.4} > {max:.4}"),
                (Some(_) | None, None) => write!(f, "{value:.4}"),
            },
            Self::Named => write!(f, "named by the custom service"),
        }
    }
}

impl Verdict {
    /// Of a pod that was anomalous before, or was not.
    #[must_use]
    pub fn of(measure: Measure, was_anomalous: bool) -> Self {
        match measure {
            Ok(measured) => measured.verdict(was_anomalous),
            Err(why) => Self::Unknown(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(percent: f64) -> Measured {
        let evidence = Evidence::BadShare { percent, tolerance: 50.0, events: 412.0 };
        Measured::new(percent > 50.0, multiple(percent, 50.0), evidence)
    }

    #[test]
    fn a_pod_that_swings_around_the_edge_is_neither_healthy_at_once_nor_beyond_the_rule() {
        let of = |percent, was| share(percent).verdict(was);
        assert_eq!([of(49.0, false), of(39.0, true)], [Verdict::Healthy, Verdict::Healthy]);
        assert_eq!([of(49.0, true), of(40.0, true)], [Verdict::Lingering, Verdict::Lingering]);
        assert!(matches!(of(51.0, false), Verdict::Anomalous { .. }));
    }

    #[test]
    fn evidence_has_its_numbers() {
        assert_eq!(share(62.0).evidence.to_string(), "bad 62 % > 50 % of 412");
    }

    #[test]
    fn a_pod_that_is_well_is_told_without_a_comparison() {
        assert_eq!(share(3.0).value(), "bad 3 % of 412");
        assert_eq!(Measured::new(false, 0.0, Evidence::Named).value(), "not named");
        let outlier = Evidence::Outlier { value: 0.25, median: 0.2, score: 0.4, max_score: 3.5 };
        assert_eq!(Measured::new(false, 0.1, outlier).value(), "0.2500, +0.4 spreads away");
        assert_eq!(outlier.median(), Some(0.2));
    }

    #[test]
    fn any_excess_over_nothing_is_the_greatest_there_is_and_none_is_none() {
        assert!((multiple(0.001, 0.0) - SEVERITY_MAX).abs() < 1e-9);
        assert!(multiple(0.0, 0.0).abs() < 1e-9);
    }
}
