//! `describe`: one KubervisorService with its fleet, floor, gates, breakers, pods that are out, last acts and Events.
//!
//! Takes the objects, the names of paused pods and the Events, each from one list, and what the controller measured last;
//! gives text.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use jiff::Timestamp;
use kube::api::ListParams;
use kubervisor::api::{BreakerStatus, Condition, CutStatus, FleetStatus, KubervisorServiceStatus};
use serde_json::Value;

use crate::age;
use crate::args::DescribeArgs;
use crate::bar::{bar, legend};
use crate::controller::Way;
use crate::fail::Ask;
use crate::get::nothing;
use crate::objects::{find, name, namespace, pages, text};
use crate::out::{print, say};
use crate::reach::Cluster;
use crate::rules::{Rule, rules};
use crate::table::Table;
use crate::values::{self, Values, worst};
use crate::words::{plain, shows_utf8};

/// Conditions that are wrong when they are True; `Held` has a part of its own.
const WRONG_IF_TRUE: [&str; 8] = [
    "InitFailed",
    "ServiceNotAvailable",
    "Failed",
    "FloorReached",
    "Inert",
    "TemplateLabelMissing",
    "HpaDiluted",
    "SelectorContested",
];
/// Conditions that are wrong when they are False.
const WRONG_IF_FALSE: [&str; 2] = ["Activated", "LabelsComplete"];
/// Events of one object that are shown, the latest.
const EVENTS_MAX: usize = 10;

/// What is asked for beside the objects; an `Err` says why it is not known.
pub struct Beside {
    /// namespace and name of paused pods.
    pub paused: Result<BTreeSet<(String, String)>, String>,
    /// core/v1 Events on KubervisorServices.
    pub events: Result<Vec<Value>, String>,
    /// What the controller says, where one object is described: of several it would be a question for each.
    pub values: Option<Values>,
}

/// `describe`
///
/// # Errors
/// The server's refusal, or names that are not there.
pub async fn run(cluster: &Cluster, args: &DescribeArgs) -> anyhow::Result<()> {
    let found = find(cluster, &args.names, None).await?;
    if found.objects.is_empty() && found.missing.is_empty() {
        say(&nothing(cluster));
    }
    if !found.objects.is_empty() {
        let way = Way::to(cluster, &args.controller)?;
        let beside = beside(cluster, &way, &found.objects).await;
        let (now, utf8) = (Timestamp::now(), shows_utf8());
        let texts = found.objects.iter().map(|object| describe(object, &beside, now, utf8));
        print(&texts.collect::<Vec<_>>().join("\n\n"))?;
    }
    found.whole()
}

/// Two lists at once, whatever the number of objects, and the controller's word on one.
async fn beside(cluster: &Cluster, way: &Way, objects: &[Value]) -> Beside {
    let scope = cluster.scope.as_deref();
    let within = scope.map(|namespace| format!("/namespaces/{namespace}")).unwrap_or_default();
    let ask = |resource| Ask { verb: "list", resource, name: "", namespace: scope };
    let paused = async {
        if !objects.iter().any(|object| object.pointer("/status/fleet/paused").is_some_and(|n| *n != 0)) {
            return Ok(BTreeSet::new());
        }
        let params = ListParams::default().labels("kubervisor/traffic=pause");
        let pods = pages(&cluster.client, ask("pods"), &format!("/api/v1{within}/pods"), params).await?;
        Ok(pods.iter().map(|pod| (namespace(pod).to_owned(), name(pod).to_owned())).collect())
    };
    let events = async {
        let mut fields = "involvedObject.kind=KubervisorService".to_owned();
        if let [only] = objects {
            let _ = write!(fields, ",involvedObject.name={}", name(only));
        }
        let params = ListParams::default().fields(&fields);
        pages(&cluster.client, ask("events"), &format!("/api/v1{within}/events"), params).await
    };
    let values = async {
        match objects {
            [only] => Some(values::of(way, only).await),
            _ => None,
        }
    };
    let (paused, events, values): (anyhow::Result<_>, _, _) = tokio::join!(paused, events, values);
    Beside { paused: paused.map_err(|e| e.to_string()), events: events.map_err(|e| e.to_string()), values }
}

/// All of it.
#[must_use]
pub fn describe(object: &Value, beside: &Beside, now: Timestamp, utf8: bool) -> String {
    let mut page = Page { text: String::new(), now };
    page.own(object, &beside.paused, beside.values.as_ref(), utf8);
    page.events(object, &beside.events);
    page.text
}

