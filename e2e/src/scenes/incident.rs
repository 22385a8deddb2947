//! Installed on a service that is in use; one pod answers badly, is cut, recovers and returns.

use std::time::Duration;

use demo::words::{after, seconds};

use crate::evidence::{Step, moved, that};
use crate::names::{NAMESPACE, PODS, RELEASE, SERVICE, TRAFFIC};
use crate::play::{Play, ROLLED, SOON};
use crate::record::{Client, Names, Record};

/// One of three, as the story goes.
pub const A_THIRD: u32 = 33;
const POLICY: &str = include_str!("../../manifests/policy.yaml");
/// So long without a bad answer and the incident is over for a client.
const QUIET: Duration = Duration::from_secs(3);

/// The pod of the story.
pub struct Patient {
    /// Its name.
    pub pod: String,
    /// When it was cut.
    pub cut: Duration,
}

/// The chart comes to a service that is in use: labels, then the key, and nobody notices.
///
/// # Errors
/// When helm or kubectl fails.
pub async fn ten_pods_are_green(play: &mut Play) -> anyhow::Result<()> {
    let from = play.scene("the chart is installed while ten pods serve");
    play.stage.watch_the_controller();
    let [chart, url] =
        [play.stage.chart.display().to_string(), format!("prometheus.url={}", play.stage.prometheus)];
    let mut args = vec!["install", RELEASE, &chart, "--namespace", RELEASE, "--create-namespace", "--wait"];
    args.extend([
        "--timeout=4m",
        "--set=image.repository=localhost/kubervisor,image.tag=e2e,image.pullPolicy=Never",
    ]);
    args.extend(["--set", &url]);
    play.stage.hands.helm(&args).await?;
    let installed = play.now();
    play.stage.hands.apply(POLICY).await?;
    let kvs = format!("kvs/{SERVICE}");
    let acts = play.stage.hands.becomes(NAMESPACE, &kvs, "jsonpath={.status.state}=Running", SOON).await?;
    let running = play.now();
    let labelled = play.stage.hands.pods(NAMESPACE, "kubervisor/traffic=yes").await?.len();
    let selector = play.stage.hands.selector(NAMESPACE, SERVICE).await?;
    play.promise(
        acts && labelled == PODS && selector.get(TRAFFIC).is_some_and(|value| value == "yes"),
        format!(
            "installed by helm in {}; {} later {labelled} of {PODS} pods are labelled and the Service selects by \
             {selector:?}",
            seconds(installed - from),
            seconds(running - installed)
        ),
    );
    let (new, kept) = play.watch_clients(running).await?;
    let ours = play.shared().record().answerers(Client::New, running, Duration::MAX).len();
    let (meanwhile, on_it, lowest) = {
        let record = play.shared().record();
        let [meanwhile, on_it] = [Client::New, Client::Kept].map(|by| record.count(by, from, running));
        (meanwhile, on_it, record.lowest(from))
    };
    play.promise(
        meanwhile.is_clean() && on_it.is_clean() && lowest == PODS,
        format!(
            "meanwhile: new connections {meanwhile}; the kept one {on_it}; at the lowest {lowest} served"
        ),
    );
    play.promise(
        new.is_clean() && kept.is_clean() && ours == PODS,
        format!("all green: new connections {new}, answered by {ours} pods; the kept one {kept}"),
    );
    Ok(())
}

/// The pod that the kept connection is on answers 500 to a third of its requests. Its probes stay green.
///
/// # Errors
/// When the pod does not take the order, or nobody answers at all.
pub async fn one_answers_badly(play: &mut Play) -> anyhow::Result<Patient> {
    let from = play.scene("one of ten answers 500 to a third of its requests, its probes stay green");
    let pod = play.shared().record().kept_on().unwrap_or_default().to_owned();
    play.order(&pod, A_THIRD).await?;
    play.say("ill", &format!("{pod}, which the kept connection is on"));
    let first = play.see(SOON, |record| record.first_bad(&pod, from)).await;
    let cut = play.see(SOON, |record| record.left(&pod, from)).await;
    let ready = play.stage.hands.becomes(NAMESPACE, &format!("pod/{pod}"), "condition=Ready", SOON).await?;
    let waited = cut.zip(first).map(|(cut, first)| cut.saturating_sub(first));
    play.promise(
        waited.is_some() && ready,
        format!("out of traffic {} (since its first bad answer), still Ready by its probes", after(waited)),
    );
    let cut = cut.unwrap_or_else(|| play.now());
    new_connections_are_clean(play, &pod, from, cut).await?;
    the_kept_one_stays(play, &pod, cut).await?;
    let table = play.shared().record().seconds(from, cut + Duration::from_secs(5));
    play.shared().show(&table);
    Ok(Patient { pod, cut })
}

