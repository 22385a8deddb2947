//! What the owner tells: changes of the whole service as notices, everything as status.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kubervisor_core::Now;
use kubervisor_core::fleet::{Fleet, Member};
use kubervisor_core::gates::Gate;
use kubervisor_core::notice::{Kind, Notice};
use kubervisor_core::plan::{Remark, Report};
use kubervisor_core::policy::Mode;
use kubervisor_core::suspects::{Shared, Suspect};
use kubervisor_core::traffic::Traffic;

use super::Owner;
use super::checked::Known;
use crate::api::CutStatus;
use crate::api::stamp;
use crate::cluster::disruptions;
use crate::cluster::facts::Facts;
use crate::cluster::snapshot::{ServiceView, View};
use crate::cluster::status::compose;
use crate::cluster::status_writer::RETRY;
use crate::cluster::workloads::Maker;

/// A service that has just started says nothing of itself before it knows something, for this long.
const FIRST_WORD: Duration = Duration::from_secs(10);
/// The same word about a service is an Event this often at most; the log and the status keep all.
const SAME_WORD_EVERY: Duration = Duration::from_mins(5);
/// The same remark.
const SAME_REMARK_EVERY: Duration = Duration::from_hours(1);
/// Remarks that are remembered; more than that are not told.
const REMARKS_MAX: usize = 64;
/// Workloads that one remark is told to: behind most Services there is one.
const MAKERS_MAX: usize = 4;
/// Pods that a sentence names.
const NAMED_MAX: usize = 3;

/// What was told last: only a change is news.
#[derive(Debug, Default)]
pub(super) struct Last {
    generation: Option<i64>,
    activated: Option<bool>,
    fault: Option<&'static str>,
    errors: Vec<String>,
    held: Option<&'static str>,
    remarks: BTreeMap<String, Duration>,
    floor_reached: bool,
    told: BTreeMap<(Kind, &'static str), Duration>,
}

impl Owner {
    /// Notices of what changed since the last tick.
    pub(super) fn tell(&mut self, view: &View, now: Now) {
        let mut news = Vec::new();
        let fault = view.service.fault();
        if fault != self.last.fault {
            self.last.fault = fault;
            news.extend(fault.map(|text| (Kind::ServiceNotAvailable, text.to_owned())));
        }
        // Of another spec even the same word is news.
        if std::mem::replace(&mut self.last.generation, self.spec.generation) != self.spec.generation {
            self.last.told.remove(&(Kind::InitFailed, ""));
        }
        let errors = self.errors();
        if errors != self.last.errors {
            self.last.errors.clone_from(&errors);
            if !errors.is_empty() {
                news.push((Kind::InitFailed, errors.join("; ")));
            }
        }
        if let ServiceView::Usable { activated } = view.service {
            // The first look is no change.
            let change = self.last.activated.replace(activated).is_some_and(|before| before != activated);
            news.extend(change.then(|| activation(activated)));
        }
        news.extend(self.gate_news());
        let floor_reached = self.report.as_ref().is_some_and(|r| r.floor_reached);
        if floor_reached && !self.last.floor_reached {
            let sums = self.report.as_ref().map(|r| r.budget.to_string()).unwrap_or_default();
            news.push((Kind::FloorReached, format!("a cut was refused: {sums}")));
        }
        self.last.floor_reached = floor_reached;
        for (kind, text) in news {
            let flaps = matches!(kind, Kind::Held | Kind::Released | Kind::FloorReached | Kind::InitFailed);
            // A storm is news also right after a source was silent.
            let word = (kind, if kind == Kind::Held { self.last.held.unwrap_or_default() } else { "" });
            let told = self.last.told.insert(word, now.mono);
            if flaps && told.is_some_and(|at| now.mono.saturating_sub(at) < SAME_WORD_EVERY) {
                self.last.told.extend(told.map(|at| (word, at)));
                tracing::info!(namespace = %self.id.namespace, name = %self.id.name, kind = kind.as_str(), "{text}");
                continue;
            }
            self.parts.events.tell(&self.id, Notice::of_service(&self.id.uid, kind, now.wall, text));
        }
        self.tell_remarks(view, now);
    }

    /// What people should look at, each word once an hour.
    fn tell_remarks(&mut self, view: &View, now: Now) {
        self.last.remarks.retain(|_, told| now.mono.saturating_sub(*told) < SAME_REMARK_EVERY);
        let remarks = self.report.as_mut().map(|r| std::mem::take(&mut r.remarks)).unwrap_or_default();
        let mut news: Vec<_> = remarks.into_iter().map(|remark| self.remark(remark, now)).collect();
        if let Some(text) = self.report.as_ref().and_then(|report| short_by_hand(report, &view.fleet)) {
            let notice = Notice::of_service(&self.id.uid, Kind::BelowFloor, now.wall, text);
            news.push((Kind::BelowFloor.as_str().to_owned(), notice));
        }
        for (key, notice) in news {
            if self.last.remarks.len() < REMARKS_MAX && self.last.remarks.insert(key, now.mono).is_none() {
                if notice.kind == Kind::CutIneffective {
                    self.parts.metrics.ineffective_cut(&self.id);
                }
                let makers = if suspects(notice.kind) { self.makers() } else { Vec::new() };
                self.parts.events.tell_makers(&self.id, notice, makers);
            }
        }
    }

