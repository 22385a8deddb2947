//! With what a Prometheus is asked: references to Secrets, headers, TLS.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Reader;
use crate::api::{PrometheusSpec, SecretRef, TlsSpec};
use crate::sources::{Access, Endpoint, Login, Piece, Tls};

/// Time that Prometheus has.
pub(super) const PROMETHEUS_TIMEOUT: Duration = Duration::from_secs(5);
/// Headers, and characters of one.
const HEADERS: usize = 16;
const HEADER_LENGTH: usize = 1_024;
/// What the request itself needs, or what is secret and belongs into a Secret.
const OWN_HEADERS: [&str; 15] = [
    "accept",
    "accept-encoding",
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "host",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

impl Reader<'_> {
    /// What a spec says of its own Prometheus: the time that it has, and everything that goes along.
    pub(super) fn access(
        &mut self,
        at: &str,
        spec: &PrometheusSpec,
        endpoint: &Endpoint,
    ) -> (Duration, Option<Arc<Access>>) {
        let timeout = self.timeout(&format!("{at}.timeout"), spec.timeout.as_ref());
        let access = Access {
            tls: spec
                .tls
                .as_ref()
                .map(|tls| self.tls(&format!("{at}.tls"), tls, endpoint))
                .unwrap_or_default(),
            login: self.login(at, spec),
            headers: self.headers(&format!("{at}.headers"), spec.headers.as_ref()),
            origin: None,
        };
        let access = (access != Access::default()).then(|| Arc::new(access));
        (timeout.unwrap_or(PROMETHEUS_TIMEOUT), access)
    }

    fn tls(&mut self, at: &str, spec: &TlsSpec, endpoint: &Endpoint) -> Tls {
        if !endpoint.is_https() {
            self.errors
                .push(format!("{at}: {endpoint} is not https; write prometheusService as an https:// URL"));
        }
        let certificate = spec.cert_secret_ref.as_ref().map(|secret| {
            let name = self.secret(&format!("{at}.certSecretRef"), &secret.name);
            (self.piece(&name, "tls.crt"), self.piece(&name, "tls.key"))
        });
        let ca = spec.ca_secret_ref.as_ref().map(|secret| {
            let name = self.secret(&format!("{at}.caSecretRef"), &secret.name);
            self.piece(&name, key(secret.key.as_ref(), "ca.crt"))
        });
        Tls {
            ca,
            certificate,
            server_name: spec.server_name.as_deref().filter(|name| !name.is_empty()).map(Arc::from),
            insecure: spec.insecure_skip_verify.unwrap_or(false),
        }
    }

    fn login(&mut self, at: &str, spec: &PrometheusSpec) -> Option<Login> {
        match (&spec.bearer_token_secret_ref, &spec.basic_auth_secret_ref) {
            (Some(_), Some(_)) => {
                self.errors.push(format!("{at}: give bearerTokenSecretRef or basicAuthSecretRef, not both"));
                None
            }
            (Some(token), None) => {
                let name = self.secret(&format!("{at}.bearerTokenSecretRef"), &token.name);
                Some(Login::Bearer(self.piece(&name, key(token.key.as_ref(), "token"))))
            }
            (None, Some(SecretRef { name })) => {
                let name = self.secret(&format!("{at}.basicAuthSecretRef"), name);
                Some(Login::Basic(self.piece(&name, "username"), self.piece(&name, "password")))
            }
            (None, None) => None,
        }
    }

    fn headers(&mut self, at: &str, spec: Option<&BTreeMap<String, String>>) -> Vec<(Arc<str>, Arc<str>)> {
        let spec = spec.into_iter().flatten();
        let headers: BTreeMap<String, &String> =
            spec.map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
        if headers.len() > HEADERS {
            self.errors.push(format!("{at}: more than {HEADERS}"));
        }
        for (name, value) in &headers {
            if let Some(why) = header_fault(name, value) {
                self.errors.push(format!("{at}.{name}: {why}"));
            }
        }
        headers.iter().map(|(name, value)| (Arc::from(name.as_str()), Arc::from(value.as_str()))).collect()
    }

    fn secret(&mut self, at: &str, name: &str) -> Arc<str> {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
        if name.is_empty() || name.len() > 253 || !name.chars().all(fits) {
            self.errors.push(format!("{at}.name: {name:?} is not the name of a Secret of this namespace"));
        }
        Arc::from(name)
    }

    /// Always of the KubervisorService's own namespace: there is no field for another.
    fn piece(&self, name: &Arc<str>, key: &str) -> Piece {
        Piece::Secret { namespace: Arc::clone(&self.namespace), name: Arc::clone(name), key: Arc::from(key) }
    }
}

fn key<'k>(given: Option<&'k String>, usual: &'k str) -> &'k str {
    given.map(String::as_str).filter(|key| !key.is_empty()).unwrap_or(usual)
}

/// Why a header, its name in lower case, cannot be sent.
pub(crate) fn header_fault(name: &str, value: &str) -> Option<&'static str> {
    use reqwest::header::{HeaderName, HeaderValue};
    match name {
        "authorization" | "cookie" | "proxy-authorization" => {
            Some("belongs into a Secret: use bearerTokenSecretRef or basicAuthSecretRef")
        }
        _ if OWN_HEADERS.contains(&name) => Some("is the request's own"),
        _ if HeaderName::try_from(name).is_err() => Some("is not a header's name"),
        _ if value.len() > HEADER_LENGTH => Some("has more than 1024 characters"),
        _ if HeaderValue::from_str(value).is_err() => Some("has a value that no header can carry"),
        _ => None,
    }
}
