//! The director: follows the script, notes what is seen, shows it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use futures::StreamExt;
use incidents::{Episode, Pods};
use jiff::Timestamp;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::desk::Answers;
use crate::endpoints::Endpoints;
use crate::pictures::Pictures;
use crate::promises::{Facts, Promise, judge};
use crate::record::Record;
use crate::screen::terminal::Terminal;
use crate::screen::{Entry, Standing, View, draw};
use crate::script::{Cue, FLOOR, HOPELESS, PODS, Scene, Script, Seen};
use crate::shop::{CONTROLLER, NAMESPACE, apply};
use crate::sights::{self, PodSeen, Sight};
use crate::stage::Stage;
use crate::workload::Pod;

const LAST_ACT: &str = include_str!("../manifests/last-act.yaml");
/// The director looks at the script and the clients this often.
const BEAT: Duration = Duration::from_millis(100);
/// Beats a second.
const BEATS: u64 = 10;
/// The screen is drawn each so many beats: five times a second looks alive.
const DRAW_BEATS: u64 = 2;

/// What is left of the play.
#[derive(Debug)]
pub struct Played {
    /// Judged.
    pub promises: Vec<Promise>,
    /// Of the plugin, where they were wanted; or why there are none.
    pub pictures: anyhow::Result<Pictures>,
}

/// What the plugin said when the floor was reached.
#[derive(Debug)]
struct Asked {
    answers: Answers,
    pictures: Option<Pictures>,
}

/// Plays the play on a set stage; `pictures`: looks at the plugin on a terminal too.
///
/// # Errors
/// When the controller or the cluster breaks down, or nobody reads the output any more.
pub async fn perform(stage: &mut Stage, terminal: &mut Terminal, pictures: bool) -> anyhow::Result<Played> {
    let mut sights = sights::of(&stage.shop.client, NAMESPACE);
    let mut beats = interval(BEAT);
    // A stalled director skips beats: the readings carry their own times.
    beats.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut play = Play::begin(stage, terminal)?;
    play.wants_pictures = pictures;
    loop {
        tokio::select! {
            biased;
            change = play.stage.shop.changes.recv() => {
                let (at, endpoints) = change.context("the load generator ended")?;
                play.endpoints(at, endpoints);
            }
            sight = sights.next() => play.saw(sight.context("the watches ended")?)?,
            _ = beats.tick() => if play.beat().await? { break },
        }
    }
    play.end().await
}

struct Play<'a> {
    stage: &'a mut Stage,
    terminal: &'a mut Terminal,
    script: Script,
    record: Record,
    view: View,
    endpoints: Endpoints,
    pods: BTreeMap<String, PodSeen>,
    /// Episodes that end, and how to say that they do.
    heals: Vec<(Duration, String)>,
    /// A policy that is being applied.
    applying: Option<JoinHandle<anyhow::Result<()>>>,
    /// The plugin, while it is asked.
    asking: Option<JoinHandle<anyhow::Result<Asked>>>,
    /// What came of it.
    asked: Option<anyhow::Result<Asked>>,
    wants_pictures: bool,
    /// When the curtain rose, for what the API server dates.
    rose: Timestamp,
    bring_up: Duration,
    beats: u64,
}

impl<'a> Play<'a> {
    fn begin(stage: &'a mut Stage, terminal: &'a mut Terminal) -> anyhow::Result<Self> {
        let rose = Timestamp::now();
        stage.shop.curtain.rise();
        let endpoints = stage.shop.workload.lock().pods().keys().cloned().collect();
        let bring_up = stage.shop.cluster_ready.elapsed();
        let mut play = Self {
            stage,
            terminal,
            script: Script::default(),
            record: Record::default(),
            view: View::default(),
            endpoints: Endpoints::new(),
            pods: BTreeMap::new(),
            heals: Vec::new(),
            applying: None,
            asking: None,
            asked: None,
            wants_pictures: false,
            rose,
            bring_up,
            beats: 0,
        };
        play.endpoints(None, endpoints);
        play.announce(Duration::ZERO, Scene::Calm, &[])?;
        Ok(play)
    }

    fn now(&self) -> Duration {
        self.stage.shop.curtain.at().unwrap_or_default()
    }

    fn endpoints(&mut self, at: Option<Duration>, endpoints: Endpoints) {
        let mut workload = self.stage.shop.workload.lock();
        endpoints.iter().for_each(|name| workload.enrol(name));
        let serving = endpoints.iter().filter_map(|name| workload.ordinal(name)).collect();
        drop(workload);
        self.record.serving(at.unwrap_or_default(), serving);
        self.view.serving = endpoints.len();
        self.endpoints = endpoints;
    }

