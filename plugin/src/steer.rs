//! `hold`, `resume` and `dry-run`: changes to the spec of a KubervisorService.
//!
//! Each reads, changes and writes with the version that it read: lists of a custom resource are replaced as a whole,
//! and somebody else's hold must not be lost.

use jiff::Timestamp;
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use kubervisor::api::stamp;
use serde_json::{Value, json};

use crate::again::Again;
use crate::args::{DryRun, DryRunArgs, HoldArgs, ResumeArgs, TryArgs};
use crate::fail::{Ask, RESOURCE, code, nearest};
use crate::objects::{bare_name, kind, one, text};
use crate::out::{say, tell};
use crate::reach::Cluster;

/// Our name in the server's field ownership and audit log.
pub const FIELD_MANAGER: &str = "kubectl-kubervisor";
/// Somebody who writes the same object again and again is a loop; it is not fought.
const TRIES: usize = 5;
/// Programs that put objects back to what a repository says, by parts of their names as field managers.
const KEEPERS: [&str; 8] =
    ["helm", "argocd", "kustomize-controller", "flux", "fleet-agent", "config-sync", "kapp", "terraform"];

/// What is to be written, and what is said of it; without a patch nothing is.
struct Edit {
    patch: Option<Value>,
    did: String,
    next: String,
}

impl TryArgs {
    /// Parameters of a write.
    #[must_use]
    pub fn params(&self) -> PatchParams {
        PatchParams {
            dry_run: self.dry_run.is_some(),
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        }
    }

    /// What kubectl puts behind a line about a write that is not kept.
    #[must_use]
    pub fn mark(&self) -> &'static str {
        if self.dry_run.is_some() { " (server dry run)" } else { "" }
    }

    /// What is to be said of what holds from now on: nothing does after a write that is not kept.
    #[must_use]
    pub fn then(&self, next: String) -> String {
        match self.dry_run {
            Some(DryRun::Server) => "Nothing is kept of it. To do it: the same without --dry-run".to_owned(),
            None => next,
        }
    }
}

/// `hold`
///
/// # Errors
/// The server's refusal.
pub async fn hold(cluster: &Cluster, args: &HoldArgs) -> anyhow::Result<()> {
    let until = args.lasts.map(jiff::SignedDuration::try_from).transpose()?;
    let until = until.map(|lasts| Timestamp::now().checked_add(lasts)).transpose()?.map(stamp);
    let edit =
        |object: &Value| Ok(held(object, &args.reason, until.as_deref(), Timestamp::now(), &cluster.again));
    change(cluster, &args.name, &args.only_try, edit).await
}

/// One hold for each reason: said again, it lasts as said last. Those that are over make room: there may be sixteen.
fn held(object: &Value, reason: &str, until: Option<&str>, now: Timestamp, again: &Again) -> Edit {
    let mut holds = holds(object);
    let over = |hold: &Value| text(hold, "/until").parse::<Timestamp>().is_ok_and(|until| until < now);
    holds.retain(|hold| text(hold, "/reason") != reason && !over(hold));
    let mut hold = json!({"reason": reason});
    let mut lasts = "until it is taken back".to_owned();
    if let Some(until) = until {
        hold["until"] = json!(until);
        lasts = format!("until {until}");
    }
    holds.push(hold);
    Edit {
        patch: Some(json!({"spec": {"holds": holds}})),
        did: format!("held {lasts}: {reason}"),
        next: format!(
            "Nothing is cut, paused or evicted meanwhile; returns go on. To end it: {}",
            again.command(&with_reason(
                text(object, "/metadata/name"),
                reason,
                &format!("--reason={reason}")
            ))
        ),
    }
}

/// What begins with a dash would be read as a flag.
fn with_reason<'a>(name: &'a str, reason: &'a str, joined: &'a str) -> Vec<&'a str> {
    if reason.starts_with('-') {
        vec!["resume", name, joined]
    } else {
        vec!["resume", name, "--reason", reason]
    }
}

fn holds(object: &Value) -> Vec<Value> {
    object.pointer("/spec/holds").and_then(Value::as_array).cloned().unwrap_or_default()
}

/// `resume`
///
/// # Errors
/// The server's refusal, or no hold with that reason.
pub async fn resume(cluster: &Cluster, args: &ResumeArgs) -> anyhow::Result<()> {
    let edit = |object: &Value| resumed(object, args.reason.as_deref(), &cluster.again);
    change(cluster, &args.name, &args.only_try, edit).await
}

