//! What was seen from outside: each answer that a client got, every change of the EndpointSlices and of the Lease's holder.
//! Pure; times are since the curtain rose. Nothing here is the controller's own word.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::Duration;

use demo::record::spans;
use demo::words::clock;

/// Who asked. They are counted apart: a cut is for new connections only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// A connection of its own for each request.
    New,
    /// One connection for all requests, for as long as it lasts.
    Kept,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// 200, by this pod.
    Good(String),
    /// Another status, by this pod.
    Bad(String),
    /// No connection or no answer, and why.
    Failed(String),
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// When it was sent.
    pub at: Duration,
    /// By whom.
    pub by: Client,
    /// What came of it.
    pub outcome: Outcome,
}

impl Answer {
    fn pod(&self) -> Option<&str> {
        match &self.outcome {
            Outcome::Good(pod) | Outcome::Bad(pod) => Some(pod),
            Outcome::Failed(_) => None,
        }
    }

    fn is_good(&self) -> bool {
        matches!(self.outcome, Outcome::Good(_))
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let by = match self.by {
            Client::New => "a new connection",
            Client::Kept => "the kept one",
        };
        let what = match &self.outcome {
            Outcome::Good(pod) => format!("answered well by {pod}"),
            Outcome::Bad(pod) => format!("answered badly by {pod}"),
            Outcome::Failed(why) => why.clone(),
        };
        write!(f, "sent at {} on {by}: {what}", clock(self.at).trim_start())
    }
}

/// Requests, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// All of them.
    pub asked: usize,
    /// Those with another status than 200.
    pub bad: usize,
    /// Those without an answer.
    pub failed: usize,
}

impl Count {
    /// Some were asked, and all were answered well.
    pub const fn is_clean(self) -> bool {
        self.asked > 0 && self.bad + self.failed == 0
    }
}

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self { asked: 0, .. } => write!(f, "none asked"),
            Self { asked, bad: 0, failed: 0 } => write!(f, "all {asked} answered well"),
            Self { asked, bad, failed: 0 } => write!(f, "{bad} of {asked} answered badly"),
            Self { asked, bad, failed } => write!(f, "{bad} of {asked} answered badly, {failed} not at all"),
        }
    }
}

/// A pod that was told to answer badly, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Illness {
    pod: String,
    from: Duration,
    until: Duration,
}

/// Names of pods.
pub type Names = BTreeSet<String>;

/// All that was seen.
#[derive(Clone, Debug, Default)]
pub struct Record {
    answers: Vec<Answer>,
    /// How many requests are on their way, by when they were sent.
    on_their_way: BTreeMap<Duration, usize>,
    ill: Vec<Illness>,
    /// When the kept connection was opened, and opened again.
    opened: Vec<Duration>,
    serving: Vec<(Duration, Names)>,
    holders: Vec<(Duration, String)>,
}

impl Record {
    /// Notes that a request is on its way; [`Record::answer`] notes its end.
    pub fn asked(&mut self, at: Duration) {
        *self.on_their_way.entry(at).or_default() += 1;
    }

    /// Notes how a request ended.
    pub fn answer(&mut self, answer: Answer) {
        if let Some(count) = self.on_their_way.get_mut(&answer.at) {
            *count -= 1;
            if *count == 0 {
                self.on_their_way.remove(&answer.at);
            }
        }
        self.answers.push(answer);
    }

    /// Whether all requests that were sent before a time have ended: one that hangs ends seconds after the others, and is
    /// not among the answers until then.
    pub fn is_settled(&self, before: Duration) -> bool {
        self.on_their_way.first_key_value().is_none_or(|(at, _)| *at >= before)
    }

    /// Notes that a pod answers badly from now on, as it was told.
    pub fn ill(&mut self, pod: &str, from: Duration) {
        self.ill.push(Illness { pod: pod.to_owned(), from, until: Duration::MAX });
    }

