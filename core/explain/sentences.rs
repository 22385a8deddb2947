//! The sentences of an explanation: why, and what would have to change.

use jiff::Timestamp;

use super::{Explanation, Finding, Says};
use crate::Now;
use crate::activator::Step;
use crate::budget::{Budget, Limit, floor as floor_of};
use crate::fleet::{Member, Wish};
use crate::gates::Gate;
use crate::plan::{Refusal, Why};
use crate::policy::{BreakerPolicy, Confirm, ServicePolicy};
use crate::traffic::{Cut, Move, Traffic};

/// What the sentences are made of.
pub(super) struct Told<'a> {
    pub(super) member: &'a Member,
    pub(super) this: &'a Explanation,
    pub(super) budget: Budget,
    pub(super) why: Option<&'a str>,
    pub(super) now: Now,
}

/// How the floor came about: the strictest breaker's, with its sum.
pub(super) fn floor(policy: &ServicePolicy, n: u32) -> String {
    let floor = floor_of(policy, n);
    let alone =
        |b: &BreakerPolicy| floor_of(&ServicePolicy { breakers: vec![b.clone()], ..policy.clone() }, n);
    let asked = |b: &&BreakerPolicy| b.floor.count.is_some() || b.floor.percent.is_some();
    let Some(strictest) = policy.enforcing().filter(asked).find(|b| alone(b) == floor) else {
        return format!("{floor}, the least there is");
    };
    let name = &strictest.name;
    match (strictest.floor.count, strictest.floor.percent) {
        (Some(count), _) if count == floor => format!("minPodsAvailableCount = {floor}, of breaker {name}"),
        (_, Some(percent)) if floor > 1 => format!("ceil({percent} % of {n}) = {floor}, of breaker {name}"),
        (None | Some(_), None | Some(_)) => format!("{floor}, the least there is"),
    }
}

fn clock(at: Timestamp) -> String {
    format!("{at:.0}")
}

