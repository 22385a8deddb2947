//! Faults that this controller had, each a test that fails if it comes back; as in `original_faults`, what runs is the
//! whole controller on a small API server in memory, under a clock that is moved.
#![allow(missing_docs, clippy::panic, clippy::unwrap_used, reason = "a test ends this way")]

mod stage;

use std::time::Duration;

use kubervisor::cluster::mandate::Mandate;
use kubervisor::cluster::release::{Selectors, release_all};
use kubervisor::cluster::scope::Scope;
use kubervisor_core::plan::Why;
use serde_json::{Value, json};
use stage::{
    Server, Stage, client, one_orchard, orchard, pod, pod_path, resource_path, service, service_path,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

fn annotation(stage: &Stage, pod: usize, key: &str) -> Value {
    stage.server.get(&pod_path("orchard", pod))["metadata"]["annotations"][key].clone()
}

/// Pods whose eviction was asked for, in order.
fn evictions(stage: &Stage) -> Vec<String> {
    let writes = stage.server.pod_writes();
    let evictions = writes.iter().filter(|asked| asked.path.ends_with("/eviction"));
    evictions.map(|asked| asked.body["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_pod_born_without_a_label_waited_for_namespaces_that_may_not_be_listed() {
    let server = Server::default();
    orchard(&server, "orchard", 3, &json!({}));
    server.forbid("/namespaces/meadow/");
    let scope = Scope::of(&["meadow".to_owned(), "orchard".to_owned()]).unwrap();
    let stage = Stage::start_in(&server, &scope);
    stage.pass(60).await;
    let mut born = pod("orchard", 3);
    born["metadata"]["labels"] = json!({"app": "pear"});
    server.put(&pod_path("orchard", 3), born);
    stage.pass(5).await;
    assert_eq!(stage.label("orchard", 3), "yes");
}

#[tokio::test(start_paused = true)]
async fn one_pod_whose_eviction_is_refused_stalled_the_eviction_of_the_next() {
    let ladder = json!({"mode": "retryAndKill", "maxRetryCount": 0, "period": 20, "maxPeriod": 600});
    let stage = one_orchard(8, &json!({"activator": ladder}));
    stage.server.refuse_evictions();
    stage.bad(&["pear-2", "pear-3"]).pass(200).await;
    assert_eq!(stage.out(8), [2, 3], "refused, they stay as they are");
    let tried = evictions(&stage);
    for pod in ["pear-2", "pear-3"] {
        assert!(tried.iter().filter(|tried| *tried == pod).count() >= 2, "{tried:?}");
    }
    let status = stage.server.get(&resource_path("orchard"))["status"].clone();
    assert!(status["kills"].as_array().is_none_or(Vec::is_empty), "nothing was evicted: {status}");
}

#[tokio::test(start_paused = true)]
async fn an_eviction_of_unknown_fate_keeps_its_record() {
    let ladder = json!({"mode": "retryAndKill", "maxRetryCount": 0, "period": 20, "maxPeriod": 600});
    let stage = one_orchard(8, &json!({"activator": ladder}));
    stage.server.answer_evictions(500);
    stage.bad(&["pear-2"]).pass(60).await;
    assert!(!evictions(&stage).is_empty());
    let kills = stage.server.get(&resource_path("orchard"))["status"]["kills"].clone();
    assert_eq!(kills[0]["uid"], "uid-orchard-2", "{kills}");
}

#[tokio::test(start_paused = true)]
async fn pods_stayed_dark_where_a_spec_became_invalid_before_mode_disabled_had_freed_them() {
    let stage = one_orchard(5, &json!({"activator": {"period": 3_000, "maxPeriod": 3_000}}));
    stage.bad(&["pear-3"]).pass(12).await;
    assert_eq!(stage.out(5), [3]);
    stage.server.forbid("/pods/pear-3");
    stage.server.edit(&resource_path("orchard"), &json!({"spec": {"mode": "Disabled"}}));
    stage.pass(5).await;
    assert_eq!(stage.out(5), [3], "its return was refused");
    stage.server.edit(&resource_path("orchard"), &json!({"spec": {"mode": "Asleep"}}));
    stage.pass(5).await;
    stage.server.forbid("/nothing/");
    stage.pass(70).await;
    assert!(stage.out(5).is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_edit_waited_behind_the_answers_where_turns_outlast_the_period() {
    let rule = json!({"evaluationPeriod": 1, "activator": {"period": 3_000, "maxPeriod": 3_000}});
    let stage = one_orchard(300, &rule);
    stage.server.write_time(Duration::from_secs(3));
    let names: Vec<_> = (0..26).map(|i| format!("pear-{i}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    // One more in every answer: each turn has a write, and the next answer is there when it ends.
    for bad in 1..8 {
        stage.bad(&names[..bad]).pass(1).await;
    }
    let hold = json!({"spec": {"holds": [{"reason": "checkout migration"}]}});
    stage.server.edit(&resource_path("orchard"), &hold);
    let before = stage.server.pod_writes().len();
    for bad in 8..26 {
        stage.bad(&names[..bad]).pass(1).await;
    }
    let later = stage.server.pod_writes().len() - before;
    assert!(later <= 4, "{later} writes after the hold: more than were under way");
}

#[tokio::test(start_paused = true)]
async fn a_slip_of_the_pen_and_its_correction_made_a_breaker_forget_what_it_had_seen() {
    let stage = one_orchard(5, &json!({"confirm": {"anomalous": 3, "of": 3}, "evaluationPeriod": 10}));
    stage.bad(&["pear-3"]);
    let found = |plan: kubervisor_core::plan::Plan| {
        let found = plan.refusals.iter().find_map(|refusal| match refusal.why {
            Why::Unconfirmed { found, .. } => Some(found),
            _ => None,
        });
        found.unwrap_or(0)
    };
    while stage.ticks() == 0 || found(stage.last_plan()) < 2 {
        stage.pass(1).await;
    }
    stage.server.edit(&resource_path("orchard"), &json!({"spec": {"mode": "Actve"}}));
    stage.pass(3).await;
    let asked = stage.asked("errors");
    stage.server.edit(&resource_path("orchard"), &json!({"spec": {"mode": "Active"}}));
    while stage.asked("errors") == asked {
        stage.pass(1).await;
    }
    stage.pass(2).await;
    assert_eq!((stage.out(5), stage.asked("errors")), (vec![3], asked + 1));
}

#[tokio::test(start_paused = true)]
async fn a_cut_that_nobody_answered_for_was_not_told_though_it_was_carried_out() {
    let stage = one_orchard(5, &json!({"activator": {"period": 3_000, "maxPeriod": 3_000}}));
    stage.server.doubt_next(true);
    stage.bad(&["pear-3"]).pass(20).await;
    assert_eq!(stage.out(5), [3]);
    let told = stage.server.told("pear-3");
    assert!(
        matches!(&told[..], [(reason, text)] if reason == "PodCut" && text.contains("cut by errors")),
        "{told:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_cut_that_was_undone_in_doubt_was_not_told() {
    let stage = one_orchard(5, &json!({"activator": {"period": 3_000, "maxPeriod": 3_000}}));
    stage.server.doubt_next(false);
    stage.bad(&["pear-3"]).pass(8).await;
    assert_eq!(stage.out(5), [] as [usize; 0]);
    assert!(!annotation(&stage, 3, "kubervisor.k8s.io/restored-at").is_null(), "the fence came through");
    let told = stage.server.told("pear-3");
    assert!(
        matches!(&told[..], [(reason, text)] if reason == "PodRestored" && text.contains("in doubt it serves")),
        "{told:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_suspect_was_not_told_to_the_workload() {
    let server = Server::default();
    orchard(&server, "orchard", 5, &json!({}));
    for i in 0..2 {
        let mut moved = pod("orchard", i);
        moved["spec"]["nodeName"] = json!("shed");
        server.put(&pod_path("orchard", i), moved);
    }
    let mill = json!([{"kind": "Deployment", "name": "pick", "apiVersion": "apps/v1", "uid": "uid-of-mill"}]);
    let set = json!({
        "metadata": {"name": "mill-7d9f", "namespace": "orchard", "uid": "uid-of-set", "ownerReferences": mill},
        "spec": {"replicas": 5, "template": {"metadata": {"labels": {"app": "pear"}}}},
    });
    server.put("/apis/apps/v1/namespaces/orchard/replicasets/mill-7d9f", set);
    let stage = Stage::start(&server);
    stage.bad(&["pear-0", "pear-1"]).pass(30).await;
    let told: Vec<_> =
        server.told("pick").into_iter().filter(|(reason, _)| reason == "SuspectNode").collect();
    assert_eq!(told.len(), 2, "on the KubervisorService and on the Deployment of the same name: {told:?}");
    assert!(told.iter().all(|(_, text)| text.contains("share node shed")), "{told:?}");
    let names = server.event_names("SuspectNode");
    assert!(names.len() == 2 && names[0] != names[1], "the second one would not be created: {names:?}");
}

#[tokio::test(start_paused = true)]
async fn a_floor_that_only_pods_kept_out_by_people_could_mend_was_not_told() {
    let stage = one_orchard(4, &json!({"minPodsAvailableCount": 3}));
    stage.pass(10).await;
    let label = |i: usize, value: &str| {
        let mut by_hand = pod("orchard", i);
        by_hand["metadata"]["labels"]["kubervisor/traffic"] = json!(value);
        stage.server.put(&pod_path("orchard", i), by_hand);
    };
    label(0, "no");
    stage.pass(10).await;
    let below = || {
        stage.server.told("pick").into_iter().filter(|(reason, _)| reason == "BelowFloor").collect::<Vec<_>>()
    };
    assert_eq!(below(), [], "three serve");
    label(1, "pause");
    stage.pass(60).await;
    let told = below();
    assert!(
        matches!(&told[..], [(_, text)] if text.contains("2 serve, the floor is 3")
            && text.contains("pear-0 (cut by hand), pear-1 (paused);")),
        "{told:?}"
    );
}

/// `release --open-selectors` of an orchard with one pod cut: how long the pod was out, in seconds, and what was said.
async fn opened(server: &Server) -> (u64, String) {
    let mut cut = pod("orchard", 1);
    cut["metadata"]["labels"]["kubervisor/traffic"] = json!("no");
    cut["metadata"]["annotations"]["breaker/breakAt"] = json!("2023-11-14T22:00:00Z");
    server.put(&pod_path("orchard", 1), cut);
    let (client, start, stop) = (client(server), Instant::now(), CancellationToken::new());
    let mandate = Mandate::unlimited();
    let release = release_all(&client, &Scope::Cluster, &[], Selectors::Open, &mandate, &stop);
    let back = async {
        while server.get(&pod_path("orchard", 1))["metadata"]["labels"]["kubervisor/traffic"] != "yes" {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        start.elapsed().as_secs()
    };
    let (released, back) = tokio::join!(release, tokio::time::timeout(Duration::from_mins(9), back));
    (back.unwrap(), released.map_or_else(|error| error.to_string(), |()| "released".to_owned()))
}

#[tokio::test(start_paused = true)]
async fn a_release_where_pods_may_not_be_listed_took_minutes_to_say_no_more_than_that() {
    let server = Server::default();
    orchard(&server, "orchard", 2, &json!({}));
    server.forbid("/namespaces/meadow/");
    let scope = Scope::of(&["meadow".to_owned(), "orchard".to_owned()]).unwrap();
    let (client, start, stop) = (client(&server), Instant::now(), CancellationToken::new());
    let mandate = Mandate::unlimited();
    let released = release_all(&client, &scope, &[], Selectors::Open, &mandate, &stop).await;
    let said = released.unwrap_err().to_string();
    assert!(
        said.starts_with(
            "nothing is released: it takes the right to list and watch pods in namespace meadow, "
        ),
        "{said}"
    );
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_service_that_somebody_else_keeps_writing_kept_every_pod_out_of_a_release() {
    let path = service_path("orchard");
    let orchard = || {
        let server = Server::default();
        orchard(&server, "orchard", 2, &json!({}));
        server
    };
    let quiet = orchard();
    assert_eq!(opened(&quiet).await, (0, "released".to_owned()));
    assert_eq!((quiet.writes_to(&path), &quiet.get(&path)["spec"]["selector"]), (1, &json!({"app": "pear"})));

    let refused = orchard();
    refused.refuse(&path, 403);
    let (out, said) = opened(&refused).await;
    assert!(out <= 11 && refused.writes_to(&path) == 5, "five tries, two seconds apart: {out} s");
    assert!(said.contains("orchard/pears; see above why it stays"), "{said}");

    let contested = orchard();
    contested.refuse(&path, 409);
    let (out, said) = opened(&contested).await;
    assert!((29..=31).contains(&out) && contested.writes_to(&path) == 150, "{out} s");
    assert!(said.contains("orchard/pears; see above why it stays"), "{said}");

    let put_back = orchard();
    let gitops = put_back.clone();
    let again = async {
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            gitops.put(&path, service("orchard", &json!({"app": "pear", "kubervisor/traffic": "yes"})));
        }
    };
    let (out, said) = tokio::select! {
        biased;
        released = opened(&put_back) => released,
        () = again => unreachable!("it goes on"),
    };
    assert!(out <= 31 && said.contains("orchard/pears; see above why it stays"), "{out} s: {said}");

    let another = orchard();
    another.put(&path, service("orchard", &json!({"app": "pear", "kubervisor/traffic": "maybe"})));
    let (out, said) = opened(&another).await;
    assert_eq!((out, another.writes_to(&path)), (0, 0), "not ours to take out");
    assert!(said.contains("orchard/pears; "), "{said}");
}
