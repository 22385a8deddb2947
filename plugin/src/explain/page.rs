//! What the controller explains, for people.

use std::fmt::Write as _;

use jiff::Timestamp;
use kubervisor::api::{
    Explained, ExplainedBreaker, ExplainedBudget, ExplainedFinding, ExplainedPod, ExplainedRefusal,
};

use super::look::Look;
use crate::age;
use crate::table::Table;
use crate::words::{plain, wrapped};

/// What a breaker says of a pod, column by column.
const MEASURED: [&str; 5] = ["NAME", "VERDICT", "VALUE", "OF LIMIT", "MEDIAN"];

fn measured(rule: &ExplainedBreaker, finding: &ExplainedFinding) -> Vec<String> {
    let dry = if finding.only_shown { " (dry run)" } else { "" };
    let none = || "-".to_owned();
    let ExplainedFinding { verdict, unknown, .. } = finding;
    vec![
        format!("{}{dry}", rule.name),
        unknown.as_ref().map_or(verdict.clone(), |why| format!("{verdict}: {why}")),
        if unknown.is_some() { none() } else { finding.value.clone() },
        finding.margin.map_or_else(none, |margin| format!("{margin:.2}")),
        finding.median.map_or_else(none, |median| format!("{median:.4}")),
    ]
}

/// What it judges by, below the table: wider than a column should be.
fn judged_by(rule: &ExplainedBreaker) -> String {
    let ExplainedBreaker { name, threshold, detector, range_seconds, .. } = rule;
    // An answer of a custom service is of now.
    let back = Some(span(*range_seconds)).filter(|_| *range_seconds > 0.0);
    let back = back.map(|back| format!(", looks back {back}")).unwrap_or_default();
    format!("{name}: anomalous if {threshold} ({detector}){back}")
}

/// All of it. The first line is the answer.
#[must_use]
pub(super) fn page(
    explained: &Explained,
    pod: &ExplainedPod,
    now: Timestamp,
    width: Option<usize>,
) -> String {
    let mut page = Page::new(now, width);
    page.sentence(&pod.answer);
    page.sentence(&pod.change);
    page.text.push('\n');
    page.pod(explained, pod);
    page.breakers(&explained.breakers, pod);
    page.budget(&explained.budget);
    page.gates(explained);
    page.refused(pod);
    page.recent(&pod.recent);
    page.text
}

/// Lines under headings, as `describe` has them.
pub(super) struct Page {
    pub(super) text: String,
    pub(super) now: Timestamp,
    /// Columns to which long lines are broken; tables are not.
    width: Option<usize>,
}

impl Page {
    pub(super) fn new(now: Timestamp, width: Option<usize>) -> Self {
        Self { text: String::new(), now, width }
    }

    /// A line; where it is too long, it goes on that far in.
    fn put(&mut self, line: &str, indent: usize) {
        let line = plain(line);
        let parts = match self.width {
            Some(width) => wrapped(line.trim_end(), width, indent),
            None => vec![line.trim_end().to_owned()],
        };
        for part in parts {
            let _ = writeln!(self.text, "{part}");
        }
    }

    pub(super) fn sentence(&mut self, text: &str) {
        self.put(text, 0);
    }

    pub(super) fn line(&mut self, key: &str, value: &str) {
        self.put(&format!("{key:<11} {value}"), 12);
    }

    /// A table, two spaces in.
    pub(super) fn table(&mut self, table: &Table, headers: bool) {
        for line in table.text(headers).lines() {
            let _ = writeln!(self.text, "  {line}");
        }
    }

    fn ago(&self, at: Option<&String>) -> String {
        age::since(at.map(String::as_str), self.now)
    }

    fn until(&self, at: &str) -> String {
        at.parse().map_or_else(|_| at.to_owned(), |at| age::until(at, self.now))
    }

