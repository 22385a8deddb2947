//! Which requests a fault is for, what the fault is, and how often it has struck.

use std::time::Duration;

use http::Method;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request is forwarded that much later.
    Delay(Duration),
    /// The request is forwarded as soon as the rule is cleared.
    Hold,
    /// This HTTP status is the answer, with a Kubernetes `Status` as its body; the request is not forwarded.
    Status(u16),
    /// The connection is closed without an answer; the request is not forwarded.
    Drop,
    /// The request is neither forwarded nor answered: silence until the client gives up, or until the rule is cleared,
    /// which closes the connection.
    Hang,
    /// The request is forwarded and executed, but the client hears nothing; ends as `Hang` does.
    LoseAnswer,
    /// Each event of a watch arrives that much later, in order; the connection stays.
    DelayWatch(Duration),
    /// The events of a watch are thrown away while the rule stands; the connection stays.
    SwallowWatch,
    /// A watch is broken off in mid-stream: at once if it is open, after the headers of the answer if it is new.
    CutWatch,
}

impl Fault {
    /// Acts on the events of a watch, not on the request.
    fn is_for_streams(self) -> bool {
        match self {
            Fault::DelayWatch(_) | Fault::SwallowWatch | Fault::CutWatch => true,
            Fault::Delay(_)
            | Fault::Hold
            | Fault::Status(_)
            | Fault::Drop
            | Fault::Hang
            | Fault::LoseAnswer => false,
        }
    }
}

/// Which requests. What is `None` matches everything, so the default matches every request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// The HTTP method.
    pub method: Option<Method>,
    /// A part of the path, such as `/namespaces/shop/pods`.
    pub path_contains: Option<String>,
    /// A part of the query as it is sent (percent-encoded), such as `labelSelector=`.
    pub query_contains: Option<String>,
    /// Only watches, or everything but watches. A watch has `watch=true` or `watch=1` in its query.
    pub watch: Option<bool>,
}

impl Match {
    fn covers(&self, request: &Request) -> bool {
        let contains =
            |part: &Option<String>, text: &str| part.as_ref().is_none_or(|part| text.contains(part.as_str()));
        self.method.as_ref().is_none_or(|method| *method == request.method)
            && self.watch.is_none_or(|watch| watch == request.watch)
            && contains(&self.path_contains, &request.path)
            && contains(&self.query_contains, &request.query)
    }
}

/// A fault for some requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Which requests.
    pub matches: Match,
    /// What goes wrong with them.
    pub fault: Fault,
    /// How often, then the rule is spent; `None` is always. Counts requests, or for `DelayWatch` and `SwallowWatch`
    /// events, or for `CutWatch` watches.
    pub times: Option<u64>,
}

impl Rule {
    /// For every request (every watch, if that is what the fault is about), always.
    #[must_use]
    pub fn new(fault: Fault) -> Rule {
        Rule { matches: Match::default(), fault, times: None }
    }

    /// Only requests with this method.
    #[must_use]
    pub fn method(mut self, method: Method) -> Rule {
        self.matches.method = Some(method);
        self
    }

    /// Only requests with this in their path.
    #[must_use]
    pub fn path(mut self, part: impl Into<String>) -> Rule {
        self.matches.path_contains = Some(part.into());
        self
    }

    /// Only requests with this in their query, as it is sent.
    #[must_use]
    pub fn query(mut self, part: impl Into<String>) -> Rule {
        self.matches.query_contains = Some(part.into());
        self
    }

    /// Only watches (`true`) or everything but watches (`false`).
    #[must_use]
    pub fn watch(mut self, watch: bool) -> Rule {
        self.matches.watch = Some(watch);
        self
    }

    /// Only so often.
    #[must_use]
    pub fn times(mut self, times: u64) -> Rule {
        self.times = Some(times);
        self
    }
}

/// Names a rule that was injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleId(u64);

/// What the rules look at.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub method: Method,
    pub path: String,
    pub query: String,
    pub watch: bool,
}

impl Request {
    pub(super) fn new(method: Method, uri: &http::Uri) -> Request {
        let query = uri.query().unwrap_or_default().to_owned();
        let watch = query.split('&').any(|pair| pair == "watch=true" || pair == "watch=1");
        Request { method, path: uri.path().to_owned(), query, watch }
    }
}

/// The rules in the order of their injection; of those that can act at the moment, the first that matches does.
#[derive(Default)]
pub(super) struct Rules {
    next_id: u64,
    standing: Vec<(RuleId, Rule)>,
    /// Kept after a rule is gone, so that a test may clear first and count then.
    hits: std::collections::BTreeMap<RuleId, u64>,
    /// What became of the requests that a rule held; kept likewise.
    answers: std::collections::BTreeMap<RuleId, Vec<u16>>,
}

