//! Who shares a query with whom, and for how long its answer is kept.

use futures::future::join_all;
use kubervisor_core::sample::Samples;

use super::super::testing::{Gated, Told, options, prom, question, sources};
use super::super::{PromQuestion, Source, SourceOptions, Sources};
use super::*;

fn answer() -> Outcome {
    let now = Instant::now();
    Ok(Arc::new(Answer {
        samples: Samples::default(),
        asked_at: now,
        answered_at: now,
        dropped: 0,
        warnings: vec![],
    }))
}

fn up() -> Question {
    question("prometheus", "up")
}

fn start(sharing: &Arc<Sharing>, question: &Question, slot: Slot) -> (Landing, Arrival, bool) {
    match sharing.board(question, slot) {
        Boarding::Start { landing, arrival, slow } => (landing, arrival, slow),
        Boarding::Join(_) => panic!("joined"),
    }
}

fn join(sharing: &Arc<Sharing>, question: &Question, slot: Slot) -> Arrival {
    match sharing.board(question, slot) {
        Boarding::Join(arrival) => arrival,
        Boarding::Start { .. } => panic!("started"),
    }
}

#[tokio::test]
async fn fifty_who_ask_the_same_in_one_slot_send_one_request() {
    let (server, sources) = (Gated::start().await, sources());
    let up = question(&server.url, "up");
    let (answers, ()) = tokio::join!(join_all((0..50).map(|_| sources.ask(&up, 7))), async {
        server.seen(1).await;
        server.let_out(50);
    });
    assert!(answers.iter().all(|a| Arc::ptr_eq(a.as_ref().unwrap(), answers[0].as_ref().unwrap())));
    assert_eq!(server.seen(1).await.in_all, 1);
}

#[tokio::test]
async fn who_comes_later_in_the_slot_gets_the_answer_that_is_there() {
    let (server, sources) = (Gated::start().await, sources());
    server.let_out(2);
    let up = question(&server.url, "up");
    let first = sources.ask(&up, 7).await.unwrap();
    let late = sources.ask(&up, 7).await.unwrap();
    assert!(Arc::ptr_eq(&first, &late));
    sources.ask(&up, 8).await.unwrap();
    assert_eq!(server.seen(2).await.in_all, 2, "the next slot asks again");
}

#[tokio::test]
async fn questions_that_differ_in_anything_are_not_shared() {
    let (server, sources) = (Gated::start().await, sources());
    server.let_out(100);
    let base = prom(&server.url, "up");
    let all = [
        base.clone(),
        PromQuestion { query: "up == 0".into(), ..base.clone() },
        PromQuestion { pod_label: "instance".into(), ..base.clone() },
        PromQuestion { namespace_label: "exported_namespace".into(), ..base.clone() },
        PromQuestion { key_label: Some("code".into()), ..base.clone() },
        PromQuestion { lookback: Duration::from_secs(61), ..base.clone() },
        PromQuestion { timeout: Duration::from_secs(19), ..base },
    ]
    .map(Question::Prometheus);
    let answers = join_all(all.iter().map(|question| sources.ask(question, 7))).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(server.seen(7).await.in_all, 7);
}

#[tokio::test]
async fn an_asker_who_goes_away_strands_nobody() {
    let (server, sources) = (Gated::start().await, sources());
    let up = question(&server.url, "up");
    let starter = tokio::spawn({
        let (sources, up) = (sources.clone(), up.clone());
        async move { sources.ask(&up, 7).await }
    });
    server.seen(1).await;
    let mut follower = sources.ask(&up, 7);
    assert!(futures::poll!(&mut follower).is_pending());
    starter.abort();
    assert!(starter.await.is_err_and(|e| e.is_cancelled()));
    server.let_out(1);
    assert!(follower.await.is_ok());
    assert_eq!(server.seen(1).await.in_all, 1);
}

#[tokio::test]
async fn a_slow_server_sees_no_more_than_its_number_at_once() {
    let server = Gated::start().await;
    let sources = Sources::new(SourceOptions { max_in_flight_per_endpoint: 3, ..options() }).unwrap();
    let all: Vec<_> = (0..12).map(|n| question(&server.url, &format!("up{n}"))).collect();
    let (answers, ()) = tokio::join!(join_all(all.iter().map(|question| sources.ask(question, 7))), async {
        for requests in 3..=12 {
            server.seen(requests).await;
            server.let_out(1);
        }
        server.let_out(2);
    });
    assert!(answers.iter().all(Result::is_ok));
    let seen = server.seen(12).await;
    assert_eq!((seen.most, seen.in_all), (3, 12));
}

