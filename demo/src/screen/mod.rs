//! What a person sees of the play, as values: folded once a second from readings, drawn by [`draw`], and put on
//! the terminal by [`terminal`].

pub mod draw;
pub mod terminal;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::words::Share;
use crate::workload::{Clients, Pod};

/// Seconds of history that are kept: more than the widest terminal shows.
const HISTORY: usize = 300;
/// Entries that are kept: more than the highest terminal shows.
const ENTRIES: usize = 100;
/// A pod whose errors in a second pass this share is shown as answering 500.
const ILL_SHARE: f64 = 0.3;
/// A pod whose mean price in a second is further than this from the right one is shown as mispricing: far beyond
/// the 3 % that twenty right prices scatter.
const PRICE_OFF: f64 = 0.25;

/// What the Service does with a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// In the EndpointSlices.
    Serving,
    /// Not in them, label `no`.
    Cut,
    /// Not in them, label `pause`.
    Paused,
    /// Not in them for another reason: not Ready yet, or about to end.
    Waiting,
    /// Deleted.
    Gone,
}

impl Standing {
    /// One word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Cut => "cut",
            Self::Paused => "paused",
            Self::Waiting => "waiting",
            Self::Gone => "gone",
        }
    }
}

/// One pod in one second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Glyph {
    /// Serves, and its clients are well.
    Well,
    /// Serves, and answers 500.
    Errors,
    /// Serves, and tells wrong prices.
    WrongPrices,
    /// Does not serve.
    Out(Standing),
}

/// One pod's line.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The pod's name.
    pub name: String,
    /// Now.
    pub standing: Standing,
    /// Its share of the requests of the last second.
    pub load: Share,
    /// Second by second, the latest last. Empty before the pod's first second.
    pub history: VecDeque<Glyph>,
    counted: Counted,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counted {
    answered: u64,
    errors: u64,
    price_sum: f64,
    price_count: u64,
}

/// A line of the play: what was done or said, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Since the curtain rose.
    pub at: Duration,
    /// One word or a few, such as `cut`.
    pub what: String,
    /// The rest of the line.
    pub text: String,
}

/// Everything that is on the screen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// Time in the play.
    pub at: Duration,
    /// The scene.
    pub title: String,
    /// What the controller says of itself, such as `Running, floor 5`.
    pub controller: String,
    /// Pods in the EndpointSlices.
    pub serving: usize,
    /// By ordinal.
    pub rows: BTreeMap<u32, Row>,
    /// Failed requests, second by second, the latest last.
    pub failed: VecDeque<Share>,
    /// The latest last.
    pub entries: VecDeque<Entry>,
    clients: Clients,
}

impl View {
    /// Adds a line.
    pub fn enter(&mut self, entry: Entry) {
        push(&mut self.entries, entry, ENTRIES);
    }

    /// Takes the readings of one more second.
    pub fn second<'a>(
        &mut self,
        clients: Clients,
        pods: impl IntoIterator<Item = (&'a String, &'a Pod, Standing)>,
    ) {
        let failed = clients.since(self.clients);
        self.clients = clients;
        push(&mut self.failed, failed, HISTORY);
        for (name, pod, standing) in pods {
            self.rows.entry(pod.ordinal).or_insert_with(|| Row::new(name)).second(
                pod,
                standing,
                failed.whole,
            );
        }
    }
}

impl Row {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            standing: Standing::Waiting,
            load: Share::default(),
            history: VecDeque::new(),
            counted: Counted::default(),
        }
    }

    fn second(&mut self, pod: &Pod, standing: Standing, requests: u64) {
        let counters = &pod.counters;
        let counted = Counted {
            answered: counters.answered(),
            errors: counters.errors(),
            price_sum: counters.price_sum(),
            price_count: counters.price_count(),
        };
        let before = std::mem::replace(&mut self.counted, counted);
        self.standing = standing;
        self.load = Share { part: counted.answered - before.answered, whole: requests };
        push(&mut self.history, glyph(before, counted, standing), HISTORY);
    }
}

fn glyph(before: Counted, now: Counted, standing: Standing) -> Glyph {
    if standing != Standing::Serving {
        return Glyph::Out(standing);
    }
    let errors = Share { part: now.errors - before.errors, whole: now.answered - before.answered };
    let prices = now.price_count - before.price_count;
    let mean = (now.price_sum - before.price_sum) / (prices.max(1)) as f64;
    if errors.ratio() > ILL_SHARE {
        Glyph::Errors
    } else if prices > 0 && (mean / incidents::PRICE_MEAN - 1.0).abs() > PRICE_OFF {
        Glyph::WrongPrices
    } else {
        Glyph::Well
    }
}

fn push<T>(kept: &mut VecDeque<T>, item: T, limit: usize) {
    if kept.len() == limit {
        kept.pop_front();
    }
    kept.push_back(item);
}

#[cfg(test)]
mod tests {
    use incidents::{Answer, Counters};

    use super::*;

    fn pod(answers: &[(u16, Option<f64>)]) -> Pod {
        let mut counters = Counters::default();
        let latency = Duration::from_millis(1);
        answers
            .iter()
            .for_each(|(code, price)| counters.record(&Answer { code: *code, price: *price, latency }));
        Pod { ordinal: 6, counters, gone: false }
    }

    fn glyphs(seconds: &[(Pod, Standing)]) -> Vec<Glyph> {
        let mut view = View::default();
        let name = "red".to_owned();
        for (pod, standing) in seconds {
            view.second(Clients { requests: 4, errors: 0 }, [(&name, pod, *standing)]);
        }
        view.rows[&6].history.iter().copied().collect()
    }

    #[test]
    fn a_second_shows_what_its_clients_saw_and_not_what_came_before() {
        let well = [(200, Some(100.0)), (200, Some(110.0))];
        let ill = [&well[..], &[(500, None), (500, None)]].concat();
        let cheap = [&ill[..], &[(200, Some(50.0))]].concat();
        let seconds = [&well[..], &ill, &cheap, &cheap].map(|answers| (pod(answers), Standing::Serving));
        assert_eq!(glyphs(&seconds), [Glyph::Well, Glyph::Errors, Glyph::WrongPrices, Glyph::Well]);
    }

    #[test]
    fn a_pod_out_of_traffic_shows_that_and_nothing_else() {
        let seconds = [(pod(&[(500, None)]), Standing::Cut), (pod(&[(500, None)]), Standing::Gone)];
        assert_eq!(glyphs(&seconds), [Glyph::Out(Standing::Cut), Glyph::Out(Standing::Gone)]);
    }

    #[test]
    fn old_seconds_are_dropped() {
        let seconds = vec![(pod(&[]), Standing::Serving); HISTORY + 5];
        assert_eq!(glyphs(&seconds).len(), HISTORY);
    }
}