async fn new_connections_are_clean(
    play: &mut Play,
    pod: &str,
    from: Duration,
    cut: Duration,
) -> anyhow::Result<()> {
    // Not at once: kube-proxy learns of it by a watch of its own.
    let clean = play.see(SOON, |record| record.clean_since(Client::New, Some(pod), cut, QUIET)).await;
    let since = clean.unwrap_or_else(|| play.now());
    let (new, _) = play.watch_clients(since).await?;
    let (before, by_it) = {
        let record = play.shared().record();
        let by = record.answerers(Client::New, since, Duration::MAX);
        (record.count(Client::New, from, cut), by.get(pod).copied().unwrap_or(0))
    };
    play.promise(
        before.bad > 0,
        format!("up to the cut: new connections {before} (some, or the fault was none)"),
    );
    play.promise(
        clean.is_some() && new.is_clean() && by_it == 0,
        format!(
            "from {} after the cut on: new connections {new}, {by_it} by that pod",
            seconds(since.saturating_sub(cut))
        ),
    );
    Ok(())
}

/// A cut stops new connections. One that is open stays where it is, until one of the two sides closes it.
async fn the_kept_one_stays(play: &mut Play, pod: &str, cut: Duration) -> anyhow::Result<()> {
    let until = play.settled().await?;
    let (kept, on, opened) = {
        let record = play.shared().record();
        let on: Names = record.answerers(Client::Kept, cut, until).into_keys().map(str::to_owned).collect();
        (record.count(Client::Kept, cut, until), on, record.times_opened(cut, until))
    };
    let stayed = on == [pod.to_owned()].into() && opened == 0;
    play.promise(
        stayed && kept.bad > 0,
        format!(
            "the connection that was open stays on that pod, apart from the others: {kept} since the cut"
        ),
    );
    play.shared().hang_up();
    let elsewhere = |record: &Record| record.kept_on().is_some_and(|on| on != pod).then_some(());
    let elsewhere = play.see(SOON, elsewhere).await.is_some();
    let again = play.now();
    let (_, kept) = play.watch_clients(again).await?;
    play.promise(elsewhere && kept.is_clean(), format!("closed and opened again, on another pod: {kept}"));
    Ok(())
}

/// It is well again before it comes back.
///
/// # Errors
/// When the pod does not take the order, or the audit log cannot be read.
pub async fn it_recovers(play: &mut Play, patient: &Patient) -> anyhow::Result<()> {
    let from = play.scene("it is well again");
    let Patient { pod, cut } = patient;
    play.order(pod, 0).await?;
    let was_out = !play.shared().record().serves().contains(pod);
    let back = play.see(ROLLED, |record| record.came(pod, from)).await;
    let answers = |record: &Record| {
        let by = record.answerers(Client::New, from, Duration::MAX);
        (by.get(pod.as_str()).copied().unwrap_or(0) > 0).then_some(())
    };
    let answers = play.see(SOON, answers).await.is_some();
    let since = back.unwrap_or_else(|| play.now());
    let (new, _) = play.watch_clients(since).await?;
    play.promise(
        was_out && back.is_some() && answers && new.is_clean(),
        format!(
            "it serves again {} (since its cut), and clients meet it: new connections {new}",
            after(back.map(|back| back.saturating_sub(*cut)))
        ),
    );
    let writes = play.controllers_writes(Duration::ZERO).await?;
    let [cuts, returns] = [Step::Cut, Step::Restore].map(|step| that(step, &writes).count());
    play.promise(
        moved(&writes) == [pod.clone()].into() && cuts == 1 && returns == 1,
        format!(
            "by the audit log: {cuts} cut (1), {returns} return (1), of that pod alone ({})",
            moved(&writes).len()
        ),
    );
    Ok(())
}
