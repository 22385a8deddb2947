//! Of several controllers one acts, whatever happens to it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use localcluster::ProcessSignal;
use serde_json::{Value, json};

use crate::harness::rights::{Account, documented_rules, documented_rules_without};
use crate::harness::trace::{PodWrite, Step};
use crate::harness::{
    BRIEF, Controller, FakeSource, SOON, Shop, Takeover, custom_breaker, eventually, throughout,
};

/// A write ends within this time, or counts as lost.
const WRITE: Duration = Duration::from_secs(5);
/// A takeover may come so much after the Lease has expired.
const LATE: SignedDuration = SignedDuration::from_secs(1);

fn long_cuts(source: &FakeSource) -> Value {
    let mut breaker = custom_breaker("named", source);
    breaker["activator"] = json!({"period": "4m"});
    json!({"limits": {"maxCutRatio": 60, "maxCutsPerPeriod": "60%"}, "breakers": [breaker]})
}

async fn open(prefix: &str) -> (Shop, FakeSource) {
    let shop = Shop::open(prefix, 0).await;
    shop.bare_pods(6).await;
    let source = FakeSource::start(&shop.namespace).await;
    (shop, source)
}

/// One that acts and one that waits, of the same flags.
async fn pair(shop: &Shop) -> (Controller, Controller) {
    let first = Controller::ready(&shop.controller().brief()).await;
    eventually("the first leads", SOON, || async { leads(&first).await }).await;
    (first, Controller::ready(&shop.controller().brief()).await)
}

/// One that acts, whose requests are told from those of another by its account.
async fn leader_of_its_own(shop: &Shop, brief: bool) -> (Account, Controller) {
    let account = shop.account().await;
    shop.allow(&account, &documented_rules()).await;
    let namespace = format!("--namespace={}", shop.namespace);
    let args = shop.controller_as(&account, &[&namespace]);
    let first = Controller::ready(&if brief { args.brief() } else { args }).await;
    eventually("the first leads", SOON, || async { leads(&first).await }).await;
    (account, first)
}

async fn leads(controller: &Controller) -> bool {
    controller.metric("kubervisor_leader", &[]).await > 0.5
}

/// Accepted writes to pods in this epoch of the Lease.
async fn in_epoch(shop: &Shop, epoch: u64) -> Vec<PodWrite> {
    let writes = shop.pod_writes().await;
    writes.into_iter().filter(|write| write.accepted() && write.epoch == Some(epoch)).collect()
}

fn is(step: Step) -> impl Fn(&&PodWrite) -> bool {
    move |write| write.step == step
}

