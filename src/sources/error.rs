//! Why a source gave no answer.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::AccessError;

/// Why there are no samples. The text says what failed and who can mend it, in our own words: what a server wrote in
/// an error may hold anything, so it reaches neither status nor Events.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// Nobody listens.
    #[error("the source refuses connections; is it running, and is the port right?")]
    Refused,
    /// No connection, or it broke before an answer began.
    #[error(
        "the source cannot be reached; is it running, and does a NetworkPolicy let the controller through?"
    )]
    Unreachable,
    /// Its name has no address.
    #[error("the name of the source does not resolve; is it spelled as in its Service?")]
    Unresolved,
    /// The handshake failed.
    #[error("no TLS connection to the source; is its certificate valid, and is it a TLS port?")]
    Tls,
    /// An address that may not be asked.
    #[error("the source's address {0} may not be asked; give the address of a Service or of a host outside")]
    Forbidden(IpAddr),
    /// 3xx. Never followed: it would carry a question, later credentials, to a host that nobody named.
    #[error("the source redirects (status {0}), which is never followed; give its final address")]
    Redirect(u16),
    /// No whole answer in time.
    #[error("no answer within {}; the query is too slow, or the source overloaded", seconds(*.0))]
    Timeout(Duration),
    /// Not even asked in time.
    #[error("not asked within {}: earlier questions to this source have not been answered yet", seconds(*.0))]
    Crowded(Duration),
    /// 401 or 403.
    #[error("the source does not let us in (status {0}); mend the credentials, or what they allow")]
    Denied(u16),
    /// What it should be asked with is not there, or not allowed.
    #[error(transparent)]
    Access(AccessError),
    /// Any other status than 200.
    #[error("the source answers with status {0}; its own log says why")]
    Status(u16),
    /// Prometheus' own 400: it will never be able to answer this.
    #[error(
        "the source cannot read the query (400 bad_data); mend promQL (or activityPromQL) in the KubervisorService"
    )]
    BadQuery,
    /// Prometheus understood the query and failed to run it.
    #[error(
        "the source could not run the query ({0}); try promQL by hand: it may match ambiguously or load too much"
    )]
    Execution(ServerFault),
    /// HTML, compressed data, an empty body.
    #[error("the answer is not JSON; is this the address of the API, not of its user interface?")]
    NotJson,
    /// Ended early.
    #[error(
        "the answer ends in the middle; look for a proxy or a restart between the controller and the source"
    )]
    Truncated,
    /// More bytes than are read.
    #[error(
        "the answer is larger than {limit} bytes; aggregate in promQL to one series for each pod and key"
    )]
    TooLarge {
        /// Bytes.
        limit: usize,
    },
    /// More series, or named pods, than are kept.
    #[error(
        "the answer names more than {limit} series; aggregate in promQL to one series for each pod and key"
    )]
    TooManySeries {
        /// Series.
        limit: usize,
    },
    /// Not an instant vector.
    #[error("the query gives a {0} and not an instant vector; mend promQL in the KubervisorService")]
    WrongType(ResultType),
    /// JSON, but not this API's.
    #[error("the answer is JSON, but {0}")]
    Malformed(&'static str),
    /// The task that asked is gone: a fault of ours.
    #[error("the query was lost inside the controller; please report it with the controller's log")]
    Lost,
}

/// What a query gave in place of an instant vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultType {
    /// A number without labels.
    Scalar,
    /// A text.
    String,
    /// A range of samples.
    Matrix,
    /// A type that no Prometheus has today.
    Other,
}

/// Prometheus' own names for a failed query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerFault {
    /// `execution`: ambiguous matching, too many samples, and the like.
    Execution,
    /// `timeout`: over the limit given, or over its own.
    Timeout,
    /// `canceled`.
    Canceled,
    /// Whatever else stands in an answer that calls itself an error.
    Other,
}

impl SourceError {
    /// The variant's name, for metrics.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Refused => "Refused",
            Self::Unreachable => "Unreachable",
            Self::Unresolved => "Unresolved",
            Self::Tls => "Tls",
            Self::Forbidden(_) => "Forbidden",
            Self::Redirect(_) => "Redirect",
            Self::Timeout(_) => "Timeout",
            Self::Crowded(_) => "Crowded",
            Self::Denied(_) => "Denied",
            Self::Access(_) => "Access",
            Self::Status(_) => "Status",
            Self::BadQuery => "BadQuery",
            Self::Execution(_) => "Execution",
            Self::NotJson => "NotJson",
            Self::Truncated => "Truncated",
            Self::TooLarge { .. } => "TooLarge",
            Self::TooManySeries { .. } => "TooManySeries",
            Self::WrongType(_) => "WrongType",
            Self::Malformed(_) => "Malformed",
            Self::Lost => "Lost",
        }
    }

    /// Whether only a person can mend it, so that it is `InitFailed`: the server's own verdict on the query, or
    /// credentials that are not there. Every other failure may be the server's, or a proxy's, and pass.
    #[must_use]
    pub fn permanent(&self) -> bool {
        match self {
            Self::BadQuery => true,
            Self::Access(error) => error.permanent(),
            _ => false,
        }
    }
}

impl fmt::Display for ResultType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scalar => "scalar",
            Self::String => "string",
            Self::Matrix => "matrix",
            Self::Other => "result of an unknown type",
        })
    }
}

impl fmt::Display for ServerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Execution => "execution",
            Self::Timeout => "timeout",
            Self::Canceled => "canceled",
            Self::Other => "error",
        })
    }
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}
