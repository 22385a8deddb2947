//! Stories of the field in which the whole controller takes part: on a small API server in memory, under a clock that is
//! moved. `docs/reference/stories.md` has all stories; most are told where the part is that decides.
#![allow(missing_docs, clippy::panic, clippy::unwrap_used, reason = "a test ends this way")]

mod stage;

use serde_json::{Value, json};
use stage::{Server, Stage, merge, one_orchard, orchard, pod, pod_path, resource_path};

/// A cut that does not end while the story lasts, and a floor of half.
fn long_cuts() -> Value {
    json!({"activator": {"period": 3_000, "maxPeriod": 3_000}, "minPodsAvailableRatio": 50})
}

fn readiness(ready: bool) -> Value {
    let word = if ready { "True" } else { "False" };
    json!({"status": {"conditions":
        [{"type": "Ready", "status": word, "lastTransitionTime": "2023-11-14T22:14:20Z"}]}})
}

#[tokio::test(start_paused = true)]
async fn a_breaker_in_dry_run_beside_an_active_one_writes_nothing_and_shows_what_it_would() {
    let stage = one_orchard(6, &long_cuts());
    let first = stage.server.get(&resource_path("orchard"))["spec"]["breakers"][0].clone();
    let mut shown = first.clone();
    merge(&mut shown, &json!({"name": "latency", "customService": "source.test/latency", "mode": "DryRun"}));
    stage.server.edit(&resource_path("orchard"), &json!({"spec": {"breakers": [first, shown]}}));
    stage.page("errors", &["pear-3"]).page("latency", &["pear-1"]).pass(120).await;
    let writes = stage.server.pod_writes();
    assert!(
        !writes.is_empty() && writes.iter().all(|asked| asked.path == pod_path("orchard", 3)),
        "{writes:?}"
    );
    let status = &stage.server.get(&resource_path("orchard"))["status"]["breakers"];
    assert_eq!([&status[0]["wouldCut"], &status[1]["wouldCut"]], [&json!([]), &json!(["pear-1"])]);
}

#[tokio::test(start_paused = true)]
async fn one_pod_whose_writes_hang_stalls_no_other() {
    let stage = one_orchard(9, &json!({"minPodsAvailableRatio": 50}));
    stage.server.hang(&pod_path("orchard", 0));
    stage.bad(&["pear-0", "pear-1", "pear-2"]).pass(11).await;
    assert_eq!(stage.out(9), [1, 2]);
    stage.bad(&[]).pass(90).await;
    assert!(stage.out(9).is_empty(), "nor their return");
}

#[tokio::test(start_paused = true)]
async fn an_autoscaler_that_doubles_the_fleet_under_load_brings_neither_of_two_cut_pods_back() {
    let stage = one_orchard(6, &long_cuts());
    stage.bad(&["pear-0", "pear-1"]).pass(20).await;
    assert_eq!(stage.out(6), [0, 1]);
    for i in 6..12 {
        let mut born = pod("orchard", i);
        merge(&mut born, &readiness(false));
        stage.server.put(&pod_path("orchard", i), born);
    }
    stage.pass(120).await;
    assert_eq!(stage.out(12), [0, 1], "pods that are not up yet are no loss to make up for");
    (6..12).for_each(|i| stage.server.edit(&pod_path("orchard", i), &readiness(true)));
    stage.pass(120).await;
    assert_eq!(stage.out(12), [0, 1]);
    assert_eq!(stage.last_plan().report.budget.floor, 6);
}

#[tokio::test(start_paused = true)]
async fn a_rolling_update_of_a_statefulset_with_one_pod_cut_lets_every_new_pod_serve() {
    let server = Server::default();
    orchard(&server, "orchard", 5, &long_cuts());
    let owner = json!([{"kind": "StatefulSet", "name": "pear", "controller": true}]);
    let of_the_set = |i: usize, uid: String| {
        let mut pod = pod("orchard", i);
        merge(&mut pod, &json!({"metadata": {"uid": uid, "ownerReferences": owner}}));
        pod
    };
    (0..5).for_each(|i| server.put(&pod_path("orchard", i), of_the_set(i, format!("old-{i}"))));
    let stage = Stage::start(&server);
    stage.bad(&["pear-2"]).pass(20).await;
    assert_eq!(stage.out(5), [2]);
    stage.bad(&[]);
    for i in (0..5).rev() {
        server.delete(&pod_path("orchard", i));
        stage.pass(5).await;
        server.put(&pod_path("orchard", i), of_the_set(i, format!("new-{i}")));
        stage.pass(30).await;
    }
    assert!(stage.out(5).is_empty(), "the cut went with the pod that it was for");
    let writes = stage.server.pod_writes();
    assert!(writes.iter().all(|asked| asked.body["metadata"]["uid"] == "old-2"), "{writes:?}");
}

/// Twelve writes are more than the story has: from some number on nobody is killed.
#[tokio::test(start_paused = true)]
async fn a_controller_killed_between_any_two_writes_keeps_the_floor_and_leaves_nobody_dark() {
    for writes in 0..12 {
        let server = Server::default();
        orchard(&server, "orchard", 6, &json!({"minPodsAvailableRatio": 50}));
        let first = Stage::start(&server);
        first.dies_after(writes);
        first.bad(&["pear-0", "pear-1", "pear-2", "pear-3"]);
        assert!(first.most_out(6, 40).await <= 3);
        first.dies_after(0);
        drop(first);
        let second = Stage::start(&server);
        second.bad(&["pear-3"]);
        assert!(second.most_out(6, 60).await <= 3);
        second.bad(&[]).pass(120).await;
        assert!(second.out(6).is_empty(), "after {writes} writes: {:?}", second.out(6));
    }
}

#[tokio::test(start_paused = true)]
async fn five_hundred_services_of_which_two_pods_in_five_go_bad_at_once_lose_thirty() {
    let server = Server::default();
    let names: Vec<_> = (0..500).map(|i| format!("field-{i}")).collect();
    let mut rule = long_cuts();
    merge(&mut rule, &json!({"evaluationPeriod": 20}));
    names.iter().for_each(|name| orchard(&server, name, 5, &rule));
    let stage = Stage::start(&server);
    stage.bad(&["pear-0", "pear-1"]).pass(130).await;
    let out = |name: &String| (0..5).filter(|i| stage.label(name, *i) == "no").count();
    let lost: Vec<_> = names.iter().map(out).collect();
    assert_eq!((lost.iter().sum::<usize>(), lost.iter().max()), (30, Some(&2)));
    let held = |name: &&String| {
        let status = stage.server.get(&resource_path(name))["status"].to_string();
        status.contains("--max-cuts-per-minute")
    };
    assert!(names.iter().filter(held).count() > 400, "and the others say why not");
}

#[tokio::test(start_paused = true)]
async fn five_thousand_services_ask_once_a_period_write_nothing_and_have_few_calls_under_way() {
    let server = Server::default();
    let names: Vec<_> = (0..5_000).map(|i| format!("field-{i}")).collect();
    names.iter().for_each(|name| orchard(&server, name, 2, &json!({"evaluationPeriod": 20})));
    server.slow();
    let stage = Stage::start(&server);
    stage.pass(50).await;
    let (asked, calls) = (stage.asked("errors"), stage.server.calls());
    stage.pass(20).await;
    assert_eq!(stage.asked("errors") - asked, 5_000);
    assert!(stage.server.pod_writes().is_empty());
    let since = stage.server.calls() - calls;
    assert!(since <= 20, "{since} calls in 20 s in which nothing changes: the watches only");
    assert!(stage.server.most_at_once() <= 20, "{} calls at once", stage.server.most_at_once());
}
