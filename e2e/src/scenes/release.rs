//! The chart is upgraded, rolled back and uninstalled while two pods are cut; then the shop itself is rolled out.

use std::time::Duration;

use demo::words::{after, seconds};

use super::absence::{CONTROLLERS, led_by, stays_out};
use crate::names::{NAMESPACE, PODS, RELEASE, SERVICE, TRAFFIC};
use crate::play::{Play, ROLLED, SOON};
use crate::record::{Client, Names, Record};

/// All that a chart of ours may make, and what helm keeps of it. Looked for by name: the controllers' own objects have no
/// label of the chart.
const KINDS: &str = "deployments,services,serviceaccounts,configmaps,secrets,jobs,pods,roles,rolebindings,clusterroles,\
    clusterrolebindings,poddisruptionbudgets,networkpolicies,leases,\
    validatingadmissionpolicies,validatingadmissionpolicybindings,\
    mutatingadmissionpolicies,mutatingadmissionpolicybindings";

/// Stays, so that a new installation waits for the end of the last term.
const LEASE: &str = "lease.coordination.k8s.io/kubervisor";

/// A value changes, and changes back: other controllers, the same pods out.
///
/// # Errors
/// When helm fails.
pub async fn upgraded_and_rolled_back(play: &mut Play, out: &[String; 2]) -> anyhow::Result<()> {
    let from = play.scene("the chart is upgraded, and rolled back");
    let mut controllers = play.stage.hands.pods(RELEASE, CONTROLLERS).await?;
    let chart = play.stage.chart.display().to_string();
    let waits = ["--namespace", RELEASE, "--wait", "--timeout=4m"];
    let upgrade = ["upgrade", RELEASE, &chart, "--reuse-values", "--set=log.filter=kubervisor=debug"];
    let back = ["rollback", RELEASE, "1"];
    for (what, command) in [("upgraded", &upgrade[..]), ("rolled back", &back[..])] {
        let began = play.now();
        play.stage.hands.helm(&[command, &waits[..]].concat()).await?;
        let now = play.stage.hands.pods(RELEASE, CONTROLLERS).await?;
        let new: Names = now.difference(&controllers).cloned().collect();
        let led = play.see(SOON, |record| led_by(record, &new)).await.is_some();
        play.promise(
            new.len() == 2 && led,
            format!(
                "{what} in {}: {} new controllers, one of them leads",
                seconds(play.now() - began),
                new.len()
            ),
        );
        controllers = now;
    }
    let (new, kept) = play.watch_clients(from).await?;
    let mut writes = play.controllers_writes(from).await?;
    writes.extend(play.writes(localcluster::ADMIN, from).await?);
    play.promise(
        writes.is_empty(),
        format!(
            "by the audit log: {} writes to the shop's pods meanwhile, by helm or by the controllers",
            writes.len()
        ),
    );
    let [first, second] = out;
    stays_out(play, &[first, second], from, "through both").await;
    play.promise(
        new.is_clean() && kept.is_clean(),
        format!("through both: new connections {new}; the kept one {kept}"),
    );
    Ok(())
}

/// `helm uninstall` in the incident: all pods serve, and nothing of the chart is left but the kind.
///
/// # Errors
/// When kubectl fails.
pub async fn uninstalled(play: &mut Play, out: &[String; 2]) -> anyhow::Result<()> {
    let from = play.scene("the chart is uninstalled while two pods are cut");
    let uninstalled = play
        .stage
        .hands
        .helm(&["uninstall", RELEASE, "--namespace", RELEASE, "--wait", "--timeout=5m"])
        .await;
    let done = play.now();
    if let Err(error) = &uninstalled {
        play.say("helm", &format!("{error:#}"));
    }
    let all = |record: &Record| out.iter().map(|pod| record.came(pod, from)).collect::<Option<Vec<_>>>();
    let back = play.see(SOON, all).await.and_then(|back| back.into_iter().max());
    let since = play.now();
    play.watch_clients(since).await?;
    let (serving, again) = {
        let record = play.shared().record();
        (record.serves().len(), out.iter().filter(|pod| record.left(pod, since).is_some()).count())
    };
    play.promise(
        uninstalled.is_ok() && back.is_some() && serving == PODS && again == 0,
        format!(
            "uninstalled in {}; the two that are ill serve too {} (since the command), {serving} of {PODS} do, and {again} \
             were cut again",
            seconds(done - from),
            after(back.map(|back| back - from))
        ),
    );
    let hands = &play.stage.hands;
    let selector = hands.selector(NAMESPACE, SERVICE).await?;
    let dark = hands.pods(NAMESPACE, "kubervisor/traffic,kubervisor/traffic!=yes").await?.len();
    play.promise(
        !selector.contains_key(TRAFFIC) && dark == 0,
        format!("the Service selects by {selector:?}; {dark} pods are labelled as out"),
    );
    let hands = &play.stage.hands;
    let there = hands.kubectl(&["get", KINDS, "--all-namespaces", "--output=name"]).await?;
    let left: Vec<_> = there.lines().filter(|name| name.contains(RELEASE) && *name != LEASE).collect();
    let kept = hands.kubectl(&["-n", NAMESPACE, "get", "kvs", SERVICE, "--output=name"]).await;
    play.promise(
        left.is_empty() && kept.is_ok(),
        format!(
            "of the chart {} objects are left {left:?}, but for the kind, its objects and the Lease",
            left.len()
        ),
    );
    Ok(())
}

/// After Kubervisor: a rollout, whose pods nobody labels.
///
/// # Errors
/// When kubectl fails.
pub async fn rolled_out_after(play: &mut Play) -> anyhow::Result<()> {
    let from = play.scene("the shop is rolled out anew, without Kubervisor");
    let before = play.stage.hands.pods(NAMESPACE, "app=checkout").await?;
    play.stage.hands.kubectl(&["-n", NAMESPACE, "rollout", "restart", "deployment", SERVICE]).await?;
    let all_new = |record: &Record| {
        let serves = record.serves();
        (serves.len() == PODS && serves.is_disjoint(&before)).then_some(())
    };
    let rolled = play.see(ROLLED, all_new).await;
    let serves = play.now();
    // Not at once: kube-proxy lets go of the last of the old ones a moment later.
    let alone = |record: &Record| {
        let since = play.now().checked_sub(Duration::from_secs(3)).filter(|since| *since >= serves)?;
        record
            .answerers(Client::New, since, Duration::MAX)
            .keys()
            .all(|pod| !before.contains(*pod))
            .then_some(since)
    };
    let since = play.see(SOON, alone).await.unwrap_or(serves);
    let (new, kept) = play.watch_clients(since).await?;
    let (by, meanwhile, opened) = {
        let record = play.shared().record();
        let by = record.answerers(Client::New, since, Duration::MAX).len();
        // Up to where the other promise begins: the last of the old ones end in between.
        (by, record.count(Client::New, from, since), record.times_opened(from, Duration::MAX))
    };
    play.promise(
        rolled.is_some() && new.is_clean() && kept.is_clean() && by == PODS,
        format!(
            "{PODS} new pods serve {}: new connections {new}, by {by} pods; the kept one {kept}, opened anew: {opened}",
            after(rolled.map(|()| serves - from))
        ),
    );
    play.promise(
        meanwhile.failed == 0,
        format!("meanwhile: new connections {meanwhile} (bad ones are of the two that were ill)"),
    );
    Ok(())
}