impl Rules {
    pub(super) fn inject(&mut self, rule: Rule) -> RuleId {
        let id = RuleId(self.next_id);
        self.next_id += 1;
        self.standing.push((id, rule));
        id
    }

    pub(super) fn clear(&mut self, id: RuleId) {
        self.standing.retain(|(standing, _)| *standing != id);
    }

    pub(super) fn clear_all(&mut self) {
        self.standing.clear();
    }

    pub(super) fn stands(&self, id: RuleId) -> bool {
        self.standing.iter().any(|(standing, _)| *standing == id)
    }

    pub(super) fn hits(&self, id: RuleId) -> u64 {
        self.hits.get(&id).copied().unwrap_or(0)
    }

    pub(super) fn answered(&mut self, id: RuleId, status: u16) {
        self.answers.entry(id).or_default().push(status);
    }

    pub(super) fn answers(&self, id: RuleId) -> Vec<u16> {
        self.answers.get(&id).cloned().unwrap_or_default()
    }

    /// The fault for a request that has just come; counted.
    pub(super) fn strike_request(&mut self, request: &Request) -> Option<(RuleId, Fault)> {
        self.strike(request, |fault| !fault.is_for_streams())
    }

    /// The fault for an event of a watch; counted.
    pub(super) fn strike_event(&mut self, request: &Request) -> Option<(RuleId, Fault)> {
        self.strike(request, |fault| fault.is_for_streams() && fault != Fault::CutWatch)
    }

    /// Whether an open watch is to be broken off now; counted.
    pub(super) fn strike_watch(&mut self, request: &Request) -> bool {
        self.strike(request, |fault| fault == Fault::CutWatch).is_some()
    }

    fn strike(&mut self, request: &Request, acts: impl Fn(Fault) -> bool) -> Option<(RuleId, Fault)> {
        let hits = &mut self.hits;
        let spent = |id: &RuleId, rule: &Rule| {
            rule.times.is_some_and(|times| hits.get(id).copied().unwrap_or(0) >= times)
        };
        let first = self
            .standing
            .iter()
            .find(|(id, rule)| acts(rule.fault) && rule.matches.covers(request) && !spent(id, rule));
        let (id, fault) = first.map(|(id, rule)| (*id, rule.fault))?;
        *hits.entry(id).or_default() += 1;
        Some((id, fault))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: Method, uri: &'static str) -> Request {
        Request::new(method, &http::Uri::from_static(uri))
    }

    #[test]
    fn the_first_rule_that_matches_wins_until_it_is_spent() {
        let mut rules = Rules::default();
        let once = rules.inject(Rule::new(Fault::Status(503)).path("/pods").times(1));
        let always = rules.inject(Rule::new(Fault::Drop));
        let get = request(Method::GET, "/api/v1/pods");
        assert_eq!(rules.strike_request(&get), Some((once, Fault::Status(503))));
        assert_eq!(rules.strike_request(&get), Some((always, Fault::Drop)));
        assert_eq!((rules.hits(once), rules.hits(always)), (1, 1));
    }

    #[test]
    fn a_rule_for_watches_leaves_requests_alone() {
        let mut rules = Rules::default();
        rules.inject(Rule::new(Fault::SwallowWatch));
        let watch = request(Method::GET, "/api/v1/pods?watch=true");
        assert_eq!(rules.strike_request(&watch), None);
        assert!(rules.strike_event(&watch).is_some());
        assert!(!rules.strike_watch(&watch));
    }

    #[test]
    fn a_watch_is_told_by_its_query() {
        assert!(request(Method::GET, "/api/v1/pods?limit=1&watch=1").watch);
        assert!(request(Method::GET, "/api/v1/pods?watch=true").watch);
        assert!(!request(Method::GET, "/api/v1/pods?watch=false").watch);
        assert!(!request(Method::GET, "/api/v1/watch").watch);
    }

    #[test]
    fn hits_outlive_their_rule() {
        let mut rules = Rules::default();
        let id = rules.inject(Rule::new(Fault::Drop).method(Method::PATCH).query("dryRun"));
        assert_eq!(rules.strike_request(&request(Method::PATCH, "/api/v1/pods/a")), None);
        assert!(rules.strike_request(&request(Method::PATCH, "/api/v1/pods/a?dryRun=All")).is_some());
        rules.clear(id);
        assert_eq!((rules.hits(id), rules.stands(id)), (1, false));
    }
}
