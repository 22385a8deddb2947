//! The Lease of the controllers in a shop's namespace.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::Api;
use kube::api::{Patch, PatchParams};
use localcluster::AuditRecord;
use serde_json::json;

use super::controller::ControllerArgs;
use super::{SOON, Shop, eventually};

/// A Lease that expires soon, for tests that kill its holder.
pub const BRIEF: Duration = Duration::from_secs(6);
/// Its name where no flag says otherwise.
const NAME: &str = "kubervisor";

impl ControllerArgs {
    /// With a Lease of [`BRIEF`] duration.
    pub fn brief(mut self) -> Self {
        self.args.retain(|arg| !arg.starts_with("--lease-duration"));
        self.args.push(format!("--lease-duration={}s", BRIEF.as_secs()));
        self
    }
}

impl Shop {
    fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// What the Lease says; nothing before the first holder.
    pub async fn lease(&self) -> LeaseSpec {
        self.leases().get_opt(NAME).await.unwrap().and_then(|lease| lease.spec).unwrap_or_default()
    }

    /// The number of the term that runs.
    pub async fn term(&self) -> u64 {
        u64::try_from(self.lease().await.lease_transitions.unwrap()).unwrap()
    }

    /// Whoever holds it; empty where nobody does.
    pub async fn holder(&self) -> String {
        self.lease().await.holder_identity.unwrap_or_default()
    }

    /// Waits until another than this one holds it; gives its name and when it was told that it does.
    pub async fn other_holder(&self, than: &str) -> (String, Timestamp) {
        let other = || async {
            let now = self.holder().await;
            !now.is_empty() && now != than
        };
        eventually("another holds the Lease", SOON, other).await;
        let lease = self.lease().await;
        (lease.holder_identity.unwrap(), lease.acquire_time.unwrap().0)
    }

    /// Freezes all controllers, or with `None` lets them go on.
    pub async fn freeze(&self, reason: Option<&str>) {
        let patch = json!({"metadata": {"annotations": {"kubervisor.k8s.io/freeze": reason}}});
        self.leases().patch(NAME, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }
}

/// The looks of one who waits for the Lease, and how it took it, as the API server has recorded them.
pub struct Takeover {
    /// When the former holder was heard of last.
    pub last_sign: Timestamp,
    /// Looks of the successor after that.
    pub looks: Vec<Timestamp>,
    /// When it took the Lease.
    pub taken: Timestamp,
}

impl Takeover {
    /// From the last write to the Lease by the user `former` to the first by `successor`.
    pub async fn of(shop: &Shop, former: &str, successor: &str) -> Self {
        let calls = async |user: &str| {
            let all = shop.calls_by(user).await;
            all.into_iter().filter(|r| r.resource == "leases" && r.code < 300).collect::<Vec<_>>()
        };
        let writes = |r: &&AuditRecord| r.verb == "patch" || r.verb == "create";
        let last_sign = calls(former).await.iter().rfind(writes).unwrap().time;
        let later: Vec<_> = calls(successor).await.into_iter().filter(|r| r.time > last_sign).collect();
        let taken = later.iter().find(writes).unwrap().time;
        let looks = later.iter().filter(|r| r.verb == "get" && r.time < taken).map(|r| r.time).collect();
        Self { last_sign, looks, taken }
    }

    /// From the last sign of the former holder to the takeover.
    pub fn after(&self) -> SignedDuration {
        self.taken.duration_since(self.last_sign)
    }

    /// The longest pause between two requests: on a machine that does nothing else, that between two looks.
    pub fn longest_pause(&self) -> SignedDuration {
        let all: Vec<_> = [&self.looks[..], &[self.taken]].concat();
        all.windows(2).map(|two| two[1].duration_since(two[0])).max().unwrap_or_default()
    }

    /// Looks in vain at a Lease that had expired. The last sign was seen by the second look at the latest, as the first
    /// may have met the write of it; so it had been seen for its whole duration when a look came so long after the third.
    pub fn in_vain(&self, duration: SignedDuration) -> usize {
        let known = self.looks.get(2).map(|third| *third + duration);
        let expired = self.looks.iter().filter(|look| known.is_some_and(|known| **look >= known)).count();
        // One of them was not in vain.
        expired.saturating_sub(1)
    }
}
