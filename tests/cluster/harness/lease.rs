//! The Lease of the controllers in a shop's namespace.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::Api;
use kube::api::{Patch, PatchParams};
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