    /// Workloads behind the Service, as far as they are known.
    fn makers(&self) -> Vec<Maker> {
        match self.checked.known() {
            Known::Looked(looked) => looked.makers.iter().take(MAKERS_MAX).cloned().collect(),
            Known::Nothing(_) => Vec::new(),
        }
    }

    fn remark(&self, remark: Remark, now: Now) -> (String, Notice) {
        let of_service = |kind, text| Notice::of_service(&self.id.uid, kind, now.wall, text);
        match remark {
            Remark::Suspect(Suspect { kind, value, pods }) => {
                let (kind, what) = match kind {
                    Shared::Revision => (Kind::SuspectRevision, "revision"),
                    Shared::Node => (Kind::SuspectNode, "node"),
                    Shared::Zone => (Kind::SuspectZone, "zone"),
                };
                let text = format!(
                    "{pods} anomalous pods, and no healthy one, share {what} {value}: look there first"
                );
                (format!("{what} {value}"), of_service(kind, text))
            }
            Remark::CutIneffective { pod, uid, breaker, events } => {
                let seen = if events > 0.0 { format!("{events:.0} events") } else { "activity".to_owned() };
                let text = format!(
                    "breaker {breaker} still sees {seen} of it although it is cut: connections that were open stay \
                     open until they close (limit their age, or evict by retryAndKill)"
                );
                let notice = Notice::of_pod(&pod, &uid, Kind::CutIneffective, now.wall, text);
                (format!("ineffective {uid}"), notice)
            }
            Remark::MetricsFollowTraffic { breaker, pod } => {
                let text = format!(
                    "breaker {breaker} no longer sees {pod}, which is cut: scrape the pods (PodMonitor) and not \
                     through the Service"
                );
                (format!("unseen {breaker}"), of_service(Kind::MetricsFollowTraffic, text))
            }
        }
    }

    /// Dry run and a missing key are wishes of the user, not news; the Lease is one news for all, in the log.
    fn gate_news(&mut self) -> Option<(Kind, String)> {
        let gates = self.report.as_ref().map(|r| r.gates.as_slice()).unwrap_or_default();
        let quiet = |g: &Gate| {
            matches!(g.as_str(), "DryRun" | "NotActivated" | "InvalidSpec" | "Unchecked" | "Lease")
        };
        let held = gates.iter().find(|g| !quiet(g));
        // The word: its numbers change with every answer.
        if held.map(Gate::as_str) == self.last.held {
            return None;
        }
        self.last.held = held.map(Gate::as_str);
        Some(match held {
            Some(gate) => (Kind::Held, gate.to_string()),
            None => (Kind::Released, "nothing holds any more".to_owned()),
        })
    }

    fn waits_for_lease(&self) -> bool {
        let gates = self.report.as_ref().map(|r| r.gates.as_slice()).unwrap_or_default();
        gates.iter().any(|gate| gate.as_str() == "Lease")
    }

    /// Faults of the spec, those that only the source could find included.
    fn errors(&self) -> Vec<String> {
        let mut errors = match &self.spec.parsed {
            Ok(_) => Vec::new(),
            Err(errors) => errors.to_vec(),
        };
        let refused = self.refused_queries();
        errors.extend(refused.map(|(breaker, e)| format!("spec.breakers[{breaker}]: {e}")));
        if let Known::Looked(looked) = self.checked.known() {
            errors.extend(looked.faults.iter().cloned());
        }
        errors
    }

