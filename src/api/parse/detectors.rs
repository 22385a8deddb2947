//! The one detector of a breaker: its rule for the core, and what it asks of a source.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kubervisor_core::detector::{
    Bounds, Detector, Deviation, Direction as CoreDirection, Discrete, Lists, Outlier,
};

use super::Reader;
use crate::api::{
    BreakerSpec, ContinuousValueDeviationSpec, Direction, DiscreteValueOutOfListSpec, FleetOutlierSpec,
    ValueOutOfRangeSpec,
};
use crate::sources::{CustomQuestion, Endpoint, Question};

/// Time that a custom service has; the original's.
const CUSTOM_TIMEOUT: Duration = Duration::from_secs(1);

/// A rule, and what must be asked for it.
pub(super) struct Ruled {
    pub(super) detector: Detector,
    pub(super) question: Question,
    /// Asked together with it, where the rule wants to know how busy the pods are.
    pub(super) activity: Option<Question>,
}

impl Reader<'_> {
    pub(super) fn detector(&mut self, at: &str, spec: &BreakerSpec, period: Duration) -> Option<Ruled> {
        let BreakerSpec {
            discrete_value_out_of_list: discrete,
            continuous_value_deviation: deviation,
            fleet_outlier: outlier,
            value_out_of_range: range,
            ..
        } = spec;
        let custom = spec.custom_service.as_deref().filter(|s| !s.is_empty());
        let field = |name: &str| format!("{at}.{name}");
        match (discrete, deviation, outlier, range, custom) {
            (Some(rule), None, None, None, None) => {
                self.discrete(&field("discreteValueOutOfList"), rule, period)
            }
            (None, Some(rule), None, None, None) => {
                self.deviation(&field("continuousValueDeviation"), rule, period)
            }
            (None, None, Some(rule), None, None) => self.outlier(&field("fleetOutlier"), rule, period),
            (None, None, None, Some(rule), None) => self.bounds(&field("valueOutOfRange"), rule, period),
            (None, None, None, None, Some(service)) => {
                let timeout = spec.custom_service_timeout.as_ref();
                let timeout = self.timeout(&field("customServiceTimeout"), timeout).unwrap_or(CUSTOM_TIMEOUT);
                let endpoint = self.endpoint(&field("customService"), Endpoint::parse_page(service))?;
                let question = Question::Custom(CustomQuestion { endpoint, timeout });
                Some(Ruled { detector: Detector::Custom, question, activity: None })
            }
            _ => {
                self.errors.push(format!(
                    "{at}: give exactly one of discreteValueOutOfList, continuousValueDeviation, fleetOutlier, \
                     valueOutOfRange and customService"
                ));
                None
            }
        }
    }

    fn discrete(&mut self, at: &str, spec: &DiscreteValueOutOfListSpec, period: Duration) -> Option<Ruled> {
        let key = self.required(&format!("{at}.key"), spec.key.as_ref(), "the label that holds the value");
        let lists = self.lists(at, spec);
        let tolerance = self.count(&format!("{at}.tolerance"), spec.tolerance, 100).unwrap_or(50);
        let min_activity =
            self.count(&format!("{at}.minActivity"), spec.min_activity, 1_000_000_000).unwrap_or(2);
        let question = self.asks(at, &spec.source, period).value(spec.prom_ql.as_ref(), key.clone());
        let rule = Discrete { lists: lists?, tolerance: tolerance.into(), min_activity: min_activity.into() };
        key.and(Some(Ruled { detector: Detector::Discrete(rule), question: question?, activity: None }))
    }

    fn deviation(
        &mut self,
        at: &str,
        spec: &ContinuousValueDeviationSpec,
        period: Duration,
    ) -> Option<Ruled> {
        let max_percent =
            self.number(at, "maxDeviationPercent", spec.max_deviation_percent, 0.0).unwrap_or(75.0);
        let question = self.asks(at, &spec.source, period).value(spec.prom_ql.as_ref(), None)?;
        let direction = spec.direction.map_or(CoreDirection::Both, direction);
        let detector = Detector::Deviation(Deviation { max_percent, direction });
        Some(Ruled { detector, question, activity: None })
    }

    fn outlier(&mut self, at: &str, spec: &FleetOutlierSpec, period: Duration) -> Option<Ruled> {
        let max_score = self.number(at, "maxScore", spec.max_score, 0.0).unwrap_or(3.5);
        let min_ratio = self.number(at, "minRatio", spec.min_ratio, 1.0).unwrap_or(1.5);
        let min_delta = self.number(at, "minDelta", spec.min_delta, 0.0).filter(|d| *d > 0.0);
        if min_delta.is_none() {
            self.errors.push(format!(
                "{at}.minDelta: give the distance from the median, in the value's unit and more than 0, that is always tolerated"
            ));
        }
        let mut asks = self.asks(at, &spec.source, period);
        let question = asks.value(spec.prom_ql.as_ref(), None);
        let (activity, min_activity) = asks.activity(spec.activity_prom_ql.as_ref(), spec.min_activity);
        let direction = spec.direction.map_or(CoreDirection::Above, direction);
        let rule = Outlier { direction, max_score, min_ratio, min_delta: min_delta?, min_activity };
        Some(Ruled { detector: Detector::Outlier(rule), question: question?, activity })
    }

    fn bounds(&mut self, at: &str, spec: &ValueOutOfRangeSpec, period: Duration) -> Option<Ruled> {
        let min = self.number(at, "min", spec.min, f64::MIN);
        let max = self.number(at, "max", spec.max, f64::MIN);
        if spec.min.is_none() && spec.max.is_none() {
            self.errors.push(format!("{at}: give min, max or both"));
        }
        if min.zip(max).is_some_and(|(min, max)| min > max) {
            self.errors.push(format!("{at}.min: more than max, so that every value would be out of range"));
        }
        let mut asks = self.asks(at, &spec.source, period);
        let question = asks.value(spec.prom_ql.as_ref(), None);
        let (activity, min_activity) = asks.activity(spec.activity_prom_ql.as_ref(), spec.min_activity);
        let detector = Detector::Range(Bounds { min, max, min_activity });
        Some(Ruled { detector, question: question?, activity })
    }

    fn lists(&mut self, at: &str, spec: &DiscreteValueOutOfListSpec) -> Option<Lists> {
        let set = |values: &Option<Vec<String>>| -> BTreeSet<Arc<str>> {
            values.iter().flatten().map(|v| Arc::from(v.as_str())).collect()
        };
        let (good, bad) = (set(&spec.good_values), set(&spec.bad_values));
        match (good.is_empty(), bad.is_empty()) {
            (true, true) => {
                self.errors.push(format!("{at}: give goodValues, badValues or both"));
                None
            }
            (false, true) => Some(Lists::Good(good)),
            (true, false) => Some(Lists::Bad(bad)),
            (false, false) => Some(Lists::Both { good, bad }),
        }
    }
}

fn direction(direction: Direction) -> CoreDirection {
    match direction {
        Direction::Both => CoreDirection::Both,
        Direction::Above => CoreDirection::Above,
        Direction::Below => CoreDirection::Below,
    }
}
