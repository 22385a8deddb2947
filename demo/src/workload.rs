//! The service's pods and their clients, in memory: pods under kwok have no network, so that what they would
//! answer comes from the model, and their metrics pages are all served by this process.
//!
//! Takes the endpoints as a kube-proxy knows them and the time; sends every request that is due to one of them
//! and counts, per pod and for the clients. Knows no cluster, clock or socket.

use std::collections::BTreeMap;
use std::time::Duration;

use incidents::{Counters, Episode, Load, Model};

use crate::words::Share;

/// The statuses that a pod's page shows from its first moment on.
const CODES: [u16; 2] = [200, 500];

/// One pod behind the service, living or gone.
#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    /// Its place in the order of birth, from 0.
    pub ordinal: u32,
    /// What it counts.
    pub counters: Counters,
    /// It was deleted: its page is gone and a request to it is refused.
    pub gone: bool,
}

/// What the clients saw, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clients {
    /// Requests sent.
    pub requests: u64,
    /// Of these, answered 500, or refused because there was no endpoint or its pod was gone.
    pub errors: u64,
}

impl Clients {
    /// What was added since an earlier reading.
    pub const fn since(self, earlier: Self) -> Share {
        Share { part: self.errors - earlier.errors, whole: self.requests - earlier.requests }
    }
}

/// The pods and the load on them.
#[derive(Clone, Debug)]
pub struct Workload {
    model: Model,
    load: Load,
    pods: BTreeMap<String, Pod>,
    born: u32,
    sent: u64,
    clients: Clients,
}

impl Workload {
    /// No pods yet.
    pub const fn new(model: Model, load: Load) -> Self {
        let clients = Clients { requests: 0, errors: 0 };
        Self { model, load, pods: BTreeMap::new(), born: 0, sent: 0, clients }
    }

    /// Makes a pod known, so that its page is there before its first request; a known one stays what it is.
    pub fn enrol(&mut self, name: &str) {
        if !self.pods.contains_key(name) {
            let pod = Pod { ordinal: self.born, counters: Counters::with_codes(CODES), gone: false };
            self.pods.insert(name.to_owned(), pod);
            self.born += 1;
        }
    }

    /// Marks a pod as deleted. It keeps its name and ordinal: an endpoint may outlive its pod by a moment.
    pub fn retire(&mut self, name: &str) {
        if let Some(pod) = self.pods.get_mut(name) {
            pod.gone = true;
        }
    }

    /// Adds an episode to what befalls the pods.
    pub fn befall(&mut self, episode: Episode) {
        self.model.incident_mut().add(episode);
    }

    /// Sends every request due by now, each to a random one of the endpoints (pod names).
    pub fn serve<Name: AsRef<str>>(&mut self, endpoints: &[Name], at: Duration) {
        let due = self.load.due(at);
        for request in self.sent..due {
            let endpoint = self.load.pick(request, endpoints.len()).map(|index| endpoints[index].as_ref());
            let failed = endpoint.is_none_or(|name| self.ask(name, request, at) >= 500);
            self.clients.requests += 1;
            self.clients.errors += u64::from(failed);
        }
        self.sent = self.sent.max(due);
    }

    /// The status that the pod answers; 503 where it is gone.
    fn ask(&mut self, name: &str, request: u64, at: Duration) -> u16 {
        self.enrol(name);
        let Some(pod) = self.pods.get_mut(name).filter(|pod| !pod.gone) else { return 503 };
        let answer = self.model.answer(pod.ordinal, request, at);
        pod.counters.record(&answer);
        answer.code
    }

    /// All pods that ever were, by name.
    pub const fn pods(&self) -> &BTreeMap<String, Pod> {
        &self.pods
    }

    /// The pod of this name, as a number.
    pub fn ordinal(&self, name: &str) -> Option<u32> {
        self.pods.get(name).map(|pod| pod.ordinal)
    }

    /// What the clients saw so far.
    pub const fn clients(&self) -> Clients {
        self.clients
    }
}

#[cfg(test)]
mod tests {
    use incidents::{Behaviour, Incident, Pods, Seed};

    use super::*;

    fn workload() -> Workload {
        let incident = Incident::new(Behaviour::Healthy { error_share: 0.0 });
        let seed = Seed::new(11);
        let mut workload = Workload::new(Model::new(seed, incident), Load::new(seed, 100));
        ["red", "green"].iter().for_each(|name| workload.enrol(name));
        workload
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_pod_that_is_no_endpoint_gets_no_request_and_keeps_its_page() {
        let mut workload = workload();
        workload.serve(&["red"], SECOND);
        assert_eq!(workload.pods()["red"].counters.answered(), 101);
        assert_eq!(workload.pods()["green"].counters.answered(), 0);
        assert!(!workload.pods()["green"].gone);
    }

    #[test]
    fn without_an_endpoint_the_clients_are_refused() {
        let mut workload = workload();
        workload.serve::<&str>(&[], SECOND);
        assert_eq!(workload.clients(), Clients { requests: 101, errors: 101 });
    }

    #[test]
    fn an_endpoint_that_outlives_its_pod_refuses() {
        let mut workload = workload();
        workload.retire("red");
        workload.serve(&["red"], SECOND);
        assert_eq!(workload.clients().errors, 101);
        assert_eq!(workload.pods()["red"].counters.answered(), 0);
    }

    #[test]
    fn an_episode_befalls_only_its_pod() {
        let mut workload = workload();
        let behaviour = Behaviour::Failing { share: 1.0 };
        workload.befall(Episode { pods: Pods::One(1), from: Duration::ZERO, until: None, behaviour });
        workload.serve(&["red", "green"], SECOND);
        let [red, green] = ["red", "green"].map(|name| workload.pods()[name].counters.clone());
        assert_eq!((red.errors(), green.errors()), (0, green.answered()));
        assert_eq!(workload.clients().errors, green.answered());
        assert!(green.answered() > 0);
    }

    #[test]
    fn no_request_is_sent_twice_or_lost_however_often_it_serves() {
        let (mut often, mut once) = (workload(), workload());
        (0..=50).for_each(|step| often.serve(&["red", "green"], SECOND * step / 50));
        once.serve(&["red", "green"], SECOND);
        assert_eq!(often.clients(), once.clients());
        assert_eq!(often.pods(), once.pods());
    }
}
