//! `activate`: adds the key to a Service's selector, where that takes traffic from no pod that should have it.

use std::fmt::Write;
use std::sync::Arc;

use anyhow::bail;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::Patch;
use kubervisor::api::open_patch;
use kubervisor::cluster::call;
use kubervisor::cluster::selector::{KeyWriter, Prospect, SETTLED};
use kubervisor::cluster::snapshot::View;
use kubervisor_core::budget::floor;
use kubervisor_core::fleet::Member;
use kubervisor_core::policy::Mode;
use kubervisor_core::traffic::Traffic;
use serde_json::json;

use crate::again::Again;
use crate::args::{ActivateArgs, TryArgs};
use crate::ground::{Ground, PODS, SERVICES, named};
use crate::objects::name;
use crate::out::{say, tell};
use crate::reach::Cluster;
use crate::steer::FIELD_MANAGER;
use crate::templates::Later;

/// Rounds in which labels are written: pods that change at that moment come again.
const ROUNDS: usize = 5;

/// `activate NAME`
///
/// # Errors
/// Why the key is not added, in a sentence.
pub async fn run(cluster: &Cluster, args: &ActivateArgs) -> anyhow::Result<()> {
    let ground = Ground::of(cluster, &args.name).await?;
    let (service, only_try) = (&ground.hole.name, args.only_try.dry_run.is_some());
    if let Some(keeper) = ground.keeper() {
        bail!(
            "KubervisorService {keeper:?} has selectorManagement: Managed, so that its controller adds the key by itself \
             once nothing stands in the way (its condition Activated says what does): set selectorManagement to Manual to \
             do it yourself"
        );
    }
    ground.say_which()?;
    let selector = ground.view()?.selector;
    let later = Later::of(cluster, &ground, &selector, &args.controller).await;
    let namespace = &ground.hole.namespace;
    if ground.hole.turned() {
        warn(later.warning(namespace, service, &cluster.again));
        return tell(&format!(
            "service/{service} holds the key already: kubervisor/traffic=yes is in its selector\n"
        ));
    }
    let policy = ground.policy()?;
    if let Some(why) = later.refusal(service, &cluster.again).filter(|_| !args.force) {
        bail!(why);
    }
    let labelled = if args.label { label(cluster, &ground, &args.only_try).await? } else { Vec::new() };
    let view = ground.view()?;
    let least = policy.as_ref().map_or(1, |parsed| floor(&parsed.policy, view.fleet.size()));
    let mut prospect = Prospect::of(&view, least);
    if only_try {
        let up = prospect.unlabelled.extract_if(.., |pod| labelled.contains(pod));
        prospect.would_serve.extend(up);
    }
    tell(&sights(service, &view, &prospect))?;
    if let Some(why) = refusal(service, &prospect, args.force, &cluster.again) {
        bail!(why);
    }
    let writer = KeyWriter::of_person(cluster.client.clone(), FIELD_MANAGER, only_try);
    writer.add(&ground.hole, None).await.map_err(|error| ground.failed(SERVICES, service, error))?;
    let tried = args.only_try.mark();
    tell(&format!("service/{service} activated{tried}: its selector holds kubervisor/traffic=yes\n"))?;
    warn(later.warning(namespace, service, &cluster.again));
    let next = next(&ground, policy.map(|parsed| parsed.policy.mode), &cluster.again);
    tell(&format!("{}\n", args.only_try.then(next)))
}

fn warn(warning: Option<String>) {
    if let Some(warning) = warning {
        say(&format!("warning: {warning}"));
    }
}

/// Gives every member that has no label the value yes. Returns whom.
async fn label(cluster: &Cluster, ground: &Ground<'_>, tries: &TryArgs) -> anyhow::Result<Vec<Arc<str>>> {
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), &ground.hole.namespace);
    let (params, only_try) = (tries.params(), tries.dry_run.is_some());
    let mut labelled = Vec::new();
    for _ in 0..ROUNDS {
        let view = ground.view()?;
        let lacks = |member: &&Member| member.traffic == Traffic::Unlabelled && !member.terminating;
        let lacking: Vec<_> = view.fleet.members.iter().filter(lacks).collect();
        if lacking.is_empty() {
            break;
        }
        for member in &lacking {
            let mut patch = open_patch();
            patch["metadata"]["uid"] = json!(&*member.uid);
            patch["metadata"]["resourceVersion"] = json!(member.resource_version.to_string());
            let patch = Patch::Merge(patch);
            match call(api.patch_metadata(&member.name, &params, &patch)).await {
                Ok(_) => labelled.push(Arc::clone(&member.name)),
                // It changed or went: the next list tells.
                Err(error) if matches!(error.code(), Some(404 | 409)) => {}
                Err(error) => return Err(ground.failed(PODS, &member.name, error)),
            }
        }
        if only_try {
            break;
        }
        ground.look_again().await?;
    }
    labelled.sort();
    labelled.dedup();
    if !labelled.is_empty() {
        tell(&format!("labelled{}: {}\n", tries.mark(), named(&labelled)))?;
    }
    if !labelled.is_empty() && !only_try {
        // What makes EndpointSlices follows labels by a watch of its own: it must know them before it sees the key.
        tokio::time::sleep(SETTLED).await;
        ground.look_again().await?;
    }
    Ok(labelled)
}

