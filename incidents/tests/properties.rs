//! What must hold for every seed: the same run again, shares as asked for, and nobody touched by what
//! befalls another.

use std::time::Duration;

use incidents::{
    Behaviour, Counters, Episode, Incident, Load, Model, PRICE_MEAN, Pods, Seed, Symptoms, Voice,
};
use proptest::prelude::*;

const HEALTHY: Behaviour = Behaviour::Healthy { error_share: 0.002 };
const DRAWS: u64 = 20_000;

fn behaviour() -> impl Strategy<Value = Behaviour> {
    prop_oneof![
        (0.0..0.05f64).prop_map(|error_share| Behaviour::Healthy { error_share }),
        (0.0..=1.0f64).prop_map(|share| Behaviour::Failing { share }),
        (0.1..5.0f64).prop_map(|factor| Behaviour::MisPriced { factor }),
        (0.0..=1.0f64, 0.1..5.0f64).prop_map(|(error_share, price_factor)| {
            Behaviour::Mixed(Symptoms { error_share, price_factor, ..Symptoms::NONE })
        }),
    ]
}

fn episode() -> impl Strategy<Value = Episode> {
    let pods = prop_oneof![Just(Pods::All), (0..12u32).prop_map(Pods::One)];
    let length = proptest::option::of(0..60u64);
    (pods, 0..60u64, length, behaviour()).prop_map(|(pods, from, length, behaviour)| Episode {
        pods,
        from: Duration::from_secs(from),
        until: length.map(|length| Duration::from_secs(from + length)),
        behaviour,
    })
}

fn incident() -> impl Strategy<Value = Incident> {
    (behaviour(), proptest::collection::vec(episode(), 0..6))
        .prop_map(|(usual, episodes)| episodes.into_iter().fold(Incident::new(usual), Incident::with))
}

/// `DRAWS` answers of one pod that behaves in one way.
fn counted(seed: u64, behaviour: Behaviour) -> Counters {
    let model = Model::new(Seed::new(seed), Incident::new(behaviour));
    let mut counters = Counters::default();
    (0..DRAWS).for_each(|request| counters.record(&model.answer(5, request, Duration::ZERO)));
    counters
}

/// A minute of load over ten pods: the counters of each.
fn replay(seed: u64, incident: &Incident) -> Vec<Counters> {
    let (load, model) = (Load::new(Seed::new(seed), 50), Model::new(Seed::new(seed), incident.clone()));
    let mut fleet = vec![Counters::default(); 10];
    let mut sent = 0;
    for second in 0..60 {
        let at = Duration::from_secs(second);
        for request in sent..load.due(at) {
            let pod = load.pick(request, fleet.len()).expect("ten endpoints");
            fleet[pod].record(&model.answer(u32::try_from(pod).expect("ten"), request, at));
        }
        sent = load.due(at);
    }
    fleet
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn same_seed_same_run(seed: u64, incident in incident()) {
        prop_assert_eq!(replay(seed, &incident), replay(seed, &incident));
    }

    #[test]
    fn another_seed_another_run(seed: u64) {
        let incident = Incident::new(HEALTHY);
        prop_assert_ne!(replay(seed, &incident), replay(seed.wrapping_add(1), &incident));
    }

    /// Five standard deviations: less than one false alarm in a million cases.
    #[test]
    fn the_share_of_errors_converges_to_the_asked_one(seed: u64, behaviour in behaviour()) {
        let share = counted(seed, behaviour).errors() as f64 / DRAWS as f64;
        let asked = behaviour.symptoms().error_share;
        let deviation = (asked * (1.0 - asked) / DRAWS as f64).sqrt();
        prop_assert!((share - asked).abs() <= 5.0 * deviation + 1e-9, "{share} for {asked}");
    }

    #[test]
    fn the_mean_price_converges_to_the_asked_one(seed: u64, factor in 0.1..5.0f64) {
        let counters = counted(seed, Behaviour::MisPriced { factor });
        let ratio = counters.price_sum() / counters.price_count() as f64 / PRICE_MEAN;
        // A uniform within 20 % has a deviation of 11.5 %: 0.08 % for the mean of 20,000.
        prop_assert!((ratio / factor - 1.0).abs() < 0.005, "{ratio} for {factor}");
    }

    #[test]
    fn a_mixture_has_every_symptom_at_once(seed: u64, request: u64, factor in 1.0..9.0f64, offset in -50.0..50.0f64) {
        let of = |symptoms| Voice::new(Seed::new(seed), 3).answer(&symptoms, request);
        let usual = of(Symptoms::NONE);
        let odd = of(Symptoms { latency_factor: factor, price_factor: factor, price_offset: offset, error_share: 0.0 });
        prop_assert_eq!(odd.price, usual.price.map(|price| price * factor + offset));
        prop_assert!((odd.latency.as_secs_f64() - usual.latency.as_secs_f64() * factor).abs() < 1e-8);
        prop_assert_eq!(of(Symptoms { error_share: 1.0, ..Symptoms::NONE }).code, 500);
    }

    #[test]
    fn an_error_tells_no_price_and_every_other_answer_one(
        seed: u64, incident in incident(), pod in 0..12u32, request: u64, at in 0..120_000u64,
    ) {
        let answer = Model::new(Seed::new(seed), incident).answer(pod, request, Duration::from_millis(at));
        prop_assert_eq!(answer.price.is_some(), answer.code == 200);
        prop_assert!(answer.code == 200 || answer.code == 500);
        prop_assert!((10..=90).contains(&answer.latency.as_millis()));
    }

    #[test]
    fn an_episode_changes_no_answer_of_other_pods_or_times(
        seed: u64, before in incident(), episode in episode(), pod in 0..12u32, request: u64, at in 0..120u64,
    ) {
        let at = Duration::from_secs(at);
        let after = before.clone().with(episode);
        let answers = [before, after].map(|incident| Model::new(Seed::new(seed), incident).answer(pod, request, at));
        prop_assert!(episode.covers(pod, at) || answers[0] == answers[1]);
    }

    #[test]
    fn endpoints_are_picked_evenly(seed: u64, endpoints in 1..20usize) {
        let load = Load::new(Seed::new(seed), 1);
        let mut picked = vec![0u64; endpoints];
        (0..DRAWS).for_each(|request| picked[load.pick(request, endpoints).expect("some")] += 1);
        let even = DRAWS as f64 / endpoints as f64;
        prop_assert!(picked.iter().all(|&n| (n as f64 - even).abs() <= 6.0 * even.sqrt()), "{picked:?}");
    }

    #[test]
    fn due_counts_every_request_once_however_often_it_is_asked(per_second in 1..1_000u32, steps in proptest::collection::vec(1..50u64, 1..100)) {
        let load = Load::new(Seed::new(1), per_second);
        let (mut at, mut last) = (Duration::ZERO, load.due(Duration::ZERO));
        for step in steps {
            at += Duration::from_millis(step);
            prop_assert!(load.due(at) >= last);
            last = load.due(at);
        }
        let expected = at.as_secs_f64() * f64::from(per_second);
        prop_assert!((last as f64 - expected - 1.0).abs() <= 1.0);
    }
}
