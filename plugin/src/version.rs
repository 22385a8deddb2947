//! `version`: of this program, and of the controller.

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;

use crate::args::{ControllerArgs, VersionArgs};
use crate::controller::Way;
use crate::fail::{Ask, code};
use crate::out::tell;
use crate::reach::Cluster;
use crate::{age, args::Reach};

/// `version`
///
/// # Errors
/// No cluster can be reached, or it tells of no controller.
pub async fn run(reach: &Reach, args: &VersionArgs) -> anyhow::Result<()> {
    tell(&format!("Client Version: v{}\n", env!("CARGO_PKG_VERSION")))?;
    if args.client {
        return Ok(());
    }
    let cluster = Cluster::reach(reach).await?;
    tell(&format!("Controller: {}\n", controller(&cluster, &args.controller).await?))
}

/// By its own page; where that cannot be had, by the Lease.
async fn controller(cluster: &Cluster, args: &ControllerArgs) -> anyhow::Result<String> {
    let (namespace, name) = (&args.controller_namespace, &args.controller_name);
    let way = Way::to(cluster, args)?;
    let page = way.page("/metrics").await;
    if let Some(version) = page.as_deref().and_then(version) {
        return Ok(format!("v{version}, at {}", way.place()));
    }
    let ask = Ask { verb: "get", resource: "leases.coordination.k8s.io", name, namespace: Some(namespace) };
    let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), namespace);
    let spec = match ask.of(leases.get(name)).await {
        Ok(lease) => lease.spec.unwrap_or_default(),
        Err(error) if code(&error) == Some(404) => anyhow::bail!(
            "no controller is found: namespace {namespace:?} has no Service and no Lease {name:?}; say where it is with \
             --controller-namespace and --controller-name"
        ),
        Err(error) => return Err(error),
    };
    Ok(match spec.holder_identity.filter(|holder| !holder.is_empty()) {
        Some(holder) => {
            let renewed = spec.renew_time.map(|time| time.0.to_string());
            let renewed = age::since(renewed.as_deref(), Timestamp::now());
            format!(
                "version unknown, as {} gives no answer; {holder} held the Lease {renewed} ago",
                way.place()
            )
        }
        None => format!("none runs: nobody holds the Lease {namespace}/{name}"),
    })
}

/// Of the metrics' text.
fn version(metrics: &str) -> Option<&str> {
    let line = metrics.lines().find(|line| line.starts_with("kubervisor_build_info{"))?;
    line.split("version=\"").nth(1)?.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_that_of_the_build_info() {
        let text = "# TYPE kubervisor_build info\nkubervisor_build_info{version=\"9.8.7\"} 1\n";
        assert_eq!(version(text), Some("9.8.7"));
        assert_eq!(version("up 1\n"), None);
    }
}
