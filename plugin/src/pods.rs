//! `cut`, `restore` and `override`: a person's word on one pod, which the controller carries out.

use std::time::Duration;

use jiff::Timestamp;
use kubervisor::api::{TrafficLabel, key, restore_patch};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::again::Again;
use crate::args::{ControllerArgs, OverrideArgs, PodArgs, TryArgs, Word};
use crate::asked::{Asked, DONE_WITHIN, Ended, Stop, Taken, theirs};
use crate::controller::{Heard, Way};
use crate::freeze::{Holder, holder};
use crate::governs::{governors, nobody};
use crate::objects::{name, text};
use crate::out::tell;
use crate::pod::{get, label, out, say, word, write};
use crate::reach::Cluster;
use crate::words::plain;

/// A controller that is there says within that whether it looks after a pod.
const TOLD_WITHIN: Duration = Duration::from_secs(10);

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
    let pod_name = name(&pod);
    anyhow::ensure!(
        text(&pod, "/metadata/deletionTimestamp").is_empty(),
        "pod {pod_name} is going away already"
    );
    if out(&pod) {
        let keep = if word(&pod) == Word::Cut.value() {
            format!(
                "It stays out by the word Cut. To take that back: {}",
                cluster.again.command(&["restore", pod_name])
            )
        } else {
            let cut = cluster.again.command(&["override", pod_name, "cut"]);
            format!("To keep it out until you take the word back: {cut}")
        };
        return tell(&format!("pod/{pod_name} is out of traffic already: nothing is changed\n{keep}\n"));
    }
    anyhow::ensure!(
        word(&pod) != Word::Never.value(),
        "somebody said that pod {pod_name} is never cut (override Never): `{}` takes that back",
        cluster.again.command(&["override", pod_name, "clear"])
    );
    let by = governor(cluster, &pod).await?;
    may_cut(&by, &cluster.again)?;
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
    let again = cluster.again.of(&args.controller);
    let back = format!("To take the word back: {}", again.command(&["restore", pod_name]));
    let mut stop = Stop::heard()?;
    say(cluster, &pod, Word::Cut.value(), &args.only_try).await?;
    if args.only_try.dry_run.is_some() {
        let (tried, then) = (args.only_try.mark(), args.only_try.then(back));
        return tell(&format!("pod/{pod_name} override set to Cut{tried}\n{then}\n"));
    }
    let asked = Asked { cluster, pod: &pod, word: "Cut" };
    match asked.wait(&mut stop, out).await? {
        Ended::Done => {
            tell(&format!("pod/{pod_name} cut: it gets no new connections, and stays out\n{back}\n"))
        }
        Ended::Late => Err(not_cut(&asked, name(&by), &args.controller).await),
        Ended::Stopped => Err(asked.undone(word(&pod)).await),
    }
}

/// What is said where half a minute did not do. The word stays only where something is known to forbid the cut for now:
/// where nobody looks after the pod, it would be cut by whoever comes one day.
async fn not_cut(asked: &Asked<'_>, by: &str, controller: &ControllerArgs) -> anyhow::Error {
    let (cluster, pod) = (asked.cluster, name(asked.pod));
    let again = cluster.again.of(controller);
    let stays = format!(
        "the word stays, and it is cut once it may be. To take the word back: {}",
        again.command(&["restore", pod])
    );
    let why = crate::objects::one(cluster, by).await.ok().and_then(|object| why_not(&object));
    if let Some(why) = why {
        return anyhow::anyhow!("pod {pod} is not cut yet: {why}; {stays}");
    }
    if looked_after(asked, by, controller).await {
        return anyhow::anyhow!(
            "pod {pod} is not cut yet, and `{}` says what forbids it; {stays}",
            again.command(&["explain", pod])
        );
    }
    let former = word(asked.pod);
    match asked.take_back(former).await {
        Err(error) => error,
        Ok(Taken::Others(now)) => anyhow::anyhow!("pod {pod} is not cut: {}", theirs(&now)),
        Ok(Taken::Back(_)) => anyhow::anyhow!(
            "pod {pod} is not cut: its KubervisorService {by} says nothing that forbids it, so no controller seems to look \
             after namespace {:?} (`kubervisor run --namespace`); {}",
            cluster.namespace,
            asked.as_before(former)
        ),
    }
}

