//! Breakers of a spec in words: what is anomalous, and who is asked what. Read by the controller's own code, so that
//! defaults are those that hold.

use std::sync::LazyLock;
use std::time::Duration;

use kubervisor::api::{Asked, Defaults, Parsed, parse};
use kubervisor::sources::{Endpoint, Question};
use kubervisor_core::detector::{Bounds, Detector, Deviation, Direction, Discrete, Lists, Outlier};
use kubervisor_core::policy::{BreakerPolicy, FloorPolicy};
use serde_json::Value;

/// Stands for the controller's own Prometheus, which only the controller knows.
static CONTROLLERS: LazyLock<Option<Endpoint>> =
    LazyLock::new(|| Endpoint::parse("http://the-controllers-own.invalid").ok());

/// Whether it is asked because the spec names no other.
#[must_use]
pub fn is_controllers(endpoint: &Endpoint) -> bool {
    CONTROLLERS.as_ref() == Some(endpoint)
}

/// A breaker in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its name.
    pub breaker: String,
    /// What is anomalous.
    pub anomalous: String,
    /// What must go on serving because of it.
    pub floor: String,
    /// How often, and how many verdicts it takes.
    pub rhythm: String,
    /// Who is asked what, a line each.
    pub asks: Vec<String>,
    /// Whether it only shows.
    pub dry: bool,
}

/// A spec as the controller reads it.
///
/// # Errors
/// What the controller refuses in it, a sentence each.
pub fn parsed(spec: &Value, namespace: &str) -> Result<Parsed, Vec<String>> {
    parse(spec, namespace, &Defaults { prometheus: CONTROLLERS.clone(), ..Defaults::default() })
}

/// All breakers of a spec.
///
/// # Errors
/// What the controller refuses in it, a sentence each.
pub fn rules(spec: &Value, namespace: &str) -> Result<Vec<Rule>, Vec<String>> {
    let parsed = parsed(spec, namespace)?;
    let both = parsed.policy.breakers.iter().zip(&parsed.asked);
    Ok(both.map(|(breaker, asked)| rule(breaker, asked)).collect())
}

fn rule(breaker: &BreakerPolicy, asked: &Asked) -> Rule {
    let confirm = breaker.confirm;
    let mut asks = vec![question(&asked.question, breaker.range)];
    asks.extend(
        asked.activity.as_ref().map(|activity| format!("activity: {}", question(activity, breaker.range))),
    );
    Rule {
        breaker: breaker.name.to_string(),
        anomalous: anomalous(&breaker.detector),
        floor: floor(breaker.floor),
        rhythm: format!(
            "every {}, {} of the last {} verdicts",
            span(breaker.evaluation_period),
            confirm.anomalous,
            confirm.of
        ),
        asks,
        dry: !breaker.enforced,
    }
}

fn span(time: Duration) -> String {
    humantime::format_duration(time).to_string()
}

fn question(question: &Question, range: Duration) -> String {
    match question {
        Question::Prometheus(asked) => {
            let whom = if is_controllers(&asked.endpoint) {
                "the controller's own Prometheus"
            } else {
                asked.endpoint.as_str()
            };
            let query = asked.query.split_whitespace().collect::<Vec<_>>().join(" ");
            format!("{whom} (looks back {}): {query}", span(range))
        }
        Question::Custom(asked) => format!("{}: a list of the bad pods", asked.endpoint),
    }
}

fn floor(floor: FloorPolicy) -> String {
    match (floor.count, floor.percent) {
        (None, None) => "1 pod".to_owned(),
        (Some(count), None) => format!("{count} pods"),
        (None, Some(percent)) => format!("{percent} % of the pods"),
        (Some(count), Some(percent)) => format!("{count} pods and {percent} % of them"),
    }
}

fn anomalous(detector: &Detector) -> String {
    match detector {
        Detector::Discrete(Discrete { lists, tolerance, min_activity }) => {
            format!("more than {tolerance} % of at least {min_activity} events are bad ({})", values(lists))
        }
        Detector::Deviation(Deviation { max_percent, direction }) => {
            format!("more than {max_percent} % {} the mean and the median", side(*direction))
        }
        Detector::Outlier(Outlier { direction, max_score, min_ratio, min_delta, min_activity }) => format!(
            "more than {max_score} spreads {} the median, by {min_delta} and a ratio of {min_ratio} at least{}",
            side(*direction),
            active(*min_activity)
        ),
        Detector::Range(Bounds { min, max, min_activity }) => {
            let bounds = match (min, max) {
                (Some(min), Some(max)) => format!("below {min} or above {max}"),
                (Some(min), None) => format!("below {min}"),
                (None, Some(max)) => format!("above {max}"),
                (None, None) => "never".to_owned(),
            };
            bounds + &active(*min_activity)
        }
        Detector::Custom => "named by the service".to_owned(),
    }
}

fn active(min: Option<f64>) -> String {
    min.map(|min| format!(", where the activity is {min} at least")).unwrap_or_default()
}

fn side(direction: Direction) -> &'static str {
    match direction {
        Direction::Both => "off",
        Direction::Above => "above",
        Direction::Below => "below",
    }
}

fn values(lists: &Lists) -> String {
    let join = |values: &std::collections::BTreeSet<std::sync::Arc<str>>| {
        values.iter().map(|value| &**value).collect::<Vec<_>>().join(", ")
    };
    match lists {
        Lists::Good(good) => format!("good: {}", join(good)),
        Lists::Bad(bad) => format!("bad: {}", join(bad)),
        Lists::Both { good, bad } => format!("good: {}; bad: {}", join(good), join(bad)),
    }
}