    /// Writes the status where it is due. Returns the time until it has to be looked at again.
    pub(super) async fn write_status(&mut self, view: &View) -> Duration {
        let errors = self.errors();
        let failing: Vec<_> = self.failing.iter().map(|(b, e)| (b.to_string(), e.to_string())).collect();
        let doubts: Vec<_> =
            self.doubts.iter().map(|(b, text)| (b.to_string(), (*text).to_owned())).collect();
        let mut notes = self.spec.parsed.as_ref().map(|p| p.notes.clone()).unwrap_or_default();
        notes.extend(self.age_notes());
        notes.extend(doubts.iter().map(|(breaker, text)| format!("{breaker}: {text}")));
        // The first moments are all doubt; told at every start, they would be two writes for each service.
        let budgets = self.parts.cache.budgets_known(&self.id.namespace);
        let unchecked = matches!(self.checked.known(), Known::Nothing(_));
        let unsure = unchecked || budgets == disruptions::Known::NotYet || self.waits_for_lease();
        let starting = unsure && self.since.elapsed() < FIRST_WORD;
        if starting && errors.is_empty() && view.service.fault().is_none() {
            return FIRST_WORD;
        }
        let looked = match self.checked.known() {
            Known::Looked(looked) => Some(looked),
            Known::Nothing(_) => None,
        };
        let key_waits = self.keeper.waits();
        let facts = Facts {
            looked: looked.as_deref(),
            generation: self.spec.generation,
            disabled: self.policy.mode == Mode::Disabled,
            errors: &errors,
            notes: &notes,
            service: view.service,
            unlabelled: view.unlabelled,
            report: self.report.as_ref(),
            failing: &failing,
            doubts: &doubts,
            cut: cut_rows(view),
            recent: self.recent.iter().cloned().collect(),
            kills: self.kills.rows(),
            key_waits: key_waits.as_deref(),
            key_contested: self.keeper.contested(),
            now: (self.parts.wall)(),
        };
        let status = compose(&facts, self.status.written());
        match self.status.due(&status) {
            None => Duration::MAX,
            Some(Duration::ZERO) => match self.status.write(status).await {
                Ok(version) => {
                    self.inbox.version.fetch_max(version, Ordering::AcqRel);
                    Duration::MAX
                }
                Err(error) => {
                    tracing::warn!(namespace = %self.id.namespace, name = %self.id.name, %error,
                        "the status could not be written");
                    RETRY
                }
            },
            Some(wait) => wait,
        }
    }
}

fn suspects(kind: Kind) -> bool {
    matches!(kind, Kind::SuspectRevision | Kind::SuspectNode | Kind::SuspectZone)
}

/// Fewer serve than the floor, no cut of ours could make up for it, and pods that people keep out could.
fn short_by_hand(report: &Report, fleet: &Fleet) -> Option<String> {
    let able = |m: &&Member| m.ready && !m.terminating && !m.serving();
    let mends = |m: &&Member| {
        m.in_flight.is_some() || (able(m) && matches!(m.traffic, Traffic::Cut(_)) && m.wish.is_none())
    };
    let kept = |m: &&Member| able(m) && (by_hand(m).is_some() || matches!(m.traffic, Traffic::Cut(_)));
    let kept: Vec<_> = fleet.members.iter().filter(kept).collect();
    if report.budget.shortfall() == 0 || kept.is_empty() || fleet.members.iter().any(|m| mends(&m)) {
        return None;
    }
    let name = |m: &&Member| format!("{} ({})", m.name, by_hand(m).unwrap_or("kept out by override Cut"));
    let named: Vec<_> = kept.iter().take(NAMED_MAX).map(name).collect();
    let more =
        if kept.len() > NAMED_MAX { format!(" and {} more", kept.len() - NAMED_MAX) } else { String::new() };
    Some(format!(
        "{} serve, the floor is {}, and only pods that people keep out could mend it: {}{more}; none of them is put back \
         by itself: label one kubervisor/traffic=yes, or take its override away",
        report.budget.serving,
        report.budget.floor,
        named.join(", ")
    ))
}

/// Out by the word of a person, or until one comes.
fn by_hand(member: &Member) -> Option<&'static str> {
    match member.traffic {
        Traffic::CutByHand => Some("cut by hand"),
        Traffic::KeptOut => Some("kept out by override Cut"),
        Traffic::Paused => Some("paused"),
        Traffic::Cut(_) | Traffic::Unlabelled | Traffic::Open | Traffic::OpenedByHand(_) | Traffic::Odd => {
            None
        }
    }
}

fn activation(activated: bool) -> (Kind, String) {
    if activated {
        (Kind::Activated, "the Service's selector holds kubervisor/traffic now: cuts work".to_owned())
    } else {
        (
            Kind::Deactivated,
            "the Service's selector no longer holds kubervisor/traffic: cuts are ended".to_owned(),
        )
    }
}

fn cut_rows(view: &View) -> Vec<CutStatus> {
    let why = |name: &Arc<str>| view.why.iter().find(|(n, _)| n == name).map(|(_, why)| why.to_string());
    let word = |m: &Member| by_hand(m).filter(|_| m.traffic != Traffic::Paused).map(str::to_owned);
    let row = |m: &Member| {
        let (since, restore_at, breaker) = match &m.traffic {
            Traffic::Cut(cut) => (cut.at, cut.restore_at, cut.breaker.clone()),
            Traffic::KeptOut | Traffic::CutByHand | Traffic::Paused => (None, None, None),
            Traffic::Unlabelled | Traffic::Open | Traffic::OpenedByHand(_) | Traffic::Odd => return None,
        };
        Some(CutStatus {
            pod: m.name.to_string(),
            since: since.map(stamp),
            breaker: breaker.map(|b| b.to_string()),
            strikes: m.strikes.total().into(),
            restore_at: restore_at.map(stamp),
            why: why(&m.name).or_else(|| word(m)),
        })
    };
    view.fleet.members.iter().filter_map(row).collect()
}
