//! Everything of one kind, as the API server tells it: the whole set again at each change.
//!
//! [`Known`] is pure and holds the set; [`follow`] feeds it from a watch that heals itself.

use std::collections::BTreeMap;
use std::fmt::Debug;

use futures::{Stream, StreamExt, future};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;

/// What is known of each object, by name. Objects of one namespace, or of none.
#[derive(Clone, Debug)]
pub struct Known<V> {
    current: BTreeMap<String, V>,
    /// A list that is not complete yet; until then the old one holds.
    listing: Option<BTreeMap<String, V>>,
}

impl<V> Default for Known<V> {
    fn default() -> Self {
        Self { current: BTreeMap::new(), listing: None }
    }
}

impl<V: Clone> Known<V> {
    /// Takes what the watch says; gives the whole set if it may have changed.
    pub fn take<K: ResourceExt>(
        &mut self,
        event: Event<K>,
        read: impl Fn(&K) -> V,
    ) -> Option<BTreeMap<String, V>> {
        match event {
            Event::Init => {
                self.listing = Some(BTreeMap::new());
                return None;
            }
            Event::InitApply(object) => {
                self.listing.get_or_insert_default().insert(object.name_any(), read(&object));
                return None;
            }
            // Also forgets what was deleted while nobody listened.
            Event::InitDone => self.current = self.listing.take().unwrap_or_default(),
            Event::Apply(object) => _ = self.current.insert(object.name_any(), read(&object)),
            Event::Delete(object) => _ = self.current.remove(&object.name_any()),
        }
        Some(self.current.clone())
    }
}

/// Follows a kind; each item is the whole set, by name. Never ends: errors of the watch are tried again, with pauses.
pub fn follow<K, V>(
    api: Api<K>,
    which: watcher::Config,
    read: impl Fn(&K) -> V,
) -> impl Stream<Item = BTreeMap<String, V>>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    V: Clone,
{
    let mut known = Known::default();
    let events = watcher(api, which).default_backoff();
    events.filter_map(move |event| future::ready(event.ok().and_then(|event| known.take(event, &read))))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;

    use super::*;

    fn pod(name: &str) -> Pod {
        let mut pod = Pod::default();
        pod.metadata.name = Some(name.to_owned());
        pod
    }

    fn names(known: &mut Known<()>, event: Event<Pod>) -> Option<String> {
        known.take(event, |_| ()).map(|all| all.into_keys().collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn a_set_grows_and_shrinks() {
        let mut known = Known::default();
        assert_eq!(names(&mut known, Event::Apply(pod("red"))), Some("red".to_owned()));
        assert_eq!(names(&mut known, Event::Apply(pod("blue"))), Some("blue red".to_owned()));
        assert_eq!(names(&mut known, Event::Delete(pod("red"))), Some("blue".to_owned()));
    }

    #[test]
    fn a_new_list_holds_once_it_is_complete_and_forgets_what_it_lacks() {
        let mut known = Known::default();
        names(&mut known, Event::Apply(pod("red")));
        assert_eq!(names(&mut known, Event::Init), None);
        assert_eq!(names(&mut known, Event::InitApply(pod("blue"))), None);
        assert_eq!(names(&mut known, Event::InitDone), Some("blue".to_owned()));
    }
}
