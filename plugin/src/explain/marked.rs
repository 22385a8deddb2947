//! What a pod's own marks and the stored status say, where the controller does not answer, and one look beside them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kubervisor::api::{
    BreakerStatus, Condition, FleetStatus, KubervisorServiceStatus, Marks, TrafficLabel, key, stamp, traffic,
};
use kubervisor_core::traffic::{Cut, Traffic};
use serde::Serialize;
use serde_json::Value;

use super::look::{Look, Opinion};
use super::page::Page;
use crate::again::Again;
use crate::age;
use crate::freeze::Holder;
use crate::objects::{name, namespace, text};
use crate::table::Table;

/// What came of asking the controller.
#[derive(Debug)]
pub(super) enum Silence {
    /// It has no answer.
    Refused(String),
    /// It gave none.
    Silent(String),
    /// The question did not come to it.
    Unasked(String),
}

/// Whether a controller acts, and how that is known, or why not.
#[derive(Debug, Clone)]
pub(super) enum Acts {
    Yes(String),
    No(String),
    Unknown(String),
}

impl From<anyhow::Result<Holder>> for Acts {
    fn from(held: anyhow::Result<Holder>) -> Self {
        match held {
            Ok(Holder::Lives(holder)) => Self::Yes(format!("{holder} renews the Lease")),
            Ok(Holder::Nobody(why)) => Self::No(why),
            Err(error) => Self::Unknown(error.to_string()),
        }
    }
}

/// What there is in place of the controller's word.
#[derive(Debug)]
pub(super) struct Instead {
    pub(super) silence: Silence,
    pub(super) acts: Acts,
    pub(super) look: Option<Look>,
    pub(super) again: Again,
}

/// A pod by its marks.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Marked {
    version: u32,
    /// None of it is the controller's word.
    from_marks: bool,
    /// Why the controller did not say it.
    silent: String,
    #[serde(skip)]
    silence: &'static str,
    namespace: String,
    name: String,
    pod: String,
    answer: String,
    change: String,
    traffic: &'static str,
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    cut_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cut_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    evidence: Option<String>,
    /// The sums after its cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    budget: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    due_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    restored_at: Option<String>,
    strikes: BTreeMap<String, u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wish: Option<String>,
    /// The stored status, as far as it concerns the pod; empty where it could not be read.
    state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fleet: Option<FleetStatus>,
    conditions: Vec<Condition>,
    breakers: Vec<BreakerStatus>,
    recent: Vec<String>,
    /// Not stored: seen just now, by the caller.
    #[serde(skip_serializing_if = "Option::is_none")]
    look: Option<Look>,
}

fn map(object: &Value, pointer: &str) -> BTreeMap<String, String> {
    object.pointer(pointer).and_then(|found| serde_json::from_value(found.clone()).ok()).unwrap_or_default()
}

impl Silence {
    /// The beginning of its line, and the rest.
    fn told(self) -> (&'static str, String) {
        match self {
            Self::Refused(why) => ("The controller has no explanation", why),
            Self::Silent(why) => ("The controller did not answer", why),
            Self::Unasked(why) => ("The controller was not reached", why),
        }
    }
}

