//! A KubervisorService's spec as a checker reads it: from the JSON, by the documents and not by the controller's code.

use std::time::Duration;

use serde_json::Value;

/// The rules that hold for one service.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    pub service: String,
    pub mode: Mode,
    /// The controller adds the key.
    pub managed: bool,
    /// Percent of the members that may be out at once.
    pub max_out: u64,
    /// Cuts within a window: a number, or a share of at least one.
    pub per_window: Result<u64, u64>,
    /// Percent of the pods that may be anomalous at once.
    pub storm: u64,
    pub breakers: Vec<Breaker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Active,
    DryRun,
    Disabled,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Breaker {
    pub name: String,
    pub rule: Rule,
    pub floor: (Option<u64>, Option<u64>),
    pub period: Duration,
    pub scrape: Duration,
    pub range: Duration,
    pub ladder: Ladder,
    pub retries: u64,
    /// Evictions within an hour.
    pub kills: usize,
    /// It acts, and does not only show what it would do.
    pub enforced: bool,
    pub cut_time: Duration,
    /// Anomalous verdicts that a cut needs.
    pub confirm: usize,
    /// Its question, as the model sources know it.
    pub key: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ladder {
    Periodic,
    Kill,
    Pause,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Rule {
    /// Percent of bad events tolerated.
    Share(f64),
    /// Percent of deviation tolerated.
    Deviation(f64),
    Named,
}

fn seconds(value: &Value, default: f64) -> Duration {
    Duration::from_secs_f64(value.as_f64().unwrap_or(default))
}

impl Rules {
    /// `None` where the spec is refused.
    pub fn read(spec: &Value) -> Option<Self> {
        let breakers = spec["breakers"].as_array()?;
        let read = breakers.iter().map(|b| Breaker::read(b, &spec["defaultActivator"]));
        Some(Self {
            service: spec["service"].as_str()?.to_owned(),
            mode: match spec["mode"].as_str() {
                Some("DryRun") => Mode::DryRun,
                Some("Disabled") => Mode::Disabled,
                _ => Mode::Active,
            },
            managed: spec["selectorManagement"] == "Managed",
            max_out: spec["limits"]["maxCutRatio"].as_u64().unwrap_or(34),
            per_window: match &spec["limits"]["maxCutsPerPeriod"] {
                Value::Number(n) => Ok(n.as_u64().unwrap_or(0)),
                Value::String(text) => Err(text.trim_end_matches('%').parse().unwrap_or(0)),
                _ => Err(10),
            },
            storm: spec["limits"]["maxAnomalousRatio"].as_u64().unwrap_or(50),
            breakers: read.collect::<Option<Vec<_>>>()?,
        })
    }

    /// Members that must serve, of `n`.
    pub fn floor(&self, n: u64) -> u64 {
        let of = |b: &Breaker| b.floor.0.unwrap_or(1).max((n * b.floor.1.unwrap_or(0)).div_ceil(100));
        self.breakers.iter().filter(|b| b.enforced).map(of).max().unwrap_or(1).max(1)
    }

    pub fn breaker(&self, name: &str) -> Option<&Breaker> {
        self.breakers.iter().find(|b| b.name == name)
    }

    /// Time in which cuts count together.
    pub fn window(&self) -> Duration {
        self.breakers.iter().map(|b| b.period.max(b.scrape)).max().unwrap_or(Duration::from_secs(15))
    }

    /// Cuts within it, of `n` members.
    pub fn cuts(&self, n: u64) -> u64 {
        self.per_window.unwrap_or_else(|percent| (n * percent / 100).max(1))
    }

    /// The longest time that a timed cut may last in a calm world: ceiling and jitter, the wait of a ladder that is
    /// held, four slots of those that come back before it, and a minute.
    pub fn longest_cut(&self) -> Duration {
        let of = |b: &Breaker| {
            let ceiling =
                Duration::from_secs(300).max(b.cut_time * (u32::try_from(b.retries).unwrap_or(0) + 1));
            let held = if b.ladder == Ladder::Periodic { Duration::ZERO } else { ceiling };
            ceiling.max(b.shortest()).mul_f64(1.2) + held + (b.range + Duration::from_secs(120)) * 4
        };
        self.breakers.iter().map(of).max().unwrap_or(Duration::from_secs(360)) + Duration::from_secs(60)
    }
}

impl Breaker {
    fn read(spec: &Value, default: &Value) -> Option<Self> {
        let own = |field: &str| {
            if spec["activator"][field].is_null() { &default[field] } else { &spec["activator"][field] }
        };
        let discrete = &spec["discreteValueOutOfList"];
        let deviation = &spec["continuousValueDeviation"];
        let custom = spec["customService"].as_str().unwrap_or_default();
        let query = [discrete, deviation].into_iter().find_map(|d| d["promQL"].as_str());
        let rule = match (discrete.is_object(), deviation.is_object()) {
            (true, _) => Rule::Share(discrete["tolerance"].as_f64().unwrap_or(50.0)),
            (_, true) => Rule::Deviation(deviation["maxDeviationPercent"].as_f64().unwrap_or(75.0)),
            _ => Rule::Named,
        };
        let asked = rule == Rule::Named || query.is_some_and(|q| !q.is_empty());
        let range = query.and_then(|q| q.split_once('[')?.1.split_once('s')?.0.parse().ok());
        let scrape = if rule == Rule::Named { 0 } else { 15 };
        asked.then(|| Self {
            name: spec["name"].as_str().unwrap_or_default().to_owned(),
            floor: (spec["minPodsAvailableCount"].as_u64(), spec["minPodsAvailableRatio"].as_u64()),
            period: seconds(&spec["evaluationPeriod"], 5.0),
            scrape: Duration::from_secs(scrape),
            range: Duration::from_secs(range.unwrap_or(0)),
            ladder: match own("mode").as_str() {
                Some("retryAndKill") => Ladder::Kill,
                Some("retryAndPause") => Ladder::Pause,
                _ => Ladder::Periodic,
            },
            kills: own("maxKillsPerHour").as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(4),
            enforced: spec["mode"] != "DryRun",
            retries: own("maxRetryCount").as_u64().unwrap_or(3),
            confirm: spec["confirm"]["anomalous"].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(2),
            cut_time: seconds(own("period"), 10.0),
            rule,
            key: query.unwrap_or_else(|| custom.rsplit(":8080").next().unwrap_or_default()).to_owned(),
        })
    }

    /// A cut may not end before the query's window is empty of what was before it.
    pub fn shortest(&self) -> Duration {
        self.range + self.period + self.scrape
    }
}
