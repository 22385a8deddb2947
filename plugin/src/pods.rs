//! `cut`, `restore` and `override`: a person's word on one pod, which the controller carries out.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{GetParams, ListParams, Patch, Request};
use kubervisor::api::{TrafficLabel, key, restore_patch};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::args::{OverrideArgs, PodArgs, TryArgs, Word};
use crate::fail::{Ask, Refused, code, unknown};
use crate::freeze::{Holder, holder};
use crate::governs::{governors, nobody};
use crate::objects::{name, text};
use crate::out::print;
use crate::reach::Cluster;

/// A controller does at once what it may do; longer than that, something forbids it.
const DONE_WITHIN: Duration = Duration::from_secs(30);
/// Pause between two looks at the pod.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

impl Word {
    /// As it stands on the pod.
    fn value(self) -> Option<&'static str> {
        match self {
            Self::Never => Some("Never"),
            Self::Cut => Some("Cut"),
            Self::Serve => Some("Serve"),
            Self::Clear => None,
        }
    }
}

/// `cut`
///
/// # Errors
/// Nobody would carry it out, or nobody has yet.
pub async fn cut(cluster: &Cluster, args: &PodArgs) -> anyhow::Result<()> {
    let pod = get(cluster, &args.pod).await?;
    let pod_name = &args.pod;
    anyhow::ensure!(
        text(&pod, "/metadata/deletionTimestamp").is_empty(),
        "pod {pod_name} is going away already"
    );
    if out(&pod) {
        let keep = format!(
            "To keep it out until you take the word back: kubectl kubervisor override {pod_name} cut"
        );
        return print(&format!("pod/{pod_name} is out of traffic already: nothing is changed\n{keep}\n"));
    }
    anyhow::ensure!(
        word(&pod) != Word::Never.value(),
        "somebody said that pod {pod_name} is never cut (override Never): `kubectl kubervisor override {pod_name} clear` \
         takes that back"
    );
    let by = governor(cluster, &pod).await?;
    may_cut(&by)?;
    if let Holder::Nobody(why) = holder(cluster, &args.controller).await? {
        anyhow::bail!(
            "no controller acts ({why}), so nobody would cut pod {pod_name} under the floor: start one, or name its Lease \
             with --controller-namespace and --controller-name"
        );
    }
    anyhow::ensure!(
        !text(&by, "/status/state").is_empty(),
        "no controller has looked at KubervisorService {} yet, which governs pod {pod_name}: does one look after namespace \
         {:?}? (`kubervisor run --namespace`)",
        name(&by),
        cluster.namespace
    );
    let back = format!("To take the word back: kubectl kubervisor restore {pod_name}");
    say(cluster, &pod, Word::Cut.value(), &args.only_try).await?;
    if args.only_try.dry_run.is_some() {
        return print(&format!("pod/{pod_name} override set to Cut{}\n{back}\n", args.only_try.mark()));
    }
    if becomes(cluster, pod_name, out).await? {
        return print(&format!("pod/{pod_name} cut: it gets no new connections, and stays out\n{back}\n"));
    }
    let why = why_not(cluster, name(&by)).await;
    anyhow::bail!("pod {pod_name} is not cut yet{why}; the word stays, and it is cut once it may be. {back}")
}

/// The one KubervisorService that the pod belongs to.
async fn governor(cluster: &Cluster, pod: &Value) -> anyhow::Result<Value> {
    let mut all = governors(cluster, pod).await?;
    match all.len() {
        1 => Ok(all.remove(0)),
        0 => Err(nobody(cluster, pod).await),
        _ => anyhow::bail!(
            "several KubervisorServices govern pod {} ({}), so none of them cuts: let only one select it",
            name(pod),
            all.iter().map(name).collect::<Vec<_>>().join(", ")
        ),
    }
}

fn may_cut(by: &Value) -> anyhow::Result<()> {
    let (name, mode) = (name(by), text(by, "/spec/mode"));
    anyhow::ensure!(
        matches!(mode, "" | "Active"),
        "KubervisorService {name}, which governs it, is in mode {mode} and cuts nothing: `kubectl kubervisor dry-run {name} \
         --off` ends a dry run"
    );
    match text(by, "/status/state") {
        "NotActivated" => anyhow::bail!(
            "the Service of KubervisorService {name} does not hold the traffic key, so a cut would do nothing: `kubectl \
             kubervisor activate {name}`"
        ),
        state @ ("InitFailed" | "ServiceNotAvailable" | "Conflict" | "DryRun") => {
            anyhow::bail!(
                "KubervisorService {name}, which governs it, is {state} and cuts nothing: see `kubectl kubervisor describe {name}`"
            )
        }
        _ => Ok(()),
    }
}