impl Marked {
    /// Of this pod, of the KubervisorService `service`, whose object is given where it could be read.
    pub(super) fn of(
        pod: &Value,
        service: &str,
        object: Option<&Value>,
        instead: Instead,
        now: Timestamp,
    ) -> Self {
        let Instead { silence, acts, look, again } = instead;
        let (silence, silent) = silence.told();
        let (labels, annotations) = (map(pod, "/metadata/labels"), map(pod, "/metadata/annotations"));
        let label = TrafficLabel::of(labels.get(key::TRAFFIC).map(String::as_str));
        let marks = Marks::read(&labels, &annotations).map(|marks| *marks).unwrap_or_default();
        let state = traffic(label, Some(&marks));
        let cut = cut_of(&state).cloned();
        let evidence: Value = annotations
            .get(key::EVIDENCE)
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default();
        let status = object.and_then(|object| serde_json::from_value(object["status"].clone()).ok());
        let status: KubervisorServiceStatus = status.unwrap_or_default();
        let pod_name = name(pod).to_owned();
        let ready = is_ready(pod);
        let opinion = look.as_ref().and_then(Look::opinion);
        let told = Told { pod: &pod_name, state: &state, marks: &marks, ready, opinion, acts: &acts, now };
        let names = |line: &String| line.split([' ', ':']).any(|word| word == pod_name);
        Self {
            version: 1,
            from_marks: true,
            silent,
            silence,
            namespace: namespace(pod).to_owned(),
            name: service.to_owned(),
            answer: told.answer(),
            change: told.change(namespace(pod), &again),
            traffic: state.as_str(),
            ready,
            cut_at: cut.as_ref().and_then(|cut| cut.at).map(stamp),
            cut_by: cut.as_ref().and_then(|cut| cut.breaker.as_ref()).map(ToString::to_string),
            evidence: marks.why.as_ref().map(ToString::to_string),
            budget: evidence["budget"].as_str().map(str::to_owned),
            due_at: cut.as_ref().and_then(|cut| cut.restore_at).map(stamp),
            restored_at: marks.restored_at.map(stamp),
            strikes: marks.strikes.0.iter().map(|(name, k)| (name.to_string(), *k)).collect(),
            wish: annotations.get(key::OVERRIDE).cloned(),
            state: status.state.map(|state| state.as_str().to_owned()).unwrap_or_default(),
            fleet: status.fleet,
            conditions: status.conditions.into_iter().filter(stops).collect(),
            breakers: status.breakers,
            recent: status.recent.into_iter().filter(names).collect(),
            pod: pod_name,
            look,
        }
    }

    /// For people. The first line is the answer, the second says how little it is.
    pub(super) fn page(&self, now: Timestamp, width: Option<usize>) -> String {
        let mut page = Page::new(now, width);
        page.sentence(&self.answer);
        page.sentence(&format!("{}: {}", self.silence, self.silent));
        page.sentence(if self.look.as_ref().is_some_and(Look::answered) {
            "So this is what the pod's own marks and the stored status say, and what one look just now, by your own rights, \
             gives: nothing is confirmed by it, and there is no budget of now."
        } else {
            "So this is only what the pod's own marks and the stored status say: no value of now, no budget of now."
        });
        page.sentence(&self.change);
        page.text.push('\n');
        self.marks(&mut page);
        self.status(&mut page);
        if let Some(look) = &self.look {
            page.look(look);
        }
        page.recent(&self.recent);
        page.text
    }

    fn marks(&self, page: &mut Page) {
        page.line("Pod:", &format!("{} in namespace {}", self.pod, self.namespace));
        page.line("Service:", &format!("of KubervisorService {}", self.name));
        page.line("Traffic:", self.traffic);
        page.line("Ready:", if self.ready { "yes" } else { "no" });
        let strikes = self.strikes.iter().map(|(breaker, k)| match breaker.as_str() {
            "" => format!("{k} of the original"),
            breaker => format!("{breaker} {k}"),
        });
        let strikes: Vec<_> = strikes.collect();
        page.line(
            "Strikes:",
            if strikes.is_empty() { "none".to_owned() } else { strikes.join(", ") }.as_str(),
        );
        let ago = |at: &String| format!("{at} ({} ago)", age::since(Some(at), page.now));
        let told = [
            ("Cut at:", self.cut_at.as_ref().map(ago)),
            ("Cut by:", self.cut_by.clone()),
            ("Evidence:", self.evidence.clone()),
            ("Sums then:", self.budget.clone()),
            ("Due:", self.due_at.clone()),
            ("Came back:", self.restored_at.as_ref().map(ago)),
            ("Override:", self.wish.clone()),
        ];
        for (key, value) in told {
            if let Some(value) = value {
                page.line(key, &value);
            }
        }
    }

