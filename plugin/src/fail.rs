//! What to say when the API server refuses or cannot be reached: one sentence, and what the reader can do.

use std::fmt;
use std::time::Duration;

use kube::client::AuthError;
use kube::config::ExecConfig;
use kube::core::Status;

use crate::words::plain;

/// Time that any one call has. kubectl waits without end; a person at night should hear of it.
const CALL_WITHIN: Duration = Duration::from_secs(30);
/// How alike two names must be for one to be offered in place of the other (Jaro-Winkler). Names of one product begin
/// alike, so less would offer any of them.
const ALIKE: f64 = 0.85;
/// Characters of what a login program says of its failure.
const SAID_MAX: usize = 200;

/// As kubectl names the kind.
pub const RESOURCE: &str = "kubervisorservices.kubervisor.k8s.io";

/// A call to the API server, for people.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// Of RBAC, such as `list`.
    pub verb: &'a str,
    /// With its group, as kubectl names it.
    pub resource: &'a str,
    /// Empty for all of them.
    pub name: &'a str,
    /// `None`: every namespace.
    pub namespace: Option<&'a str>,
}

/// What the API server answered, in kubectl's form.
#[derive(Debug)]
pub struct Refused {
    /// HTTP status.
    pub code: u16,
    text: String,
}

impl Refused {
    /// An answer of ours in the same form.
    #[must_use]
    pub fn not_found(text: String) -> Self {
        Self { code: 404, text }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Refused {}

/// HTTP status of a refusal by the API server.
#[must_use]
pub fn code(error: &anyhow::Error) -> Option<u16> {
    error.downcast_ref::<Refused>().map(|refused| refused.code)
}

impl Ask<'_> {
    /// Awaits the call.
    ///
    /// # Errors
    /// What the server said, or that it said nothing.
    pub async fn of<T>(&self, call: impl Future<Output = Result<T, kube::Error>>) -> anyhow::Result<T> {
        match tokio::time::timeout(CALL_WITHIN, call).await {
            Ok(answer) => answer.map_err(|error| self.failed(&error)),
            Err(_) => anyhow::bail!(
                "no answer to {self} within {CALL_WITHIN:?}: see how the API server is (`kubectl get --raw /readyz`)"
            ),
        }
    }

    /// The sentence for this error.
    #[must_use]
    pub fn failed(&self, error: &kube::Error) -> anyhow::Error {
        match (error, auth(error)) {
            (kube::Error::Api(status), _) => self.refused(status).into(),
            (_, Some(error)) => anyhow::anyhow!(login(error, None)),
            (error, None) if by_proxy(error) => anyhow::anyhow!(
                "cannot {self}: the API server cannot be reached through the proxy ({}); see HTTPS_PROXY, NO_PROXY and the \
                 kubeconfig's proxy-url",
                innermost(error)
            ),
            (error, None) => anyhow::anyhow!(
                "cannot {self}: the API server cannot be reached ({}); is it up, and is this the right context? See \
                 `kubectl config current-context`",
                innermost(error)
            ),
        }
    }

    fn refused(&self, status: &Status) -> Refused {
        let reason = if status.reason.is_empty() { "Unknown" } else { &status.reason };
        let named = status.details.as_ref().is_some_and(|details| !details.name.is_empty());
        // Nothing is named: the kind itself is not served.
        if status.code == 404 && !named && self.resource == RESOURCE {
            let text = "error: the server doesn't have a resource type \"kubervisorservices\": it is not installed in this \
                        cluster; a controller does it, or `kubervisor crds | kubectl apply -f -`";
            return Refused { code: 404, text: text.to_owned() };
        }
        let action = match status.code {
            401 => "; log in again, or take another --context".to_owned(),
            403 => format!(
                "; it takes the right to {self}: ask whoever grants roles there, or take another -n or --context"
            ),
            409 => "; somebody else changed it meanwhile: do it again".to_owned(),
            _ => String::new(),
        };
        // It repeats what others wrote: names, fields, the words of admission webhooks.
        let text = format!("Error from server ({}): {}{action}", plain(reason), plain(&status.message));
        Refused { code: status.code, text }
    }
}

impl fmt::Display for Ask<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if !self.name.is_empty() {
            write!(f, " {:?}", self.name)?;
        }
        match self.namespace {
            Some(namespace) => write!(f, " in namespace {namespace:?}"),
            None => f.write_str(" in all namespaces"),
        }
    }
}