/// What stands in the way, by the status.
async fn why_not(cluster: &Cluster, by: &str) -> String {
    let Ok(object) = crate::objects::one(cluster, by).await else { return String::new() };
    let all = object.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut why = Vec::new();
    if object.pointer("/status/fleet/headroom").and_then(Value::as_i64) == Some(0) {
        why.push(format!("has no headroom, limited by {}", text(&object, "/status/fleet/limitedBy")));
    }
    if let Some(held) = all.iter().find(|c| text(c, "/type") == "Held" && text(c, "/status") == "True") {
        why.push(format!("is held ({})", text(held, "/message")));
    }
    if why.is_empty() { String::new() } else { format!(": KubervisorService {by} {}", why.join(" and ")) }
}

/// `restore`
///
/// # Errors
/// The server's refusal, or the pod is not back in time.
pub async fn restore(cluster: &Cluster, args: &PodArgs) -> anyhow::Result<()> {
    let (pod, name) = (get(cluster, &args.pod).await?, &args.pod);
    let former = word(&pod);
    if !out(&pod) && label(&pod) == TrafficLabel::Yes {
        let said = if former == Some("Cut") {
            say(cluster, &pod, None, &args.only_try).await?;
            format!("was not cut yet: the word Cut is taken back{}", args.only_try.mark())
        } else {
            "is in traffic already: nothing is changed".to_owned()
        };
        return print(&format!("pod/{name} {said}\n"));
    }
    // Of a controller that may not be asked for nothing is known: it is trusted to be there.
    let nobody = match holder(cluster, &args.controller).await {
        Ok(Holder::Nobody(why)) => Some(why),
        Ok(Holder::Lives(_)) | Err(_) => None,
    };
    let governed = !governors(cluster, &pod).await?.is_empty();
    // A label that is missing or odd was made so by hand, and only a hand mends it.
    let by_hand = matches!(label(&pod), TrafficLabel::Absent | TrafficLabel::Odd);
    if nobody.is_some() || !governed || by_hand {
        let why = match nobody {
            Some(why) => format!("no controller acts ({why})"),
            None if !governed => "no KubervisorService governs it".to_owned(),
            None => "its label was changed by hand".to_owned(),
        };
        return restore_by_hand(cluster, &pod, &why, &args.only_try).await;
    }
    say(cluster, &pod, Word::Serve.value(), &args.only_try).await?;
    if args.only_try.dry_run.is_some() {
        return print(&format!("pod/{name} override set to Serve{}\n", args.only_try.mark()));
    }
    let back = becomes(cluster, name, |pod| label(pod) == TrafficLabel::Yes).await?;
    anyhow::ensure!(
        back,
        "pod {name} is not back yet; the word Serve stays on it, and means that it is never cut again: `kubectl \
         kubervisor override {name} clear` takes it back, `kubectl kubervisor explain {name}` says why"
    );
    let now = get(cluster, name).await?;
    // Left there, the word would forbid every later cut; a lasting one from before stays, and so does a newer one.
    let left = former.filter(|former| *former != "Cut");
    if word(&now) == Word::Serve.value() && left != Word::Serve.value() {
        say(cluster, &now, left, &args.only_try).await?;
    }
    let next = match left {
        Some(word) => format!("Its word is {word} again, as before: it is not cut"),
        None => {
            format!("New evidence may cut it again; to forbid that: kubectl kubervisor override {name} never")
        }
    };
    print(&format!("pod/{name} restored{}: its strikes are forgiven\n{next}\n", ready(&now)))
}

/// As `release` does it, for one pod.
async fn restore_by_hand(
    cluster: &Cluster,
    pod: &Value,
    why: &str,
    only_try: &TryArgs,
) -> anyhow::Result<()> {
    let mut patch = restore_patch(Timestamp::now(), None);
    patch["metadata"]["resourceVersion"] = json!(text(pod, "/metadata/resourceVersion"));
    if word(pod) == Some("Cut") {
        patch["metadata"]["annotations"][key::OVERRIDE] = Value::Null;
    }
    write(cluster, name(pod), &patch, only_try).await?;
    print(&format!(
        "pod/{} labelled {}=yes, as {why}{}{}\n",
        name(pod),
        key::TRAFFIC,
        ready(pod),
        only_try.mark()
    ))
}

fn ready(pod: &Value) -> &'static str {
    let all = pod.pointer("/status/conditions").and_then(Value::as_array);
    let is = |c: &Value| text(c, "/type") == "Ready" && text(c, "/status") == "True";
    if all.is_some_and(|all| all.iter().any(is)) {
        ""
    } else {
        " (it is not Ready, so it gets no traffic yet)"
    }
}