    fn pod(&mut self, explained: &Explained, pod: &ExplainedPod) {
        let Explained { namespace, name, service, .. } = explained;
        self.line("Pod:", &format!("{} in namespace {namespace}", pod.name));
        let service = if service.is_empty() { "unknown, as the spec is refused" } else { service };
        self.line("Service:", &format!("{service}, under KubervisorService {name}"));
        let mut traffic = pod.traffic.clone();
        if let Some(by) = &pod.cut_by {
            let _ = write!(traffic, " by breaker {by}");
        }
        if pod.cut_at.is_some() {
            let _ = write!(traffic, " for {}", self.ago(pod.cut_at.as_ref()));
        }
        if let (Some(due), Some(then)) = (&pod.due_at, &pod.then) {
            let _ = write!(traffic, "; {then} {}", self.until(due));
        }
        let serves = if pod.serving { "; it serves" } else { "; it does not serve" };
        self.line("Traffic:", &format!("{traffic}{serves}"));
        let ready = if pod.ready { "yes" } else { "no" };
        let terminating = if pod.terminating { "; it is being deleted" } else { "" };
        self.line("Ready:", &format!("{ready}, for {}{terminating}", self.ago(Some(&pod.ready_since))));
        let strikes: Vec<_> = pod.strikes.iter().map(|(breaker, k)| format!("{breaker} {k}")).collect();
        self.line(
            "Strikes:",
            if strikes.is_empty() { "none".to_owned() } else { strikes.join(", ") }.as_str(),
        );
        if pod.restored_at.is_some() {
            self.line("Came back:", &format!("{} ago", self.ago(pod.restored_at.as_ref())));
        }
        self.marks(pod);
    }

    fn marks(&mut self, pod: &ExplainedPod) {
        if let Some(wish) = &pod.wish {
            self.line("Override:", wish);
        }
        if let Some(step) = &pod.in_flight {
            self.line("In flight:", &format!("a {step} that the watch has not shown yet"));
        }
        if let Some(until) = &pod.quiet_until {
            self.line(
                "Quiet:",
                &format!("a person put it back; not cut before {until} ({})", self.until(until)),
            );
        }
        if let Some(until) = &pod.hold_off_until {
            self.line("Holds off:", &format!("the last write was refused; no other before {until}"));
        }
    }

    fn breakers(&mut self, breakers: &[ExplainedBreaker], pod: &ExplainedPod) {
        let findings = &pod.findings;
        self.line("Breakers:", if findings.is_empty() { "none" } else { "" });
        let mut table = Table::new(&[&MEASURED[..], &["FOUND", "ASKED"]].concat());
        let mut notes = Vec::new();
        for finding in findings {
            let Some(rule) = breakers.iter().find(|b| b.name == finding.breaker) else { continue };
            table.push(self.row(rule, finding, pod));
            notes.extend(self.notes(rule, finding));
        }
        if !findings.is_empty() {
            self.table(&table, true);
        }
        for note in notes {
            self.put(&format!("  {note}"), 4);
        }
    }

    fn row(&self, rule: &ExplainedBreaker, finding: &ExplainedFinding, pod: &ExplainedPod) -> Vec<String> {
        let ExplainedBreaker { confirm_anomalous, confirm_of, .. } = rule;
        let asked = finding.asked_at.as_ref();
        let mut row = measured(rule, finding);
        // No verdict on a pod without traffic counts towards a cut.
        row.push(match (finding.found, pod.serving) {
            (0, false) => "-".to_owned(),
            (found, _) => format!("{found} of {confirm_anomalous} in {confirm_of}"),
        });
        row.push(asked.map_or_else(|| "never".to_owned(), |at| format!("{} ago", self.ago(Some(at)))));
        row
    }

