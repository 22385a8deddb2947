//! `freeze` and `thaw`: a word on the controller's Lease. And whether anybody holds that Lease.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::Patch;
use kubervisor::cluster::lease::FREEZE;
use serde_json::json;

use crate::age;
use crate::args::{ControllerArgs, FreezeArgs, ThawArgs, TryArgs};
use crate::fail::{Ask, Refused, code};
use crate::out::{say, tell};
use crate::reach::Cluster;
use crate::words::plain;

/// As kubectl names the kind.
const LEASES: &str = "leases.coordination.k8s.io";
/// A holder renews every fifth of the Lease's duration: one that lives is seen within half of it.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// The holder writes the Lease too, every few seconds.
const TRIES: usize = 5;

/// `freeze`
///
/// # Errors
/// The server's refusal, no Lease, or a freeze for another reason.
pub async fn freeze(cluster: &Cluster, args: &FreezeArgs) -> anyhow::Result<()> {
    let FreezeArgs { reason, force, controller, only_try } = args;
    let name = &controller.controller_name;
    let kept = |former: Option<&str>| match former {
        Some(former) if former != reason && !force => anyhow::bail!(
            "lease.coordination.k8s.io/{name} is frozen already, for another reason: {:?}; it holds as it is, and one thaw \
             would end both: agree with whoever froze it, or take its place with --force",
            plain(former)
        ),
        _ => Ok(true),
    };
    let former = change(cluster, controller, Some(reason), only_try, kept).await?;
    let instead = match &former {
        Before::Known(Some(former)) if former != reason => format!(", no longer for: {}", plain(former)),
        Before::Known(_) | Before::Unknown(_) => String::new(),
    };
    let next = format!(
        "Nothing is cut, paused or evicted in any namespace of its controller; returns go on. To end it: {}",
        cluster.again.of(controller).command(&["thaw"])
    );
    tell(&format!(
        "lease.coordination.k8s.io/{name} frozen: {}{instead}{}\n{}\n",
        plain(reason),
        only_try.mark(),
        only_try.then(next)
    ))?;
    if let Before::Unknown(error) = former {
        say(&format!("warning: whether it was frozen for another reason before is not known: {error:#}"));
        return Ok(());
    }
    match holder(cluster, controller).await {
        Ok(Holder::Lives(_)) => {}
        Ok(Holder::Nobody(why)) => {
            say(&format!("warning: no controller acts now ({why}): a freeze holds for the next one"));
        }
        Err(error) => say(&format!("warning: whether a controller acts is not known: {error:#}")),
    }
    Ok(())
}

/// `thaw`
///
/// # Errors
/// The server's refusal, or no Lease.
pub async fn thaw(cluster: &Cluster, args: &ThawArgs) -> anyhow::Result<()> {
    let ThawArgs { controller, only_try } = args;
    let name = &controller.controller_name;
    let frozen = |former: Option<&str>| Ok(former.is_some());
    let was = match change(cluster, controller, None, only_try, frozen).await? {
        Before::Known(None) => {
            return tell(&format!("lease.coordination.k8s.io/{name} is not frozen: nothing is changed\n"));
        }
        Before::Known(Some(reason)) => format!(", was frozen: {}", plain(&reason)),
        Before::Unknown(_) => String::new(),
    };
    let next = format!("Cuts go on where no other gate is closed: {}", cluster.again.command(&["get", "-A"]));
    tell(&format!(
        "lease.coordination.k8s.io/{name} thawed{was}{}\n{}\n",
        only_try.mark(),
        only_try.then(next)
    ))?;
    if was.is_empty() {
        say("warning: whether it was frozen, and why, is not known: the Lease may not be read");
    }
    Ok(())
}

/// The freeze that was there before a write.
enum Before {
    Known(Option<String>),
    /// The Lease may be written and not read.
    Unknown(anyhow::Error),
}

/// Writes the word where `wanted`, told the one that is there, says so. What was judged is what is written over: a word
/// that somebody else writes meanwhile is judged too.
async fn change(
    cluster: &Cluster,
    args: &ControllerArgs,
    reason: Option<&str>,
    only_try: &TryArgs,
    wanted: impl Fn(Option<&str>) -> anyhow::Result<bool>,
) -> anyhow::Result<Before> {
    let mut tries = 0;
    loop {
        tries += 1;
        let lease = match read(cluster, args).await {
            // Whoever may write may freeze: at night that counts for more than whose word is lost.
            Err(error) if code(&error) == Some(403) => {
                write(cluster, args, (reason, None), only_try).await?;
                return Ok(Before::Unknown(error));
            }
            lease => lease?,
        };
        let former = lease.metadata.annotations.unwrap_or_default().remove(FREEZE);
        if !wanted(former.as_deref())? {
            return Ok(Before::Known(former));
        }
        match write(cluster, args, (reason, lease.metadata.resource_version), only_try).await {
            Err(error) if code(&error) == Some(409) && tries < TRIES => {}
            done => return done.map(|()| Before::Known(former)),
        }
    }
}