impl Told<'_> {
    pub(super) fn answer(&self) -> String {
        let Self { member, why, .. } = self;
        let pod = &member.name;
        let because = why.map(|why| format!(": {why}")).unwrap_or_default();
        match &member.traffic {
            Traffic::Cut(cut) => self.cut(cut),
            Traffic::KeptOut => format!("{pod} is out because a person asked for it (override Cut)"),
            Traffic::CutByHand => {
                format!(
                    "{pod} is out by a person's hand: kubervisor/traffic=no stands on it without marks of ours"
                )
            }
            Traffic::Paused => format!("{pod} is paused, for people to look at it{because}"),
            Traffic::Odd => {
                format!(
                    "{pod} has a value of kubervisor/traffic that is none of ours: nothing is done with it"
                )
            }
            Traffic::Unlabelled | Traffic::Open | Traffic::OpenedByHand(_) => self.open(),
        }
    }

    pub(super) fn change(&self) -> String {
        let pod = &self.member.name;
        match &self.member.traffic {
            Traffic::Cut(_) => self.end_of_cut(),
            Traffic::KeptOut => {
                format!("It comes back once the word is taken back: kubectl kubervisor override {pod} clear")
            }
            Traffic::CutByHand | Traffic::Paused => {
                format!("It never comes back by itself: kubectl kubervisor restore {pod} puts it back")
            }
            Traffic::Odd => {
                format!("Label it yes: kubectl label pod {pod} kubervisor/traffic=yes --overwrite")
            }
            Traffic::Unlabelled | Traffic::Open | Traffic::OpenedByHand(_) => self.to_be_cut(),
        }
    }

    fn cut(&self, cut: &Cut) -> String {
        let Self { member, this, why, .. } = self;
        let since = cut.at.map(|at| format!(" since {}", clock(at))).unwrap_or_default();
        let by = cut.breaker.as_ref().map(|breaker| format!(" by breaker {breaker}")).unwrap_or_default();
        let because = why.map(|why| format!(": {why}")).unwrap_or_default();
        let strikes = member.strikes.total();
        let strikes = if strikes > 1 { format!(" (strike {strikes})") } else { String::new() };
        let end = match this.due {
            _ if member.wish == Some(Wish::Cut) => "it stays out, as a person asked for it".to_owned(),
            _ if member.terminating => "it is being deleted".to_owned(),
            Some((at, _)) if at <= self.now.wall => "its time is over".to_owned(),
            Some((at, Step::Restore)) => format!("it comes back {}", clock(at)),
            Some((at, Step::Pause)) => format!("its retries are used up, and it is paused {}", clock(at)),
            Some((at, Step::Evict)) => format!("its retries are used up, and it is evicted {}", clock(at)),
            None => "its time is over".to_owned(),
        };
        let waits = this.refusals.iter().find(|r| r.step != Move::Cut).map(waits).unwrap_or_default();
        format!("{} is cut{since}{by}{strikes}{because}; {end}{waits}", member.name)
    }

    fn end_of_cut(&self) -> String {
        let Self { member, this, .. } = self;
        let pod = &member.name;
        let now = format!("kubectl kubervisor restore {pod} puts it back at once");
        match this.due {
            _ if member.wish == Some(Wish::Cut) => {
                format!("It comes back once the word is taken back: kubectl kubervisor override {pod} clear")
            }
            Some((_, Step::Restore)) | None => {
                format!("Nothing has to change for it to come back: its time ends by itself; {now}")
            }
            Some((_, Step::Pause | Step::Evict)) => format!("It comes back only by a person's word: {now}"),
        }
    }

    fn open(&self) -> String {
        let Self { member, this, .. } = self;
        let pod = &member.name;
        if let Some(step) = member.in_flight {
            return format!("{pod}: a {} of it was sent, and the watch has not shown it yet", step.as_str());
        }
        if member.terminating {
            return format!("{pod} is being deleted: it gets no new traffic, and is not cut");
        }
        if !member.ready {
            return format!(
                "{pod} is not Ready, and gets no traffic for that reason alone: only pods that serve are cut"
            );
        }
        if !member.reached {
            return format!(
                "{pod} is not reached by its Service as the selector stands now: it lacks the label kubervisor/traffic=yes"
            );
        }
        if let Some(refusal) = self.refused_cut() {
            return format!("{pod} serves, {}: {}", although(refusal, &this.findings), refusal.why);
        }
        if let Some(f) = self.which(Says::Anomalous) {
            return format!(
                "{pod} serves, although breaker {} finds it anomalous ({}): its next answer decides",
                f.breaker,
                value(f)
            );
        }
        if let Some(f) = self.which(Says::Lingering) {
            return format!(
                "{pod} serves: breaker {} finds it within its rule again ({}), but too close to it to be called healthy",
                f.breaker,
                value(f)
            );
        }
        self.nothing_found()
    }

    fn nothing_found(&self) -> String {
        let pod = &self.member.name;
        let unknown = self
            .which(Says::Unknown)
            .map(|f| format!("breaker {} cannot judge it: {}", f.breaker, reason(f)));
        match (self.which(Says::Healthy), unknown) {
            (None, None) => format!("{pod} serves: no breaker is there to judge it"),
            (None, Some(unknown)) => format!("{pod} serves, and unknown never cuts: {unknown}"),
            (Some(_), None) => format!("{pod} serves: no breaker finds anything wrong with it"),
            (Some(_), Some(unknown)) => {
                format!("{pod} serves: no breaker finds anything wrong with it, but {unknown}")
            }
        }
    }

    fn which(&self, says: Says) -> Option<&Finding> {
        self.this.findings.iter().find(|f| f.says == says)
    }

    fn refused_cut(&self) -> Option<&Refusal> {
        self.this.refusals.iter().find(|r| r.step == Move::Cut)
    }

    fn to_be_cut(&self) -> String {
        let Self { member, this, budget, .. } = self;
        if !member.serving() {
            return "Only pods that serve are cut: it would have to be Ready and reached by its Service"
                .to_owned();
        }
        let held = this.held.as_ref().map(|why| cure(why, *budget));
        if let Some(refusal) = self.refused_cut() {
            let confirmed = match refusal.why {
                Why::Unconfirmed { .. } => Some(cure(&refusal.why, *budget)),
                _ => None,
            };
            let all: Vec<_> = confirmed.into_iter().chain(held).collect();
            if all.is_empty() {
                return "Nothing holds it any more: it is cut by the next answer that finds it anomalous"
                    .to_owned();
            }
            return format!("For it to be cut, {}", all.join(", and "));
        }
        let margin = |f: &&Finding| f.measure.and_then(Result::ok).map_or(0.0, |m| m.margin);
        let closest = self.this.findings.iter().max_by(|a, b| margin(a).total_cmp(&margin(b)));
        let Some(f) = closest else { return "For it to be cut, a breaker would have to judge it".to_owned() };
        let also = held.map(|held| format!(", and even then {held}")).unwrap_or_default();
        let often = match f.confirm {
            Confirm::ONCE => "once".to_owned(),
            Confirm { anomalous, of } => format!("in {anomalous} of {of} verdicts, a scrape apart"),
        };
        format!(
            "For it to be cut, breaker {} would have to find it beyond its rule ({}) {often}{also}",
            f.breaker, f.threshold
        )
    }
}

fn waits(refusal: &Refusal) -> String {
    format!("; its {} waits: {}", refusal.step.as_str(), refusal.why)
}

