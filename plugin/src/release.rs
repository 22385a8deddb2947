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
use crate::out::tell;
use crate::reach::Cluster;

/// `release`
///
/// # Errors
/// Pods are still held, or Services still hold the key, by name.
pub async fn run(reach: &Reach, args: &ReleaseArgs) -> anyhow::Result<()> {
    let ReleaseArgs { all, open_selectors, accept_dark, keep_lease, leader_elect, controller } = args.clone();
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
    telemetry::start(LogFormat::Text);
    let lease = LeaseArgs {
        leader_elect,
        lease_name: controller.controller_name,
        lease_namespace: Some(controller.controller_namespace),
    };
    let namespaces = if all { Vec::new() } else { vec![cluster.namespace.clone()] };
    let args = kubervisor::args::ReleaseArgs {
        all,
        namespaces,
        except: Vec::new(),
        lease,
        keep_lease,
        open_selectors,
        accept_dark,
    };
    allowed(&cluster, &args).await?;
    release_as(&args, &cluster.config, &cluster.client).await?;
    tell(
        "Every pod that Kubervisor held is back in its Service.\nStop the controller now, if it runs: one that goes on cuts \
         again.\n",
    )
}

/// What it takes; Services are patched only to open them.
const RIGHTS: [(&str, &str); 6] = [
    ("pods", "list"),
    ("pods", "watch"),
    ("pods", "patch"),
    ("services", "list"),
    ("services", "watch"),
    ("services", "patch"),
];

/// Asked first: half a release is worse than none, and what is forbidden would be tried for minutes.
async fn allowed(cluster: &Cluster, args: &kubervisor::args::ReleaseArgs) -> anyhow::Result<()> {
    let namespace = args.namespaces.first().map(String::as_str);
    let rights = RIGHTS.iter().filter(|right| args.open_selectors || **right != ("services", "patch"));
    let mut wanted: Vec<_> =
        rights.map(|(resource, verb)| ("", Ask { verb, resource, name: "", namespace })).collect();
    if args.lease.leader_elect {
        let (name, namespace) = (&args.lease.lease_name, args.lease.lease_namespace.as_deref());
        let lease = ["get", "patch"].map(|verb| Ask { verb, resource: "leases", name, namespace });
        wanted.extend(lease.map(|ask| ("coordination.k8s.io", ask)));
    }
    join_all(wanted.iter().map(|(group, ask)| review(cluster, group, ask))).await.into_iter().collect()
}

async fn review(cluster: &Cluster, group: &str, ask: &Ask<'_>) -> anyhow::Result<()> {
    let Ask { verb, resource, name, namespace } = *ask;
    let attributes = ResourceAttributes {
        group: Some(group.to_owned()),
        resource: Some(resource.to_owned()),
        verb: Some(verb.to_owned()),
        name: Some(name.to_owned()),
        namespace: namespace.map(str::to_owned),
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
    let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
    let reviews: Api<SelfSubjectAccessReview> = Api::all(cluster.client.clone());
    let resource = "selfsubjectaccessreviews.authorization.k8s.io";
    let create = Ask { verb: "create", resource, name: "", namespace };
    let answer = create.of(reviews.create(&PostParams::default(), &review)).await?;
    anyhow::ensure!(
        answer.status.is_some_and(|status| status.allowed),
        "nothing is released: it takes the right to {ask}; ask whoever grants roles there, or take another -n or --context"
    );
    Ok(())
}