fn resumed(object: &Value, reason: Option<&str>, again: &Again) -> anyhow::Result<Edit> {
    let name = text(object, "/metadata/name");
    let see = again.command(&["describe", name]);
    let (ended, left): (Vec<_>, Vec<_>) = holds(object)
        .into_iter()
        .partition(|hold| reason.is_none_or(|reason| text(hold, "/reason") == reason));
    let reasons = |holds: &[Value]| {
        holds.iter().map(|hold| format!("{:?}", text(hold, "/reason"))).collect::<Vec<_>>().join(", ")
    };
    match (reason, ended.is_empty()) {
        (Some(reason), true) => anyhow::bail!(
            "{name} has no hold with the reason {reason:?}: it has {}",
            if left.is_empty() { "none".to_owned() } else { reasons(&left) }
        ),
        (None, true) => Ok(Edit {
            patch: None,
            did: "has no hold: nothing is changed".to_owned(),
            next: format!("What else may hold it: {see}"),
        }),
        (_, false) => Ok(Edit {
            patch: Some(json!({"spec": {"holds": if left.is_empty() { Value::Null } else { json!(left) }}})),
            did: format!("resumed: ended {}", reasons(&ended)),
            next: match left.as_slice() {
                [] => format!("It acts again, unless another gate is closed: {see}"),
                left => format!("Still held by {}", reasons(left)),
            },
        }),
    }
}

/// `dry-run`
///
/// # Errors
/// The server's refusal, or no such breaker.
pub async fn dry_run(cluster: &Cluster, args: &DryRunArgs) -> anyhow::Result<()> {
    let edit = |object: &Value| switched(object, args.on, args.breaker.as_deref(), &cluster.again);
    change(cluster, &args.name, &args.only_try, edit).await
}

fn switched(object: &Value, on: bool, breaker: Option<&str>, again: &Again) -> anyhow::Result<Edit> {
    let (patch, what) = match breaker {
        Some(breaker) => (one_breaker(object, breaker, on)?, format!("breaker {breaker} ")),
        None => (whole(object, on, again)?, String::new()),
    };
    let word = if on { "in dry run" } else { "no longer in dry run" };
    let already = if patch.is_none() { " already: nothing is changed" } else { "" };
    let next = if on {
        let see = again.command(&["describe", text(object, "/metadata/name")]);
        let back = if patch.is_some() { "Pods that are cut go back; what" } else { "What" };
        format!("{back} it would do: {see}")
    } else {
        switched_off(object, breaker, again)
    };
    Ok(Edit { patch, did: format!("{what}{word}{already}"), next })
}

/// What holds once this breaker, or the whole, is no longer in dry run.
fn switched_off(object: &Value, breaker: Option<&str>, again: &Again) -> String {
    let (name, mode) = (text(object, "/metadata/name"), text(object, "/spec/mode"));
    let see = again.command(&["describe", name]);
    match (breaker, mode) {
        (Some(_), "DryRun") => {
            let off = again.command(&["dry-run", name, "--off"]);
            return format!(
                "It still cuts nothing, as {name} itself is in dry run (spec.mode is DryRun): {off}"
            );
        }
        (Some(_), "Disabled") => {
            return format!(
                "It still cuts nothing, as {name} itself is switched off (spec.mode is Disabled): {see}"
            );
        }
        _ => {}
    }
    // A status of before the change tells nothing of a dry run that ends by it.
    let shut = match text(object, "/status/state") {
        "DryRun" if mode != "DryRun" => Some("the controller runs with --dry-run"),
        "NotActivated" => Some("the selector of its Service does not hold the key (NotActivated)"),
        "Held" => Some("something holds it (Held)"),
        "InitFailed" => Some("its spec is refused (InitFailed)"),
        "ServiceNotAvailable" => Some("it has no usable Service (ServiceNotAvailable)"),
        "Conflict" => Some("another KubervisorService governs the same pods (Conflict)"),
        "" => Some("no controller has looked at it yet"),
        _ => None,
    };
    if let Some(shut) = shut {
        return format!("It still cuts nothing, by the status last stored: {shut}: {see}");
    }
    let all = object.pointer("/spec/breakers").and_then(Value::as_array).into_iter().flatten();
    let shows = all.filter(|b| breaker.is_none() && text(b, "/mode") == "DryRun");
    let shows: Vec<_> = shows.map(|b| text(b, "/name")).collect();
    let get = again.command(&["get", name, "-w"]);
    match shows.as_slice() {
        [] => format!("It acts from now on; what it does: {get}"),
        [first, ..] => format!(
            "It acts from now on, but for what is in dry run by itself ({}), which ends so: {}",
            shows.join(", "),
            again.command(&["dry-run", name, "--off", "--breaker", first])
        ),
    }
}