fn although(refusal: &Refusal, findings: &[Finding]) -> String {
    let Some(breaker) = &refusal.breaker else { return "although a person asks for its cut".to_owned() };
    let found = findings.iter().find(|f| f.breaker == *breaker && f.measure.is_some_and(|m| m.is_ok()));
    let value = found.map(|f| format!(" ({})", value(f))).unwrap_or_default();
    format!("although breaker {breaker} finds it anomalous{value}")
}

fn value(finding: &Finding) -> String {
    match finding.measure {
        Some(Ok(measured)) => measured.value(),
        Some(Err(_)) | None => reason(finding),
    }
}

fn reason(finding: &Finding) -> String {
    match finding.measure {
        Some(Err(unknown)) => unknown.to_string(),
        Some(Ok(_)) | None => "its source has not answered yet, or failed".to_owned(),
    }
}

/// What has to change, after "for it to be cut".
fn cure(why: &Why, budget: Budget) -> String {
    match why {
        Why::Gate(gate) => opened(gate),
        Why::Limit(Limit::Floor, _) => format!(
            "more pods must serve than the floor of {} (now {}): more replicas, or a lower minPodsAvailable",
            budget.floor, budget.serving
        ),
        Why::Limit(Limit::MaxCutRatio, _) => {
            format!(
                "one of the {} pods that are out must come back, or limits.maxCutRatio be higher",
                budget.out
            )
        }
        Why::Limit(Limit::MaxCutsPerPeriod, _) => {
            "this period must end, or limits.maxCutsPerPeriod be higher".to_owned()
        }
        Why::Unconfirmed { found, confirm } => format!(
            "its breaker must find it anomalous {} times in {} verdicts, a scrape apart (so far {found})",
            confirm.anomalous, confirm.of
        ),
        Why::Disruption(name) => format!("PodDisruptionBudget {name} must have room for one more"),
        Why::LastOnNode(node) => format!("another pod must serve on node {node}"),
        Why::Neighbour(service) => format!("Service {service} must have another pod that serves"),
        Why::Rollout(_) => "the rollout must end, or one of its pods come back".to_owned(),
        Why::NoRoom => "there must be room for it in two answers in a row".to_owned(),
        Why::Wish(_) => "the person's word on it must be taken back (kubectl kubervisor override)".to_owned(),
        Why::FleetTooSmall(n) => format!(
            "the fleet must be larger than {n}: one pod is never cut, two only by a rule that does not compare, with \
             minPodsAvailableCount at most 1"
        ),
        Why::InFlight => "the write under way must be seen".to_owned(),
        Why::Quiet => "the period after a person put it back must end".to_owned(),
        Why::HoldOff => "the pause after a refused write must end".to_owned(),
        // Of returns and evictions; a cut is never refused so.
        Why::NoSlot(_)
        | Why::KillCap(_)
        | Why::KillInFlight
        | Why::NotReplacedYet
        | Why::NotReplaced(_)
        | Why::BelowFloor => why.to_string(),
    }
}

fn opened(gate: &Gate) -> String {
    match gate {
        Gate::StaleView { resource } => format!("the API server must answer the watch of {resource} again"),
        Gate::Conflict { with } => format!("KubervisorService {with} must no longer select the same pods"),
        Gate::InvalidSpec => "the spec must be mended (see condition InitFailed)".to_owned(),
        Gate::Unchecked { .. } => {
            "the workloads and budgets behind the Service must be read first".to_owned()
        }
        Gate::NotActivated => {
            "the Service's selector must hold kubervisor/traffic: \"yes\" (kubectl kubervisor activate)"
                .to_owned()
        }
        Gate::DryRun => "the dry run must end (kubectl kubervisor dry-run --off)".to_owned(),
        Gate::Held { until: None, .. } => {
            "the hold must be taken away (kubectl kubervisor resume)".to_owned()
        }
        Gate::Held { until: Some(until), .. } => {
            format!("the hold must end, as it does {} (kubectl kubervisor resume)", clock(*until))
        }
        Gate::Lease { .. } => "this controller must hold the Lease for long enough".to_owned(),
        Gate::ClusterStorm { limit } => {
            format!("fewer than {limit} cuts a minute must be wanted over all services, for 5 minutes")
        }
        Gate::Storm { limit, .. } => {
            format!(
                "no more than {limit} % of the pods may be anomalous or cut, for a minute or three periods"
            )
        }
        Gate::Overload { until } => {
            format!("the quiet after an overload must end, as it does {}", clock(*until))
        }
        Gate::LowCoverage { breaker, seen, serving } => {
            format!("breaker {breaker} must see more of the serving pods (now {seen} of {serving})")
        }
        Gate::Blind { breaker } => format!("the source of breaker {breaker} must answer twice in a row"),
    }
}