/// A failed login, however deep: one that is renewed fails within a call.
#[must_use]
pub fn auth(error: &kube::Error) -> Option<&AuthError> {
    let mut cause: &(dyn std::error::Error + 'static) = error;
    loop {
        if let Some(auth) = cause.downcast_ref() {
            return Some(auth);
        }
        cause = cause.source()?;
    }
}

/// A failed login in a sentence. What a login program printed is not told, as it may hold a token; of its errors the last
/// line.
#[must_use]
pub fn login(error: &AuthError, exec: Option<&ExecConfig>) -> String {
    let program = exec.and_then(|exec| exec.command.as_deref());
    let program = program.map_or_else(
        || "the kubeconfig's login program".to_owned(),
        |program| format!("the kubeconfig's login program {program:?}"),
    );
    let hint = exec.and_then(|exec| exec.install_hint.as_deref()).map(plain);
    let hint = hint.map(|hint| format!(": {}", hint.trim())).unwrap_or_default();
    let again = "log in again, or take another --context";
    match error {
        AuthError::AuthExecStart(error) if error.kind() == std::io::ErrorKind::NotFound => {
            format!("{program} is not there: install it, or mend the PATH or the kubeconfig{hint}")
        }
        AuthError::AuthExecStart(error) => format!("{program} cannot be started ({error}){hint}"),
        AuthError::AuthExecRun { out, .. } => {
            let said = String::from_utf8_lossy(&out.stderr);
            let last = said.lines().map(str::trim).rfind(|line| !line.is_empty()).map(plain);
            let last = last.map(|line| format!(": {}", line.chars().take(SAID_MAX).collect::<String>()));
            format!("{program} failed ({}{}): {again}", out.status, last.unwrap_or_default())
        }
        AuthError::AuthExecParse(_) | AuthError::ExecPluginFailed => {
            format!("{program} printed no ExecCredential that can be read: {again}")
        }
        error => format!("the kubeconfig's login failed ({error}): {again}"),
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    causes(error).last().unwrap_or(error).to_string()
}

fn causes<'e>(error: &'e dyn std::error::Error) -> impl Iterator<Item = &'e (dyn std::error::Error + 'e)> {
    std::iter::successors(Some(error), |cause| cause.source())
}

/// Whether the proxy on the way failed. Its errors have no other mark than their first words.
fn by_proxy(error: &kube::Error) -> bool {
    let of_proxy = |said: String| said.starts_with("tunnel error: ") || said.starts_with("SOCKS error: ");
    causes(error).any(|cause| of_proxy(cause.to_string()))
}

/// kubectl's sentence for a name that is not there, with the one that may be meant.
#[must_use]
pub fn unknown<'a>(resource: &str, name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let meant = nearest(name, known).map(|meant| format!("; did you mean {meant:?}?")).unwrap_or_default();
    format!("Error from server (NotFound): {resource} {name:?} not found{meant}")
}

