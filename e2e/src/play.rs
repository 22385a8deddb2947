//! A play that is on: its promises, and what is said while it goes on.

use std::time::Duration;

use anyhow::Context;
use demo::promises::Promise;
use jiff::Timestamp;

use crate::evidence::{PodWrite, pod_writes};
use crate::names::{ACCOUNT, NAMESPACE};
use crate::record::{Client, Count, Record};
use crate::shared::Shared;
use crate::stage::{Stage, see};

/// For what takes seconds; a machine that compiles beside it takes twenty times as long.
pub const SOON: Duration = Duration::from_secs(180);
/// For pods that come and go.
pub const ROLLED: Duration = Duration::from_secs(240);
/// Answers to new connections, five seconds of them: what a promise "none is bad" looks at.
const WELL: usize = 500;

/// A play that is on.
pub struct Play {
    /// What it is played on.
    pub stage: Stage,
    promises: Vec<Promise>,
    scene: usize,
}

impl Play {
    /// Before the first scene.
    pub const fn new(stage: Stage) -> Self {
        Self { stage, promises: Vec::new(), scene: 0 }
    }

    /// The clock and the record.
    pub const fn shared(&self) -> &Shared {
        &self.stage.shared
    }

    /// Since the curtain rose.
    pub fn now(&self) -> Duration {
        self.shared().now()
    }

    /// Begins a scene; gives the time.
    pub fn scene(&mut self, title: &str) -> Duration {
        self.scene += 1;
        self.say(&format!("scene {}", self.scene), title);
        self.now()
    }

    /// Shows a line.
    pub fn say(&self, what: &str, text: &str) {
        self.shared().tell(what, text);
    }

    /// Notes a promise and shows it.
    pub fn promise(&mut self, kept: bool, text: String) {
        self.say(if kept { "ok" } else { "FAILED" }, &text);
        self.promises.push(Promise { kept, text });
    }

    /// All that were made so far.
    pub fn promises(&self) -> &[Promise] {
        &self.promises
    }

    /// Waits until the record shows something; none after the limit.
    pub async fn see<T>(&self, limit: Duration, look: impl FnMut(&Record) -> Option<T>) -> Option<T> {
        see(self.shared(), limit, look).await
    }

    /// What both clients got since then, once those who open connections have asked 500 times and all of it has ended.
    ///
    /// # Errors
    /// When they do not ask so often: a promise on what nobody has asked would say nothing.
    pub async fn watch_clients(&self, from: Duration) -> anyhow::Result<(Count, Count)> {
        let asked =
            |record: &Record| (record.count(Client::New, from, Duration::MAX).asked >= WELL).then_some(());
        let asked = self.see(SOON, asked).await;
        asked.with_context(|| format!("the clients have not asked {WELL} times in {SOON:?}"))?;
        let until = self.settled().await?;
        let record = self.shared().record();
        Ok([Client::New, Client::Kept].map(|client| record.count(client, from, until)).into())
    }

    /// A time before which all requests that were sent have ended.
    ///
    /// # Errors
    /// When one does not end.
    pub async fn settled(&self) -> anyhow::Result<Duration> {
        let until = self.now();
        let settled = self.see(SOON, |record| record.is_settled(until).then_some(())).await;
        settled.with_context(|| format!("a request of the clients has no end within {SOON:?}"))?;
        Ok(until)
    }

    /// Tells a pod of the shop how to answer from now on; the record notes whose bad answers are meant.
    ///
    /// # Errors
    /// When it does not take the order.
    pub async fn order(&self, pod: &str, bad: u32) -> anyhow::Result<()> {
        if bad > 0 {
            self.shared().record().ill(pod, self.now());
        }
        self.stage.hands.order(NAMESPACE, pod, bad).await?;
        if bad == 0 {
            self.shared().record().well(pod, self.now());
        }
        Ok(())
    }

    /// The controller's writes to the shop's pods since then, as the API server accepted them.
    ///
    /// # Errors
    /// When the audit log cannot be read.
    pub async fn writes(&self, user: &str, since: Duration) -> anyhow::Result<Vec<PodWrite>> {
        let since: Timestamp = self.shared().wall(since)?;
        pod_writes(&self.stage.cluster, NAMESPACE, user, since).await
    }

    /// Those of the controller.
    ///
    /// # Errors
    /// When the audit log cannot be read.
    pub async fn controllers_writes(&self, since: Duration) -> anyhow::Result<Vec<PodWrite>> {
        self.writes(ACCOUNT, since).await
    }
}
