//! A detector's answer for one pod.

use std::fmt;

/// What a detector says of a pod.
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
    /// Not Ready for long enough to be compared.
    TooYoung,
    /// Fewer than three pods to compare with.
    TooFewPeers,
    /// Half the pods or more lie far from the middle: nobody can say which half is normal.
    NoMajority,
    /// The source warned that its answer is incomplete.
    PartialAnswer,
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
            Self::TooYoung => "TooYoung",
            Self::TooFewPeers => "TooFewPeers",
            Self::NoMajority => "NoMajority",
            Self::PartialAnswer => "PartialAnswer",
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
        /// Percent.
        max: f64,
    },
    /// An outside service named the pod.
    Named,
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadShare { percent, tolerance, events } => {
                write!(f, "bad {percent:.0} % > {tolerance:.0} % of {events:.0}")
            }
            Self::Deviation { from_mean, from_median, max } => {
                write!(
                    f,
                    "{from_mean:+.0} % from the mean, {from_median:+.0} % from the median, > {max:.0} %"
                )
            }
            Self::Named => write!(f, "named by the custom service"),
        }
    }
}

impl Verdict {
    /// Anomalous, with its severity kept within its bounds.
    #[must_use]
    pub fn anomalous(severity: f64, evidence: Evidence) -> Self {
        let severity = if severity.is_nan() { 1.0 } else { severity.clamp(1.0, SEVERITY_MAX) };
        Self::Anomalous { severity, evidence }
    }
}
