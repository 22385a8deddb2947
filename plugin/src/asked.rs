//! A word on a pod that somebody waits for: written, watched, and taken back where the wait ends without what was asked.
//!
//! Left there by a command that nobody waits for any more, `Serve` would forbid every later cut and `Cut` would cut at a
//! moment that nobody expects.

use std::time::Duration;

use anyhow::Context;
use kubervisor::api::key;
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{sleep, timeout};

use crate::args::TryArgs;
use crate::fail::code;
use crate::objects::{name, text};
use crate::out;
use crate::pod;
use crate::reach::Cluster;
use crate::words::plain;

/// A controller does at once what it may do; longer than that, something forbids it.
pub const DONE_WITHIN: Duration = Duration::from_secs(30);
/// Pause between two looks at the pod.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// Whoever presses Ctrl-C waits no longer than that for the answer.
const TAKEN_BACK_WITHIN: Duration = Duration::from_secs(10);
/// Somebody who writes the same pod again and again is a loop; it is not fought.
const TRIES: usize = 5;

/// What asks this program to end. From then on it ends by itself only.
pub struct Stop([Signal; 3]);

impl Stop {
    /// Listens; to be called before anything is written.
    ///
    /// # Errors
    /// The system does not tell of signals.
    pub fn heard() -> anyhow::Result<Self> {
        let of = |kind| signal(kind).context("signals cannot be heard");
        Ok(Self([of(SignalKind::interrupt())?, of(SignalKind::terminate())?, of(SignalKind::hangup())?]))
    }

    async fn comes(&mut self) {
        let Self([interrupt, terminate, hangup]) = self;
        tokio::select! {
            biased;
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// How a wait ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// It is as asked.
    Done,
    /// Half a minute is over.
    Late,
    /// Somebody ended this program.
    Stopped,
}

/// What came of taking a word back. With the pod's metadata as they were then.
#[derive(Debug)]
pub enum Taken {
    /// It is off the pod.
    Back(Value),
    /// Somebody else had changed it meanwhile: theirs stays.
    Others(Value),
}

/// A word of ours on a pod.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// Where.
    pub cluster: &'a Cluster,
    /// As it was before.
    pub pod: &'a Value,
    /// As it stands on the pod now.
    pub word: &'static str,
}

impl Asked<'_> {
    /// Looks until it is so.
    ///
    /// # Errors
    /// The server's refusal; the pod is gone.
    pub async fn wait(&self, stop: &mut Stop, so: impl Fn(&Value) -> bool) -> anyhow::Result<Ended> {
        let (pod, word) = (name(self.pod), self.word);
        out::say(&format!(
            "pod/{pod} override set to {word}: waiting for the controller, {} seconds at most; Ctrl-C takes the word back",
            DONE_WITHIN.as_secs()
        ));
        tokio::select! {
            biased;
            () = stop.comes() => Ok(Ended::Stopped),
            answer = self.look(so) => answer.map_err(|error| match code(&error) {
                Some(404) => error,
                _ => error.context(self.stays()),
            }),
        }
    }

    async fn look(&self, so: impl Fn(&Value) -> bool) -> anyhow::Result<Ended> {
        let look = async {
            while !so(&self.now().await?) {
                sleep(LOOK_AGAIN).await;
            }
            Ok(Ended::Done)
        };
        timeout(DONE_WITHIN, look).await.unwrap_or(Ok(Ended::Late))
    }

    /// This very pod, and none that took its name. Whoever asks has a deadline: an API server that is away for a moment
    /// is waited for, or the word would stay.
    async fn now(&self) -> anyhow::Result<Value> {
        let now = loop {
            match pod::get(self.cluster, name(self.pod)).await {
                Err(error) if passes(&error) => sleep(LOOK_AGAIN).await,
                answer => break answer?,
            }
        };
        anyhow::ensure!(
            text(&now, "/metadata/uid") == text(self.pod, "/metadata/uid"),
            "pod {} went away meanwhile, and another one has its name: do it again for that one",
            name(&now)
        );
        Ok(now)
    }

    /// Puts `former` in the place of the word, unless somebody else has changed it.
    ///
    /// # Errors
    /// It stays.
    pub async fn take_back(&self, former: Option<&str>) -> anyhow::Result<Taken> {
        let taking = async {
            let mut unknown = None;
            for _ in 0..TRIES {
                let now = self.now().await?;
                if pod::word(&now) != Some(self.word) {
                    // A write whose answer was lost may have done it.
                    let ours = unknown.is_some() && pod::word(&now) == former;
                    return Ok(if ours { Taken::Back(now) } else { Taken::Others(now) });
                }
                let version = text(&now, "/metadata/resourceVersion");
                let patch =
                    json!({"metadata": {"resourceVersion": version, "annotations": {key::OVERRIDE: former}}});
                match pod::write(self.cluster, name(&now), &patch, &TryArgs::default()).await {
                    Err(error) if code(&error) == Some(409) => {}
                    Err(error) if passes(&error) => {
                        unknown = Some(error);
                        sleep(LOOK_AGAIN).await;
                    }
                    answer => return answer.map(Taken::Back),
                }
            }
            Err(unknown.unwrap_or_else(|| anyhow::anyhow!("others change the pod all the time")))
        };
        let taken = match timeout(TAKEN_BACK_WITHIN, taking).await {
            Ok(taken) => taken,
            Err(_) => Err(anyhow::anyhow!("no answer within {TAKEN_BACK_WITHIN:?}")),
        };
        taken.with_context(|| self.stays())
    }

    /// Undoes it for whoever does not wait for it, and gives the sentence on what stands now.
    pub async fn undone(&self, former: Option<&str>) -> anyhow::Error {
        let pod = name(self.pod);
        match self.take_back(former).await {
            Err(error) => error.context("interrupted"),
            Ok(Taken::Others(now)) => anyhow::anyhow!("interrupted: {}", theirs(&now)),
            Ok(Taken::Back(now)) => {
                let place = match (pod::out(&now), self.word, former) {
                    (true, "Cut", former) if former != Some("Cut") => "was cut already and goes back",
                    (true, ..) => "is out of traffic",
                    (false, ..) => "is in traffic",
                };
                anyhow::anyhow!("interrupted: pod {pod} {place}, and {}", self.as_before(former))
            }
        }
    }

    /// What is said of the word once it was taken back.
    #[must_use]
    pub fn as_before(&self, former: Option<&str>) -> String {
        match former {
            None => format!("the word {} is taken back", self.word),
            Some(former) if former == self.word => format!("its word is still {former}, as before"),
            Some(former) => format!("its word is {} again, as before", plain(former)),
        }
    }

    fn stays(&self) -> String {
        let (word, pod) = (self.word, name(self.pod));
        let clear = self.cluster.again.command(&["override", pod, "clear"]);
        format!("the word {word} may still be on pod {pod}, and `{clear}` takes it away")
    }
}

/// Whether it may go by itself: no answer, or none of the one who decides.
fn passes(error: &anyhow::Error) -> bool {
    code(error).is_none_or(|code| code == 429 || code >= 500)
}

/// The sentence on a word that somebody else changed.
#[must_use]
pub fn theirs(now: &Value) -> String {
    let pod = name(now);
    match pod::word(now) {
        Some(word) => {
            format!("somebody else changed the word on pod {pod} to {} meanwhile, which stays", plain(word))
        }
        None => format!("somebody else took the word off pod {pod} meanwhile"),
    }
}
