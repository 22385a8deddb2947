//! KubervisorServices as news: one list, one watch. Where that breaks it is told, and begun anew with a list.

use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use kube::api::{Api, DynamicObject};
use kube::runtime::watcher::{self, Event};
use serde_json::Value;
use tokio::time::Instant;

use crate::fail::{Ask, RESOURCE};
use crate::objects::kind;
use crate::reach::Cluster;

/// The wait after the first break; it doubles.
const AGAIN_MIN: Duration = Duration::from_secs(1);
/// And grows no further. A watch that held for longer was a good one: the wait is the first again.
const AGAIN_MAX: Duration = Duration::from_secs(30);

/// What the watch tells.
#[derive(Debug)]
pub enum News {
    /// These are all of them.
    All(Vec<Value>),
    /// This one is so now.
    Set(Value),
    /// This one is gone.
    Gone(Value),
    /// It broke, and why. The next news wait for a list.
    Lost(anyhow::Error),
}

/// News without end.
pub fn news(cluster: &Cluster, config: watcher::Config) -> impl Stream<Item = News> {
    let (client, scope) = (cluster.client.clone(), cluster.scope.clone());
    let api: Api<DynamicObject> = match &scope {
        Some(namespace) => Api::namespaced_with(client, namespace, &kind()),
        None => Api::all_with(client, &kind()),
    };
    told(move || watcher::watcher(api.clone(), config.clone()), scope)
}

/// What one watch after another tells.
fn told<S: Stream<Item = Told>>(begin: impl Fn() -> S, scope: Option<String>) -> impl Stream<Item = News> {
    let watch = Watch { events: None, wait: None, begin, scope };
    stream::unfold(watch, |mut watch| async { Some((watch.next().await, watch)) })
}

/// What kube's watcher tells.
type Told = Result<Event<DynamicObject>, watcher::Error>;

/// A watch, and how it is begun anew.
struct Watch<S, B> {
    /// Since when it goes; `None` while it is broken.
    events: Option<(Instant, Pin<Box<S>>)>,
    /// Before it begins anew; `None` before the first one.
    wait: Option<Duration>,
    begin: B,
    scope: Option<String>,
}

impl<S: Stream<Item = Told>, B: Fn() -> S> Watch<S, B> {
    async fn next(&mut self) -> News {
        let events = match &mut self.events {
            Some((_, events)) => events,
            broken => {
                if let Some(wait) = self.wait {
                    tokio::time::sleep(wait).await;
                }
                // Not the watcher's own way of going on: that one says nothing until something changes, and whoever was
                // told of the break would still believe in it.
                &mut broken.insert((Instant::now(), Box::pin((self.begin)()))).1
            }
        };
        let mut list = Vec::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => list.clear(),
                Ok(Event::InitApply(object)) => list.push(value(&object)),
                Ok(Event::InitDone) => return News::All(list),
                Ok(Event::Apply(object)) => return News::Set(value(&object)),
                Ok(Event::Delete(object)) => return News::Gone(value(&object)),
                Err(error) => return self.lost(self.why(error)),
            }
        }
        self.lost(anyhow::anyhow!("the watch ended"))
    }

    fn lost(&mut self, why: anyhow::Error) -> News {
        let held = self.events.take().is_some_and(|(since, _)| since.elapsed() > AGAIN_MAX);
        let longer = self.wait.filter(|_| !held).map(|wait| (wait * 2).min(AGAIN_MAX));
        self.wait = Some(longer.unwrap_or(AGAIN_MIN));
        News::Lost(why)
    }

    /// The server's own word behind what the watcher says.
    fn why(&self, error: watcher::Error) -> anyhow::Error {
        let ask = Ask { verb: "watch", resource: RESOURCE, name: "", namespace: self.scope.as_deref() };
        match error {
            watcher::Error::InitialListFailed(error)
            | watcher::Error::WatchStartFailed(error)
            | watcher::Error::WatchFailed(error) => ask.failed(&error),
            watcher::Error::WatchError(status) => ask.failed(&kube::Error::Api(status)),
            error @ watcher::Error::NoResourceVersion => error.into(),
        }
    }
}

fn value(object: &DynamicObject) -> Value {
    // It came from JSON.
    serde_json::to_value(object).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::pin::pin;
    use tokio::time::sleep;

    fn object(name: &str) -> DynamicObject {
        DynamicObject::new(name, &kind())
    }

    fn broken() -> Told {
        Err(watcher::Error::NoResourceVersion)
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_is_told_at_once_then_each_change_then_the_break_and_after_it_a_list() {
        let rounds = || {
            stream::iter([
                Ok(Event::Init),
                Ok(Event::InitApply(object("cart"))),
                Ok(Event::InitApply(object("checkout"))),
                Ok(Event::InitDone),
                Ok(Event::Apply(object("old"))),
                Ok(Event::Delete(object("cart"))),
                broken(),
            ])
        };
        let mut told = pin!(told(rounds, None));
        for _ in 0..2 {
            let News::All(all) = told.next().await.unwrap() else { panic!("no list") };
            assert_eq!(all.len(), 2);
            let name = |object: &Value| object["metadata"]["name"].clone();
            assert!(matches!(told.next().await, Some(News::Set(object)) if name(&object) == "old"));
            assert!(matches!(told.next().await, Some(News::Gone(object)) if name(&object) == "cart"));
            assert!(matches!(told.next().await, Some(News::Lost(why)) if !why.to_string().is_empty()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_breaks_at_once_is_begun_ever_more_seldom_and_one_that_held_soon() {
        let held = Cell::new(Duration::ZERO);
        let rounds = || stream::once(async { sleep(held.get()).await }).map(|()| broken());
        let mut told = pin!(told(rounds, None));
        let mut waits = Vec::new();
        for lasts in [0, 0, 0, 0, 0, 0, 0, 31, 0] {
            held.set(Duration::from_secs(lasts));
            let before = Instant::now();
            assert!(matches!(told.next().await, Some(News::Lost(_))));
            waits.push(before.elapsed().as_secs() - lasts);
        }
        assert_eq!(waits, [0, 1, 2, 4, 8, 16, 30, 30, 1]);
    }
}