    /// Notes that it has been told to answer well.
    pub fn well(&mut self, pod: &str, at: Duration) {
        self.ill.iter_mut().filter(|ill| ill.pod == pod).for_each(|ill| ill.until = ill.until.min(at));
    }

    /// Notes that the kept connection was opened.
    pub fn opened(&mut self, at: Duration) {
        self.opened.push(at);
    }

    /// Notes who serves from now on, by the EndpointSlices.
    pub fn serving(&mut self, at: Duration, pods: Names) {
        if self.serving.last().is_none_or(|(_, last)| *last != pods) {
            self.serving.push((at, pods));
        }
    }

    /// Notes who holds the Lease; nobody: empty.
    pub fn holder(&mut self, at: Duration, holder: &str) {
        if self.holders.last().is_none_or(|(_, last)| last != holder) {
            self.holders.push((at, holder.to_owned()));
        }
    }

    /// What a client's requests of a time came to.
    pub fn count(&self, by: Client, from: Duration, until: Duration) -> Count {
        let mut count = Count::default();
        for answer in self.of(by, from).filter(|answer| answer.at < until) {
            count.asked += 1;
            match answer.outcome {
                Outcome::Good(_) => {}
                Outcome::Bad(_) => count.bad += 1,
                Outcome::Failed(_) => count.failed += 1,
            }
        }
        count
    }

    /// How often each pod answered a client in a time.
    pub fn answerers(&self, by: Client, from: Duration, until: Duration) -> BTreeMap<&str, usize> {
        let mut pods = BTreeMap::new();
        for answer in self.of(by, from).filter(|answer| answer.at < until) {
            answer.pod().into_iter().for_each(|pod| *pods.entry(pod).or_default() += 1);
        }
        pods
    }

    /// When the first request since then was sent that this pod answered badly.
    pub fn first_bad(&self, pod: &str, from: Duration) -> Option<Duration> {
        let bad = |answer: &&Answer| answer.at >= from && !answer.is_good() && answer.pod() == Some(pod);
        self.answers.iter().filter(bad).map(|answer| answer.at).min()
    }

    /// Requests of both clients since then that did not end well though nobody had told the pod to answer badly, in the
    /// order of time.
    pub fn unasked_faults(&self, from: Duration) -> Vec<&Answer> {
        let fault = |answer: &&Answer| answer.at >= from && !answer.is_good() && !self.was_told_to(answer);
        let mut faults: Vec<_> = self.answers.iter().filter(fault).collect();
        faults.sort_by_key(|answer| answer.at);
        faults
    }

    fn was_told_to(&self, answer: &Answer) -> bool {
        let Outcome::Bad(pod) = &answer.outcome else { return false };
        self.ill.iter().any(|ill| ill.pod == *pod && (ill.from..ill.until).contains(&answer.at))
    }

    /// From when on a client's requests ended well without a break for so long, with a request at its end, and none of
    /// them with this pod.
    pub fn clean_since(
        &self,
        by: Client,
        without: Option<&str>,
        from: Duration,
        long: Duration,
    ) -> Option<Duration> {
        let is_clean = |answer: &Answer| answer.is_good() && (without.is_none() || answer.pod() != without);
        let mut times: Vec<_> = self.of(by, from).map(|answer| (answer.at, is_clean(answer))).collect();
        times.sort_unstable();
        let mut since = None;
        for (at, good) in times {
            since = good.then(|| since.unwrap_or(at));
            if since.is_some_and(|since| at >= since + long) {
                return since;
            }
        }
        None
    }

    /// The pod that answered on the kept connection last.
    pub fn kept_on(&self) -> Option<&str> {
        let kept = self.answers.iter().rev().filter(|answer| answer.by == Client::Kept);
        kept.filter_map(Answer::pod).next()
    }

    /// How often the kept connection was opened in a time.
    pub fn times_opened(&self, from: Duration, until: Duration) -> usize {
        self.opened.iter().filter(|at| (from..until).contains(at)).count()
    }

