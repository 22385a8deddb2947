//! In an incident that lasts: the leader is killed, and then nobody is there for a while.

use std::time::Duration;

use anyhow::Context;
use demo::words::after;
use localcluster::until;

use super::incident::A_THIRD;
use crate::evidence::{Step, that};
use crate::hands::kill;
use crate::names::{NAMESPACE, RELEASE, SERVICE};
use crate::play::{Play, ROLLED, SOON};
use crate::record::{Client, Names, Record};

/// The controller's pods.
pub const CONTROLLERS: &str = "app.kubernetes.io/name=kubervisor";
/// From here on a cut lasts for longer than the rest of the play: what returns was returned by somebody.
const LASTS: &str = r#"[{"op":"replace","path":"/spec/breakers/0/activator/period","value":900}]"#;

/// A pod is cut; a second one falls ill, and at that moment the leader dies. The other one cuts it.
///
/// # Errors
/// When kubectl fails, or nobody leads.
pub async fn the_leader_is_killed(play: &mut Play) -> anyhow::Result<[String; 2]> {
    let from = play.scene("a pod is cut; another falls ill, and the leader is killed at that moment");
    play.stage.hands.kubectl(&["-n", NAMESPACE, "patch", "kvs", SERVICE, "--type=json", "-p", LASTS]).await?;
    let [first, second] = two_others(&play.shared().record()).context("fewer than three pods serve")?;
    play.order(&first, A_THIRD).await?;
    let cut = play.see(SOON, |record| record.left(&first, from)).await;
    play.promise(cut.is_some(), format!("{first} is out of traffic {}", after(cut.map(|cut| cut - from))));

    let leader = play.shared().record().holds().context("nobody holds the Lease")?.to_owned();
    let pod = leader.rsplit_once('_').map_or(leader.as_str(), |(pod, _)| pod).to_owned();
    let standby: Names =
        play.stage.hands.pods(RELEASE, CONTROLLERS).await?.into_iter().filter(|it| *it != pod).collect();
    play.order(&second, A_THIRD).await?;
    let killed = play.now();
    anyhow::ensure!(kill(&pod)? > 0, "no process of {pod} was found to be killed");
    play.say("killed", &format!("{pod}, and {second} is ill"));
    play.stage
        .hands
        .kubectl(&["-n", RELEASE, "delete", "pod", &pod, "--grace-period=0", "--force", "--wait=false"])
        .await?;

    let taken = play
        .see(SOON, |record| record.taken_from(&leader, killed).map(|(at, who)| (at, who.to_owned())))
        .await;
    let cut = play.see(SOON, |record| record.left(&second, killed)).await;
    let by_standby =
        taken.as_ref().is_some_and(|(_, who)| standby.iter().any(|pod| who.starts_with(pod.as_str())));
    let since = |at: Duration| at.saturating_sub(killed);
    play.promise(
        by_standby,
        format!(
            "the other one takes over {} (since the kill; the Lease lasts 15 s)",
            after(taken.map(|(at, _)| since(at)))
        ),
    );
    play.promise(cut.is_some(), format!("and cuts {second} {} (since the kill)", after(cut.map(since))));
    stays_out(play, &[&first], killed, "while nobody led and after").await;
    let writes = play.controllers_writes(from).await?;
    let terms: Vec<_> = that(Step::Cut, &writes).map(|write| (write.pod.clone(), write.epoch)).collect();
    let grows =
        matches!(&terms[..], [(a, Some(old)), (b, Some(new))] if *a == first && *b == second && new > old);
    let epochs: Vec<_> =
        terms.iter().filter_map(|(_, epoch)| *epoch).map(|epoch| epoch.to_string()).collect();
    play.promise(
        grows,
        format!("by the audit log: one cut each, in terms {} of the Lease", epochs.join(" and ")),
    );
    Ok([first, second])
}

/// Two that serve, and that the kept connection is not on: what it gets is told apart.
fn two_others(record: &Record) -> Option<[String; 2]> {
    let kept = record.kept_on();
    let mut others = record.serves().into_iter().filter(|pod| Some(pod.as_str()) != kept);
    Some([others.next()?, others.next()?])
}

