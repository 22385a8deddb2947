//! The API server refuses, is silent, is late or is away: nothing is overspent, nothing stays out for ever.

use std::time::Instant;

use http::Method;
use localcluster::{Fault, FaultProxy, Rule, RuleId};
use serde_json::{Value, json};

use crate::harness::trace::{PodWrite, Step, most_out, of};
use crate::harness::{
    Controller, Fake, FakeSource, Observer, SOON, Shop, custom_breaker, discrete_breaker, eventually,
};

/// Evaluations, once a second, after which a second try would have been seen.
const SEVERAL: usize = 6;

/// Five bare pods of which one may be out at a time, and a controller behind a fault proxy.
struct Stage {
    shop: Shop,
    source: FakeSource,
    proxy: FaultProxy,
    observer: Observer,
    start: Instant,
    _controller: Controller,
}

impl Stage {
    async fn open(prefix: &str) -> Self {
        let shop = Shop::open(prefix, 0).await;
        shop.bare_pods(5).await;
        let (source, proxy) = (FakeSource::start(&shop.namespace).await, shop.proxy().await);
        let controller = Controller::ready(&shop.controller_at(Some(&proxy.url()))).await;
        shop.govern(json!({"breakers": [named(&source)]})).await;
        shop.state_is("Running").await;
        let observer = shop.observer();
        eventually("all are seen", SOON, || async { observer.serving().len() == 5 }).await;
        Self { shop, source, proxy, observer, start: Instant::now(), _controller: controller }
    }

    /// The next write to a pod is held; returns while it is. Cleared, the rule lets it go.
    async fn holds_a_cut_of(&self, pod: &str) -> RuleId {
        let held = self.proxy.inject(write(Fault::Hold).times(1));
        self.source.name_bad([pod]);
        eventually("a write is held", SOON, || async { self.proxy.hits(held) == 1 }).await;
        held
    }

    /// Status of the answers to every write to this pod, waited for until there is one.
    async fn codes(&self, pod: &str) -> Vec<u16> {
        eventually("the write is answered", SOON, || async { !self.writes_to(pod).await.is_empty() }).await;
        self.writes_to(pod).await.iter().map(|write| write.code).collect()
    }

    async fn writes_to(&self, pod: &str) -> Vec<PodWrite> {
        of(&self.shop.pod_writes().await, pod).into_iter().cloned().collect()
    }

    /// Every write to a pod so far: which pod, what for.
    async fn steps(&self) -> Vec<(String, Step)> {
        self.shop.pod_writes().await.into_iter().map(|write| (write.pod, write.step)).collect()
    }

    async fn evaluates(&self, times: usize) {
        let until = self.source.answers() + times;
        eventually("it evaluates", SOON, || async { self.source.answers() >= until }).await;
    }

    /// Nobody is bad any more: everybody comes back, and at no time was more than one out.
    async fn ends_well(&self) {
        self.source.name_bad([]);
        eventually("everybody serves", SOON, || async { self.observer.serving().len() == 5 }).await;
        let writes = self.shop.pod_writes().await;
        assert_eq!(most_out(&writes), 1, "{writes:?}");
        assert_eq!(self.observer.lowest_since(self.start), 4, "the fewest that served");
    }
}

fn named(source: &FakeSource) -> Value {
    custom_breaker("named", source)
}

