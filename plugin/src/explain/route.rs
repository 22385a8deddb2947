//! How a breaker's source is reached from where the caller is, or why it is not.
//!
//! A spec names any host it likes. The controller asks it from the cluster, held to rules of its operator; the caller's
//! machine may stand anywhere, so no author of a KubervisorService sends it to an address of his choice. What a spec
//! names is asked through the API server's proxy, which reaches Services and nothing else; any other address only by the
//! caller's own word.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kubervisor::sources::{Access, CustomQuestion, Endpoint, PromQuestion, Question, Tls};

use crate::rules::is_controllers;

/// The least time that a question has: the way is longer than the controller's, for which its spec was written.
const PATIENT_FOR: Duration = Duration::from_secs(5);
/// The most.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// What the caller and the names in a spec stand for.
#[derive(Debug, Clone)]
pub(super) struct Place<'a> {
    /// Of the KubervisorService.
    pub(super) namespace: &'a str,
    /// Where the controller looks up a name without a namespace.
    pub(super) controller: &'a str,
    /// An address that the caller reaches, asked in place of every Prometheus.
    pub(super) given: Option<&'a Endpoint>,
}

/// The way to a source, with the question as it is put there.
#[derive(Debug, PartialEq)]
pub(super) enum Route {
    /// From this machine.
    Given(Question),
    /// By way of the API server.
    Service(Backend, Question),
}

/// A port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Backend {
    pub(super) namespace: String,
    name: String,
    port: u16,
    https: bool,
}

impl Backend {
    /// As the API server's rights name it.
    pub(super) fn resource(&self) -> String {
        let scheme = if self.https { "https:" } else { "" };
        format!("{scheme}{}:{}", self.name, self.port)
    }

    /// Before the path of a page.
    pub(super) fn prefix(&self) -> String {
        format!("/api/v1/namespaces/{}/services/{}/proxy", self.namespace, self.resource())
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Service {}/{}:{}", self.namespace, self.name, self.port)
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(question) => write!(f, "{}", question.endpoint()),
            Self::Service(backend, _) => write!(f, "{backend} by way of the API server"),
        }
    }
}

/// The way, or why there is none and what to do.
pub(super) fn route(question: &Question, place: &Place<'_>) -> Result<Route, String> {
    match question {
        Question::Prometheus(question) => prometheus(question, place),
        Question::Custom(question) => custom(question, place),
    }
}

fn prometheus(question: &PromQuestion, place: &Place<'_>) -> Result<Route, String> {
    let timeout = question.timeout.clamp(PATIENT_FOR, ANSWER_WITHIN);
    let headers = question.access.as_ref().map(|access| access.headers.clone()).unwrap_or_default();
    if let Some(given) = place.given {
        let access = (!headers.is_empty()).then(|| Arc::new(Access { headers, ..Access::default() }));
        let question = PromQuestion { endpoint: given.clone(), access, timeout, ..question.clone() };
        return Ok(Route::Given(Question::Prometheus(question)));
    }
    let endpoint = &question.endpoint;
    if is_controllers(endpoint) {
        return Err("its source is the controller's own Prometheus, whose address only the controller knows: name one \
             that you reach with --prometheus-url"
            .to_owned());
    }
    let elsewhere = || {
        format!(
            "{} is no Service of this cluster, and what stands in a KubervisorService sends your machine nowhere else: \
             if you trust that address, --prometheus-url {endpoint}",
            endpoint.host_and_port().0
        )
    };
    let backend = service(endpoint, place).ok_or_else(elsewhere)?;
    if question.access.as_ref().is_some_and(|access| has_login(access)) {
        return Err(
            "its source needs credentials, which only the controller reads: --prometheus-url with one that \
             needs none"
                .to_owned(),
        );
    }
    // Some of them would mean something to the API server, which acts by the caller's rights.
    if !headers.is_empty() {
        return Err("its source is asked with headers of the spec, which are not sent to the API server: take `kubectl \
             port-forward` and --prometheus-url"
            .to_owned());
    }
    if !plain(endpoint.path()) {
        return Err(format!(
            "the path of {endpoint} is not passed on as it stands: --prometheus-url with one that you reach"
        ));
    }
    let question = PromQuestion { access: None, timeout, ..question.clone() };
    Ok(Route::Service(backend, Question::Prometheus(question)))
}