    /// What the caller saw. How often it was found anomalous before, nobody here knows.
    pub(super) fn look(&mut self, look: &Look) {
        if let Some(error) = &look.error {
            return self.line("One look:", &format!("at nothing: {error}"));
        }
        self.line("One look:", "just now, by your own rights");
        let mut table = Table::new(&MEASURED);
        let mut notes = Vec::new();
        for (rule, finding) in look.each() {
            let mut row = measured(rule, finding);
            if rule.error.is_some() {
                // Nothing was found out, not even that it is unknown.
                (row[1], row[2]) = ("-".to_owned(), "-".to_owned());
            }
            table.push(row);
            let ExplainedBreaker { name, error, doubt, healthy, anomalous, unknown, .. } = rule;
            let counts = format!("healthy {healthy}, anomalous {anomalous}, unknown {unknown}");
            match (error, look.asked.get(name)) {
                (Some(error), _) => notes.extend([judged_by(rule), format!("{name}: {error}")]),
                (None, whom) => {
                    let whom = whom.map_or("nobody", String::as_str);
                    notes.push(format!("{}; asked of {whom}; {counts}", judged_by(rule)));
                }
            }
            notes.extend(self.reservations(name, finding));
            notes.extend(doubt.iter().map(|doubt| format!("{name}: {doubt}")));
        }
        self.table(&table, true);
        for note in notes {
            self.put(&format!("  {note}"), 4);
        }
    }

    fn notes(&self, rule: &ExplainedBreaker, finding: &ExplainedFinding) -> Vec<String> {
        let ExplainedBreaker { name, error, doubt, .. } = rule;
        let lookback = rule.lookback_seconds.map(|age| format!(", samples up to {} old", span(age)));
        let mut notes = vec![format!(
            "{}; asked every {}, scraped every {}{}",
            judged_by(rule),
            span(rule.evaluation_period_seconds),
            span(rule.scrape_interval_seconds),
            lookback.unwrap_or_default()
        )];
        notes.extend(self.reservations(name, finding));
        notes.extend(error.iter().map(|error| format!("{name}: its source fails: {error}")));
        notes.extend(doubt.iter().map(|doubt| format!("{name}: {doubt}")));
        notes
    }

    /// Why a breaker says nothing of the pod, or another thing than of others.
    fn reservations(&self, name: &str, finding: &ExplainedFinding) -> Vec<String> {
        let unknown = finding.unknown.as_ref().map(|_| format!("{name}: unknown, as {}", finding.value));
        let settles = finding
            .settles_until
            .as_ref()
            .map(|until| format!("{name}: the pod is back; what is measured counts {}", self.until(until)));
        let probation = finding
            .probation
            .then(|| format!("{name}: the pod is on probation: one anomalous verdict is enough"));
        [unknown, settles, probation].into_iter().flatten().collect()
    }

    fn budget(&mut self, budget: &ExplainedBudget) {
        let ExplainedBudget {
            size,
            present,
            floor,
            floor_sum,
            serving,
            not_ready,
            out,
            max_out,
            max_out_sum,
            cuts,
            max_cuts,
            max_cuts_sum,
            cut_window_seconds,
            in_flight,
            headroom,
            limited_by,
            inert,
        } = budget;
        let left = |most: u32, taken: u32| most.saturating_sub(taken);
        let tightest = |limit: &str| if limit == limited_by { "   <- the tightest" } else { "" };
        self.line("Budget:", &format!("{headroom} may be cut now, limited by {limited_by}"));
        let lines = [
            format!(
                "members     {size} counted, {present} there now, {not_ready} not Ready, {in_flight} with a write in flight"
            ),
            format!(
                "floor       {serving} serving - {floor} = {}   floor: {floor_sum}{}",
                left(*serving, *floor),
                tightest("floor")
            ),
            format!(
                "out         {max_out} at most - {out} out = {}   maxCutRatio: {max_out_sum}{}",
                left(*max_out, *out),
                tightest("maxCutRatio")
            ),
            format!(
                "cuts        {max_cuts} at most - {cuts} in the last {} = {}   maxCutsPerPeriod: {max_cuts_sum}{}",
                span(*cut_window_seconds),
                left(*max_cuts, *cuts),
                tightest("maxCutsPerPeriod")
            ),
        ];
        for line in lines {
            self.put(&format!("  {line}"), 14);
        }
        if let Some(inert) = inert {
            self.put(&format!("  nothing could be cut even of a healthy fleet: {inert}"), 4);
        }
    }

