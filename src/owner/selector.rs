//! `selectorManagement: Managed`: the key in the Service's selector is the owner's to add and to take out.
//!
//! ```text
//!               labels stand, floor holds            Disabled, Manual
//!   no key  ------------------------------> key  ------------------------> no key, then the labels
//!     ^                                      |  (the janitor, where the resource is gone)
//!     |         once in ten minutes          | somebody else takes it out
//!     +--------------------------------------+----- twice ----> contested, until the spec changes
//! ```
//! Looks at the Service at each turn and does what it finds wanting. What must survive stands on the Service: the mark.

use std::sync::Arc;
use std::time::Duration;

use kubervisor_core::Now;
use kubervisor_core::budget::floor;
use kubervisor_core::gates::Gate;
use kubervisor_core::notice::{Kind, Notice};
use kubervisor_core::policy::Mode;
use tokio::time::Instant;

use super::Owner;
use crate::api::{KubervisorServiceStatus, Management};
use crate::cluster::keyhole::Keyhole;
use crate::cluster::selector::{KeyWriter, Prospect, SETTLED};
use crate::cluster::snapshot::{ServiceView, View};
use crate::cluster::{CallError, FIELD_MANAGER};

/// Two removals by others within this time are a will of somebody's, and not a slip.
const CONTESTED_WITHIN: Duration = Duration::from_mins(10);
/// First and longest pause after a write that failed.
const RETRY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_mins(1));
/// What the server answered counts for so long where the watch does not show it.
const ANSWER_COUNTS: Duration = Duration::from_mins(1);
/// After so many failures the pods go back although the key is still there: a Service that may not be written must
/// keep nobody out.
const TRIES: u32 = 3;

/// What the owner remembers of the key.
pub(super) struct Keeper {
    writer: KeyWriter,
    /// What the server itself answered last, and when: the watch may be behind it, or have lost it.
    answered: Option<(Keyhole, Instant)>,
    /// The Service that held the key and our mark when last looked at, by uid.
    held: Option<Arc<str>>,
    /// That the key is gone has been noted.
    noted: bool,
    /// When somebody else took it out last.
    removed: Option<Instant>,
    /// The generation of the spec for which management has stopped, and why.
    contested: Option<(Option<i64>, String)>,
    /// Since when nothing stands in the way.
    clear_since: Option<Instant>,
    /// Writes that failed in a row, and when there may be another one.
    failures: u32,
    not_before: Option<Instant>,
    /// Why the key is not added yet.
    waits: Option<String>,
    /// What the server said to the last write, where it failed.
    refused: Option<String>,
}

/// How the key should stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Key,
    /// A dry run adds nothing, and takes no traffic rule away either.
    AsItIs,
    NoKeyOfOurs,
}

impl Keeper {
    /// Goes on from the stored status: who was contested before a restart still is.
    pub(super) fn new(writer: KeyWriter, stored: &KubervisorServiceStatus) -> Self {
        let told = stored.conditions.iter().find(|c| c.type_ == "SelectorContested" && c.status == "True");
        let contested = told.map(|c| (c.observed_generation, c.message.clone().unwrap_or_default()));
        Self {
            writer,
            answered: None,
            held: None,
            noted: false,
            removed: None,
            contested,
            clear_since: None,
            failures: 0,
            not_before: None,
            waits: None,
            refused: None,
        }
    }

    /// Why management has stopped.
    pub(super) fn contested(&self) -> Option<&str> {
        self.contested.as_ref().map(|(_, text)| text.as_str())
    }

    /// Why the key is not as it should be yet.
    pub(super) fn waits(&self) -> Option<String> {
        let waits = self.waits.as_ref().map(|why| format!("the key is not added yet: {why}"));
        waits.or_else(|| self.refused.clone())
    }

    /// Whether it was there, as ours, and is not any more. True once for each time that it goes.
    fn lost(&mut self, hole: &Keyhole, ours: bool) -> bool {
        if hole.key.is_some() {
            (self.held, self.noted) = (ours.then(|| hole.uid.clone()), false);
            return false;
        }
        let had = ours || self.held.as_ref() == Some(&hole.uid);
        self.held = None;
        had && !std::mem::replace(&mut self.noted, true)
    }

