//! `deactivate`: takes the key out of a Service's selector, and then gives its pods back.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::bail;
use jiff::Timestamp;
use kubervisor::cluster::apply::{Outcome, Writer};
use kubervisor::cluster::brake::Brake;
use kubervisor::cluster::mandate::Mandate;
use kubervisor::cluster::marked::Marked;
use kubervisor::cluster::release::free;
use kubervisor::cluster::selector::KeyWriter;
use kubervisor::metrics::Metrics;
use kubervisor_core::fleet::Member;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::args::DeactivateArgs;
use crate::ground::{Ground, PODS, SERVICES, named};
use crate::objects::name;
use crate::out::tell;
use crate::reach::Cluster;
use crate::steer::FIELD_MANAGER;

/// Looks at the pods: those that change while they are given back come again.
const ROUNDS: usize = 10;

/// `deactivate NAME`
///
/// # Errors
/// What could not be done, in a sentence.
pub async fn run(cluster: &Cluster, args: &DeactivateArgs) -> anyhow::Result<()> {
    let ground = Ground::of(cluster, &args.name).await?;
    let (service, only_try) = (&ground.hole.name, args.only_try.dry_run.is_some());
    if let Some(keeper) = ground.keeper() {
        bail!(
            "KubervisorService {keeper:?} has selectorManagement: Managed, so that its controller would add the key again: \
             set selectorManagement to Manual, and it takes the key out and gives the pods back by itself"
        );
    }
    ground.say_which()?;
    let view = ground.view()?;
    let up = |member: &&Member| member.ready && !member.terminating;
    let (now, after) = (view.fleet.count(Member::serving), view.fleet.count(|member| up(&member)));
    tell(&format!("service/{service}: {now} endpoints now, {after} after\n"))?;
    let tried = args.only_try.mark();
    if ground.hole.key.is_none() && ground.hole.managed_by.is_none() {
        tell(&format!("service/{service} does not hold the key\n"))?;
    } else {
        let writer = KeyWriter::of_person(cluster.client.clone(), FIELD_MANAGER, only_try);
        // The answer is the Service as it is stored from now on: the proof that the key is gone.
        writer.take(&ground.hole).await.map_err(|error| ground.failed(SERVICES, service, error))?;
        tell(&format!("service/{service} deactivated{tried}: kubervisor/traffic is out of its selector\n"))?;
    }
    let freed: Vec<_> = if only_try {
        held(&ground)?.iter().map(|pod| Arc::clone(&pod.name)).collect()
    } else {
        give_back(cluster, &ground).await?.into_iter().collect()
    };
    if !freed.is_empty() {
        tell(&format!("back in traffic{tried}: {}\n", named(&freed)))?;
    }
    tell(&format!("{}\n", args.only_try.then(next(&ground))))
}

/// Members that carry our mark. Those that another KubervisorService holds through another Service are left to it.
fn held(ground: &Ground<'_>) -> anyhow::Result<Vec<Marked>> {
    let mut held = ground.view()?.marked;
    held.retain(|pod| pod.by.as_ref().is_none_or(|by| !ground.others.iter().any(|other| **other == **by)));
    Ok(held)
}

/// A controller that runs does the same from now on: who was faster does not matter.
async fn give_back(cluster: &Cluster, ground: &Ground<'_>) -> anyhow::Result<BTreeSet<Arc<str>>> {
    let stop = CancellationToken::new();
    let _ended = stop.clone().drop_guard();
    let (mandate, tasks) = (Mandate::unlimited(), TaskTracker::new());
    let cache = Arc::clone(&ground.cache);
    let writer =
        Writer::new(cluster.client.clone(), cache, mandate, Brake::default(), Metrics::new(), tasks, stop);
    let mut freed = BTreeSet::new();
    for _ in 0..ROUNDS {
        ground.look_again().await?;
        let held = held(ground)?;
        if held.is_empty() {
            return Ok(freed);
        }
        for pod in &held {
            match free(&writer, pod, Timestamp::now()).await {
                Outcome::Done => drop(freed.insert(Arc::clone(&pod.name))),
                Outcome::NotSent(_) => {}
                Outcome::Refused(error) if matches!(error.code(), Some(404 | 409 | 422)) => {}
                Outcome::Refused(error) | Outcome::Unknown(error) => {
                    return Err(ground.failed(PODS, &pod.name, error));
                }
            }
        }
    }
    let names: Vec<_> = held(ground)?.iter().map(|pod| Arc::clone(&pod.name)).collect();
    bail!(
        "the key is out, but these pods are still marked, as they change all the time: {}; run this again",
        named(&names)
    )
}

fn next(ground: &Ground<'_>) -> String {
    match &ground.governor {
        Some(governor) => format!(
            "{} goes on judging and cuts nobody. A tool that has the key in its files, such as Git, would add it again: take \
             it out there",
            name(governor)
        ),
        None => "A tool that has the key in its files, such as Git, would add it again: take it out there"
            .to_owned(),
    }
}
