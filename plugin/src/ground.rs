//! A Service and the pods behind it, as the controller would see them: from lists of the caller's own, one a kind.

use std::sync::Arc;

use anyhow::bail;
use jiff::Timestamp;
use kube::api::ListParams;
use kubervisor::api::{Management, Parsed};
use kubervisor::cluster::CallError;
use kubervisor::cluster::cache::Cache;
use kubervisor::cluster::index::Governor;
use kubervisor::cluster::keyhole::Keyhole;
use kubervisor::cluster::slim::{SlimPod, SlimService};
use kubervisor::cluster::snapshot::View;
use kubervisor::cluster::watch::Sink;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Notify;

use crate::fail::{Ask, RESOURCE, Refused, code, unknown};
use crate::objects::{self, list, name, pages, text};
use crate::out::tell;
use crate::reach::Cluster;
use crate::rules::parsed;

/// As kubectl names the kind.
pub const SERVICES: &str = "services";
/// As kubectl names the kind.
pub const PODS: &str = "pods";
/// Kinds that may stand before the name of a Service.
pub const KINDS: [&str; 3] = ["service", "services", "svc"];
/// Names in one sentence.
const NAMED_MAX: usize = 10;
/// Objects asked for at a time.
const PAGE: u32 = 500;
/// Stands for a KubervisorService where there is none: the Service is looked at all the same.
const NOBODY: &str = "nobody";

/// A Service, who governs it, and its pods.
pub struct Ground<'a> {
    cluster: &'a Cluster,
    /// Pods and Services of the namespace, as the controller indexes them.
    pub cache: Arc<Cache>,
    /// The Service.
    pub hole: Keyhole,
    /// The KubervisorService that names it; the oldest of several.
    pub governor: Option<Value>,
    /// Names of those of the namespace that name another Service.
    pub others: Vec<String>,
    /// What else bears the name, and how to say that.
    twin: Option<String>,
}

/// What a name is the name of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A KubervisorService, or else a Service.
    Either,
    Governor,
    Service,
}

impl<'a> Ground<'a> {
    /// Finds what `wanted` means: a KubervisorService, or else a Service; `KIND/NAME` says which.
    ///
    /// # Errors
    /// The server's refusal, or a sentence on a name that is not there.
    pub async fn of(cluster: &'a Cluster, wanted: &str) -> anyhow::Result<Self> {
        let namespace = cluster.namespace.as_str();
        cluster.single()?;
        let (kind, wanted) = kind(wanted)?;
        let governors = match list(&cluster.client, Some(namespace), None).await {
            // The kind is not served: its pods and keys may be there all the same.
            Err(error) if code(&error) == Some(404) => Vec::new(),
            governors => governors?,
        };
        let services: Vec<SlimService> = everything(cluster, SERVICES).await?;
        let service = service(kind, wanted, &governors)?;
        let Some(found) = services.iter().find(|s| s.metadata.name == service) else {
            let known = services.iter().map(|s| s.metadata.name.as_str()).chain(governors.iter().map(name));
            return Err(Refused::not_found(unknown(SERVICES, service, known)).into());
        };
        let hole = Keyhole::of(found);
        let twin = kind == Kind::Either && service != wanted;
        let twin = twin && services.iter().any(|s| s.metadata.name == wanted);
        let twin = twin.then(|| {
            format!(
                "KubervisorService {wanted:?} is meant, whose Service is {service:?}; for the Service {wanted:?} say \
                 service/{wanted}\n"
            )
        });
        let (own, others): (Vec<_>, Vec<_>) =
            governors.iter().partition(|object| text(object, "/spec/service") == service);
        let born = |object: &&&Value| {
            (name(object) != wanted, text(object, "/metadata/creationTimestamp").to_owned())
        };
        let governor = own.iter().min_by_key(born).map(|object| (**object).clone());
        let others = others.into_iter().map(|object| name(object).to_owned()).collect();
        let cache = Arc::new(Cache::default());
        cache.expect(&[None]);
        let mut sink = cache.services(None);
        sink.begin();
        services.into_iter().for_each(|service| sink.apply(service));
        sink.end();
        let changed = Arc::new(Notify::new());
        let governor_name = governor.as_ref().map_or(NOBODY, name);
        let (name, service) = (Arc::from(governor_name), Arc::clone(&hole.name));
        let created = Timestamp::UNIX_EPOCH;
        let of = Governor { name, service, created, labels: false, manages: false, changed };
        cache.govern(namespace, NOBODY, of);
        let ground = Self { cluster, cache, hole, governor, others, twin };
        ground.look_again().await?;
        Ok(ground)
    }

    /// A line, where the name alone could mean another Service.
    ///
    /// # Errors
    /// Nobody reads.
    pub fn say_which(&self) -> anyhow::Result<()> {
        self.twin.as_deref().map_or(Ok(()), tell)
    }

    /// Takes a new list of the pods.
    ///
    /// # Errors
    /// The server's refusal.
    pub async fn look_again(&self) -> anyhow::Result<()> {
        let pods: Vec<SlimPod> = everything(self.cluster, PODS).await?;
        let mut sink = self.cache.pods(None);
        sink.begin();
        pods.into_iter().for_each(|pod| sink.apply(pod));
        sink.end();
        Ok(())
    }