/// Whether the controller itself knows this very pod.
async fn looked_after(asked: &Asked<'_>, by: &str, controller: &ControllerArgs) -> bool {
    let Ok(way) = Way::to(asked.cluster, controller) else { return false };
    let path = format!("/explain/{}/{by}/{}", asked.cluster.namespace, name(asked.pod));
    match timeout(TOLD_WITHIN, way.ask(&path)).await {
        Ok(Heard::Told(answer)) => text(&answer, "/pods/0/uid") == text(asked.pod, "/metadata/uid"),
        Ok(Heard::Refused(_) | Heard::Silent(_) | Heard::Unasked(_)) | Err(_) => false,
    }
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

fn may_cut(by: &Value, again: &Again) -> anyhow::Result<()> {
    let (name, mode) = (name(by), text(by, "/spec/mode"));
    anyhow::ensure!(
        matches!(mode, "" | "Active"),
        "KubervisorService {name}, which governs it, is in mode {mode} and cuts nothing: `{}` ends a dry run",
        again.command(&["dry-run", name, "--off"])
    );
    match text(by, "/status/state") {
        "NotActivated" => anyhow::bail!(
            "the Service of KubervisorService {name} does not hold the traffic key, so a cut would do nothing: `{}`",
            again.command(&["activate", name])
        ),
        state @ ("InitFailed" | "ServiceNotAvailable" | "Conflict" | "DryRun") => {
            anyhow::bail!(
                "KubervisorService {name}, which governs it, is {state} and cuts nothing: see `{}`",
                again.command(&["describe", name])
            )
        }
        _ => Ok(()),
    }
}

/// What stands in the way, by the status.
fn why_not(object: &Value) -> Option<String> {
    let all = object.pointer("/status/conditions").and_then(Value::as_array);
    let mut why = Vec::new();
    if object.pointer("/status/fleet/headroom").and_then(Value::as_i64) == Some(0) {
        why.push(format!("has no headroom, limited by {}", text(object, "/status/fleet/limitedBy")));
    }
    let holds = |c: &&Value| text(c, "/type") == "Held" && text(c, "/status") == "True";
    if let Some(held) = all.and_then(|all| all.iter().find(holds)) {
        // In it are the words of whoever holds.
        why.push(format!("is held ({})", plain(text(held, "/message"))));
    }
    (!why.is_empty()).then(|| format!("KubervisorService {} {}", name(object), why.join(" and ")))
}

/// `restore`
///
/// # Errors
/// The server's refusal, or the pod is not back in time.
pub async fn restore(cluster: &Cluster, args: &PodArgs) -> anyhow::Result<()> {
    let pod = get(cluster, &args.pod).await?;
    if !out(&pod) && label(&pod) == TrafficLabel::Yes {
        return in_traffic(cluster, &pod, &args.only_try).await;
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
    by_controller(cluster, &pod, &args.only_try).await
}

/// There is nothing to restore; a word that stands is told, or taken back where it would cut the pod.
async fn in_traffic(cluster: &Cluster, pod: &Value, only_try: &TryArgs) -> anyhow::Result<()> {
    let name = name(pod);
    let clear = format!("To take that back: {}", cluster.again.command(&["override", name, "clear"]));
    let said = match word(pod) {
        Some("Cut") => {
            say(cluster, pod, None, only_try).await?;
            format!("was not cut yet: the word Cut is taken back{}", only_try.mark())
        }
        Some(word @ ("Serve" | "Never")) => {
            format!("is in traffic already: nothing is changed\nIts word is {word}: it is never cut. {clear}")
        }
        Some(_) | None => "is in traffic already: nothing is changed".to_owned(),
    };
    tell(&format!("pod/{name} {said}\n"))
}

/// By the word Serve, which does not outlast the wait: it would forbid every later cut. A lasting word from before stays.
async fn by_controller(cluster: &Cluster, pod: &Value, only_try: &TryArgs) -> anyhow::Result<()> {
    let (name, former) = (name(pod), word(pod));
    let mut stop = Stop::heard()?;
    say(cluster, pod, Word::Serve.value(), only_try).await?;
    if only_try.dry_run.is_some() {
        let (tried, then) = (only_try.mark(), only_try.then(String::new()));
        return tell(&format!("pod/{name} override set to Serve{tried}\n{then}\n"));
    }
    let asked = Asked { cluster, pod, word: "Serve" };
    let ended = asked.wait(&mut stop, |pod| label(pod) == TrafficLabel::Yes).await?;
    if ended == Ended::Stopped {
        return Err(asked.undone(former).await);
    }
    let left = former.filter(|former| *former != "Cut");
    let (Taken::Back(meta) | Taken::Others(meta)) = &asked.take_back(left).await?;
    if label(meta) != TrafficLabel::Yes {
        anyhow::ensure!(
            word(meta) == left,
            "pod {name} is not back within {DONE_WITHIN:?}: {}",
            theirs(meta)
        );
        let why = format!(
            "no controller gave it back within {DONE_WITHIN:?} (does one look after namespace {:?}?)",
            cluster.namespace
        );
        return restore_by_hand(cluster, &get(cluster, name).await?, &why, only_try).await;
    }
    let next = match word(meta) {
        now if now != left => theirs(meta),
        Some(word) => format!("Its word is {} again, as before: it is not cut", plain(word)),
        None => {
            let never = cluster.again.command(&["override", name, "never"]);
            format!("New evidence may cut it again; to forbid that: {never}")
        }
    };
    let ready = ready(&get(cluster, name).await?);
    tell(&format!("pod/{name} restored{ready}: its strikes are forgiven\n{next}\n"))
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
    tell(&format!(
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
    let pod = get(cluster, &args.pod).await?;
    let (name, former) = (name(&pod), word(&pod));
    if former == args.word.value() {
        return tell(&format!(
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
            format!(" To take it back: {}", cluster.again.command(&["override", name, "clear"]))
        }
    };
    let then = args.only_try.then(format!("{next}{back}"));
    tell(&format!("pod/{name} {did}{}\n{then}\n", args.only_try.mark()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(mode: &Value, state: &str) -> Value {
        json!({"metadata": {"name": "pick"}, "spec": {"mode": mode}, "status": {"state": state}})
    }

    #[test]
    fn only_what_is_active_is_asked_to_cut_and_every_refusal_says_what_to_do() {
        assert!(may_cut(&by(&Value::Null, "Running"), &Again::default()).is_ok());
        assert!(
            may_cut(&by(&json!("Active"), "Held"), &Again::default()).is_ok(),
            "it is cut once the gate opens"
        );
        for (mode, state, action) in [
            (json!("DryRun"), "DryRun", "dry-run pick --off"),
            (json!("Disabled"), "Disabled", "mode Disabled"),
            (Value::Null, "NotActivated", "activate pick"),
            (Value::Null, "Conflict", "describe pick"),
            (Value::Null, "DryRun", "describe pick"),
        ] {
            let refused = may_cut(&by(&mode, state), &Again::default()).unwrap_err().to_string();
            assert!(refused.contains(action), "{refused}");
        }
    }

    #[test]
    fn what_stands_in_the_way_is_told_without_what_moves_a_cursor() {
        let held = json!({"type": "Held", "status": "True", "message": "held: \u{1b}[31mred"});
        let status = json!({"fleet": {"headroom": 0, "limitedBy": "floor"}, "conditions": [held]});
        let object = json!({"metadata": {"name": "pick"}, "status": status});
        let told = "KubervisorService pick has no headroom, limited by floor and is held (held:  [31mred)";
        assert_eq!(why_not(&object).as_deref(), Some(told));
        assert_eq!(why_not(&json!({"status": {"fleet": {"headroom": 2}}})), None);
    }
}