/// Promises that these were never in the EndpointSlices since then.
pub async fn stays_out(play: &mut Play, pods: &[&str], from: Duration, when: &str) {
    let back = play.see(Duration::ZERO, |record| {
        let back: Vec<_> = pods.iter().filter(|pod| record.came(pod, from).is_some()).collect();
        Some(back.len())
    });
    let back = back.await.unwrap_or_default();
    play.promise(back == 0, format!("{when}: {back} of the {} pods that are out came back", pods.len()));
}

/// No controller at all: the cut pods stay out, and a pod that is born serves.
///
/// # Errors
/// When kubectl fails, or the controllers do not go.
pub async fn nobody_is_there(play: &mut Play, out: &[String; 2]) -> anyhow::Result<()> {
    let from = play.scene("the controllers are scaled to zero; a pod is born");
    scale(play, 0).await?;
    let gone = play.now();
    let before = play.shared().record().serves();
    let kept = play.shared().record().kept_on().unwrap_or_default().to_owned();
    let victim = before.iter().find(|pod| **pod != kept).context("nobody serves")?.clone();
    play.stage.hands.kubectl(&["-n", NAMESPACE, "delete", "pod", &victim, "--wait=false"]).await?;
    let born = play
        .see(ROLLED, |record| record.serves().difference(&before).next().cloned())
        .await
        .unwrap_or_default();
    let serves = play.now();
    let answers = |record: &Record| {
        record.answerers(Client::New, gone, Duration::MAX).contains_key(born.as_str()).then_some(())
    };
    let answers = play.see(SOON, answers).await.is_some();
    let labelled = play.stage.hands.pods(NAMESPACE, "kubervisor/traffic=yes").await?.contains(&born);
    let (new, kept) = play.watch_clients(serves).await?;
    let writes = play.controllers_writes(gone).await?.len();
    play.promise(
        answers && labelled && writes == 0,
        format!(
            "{born} serves {} (since the deletion of the one before it) and is labelled, with {writes} writes by the \
             controller's account",
            after((!born.is_empty()).then(|| serves - gone))
        ),
    );
    play.promise(
        new.is_clean() && kept.is_clean(),
        format!("then: new connections {new}; the kept one {kept}"),
    );
    scale(play, 2).await?;
    let back = play.stage.hands.pods(RELEASE, CONTROLLERS).await?;
    let leads = play.see(SOON, |record| led_by(record, &back)).await.is_some();
    let (new, kept) = play.watch_clients(play.now()).await?;
    play.promise(
        leads && new.is_clean() && kept.is_clean(),
        format!("{} controllers are back, one leads: new connections {new}; the kept one {kept}", back.len()),
    );
    let [first, second] = out;
    stays_out(play, &[first, second], from, "without a controller and with new ones").await;
    Ok(())
}

/// Whether one of these pods holds the Lease.
pub fn led_by(record: &Record, pods: &Names) -> Option<()> {
    let holder = record.holds()?;
    pods.iter().any(|pod| holder.starts_with(pod.as_str())).then_some(())
}

/// As many controllers, ready; or none left.
async fn scale(play: &Play, to: usize) -> anyhow::Result<()> {
    let hands = &play.stage.hands;
    hands.kubectl(&["-n", RELEASE, "scale", "deployment", RELEASE, &format!("--replicas={to}")]).await?;
    until("the right number of controllers", ROLLED, || async {
        let pods = hands.pods(RELEASE, CONTROLLERS).await?.len();
        Ok(if pods == to { Ok(()) } else { Err(format!("there are {pods} instead of {to}")) })
    })
    .await?;
    let deployment = format!("deployment/{RELEASE}");
    if to > 0 {
        let ready = hands
            .becomes(RELEASE, &deployment, &format!("jsonpath={{.status.readyReplicas}}={to}"), ROLLED)
            .await?;
        anyhow::ensure!(ready, "not all of {to} controllers are ready after {ROLLED:?}");
    }
    let serve = play.shared().record().serves().len();
    play.say("scaled", &format!("{to} controllers; {serve} pods of the shop serve"));
    Ok(())
}