    fn status(&self, page: &mut Page) {
        page.line("State:", if self.state.is_empty() { "not stored" } else { &self.state });
        if let Some(fleet) = &self.fleet {
            let FleetStatus { members, serving, cut, paused, not_ready, floor, headroom, limited_by, .. } =
                fleet;
            let limit =
                limited_by.as_deref().map(|limit| format!(", limited by {limit}")).unwrap_or_default();
            page.line("Fleet:", &format!(
                "{members} members: {serving} serving, {cut} cut, {paused} paused, {not_ready} not ready; floor {floor}, \
                 headroom {headroom}{limit}"
            ));
        }
        for condition in &self.conditions {
            let message = condition.message.as_deref().unwrap_or_default();
            page.line(&format!("{}:", condition.type_), message);
        }
        if self.breakers.is_empty() {
            return;
        }
        page.line("Breakers:", if self.look.is_some() { "as stored" } else { "" });
        let mut table = Table::new(&["NAME", "HEALTHY", "ANOMALOUS", "UNKNOWN", "ERROR"]);
        for BreakerStatus { name, healthy, anomalous, unknown, error, .. } in &self.breakers {
            let counts = [healthy, anomalous, unknown].map(ToString::to_string);
            table.push([vec![name.clone()], counts.to_vec(), vec![error.clone()]].concat());
        }
        page.table(&table, true);
    }
}

/// Conditions that say why nothing is cut.
fn stops(condition: &Condition) -> bool {
    condition.status == "True"
        && matches!(
            &*condition.type_,
            "Held" | "InitFailed" | "ServiceNotAvailable" | "Failed" | "FloorReached" | "Inert"
        )
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|c| text(c, "/type") == "Ready" && text(c, "/status") == "True")
}

fn cut_of(state: &Traffic) -> Option<&Cut> {
    match state {
        Traffic::Cut(cut) | Traffic::OpenedByHand(cut) => Some(cut),
        Traffic::Unlabelled
        | Traffic::Open
        | Traffic::KeptOut
        | Traffic::CutByHand
        | Traffic::Paused
        | Traffic::Odd => None,
    }
}

/// What the sentences are made of.
struct Told<'a> {
    pod: &'a str,
    state: &'a Traffic,
    marks: &'a Marks,
    ready: bool,
    /// Of one look.
    opinion: Option<Opinion>,
    acts: &'a Acts,
    now: Timestamp,
}