    /// Who serves now.
    pub fn serves(&self) -> Names {
        self.serving.last().map(|(_, pods)| pods.clone()).unwrap_or_default()
    }

    /// When a pod was first seen out of the EndpointSlices since then.
    pub fn left(&self, pod: &str, from: Duration) -> Option<Duration> {
        self.since(from).find(|(_, pods)| !pods.contains(pod)).map(|(at, _)| at)
    }

    /// When a pod was first seen in the EndpointSlices since then.
    pub fn came(&self, pod: &str, from: Duration) -> Option<Duration> {
        self.since(from).find(|(_, pods)| pods.contains(pod)).map(|(at, _)| at)
    }

    /// The fewest pods that served at any time since then.
    pub fn lowest(&self, from: Duration) -> usize {
        self.since(from).map(|(_, pods)| pods.len()).min().unwrap_or(0)
    }

    /// Who holds the Lease now.
    pub fn holds(&self) -> Option<&str> {
        self.holders.last().map(|(_, holder)| holder.as_str()).filter(|holder| !holder.is_empty())
    }

    /// When somebody else than this one took the Lease, first since then, and who.
    pub fn taken_from(&self, holder: &str, from: Duration) -> Option<(Duration, &str)> {
        let others =
            self.holders.iter().filter(|(at, other)| *at >= from && !other.is_empty() && other != holder);
        others.map(|(at, other)| (*at, other.as_str())).next()
    }

    /// A line a second: what the clients got, apart.
    pub fn seconds(&self, from: Duration, until: Duration) -> String {
        let mut table = String::new();
        for second in from.as_secs()..until.as_secs() {
            let [start, end] = [second, second + 1].map(Duration::from_secs);
            let (new, kept) = (self.count(Client::New, start, end), self.count(Client::Kept, start, end));
            let serving =
                self.serving.iter().rev().find(|(at, _)| *at < end).map_or(0, |(_, pods)| pods.len());
            // Writing to a String cannot fail.
            let _ = writeln!(
                table,
                "{}  {serving:>2} serve; new connections: {new}; the kept one: {kept}",
                clock(start)
            );
        }
        table
    }

    fn of(&self, by: Client, from: Duration) -> impl Iterator<Item = &Answer> {
        self.answers.iter().filter(move |answer| answer.by == by && answer.at >= from)
    }