/// `override`
///
/// # Errors
/// The server's refusal.
pub async fn word_on(cluster: &Cluster, args: &OverrideArgs) -> anyhow::Result<()> {
    let (pod, name) = (get(cluster, &args.pod).await?, &args.pod);
    let former = word(&pod);
    if former == args.word.value() {
        return print(&format!(
            "pod/{name} override is {} already: nothing is changed\n",
            former.unwrap_or("not set")
        ));
    }
    say(cluster, &pod, args.word.value(), &args.only_try).await?;
    let next = match args.word {
        Word::Never => "It is never cut; where it is out, that goes on as it would.",
        Word::Cut => "It is cut under the floor as soon as a controller may, and stays out.",
        Word::Serve => {
            "It goes back as soon as a controller acts, and is not cut again while the word stands."
        }
        Word::Clear if former == Some("Cut") => "If it was kept out, it goes back.",
        Word::Clear => "It is judged like any other.",
    };
    let did = match args.word.value() {
        Some(word) => format!("override set to {word}"),
        None => format!("override cleared, was {}", former.unwrap_or_default()),
    };
    let back = match args.word {
        Word::Clear => String::new(),
        Word::Never | Word::Cut | Word::Serve => {
            format!(" To take it back: kubectl kubervisor override {name} clear")
        }
    };
    print(&format!("pod/{name} {did}{}\n{next}{back}\n", args.only_try.mark()))
}

fn word(pod: &Value) -> Option<&str> {
    let annotations = pod.pointer("/metadata/annotations")?;
    annotations.get(key::OVERRIDE).and_then(Value::as_str)
}

fn label(pod: &Value) -> TrafficLabel {
    let labels = pod.pointer("/metadata/labels");
    TrafficLabel::of(labels.and_then(|labels| labels.get(key::TRAFFIC)).and_then(Value::as_str))
}

fn out(pod: &Value) -> bool {
    matches!(label(pod), TrafficLabel::No | TrafficLabel::Pause)
}

/// Writes the word, on this very pod and none that took its name.
async fn say(cluster: &Cluster, pod: &Value, word: Option<&str>, only_try: &TryArgs) -> anyhow::Result<()> {
    let uid = text(pod, "/metadata/uid");
    let patch = json!({"metadata": {"uid": uid, "annotations": {key::OVERRIDE: word}}});
    write(cluster, name(pod), &patch, only_try).await
}

async fn write(cluster: &Cluster, pod: &str, patch: &Value, only_try: &TryArgs) -> anyhow::Result<()> {
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let ask = Ask { verb: "patch", resource: "pods", name: pod, namespace: Some(&cluster.namespace) };
    ask.of(api.patch_metadata(pod, &only_try.params(), &Patch::Merge(patch))).await.map(drop)
}

/// Looks until it is so; false where it is not in time.
async fn becomes(cluster: &Cluster, pod: &str, so: impl Fn(&Value) -> bool) -> anyhow::Result<bool> {
    let deadline = Instant::now() + DONE_WITHIN;
    loop {
        if so(&get(cluster, pod).await?) {
            return Ok(true);
        }
        if Instant::now() > deadline {
            return Ok(false);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// A pod; for a name that is not there, the one that may be meant.
/// A pod by its name.
pub(crate) async fn get(cluster: &Cluster, wanted: &str) -> anyhow::Result<Value> {
    cluster.single()?;
    let ask = Ask { verb: "get", resource: "pods", name: wanted, namespace: Some(&cluster.namespace) };
    let path = format!("/api/v1/namespaces/{}/pods", cluster.namespace);
    let request = Request::new(path).get(wanted, &GetParams::default())?;
    match ask.of(cluster.client.request(request)).await {
        Err(error) if code(&error) == Some(404) => {
            let api: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
            // Only to help: without the right to list there is no offer.
            let others =
                api.list_metadata(&ListParams::default()).await.map(|list| list.items).unwrap_or_default();
            let names = others.iter().filter_map(|pod| pod.metadata.name.as_deref());
            Err(Refused::not_found(unknown("pods", wanted, names)).into())
        }
        answer => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(mode: &Value, state: &str) -> Value {
        json!({"metadata": {"name": "pick"}, "spec": {"mode": mode}, "status": {"state": state}})
    }

    #[test]
    fn only_what_is_active_is_asked_to_cut_and_every_refusal_says_what_to_do() {
        assert!(may_cut(&by(&Value::Null, "Running")).is_ok());
        assert!(may_cut(&by(&json!("Active"), "Held")).is_ok(), "it is cut once the gate opens");
        for (mode, state, action) in [
            (json!("DryRun"), "DryRun", "dry-run pick --off"),
            (json!("Disabled"), "Disabled", "mode Disabled"),
            (Value::Null, "NotActivated", "activate pick"),
            (Value::Null, "Conflict", "describe pick"),
            (Value::Null, "DryRun", "describe pick"),
        ] {
            let refused = may_cut(&by(&mode, state)).unwrap_err().to_string();
            assert!(refused.contains(action), "{refused}");
        }
    }
}