    fn saw(&mut self, sight: Sight) -> anyhow::Result<()> {
        match sight {
            Sight::Pods(pods) => self.pods(pods),
            Sight::Status(status) => self.view.controller = status,
            Sight::Told { what, pod, note } => {
                let ordinal = pod.as_ref().and_then(|name| self.stage.shop.workload.lock().ordinal(name));
                if what == "Held" {
                    self.record.hold(self.now(), &note);
                }
                let who = ordinal.map(|pod| format!("pod {}: ", pod + 1)).unwrap_or_default();
                self.enter(self.now(), what, format!("{who}{note}"))?;
            }
        }
        Ok(())
    }

    fn pods(&mut self, pods: BTreeMap<String, PodSeen>) {
        let mut workload = self.stage.shop.workload.lock();
        pods.keys().for_each(|name| workload.enrol(name));
        self.pods.keys().filter(|name| !pods.contains_key(*name)).for_each(|name| workload.retire(name));
        drop(workload);
        self.pods = pods;
    }

    /// True at the end of the play.
    async fn beat(&mut self) -> anyhow::Result<bool> {
        let at = self.now();
        self.record.clients(at, self.stage.shop.workload.lock().clients());
        if self.beats.is_multiple_of(BEATS) {
            self.second(at)?;
        }
        let healed: Vec<_> = self.heals.extract_if(.., |(heal, _)| *heal <= at).collect();
        for (_, whom) in healed {
            self.enter(at, "healed".to_owned(), format!("{whom} well again"))?;
        }
        self.view.at = at;
        if self.terminal.live() && self.beats.is_multiple_of(DRAW_BEATS) {
            self.terminal.show(&self.view)?;
        }
        self.beats += 1;
        if let Some(applied) = self.applying.take_if(|applying| applying.is_finished()) {
            applied.await.context("kubectl panicked")??;
            self.enter(at, "policy".to_owned(), "the last act's policy is applied".to_owned())?;
        }
        self.ask(at).await?;
        match self.script.next(at, self.seen()) {
            None => Ok(false),
            Some(Cue::End) => Ok(true),
            Some(Cue::Begin(scene, episodes)) => self.scene(at, scene, episodes).map(|()| false),
        }
    }

    /// Once the floor keeps pods that are no better than those that are cut: asks the plugin about one of each.
    async fn ask(&mut self, at: Duration) -> anyhow::Result<()> {
        if let Some(asking) = self.asking.take_if(|asking| asking.is_finished()) {
            let asked = asking.await.context("the task that asks the plugin panicked")?;
            match &asked {
                Ok(Asked { answers: Answers { cut, kept, .. }, .. }) => {
                    self.enter(at, "explain".to_owned(), cut.clone())?;
                    self.enter(at, "explain".to_owned(), kept.clone())?;
                }
                Err(error) => self.enter(at, "explain".to_owned(), format!("{error:#}"))?,
            }
            self.asked = Some(asked);
        }
        let may = self.asking.is_none() && self.asked.is_none();
        if may && self.script.scene() == Scene::GateOff && self.endpoints.len() == FLOOR {
            let ordinal = |name: &&String| self.stage.shop.workload.lock().ordinal(name);
            let cut = self.pods.iter().filter(|(_, pod)| pod.traffic.as_deref() == Some("no"));
            // The oldest ones: of a pod that has just come, breakers say little.
            let cut = cut.map(|(name, _)| name).min_by_key(ordinal).cloned();
            let kept = self.endpoints.iter().min_by_key(ordinal).cloned();
            if let Some((cut, kept)) = cut.zip(kept) {
                let (desk, wanted) = (self.stage.desk.clone(), self.wants_pictures);
                self.asking = Some(tokio::spawn(async move {
                    let answers = desk.ask(&cut, &kept).await?;
                    let pictures = if wanted { Some(desk.pictures(&cut, &kept).await?) } else { None };
                    Ok(Asked { answers, pictures })
                }));
            }
        }
        Ok(())
    }

    fn second(&mut self, at: Duration) -> anyhow::Result<()> {
        self.stage.controller.ensure_running()?;
        self.view.at = at;
        let workload = self.stage.shop.workload.lock();
        let standing = |name, pod| standing(name, pod, &self.endpoints, self.pods.get(name));
        let pods = workload.pods().iter().map(|(name, pod)| (name, pod, standing(name, pod)));
        self.view.second(workload.clients(), pods);
        Ok(())
    }

