//! Who may act: what one candidate makes of the Lease as it finds it.
//!
//! Pure. Takes what the Lease says and the time on a clock that counts suspension too; gives the next write to it.
//! Expiry is judged by how long *this* process has seen no sign of life: the times written in a Lease come from
//! another machine's clock and are never compared with ours.

use std::time::Duration;

use super::CALL_TIMEOUT;

/// Lengths that follow from the one that people choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// A holder that shows no sign of life for so long has lost the Lease.
    pub duration: Duration,
}

impl Timing {
    /// As short as the holder's own, so that whoever takes the Lease from it waits no longer than it takes.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        let usual = Duration::from_secs(15);
        let duration = if record.duration > RELEASED { record.duration } else { usual };
        Self { duration: duration.max(Duration::from_secs(3)) }
    }

    /// Pause between two renewals: three tries fit into the time that a renewal is good for.
    #[must_use]
    pub fn renew_every(self) -> Duration {
        self.duration / 5
    }

    /// A holder writes for so long after the start of its last renewal. The third that is left until others may take
    /// over covers clocks of different speed, and the way from the last look at the clock to the wire.
    #[must_use]
    pub fn valid_for(self) -> Duration {
        self.duration * 2 / 3
    }

    /// Pause between two looks of those who wait: a sign of life is noticed so late, and the end of a holder that gives
    /// none is noticed so late after it, its last look being timed to the end. With the time of the calls a takeover
    /// comes less than a second after the duration.
    #[must_use]
    pub fn look_every(self) -> Duration {
        (self.duration / 20).min(Duration::from_millis(750))
    }

    /// Time for one call.
    #[must_use]
    pub fn call_within(self) -> Duration {
        (self.duration / 3).min(CALL_TIMEOUT)
    }

    /// A write that a former holder sent in its last moment may land for so long after its end.
    #[must_use]
    pub fn write_within(self) -> Duration {
        CALL_TIMEOUT
    }
}

/// What the Lease says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// resourceVersion: the base of the next write.
    pub version: String,
    /// holderIdentity; empty after a clean end.
    pub holder: String,
    /// leaseDurationSeconds: the holder's promise. 1 with an empty holder is the sign of a clean end.
    pub duration: Duration,
    /// leaseTransitions.
    pub epoch: u64,
    /// renewTime as it is written. Only its change matters.
    pub renewed: String,
    /// Why everything is frozen, where it is.
    pub freeze: Option<String>,
}

impl Record {
    /// The last holder said itself that all its writes had ended.
    fn ended_cleanly(&self) -> bool {
        self.holder.is_empty() && self.duration == RELEASED
    }

    fn same_sign(&self, other: &Self) -> bool {
        (&self.holder, self.epoch, &self.renewed) == (&other.holder, other.epoch, &other.renewed)
    }
}

/// leaseDurationSeconds of a Lease that was given up, as other programs write it too.
pub const RELEASED: Duration = Duration::from_secs(1);

/// A write to the Lease that makes or keeps this process its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The version that it replaces; `None` creates the Lease.
    pub base: Option<String>,
    /// leaseTransitions.
    pub epoch: u64,
    /// Nobody held it before, as far as anybody can tell.
    pub first: bool,
    /// From when on this process may take traffic away: before that a write of the former holder may still land.
    pub cuts_from: Duration,
}

/// One candidate.
///
/// ```text
///                nobody holds it · its holder gave it up · its holder was silent for its duration
///   Standby ------------------------------------------------------------------------------------> Holder
///      ^                                                                                            |
///      |             somebody else holds it · nobody holds it · it is gone                           |
///      +--------------------------------------------------------------------------------------------+
/// ```
///
/// A holder that cannot renew stays one until it sees another: nobody may have noticed. Its right to write ends before
/// that ([`Timing::valid_for`]).
#[derive(Debug)]
pub struct Election {
    identity: String,
    timing: Timing,
    /// Takes a Lease that is held, too.
    seizes: bool,
    /// The epoch of a Lease that nobody has held before.
    first_epoch: u64,
    stand: Stand,
    /// The last sign of life of anybody else: what it was, and when it was new.
    foreign: Option<(Record, Duration)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Stand {
    Standby,
    Holder { epoch: u64 },
}

/// What follows from a look at the Lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nothing to do but to look again.
    Wait,
    /// This write, at once.
    Write(Order),
}

