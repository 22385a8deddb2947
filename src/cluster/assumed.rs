//! Our own writes that the watch has not shown yet.
//!
//! Every write to a pod carries the version that it was decided on as a precondition. So any later version that the
//! watch shows settles it: either our write made that version, or it can never be carried out. Age settles nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kubervisor_core::traffic::Move;
use tokio::time::Instant;

/// Writes in flight, by pod uid. At most one for each pod.
#[derive(Debug, Default)]
pub struct Assumed(BTreeMap<Arc<str>, Write>);

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Write {
    /// What was sent.
    pub step: Move,
    /// The version that it was decided on.
    pub base: u64,
    /// Its answer never came.
    pub doubtful: bool,
    /// When the server acknowledged it.
    pub acknowledged: Option<Instant>,
}

/// How long the watch took to show acknowledged writes, since somebody last asked.
#[derive(Debug, Default)]
pub struct Delays(Vec<Duration>);

/// Delays that wait for somebody to read the metrics: more writes than there are in a minute.
const DELAYS_MAX: usize = 1_000;

impl Delays {
    /// One more; what is too many is forgotten.
    pub fn note(&mut self, delay: Duration) {
        if self.0.len() < DELAYS_MAX {
            self.0.push(delay);
        }
    }

    /// All of them.
    pub fn take(&mut self) -> Vec<Duration> {
        std::mem::take(&mut self.0)
    }
}

impl Assumed {
    /// Takes note of a write that is about to be sent.
    ///
    /// # Errors
    /// `false` is returned where the pod has one already; nothing changes then.
    pub fn begin(&mut self, uid: &Arc<str>, step: Move, base: u64) -> bool {
        if self.0.contains_key(uid) {
            return false;
        }
        self.0.insert(Arc::clone(uid), Write { step, base, doubtful: false, acknowledged: None });
        true
    }

    /// The server said for sure that it was not carried out.
    pub fn refused(&mut self, uid: &str) {
        self.0.remove(uid);
    }

    /// Its answer never came.
    pub fn doubt(&mut self, uid: &str) {
        self.0.get_mut(uid).into_iter().for_each(|write| write.doubtful = true);
    }

    /// Writes whose answer never came, and that nothing has settled since.
    #[must_use]
    pub fn doubtful(&self) -> usize {
        self.0.values().filter(|write| write.doubtful).count()
    }

    /// The server acknowledged it; `None` takes that back. Returns whether it was still waited for.
    pub fn acknowledge(&mut self, uid: &str, at: Option<Instant>) -> bool {
        let write = self.0.get_mut(uid);
        write.map(|write| write.acknowledged = at).is_some()
    }

    /// The watch, or the server itself, shows this version of the pod. Returns the write that it settles.
    pub fn seen(&mut self, uid: &str, version: u64) -> Option<Write> {
        let settles = self.0.get(uid).is_some_and(|write| version > write.base);
        settles.then(|| self.0.remove(uid)).flatten()
    }

    /// The watch shows that the pod is gone.
    pub fn gone(&mut self, uid: &str) {
        self.0.remove(uid);
    }

    /// The write under way for this pod.
    #[must_use]
    pub fn of(&self, uid: &str) -> Option<Write> {
        self.0.get(uid).copied()
    }

    /// Writes under way.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut_at(base: u64) -> (Assumed, Arc<str>) {
        let (mut assumed, uid) = (Assumed::default(), Arc::from("uid-9"));
        assert!(assumed.begin(&uid, Move::Cut, base));
        (assumed, uid)
    }

    #[test]
    fn a_write_is_settled_by_a_later_version_and_not_by_its_own_base() {
        let (mut assumed, uid) = cut_at(41);
        assumed.seen(&uid, 41);
        assert!(assumed.of(&uid).is_some());
        assumed.seen(&uid, 42);
        assert!(assumed.of(&uid).is_none());
    }

    #[test]
    fn a_second_write_to_the_same_pod_is_not_begun() {
        let (mut assumed, uid) = cut_at(41);
        assert!(!assumed.begin(&uid, Move::Restore, 41));
        assert_eq!(assumed.of(&uid).unwrap().step, Move::Cut);
    }

    #[test]
    fn a_pod_that_is_gone_has_no_write_in_flight() {
        let (mut assumed, uid) = cut_at(41);
        assumed.gone(&uid);
        assert!(assumed.is_empty());
    }
}