/// Endpoints before and after, and who loses them.
fn sights(service: &str, view: &View, prospect: &Prospect) -> String {
    let Prospect { serving, would_serve, .. } = prospect;
    let mut text =
        format!("service/{service}: {} endpoints now, {} after\n", serving.len(), would_serve.len());
    let after = if would_serve.is_empty() { "nobody".to_owned() } else { named(would_serve) };
    let _ = writeln!(text, "  after: {after}");
    for pod in serving.iter().filter(|pod| !would_serve.contains(pod)) {
        let member = view.fleet.members.iter().find(|member| member.name == *pod);
        let _ = writeln!(text, "  loses its traffic: {pod} ({})", member.map_or("", why_out));
    }
    text
}

fn why_out(member: &Member) -> &'static str {
    match member.traffic {
        Traffic::Unlabelled => "it has no label kubervisor/traffic",
        Traffic::Odd => "its label kubervisor/traffic has another value than yes",
        Traffic::Cut(_) => "it is cut",
        Traffic::KeptOut => "it is kept out by override Cut",
        Traffic::CutByHand => "somebody cut it by hand",
        Traffic::Paused => "it is paused",
        Traffic::Open | Traffic::OpenedByHand(_) => "it is about to be cut",
    }
}

/// Why the key is not added. A Service that would reach nobody is too much for any wish.
fn refusal(service: &str, prospect: &Prospect, force: bool, again: &Again) -> Option<String> {
    let Prospect { serving, would_serve, floor, unlabelled, held } = prospect;
    if would_serve.is_empty() && !serving.is_empty() {
        return Some(format!(
            "with the key, service {service:?} would reach nobody, as no pod carries kubervisor/traffic=yes and is Ready: \
             label them first with --label (--force does not allow this)"
        ));
    }
    if force {
        return None;
    }
    if !unlabelled.is_empty() {
        return Some(format!(
            "{} Ready pods of service {service:?} lack the label and would lose their traffic: label them first with \
             --label, or accept that with --force",
            unlabelled.len()
        ));
    }
    if prospect.below_floor() {
        return Some(format!(
            "{} pods of service {service:?} would serve and the floor is {floor}: wait for more of them to be Ready, or \
             accept that with --force",
            would_serve.len()
        ));
    }
    (!held.is_empty()).then(|| {
        format!(
            "{} pods of service {service:?} are still cut and would lose their traffic: give them back first with \
             `{}`, or accept that with --force",
            held.len(),
            again.command(&["deactivate", service])
        )
    })
}

fn next(ground: &Ground<'_>, mode: Option<Mode>, again: &Again) -> String {
    let (Some(governor), Some(mode)) = (&ground.governor, mode) else {
        return "No KubervisorService names it, so nothing is cut. Write one, and look at it with: kubectl kubervisor check -f \
                FILE"
            .to_owned();
    };
    let governor = name(governor);
    match mode {
        Mode::Active => {
            format!(
                "Cuts take effect from now on. To see them, and what may hold them: {}",
                again.command(&["describe", governor])
            )
        }
        Mode::DryRun => format!(
            "{governor} is in dry run and cuts nobody. To let it act: {}",
            again.command(&["dry-run", governor, "--off"])
        ),
        Mode::Disabled => format!("{governor} is Disabled and cuts nobody: set its mode to Active"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods(count: usize, prefix: &str) -> Vec<Arc<str>> {
        (0..count).map(|number| format!("{prefix}-{number}").into()).collect()
    }

    fn prospect(would_serve: usize, unlabelled: usize, floor: u32) -> Prospect {
        let (would_serve, unlabelled) = (pods(would_serve, "pear"), pods(unlabelled, "bare"));
        let serving = [would_serve.clone(), unlabelled.clone()].concat();
        Prospect { serving, would_serve, floor, unlabelled, held: Vec::new() }
    }

    #[test]
    fn pods_that_would_go_dark_are_a_reason_to_refuse_and_force_accepts_them() {
        let refusal =
            |service: &str, prospect: &Prospect, force| refusal(service, prospect, force, &Again::default());
        let said = |prospect: &Prospect| refusal("pears", prospect, false).unwrap();
        assert!(said(&prospect(4, 1, 3)).contains("--label"));
        assert!(said(&prospect(2, 0, 3)).contains("the floor is 3"));
        let held = Prospect { held: pods(1, "cut"), ..prospect(4, 0, 3) };
        assert!(said(&held).contains("deactivate"));
        for accepted in [prospect(4, 1, 3), prospect(2, 0, 3), held] {
            assert_eq!(refusal("pears", &accepted, true), None);
        }
        assert_eq!(refusal("pears", &prospect(3, 0, 3), false), None);
    }

    #[test]
    fn force_does_not_empty_a_service_that_has_somebody() {
        let refusal = |prospect: &Prospect| refusal("pears", prospect, true, &Again::default());
        assert!(refusal(&prospect(0, 3, 1)).unwrap().contains("reach nobody"));
        assert_eq!(refusal(&prospect(0, 0, 1)), None, "it is empty already");
    }
}