/// What the object alone says: nothing is asked for beside it.
#[must_use]
pub fn alone(object: &Value, now: Timestamp, utf8: bool) -> String {
    let any = object.pointer("/status/fleet/paused").is_some_and(|n| *n != 0);
    let paused =
        if any { Err("`kubectl kubervisor describe` says it".to_owned()) } else { Ok(BTreeSet::new()) };
    let mut page = Page { text: String::new(), now };
    page.own(object, &paused, None, utf8);
    page.text
}

/// Its status.
#[must_use]
pub fn status(object: &Value) -> KubervisorServiceStatus {
    let raw = object.get("status").cloned().unwrap_or_default();
    // One that the original wrote has other shapes of the same names at worst: what cannot be read is not shown.
    serde_json::from_value(raw).unwrap_or_default()
}

/// Conditions that tell of something wrong.
pub fn wrong(conditions: &[Condition]) -> impl Iterator<Item = &Condition> {
    conditions.iter().filter(|c| {
        (c.status == "True" && WRONG_IF_TRUE.contains(&&*c.type_))
            || (c.status == "False" && WRONG_IF_FALSE.contains(&&*c.type_))
    })
}

struct Page {
    text: String,
    now: Timestamp,
}

impl Page {
    fn own(
        &mut self,
        object: &Value,
        paused: &Result<BTreeSet<(String, String)>, String>,
        values: Option<&Values>,
        utf8: bool,
    ) {
        let status = status(object);
        self.head(object, &status, utf8);
        self.gates(&status.conditions);
        self.wrong(&status.conditions);
        self.breakers(object, &status.breakers, values);
        self.out(object, &status, paused);
        self.recent(&status.recent);
    }

    fn line(&mut self, key: &str, value: &str) {
        let _ = writeln!(self.text, "{}", format!("{key:<12}{}", plain(value)).trim_end());
    }

    /// A table, two spaces in.
    fn table(&mut self, table: &Table) {
        for line in table.text(true).lines() {
            let _ = writeln!(self.text, "  {line}");
        }
    }

    fn head(&mut self, object: &Value, status: &KubervisorServiceStatus, utf8: bool) {
        self.line("Name:", name(object));
        self.line("Namespace:", namespace(object));
        self.line("Service:", text(object, "/spec/service"));
        let mode = text(object, "/spec/mode");
        self.line("Mode:", if mode.is_empty() { "Active" } else { mode });
        let state =
            status.state.map_or("unknown: no controller has looked at it yet", |state| state.as_str());
        self.line("State:", state);
        let generation = object.pointer("/metadata/generation").and_then(Value::as_i64);
        if status.state.is_some() && generation > status.observed_generation {
            self.line("", "(of the spec before the last change: no controller has read that yet)");
        }
        let born = object.pointer("/metadata/creationTimestamp").and_then(Value::as_str);
        self.line("Age:", &age::since(born, self.now));
        match &status.fleet {
            Some(fleet) => {
                self.fleet(fleet, utf8);
                // Numbers that only drift are written once a minute.
                let counted = status.pod_count.as_ref().and_then(|count| count.last_probe_time.as_deref());
                if counted.is_some() {
                    self.line("Counted:", &format!("{} ago", age::since(counted, self.now)));
                }
            }
            None => self.line("Fleet:", "not counted yet"),
        }
    }

    fn fleet(&mut self, fleet: &FleetStatus, utf8: bool) {
        let FleetStatus {
            members,
            serving,
            cut,
            paused,
            not_ready,
            floor,
            headroom,
            limited_by,
            load_factor,
        } = fleet;
        let load = load_factor.as_deref().unwrap_or("unknown");
        self.line(
            "Fleet:",
            &format!(
                "{members} members: {serving} serving, {cut} cut, {paused} paused, {not_ready} not ready; load factor {load}"
            ),
        );
        self.line("", &format!("{}  {}", bar(fleet, utf8), legend(utf8)));
        let limit = limited_by.as_deref().map(|limit| format!(", limited by {limit}")).unwrap_or_default();
        self.line("Floor:", &format!("{floor} must serve; headroom {headroom}{limit}"));
    }

    fn gates(&mut self, conditions: &[Condition]) {
        match conditions.iter().find(|c| c.type_ == "Held" && c.status == "True") {
            None => self.line("Held:", "no"),
            Some(held) => {
                let since = age::since(held.last_transition_time.as_deref(), self.now);
                self.line("Held:", &format!("for {since}; returns go on"));
                for gate in held.message.as_deref().unwrap_or_default().split("; ") {
                    self.line("", &format!("- {gate}"));
                }
            }
        }
    }