/// The name that is most like this one, where any is.
#[must_use]
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let alike = known.into_iter().map(|other| (strsim::jaro_winkler(name, other), other));
    // Of several that are as much alike, the first.
    let better = |best: (f64, &'a str), next: (f64, &'a str)| if next.0 > best.0 { next } else { best };
    alike.filter(|(score, _)| *score >= ALIKE).reduce(better).map(|(_, other)| other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(resource: &str, status: serde_json::Value) -> String {
        let status: Status = serde_json::from_value(status).unwrap();
        let ask = Ask { verb: "list", resource, name: "", namespace: Some("meadow") };
        ask.failed(&kube::Error::Api(status.boxed())).to_string()
    }

    #[test]
    fn a_missing_right_is_named_with_its_verb_resource_and_namespace() {
        let text =
            said("pods", json!({"status": "Failure", "code": 403, "reason": "Forbidden", "message": "no"}));
        assert!(text.starts_with("Error from server (Forbidden): no; it takes the right to "), "{text}");
        assert!(text.contains("list pods in namespace \"meadow\""), "{text}");
    }

    #[test]
    fn what_the_server_says_stays_one_line_that_shows_as_it_is() {
        let message = "denied by policy\n\u{1b}[1Aall is well\u{202e}";
        let status = json!({"status": "Failure", "code": 422, "reason": "Invalid", "message": message});
        assert_eq!(said("pods", status), "Error from server (Invalid): denied by policy  [1Aall is well ");
    }

    #[test]
    fn a_kind_that_is_not_served_is_told_from_an_object_that_is_not_there() {
        let status = |details| json!({"status": "Failure", "code": 404, "reason": "NotFound", "message": "?", "details": details});
        let kind = said(RESOURCE, status(json!({})));
        assert!(kind.contains("not installed") && kind.contains("kubervisor crds"), "{kind}");
        let object = said(RESOURCE, status(json!({"name": "pick"})));
        assert!(!object.contains("not installed"), "{object}");
    }

    #[test]
    fn a_login_that_fails_names_its_program_and_never_what_it_printed() {
        let exec: ExecConfig =
            serde_json::from_value(json!({"command": "cloud-login", "installHint": "brew install cloud"}))
                .unwrap();
        let missing = AuthError::AuthExecStart(std::io::ErrorKind::NotFound.into());
        let said = login(&missing, Some(&exec));
        assert!(
            said.contains("\"cloud-login\" is not there") && said.ends_with(": brew install cloud"),
            "{said}"
        );
        let script = "echo token-of-mine; echo '\u{1b}[31mlog in first' >&2; exit 3";
        let out = Box::new(std::process::Command::new("sh").args(["-c", script]).output().unwrap());
        let failed = AuthError::AuthExecRun { cmd: "cloud-login token-of-mine".into(), out };
        let said = login(&failed, Some(&exec));
        assert!(said.contains("\"cloud-login\" failed (exit status: 3:  [31mlog in first)"), "{said}");
        let ask = Ask { verb: "list", resource: "pods", name: "", namespace: None };
        let renewed = ask.failed(&kube::Error::Service(Box::new(failed))).to_string();
        assert!(renewed.contains("login program failed (exit status: 3"), "{renewed}");
        assert!(!said.contains("token-of-mine") && !renewed.contains("token-of-mine"), "{renewed}");
    }

    #[tokio::test]
    async fn a_proxy_that_is_away_is_told_from_an_api_server_that_is() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let ask = Ask { verb: "list", resource: "pods", name: "", namespace: None };
        for (proxy, told) in [
            (Some("http://127.0.0.1:1"), "through the proxy (Connection refused"),
            (Some("socks5://127.0.0.1:1"), "through the proxy (SOCKS error: "),
            (None, "cannot be reached (Connection refused"),
        ] {
            let mut config = kube::Config::new("https://127.0.0.1:1".parse().unwrap());
            config.proxy_url = proxy.map(|proxy| proxy.parse().unwrap());
            let client = kubervisor::cluster::client::client(config).unwrap();
            let said = ask.of(client.apiserver_version()).await.unwrap_err().to_string();
            assert!(said.contains(told), "{said}");
        }
    }

    #[test]
    fn only_a_name_that_is_alike_is_offered() {
        assert_eq!(nearest("chekout", ["cart", "checkout", "check"]), Some("checkout"));
        assert_eq!(nearest("chekout", ["checkout-0", "checkout-1"]), Some("checkout-0"));
        assert_eq!(nearest("orders", ["cart", "checkout"]), None);
        assert_eq!(
            unknown("pods", "chekout", ["checkout"]),
            "Error from server (NotFound): pods \"chekout\" not found; did you mean \"checkout\"?"
        );
    }
}