impl Election {
    /// `identity` must be another one for every process that ever runs. `seizes`: a holder that lives is no obstacle.
    #[must_use]
    pub fn new(identity: String, timing: Timing, seizes: bool) -> Self {
        Self { identity, timing, seizes, first_epoch: 1, stand: Stand::Standby, foreign: None }
    }

    /// A Lease that nobody has held before begins with this epoch. Where it was deleted after the chart, an API server may
    /// go on comparing with the one that it saw last (kubernetes issue 130887): the new one must not look older.
    #[must_use]
    pub fn beginning_with(self, first_epoch: u64) -> Self {
        Self { first_epoch, ..self }
    }

    /// Lengths.
    #[must_use]
    pub fn timing(&self) -> Timing {
        self.timing
    }

    /// The name in the Lease.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Whether the Lease was this process' own when it last looked.
    #[must_use]
    pub fn holds(&self) -> bool {
        matches!(self.stand, Stand::Holder { .. })
    }

    /// Whoever is known to have held it last, and how long he must be silent.
    #[must_use]
    pub fn other(&self) -> Option<(&str, Duration)> {
        self.foreign.as_ref().map(|(record, _)| (record.holder.as_str(), self.patience(record)))
    }

    /// Takes what the Lease says at `now`; `None` where there is none.
    pub fn looked(&mut self, found: Option<&Record>, now: Duration) -> Next {
        match found {
            Some(record) if record.holder == self.identity => {
                let epoch = record.epoch;
                Next::Write(self.order(Some(record), epoch, now))
            }
            Some(record) => self.looked_at_foreign(record, now),
            None => self.found_none(now),
        }
    }

    fn looked_at_foreign(&mut self, record: &Record, now: Duration) -> Next {
        let lost = std::mem::replace(&mut self.stand, Stand::Standby) != Stand::Standby;
        let known = self.foreign.as_ref().filter(|(seen, _)| seen.same_sign(record) && !lost);
        let since = known.map_or(now, |(_, since)| *since);
        self.foreign = Some((record.clone(), since));
        let silent = now.saturating_sub(since);
        let free = record.holder.is_empty() || self.seizes || silent >= self.patience(record);
        if free { Next::Write(self.order(Some(record), after(record.epoch), now)) } else { Next::Wait }
    }

    /// Whoever held a Lease that was deleted may not know it yet: its end is waited for as if it had just renewed.
    /// Where this process has never seen one there is nobody to wait for: that is a first start.
    fn found_none(&mut self, now: Duration) -> Next {
        let lost = std::mem::replace(&mut self.stand, Stand::Standby);
        if let Stand::Holder { epoch } = lost {
            let gone = Record { epoch, duration: self.timing.duration, ..Record::default() };
            self.foreign = Some((gone, now));
        }
        let Some((last, since)) = &mut self.foreign else {
            return Next::Write(self.order(None, self.first_epoch, now));
        };
        if !last.version.is_empty() {
            (last.version, *since) = (String::new(), now);
        }
        let (last, since) = (last.clone(), *since);
        if now.saturating_sub(since) < self.patience(&last) {
            return Next::Wait;
        }
        Next::Write(self.order(None, after(last.epoch), now))
    }

    /// Pause until the next look of one who waits: not past the moment at which a silent holder has lost the Lease.
    #[must_use]
    pub fn next_look(&self, now: Duration) -> Duration {
        let usual = self.timing.look_every();
        let end = self.foreign.as_ref().map(|(record, since)| *since + self.patience(record));
        end.map_or(usual, |end| end.saturating_sub(now).min(usual))
    }