    fn wrong(&mut self, conditions: &[Condition]) {
        let wrong: Vec<_> = wrong(conditions).collect();
        if wrong.is_empty() {
            return self.line("Wrong:", "nothing");
        }
        self.line("Wrong:", "");
        for c in wrong {
            let since = age::since(c.last_transition_time.as_deref(), self.now);
            let what = c.message.as_deref().filter(|m| !m.is_empty()).or(c.reason.as_deref());
            let not = if c.status == "False" { "not " } else { "" };
            let line = format!("  {not}{} for {since}: {}", c.type_, what.unwrap_or_default());
            let _ = writeln!(self.text, "{}", plain(&line));
        }
    }

    fn breakers(&mut self, object: &Value, status: &[BreakerStatus], values: Option<&Values>) {
        self.line("Breakers:", "");
        let spec = object.get("spec").cloned().unwrap_or_default();
        let rules = rules(&spec, namespace(object));
        let none = BreakerStatus::default();
        match rules {
            Ok(rules) => {
                for rule in rules {
                    let of = status.iter().find(|b| b.name == rule.breaker);
                    let known = values.and_then(|values| values.as_ref().ok());
                    let worst = known.and_then(|known| worst(known, &rule.breaker));
                    self.breaker(&rule, of.unwrap_or(&none), worst.as_deref());
                }
            }
            Err(faults) => {
                for fault in faults {
                    let _ = writeln!(self.text, "  refused: {}", plain(&fault));
                }
            }
        }
        if let Some(Err(why)) = values {
            let _ = writeln!(self.text, "  what they measured last is not known: {}", plain(why));
        }
    }

    fn breaker(&mut self, rule: &Rule, status: &BreakerStatus, worst: Option<&str>) {
        let BreakerStatus { name: _, healthy, anomalous, unknown, would_cut, last_change, error } = status;
        let dry = if rule.dry { " (dry run)" } else { "" };
        let since = match last_change {
            Some(change) => format!(", for {}", age::since(Some(change), self.now)),
            None => String::new(),
        };
        let mut lines = vec![
            format!(
                "  {}{dry}: {healthy} healthy, {anomalous} anomalous, {unknown} unknown{since}",
                rule.breaker
            ),
            format!("    anomalous  {}", rule.anomalous),
            format!("    rhythm     {}", rule.rhythm),
            format!("    floor      {}", rule.floor),
        ];
        lines.extend(worst.map(|worst| format!("    measured   {worst}")));
        lines.extend(rule.asks.iter().map(|asks| format!("    asks       {asks}")));
        if !would_cut.is_empty() {
            lines.push(format!("    would cut  {}", would_cut.join(", ")));
        }
        if !error.is_empty() {
            lines.push(format!("    fails      {error}"));
        }
        for line in lines {
            let _ = writeln!(self.text, "{}", plain(&line));
        }
    }

    fn out(
        &mut self,
        object: &Value,
        status: &KubervisorServiceStatus,
        paused: &Result<BTreeSet<(String, String)>, String>,
    ) {
        if status.cut.is_empty() {
            return self.line("Out:", "no pod");
        }
        self.line("Out:", "");
        let mut table = Table::new(&["POD", "STATE", "SINCE", "NEXT TRY", "STRIKES", "BREAKER", "WHY"]);
        for CutStatus { pod, since, breaker, strikes, restore_at, why } in &status.cut {
            let key = (namespace(object).to_owned(), pod.clone());
            let state = match paused {
                _ if restore_at.is_some() => "cut",
                Ok(paused) if paused.contains(&key) => "paused",
                // Of pods that do not return by themselves, those that are paused are not known.
                Err(_) => "out",
                Ok(_) => "cut",
            };
            let due = restore_at.as_ref().and_then(|at| at.parse().ok());
            let since = since.as_ref().map(|since| age::since(Some(since), self.now));
            table.push(vec![
                pod.clone(),
                state.to_owned(),
                since.unwrap_or_default(),
                due.map_or_else(|| "by hand".to_owned(), |due| age::until(due, self.now)),
                strikes.to_string(),
                breaker.clone().unwrap_or_default(),
                why.clone().unwrap_or_default(),
            ]);
        }
        self.table(&table);
        let known = i64::try_from(status.cut.len()).unwrap_or(i64::MAX);
        let all = status.fleet.as_ref().map_or(known, |fleet| fleet.cut + fleet.paused);
        if all > known {
            let _ = writeln!(self.text, "  and {} more", all - known);
        }
        if let Err(error) = paused {
            let _ = writeln!(self.text, "  which of them are paused is not known: {}", plain(error));
        }
    }