fn ask<'a>(verb: &'a str, args: &'a ControllerArgs) -> Ask<'a> {
    let (name, namespace) = (&args.controller_name, Some(args.controller_namespace.as_str()));
    Ask { verb, resource: LEASES, name, namespace }
}

fn leases(cluster: &Cluster, args: &ControllerArgs) -> Api<Lease> {
    Api::namespaced(cluster.client.clone(), &args.controller_namespace)
}

async fn write(
    cluster: &Cluster,
    args: &ControllerArgs,
    (reason, version): (Option<&str>, Option<String>),
    only_try: &TryArgs,
) -> anyhow::Result<()> {
    let mut patch = json!({"metadata": {"annotations": {FREEZE: reason}}});
    if let Some(version) = version {
        patch["metadata"]["resourceVersion"] = json!(version);
    }
    let patch = Patch::Merge(patch);
    let write = leases(cluster, args);
    let answer = ask("patch", args).of(write.patch(&args.controller_name, &only_try.params(), &patch)).await;
    answer.map(drop).map_err(|error| missing(error, args))
}

async fn read(cluster: &Cluster, args: &ControllerArgs) -> anyhow::Result<Lease> {
    let answer = ask("get", args).of(leases(cluster, args).get(&args.controller_name)).await;
    answer.map_err(|error| missing(error, args))
}

/// A Lease that is not there says more than that.
fn missing(error: anyhow::Error, args: &ControllerArgs) -> anyhow::Error {
    if code(&error) != Some(404) {
        return error;
    }
    let ControllerArgs { controller_url: _, controller_namespace, controller_name } = args;
    Refused::not_found(format!(
        "Error from server (NotFound): there is no Lease {controller_namespace}/{controller_name}: no controller has \
         run, or it runs with --leader-elect=false and listens to none, or elsewhere: name it with \
         --controller-namespace and --controller-name"
    ))
    .into()
}

/// Whether a controller acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// This one.
    Lives(String),
    /// None, and why that is believed.
    Nobody(String),
}

/// Who holds the Lease.
///
/// # Errors
/// The server's refusal.
pub async fn holder(cluster: &Cluster, args: &ControllerArgs) -> anyhow::Result<Holder> {
    match read(cluster, args).await {
        Err(error) if code(&error) == Some(404) => Ok(Holder::Nobody("there is no Lease".to_owned())),
        lease => renews(cluster, args, lease?).await,
    }
}

/// Whether a controller acts, for whoever only looks: without a Lease it is not known, as it may be kept elsewhere.
///
/// # Errors
/// Why it is not known.
pub async fn acts(cluster: &Cluster, args: &ControllerArgs) -> anyhow::Result<Holder> {
    renews(cluster, args, read(cluster, args).await?).await
}

/// A renewal that looks too old may only show that two clocks differ, so it is watched whether it is renewed.
async fn renews(cluster: &Cluster, args: &ControllerArgs, lease: Lease) -> anyhow::Result<Holder> {
    let first = lease.spec.unwrap_or_default();
    let holder = first.holder_identity.unwrap_or_default();
    if holder.is_empty() {
        return Ok(Holder::Nobody("nobody holds the Lease".to_owned()));
    }
    let lasts = SignedDuration::from_secs(first.lease_duration_seconds.unwrap_or(15).into());
    let renewed = first.renew_time.map(|time| time.0);
    let old = renewed.is_none_or(|renewed| Timestamp::now().duration_since(renewed) > lasts);
    if !old {
        return Ok(Holder::Lives(holder));
    }
    let deadline = tokio::time::Instant::now() + lasts.unsigned_abs() / 2;
    while tokio::time::Instant::now() < deadline {
        tokio::time::sleep(LOOK_AGAIN).await;
        let again = read(cluster, args).await?.spec.unwrap_or_default();
        if again.renew_time.map(|time| time.0) != renewed {
            return Ok(Holder::Lives(again.holder_identity.unwrap_or_default()));
        }
    }
    let age = age::since(renewed.map(|at| at.to_string()).as_deref(), Timestamp::now());
    Ok(Holder::Nobody(format!("{holder} last renewed the Lease {age} ago")))
}