    fn patience(&self, record: &Record) -> Duration {
        record.duration.max(self.timing.duration)
    }

    /// Counted from the last sign of life of the former holder, not from now: it began no write later than its
    /// duration after that, and each ends within the time of a call. A return may be sent at once, whatever of its may
    /// still land: it only adds a pod to those that serve, and of two writes to one pod the second is refused.
    fn order(&self, base: Option<&Record>, epoch: u64, now: Duration) -> Order {
        let waits = self.foreign.as_ref().filter(|(record, _)| !record.ended_cleanly());
        let until = |(record, since): &(Record, Duration)| {
            *since + self.patience(record) + self.timing.write_within()
        };
        Order {
            base: base.map(|record| record.version.clone()),
            epoch,
            first: base.is_none() && self.foreign.is_none(),
            cuts_from: waits.map_or(now, until),
        }
    }

    /// The write of this order was accepted.
    pub fn accepted(&mut self, order: &Order) {
        self.stand = Stand::Holder { epoch: order.epoch };
    }
}

/// The field holds 32 bits: one more than its greatest would be refused, and nobody could ever take the Lease again.
/// It begins anew, as only the difference from the former matters.
fn after(epoch: u64) -> u64 {
    if i32::try_from(epoch + 1).is_ok() { epoch + 1 } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TIMING: Timing = Timing { duration: Duration::from_secs(30) };

    fn candidate() -> Election {
        Election::new("plum".into(), TIMING, false)
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn held_by(holder: &str, renewed: &str) -> Record {
        Record {
            version: format!("v-{renewed}"),
            holder: holder.into(),
            duration: at(30),
            epoch: 4,
            renewed: renewed.into(),
            freeze: None,
        }
    }

    fn given_up() -> Record {
        Record { duration: RELEASED, ..held_by("", "given up") }
    }

    fn written(next: Next) -> Order {
        let Next::Write(order) = next else { panic!("it waits") };
        order
    }

    #[test]
    fn a_lease_that_never_was_is_made_at_once_and_nothing_is_waited_for() {
        let order = written(candidate().looked(None, at(7)));
        assert_eq!(order, Order { base: None, epoch: 1, first: true, cuts_from: at(7) });
    }

    #[test]
    fn a_new_lease_begins_with_a_greater_number_than_any_before_it_and_one_that_is_there_goes_on() {
        let order = written(candidate().beginning_with(29_000_000).looked(None, at(7)));
        assert_eq!((order.epoch, order.first), (29_000_000, true));
        let given_up = Record { holder: String::new(), duration: RELEASED, ..held_by("", "") };
        let order = written(candidate().beginning_with(29_000_000).looked(Some(&given_up), at(7)));
        assert_eq!(order.epoch, 5);
    }

    #[test]
    fn a_lease_given_up_is_taken_at_once_and_nothing_is_waited_for() {
        let order = written(candidate().looked(Some(&given_up()), at(7)));
        assert_eq!((order.epoch, order.cuts_from, order.first), (5, at(7), false));
    }

    #[test]
    fn a_lease_emptied_by_somebody_else_is_taken_but_its_holder_may_still_write() {
        let emptied = held_by("", "by hand");
        let order = written(candidate().looked(Some(&emptied), at(7)));
        assert_eq!(order.cuts_from, at(7 + 30 + 5));
    }

    #[test]
    fn a_holder_is_silent_from_when_its_last_sign_was_seen_whatever_time_stands_in_it() {
        let mut plum = candidate();
        assert_eq!(plum.looked(Some(&held_by("pear", "2001-01-01")), at(7)), Next::Wait);
        assert_eq!(plum.looked(Some(&held_by("pear", "2001-01-01")), at(36)), Next::Wait);
        assert_eq!(plum.looked(Some(&held_by("pear", "2001-01-02")), at(37)), Next::Wait);
        assert_eq!(plum.looked(Some(&held_by("pear", "2001-01-02")), at(66)), Next::Wait);
        let order = written(plum.looked(Some(&held_by("pear", "2001-01-02")), at(67)));
        assert_eq!((order.epoch, order.cuts_from), (5, at(37 + 30 + 5)));
    }

    #[test]
    fn a_note_on_the_lease_is_no_sign_of_life() {
        let mut plum = candidate();
        plum.looked(Some(&held_by("pear", "noon")), at(7));
        let noted = Record { version: "v-later".into(), freeze: Some("x".into()), ..held_by("pear", "noon") };
        assert_eq!(plum.looked(Some(&noted), at(20)), Next::Wait);
        assert_eq!(written(plum.looked(Some(&noted), at(37))).base.unwrap(), "v-later");
    }

    #[test]
    fn a_holder_that_sees_another_stands_back_and_waits_like_anybody() {
        let mut plum = candidate();
        let order = written(plum.looked(None, at(7)));
        plum.accepted(&order);
        assert!(plum.holds());
        assert_eq!(plum.looked(Some(&held_by("pear", "noon")), at(9)), Next::Wait);
        assert!(!plum.holds());
        let order = written(plum.looked(Some(&held_by("pear", "noon")), at(39)));
        assert_eq!(order.cuts_from, at(9 + 30 + 5));
    }

    #[test]
    fn a_lease_with_the_greatest_number_of_holders_can_still_be_taken() {
        let last = Record { holder: String::new(), epoch: 2_147_483_647, ..held_by("", "") };
        let Next::Write(order) = candidate().looked(Some(&last), at(100)) else { panic!("nobody holds it") };
        assert_eq!(order.epoch, 1);
    }

    #[test]
    fn its_own_lease_is_renewed_in_the_same_epoch_also_where_the_answer_to_the_taking_was_lost() {
        let mut plum = candidate();
        plum.looked(Some(&held_by("pear", "noon")), at(7));
        plum.looked(Some(&held_by("pear", "noon")), at(37));
        let mine = Record { epoch: 5, ..held_by("plum", "later") };
        let order = written(plum.looked(Some(&mine), at(40)));
        assert_eq!((order.epoch, order.cuts_from), (5, at(7 + 30 + 5)));
    }

    #[test]
    fn a_lease_deleted_under_a_holder_is_made_again_only_after_its_time() {
        let mut plum = candidate();
        plum.looked(Some(&held_by("pear", "noon")), at(7));
        assert_eq!(plum.looked(None, at(10)), Next::Wait);
        assert_eq!(plum.looked(None, at(39)), Next::Wait);
        let order = written(plum.looked(None, at(40)));
        assert_eq!((order.epoch, order.first, order.cuts_from), (5, false, at(10 + 30 + 5)));
    }

    #[test]
    fn a_holder_whose_lease_is_deleted_stands_back() {
        let mut plum = candidate();
        let order = written(plum.looked(None, at(7)));
        plum.accepted(&order);
        assert_eq!(plum.looked(None, at(9)), Next::Wait);
        assert!(!plum.holds());
    }

    #[test]
    fn whoever_seizes_takes_it_from_a_living_holder_and_waits_for_its_writes() {
        let mut plum = Election::new("plum".into(), TIMING, true);
        let order = written(plum.looked(Some(&held_by("pear", "noon")), at(7)));
        assert_eq!((order.epoch, order.cuts_from), (5, at(7 + 30 + 5)));
    }

    #[test]
    fn whoever_waits_looks_at_the_moment_at_which_a_silent_holder_has_lost_the_lease() {
        let mut plum = candidate();
        let pear = held_by("pear", "noon");
        assert_eq!(plum.looked(Some(&pear), at(7)), Next::Wait);
        assert_eq!(plum.next_look(at(7)), TIMING.look_every());
        let last = at(7 + 30) - Duration::from_millis(20);
        assert_eq!(plum.looked(Some(&pear), last), Next::Wait);
        assert_eq!(plum.next_look(last), Duration::from_millis(20));
        written(plum.looked(Some(&pear), last + plum.next_look(last)));
    }

    #[test]
    fn a_lease_that_is_kept_for_longer_is_left_alone_for_so_long_also_by_whoever_comes_anew() {
        let (mut plum, mut quince) = (candidate(), candidate());
        let order = written(plum.looked(None, at(1)));
        plum.accepted(&order);
        assert_eq!(plum.looked(Some(&held_by("release", "noon")), at(7)), Next::Wait);
        let kept = Record { duration: at(120), ..held_by("release", "a minute past noon") };
        assert_eq!(plum.looked(Some(&kept), at(20)), Next::Wait);
        assert_eq!(plum.other(), Some(("release", at(120))));
        assert_eq!(plum.looked(Some(&kept), at(139)), Next::Wait);
        assert_eq!(quince.looked(Some(&kept), at(30)), Next::Wait);
        assert_eq!(quince.looked(Some(&kept), at(149)), Next::Wait);
        assert_eq!(written(quince.looked(Some(&kept), at(150))).epoch, 5);
        assert_eq!(written(plum.looked(Some(&kept), at(140))).cuts_from, at(20 + 120 + 5));
    }

    #[test]
    fn a_holder_stops_writing_before_anybody_may_take_over() {
        for seconds in [3, 15, 600] {
            let timing = Timing { duration: at(seconds) };
            assert!(timing.valid_for() + timing.look_every() < timing.duration);
            assert!(timing.renew_every() * 3 < timing.valid_for());
            assert!(timing.look_every() <= at(1));
        }
    }

    const NEVER: (Duration, Duration) = (Duration::ZERO, Duration::ZERO);

    /// A Lease, two who stand for it, and the time in which each may take traffic away.
    struct Race {
        lease: Option<Record>,
        who: [Election; 2],
        may: [(Duration, Duration); 2],
        version: u64,
    }

    impl Race {
        /// One of them looks, and its write is accepted or lost on the way back.
        fn turn(&mut self, i: usize, now: Duration, answered: bool) {
            let next = self.who[i].looked(self.lease.as_ref(), now);
            if !self.who[i].holds() {
                self.may[i] = NEVER;
            }
            let Next::Write(order) = next else { return };
            self.version += 1;
            self.lease = Some(Record {
                version: self.version.to_string(),
                holder: self.who[i].identity().into(),
                duration: TIMING.duration,
                epoch: order.epoch,
                renewed: self.version.to_string(),
                freeze: None,
            });
            if answered {
                self.who[i].accepted(&order);
                self.may[i] = (order.cuts_from, now + TIMING.valid_for());
            }
        }
    }

    proptest! {
        #[test]
        fn no_two_candidates_may_ever_take_traffic_away_at_one_time(
            turns in proptest::collection::vec((0_usize..2, 0_u64..40, 0_u32..10), 1..60),
        ) {
            let new = |name: &str| Election::new(name.into(), TIMING, false);
            let mut race =
                Race { lease: None, who: [new("plum"), new("pear")], may: [NEVER, NEVER], version: 0 };
            let mut now = at(100);
            for (i, pause, luck) in turns {
                now += at(pause);
                // Whoever has not seen this holder cannot wait for it once the Lease is deleted: for him it never was.
                let same = |r: &Record, l: &Record| (&r.holder, r.epoch) == (&l.holder, l.epoch);
                let seen = |e: &Election, l| e.holds() || e.foreign.as_ref().is_some_and(|(r, _)| same(r, l));
                let known = race.lease.as_ref().is_some_and(|l| race.who.iter().all(|e| seen(e, l)));
                if luck == 0 && known {
                    race.lease = None;
                }
                race.turn(i, now, luck > 2);
                let [(a_from, a_until), (b_from, b_until)] = race.may;
                let both = a_from.max(b_from) < a_until.min(b_until);
                prop_assert!(!both, "{:?}", race.may);
            }
        }
    }
}