impl Told<'_> {
    fn answer(&self) -> String {
        let Self { pod, state, marks, ready, opinion, .. } = self;
        let because = marks.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        match state {
            Traffic::Cut(cut) => self.cut(cut, &because),
            Traffic::KeptOut => format!("{pod} is out because a person asked for it (override Cut)"),
            Traffic::CutByHand => format!(
                "{pod} is out by a person's hand: kubervisor/traffic=no stands on it without marks of a breaker"
            ),
            Traffic::Paused => format!("{pod} is paused, for people to look at it{because}"),
            Traffic::Odd => format!("{pod} has a value of kubervisor/traffic that is none of Kubervisor's"),
            Traffic::Unlabelled => format!(
                "{pod} has no label kubervisor/traffic: a Service that holds the key does not reach it"
            ),
            Traffic::Open | Traffic::OpenedByHand(_) if !ready => {
                format!("{pod} is not cut: it is not Ready, and gets no traffic for that reason alone")
            }
            Traffic::Open | Traffic::OpenedByHand(_) => match opinion {
                None => format!("{pod} is not cut, by its marks; why, only the controller knows"),
                Some(Opinion::Ill(ill)) => {
                    format!("{pod} is not cut, by its marks, although {ill}: why, only the controller knows")
                }
                Some(Opinion::Well(well)) => format!("{pod} is not cut, by its marks, and {well}"),
            },
        }
    }

    fn cut(&self, cut: &Cut, because: &str) -> String {
        let since = cut.at.map(|at| format!(" since {}", stamp(at))).unwrap_or_default();
        let by = cut.breaker.as_ref().map(|breaker| format!(" by breaker {breaker}")).unwrap_or_default();
        let end = match cut.restore_at {
            Some(at) if at > self.now => format!("; it is due back {}, if a controller runs then", stamp(at)),
            Some(at) => format!("; its time was over {}, and it waits for a controller", stamp(at)),
            None => "; when it is due back, only a controller knows".to_owned(),
        };
        let opinion = match &self.opinion {
            Some(Opinion::Ill(text) | Opinion::Well(text)) => format!("; {text}"),
            None => String::new(),
        };
        format!("{} is cut{since}{by}{because}{end}{opinion}", self.pod)
    }

    fn change(&self, namespace: &str, again: &Again) -> String {
        let pod = self.pod;
        let label = again.kubectl(&["label", "pod", pod, "kubervisor/traffic=yes", "--overwrite"]);
        match self.state {
            Traffic::Cut(_) => format!(
                "A controller must run for it to come back by itself; without one: {}, or {label}",
                again.command(&["release", "-n", namespace])
            ),
            Traffic::KeptOut => format!(
                "It comes back once the word is taken back ({}) and a controller runs",
                again.command(&["override", pod, "clear"])
            ),
            Traffic::CutByHand | Traffic::Paused | Traffic::Odd | Traffic::Unlabelled => {
                format!("{label} puts it into traffic")
            }
            Traffic::Open | Traffic::OpenedByHand(_) => match self.acts {
                Acts::Yes(how) => format!("A controller acts ({how}), and cuts it once it finds reason to"),
                Acts::No(why) => format!("Nothing is cut while no controller runs ({why})"),
                Acts::Unknown(why) => {
                    format!("It is not known whether a controller runs, which may cut it: {why}")
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Reach;
    use crate::explain::look::tests::look;
    use crate::testing::{now, objects};
    use serde_json::json;

    fn pod(labels: &Value, annotations: &Value) -> Value {
        json!({"metadata": {"name": "checkout-7d9f-4ttpq", "namespace": "shop", "labels": labels, "annotations": annotations},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]}})
    }

    fn instead(why: &str, look: Option<Look>) -> Instead {
        let acts = Acts::No("nobody holds the Lease".into());
        Instead { silence: Silence::Silent(why.into()), acts, look, again: Again::default() }
    }

    fn cut() -> Value {
        pod(
            &json!({"kubervisor/traffic": "no", "kubervisor/name": "checkout", "kubervisor/strategy": "error-rate"}),
            &json!({"breaker/breakAt": "2026-03-01T11:59:10Z", "breaker/retryCount": "1",
                "kubervisor.k8s.io/restore-at": "2026-03-01T12:01:10Z", "kubervisor.k8s.io/strikes": "{\"error-rate\":1}",
                "kubervisor.k8s.io/evidence": "{\"breaker\":\"error-rate\",\"why\":\"bad 62 % > 30 % of 412\",\"severity\":2.07,\"budget\":\"of 10: 7 serve (floor 5), 2 out (at most 3)\"}"}),
        )
    }

    #[test]
    fn a_cut_pod_while_the_controller_is_away() {
        let marked = Marked::of(
            &cut(),
            "checkout",
            Some(&objects()[0]),
            instead("no controller is ready behind Service kubervisor/kubervisor (no endpoints)", None),
            now(),
        );
        insta::assert_snapshot!(marked.page(now(), None));
        let read = serde_json::to_value(&marked).unwrap();
        assert_eq!(
            (&read["fromMarks"], &read["cutBy"], &read["traffic"]),
            (&json!(true), &json!("error-rate"), &json!("Cut"))
        );
    }

    #[test]
    fn a_cut_pod_while_the_controller_is_away_and_its_sources_are_not() {
        let look = look("Active", "uid-of-checkout-0");
        let marked =
            Marked::of(&cut(), "checkout", Some(&objects()[0]), instead("nothing answers", look), now());
        insta::assert_snapshot!(marked.page(now(), None));
        let read = serde_json::to_value(&marked).unwrap();
        assert_eq!(read["look"]["findings"][0]["verdict"], "Anomalous");
    }

    #[test]
    fn a_pod_that_serves_is_told_what_one_look_makes_of_it() {
        let open = pod(&json!({"kubervisor/traffic": "yes"}), &json!({}));
        let of = |uid| Marked::of(&open, "checkout", None, instead("", look("Active", uid)), now()).answer;
        let begins = "checkout-7d9f-4ttpq is not cut, by its marks, a";
        let ill = of("uid-of-checkout-0");
        assert!(
            ill.starts_with(begins) && ill.ends_with("spreads away): why, only the controller knows"),
            "{ill}"
        );
        let well = of("uid-of-checkout-1");
        assert!(
            well.starts_with(begins) && well.ends_with("nothing wrong with it, as far as it could be judged"),
            "{well}"
        );
    }

    #[test]
    fn a_pod_that_serves_while_the_controller_is_away_is_not_explained_by_guesses() {
        let open = pod(&json!({"kubervisor/traffic": "yes"}), &json!({}));
        let marked = Marked::of(&open, "checkout", None, instead("nothing answers", None), now());
        assert_eq!(
            marked.answer,
            "checkout-7d9f-4ttpq is not cut, by its marks; why, only the controller knows"
        );
        let page = marked.page(now(), None);
        assert!(page.contains("The controller did not answer: nothing answers\n"), "{page}");
        assert!(page.contains("Nothing is cut while no controller runs (nobody holds the Lease)"), "{page}");
    }

    #[test]
    fn a_controller_that_only_cannot_be_asked_is_not_said_to_be_away() {
        let open = pod(&json!({"kubervisor/traffic": "yes"}), &json!({}));
        let page = |acts, silence| {
            let instead = Instead { silence, acts, ..instead("", None) };
            Marked::of(&open, "checkout", None, instead, now()).page(now(), None)
        };
        let lives = Ok(Holder::Lives("kubervisor-0".into()));
        let said = page(lives.into(), Silence::Unasked("you lack the right".into()));
        assert!(said.contains("The controller was not reached: you lack the right\n"), "{said}");
        assert!(said.contains("A controller acts (kubervisor-0 renews the Lease), and cuts it"), "{said}");
        let said = page(Err(anyhow::anyhow!("no right")).into(), Silence::Unasked(String::new()));
        assert!(
            said.contains("not known whether a controller runs") && !said.contains("Nothing is cut"),
            "{said}"
        );
        let said = page(Acts::Yes("it answers".into()), Silence::Refused("not judged yet".into()));
        assert!(said.contains("The controller has no explanation: not judged yet\n"), "{said}");
    }

    #[test]
    fn a_way_out_can_be_pasted() {
        let reach =
            Reach { context: Some("prod".into()), namespace: Some("shop".into()), ..Reach::default() };
        let instead = Instead { again: Again::new(&reach), ..instead("", None) };
        let change = Marked::of(&cut(), "checkout", None, instead, now()).change;
        assert!(
            change.contains("kubectl kubervisor release -n shop --context prod, or kubectl label pod "),
            "{change}"
        );
        assert!(change.ends_with("--overwrite -n shop --context prod"), "{change}");
    }

    #[test]
    fn every_state_has_its_sentence() {
        let of = |labels: Value, annotations: Value| {
            Marked::of(&pod(&labels, &annotations), "checkout", None, instead("", None), now()).answer
        };
        let label = |value: &str| json!({"kubervisor/traffic": value});
        let none = || json!({});
        assert!(of(label("pause"), none()).contains("is paused"));
        assert!(of(label("maybe"), none()).contains("none of Kubervisor's"));
        assert!(of(label("no"), none()).contains("by a person's hand"));
        assert!(
            of(json!({"kubervisor/traffic": "no", "kubervisor/name": "checkout"}), none())
                .contains("override Cut")
        );
        assert!(of(none(), none()).contains("has no label"));
        let late = json!({"breaker/breakAt": "2026-03-01T09:00:00Z", "kubervisor.k8s.io/restore-at": "2026-03-01T09:05:00Z"});
        assert!(
            of(label("no"), late)
                .ends_with("its time was over 2026-03-01T09:05:00Z, and it waits for a controller")
        );
    }
}
