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
use crate::out::print;
use crate::reach::Cluster;

/// As kubectl names the kind.
const LEASES: &str = "leases.coordination.k8s.io";
/// A holder renews every fifth of the Lease's duration: one that lives is seen within half of it.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// `freeze`
///
/// # Errors
/// The server's refusal, or no Lease.
pub async fn freeze(cluster: &Cluster, args: &FreezeArgs) -> anyhow::Result<()> {
    write(cluster, &args.controller, Some(&args.reason), &args.only_try).await?;
    let holder = holder(cluster, &args.controller).await?;
    print(&format!(
        "lease.coordination.k8s.io/{} frozen: {}{}\nNothing is cut, paused or evicted in any namespace of its \
         controller; returns go on. To end it: kubectl kubervisor thaw\n",
        args.controller.controller_name,
        args.reason,
        args.only_try.mark()
    ))?;
    if let Holder::Nobody(why) = holder {
        eprintln!("warning: no controller acts now ({why}); it holds for the next one");
    }
    Ok(())
}

/// `thaw`
///
/// # Errors
/// The server's refusal, or no Lease.
pub async fn thaw(cluster: &Cluster, args: &ThawArgs) -> anyhow::Result<()> {
    let name = &args.controller.controller_name;
    let lease = read(cluster, &args.controller).await?;
    let frozen = lease.metadata.annotations.unwrap_or_default().remove(FREEZE);
    let Some(reason) = frozen else {
        return print(&format!("lease.coordination.k8s.io/{name} is not frozen: nothing is changed\n"));
    };
    write(cluster, &args.controller, None, &args.only_try).await?;
    print(&format!(
        "lease.coordination.k8s.io/{name} thawed, was frozen: {reason}{}\nCuts go on where no other gate is closed: \
         kubectl kubervisor get -A\n",
        args.only_try.mark()
    ))
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
    reason: Option<&str>,
    only_try: &TryArgs,
) -> anyhow::Result<()> {
    let patch = Patch::Merge(json!({"metadata": {"annotations": {FREEZE: reason}}}));
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

/// Who holds the Lease. A renewal that looks too old may only show that two clocks differ, so it is watched whether it
/// is renewed.
///
/// # Errors
/// The server's refusal.
pub async fn holder(cluster: &Cluster, args: &ControllerArgs) -> anyhow::Result<Holder> {
    let first = match read(cluster, args).await {
        Err(error) if code(&error) == Some(404) => return Ok(Holder::Nobody("there is no Lease".to_owned())),
        lease => lease?.spec.unwrap_or_default(),
    };
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
