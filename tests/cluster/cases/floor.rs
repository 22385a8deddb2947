//! The floor holds, and it is reached: over the whole fleet, all breakers, all writes in flight.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use localcluster::{Fault, Rule};
use serde_json::{Value, json};

use crate::harness::trace::{PodWrite, Step, accepted, most_out};
use crate::harness::{Controller, FakeSource, Observer, SOON, Shop, custom_breaker, eventually};

/// A change of the fleet makes a tick due within a second; the rest is the way there and back.
const FIRST_TICK: SignedDuration = SignedDuration::from_secs(3);

/// Nothing but the floor limits the cuts.
fn floor_only(breakers: &[Value]) -> Value {
    json!({"limits": {"maxCutRatio": 100, "maxCutsPerPeriod": "100%"}, "breakers": breakers})
}

fn half_must_serve(name: &str, source: &FakeSource, period: f64) -> Value {
    let mut breaker = custom_breaker(name, source);
    breaker["evaluationPeriod"] = json!(period);
    breaker["minPodsAvailableRatio"] = json!(50);
    breaker
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_of_ten_condemned_by_two_breakers_behind_a_late_watch_reach_the_floor_of_five_and_never_pass_it()
{
    ten_of_ten_behind_a_watch_late_by("floor", Duration::from_secs(2), 20).await;
}

/// So late that the server is asked for what the watch does not show: its answers are newer than the events that come
/// after them.
#[tokio::test(flavor = "multi_thread")]
async fn ten_of_ten_behind_a_watch_later_than_anybody_waits_for_reach_the_floor_of_five_and_never_pass_it() {
    ten_of_ten_behind_a_watch_late_by("later", Duration::from_secs(15), 26).await;
}

async fn ten_of_ten_behind_a_watch_late_by(prefix: &str, delay: Duration, evaluations: usize) {
    let shop = Shop::open(prefix, 10).await;
    let (fast, slow) = (FakeSource::start(&shop.namespace).await, FakeSource::start(&shop.namespace).await);
    let proxy = shop.proxy().await;
    let late = proxy.inject(Rule::new(Fault::DelayWatch(delay)).path("/pods"));
    let _controller = Controller::ready(&shop.controller_at(Some(&proxy.url()))).await;
    let names = shop.names().await;
    fast.name_bad(names.iter().map(String::as_str));
    slow.name_bad(names.iter().map(String::as_str));
    let observer = shop.observer();
    eventually("all are seen", SOON, || async { observer.serving().len() == 10 }).await;
    let (start, late_before) = (Instant::now(), proxy.hits(late));
    let breakers = [half_must_serve("fast", &fast, 1.0), half_must_serve("slow", &slow, 1.5)];
    shop.govern(floor_only(&breakers)).await;
    let judged = || async { fast.answers() >= evaluations && slow.answers() >= evaluations };
    eventually("both breakers have condemned everybody so often", SOON * 3, judged).await;
    assert_eq!(observer.lowest_since(start), 5, "the fewest that served");
    let writes = shop.pod_writes().await;
    assert_eq!(most_out(&writes), 5, "{writes:?}");
    assert!(writes.iter().all(PodWrite::accepted), "decided on what was no longer so: {writes:?}");
    let cuts = accepted(&writes, Step::Cut);
    println!(
        "{cuts} cuts, {} restores, {} changes seen",
        accepted(&writes, Step::Restore),
        observer.changes_since(start)
    );
    assert!(cuts > 5, "no pod came back meanwhile, so no second cut was tried");
    assert!(proxy.hits(late) > late_before, "the watch was not late");
    shop.told("FloorReached", "5 serve (floor 5)").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_floor_of_67_percent_of_three_pods_cuts_nobody_and_says_so() {
    let shop = Shop::open("three", 3).await;
    let source = FakeSource::start(&shop.namespace).await;
    let controller = Controller::ready(&shop.controller()).await;
    let names = shop.names().await;
    source.name_bad(names.iter().map(String::as_str));
    let mut breaker = custom_breaker("named", &source);
    breaker["minPodsAvailableRatio"] = json!(67);
    shop.govern(floor_only(&[breaker])).await;
    eventually("ten answers are in", SOON, || async { source.answers() >= 10 }).await;
    assert_eq!(shop.pod_writes().await, []);
    shop.becomes("FloorReached", "True").await;
    let told = shop.condition("FloorReached").await.2;
    assert!(told.contains("of 3: 3 serve (floor 3)"), "{told}");
    assert!(
        controller.metric("kubervisor_refusals_total", &[&shop.namespace, "reason=\"floor\""]).await >= 3.0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_pod_is_never_cut_and_the_refusal_is_counted() {
    let shop = Shop::open("one", 1).await;
    let source = FakeSource::start(&shop.namespace).await;
    let controller = Controller::ready(&shop.controller()).await;
    let names = shop.names().await;
    source.name_bad(names.iter().map(String::as_str));
    let mut breaker = custom_breaker("named", &source);
    breaker["minPodsAvailableCount"] = json!(0);
    shop.govern(floor_only(&[breaker])).await;
    eventually("ten answers are in", SOON, || async { source.answers() >= 10 }).await;
    assert_eq!(shop.pod_writes().await, []);
    let refused = ["reason=\"FleetTooSmall\"", &shop.namespace];
    eventually("it is refused", SOON, || async {
        controller.metric("kubervisor_refusals_total", &refused).await >= 1.0
    })
    .await;
}

/// Five bare pods of which three must serve, and two are cut for long: there is nothing to spare.
struct Spent {
    shop: Shop,
    observer: Observer,
    _source: FakeSource,
    _controller: Controller,
}

impl Spent {
    async fn open(prefix: &str) -> Self {
        let shop = Shop::open(prefix, 0).await;
        shop.bare_pods(5).await;
        let source = FakeSource::start(&shop.namespace).await;
        let controller = Controller::ready(&shop.controller()).await;
        source.name_bad(["pear-0", "pear-1"]);
        let mut breaker = custom_breaker("named", &source);
        // No answer makes the tick due that is waited for.
        breaker["evaluationPeriod"] = json!(7);
        breaker["minPodsAvailableRatio"] = json!(60);
        breaker["activator"] = json!({"period": 300});
        shop.govern(floor_only(&[breaker])).await;
        shop.cut_are(&["pear-0", "pear-1"]).await;
        let observer = shop.observer();
        eventually("three serve", SOON, || async { observer.serving().len() == 3 }).await;
        Self { shop, observer, _source: source, _controller: controller }
    }

    /// After a serving pod was lost at that time: exactly one of the two is back at once, long before its time.
    async fn is_repaired(&self, lost: Timestamp) {
        let back =
            || async { self.observer.serving().len() == 3 && !self.observer.serving().contains("pear-4") };
        eventually("three serve again", SOON, back).await;
        let writes = self.shop.pod_writes().await;
        let restores: Vec<_> = writes.iter().filter(|w| w.step == Step::Restore).collect();
        assert_eq!(restores.len(), 1, "{writes:?}");
        let took = restores[0].time.duration_since(lost);
        assert!(took < FIRST_TICK, "repaired only after {took:?}");
        self.shop.told("PodRestored", "others were lost and it is needed for the floor").await;
        assert_eq!(self.shop.labelled("no").await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_made_unready_by_others_is_made_up_for_in_the_first_tick_after() {
    let spent = Spent::open("unready").await;
    let lost = Timestamp::now();
    spent.shop.unready("pear-4").await;
    spent.is_repaired(lost).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_deleted_by_others_is_made_up_for_in_the_first_tick_after() {
    let spent = Spent::open("deleted").await;
    let lost = Timestamp::now();
    spent.shop.delete_pod("pear-4").await;
    spent.is_repaired(lost).await;
}