    /// Each set of serving pods from a time on; the one that held then counts from that time.
    fn since(&self, from: Duration) -> impl Iterator<Item = (Duration, &Names)> {
        let spans = spans(&self.serving).filter(move |(_, end, _)| *end > from);
        spans.map(move |(start, _, pods)| (from.max(start), pods))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    /// A request a second: by `blue`, from 10 to 14 badly by `red`, at 15 without an answer, then by `blue` again.
    fn record() -> Record {
        let mut record = Record::default();
        for at in 0..30 {
            let outcome = match at {
                10..15 => Outcome::Bad("red".to_owned()),
                15 => Outcome::Failed("refused".to_owned()),
                _ => Outcome::Good("blue".to_owned()),
            };
            record.answer(Answer { at: secs(at), by: Client::New, outcome });
        }
        let kept = Outcome::Bad("red".to_owned());
        record.answer(Answer { at: secs(20), by: Client::Kept, outcome: kept });
        for (at, pods) in [(0, vec!["blue", "red"]), (14, vec!["blue"]), (25, vec!["blue", "red"])] {
            record.serving(secs(at), pods.into_iter().map(str::to_owned).collect());
        }
        record
    }

    #[test]
    fn the_two_clients_are_counted_apart() {
        let record = record();
        assert_eq!(record.count(Client::New, secs(8), secs(18)), Count { asked: 10, bad: 5, failed: 1 });
        assert_eq!(record.count(Client::Kept, secs(0), secs(99)), Count { asked: 1, bad: 1, failed: 0 });
        assert!(record.count(Client::New, secs(16), secs(30)).is_clean());
        assert!(!record.count(Client::New, secs(40), secs(50)).is_clean(), "nobody asked");
        assert_eq!(record.answerers(Client::New, secs(9), secs(12)), [("blue", 1), ("red", 2)].into());
        assert_eq!(record.kept_on(), Some("red"));
    }

    #[test]
    fn faults_have_a_first_and_a_last_one_and_an_end() {
        let record = record();
        assert_eq!(record.first_bad("red", secs(3)), Some(secs(10)));
        assert_eq!(record.first_bad("blue", secs(3)), None);
        assert_eq!(record.clean_since(Client::New, None, secs(12), secs(5)), Some(secs(16)));
        assert_eq!(record.clean_since(Client::New, None, secs(3), secs(5)), Some(secs(3)));
        assert_eq!(
            record.clean_since(Client::New, None, secs(12), secs(14)),
            None,
            "nobody has asked for so long since"
        );
        assert_eq!(
            record.clean_since(Client::New, Some("blue"), secs(16), secs(5)),
            None,
            "it still answers"
        );
        assert_eq!(record.clean_since(Client::Kept, None, secs(0), secs(1)), None);
    }

    #[test]
    fn a_fault_counts_unless_its_pod_was_told_to_answer_badly_just_then() {
        let mut record = record();
        let times =
            |record: &Record| record.unasked_faults(secs(11)).iter().map(|it| it.at).collect::<Vec<_>>();
        assert_eq!(times(&record), [11, 12, 13, 14, 15, 20].map(secs));
        record.ill("red", secs(12));
        assert_eq!(times(&record), [11, 15].map(secs), "no answer at all is never as told");
        record.well("red", secs(14));
        assert_eq!(times(&record), [11, 14, 15, 20].map(secs));
        let shown: Vec<_> = record.unasked_faults(secs(15)).iter().map(ToString::to_string).collect();
        let wanted = [
            "sent at 0:15.0 on a new connection: refused",
            "sent at 0:20.0 on the kept one: answered badly by red",
        ];
        assert_eq!(shown, wanted);
    }

    #[test]
    fn what_hangs_is_waited_for() {
        let mut record = Record::default();
        [3, 4, 4].map(secs).into_iter().for_each(|at| record.asked(at));
        let end = |at| Answer { at: secs(at), by: Client::New, outcome: Outcome::Good("blue".to_owned()) };
        assert!(record.is_settled(secs(3)) && !record.is_settled(secs(4)));
        record.answer(end(4));
        record.answer(end(3));
        assert!(record.is_settled(secs(4)) && !record.is_settled(secs(5)), "one of the two is on its way");
        record.answer(end(4));
        assert!(record.is_settled(secs(9)));
    }

    #[test]
    fn a_pod_leaves_and_comes_back() {
        let record = record();
        assert_eq!(record.left("red", secs(3)), Some(secs(14)));
        assert_eq!(record.left("red", secs(16)), Some(secs(16)), "it was out already");
        assert_eq!(record.came("red", secs(14)), Some(secs(25)));
        assert_eq!(record.came("green", secs(0)), None);
        assert_eq!((record.lowest(secs(26)), record.lowest(secs(3))), (2, 1));
        assert_eq!(Record::default().lowest(secs(0)), 0);
    }

    #[test]
    fn the_lease_passes_on() {
        let mut record = Record::default();
        for (at, holder) in [(1, "red"), (2, "red"), (7, ""), (8, "blue")] {
            record.holder(secs(at), holder);
        }
        assert_eq!(record.holds(), Some("blue"));
        assert_eq!(record.taken_from("red", secs(3)), Some((secs(8), "blue")));
        assert_eq!(record.taken_from("blue", secs(3)), None);
    }

    #[test]
    fn a_line_a_second() {
        let lines = record().seconds(secs(13), secs(15));
        assert_eq!(
            lines,
            " 0:13.0   2 serve; new connections: 1 of 1 answered badly; the kept one: none asked\n \
             0:14.0   1 serve; new connections: 1 of 1 answered badly; the kept one: none asked\n"
        );
    }
}