/// A page of the author's choice is asked by the caller's rights: where the author governs anyway, and nowhere else. The
/// controller asks it with a GET too.
fn custom(question: &CustomQuestion, place: &Place<'_>) -> Result<Route, String> {
    let here = |backend: &Backend| backend.namespace == place.namespace && plain(question.endpoint.path());
    let backend = service(&question.endpoint, place).filter(here).ok_or_else(|| {
        format!(
            "{} is no Service of namespace {:?}, and only the controller asks a page elsewhere that a KubervisorService \
             names",
            question.endpoint.host_and_port().0,
            place.namespace
        )
    })?;
    let question =
        CustomQuestion { timeout: question.timeout.clamp(PATIENT_FOR, ANSWER_WITHIN), ..question.clone() };
    Ok(Route::Service(backend, Question::Custom(question)))
}

fn has_login(access: &Access) -> bool {
    let Access { tls: Tls { ca: _, certificate, server_name: _, insecure: _ }, login, headers: _, origin: _ } =
        access;
    login.is_some() || certificate.is_some()
}

/// The Service that the controller finds under that name.
fn service(endpoint: &Endpoint, place: &Place<'_>) -> Option<Backend> {
    let (host, port) = endpoint.host_and_port();
    if endpoint.ip().is_some() || host == "localhost" {
        return None;
    }
    let labels: Vec<_> = host.strip_suffix('.').unwrap_or(host).split('.').collect();
    let (name, namespace) = match labels[..] {
        [name] => (name, place.controller),
        [name, namespace] | [name, namespace, "svc"] | [name, namespace, "svc", "cluster", "local"] => {
            (name, namespace)
        }
        _ => return None,
    };
    let label = |text: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    };
    (label(name) && label(namespace)).then(|| Backend {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        port,
        https: endpoint.is_https(),
    })
}

