//! Pods born later: a Service that holds the key reaches one only if its template carries the label, or if a controller
//! gives it that.
//!
//! Takes a Service; gives a reason to refuse the key, or a warning. Writes nothing.

use kube::api::ListParams;
use kubervisor::api::key;
use kubervisor::cluster::workloads::{Maker, look};
use serde_json::Value;

use crate::again::Again;
use crate::args::ControllerArgs;
use crate::fail::Ask;
use crate::freeze::{Holder, holder};
use crate::ground::Ground;
use crate::objects::{name, pages, text};
use crate::reach::Cluster;

/// Workloads that are named in a sentence.
const NAMED_MAX: usize = 3;
/// Objects asked for at a time.
const PAGE: u32 = 500;
/// Kinds whose template stands where the patch puts the label.
const KINDS: [&str; 4] = ["Deployment", "ReplicaSet", "StatefulSet", "DaemonSet"];
const GROUP: &str = "apps/";
const PATCH: &str = r#"{"spec":{"template":{"metadata":{"labels":{"kubervisor/traffic":"yes"}}}}}"#;

/// What pods born later get.
#[derive(Debug)]
pub enum Later {
    /// The label, by their templates; or there is no template.
    Label,
    /// None by these templates.
    Bare(Vec<Bare>, Labeller),
    /// The workloads could not be looked at, and why.
    Unknown(String),
}

/// Makes pods without the label.
#[derive(Debug)]
pub struct Bare {
    maker: Maker,
    /// Its template carries the label now; pods of the former one are still made.
    rolls: bool,
}

/// Whether a controller labels what is born without.
#[derive(Debug)]
pub enum Labeller {
    /// This one does.
    Acts(String),
    /// None acts, and why that is believed.
    Nobody(String),
    /// Why that is not known.
    Unknown(String),
}

impl Later {
    /// Looks at the workloads behind the Service, and, where one of them lacks the label, at the Lease.
    pub async fn of(
        cluster: &Cluster,
        ground: &Ground<'_>,
        selector: &[(String, String)],
        controller: &ControllerArgs,
    ) -> Self {
        let looked = match look(&cluster.client, &ground.hole.namespace, None, selector).await {
            Ok(looked) => looked,
            Err(error) => return Self::Unknown(error.to_string()),
        };
        let lacks = |maker: &Maker| looked.unlabelled.contains(&maker.to_string());
        let makers: Vec<_> = looked.makers.iter().filter(|maker| lacks(maker)).cloned().collect();
        if makers.is_empty() {
            return Self::Label;
        }
        let rolling = if makers.iter().any(deployment) { labelled(cluster).await } else { Vec::new() };
        let bare = |maker: Maker| Bare { rolls: deployment(&maker) && rolling.contains(&maker.name), maker };
        let labeller = Labeller::of(cluster, ground, controller).await;
        Self::Bare(makers.into_iter().map(bare).collect(), labeller)
    }

    /// Why the key must not be added: pods would go dark, only later.
    #[must_use]
    pub fn refusal(&self, service: &str, again: &Again) -> Option<String> {
        let Self::Bare(bare, labeller) = self else { return None };
        let who = labeller.absent()?;
        Some(format!(
            "{} and {who}, so that with the key pods born later would get no traffic from service {service:?}: {}, name the \
             controller's Lease with --controller-namespace and --controller-name where there is one, or accept that with \
             --force",
            lack(bare),
            cure(bare, again)
        ))
    }

    /// What to say where the key is in the selector all the same.
    #[must_use]
    pub fn warning(&self, namespace: &str, service: &str, again: &Again) -> Option<String> {
        match self {
            Self::Label => None,
            Self::Unknown(why) => Some(format!(
                "it is not known whether pods born later get traffic from service {service:?}, as the workloads behind it \
                 cannot be looked at ({why}): see that their pod templates carry the label {}: \"yes\"; to be told, ask for \
                 the right to list replicasets, statefulsets and daemonsets of apps in namespace {namespace:?}",
                key::TRAFFIC
            )),
            Self::Bare(bare, labeller) => Some(match labeller.absent() {
                None => format!(
                    "{}: the controller labels its new pods, but those born while none acts get no traffic from service \
                     {service:?}: {}",
                    lack(bare),
                    cure(bare, again)
                ),
                Some(who) => format!(
                    "{} and {who}: pods born from now on get no traffic from service {service:?}: {}",
                    lack(bare),
                    cure(bare, again)
                ),
            }),
        }
    }
}

impl Labeller {
    /// A controller labels every pod behind a Service with the key, of the namespaces that it looks after: which these
    /// are is seen only by what it wrote there.
    async fn of(cluster: &Cluster, ground: &Ground<'_>, controller: &ControllerArgs) -> Self {
        match holder(cluster, controller).await {
            Err(error) => Self::Unknown(format!("{error:#}")),
            Ok(Holder::Nobody(why)) => Self::Nobody(why),
            Ok(Holder::Lives(holder)) => match &ground.governor {
                Some(by) if !text(by, "/status/state").is_empty() => Self::Acts(holder),
                Some(by) => Self::Unknown(format!(
                    "{holder} acts, and no controller has looked at KubervisorService {} yet",
                    name(by)
                )),
                None => {
                    Self::Unknown(format!("{holder} acts, and no KubervisorService gives it this Service"))
                }
            },
        }
    }

    /// `None`: somebody labels.
    fn absent(&self) -> Option<String> {
        match self {
            Self::Acts(_) => None,
            Self::Nobody(why) => Some(format!("no controller acts ({why})")),
            Self::Unknown(why) => {
                Some(format!("it is not known whether a controller labels its new pods ({why})"))
            }
        }
    }
}

