//! All that talks to Kubernetes.
//!
//! - **The wire**: `client` makes the connection for all of it.
//! - **The view**: `watch` feeds the `cache`, whose contents are the `index`, as complete as its `lists`; `snapshot`
//!   makes a Fleet of it, with our writes in flight from `assumed` laid over; `within` and `disruptions` see members as
//!   rules of others do.
//! - **The right**: `lease` holds the Lease by the rules of `election`; `mandate` is the right to act that follows,
//!   `takeover` what a successor reads first; `brake` bounds the cuts of all services together.
//! - **Writes**: `apply` carries a plan out, each as `writes` allows it; `release` gives pods back; `selector` turns the
//!   key of a Service, its `keyhole`.
//! - **Words**: `facts` become a `status` with its `conditions`, which `status_writer` writes when it matters; `events`.

pub mod apply;
pub mod assumed;
pub mod brake;
pub mod budget;
pub mod cache;
pub mod client;
mod conditions;
pub mod crd;
pub mod disruptions;
pub mod doors;
pub mod election;
pub mod events;
pub mod facts;
pub mod feed;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub mod index;
pub mod keyhole;
pub mod label_selector;
pub mod labels;
pub mod lease;
pub mod lists;
pub mod mandate;
pub mod marked;
pub mod registry;
pub mod release;
pub mod scope;
pub mod secrets;
pub mod selector;
pub mod server_addresses;
pub mod slim;
pub mod snapshot;
pub mod status;
pub mod status_writer;
pub mod takeover;
#[cfg(any(test, fuzzing))]
pub(crate) mod testing;
pub mod token_file;
pub mod unlabelled;
pub mod watch;
mod within;
pub mod workloads;
pub mod writes;

use std::sync::Arc;
use std::time::Duration;

/// Wall time. May jump: it is only stored, and compared with what was stored.
pub type Clock = Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>;

/// Every call has this much time: kube's own limits are minutes, and a call on a dead connection would never end.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Our name in the server's field ownership and audit log.
pub const FIELD_MANAGER: &str = "kubervisor";

/// A call to the API server that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// It answered, and refused.
    #[error("the API server refused: {} (code {})", one_line(&.0.message), .0.code)]
    Refused(Box<kube::core::Status>),
    /// It never left us.
    #[error("not sent to the API server: {0}")]
    NotSent(String),
    /// Nobody knows whether it was carried out.
    #[error("no answer from the API server: {0}")]
    Unknown(String),
}

/// It repeats what others wrote, and goes to logs that people read at terminals.
fn one_line(said: &str) -> String {
    said.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

impl CallError {
    /// HTTP status of a refusal.
    #[must_use]
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Refused(status) => Some(status.code),
            Self::Unknown(_) | Self::NotSent(_) => None,
        }
    }

    /// Whether an eviction was refused because more than one disruption budget covers the pod: the API server says so
    /// itself, with a 500 for which no proxy can be blamed.
    #[must_use]
    pub fn many_budgets(&self) -> bool {
        let says = |status: &kube::core::Status| status.message.contains("more than one PodDisruptionBudget");
        matches!(self, Self::Refused(status) if status.code == 500 && says(status))
    }

    /// Whether the server said for sure that nothing was done. A 5xx may come from a proxy behind which it was.
    #[must_use]
    pub fn definite(&self) -> bool {
        matches!(self, Self::NotSent(_))
            || self.code().is_some_and(|code| (400..500).contains(&code) && code != 408)
    }
}

/// Awaits a call, for [`CALL_TIMEOUT`] at most.
///
/// # Errors
/// What the server refused, or that no answer came.
pub async fn call<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, CallError> {
    call_within(CALL_TIMEOUT, call).await
}

/// The same, for another time.
///
/// # Errors
/// What the server refused, or that no answer came.
pub async fn call_within<T>(
    time: Duration,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(time, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) => Err(CallError::Refused(status)),
        Ok(Err(error)) if never_left(&error) => Err(CallError::NotSent(error.to_string())),
        Ok(Err(error)) => Err(CallError::Unknown(error.to_string())),
        Err(_) => Err(CallError::Unknown(format!("timed out after {time:?}"))),
    }
}

/// Whether nobody listened, so that nothing can have been carried out.
fn never_left(error: &kube::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<std::io::Error>();
        if io.is_some_and(|io| io.kind() == std::io::ErrorKind::ConnectionRefused) {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: u16, message: &str) -> CallError {
        let status = serde_json::json!({"status": "Failure", "code": code, "message": message, "reason": ""});
        CallError::Refused(Box::new(serde_json::from_value(status).unwrap()))
    }

    #[test]
    fn what_the_server_repeats_of_others_stays_in_its_line() {
        let said = refused(422, "denied\n2026-01-01 all is \u{1b}[32mwell").to_string();
        assert_eq!(said, "the API server refused: denied 2026-01-01 all is  [32mwell (code 422)");
    }

    #[test]
    fn only_the_words_about_two_budgets_make_a_500_a_refusal_of_an_eviction() {
        let two = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
        assert!(refused(500, two).many_budgets() && !refused(500, two).definite());
        assert!(!refused(500, "internal error").many_budgets());
        assert!(!refused(429, two).many_budgets() && refused(429, two).definite());
        assert!(!CallError::Unknown(two.into()).many_budgets());
    }
}