#[tokio::test]
async fn metrics_tell_queries_from_shared_answers() {
    let (server, told) = (Gated::start().await, Arc::new(Told::default()));
    let sources = Sources::new(SourceOptions { observer: Arc::clone(&told) as _, ..options() }).unwrap();
    server.let_out(1);
    let up = question(&server.url, "up");
    let _ = (sources.ask(&up, 7).await, sources.ask(&up, 7).await);
    let told: Vec<_> = told.0.lock().unwrap().iter().map(|t| (t.source, t.outcome, t.shared)).collect();
    assert_eq!(told, [("prometheus", "Ok", false), ("prometheus", "Ok", true)]);
}

#[tokio::test]
async fn a_flight_that_dies_says_so_to_all_who_wait() {
    let sharing = Arc::new(Sharing::default());
    let (landing, starter, _) = start(&sharing, &up(), 7);
    let follower = join(&sharing, &up(), 7);
    drop(landing);
    assert_eq!(arrive(starter).await, Err(SourceError::Lost));
    assert_eq!(arrive(follower).await, Err(SourceError::Lost));
    start(&sharing, &up(), 8);
}

#[tokio::test]
async fn a_failure_is_shared_as_an_answer_is() {
    let sharing = Arc::new(Sharing::default());
    let (landing, ..) = start(&sharing, &up(), 7);
    landing.land(Err(SourceError::Refused), 0, None);
    assert_eq!(arrive(join(&sharing, &up(), 7)).await, Err(SourceError::Refused));
}

#[test]
fn a_slow_question_is_remembered_as_slow_until_it_is_quick_again() {
    let sharing = Arc::new(Sharing::default());
    let next = |slot, told: Option<bool>| {
        let (landing, _, slow) = start(&sharing, &up(), slot);
        landing.land(answer(), 0, told);
        slow
    };
    assert_eq!(
        [next(1, Some(true)), next(2, None), next(3, Some(false)), next(4, None)],
        [false, true, true, false]
    );
}

#[test]
fn two_owners_a_slot_apart_do_not_throw_each_others_answers_out() {
    let sharing = Arc::new(Sharing::default());
    start(&sharing, &up(), 7).0.land(answer(), 1, None);
    start(&sharing, &up(), 8).0.land(answer(), 1, None);
    join(&sharing, &up(), 7);
    join(&sharing, &up(), 8);
    start(&sharing, &up(), 9).0.land(answer(), 1, None);
    join(&sharing, &up(), 8);
    assert_eq!(sharing.lock().weight, 2, "the oldest is gone, with its weight");
}

#[test]
fn what_nobody_asks_for_is_forgotten() {
    let sharing = Arc::new(Sharing::default());
    start(&sharing, &up(), 7).0.land(answer(), 5, None);
    let mut board = sharing.lock();
    let now = Instant::now();
    board.sweep(now + STALE / 2);
    assert_eq!((board.questions.len(), board.weight), (1, 5));
    board.sweep(now + STALE * 2);
    assert_eq!((board.questions.len(), board.weight), (0, 0));
}

#[test]
fn beyond_the_number_of_questions_they_are_answered_without_being_shared() {
    let sharing = Arc::new(Sharing::default());
    for n in 0..MAX_QUESTIONS {
        start(&sharing, &question("prometheus", &format!("up{n}")), 7);
    }
    start(&sharing, &up(), 7).0.land(answer(), 1, None);
    start(&sharing, &up(), 7);
    assert_eq!(sharing.lock().questions.len(), MAX_QUESTIONS);
}

#[tokio::test]
async fn beyond_the_weight_an_answer_reaches_who_waits_and_is_not_kept() {
    let sharing = Arc::new(Sharing::default());
    let (landing, starter, _) = start(&sharing, &up(), 7);
    landing.land(answer(), MAX_WEIGHT + 1, None);
    assert!(arrive(starter).await.is_ok());
    start(&sharing, &up(), 7);
    assert_eq!(sharing.lock().weight, 0);
}

#[test]
fn near_the_weight_an_answer_takes_the_place_of_the_one_before_it() {
    let sharing = Arc::new(Sharing::default());
    for slot in 1..=9 {
        start(&sharing, &up(), slot).0.land(answer(), MAX_WEIGHT - 1, None);
        join(&sharing, &up(), slot);
    }
    assert_eq!(sharing.lock().weight, MAX_WEIGHT - 1);
}

#[test]
fn an_answer_that_comes_after_its_place_was_given_away_is_weighed_once() {
    let sharing = Arc::new(Sharing::default());
    let first = start(&sharing, &up(), 7).0;
    start(&sharing, &up(), 8).0.land(answer(), 1, None);
    start(&sharing, &up(), 9).0.land(answer(), 1, None);
    let again = start(&sharing, &up(), 7).0;
    first.land(answer(), 10, None);
    again.land(answer(), 10, None);
    assert_eq!(sharing.lock().weight, 11);
}