    /// The Service as it is known best.
    fn best(&self, seen: Option<&Keyhole>) -> Option<Keyhole> {
        let seen = seen?;
        let newer = |(hole, at): &&(Keyhole, Instant)| {
            hole.uid == seen.uid && hole.version > seen.version && at.elapsed() < ANSWER_COUNTS
        };
        Some(self.answered.as_ref().filter(newer).map_or(seen, |(hole, _)| hole).clone())
    }

    fn waiting(&self) -> bool {
        self.not_before.is_some_and(|at| at > Instant::now())
    }

    /// Of a Service that changed meanwhile the server is asked: the watch may have lost that.
    async fn wrote(&mut self, hole: &Keyhole, result: &Result<Keyhole, CallError>) {
        let now = match result {
            Ok(now) => Some(now.clone()),
            Err(error) if error.code() == Some(409) => self.writer.read(hole).await.ok(),
            Err(_) => None,
        };
        self.failures = if now.is_some() { 0 } else { self.failures.saturating_add(1) };
        let pause = RETRY.0.saturating_mul(1 << self.failures.saturating_sub(1).min(5)).min(RETRY.1);
        self.not_before = Some(Instant::now() + pause);
        // It may go again before it was ever seen.
        self.noted &= now.as_ref().is_none_or(|now| now.key.is_none());
        let refused = result.as_ref().err().filter(|_| now.is_none());
        self.refused = refused.map(|error| format!("Service {} cannot be written: {error}", hole.name));
        self.answered = now.map(|now| (now, Instant::now())).or_else(|| self.answered.take());
    }
}

impl Owner {
    fn key_wanted(&self) -> Option<Wanted> {
        let management = self.spec.parsed.as_ref().ok()?.management;
        Some(match (management, self.policy.mode) {
            (Management::Manual, _) | (Management::Managed, Mode::Disabled) => Wanted::NoKeyOfOurs,
            (Management::Managed, Mode::DryRun) => Wanted::AsItIs,
            (Management::Managed, Mode::Active) => Wanted::Key,
        })
    }

    fn answers_for(&self, hole: &Keyhole) -> bool {
        hole.managed_by.as_ref() == Some(&self.id.uid)
    }

    /// Adds the key or takes it out. Returns whether it is to be looked at again soon.
    pub(super) async fn keep_key(&mut self, view: &View, now: Now) -> bool {
        self.keeper.waits = None;
        let stopped_for = self.keeper.contested.as_ref().map(|(generation, _)| *generation);
        if stopped_for.is_some_and(|generation| generation != self.spec.generation) {
            (self.keeper.contested, self.keeper.removed) = (None, None);
        }
        let (Some(hole), Some(wanted)) = (self.keeper.best(view.keyhole.as_ref()), self.key_wanted()) else {
            return false;
        };
        let ours = self.answers_for(&hole);
        if self.keeper.lost(&hole, ours) && wanted == Wanted::Key {
            self.note_removal(&hole, now).await;
        }
        match wanted {
            Wanted::NoKeyOfOurs if ours => self.take_key(&hole).await,
            Wanted::Key if self.keeper.contested.is_none() => self.want_key(&hole, view).await,
            Wanted::NoKeyOfOurs | Wanted::AsItIs | Wanted::Key => false,
        }
    }

    /// Whether pods must wait for the key to go: it goes first.
    pub(super) fn opens_first(&self, view: &View) -> bool {
        let ours = |hole: &Keyhole| hole.turned() && self.answers_for(hole);
        self.key_wanted() == Some(Wanted::NoKeyOfOurs)
            && self.keeper.failures < TRIES
            && self.keeper.best(view.keyhole.as_ref()).as_ref().is_some_and(ours)
    }

    async fn take_key(&mut self, hole: &Keyhole) -> bool {
        if self.keeper.waiting() {
            return true;
        }
        let result = self.keeper.writer.take(hole).await;
        self.keeper.wrote(hole, &result).await;
        match result {
            Ok(_) => {
                tracing::info!(namespace = %self.id.namespace, name = %self.id.name, service = %hole.name,
                    "the key is taken out of the Service's selector");
            }
            Err(error) => {
                tracing::warn!(namespace = %self.id.namespace, name = %self.id.name, service = %hole.name,
                %error, "the key could not be taken out of the Service's selector yet");
            }
        }
        true
    }