    fn scene(&mut self, at: Duration, scene: Scene, episodes: Vec<Episode>) -> anyhow::Result<()> {
        self.announce(at, scene, &episodes)?;
        if scene == Scene::GateOff {
            let cluster = std::sync::Arc::clone(&self.stage.shop.cluster);
            self.applying = Some(tokio::spawn(async move { apply(&cluster, LAST_ACT).await }));
        }
        if let Some(heal) = episodes.iter().find_map(|episode| episode.until) {
            self.heals.push((heal, whom(&episodes)));
        }
        let mut workload = self.stage.shop.workload.lock();
        episodes.into_iter().for_each(|episode| workload.befall(episode));
        Ok(())
    }

    fn announce(&mut self, at: Duration, scene: Scene, episodes: &[Episode]) -> anyhow::Result<()> {
        let whom = if episodes.is_empty() { String::new() } else { format!(" ({})", whom(episodes)) };
        self.view.title = format!("scene {} of {}: {}", scene.number(), Scene::ALL.len(), scene.title());
        self.enter(at, format!("scene {}", scene.number()), format!("{}{whom}", scene.title()))
    }

    fn seen(&self) -> Seen {
        let workload = self.stage.shop.workload.lock();
        let first = |name: &&String| workload.ordinal(name).is_some_and(|pod| (pod as usize) < PODS);
        let ready = self.pods.iter().filter(|(name, _)| first(name)).filter_map(|(_, pod)| pod.ready_since);
        let age = ready.max().map(|since| Timestamp::now().duration_since(since));
        let hopeless = workload.pods().values().find(|pod| pod.ordinal == HOPELESS);
        Seen {
            serving: self.endpoints.len(),
            hopeless_gone: hopeless.is_some_and(|pod| pod.gone),
            ready_for: age.and_then(|age| Duration::try_from(age).ok()).unwrap_or_default(),
        }
    }

    fn enter(&mut self, at: Duration, what: String, text: String) -> anyhow::Result<()> {
        let entry = Entry { at, what, text };
        if !self.terminal.live() {
            self.terminal.say(&draw::text(&entry))?;
        }
        self.view.enter(entry);
        Ok(())
    }

    async fn end(self) -> anyhow::Result<Played> {
        let end = self.now();
        let evicted = self.evicted().await?;
        let successor = {
            let workload = self.stage.shop.workload.lock();
            workload.pods().values().map(|pod| pod.ordinal).find(|pod| *pod as usize == PODS)
        };
        let asked = self.asked.unwrap_or_else(|| Err(anyhow::anyhow!("the floor was not reached in time")));
        let (answers, pictures) = match asked {
            Ok(Asked { answers, pictures }) => (Some(answers), pictures.context("none were wanted")),
            Err(error) => (None, Err(error.context("there are no pictures of the plugin"))),
        };
        let facts = Facts { end, bring_up: self.bring_up, evicted, successor, answers };
        Ok(Played { promises: judge(&self.record, &self.script, &facts), pictures })
    }

    /// By the API server's own log: when it granted the controller's eviction of the pod that never recovers.
    async fn evicted(&self) -> anyhow::Result<Option<Duration>> {
        let workload = self.stage.shop.workload.clone();
        let hopeless = {
            let workload = workload.lock();
            workload.pods().iter().find(|(_, pod)| pod.ordinal == HOPELESS).map(|(name, _)| name.clone())
        };
        let audit = self.stage.shop.cluster.audit();
        audit.settle().await?;
        let writes = audit.writes_by(CONTROLLER, self.rose)?;
        let mut granted = writes.iter().filter(|write| {
            write.resource == "pods"
                && write.subresource == "eviction"
                && Some(&write.name) == hopeless.as_ref()
                && (200..300).contains(&write.code)
        });
        let at = granted.next().map(|write| write.time.duration_since(self.rose));
        Ok(at.and_then(|at| Duration::try_from(at).ok()))
    }
}

fn standing(name: &String, pod: &Pod, endpoints: &Endpoints, seen: Option<&PodSeen>) -> Standing {
    match seen.and_then(|seen| seen.traffic.as_deref()) {
        _ if pod.gone => Standing::Gone,
        _ if endpoints.contains(name) => Standing::Serving,
        Some("no") => Standing::Cut,
        Some("pause") => Standing::Paused,
        Some(_) | None => Standing::Waiting,
    }
}

/// Such as `pod 3, pod 6`.
fn whom(episodes: &[Episode]) -> String {
    let whom = episodes.iter().map(|episode| match episode.pods {
        Pods::All => "all pods".to_owned(),
        Pods::One(ordinal) => format!("pod {}", ordinal + 1),
    });
    whom.collect::<Vec<_>>().join(", ")
}