    fn recent(&mut self, recent: &[String]) {
        if recent.is_empty() {
            return self.line("Last acts:", "none");
        }
        self.line("Last acts:", "");
        for act in recent.iter().rev() {
            let (at, what) = act.split_once(' ').unwrap_or(("", act));
            let _ = writeln!(self.text, "  {:<8}{}", age::since(Some(at), self.now), plain(what));
        }
    }

    fn events(&mut self, object: &Value, events: &Result<Vec<Value>, String>) {
        let all = match events {
            Ok(all) => all,
            Err(error) => return self.line("Events:", &format!("not known: {error}")),
        };
        let of = |event: &&Value| {
            text(event, "/involvedObject/name") == name(object) && namespace(event) == namespace(object)
        };
        let mut own: Vec<_> = all.iter().filter(of).map(|event| (moment(event), event)).collect();
        if own.is_empty() {
            return self.line("Events:", "none");
        }
        own.sort_by(|a, b| a.0.cmp(b.0));
        self.line("Events:", "");
        let mut table = Table::new(&["TYPE", "REASON", "AGE", "MESSAGE"]);
        for (at, event) in own.iter().rev().take(EVENTS_MAX).rev() {
            table.push(vec![
                text(event, "/type").to_owned(),
                text(event, "/reason").to_owned(),
                age::since(Some(at), self.now),
                text(event, "/message").to_owned(),
            ]);
        }
        self.table(&table);
    }
}

/// When an Event was: the newer API and the older one have a field each.
fn moment(event: &Value) -> &str {
    ["/series/lastObservedTime", "/eventTime", "/lastTimestamp", "/metadata/creationTimestamp"]
        .into_iter()
        .map(|pointer| text(event, pointer))
        .find(|at| !at.is_empty())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{now, objects};
    use serde_json::json;

    fn beside() -> Beside {
        let event = |reason: &str, of: &str, at: &str| {
            json!({"metadata": {"namespace": "shop"}, "involvedObject": {"name": of}, "type": "Normal",
                "reason": reason, "message": format!("{reason} was told"), "eventTime": at})
        };
        let events = vec![
            event("Held", "checkout", "2026-03-01T11:55:00.000000Z"),
            event("PodCut", "checkout", "2026-03-01T11:59:10.000000Z"),
            event("Held", "cart", "2026-03-01T11:59:11.000000Z"),
        ];
        let paused = [("shop".to_owned(), "checkout-7d9f-9xhzr".to_owned())];
        Beside { paused: Ok(paused.into()), events: Ok(events), values: Some(values()) }
    }

    fn values() -> Values {
        let bad = |name: &str, value: &str, margin: f64| json!({"name": name, "findings": [{"breaker": "error-rate", "value": value, "margin": margin}]});
        let pods = [
            bad("checkout-7d9f-9xhzr", "bad 3 % of 412", 0.1),
            bad("checkout-7d9f-4ttpq", "bad 62 % of 412", 2.07),
        ];
        Ok(serde_json::from_value(json!({"version": 1, "pods": pods})).unwrap())
    }

    #[test]
    fn one_that_has_cut_and_is_held() {
        insta::assert_snapshot!(describe(&objects()[0], &beside(), now(), true));
    }

    #[test]
    fn one_in_dry_run_whose_source_is_broken_in_ascii() {
        insta::assert_snapshot!(describe(&objects()[1], &beside(), now(), false));
    }

    #[test]
    fn one_that_only_the_original_has_written_and_lists_that_are_not_allowed() {
        let values = Some(Err("nothing answers".to_owned()));
        let refused = Beside { paused: Err("no pods".into()), events: Err("no events".into()), values };
        insta::assert_snapshot!(describe(&objects()[2], &refused, now(), false));
    }

    #[test]
    fn a_spec_that_the_controller_refuses_is_described_with_every_fault() {
        let mut object = objects().remove(2);
        object["spec"]["breakers"][0]["discreteValueOutOfList"] = json!({"promQL": "", "tolerance": 300});
        let text = describe(&object, &beside(), now(), false);
        let faults = text.lines().filter(|line| line.starts_with("  refused: ")).count();
        assert!(faults >= 3, "{text}");
    }

    #[test]
    fn every_condition_of_the_controller_is_shown_somewhere() {
        let page = include_str!("../../docs/operating.md");
        let table = page.split("| condition | True means |").nth(1).unwrap().split("\n\n").next().unwrap();
        let told = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        let told: BTreeSet<_> = told.collect();
        // The state says these two.
        let shown = WRONG_IF_TRUE.iter().chain(&WRONG_IF_FALSE).chain(&["Held", "Running", "Ready"]).copied();
        assert_eq!(told, shown.collect());
    }
}
