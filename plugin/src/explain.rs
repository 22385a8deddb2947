//! `explain`: why a pod is out of traffic, or why it is not.
//!
//! Takes a pod's name; finds its KubervisorService and asks the controller. Where that does not answer, it tells what the
//! pod's own marks and the stored status say and what one look at the breakers' sources gives, and that it is only that.
//!
//! ```text
//!   route    a breaker's question -> the way to its source, or why there is none
//!   asking   questions -> answers, once, with the caller's rights
//!   look     answers + pods -> what each breaker makes of the pod
//!   marked   the pod's marks, the stored status, the look;  page   for people
//! ```

mod asking;
mod look;
mod marked;
mod page;
mod route;

use jiff::Timestamp;
use kubervisor::api::key;
use serde_json::Value;

use crate::args::ExplainArgs;
use crate::controller::{Heard, Way, explained};
use crate::freeze::acts;
use crate::governs::{governors, nobody};
use crate::objects::{self, name, text};
use crate::out::{columns, formed, print};
use crate::pod;
use crate::reach::Cluster;
use look::Look;
use marked::{Acts, Instead, Marked, Silence};

/// `explain`
///
/// # Errors
/// There is no such pod, no KubervisorService governs it, or the server refuses.
pub async fn run(cluster: &Cluster, args: &ExplainArgs) -> anyhow::Result<()> {
    let way = Way::to(cluster, &args.controller)?;
    let pod = pod::get(cluster, &args.pod).await?;
    let service = governor(cluster, &pod).await?;
    let path = format!("/explain/{}/{service}/{}", cluster.namespace, name(&pod));
    let heard = match way.ask(&path).await {
        Heard::Told(answer) if is_of_another(&answer, &pod) => Heard::Silent(another(&way)),
        heard => heard,
    };
    let silence = match heard {
        Heard::Told(answer) => return print(&told(answer, args)?),
        Heard::Refused(not) => Silence::Refused(not.error),
        Heard::Silent(why) => Silence::Silent(why),
        Heard::Unasked(why) => Silence::Unasked(why),
    };
    let again = cluster.again.of(&args.controller);
    let mut instead = Instead { silence, acts: Acts::Yes("it answers".to_owned()), look: None, again };
    // One that has refused is there, and has said all that there is to say.
    if !matches!(instead.silence, Silence::Refused(_)) {
        let look = Look::at(cluster, &service, &pod, args);
        let (look, held) = tokio::join!(look, acts(cluster, &args.controller));
        (instead.look, instead.acts) = (Some(look), held.into());
    }
    // Only to say more: the pod's marks are enough.
    let object = objects::one(cluster, &service).await.ok();
    let marked = Marked::of(&pod, &service, object.as_ref(), instead, Timestamp::now());
    print(&match args.output {
        Some(form) => formed(&serde_json::to_value(&marked)?, form)?,
        None => marked.page(Timestamp::now(), columns()),
    })
}

fn another(way: &Way) -> String {
    let place = way.place();
    format!("{place} speaks of another pod of that name: it may be the controller of another cluster")
}

/// An address that was right for one cluster is easily kept for the next, where a StatefulSet has pods of the same names.
fn is_of_another(answer: &Value, pod: &Value) -> bool {
    let told = text(answer, "/pods/0/uid");
    !told.is_empty() && told != text(pod, "/metadata/uid")
}

fn told(answer: Value, args: &ExplainArgs) -> anyhow::Result<String> {
    if let Some(form) = args.output {
        return formed(&answer, form);
    }
    let explained = explained(answer)?;
    let pod =
        explained.pods.first().ok_or_else(|| anyhow::anyhow!("the controller's answer has no pod in it"))?;
    Ok(page::page(&explained, pod, Timestamp::now(), columns()))
}

/// The KubervisorService that governs the pod: the one whose name it bears, or else the oldest one whose Service selects
/// it, which has the say of several.
async fn governor(cluster: &Cluster, pod: &Value) -> anyhow::Result<String> {
    let label = pod["metadata"]["labels"][key::NAME].as_str().filter(|name| !name.is_empty());
    if let Some(label) = label {
        return Ok(label.to_owned());
    }
    let all = governors(cluster, pod).await?;
    let born = |object: &&Value| {
        ["/metadata/creationTimestamp", "/metadata/uid"].map(|pointer| text(object, pointer).to_owned())
    };
    match all.iter().min_by_key(born) {
        Some(oldest) => Ok(name(oldest).to_owned()),
        None => Err(nobody(cluster, pod).await),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{ControllerArgs, Form};
    use serde_json::json;

    #[test]
    fn an_answer_on_a_pod_of_another_cluster_is_none() {
        let answer = |uid: &str| json!({"version": 1, "pods": [{"name": "pear-0", "uid": uid}]});
        let pod = json!({"metadata": {"name": "pear-0", "uid": "u1"}});
        assert!(is_of_another(&answer("u2"), &pod) && !is_of_another(&answer("u1"), &pod));
        assert!(!is_of_another(&json!({"version": 2}), &pod), "of a form that is not known nothing is said");
    }

    #[test]
    fn an_answer_of_a_newer_form_is_passed_on_to_programs_and_not_shown_to_people() {
        let answer =
            |version| json!({"version": version, "pods": [{"name": "pear-0", "answer": "pear-0 serves"}]});
        let mut args = ExplainArgs {
            pod: "pear-0".into(),
            prometheus_url: None,
            controller: ControllerArgs::default(),
            output: None,
        };
        assert!(
            told(answer(1), &args).unwrap().starts_with("pear-0 serves\n"),
            "fields that are not there are none"
        );
        assert!(told(answer(2), &args).unwrap_err().to_string().contains("update it"));
        args.output = Some(Form::Json);
        assert!(told(answer(2), &args).unwrap().contains("\"version\": 2"));
    }
}