fn whole(object: &Value, on: bool, again: &Again) -> anyhow::Result<Option<Value>> {
    let (name, mode) = (text(object, "/metadata/name"), text(object, "/spec/mode"));
    anyhow::ensure!(
        mode != "Disabled",
        "{name} is Disabled, which is neither: set spec.mode to what you want (`{}`)",
        again.kubectl(&["edit", "kvs", name])
    );
    let wanted = if on { "DryRun" } else { "Active" };
    let is = if mode.is_empty() { "Active" } else { mode };
    Ok((is != wanted).then(|| json!({"spec": {"mode": wanted}})))
}

/// The whole list is written: a merge patch knows no other way.
fn one_breaker(object: &Value, breaker: &str, on: bool) -> anyhow::Result<Option<Value>> {
    let mut breakers =
        object.pointer("/spec/breakers").and_then(Value::as_array).cloned().unwrap_or_default();
    let names: Vec<_> = breakers.iter().map(|breaker| text(breaker, "/name").to_owned()).collect();
    let Some(found) = breakers.iter_mut().find(|b| text(b, "/name") == breaker) else {
        let meant = nearest(breaker, names.iter().map(String::as_str));
        let meant = meant.map_or_else(|| names.join(", "), |meant| format!("did you mean {meant:?}?"));
        anyhow::bail!("{} has no breaker {breaker:?}: {meant}", text(object, "/metadata/name"));
    };
    if (text(found, "/mode") == "DryRun") == on {
        return Ok(None);
    }
    match (on, found.as_object_mut()) {
        (true, _) => found["mode"] = json!("DryRun"),
        (false, Some(fields)) => drop(fields.remove("mode")),
        (false, None) => {}
    }
    Ok(Some(json!({"spec": {"breakers": breakers}})))
}

/// Reads, edits, writes; once more where somebody else was faster.
async fn change(
    cluster: &Cluster,
    name: &str,
    only_try: &TryArgs,
    edit: impl Fn(&Value) -> anyhow::Result<Edit>,
) -> anyhow::Result<()> {
    let name = bare_name(name)?;
    let api: Api<DynamicObject> = Api::namespaced_with(cluster.client.clone(), &cluster.namespace, &kind());
    let ask = Ask { verb: "patch", resource: RESOURCE, name, namespace: Some(&cluster.namespace) };
    let mut tries = 0;
    loop {
        let object = one(cluster, name).await?;
        let Edit { patch, did, next } = edit(&object)?;
        if let Some(mut patch) = patch.clone() {
            patch["metadata"] = json!({"resourceVersion": text(&object, "/metadata/resourceVersion")});
            tries += 1;
            match ask.of(api.patch(name, &only_try.params(), &Patch::Merge(&patch))).await {
                Err(error) if code(&error) == Some(409) && tries < TRIES => continue,
                answer => answer.map(drop)?,
            }
        }
        let (mark, next) = if patch.is_some() { (only_try.mark(), only_try.then(next)) } else { ("", next) };
        tell(&format!("kubervisorservice.kubervisor.k8s.io/{name} {did}{mark}\n{next}\n"))?;
        if let (Some(_), Some(keeper)) = (patch, keeper(&object)) {
            say(&format!(
                "warning: {keeper} writes this object too and may take the change back: make it there as well"
            ));
        }
        return Ok(());
    }
}

