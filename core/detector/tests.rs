//! `judge` over a fleet: who is busy enough to be judged, and what a partial answer is worth.

use crate::detector::{Asked, Bounds, Detector, Direction, Outlier, judge};
use crate::fixtures::{fleet_of_open, row};
use crate::sample::{Row, Samples};
use crate::verdict::{Measure, Unknown};

fn range(min_activity: Option<f64>) -> Detector {
    Detector::Range(Bounds { min: None, max: Some(0.25), min_activity })
}

fn outlier(min_activity: Option<f64>) -> Detector {
    let (direction, max_score, min_ratio, min_delta) = (Direction::Above, 3.5, 1.5, 0.05);
    Detector::Outlier(Outlier { direction, max_score, min_ratio, min_delta, min_activity })
}

/// Of five pods, the first one is far off.
fn values() -> Samples {
    let value = |pod: u8| row(&format!("pod-0{pod}"), None, if pod == 0 { 0.9 } else { 0.1 });
    Samples::new((0..5).map(value).collect(), false)
}

/// Of the same pods, 60 requests for each, but for the first one.
fn activity(of_first: Option<f64>, partial: bool) -> Samples {
    let others = (1..5).map(|pod: u8| row(&format!("pod-0{pod}"), None, 60.0));
    let first = of_first.map(|value| row("pod-00", None, value));
    Samples::new(first.into_iter().chain(others).collect::<Vec<Row>>(), partial)
}

fn first(detector: &Detector, activity: Option<&Samples>) -> Measure {
    let (fleet, values) = (fleet_of_open(5), values());
    let asked = Asked { samples: &values, activity };
    judge(&fleet, asked, detector, &|_| true)[0]
}

#[test]
fn a_pod_that_is_busy_enough_is_judged_by_both_rules() {
    for busy in [activity(Some(10.0), false), activity(Some(60.0), false)] {
        assert!(first(&range(Some(10.0)), Some(&busy)).unwrap().beyond);
        assert!(first(&outlier(Some(10.0)), Some(&busy)).unwrap().beyond);
    }
}

#[test]
fn a_pod_that_is_idle_or_has_no_activity_at_all_is_unknown() {
    for idle in [activity(Some(9.99), false), activity(None, false)] {
        assert_eq!(first(&range(Some(10.0)), Some(&idle)), Err(Unknown::TooLittle));
        assert_eq!(first(&outlier(Some(10.0)), Some(&idle)), Err(Unknown::TooLittle));
    }
}

#[test]
fn activity_that_is_no_number_is_unknown_by_its_name() {
    let broken = activity(Some(f64::NAN), false);
    assert_eq!(first(&range(Some(10.0)), Some(&broken)), Err(Unknown::NotANumber));
}

#[test]
fn a_rule_that_asks_for_no_activity_judges_idle_pods_too() {
    assert!(first(&range(None), None).unwrap().beyond);
    assert!(first(&outlier(None), None).unwrap().beyond);
}

#[test]
fn idle_pods_are_no_peers() {
    let fleet = fleet_of_open(5);
    let (values, busy) =
        (values(), Samples::new(vec![row("pod-00", None, 60.0), row("pod-01", None, 60.0)], false));
    let asked = Asked { samples: &values, activity: Some(&busy) };
    let measures = judge(&fleet, asked, &outlier(Some(10.0)), &|_| true);
    assert_eq!(measures[0], Err(Unknown::TooFewPeers));
}

#[test]
fn a_partial_answer_about_activity_is_as_doubtful_as_one_about_values() {
    let partial = activity(Some(60.0), true);
    assert_eq!(first(&range(Some(10.0)), Some(&partial)), Err(Unknown::PartialAnswer));
    assert_eq!(first(&outlier(Some(10.0)), Some(&partial)), Err(Unknown::PartialAnswer));
}