/// Nothing that one server on the way reads otherwise than the next: an encoded slash or dot.
fn plain(path: &str) -> bool {
    path.chars().all(|c| c.is_ascii_alphanumeric() || "/-._~".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kubervisor::api::{Asked, Defaults, parse};
    use serde_json::{Value, json};

    const PLACE: Place<'static> = Place { namespace: "shop", controller: "kubervisor", given: None };

    fn asked(breaker: &Value) -> Asked {
        let mut breaker = breaker.clone();
        breaker["name"] = json!("it");
        let own = Endpoint::parse("http://the-controllers-own.invalid").unwrap();
        let defaults = Defaults { prometheus: Some(own), ..Defaults::default() };
        let spec = json!({"service": "checkout", "breakers": [breaker]});
        parse(&spec, "shop", &defaults).unwrap().asked.remove(0)
    }

    fn prom(service: &str, more: &Value) -> Question {
        let mut rule = json!({"promQL": "up", "max": 1, "prometheusService": service});
        for (field, value) in more.as_object().unwrap() {
            rule[field] = value.clone();
        }
        asked(&json!({"valueOutOfRange": rule})).question
    }

    fn way(question: &Question) -> Result<String, String> {
        match route(question, &PLACE)? {
            Route::Service(backend, _) => Ok(backend.prefix()),
            Route::Given(question) => Ok(question.endpoint().to_string()),
        }
    }

    #[test]
    fn every_name_of_a_service_leads_to_it_by_way_of_the_api_server() {
        let to = |namespace: &str, service: &str| {
            Ok(format!("/api/v1/namespaces/{namespace}/services/{service}/proxy"))
        };
        for (text, expected) in [
            ("prometheus.monitoring:9090", to("monitoring", "prometheus:9090")),
            ("http://prometheus.monitoring.svc", to("monitoring", "prometheus:80")),
            ("https://thanos.o11y.svc.cluster.local/base", to("o11y", "https:thanos:443")),
            ("thanos.o11y.svc.cluster.local.:9090", to("o11y", "thanos:9090")),
            ("prometheus:9090", to("kubervisor", "prometheus:9090")),
        ] {
            assert_eq!(way(&prom(text, &json!({}))), expected, "{text}");
        }
    }

    #[test]
    fn no_spec_sends_the_callers_machine_or_its_rights_anywhere_else() {
        for text in [
            "prometheus.example.com:9090",
            "10.0.0.7:9090",
            "0x7f.1:9090",
            "[::1]:9090",
            "localhost:9090",
            "169.254.169.254",
            "a.b.svc.other.domain",
            "under_score.monitoring",
        ] {
            let why = way(&prom(text, &json!({}))).unwrap_err();
            assert!(
                why.contains("is no Service of this cluster") && why.contains("--prometheus-url http://"),
                "{why}"
            );
        }
        for text in ["prometheus.monitoring/%2e%2e%2fapi", "prometheus.monitoring/a%2Fb"] {
            assert!(way(&prom(text, &json!({}))).unwrap_err().contains("is not passed on"), "{text}");
        }
    }

    #[test]
    fn what_only_the_controller_has_is_said_to_be_so() {
        let secret = json!({"prometheus": {"bearerTokenSecretRef": {"name": "token"}}});
        assert!(way(&prom("mimir.o11y", &secret)).unwrap_err().contains("needs credentials"));
        let headers = json!({"prometheus": {"headers": {"x-scope-orgid": "shop"}}});
        assert!(way(&prom("mimir.o11y", &headers)).unwrap_err().contains("not sent to the API server"));
        let unverified = json!({"prometheus": {"tls": {"insecureSkipVerify": true}}});
        assert!(way(&prom("https://mimir.o11y", &unverified)).is_ok(), "the API server verifies none anyway");
        let own = asked(&json!({"valueOutOfRange": {"promQL": "up", "max": 1}})).question;
        assert!(way(&own).unwrap_err().contains("only the controller knows"));
    }

    #[test]
    fn the_address_that_the_caller_gives_is_asked_in_place_of_every_prometheus_and_without_a_login() {
        let given = Endpoint::parse("localhost:9090").unwrap();
        let place = Place { given: Some(&given), ..PLACE };
        let more = json!({"prometheus": {"timeout": 30, "headers": {"x-scope-orgid": "shop"},
            "bearerTokenSecretRef": {"name": "token"}}});
        let Ok(Route::Given(Question::Prometheus(asked))) = route(&prom("mimir.example.com", &more), &place)
        else {
            panic!("it is asked elsewhere")
        };
        let access = asked.access.unwrap();
        assert_eq!((asked.endpoint, asked.timeout), (given.clone(), ANSWER_WITHIN));
        assert_eq!((&access.login, access.headers.len()), (&None, 1));
        let page = asked_custom("judge.shop:8080/bad");
        assert!(matches!(route(&page, &place), Ok(Route::Service(..))), "it is no Prometheus");
    }

    fn asked_custom(text: &str) -> Question {
        asked(&json!({"customService": text})).question
    }

    #[test]
    fn a_custom_service_is_asked_in_its_own_namespace_only() {
        let shop = "/api/v1/namespaces/shop/services/judge:8080/proxy".to_owned();
        assert_eq!(way(&asked_custom("judge.shop:8080/bad?fleet=a")), Ok(shop));
        for text in ["judge.bank:8080/bad", "judge:8080/bad", "judge.example.com/bad", "judge.shop/a%2Fb"] {
            assert!(way(&asked_custom(text)).unwrap_err().contains("only the controller asks"), "{text}");
        }
    }
}