/// For writes to pods.
fn write(fault: Fault) -> Rule {
    Rule::new(fault).method(Method::PATCH).path("/pods/")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_deleted_between_decision_and_write_is_dropped_and_the_next_tick_acts_right() {
    let stage = Stage::open("gone").await;
    let held = stage.holds_a_cut_of("pear-0").await;
    stage.shop.delete_pod("pear-0").await;
    stage.proxy.clear(held);
    assert_eq!(stage.codes("pear-0").await, [404]);
    stage.source.name_bad(["pear-0", "pear-1"]);
    stage.shop.cut_are(&["pear-1"]).await;
    stage.evaluates(SEVERAL).await;
    assert_eq!(stage.codes("pear-0").await, [404], "it was tried again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_changed_between_decision_and_write_is_decided_afresh() {
    let stage = Stage::open("changed").await;
    let held = stage.holds_a_cut_of("pear-0").await;
    stage.shop.mark("pear-0", json!({}), json!({"touched": "yes"})).await;
    stage.proxy.clear(held);
    stage.shop.cut_are(&["pear-0"]).await;
    assert_eq!(stage.codes("pear-0").await, [409, 200]);
    let writes = stage.writes_to("pear-0").await;
    assert_ne!(writes[0].version, writes[1].version, "the same decision was sent twice");
    stage.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_pod_of_an_old_name_does_not_inherit_the_cut() {
    let stage = Stage::open("reborn").await;
    let held = stage.holds_a_cut_of("pear-0").await;
    stage.source.name_bad([]);
    stage.shop.delete_pod("pear-0").await;
    stage.shop.bare_pod("pear-0", "pears").await;
    stage.proxy.clear(held);
    assert_eq!(stage.codes("pear-0").await, [409], "the write did not meet the new pod");
    stage.shop.serves(5).await;
    stage.evaluates(SEVERAL).await;
    assert_eq!(stage.codes("pear-0").await, [409], "it was tried again");
    stage.source.name_bad(["pear-0"]);
    stage.shop.cut_are(&["pear-0"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_whose_answer_is_lost_is_spent_once_and_ends_at_its_time() {
    let stage = Stage::open("lost").await;
    let lost = stage.proxy.inject(write(Fault::LoseAnswer).times(1));
    stage.source.name_bad(["pear-0"]);
    stage.shop.cut_are(&["pear-0"]).await;
    stage.source.name_bad(["pear-0", "pear-1"]);
    stage.evaluates(SEVERAL).await;
    assert_eq!(stage.proxy.hits(lost), 1);
    assert_eq!(stage.steps().await, [("pear-0".to_owned(), Step::Cut)]);
    stage.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_that_hangs_is_fenced_off_before_anybody_else_is_cut() {
    is_fenced("hangs", Fault::Hang, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_whose_connection_breaks_is_fenced_off_before_anybody_else_is_cut() {
    is_fenced("breaks", Fault::Drop, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_answered_with_500_is_fenced_off_before_anybody_else_is_cut_however_often_that_fails() {
    is_fenced("broken", Fault::Status(500), 3).await;
}

/// The write was not carried out, but might be yet: a write on the same version settles it first.
async fn is_fenced(prefix: &str, fault: Fault, times: u64) {
    let stage = Stage::open(prefix).await;
    let silent = stage.proxy.inject(write(fault).times(times));
    stage.source.name_bad(["pear-0"]);
    eventually("the cut is sent", SOON, || async { stage.proxy.hits(silent) > 0 }).await;
    stage.source.name_bad(["pear-0", "pear-1"]);
    eventually("one is cut", SOON, || async { stage.shop.labelled("no").await.len() == 1 }).await;
    assert_eq!(stage.proxy.hits(silent), times);
    let steps = stage.steps().await;
    assert_eq!(steps[0], ("pear-0".to_owned(), Step::Restore));
    assert_eq!(steps[1..].iter().map(|(_, step)| *step).collect::<Vec<_>>(), [Step::Cut]);
    stage.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_refused_with_429_are_backed_off_and_come_through_at_last() {
    is_backed_off("throttled", 429).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_refused_with_422_are_backed_off_and_come_through_at_last() {
    is_backed_off("invalid", 422).await;
}

async fn is_backed_off(prefix: &str, code: u16) {
    let stage = Stage::open(prefix).await;
    let refused = stage.proxy.inject(write(Fault::Status(code)));
    stage.source.name_bad(["pear-0"]);
    eventually("a write is refused", SOON, || async { stage.proxy.hits(refused) > 0 }).await;
    stage.evaluates(9).await;
    let tries = stage.proxy.hits(refused);
    // After 1, 2 and 4 s: one for each of nine evaluations would be no pause at all.
    assert!((2..=5).contains(&tries), "{tries} tries in nine evaluations");
    stage.proxy.clear(refused);
    stage.shop.cut_are(&["pear-0"]).await;
    stage.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_refused_with_422_is_not_sent_again_for_a_pod_that_is_well_by_then() {
    let stage = Stage::open("mended").await;
    let refused = stage.proxy.inject(write(Fault::Status(422)).times(1));
    stage.source.name_bad(["pear-0"]);
    eventually("a write is refused", SOON, || async { stage.proxy.hits(refused) > 0 }).await;
    // Within the second before the next question.
    stage.source.name_bad([]);
    stage.evaluates(SEVERAL).await;
    assert_eq!(stage.steps().await, [], "the same decision was sent again");
    stage.source.name_bad(["pear-0"]);
    stage.shop.cut_are(&["pear-0"]).await;
    stage.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_whose_answer_is_lost_is_read_again_before_it_is_believed() {
    let shop = Shop::open("untold", 0).await;
    let pods = shop.bare_pods(3).await;
    let (source, proxy) = (FakeSource::start(&shop.namespace).await, shop.proxy().await);
    let _controller = Controller::ready(&shop.controller_at(Some(&proxy.url()))).await;
    source.errors_of(pods.iter().map(String::as_str), &[]);
    shop.govern(json!({"breakers": [discrete_breaker("errors", &source)]})).await;
    shop.becomes("Ready", "True").await;
    let lost = Rule::new(Fault::LoseAnswer).method(Method::PATCH).path("/status").times(1);
    let lost = proxy.inject(lost);
    source.answer(Fake::Status(500));
    eventually("the bad news is sent", SOON, || async { proxy.hits(lost) == 1 }).await;
    source.errors_of(pods.iter().map(String::as_str), &[]);
    shop.becomes("Failed", "True").await;
    shop.becomes("Failed", "False").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_stream_lists_is_asked_for_pages() {
    let shop = Shop::open("pages", 0).await;
    shop.bare_pods(5).await;
    for code in [400, 422] {
        let (source, proxy) = (FakeSource::start(&shop.namespace).await, shop.proxy().await);
        let refused = proxy.inject(Rule::new(Fault::Status(code)).query("sendInitialEvents"));
        let _controller = Controller::ready(&shop.controller_at(Some(&proxy.url()))).await;
        assert_eq!(proxy.hits(refused), 4, "one for each kind");
        shop.govern(json!({"breakers": [named(&source)]})).await;
        source.name_bad(["pear-0"]);
        shop.cut_are(&["pear-0"]).await;
        source.name_bad([]);
        shop.cut_are(&[]).await;
        shop.delete_resource().await;
    }
}