/// Who puts the spec back to what a repository says.
fn keeper(object: &Value) -> Option<&str> {
    let fields = object.pointer("/metadata/managedFields")?.as_array()?;
    let writes_spec = |entry: &&Value| entry.pointer("/fieldsV1/f:spec").is_some();
    let writers = fields.iter().filter(writes_spec).map(|entry| text(entry, "/manager"));
    writers.into_iter().find(|writer| KEEPERS.iter().any(|keeper| writer.to_lowercase().contains(keeper)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{now, objects};

    fn reasons(patch: Option<&Value>) -> Vec<String> {
        let holds = patch.unwrap().pointer("/spec/holds").and_then(Value::as_array).cloned();
        holds.unwrap_or_default().iter().map(|hold| text(hold, "/reason").to_owned()).collect()
    }

    #[test]
    fn a_hold_leaves_those_of_others_and_takes_the_place_of_its_own_reason() {
        let object = &objects()[0];
        let (during, after) = (now(), "2027-03-01T12:00:00Z".parse().unwrap());
        let other = held(object, "storm, Grace", None, during, &Again::default());
        assert_eq!(reasons(other.patch.as_ref()), ["migration, Ada", "storm, Grace"]);
        let longer = held(object, "migration, Ada", Some("2026-03-02T00:00:00Z"), during, &Again::default());
        assert_eq!(reasons(longer.patch.as_ref()), ["migration, Ada"]);
        assert_eq!(longer.patch.unwrap()["spec"]["holds"][0]["until"], "2026-03-02T00:00:00Z");
        let later = held(object, "storm, Grace", None, after, &Again::default());
        assert_eq!(reasons(later.patch.as_ref()), ["storm, Grace"], "one that is over makes room");
    }

    #[test]
    fn the_last_hold_leaves_nothing_behind_and_an_unknown_reason_is_refused_with_those_there_are() {
        let object = &objects()[0];
        assert_eq!(
            resumed(object, None, &Again::default()).unwrap().patch,
            Some(json!({"spec": {"holds": null}}))
        );
        let refused = resumed(object, Some("storm"), &Again::default()).err().unwrap().to_string();
        assert!(refused.contains("\"migration, Ada\""), "{refused}");
        assert_eq!(resumed(&objects()[1], None, &Again::default()).unwrap().patch, None);
    }

    #[test]
    fn a_switch_that_changes_nothing_writes_nothing_and_disabled_is_neither() {
        let [checkout, cart, mut old] = <[Value; 3]>::try_from(objects()).unwrap();
        let switched = |object: &Value, on, breaker| switched(object, on, breaker, &Again::default());
        assert_eq!(switched(&cart, true, None).unwrap().patch, None);
        assert_eq!(switched(&cart, false, None).unwrap().patch, Some(json!({"spec": {"mode": "Active"}})));
        assert_eq!(switched(&checkout, false, None).unwrap().patch, None);
        old["spec"]["mode"] = json!("Disabled");
        assert!(switched(&old, false, None).is_err());
    }

    #[test]
    fn one_breaker_is_switched_and_the_others_stay_as_they_are() {
        let object = &objects()[0];
        let switched = |object: &Value, on, breaker| switched(object, on, breaker, &Again::default());
        let patch = switched(object, false, Some("prices")).unwrap().patch.unwrap();
        let mut wanted = object["spec"]["breakers"].clone();
        wanted[1].as_object_mut().unwrap().remove("mode");
        assert_eq!(patch["spec"]["breakers"], wanted);
        let refused = switched(object, true, Some("price")).err().unwrap().to_string();
        assert_eq!(refused, "checkout has no breaker \"price\": did you mean \"prices\"?");
    }

    #[test]
    fn a_dry_run_that_ends_promises_no_more_than_what_is_open() {
        let [mut checkout, mut cart, _] = <[Value; 3]>::try_from(objects()).unwrap();
        let off = |object: &Value, breaker| switched(object, false, breaker, &Again::default()).unwrap().next;
        let whole = off(&cart, Some("named"));
        assert!(whole.contains("spec.mode is DryRun") && whole.ends_with("dry-run cart --off"), "{whole}");
        assert!(off(&checkout, Some("prices")).contains("something holds it (Held)"), "it has a hold");
        for (state, why) in
            [("NotActivated", "(NotActivated)"), ("DryRun", "runs with --dry-run"), ("", "no controller")]
        {
            checkout["status"]["state"] = json!(state);
            let said = off(&checkout, None);
            assert!(said.starts_with("It still cuts nothing") && said.contains(why), "{said}");
        }
        checkout["status"]["state"] = json!("Running");
        let partly = off(&checkout, None);
        assert!(partly.contains("(prices)") && partly.ends_with("--off --breaker prices"), "{partly}");
        assert!(off(&checkout, Some("prices")).starts_with("It acts from now on; "), "nothing else is shut");
        assert!(off(&cart, None).starts_with("It acts from now on; "), "its state was the mode's");
        cart["spec"]["mode"] = json!("Disabled");
        assert!(off(&cart, Some("named")).contains("spec.mode is Disabled"));
    }

    #[test]
    fn a_reason_is_pasted_as_it_was_given() {
        let next = |reason| held(&objects()[0], reason, None, now(), &Again::default()).next;
        assert!(
            next("Ada's turn").ends_with("resume checkout --reason 'Ada'\\''s turn'"),
            "{}",
            next("Ada's turn")
        );
        assert!(next("--later").ends_with("resume checkout --reason=--later"));
    }

    #[test]
    fn whoever_writes_the_spec_from_a_repository_is_named() {
        let by = |writer: &str, fields: Value| {
            let entry = json!({"manager": writer, "fieldsV1": fields});
            json!({"metadata": {"managedFields": [entry]}})
        };
        let spec = json!({"f:spec": {}});
        assert_eq!(keeper(&by("argocd-controller", spec.clone())), Some("argocd-controller"));
        assert_eq!(keeper(&by("Helm", spec.clone())), Some("Helm"));
        assert_eq!(keeper(&by("kubectl-edit", spec)), None);
        assert_eq!(keeper(&by("helm", json!({"f:metadata": {}}))), None);
    }
}