    async fn want_key(&mut self, hole: &Keyhole, view: &View) -> bool {
        let foreign = hole.managed_by.as_ref().is_some_and(|by| *by != self.id.uid);
        let theirs = |by: &str| self.parts.cache.governs(&self.id.namespace, by);
        if foreign && hole.managed_by.as_deref().is_some_and(theirs) {
            return false;
        }
        if hole.turned() && !self.answers_for(hole) {
            // What a person added is ours from now on: it is to go with the resource.
            return view.conflict.is_none() && self.add_key(hole).await;
        }
        if hole.key.is_some() || view.service != (ServiceView::Usable { activated: false }) {
            return false;
        }
        self.keeper.waits = self.key_obstacle(view);
        if self.keeper.waits.is_some() {
            self.keeper.clear_since = None;
            return false;
        }
        if self.keeper.clear_since.get_or_insert_with(Instant::now).elapsed() < SETTLED {
            return true;
        }
        self.add_key(hole).await
    }

    /// What stands between the Service and its key.
    fn key_obstacle(&self, view: &View) -> Option<String> {
        let Some(report) = &self.report else { return Some("nothing has been judged yet".to_owned()) };
        let holds = |gate: &&Gate| match gate {
            Gate::StaleView { .. }
            | Gate::Conflict { .. }
            | Gate::InvalidSpec
            | Gate::Unchecked { .. }
            | Gate::Held { .. }
            | Gate::Lease { .. } => true,
            // What is no word on whether the labels are right.
            Gate::NotActivated
            | Gate::DryRun
            | Gate::ClusterStorm { .. }
            | Gate::Storm { .. }
            | Gate::Overload { .. }
            | Gate::Blind { .. }
            | Gate::LowCoverage { .. } => false,
        };
        if let Some(gate) = report.gates.iter().find(holds) {
            return Some(gate.to_string());
        }
        let size = view.fleet.size().max(self.memory.capacity.size());
        Prospect::of(view, floor(&self.policy, size)).obstacle()
    }

    async fn add_key(&mut self, hole: &Keyhole) -> bool {
        if self.keeper.waiting() {
            return true;
        }
        // Before the look: what was counted before a wait for a turn would be old.
        let calls = Arc::clone(&self.parts.calls);
        let Ok(_turn) = calls.acquire().await else { return false };
        let view = self.parts.cache.view(&self.id.namespace, &self.id.uid);
        let stands = |view: &View| {
            self.keeper.best(view.keyhole.as_ref()).as_ref() == Some(hole)
                && (hole.turned() || self.key_obstacle(view).is_none())
        };
        if !view.as_ref().is_some_and(stands) {
            return true;
        }
        let result = self.keeper.writer.add(hole, Some(&self.id.uid)).await;
        self.keeper.wrote(hole, &result).await;
        self.keeper.clear_since = None;
        match result {
            Ok(_) => {
                tracing::info!(namespace = %self.id.namespace, name = %self.id.name, service = %hole.name,
                    "the key is added to the Service's selector");
            }
            Err(error) => {
                tracing::warn!(namespace = %self.id.namespace, name = %self.id.name, service = %hole.name, %error,
                    "the key could not be added to the Service's selector yet");
            }
        }
        true
    }

    /// Somebody took the key out: once is a slip, and twice is a will.
    async fn note_removal(&mut self, hole: &Keyhole, now: Now) {
        let who = match self.keeper.writer.last_writer(hole).await {
            // By an earlier word of our own, which the watch showed late.
            Ok(Some(writer)) if writer == FIELD_MANAGER => return,
            Ok(Some(writer)) => format!("field manager {writer:?}"),
            Ok(None) => "somebody without a name".to_owned(),
            Err(error) => format!("somebody (who, the API server does not say: {error})"),
        };
        let again = self.keeper.removed.replace(Instant::now());
        tracing::warn!(namespace = %self.id.namespace, name = %self.id.name, service = %hole.name, %who,
            "somebody took the key out of the Service's selector");
        if again.is_none_or(|at| at.elapsed() > CONTESTED_WITHIN) {
            return;
        }
        let text = format!(
            "{who} took kubervisor/traffic out of the selector of Service {} twice within {} minutes: it is not added \
             again; set selectorManagement to Manual and put the key where that one takes the selector from, such as Git",
            hole.name,
            CONTESTED_WITHIN.as_secs() / 60
        );
        let notice = Notice::of_service(&self.id.uid, Kind::SelectorContested, now.wall, text.clone());
        self.parts.events.tell(&self.id, notice);
        self.keeper.contested = Some((self.spec.generation, text));
    }
}
