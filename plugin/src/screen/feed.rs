//! One list and one watch of KubervisorServices, as news. A watch that breaks is told, and begun anew with a list.

use std::pin::pin;
use std::time::Duration;

use futures::{Stream, StreamExt};
use kube::api::{Api, DynamicObject};
use kube::runtime::watcher::{self, Event};
use serde_json::Value;
use tokio::sync::mpsc;

use super::state::News;
use crate::fail::Ask;
use crate::get_watch::source;

/// The wait after the first break; it doubles.
const AGAIN_MIN: Duration = Duration::from_secs(1);
/// And grows no further.
const AGAIN_MAX: Duration = Duration::from_secs(30);

/// Tells news until nobody listens.
pub async fn feed(api: Api<DynamicObject>, config: watcher::Config, ask: Ask<'_>, tell: mpsc::Sender<News>) {
    let mut wait = AGAIN_MIN;
    loop {
        // Not the watcher's own way of going on: that one says nothing until something changes, and the screen would
        // still be called disconnected.
        let Broken { why, heard } = follow(watcher::watcher(api.clone(), config.clone()), &ask, &tell).await;
        if tell.send(News::Lost(why)).await.is_err() {
            return;
        }
        wait = if heard { AGAIN_MIN } else { (wait * 2).min(AGAIN_MAX) };
        tokio::time::sleep(wait).await;
    }
}

/// How a watch ended.
struct Broken {
    why: String,
    /// It had told something.
    heard: bool,
}

/// Tells what one watch says until it breaks.
async fn follow(
    events: impl Stream<Item = Result<Event<DynamicObject>, watcher::Error>>,
    ask: &Ask<'_>,
    tell: &mpsc::Sender<News>,
) -> Broken {
    let mut events = pin!(events);
    let (mut list, mut heard) = (Vec::new(), false);
    while let Some(event) = events.next().await {
        let news = match event {
            Ok(Event::Init) => {
                list.clear();
                continue;
            }
            Ok(Event::InitApply(object)) => {
                list.push(value(&object));
                continue;
            }
            Ok(Event::InitDone) => News::All(std::mem::take(&mut list)),
            Ok(Event::Apply(object)) => News::Set(value(&object)),
            Ok(Event::Delete(object)) => News::Gone(value(&object)),
            Err(error) => {
                let why = source(error).map_or_else(|error| error, |error| ask.failed(&error));
                return Broken { why: format!("{why:#}"), heard };
            }
        };
        heard = true;
        if tell.send(news).await.is_err() {
            break;
        }
    }
    Broken { why: "the watch ended".to_owned(), heard }
}

fn value(object: &DynamicObject) -> Value {
    // It came from JSON.
    serde_json::to_value(object).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fail::RESOURCE;
    use crate::objects::kind;

    fn object(name: &str) -> DynamicObject {
        DynamicObject::new(name, &kind())
    }

    #[tokio::test]
    async fn a_list_is_told_at_once_then_each_change_and_the_break_with_its_reason() {
        let ask = Ask { verb: "watch", resource: RESOURCE, name: "", namespace: Some("shop") };
        let (tell, mut told) = mpsc::channel(9);
        let events = vec![
            Ok(Event::Init),
            Ok(Event::InitApply(object("cart"))),
            Ok(Event::InitApply(object("checkout"))),
            Ok(Event::InitDone),
            Ok(Event::Apply(object("old"))),
            Ok(Event::Delete(object("cart"))),
            Err(watcher::Error::NoResourceVersion),
        ];
        let broken = follow(futures::stream::iter(events), &ask, &tell).await;
        assert!(broken.heard && !broken.why.is_empty(), "{}", broken.why);
        let News::All(all) = told.recv().await.unwrap() else { panic!("no list") };
        assert_eq!(all.len(), 2);
        assert!(matches!(told.recv().await, Some(News::Set(object)) if object["metadata"]["name"] == "old"));
        assert!(
            matches!(told.recv().await, Some(News::Gone(object)) if object["metadata"]["name"] == "cart")
        );
    }
}
