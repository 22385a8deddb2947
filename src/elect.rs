//! From flags to the right to act: how a controller stands for the Lease, and how `release` takes it.

use std::sync::Arc;

use anyhow::Context;
use jiff::Timestamp;
use kube::{Client, Config};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::args::{LeaseArgs, RunArgs};
use crate::cluster::election::{Election, Timing};
use crate::cluster::lease::{self, Candidate, Place, boot_clock, identity};
use crate::cluster::mandate::Mandate;
use crate::metrics::Metrics;

/// A campaign for the Lease; none where there is no election.
pub struct Campaign(Option<lease::Campaign>);

impl Campaign {
    /// Blocks until it has ended by itself, which is a fault.
    pub async fn broken(&mut self) -> String {
        match &mut self.0 {
            Some(campaign) => campaign.broken().await,
            None => std::future::pending().await,
        }
    }

    /// Ends it. `clean`: every write of ours has ended, and how is known; the Lease is given up then, else it expires.
    pub async fn end(self, clean: bool, deadline: Instant) {
        if let Some(campaign) = self.0 {
            campaign.end(clean, deadline).await;
        }
    }

    /// Ends it, and leaves the Lease to expire after `keep` only: nobody acts meanwhile.
    ///
    /// # Errors
    /// Somebody may act sooner.
    pub async fn keep(self, keep: Timing) -> anyhow::Result<()> {
        match self.0 {
            Some(campaign) => campaign.keep(keep).await,
            // As was said when it was looked for.
            None => Ok(()),
        }
    }
}

/// Stands for the Lease. Returns once it has been looked at: a controller that is alone holds it before its first list.
pub async fn stand(
    args: &RunArgs,
    config: &Config,
    client: &Client,
    metrics: &Metrics,
) -> (Mandate, Campaign) {
    if !args.lease.leader_elect {
        tracing::warn!("no Lease is held: nothing keeps another controller from acting at the same time");
        metrics.leader(true);
        return (Mandate::unlimited(), Campaign(None));
    }
    let mandate = Mandate::none(Arc::new(boot_clock));
    let election =
        Election::new(identity(), args.lease_duration, false).beginning_with(moments(Timestamp::now()));
    let (place, wall) = (place(&args.lease, config), Arc::new(Timestamp::now));
    let candidate = Candidate::new(client, place, election, mandate.clone(), wall, metrics.clone());
    let mut campaign = candidate.start();
    campaign.first_look().await;
    (mandate, Campaign(Some(campaign)))
}

/// Takes the Lease from whoever has it, and waits until nothing of his can be carried out any more.
///
/// # Errors
/// It cannot be read, or may not be taken, or `stop` came first.
pub async fn seize(
    args: &LeaseArgs,
    config: &Config,
    client: &Client,
    stop: &CancellationToken,
) -> anyhow::Result<(Mandate, Campaign)> {
    if !args.leader_elect {
        return Ok((Mandate::unlimited(), Campaign(None)));
    }
    let place = place(args, config);
    let Place { namespace, name } = &place;
    let found = lease::read(client, &place).await.with_context(|| {
        format!("cannot read the Lease {namespace}/{name}; where no controller runs, --leader-elect=false does without")
    })?;
    let Some(record) = found else {
        tracing::warn!(
            namespace,
            name,
            "there is no such Lease, so no controller is kept from acting meanwhile; if one runs, name its Lease with \
             --lease-namespace and --lease-name (of the plugin: --controller-namespace and --controller-name)"
        );
        return Ok((Mandate::unlimited_of(moments(Timestamp::now())), Campaign(None)));
    };
    // A candidate asks again for ever; here somebody waits for the end.
    lease::may_take(client, &place).await.with_context(|| {
        format!(
            "cannot take the Lease {namespace}/{name}, which it takes the right to patch for; where no controller \
             runs, --leader-elect=false does without"
        )
    })?;
    let mandate = Mandate::none(Arc::new(boot_clock));
    // People see who has it: for as long as it is kept, no controller does.
    let election = Election::new(format!("release_{}", identity()), Timing::of(&record), true)
        .beginning_with(moments(Timestamp::now()));
    let wall = Arc::new(Timestamp::now);
    let campaign = Candidate::new(client, place, election, mandate.clone(), wall, Metrics::new()).start();
    tokio::select! {
        biased;
        () = stop.cancelled() => anyhow::bail!("stopped before anything was released"),
        () = mandate.settled() => Ok((mandate, Campaign(Some(campaign)))),
    }
}

fn place(args: &LeaseArgs, config: &Config) -> Place {
    let namespace = args.lease_namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    Place { namespace, name: args.lease_name.clone() }
}

/// Every two seconds since 1970: greater for a new Lease than any epoch of the one before, which grows by one with each
/// holder; the 31 bits of a Lease last until 2106. By the minute a Lease that had seen a few rollouts and was deleted could
/// be ahead of the next one.
fn moments(now: Timestamp) -> u64 {
    u64::try_from(now.as_second() / 2).ok().filter(|moments| *moments > 0).unwrap_or(1)
}