fn apps(maker: &Maker) -> bool {
    maker.api_version.starts_with(GROUP) && KINDS.contains(&maker.kind.as_str())
}

fn deployment(maker: &Maker) -> bool {
    apps(maker) && maker.kind == "Deployment"
}

/// Deployments whose template carries the label. Only to say what to wait for: without the right nothing is waited for.
async fn labelled(cluster: &Cluster) -> Vec<String> {
    let namespace = cluster.namespace.as_str();
    let ask = Ask { verb: "list", resource: "deployments.apps", name: "", namespace: Some(namespace) };
    let path = format!("/apis/apps/v1/namespaces/{namespace}/deployments");
    let all = pages(&cluster.client, ask, &path, ListParams::default().limit(PAGE)).await.unwrap_or_default();
    let carries =
        |object: &&Value| object["spec"]["template"]["metadata"]["labels"][key::TRAFFIC] == key::YES;
    all.iter().filter(carries).map(|object| name(object).to_owned()).collect()
}

fn lack(bare: &[Bare]) -> String {
    let mut names: Vec<_> = bare.iter().take(NAMED_MAX).map(|bare| bare.maker.to_string()).collect();
    if let Some(more) = bare.len().checked_sub(NAMED_MAX).filter(|more| *more > 0) {
        names.push(format!("{more} more"));
    }
    let of = names.join(", ");
    if bare.iter().all(|bare| bare.rolls) {
        return format!("{of} still makes pods without the label {}: \"yes\"", key::TRAFFIC);
    }
    format!("the pod template of {of} lacks the label {}: \"yes\"", key::TRAFFIC)
}

fn cure(bare: &[Bare], again: &Again) -> String {
    let each = bare.iter().take(NAMED_MAX).map(|Bare { maker, rolls }| {
        let (kind, name) = (maker.kind.to_lowercase(), &maker.name);
        if *rolls {
            let wait = again.kubectl(&["rollout", "status", &kind, name]);
            format!("wait for the rollout that brings it (`{wait}`)")
        } else if apps(maker) {
            let patch = again.kubectl(&["patch", &kind, name, "--type=merge", "-p", PATCH]);
            format!("add it (`{patch}`)")
        } else {
            format!("add it where {maker} has its template")
        }
    });
    each.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Reach;
    use serde_json::json;

    fn bare(kind: &str, api: &str, rolls: bool) -> Bare {
        let maker =
            serde_json::from_value(json!({"kind": kind, "name": "press", "apiVersion": api})).unwrap();
        Bare { maker, rolls }
    }

    fn prod() -> Again {
        let (namespace, context) = (Some("shop".to_owned()), Some("prod".to_owned()));
        Again::new(&Reach { namespace, context, ..Reach::default() })
    }

    fn later(labeller: Labeller) -> Later {
        Later::Bare(vec![bare("Deployment", "apps/v1", false)], labeller)
    }

    #[test]
    fn a_template_without_the_label_is_refused_unless_somebody_labels_its_pods_and_named_in_any_case() {
        let patch =
            format!("`kubectl patch deployment press --type=merge -p '{PATCH}' -n shop --context prod`");
        let again = prod();
        for (labeller, why) in [
            (Labeller::Nobody("there is no Lease".into()), "no controller acts (there is no Lease)"),
            (Labeller::Unknown("no right".into()), "it is not known whether a controller labels"),
        ] {
            let later = later(labeller);
            for said in
                [later.refusal("juice", &again).unwrap(), later.warning("shop", "juice", &again).unwrap()]
            {
                assert!(said.contains(why) && said.contains("Deployment press lacks"), "{said}");
                assert!(said.contains(&patch), "{said}");
            }
            assert!(later.refusal("juice", &again).unwrap().contains("--force"));
        }
        let acts = later(Labeller::Acts("one".into()));
        assert_eq!(acts.refusal("juice", &again), None);
        let said = acts.warning("shop", "juice", &again).unwrap();
        assert!(said.contains("while none acts") && said.contains(&patch), "{said}");
    }

    #[test]
    fn templates_that_carry_it_are_not_spoken_of_and_those_that_nobody_may_see_are_not_known() {
        let again = prod();
        let label = Later::Label;
        assert_eq!((label.refusal("juice", &again), label.warning("shop", "juice", &again)), (None, None));
        let unknown = Later::Unknown("code 403".into());
        assert_eq!(unknown.refusal("juice", &again), None);
        let said = unknown.warning("shop", "juice", &again).unwrap();
        assert!(said.contains("not known") && said.contains("list replicasets"), "{said}");
    }

    #[test]
    fn the_cure_is_one_that_the_kind_takes() {
        let cure = |kind, api, rolls| cure(&[bare(kind, api, rolls)], &prod());
        assert!(cure("StatefulSet", "apps/v1", false).contains("patch statefulset press"));
        assert!(cure("Deployment", "apps/v1", true).contains("rollout status deployment press"));
        let other = cure("Rollout", "argoproj.io/v1alpha1", false);
        assert_eq!(other, "add it where Rollout press has its template");
        assert!(lack(&[bare("Deployment", "apps/v1", true)]).contains("still makes pods"));
        let many: Vec<_> = (0..5).map(|_| bare("DaemonSet", "apps/v1", false)).collect();
        assert!(lack(&many).contains("DaemonSet press, 2 more lacks"), "{}", lack(&many));
    }
}