    /// The Service and its pods.
    ///
    /// # Errors
    /// Why the Service cannot be used.
    pub fn view(&self) -> anyhow::Result<View> {
        let view = self.cache.view(&self.hole.namespace, NOBODY);
        let Some(view) = view else { bail!("Service {} is no longer there: run this again", self.hole.name) };
        if let Some(fault) = view.service.fault() {
            bail!("Service {:?} in namespace {:?}: {fault}", self.hole.name, self.hole.namespace);
        }
        Ok(view)
    }

    /// The KubervisorService's spec as the controller reads it.
    ///
    /// # Errors
    /// The controller refuses it.
    pub fn policy(&self) -> anyhow::Result<Option<Parsed>> {
        let Some(governor) = &self.governor else { return Ok(None) };
        let parsed = parsed(&governor["spec"], &self.hole.namespace).map_err(|faults| {
            anyhow::anyhow!(
                "KubervisorService {:?} is refused by the controller, so that its floor is not known: {}; mend it first \
                 (`{}`)",
                name(governor),
                faults.join("; "),
                self.cluster.again.command(&["describe", name(governor)])
            )
        })?;
        Ok(Some(parsed))
    }

    /// The name of the KubervisorService that keeps the key to itself.
    #[must_use]
    pub fn keeper(&self) -> Option<&str> {
        let governor = self.governor.as_ref()?;
        let word = serde_json::to_value(Management::Managed).unwrap_or_default();
        (governor["spec"]["selectorManagement"] == word).then(|| name(governor))
    }

    /// A failed write to this object in words.
    #[must_use]
    pub fn failed(&self, resource: &str, object: &str, error: CallError) -> anyhow::Error {
        let namespace = Some(&*self.hole.namespace);
        let ask = Ask { verb: "patch", resource, name: object, namespace };
        match error {
            CallError::Refused(status) => ask.failed(&kube::Error::Api(status)),
            CallError::NotSent(why) | CallError::Unknown(why) => anyhow::anyhow!(
                "cannot {ask}: {why}; whether it was carried out is not known, so run this again to see"
            ),
        }
    }
}

/// Kind and name, as kubectl writes them.
fn kind(wanted: &str) -> anyhow::Result<(Kind, &str)> {
    let Some((kind, name)) = wanted.split_once('/') else { return Ok((Kind::Either, wanted)) };
    let is = |kinds: &[&str]| kinds.iter().any(|known| known.eq_ignore_ascii_case(kind));
    let kind = match (is(&KINDS), is(&objects::KINDS)) {
        (true, _) => Kind::Service,
        (false, true) => Kind::Governor,
        (false, false) => bail!("{wanted:?} names no Service: write service/NAME or kubervisorservice/NAME"),
    };
    Ok((kind, name))
}

/// The name of the Service that is meant.
fn service<'a>(kind: Kind, wanted: &'a str, governors: &'a [Value]) -> anyhow::Result<&'a str> {
    let governor = governors.iter().find(|object| name(object) == wanted);
    match (kind, governor) {
        (Kind::Either | Kind::Governor, Some(governor)) => Ok(text(governor, "/spec/service")),
        (Kind::Either, None) | (Kind::Service, _) => Ok(wanted),
        (Kind::Governor, None) => {
            Err(Refused::not_found(unknown(RESOURCE, wanted, governors.iter().map(name))).into())
        }
    }
}

/// Every object of a core kind in the namespace.
async fn everything<T: DeserializeOwned>(cluster: &Cluster, resource: &str) -> anyhow::Result<Vec<T>> {
    let namespace = cluster.namespace.as_str();
    let ask = Ask { verb: "list", resource, name: "", namespace: Some(namespace) };
    let path = format!("/api/v1/namespaces/{namespace}/{resource}");
    let found = pages(&cluster.client, ask, &path, ListParams::default().limit(PAGE)).await?;
    found.into_iter().map(|object| Ok(serde_json::from_value(object)?)).collect()
}

/// A few names in a sentence.
#[must_use]
pub fn named(names: &[Arc<str>]) -> String {
    let first: Vec<_> = names.iter().take(NAMED_MAX).map(|name| &**name).collect();
    match names.len().checked_sub(NAMED_MAX) {
        None | Some(0) => first.join(", "),
        Some(more) => format!("{} and {more} more", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_name_means_a_kubervisorservice_before_a_service_and_a_kind_before_it_decides() {
        let all = [json!({"metadata": {"name": "pick"}, "spec": {"service": "pears"}})];
        let meant = |wanted: &str| {
            let (kind, name) = kind(wanted)?;
            service(kind, name, &all).map(str::to_owned)
        };
        for wanted in [
            "pick",
            "kvs/pick",
            "rdc/pick",
            "kubervisorservice/pick",
            "kubervisorservices.kubervisor.k8s.io/pick",
        ] {
            assert_eq!(meant(wanted).unwrap(), "pears", "{wanted}");
        }
        for wanted in ["service/pick", "svc/pick", "Services/pick"] {
            assert_eq!(meant(wanted).unwrap(), "pick", "{wanted}");
        }
        assert_eq!(meant("plums").unwrap(), "plums");
        assert!(meant("kvs/pikc").unwrap_err().to_string().contains("did you mean \"pick\"?"));
        assert!(meant("pod/pick").unwrap_err().to_string().contains("service/NAME"));
    }
}