    fn gates(&mut self, explained: &Explained) {
        if explained.gates.is_empty() {
            return self.line("Gates:", "none holds");
        }
        self.line("Gates:", "returns go on");
        for gate in &explained.gates {
            let until = gate.until.as_ref().map(|until| format!(" (ends {})", self.until(until)));
            self.put(&format!("  {}: {}{}", gate.gate, gate.why, until.unwrap_or_default()), 4);
        }
    }

    fn refused(&mut self, pod: &ExplainedPod) {
        for ExplainedRefusal { step, breaker, reason, why } in &pod.refusals {
            let by = breaker.as_ref().map(|breaker| format!(" by breaker {breaker}")).unwrap_or_default();
            self.line("Refused:", &format!("{step}{by}, {reason}: {why}"));
        }
        // What was refused for the same reason is said already.
        let told = |held: &&ExplainedRefusal| !pod.refusals.iter().any(|r| r.reason == held.reason);
        if let Some(held) = pod.held.as_ref().filter(told) {
            self.line("Would hold:", &format!("{}: {}", held.reason, held.why));
        }
    }

    pub(super) fn recent(&mut self, recent: &[String]) {
        if recent.is_empty() {
            return;
        }
        self.line("Last acts:", "");
        for act in recent.iter().rev() {
            let (at, what) = act.split_once(' ').unwrap_or(("", act));
            self.put(&format!("  {:<8}{what}", age::since(Some(at), self.now)), 10);
        }
    }
}

