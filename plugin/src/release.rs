//! `release`: the controller's own, with the caller's rights.

use futures::future::join_all;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::Api;
use kube::api::PostParams;
use kubervisor::args::LeaseArgs;
use kubervisor::run::release_as;
use kubervisor::telemetry::{self, LogFormat};

use crate::args::{Reach, ReleaseArgs};
use crate::fail::Ask;
use crate::out::print;
use crate::reach::Cluster;

/// `release`
///
/// # Errors
/// Pods are still held, or Services still hold the key, by name.
pub async fn run(reach: &Reach, args: &ReleaseArgs) -> anyhow::Result<()> {
    let ReleaseArgs { all, open_selectors, accept_dark, leader_elect, controller } = args.clone();
    let all = all || reach.all_namespaces;
    anyhow::ensure!(
        all || reach.namespace.is_some(),
        "say where: -n NAMESPACE for one namespace, -A or --all for all of them"
    );
    anyhow::ensure!(
        !(all && reach.namespace.is_some()),
        "--all and -n cannot be used together: leave one of them out"
    );
    let cluster = Cluster::reach(reach).await?;
    allowed(&cluster, all, open_selectors).await?;
    telemetry::start(LogFormat::Text);
    let lease = LeaseArgs {
        leader_elect,
        lease_name: controller.controller_name,
        lease_namespace: Some(controller.controller_namespace),
    };
    let namespaces = if all { Vec::new() } else { vec![cluster.namespace.clone()] };
    let args = kubervisor::args::ReleaseArgs { all, namespaces, lease, open_selectors, accept_dark };
    release_as(&args, &cluster.config, &cluster.client).await?;
    print(
        "Every pod that Kubervisor held is back in its Service.\nStop the controller now, if it runs: one that goes on cuts \
         again.\n",
    )
}

/// What it takes beside the Lease; `services` are patched only to open them.
const RIGHTS: [(&str, &str); 6] = [
    ("pods", "list"),
    ("pods", "watch"),
    ("pods", "patch"),
    ("services", "list"),
    ("services", "watch"),
    ("services", "patch"),
];

/// Asked first: half a release is worse than none, and a watch that is forbidden is waited for.
async fn allowed(cluster: &Cluster, all: bool, open: bool) -> anyhow::Result<()> {
    let namespace = (!all).then_some(cluster.namespace.as_str());
    let reviews: Api<SelfSubjectAccessReview> = Api::all(cluster.client.clone());
    let asked = RIGHTS.iter().filter(|right| open || **right != ("services", "patch"));
    let allowed = asked.map(async |(resource, verb)| {
        let ask = Ask { verb, resource, name: "", namespace };
        let wanted = ResourceAttributes {
            resource: Some((*resource).to_owned()),
            verb: Some((*verb).to_owned()),
            namespace: namespace.map(str::to_owned),
            ..ResourceAttributes::default()
        };
        let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(wanted), ..Default::default() };
        let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
        let review_ask = Ask { verb: "create", resource: "selfsubjectaccessreviews.authorization.k8s.io", ..ask };
        let answer = review_ask.of(reviews.create(&PostParams::default(), &review)).await?;
        let allowed = answer.status.is_some_and(|status| status.allowed);
        anyhow::ensure!(
            allowed,
            "nothing is released: it takes the right to {ask}; ask whoever grants roles there, or take another -n or --context"
        );
        Ok(())
    });
    join_all(allowed).await.into_iter().collect()
}