fn span(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_controllers_one_acts_and_the_other_is_ready_and_waits() {
    let (shop, source) = open("two").await;
    let (first, second) = pair(&shop).await;
    source.name_bad(["pear-0"]);
    shop.govern(long_cuts(&source)).await;
    shop.cut_are(&["pear-0"]).await;
    source.name_bad(["pear-1"]);
    shop.cut_are(&["pear-0", "pear-1"]).await;
    assert!(leads(&first).await && !leads(&second).await);
    let log = second.log();
    assert!(log.contains("another controller holds the Lease: we wait"), "{log}");
    assert!(!log.contains("PodCut"), "{log}");
    let writes = shop.pod_writes().await;
    let term = shop.term().await;
    assert!(writes.iter().all(|write| write.epoch == Some(term)), "{writes:?}");
    assert_eq!(shop.mark_of("pear-0", "kubervisor.k8s.io/epoch").await.unwrap(), term.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_sigkill_the_other_returns_pods_when_the_lease_expires_and_cuts_only_after_the_wait() {
    let (shop, source) = open("takeover").await;
    let (account, first) = leader_of_its_own(&shop, true).await;
    let _second = Controller::ready(&shop.controller().brief()).await;
    source.name_bad(["pear-0"]);
    shop.govern(long_cuts(&source)).await;
    shop.cut_are(&["pear-0"]).await;
    let (holder, term) = (shop.holder().await, shop.term().await);
    first.kill();
    shop.due_in("pear-0", 1).await;
    source.name_bad(["pear-1"]);
    shop.other_holder(&holder).await;
    shop.cut_are(&["pear-1"]).await;
    let takeover = Takeover::of(&shop, &account.user, shop.controller_user()).await;
    let writes = in_epoch(&shop, term + 1).await;
    let back = writes.iter().find(is(Step::Restore)).unwrap().time;
    let cut = writes.iter().find(is(Step::Cut)).unwrap().time;
    println!(
        "killed; after its last sign: taken over {:.3?} (looks at most {:.3?} apart), a return {:.3?}, a cut {:.3?}",
        takeover.after(),
        takeover.longest_pause(),
        back.duration_since(takeover.last_sign),
        cut.duration_since(takeover.last_sign)
    );
    takes_over_in_time(&takeover);
    assert!(back < cut, "a return need not wait");
    let wait = cut.duration_since(takeover.last_sign);
    assert!(wait >= span(BRIEF + WRITE), "cut while its writes may still land");
    was_warm(&shop, takeover.taken, back, cut).await;
}

/// As late as its own looks are late, and no later: what a loaded machine adds is in them.
fn takes_over_in_time(takeover: &Takeover) {
    let (after, pause) = (takeover.after(), takeover.longest_pause());
    let lateness = (pause - span(BRIEF / 20)).max(SignedDuration::ZERO);
    assert!(after < span(BRIEF) + LATE + lateness * 2, "{after:?}, with looks {pause:?} apart");
    assert_eq!(takeover.in_vain(span(BRIEF)), 0, "looks at an expired Lease: {:?}", takeover.looks);
    assert!(after >= span(BRIEF), "taken while it may still have written");
}

/// Who waited has read everything before: of what it follows only the pods that are out are read again, before a cut.
async fn was_warm(shop: &Shop, taken: Timestamp, back: Timestamp, cut: Timestamp) {
    let followed = ["pods", "services", "kubervisorservices", "poddisruptionbudgets"];
    let calls = shop.calls_by(shop.controller_user()).await;
    let reads = |call: &&localcluster::AuditRecord| {
        let anew = call.verb == "list" || call.uri.contains("sendInitialEvents=true");
        anew && followed.contains(&call.resource.as_str()) && call.time > taken && call.time < cut
    };
    let reads: Vec<_> = calls.iter().filter(reads).collect();
    assert!(reads.iter().all(|read| read.uri.contains("labelSelector=") && read.time > back), "{reads:?}");
    assert_eq!(reads.len(), 1, "{reads:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_end_hands_over_at_once() {
    let (shop, source) = open("handover").await;
    let (account, mut first) = leader_of_its_own(&shop, false).await;
    let _second = Controller::ready(&shop.controller()).await;
    source.name_bad(["pear-0"]);
    shop.govern(long_cuts(&source)).await;
    shop.cut_are(&["pear-0"]).await;
    let holder = shop.holder().await;
    source.name_bad(["pear-1"]);
    shop.cut_are(&["pear-0", "pear-1"]).await;
    source.name_bad(["pear-2"]);
    first.signal(ProcessSignal::End);
    assert!(first.ended().await);
    shop.other_holder(&holder).await;
    shop.cut_are(&["pear-0", "pear-1", "pear-2"]).await;
    let takeover = Takeover::of(&shop, &account.user, shop.controller_user()).await;
    println!("given up; taken over after {:.3?} and {} looks", takeover.after(), takeover.looks.len());
    // The first may have met the write that gave it up.
    assert!(takeover.looks.len() <= 2, "it looked on: {:?}", takeover.looks);
    assert!(first.log().contains("the Lease is given up"), "{}", first.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_stopped_for_longer_than_its_lease_writes_nothing_when_it_wakes_in_mid_incident() {
    let (shop, source) = open("asleep").await;
    let (account, first) = leader_of_its_own(&shop, true).await;
    let second = Controller::ready(&shop.controller().brief()).await;
    source.name_bad(["pear-0"]);
    shop.govern(long_cuts(&source)).await;
    shop.cut_are(&["pear-0"]).await;
    let (holder, term) = (shop.holder().await, shop.term().await);
    // Decisions are under way when it is stopped: a cut and a return are due.
    shop.due_in("pear-0", 0).await;
    source.name_bad(["pear-1", "pear-2"]);
    first.signal(ProcessSignal::Freeze);
    let (_, taken) = shop.other_holder(&holder).await;
    let cut = || async { in_epoch(&shop, term + 1).await.iter().any(|write| write.step == Step::Cut) };
    eventually("the second cuts", SOON, cut).await;
    source.name_bad(["pear-1", "pear-2", "pear-3"]);
    first.signal(ProcessSignal::Thaw);
    let awake = || async { first.log().contains("another controller holds the Lease: we wait") };
    eventually("the first knows", SOON, awake).await;
    let until = source.answers() + 5;
    eventually("it goes on", SOON, || async { source.answers() >= until }).await;
    let late = shop.writes_by(&account.user, taken).await;
    let late: Vec<_> = late.iter().filter(|write| write.code < 300 && write.resource != "events").collect();
    println!("{} accepted writes of the one that slept", late.len());
    assert!(late.is_empty(), "{late:?}");
    assert!(leads(&second).await && !leads(&first).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_freeze_holds_cuts_with_its_reason_and_no_return() {
    let (shop, source) = open("freeze").await;
    let _controller = Controller::ready(&shop.controller().brief()).await;
    source.name_bad(["pear-0"]);
    shop.govern(long_cuts(&source)).await;
    shop.cut_are(&["pear-0"]).await;
    shop.freeze(Some("the harvest is on")).await;
    shop.state_is("Held").await;
    let (_, reason, told) = shop.condition("Held").await;
    assert_eq!(reason, "Held");
    assert!(told.contains("the harvest is on"), "{told}");
    shop.told("Held", "the harvest is on").await;
    source.name_bad(["pear-1", "pear-2"]);
    shop.due_in("pear-0", 0).await;
    shop.cut_are(&[]).await;
    let uncut = || async { shop.labelled("no").await.is_empty() };
    throughout("nobody is cut", Duration::from_secs(5), uncut).await;
    shop.freeze(None).await;
    shop.cut_are(&["pear-1", "pear-2"]).await;
    shop.told("Released", "nothing holds any more").await;
    shop.state_is("Running").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_the_lease_nothing_is_done_and_that_is_said() {
    let (shop, source) = open("no-lease").await;
    let account = shop.account().await;
    shop.allow(&account, &documented_rules_without("get", "leases")).await;
    let namespace = format!("--namespace={}", shop.namespace);
    let controller = Controller::ready(&shop.controller_as(&account, &[&namespace]).brief()).await;
    source.name_bad(["pear-0"]);
    shop.govern(long_cuts(&source)).await;
    let says = || async { controller.log().contains("it takes the rights to get, create and patch leases") };
    eventually("it says so", SOON, says).await;
    let uncut = || async { shop.labelled("no").await.is_empty() };
    throughout("nobody is cut", Duration::from_secs(4), uncut).await;
    shop.allow(&account, &documented_rules()).await;
    shop.cut_are(&["pear-0"]).await;
    shop.allow(&account, &documented_rules_without("patch", "leases")).await;
    eventually("it no longer leads", SOON, || async { !leads(&controller).await }).await;
    source.name_bad(["pear-1"]);
    let same = || async { shop.labelled("no").await == ["pear-0"] };
    throughout("nothing is done", Duration::from_secs(4), same).await;
    // It goes on asking for the Lease, and is refused.
    let mut acts = shop.writes_by(&account.user, Timestamp::now()).await;
    acts.retain(|write| write.resource != "leases" || write.code < 400);
    assert_eq!(acts, []);
    shop.allow(&account, &documented_rules()).await;
    shop.cut_are(&["pear-0", "pear-1"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn release_without_the_right_to_take_the_lease_says_so_and_frees_nobody() {
    let (shop, source) = open("unseized").await;
    let controller = Controller::ready(&shop.controller().brief()).await;
    source.name_bad(["pear-0"]);
    shop.govern(long_cuts(&source)).await;
    shop.cut_are(&["pear-0"]).await;
    let holder = shop.holder().await;
    let account = shop.account().await;
    shop.allow(&account, &documented_rules_without("patch", "leases")).await;
    let kubeconfig = shop.controller_as(&account, &[]).kubeconfig;
    let (succeeded, said) = shop.release_by(kubeconfig, &["--accept-dark"]).await;
    assert!(
        !succeeded && said.contains("cannot take the Lease") && said.contains("--leader-elect=false"),
        "{said}"
    );
    assert_eq!(
        shop.writes_by(&account.user, Timestamp::UNIX_EPOCH).await.iter().filter(|w| w.code < 400).count(),
        0
    );
    assert_eq!((shop.holder().await, shop.labelled("no").await), (holder, vec!["pear-0".to_owned()]));
    assert!(leads(&controller).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn release_takes_the_lease_from_a_running_controller_which_does_nothing_meanwhile() {
    let (shop, source) = open("seized").await;
    let controller = Controller::ready(&shop.controller().brief()).await;
    source.name_bad(["pear-0", "pear-1"]);
    shop.govern(long_cuts(&source)).await;
    shop.cut_are(&["pear-0", "pear-1"]).await;
    let (holder, term) = (shop.holder().await, shop.term().await);
    let (succeeded, said) = shop.release(&["--accept-dark"]).await;
    let ended = Timestamp::now();
    // Before anything is waited for: in the end the controller acts again.
    let (out, leads, holds) = (shop.labelled("no").await, leads(&controller).await, shop.holder().await);
    assert!(succeeded, "{said}");
    assert!(out.is_empty() && !leads && holds != holder, "{out:?} are out, it leads: {leads}, {holds} holds");
    let freed = shop.pod_writes_by("admin").await;
    let first = freed.iter().find(|write| write.epoch == Some(term + 1)).unwrap().time;
    let writes = shop.writes_by(shop.controller_user(), first).await;
    let writes: Vec<_> = writes.iter().filter(|w| w.code < 300 && w.time < ended).collect();
    assert!(writes.iter().all(|write| write.resource == "events"), "{writes:?}");
    shop.cut_are(&["pear-0", "pear-1"]).await;
    let waited = in_epoch(&shop, term + 2).await[0].time.duration_since(ended);
    assert!(waited > SignedDuration::from_secs(3), "it acts again {waited:?} after the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_release_keeps_lets_no_controller_act_for_so_long_neither_an_old_one_nor_a_new_one() {
    let (shop, source) = open("kept").await;
    let controller = Controller::ready(&shop.controller().brief()).await;
    source.name_bad(["pear-0"]);
    shop.govern(long_cuts(&source)).await;
    shop.cut_are(&["pear-0"]).await;
    let term = shop.term().await;
    let (succeeded, said) = shop.release(&["--accept-dark", "--keep-lease=20s"]).await;
    assert!(succeeded && said.contains("the Lease is kept"), "{said}");
    let kept = shop.lease().await;
    assert!(kept.holder_identity.unwrap().starts_with("release_"));
    let new = Controller::ready(&shop.controller().brief()).await;
    assert!(new.log().contains("until_silent_for=20s"), "{}", new.log());
    shop.cut_are(&["pear-0"]).await;
    let kept = kept.renew_time.unwrap().0;
    let after: Vec<_> =
        shop.pod_writes().await.into_iter().filter(|w| w.accepted() && w.time > kept).collect();
    assert!(after.iter().all(|write| write.epoch == Some(term + 2)), "{after:?}, and {}", controller.log());
    assert!(after[0].time.duration_since(kept) >= SignedDuration::from_secs(20), "{after:?}");
}