fn span(seconds: f64) -> String {
    match std::time::Duration::try_from_secs_f64(seconds) {
        Ok(span) => humantime::format_duration(span).to_string(),
        Err(_) => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::now;
    use serde_json::json;

    fn breaker(name: &str, detector: &str, threshold: &str) -> serde_json::Value {
        json!({"name": name, "detector": detector, "onlyShown": false, "threshold": threshold,
            "evaluationPeriodSeconds": 5, "scrapeIntervalSeconds": 15, "rangeSeconds": 60, "lookbackSeconds": 60,
            "confirmAnomalous": 2, "confirmOf": 3, "healthy": 8, "anomalous": 1, "unknown": 1})
    }

    fn explained(pod: &serde_json::Value) -> Explained {
        let read = json!({
            "version": 1, "at": "2026-03-01T12:00:00Z", "namespace": "shop", "name": "checkout", "service": "checkout",
            "onlyShown": false, "morePods": 0,
            "budget": {"size": 10, "present": 9, "floor": 5, "floorSum": "ceil(50 % of 10) = 5, of breaker error-rate",
                "serving": 7, "notReady": 1, "out": 2, "maxOut": 3, "maxOutSum": "floor(34 % of 9) = 3", "cuts": 1,
                "maxCuts": 1, "maxCutsSum": "max(1, floor(10 % of 9)) = 1", "cutWindowSeconds": 15, "inFlight": 0,
                "headroom": 0, "limitedBy": "maxCutsPerPeriod"},
            "gates": [], "pods": [pod],
            "breakers": [breaker("error-rate", "discreteValueOutOfList", "bad > 30 % of 2 or more"),
                breaker("latency", "fleetOutlier", "> 3.5 spreads above, 0.1 and 1.5 times away from the median")],
        });
        serde_json::from_value(read).unwrap()
    }

    fn pod(other: &serde_json::Value) -> serde_json::Value {
        let mut pod = json!({
            "name": "checkout-7d9f-4ttpq", "uid": "u4", "answer": "checkout-7d9f-4ttpq serves: no breaker finds anything wrong with it",
            "change": "For it to be cut, breaker latency would have to find it beyond its rule (> 3.5 spreads above, 0.1 and 1.5 times away from the median) in 2 of 3 verdicts, a scrape apart",
            "traffic": "Open", "serving": true, "ready": true, "terminating": false, "readySince": "2026-03-01T09:00:00Z",
            "strikes": {}, "refusals": [], "recent": [],
            "findings": [
                {"breaker": "error-rate", "onlyShown": false, "verdict": "Healthy", "value": "bad 3 % of 412", "numbers": {},
                    "margin": 0.1, "askedAt": "2026-03-01T11:59:58Z", "found": 0, "probation": false},
                {"breaker": "latency", "onlyShown": false, "verdict": "Healthy", "value": "0.2500, +0.4 spreads away",
                    "numbers": {}, "margin": 0.11, "median": 0.2, "askedAt": "2026-03-01T11:59:57Z", "found": 0, "probation": false},
            ],
        });
        for (field, value) in other.as_object().unwrap() {
            pod[field] = value.clone();
        }
        pod
    }

    #[test]
    fn a_pod_that_serves_and_is_well() {
        let explained = explained(&pod(&json!({})));
        insta::assert_snapshot!(page(&explained, &explained.pods[0], now(), None));
    }

    #[test]
    fn a_pod_that_is_cut() {
        let it = pod(&json!({
            "answer": "checkout-7d9f-4ttpq is cut since 2026-03-01T11:59:10Z by breaker error-rate (strike 2): bad 62 % > 30 % of 412; it comes back 2026-03-01T12:01:10Z",
            "change": "Nothing has to change for it to come back: its time ends by itself; kubectl kubervisor restore checkout-7d9f-4ttpq puts it back at once",
            "traffic": "Cut", "serving": false, "cutAt": "2026-03-01T11:59:10Z", "cutBy": "error-rate",
            "evidence": "bad 62 % > 30 % of 412", "dueAt": "2026-03-01T12:01:10Z", "then": "restore",
            "restoredAt": "2026-03-01T11:40:00Z", "strikes": {"error-rate": 2},
            "recent": ["2026-03-01T11:40:00Z PodRestored checkout-7d9f-4ttpq: restored", "2026-03-01T11:59:10Z PodCut checkout-7d9f-4ttpq: cut by error-rate"],
        }));
        let explained = explained(&it);
        insta::assert_snapshot!(page(&explained, &explained.pods[0], now(), None));
    }

    #[test]
    fn a_bad_pod_that_gates_and_limits_keep_with_a_breaker_that_knows_nothing() {
        let held = json!({"step": "cut", "breaker": "error-rate", "reason": "Held", "why": "held until 2026-03-01T14:00:00Z: migration, Ada"});
        let mut it = pod(&json!({
            "answer": "checkout-7d9f-4ttpq serves, although breaker error-rate finds it anomalous (bad 62 % of 412): held until 2026-03-01T14:00:00Z: migration, Ada",
            "change": "For it to be cut, the hold must end, as it does 2026-03-01T14:00:00Z (kubectl kubervisor resume)",
            "refusals": [held], "held": {"step": "cut", "reason": "Held", "why": "held until 2026-03-01T14:00:00Z: migration, Ada"},
            "wish": "Serve", "quietUntil": "2026-03-01T12:00:20Z", "restoredAt": "2026-03-01T11:59:50Z",
        }));
        it["findings"][0]["verdict"] = json!("Anomalous");
        it["findings"][0]["margin"] = json!(2.07);
        it["findings"][0]["found"] = json!(2);
        it["findings"][0]["value"] = json!("bad 62 % of 412");
        it["findings"][1] = json!({"breaker": "latency", "onlyShown": true, "verdict": "Unknown", "unknown": "Settling",
            "value": "it is back a moment ago, and the samples are of the time before", "numbers": {}, "found": 0,
            "settlesUntil": "2026-03-01T12:00:30Z", "probation": false});
        let mut explained = explained(&it);
        explained.breakers[1].error = Some("connection refused".into());
        explained.gates = serde_json::from_value(
            json!([{"gate": "Held", "why": "held until 2026-03-01T14:00:00Z: migration, Ada",
            "until": "2026-03-01T14:00:00Z"}]),
        )
        .unwrap();
        insta::assert_snapshot!(page(&explained, &explained.pods[0], now(), None));
    }
}
