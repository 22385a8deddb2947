//! With what a Prometheus is asked besides its address: TLS, a login, headers. References only, never a secret itself:
//! these are values, part of a question, and so part of what two askers must have in common to share an answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

/// Label by which a Secret's owner allows sources to use it.
pub const AUTH_LABEL: &str = "kubervisor.k8s.io/auth";
/// Annotation with the one host, host:port or origin (scheme://host:port) that a Secret may be used towards.
pub const HOST_ANNOTATION: &str = "kubervisor.k8s.io/host";

/// What is sent along, and whom it trusts.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Access {
    /// Of an https endpoint.
    pub tls: Tls,
    /// Who is asking.
    pub login: Option<Login>,
    /// Sent as they are; names in lower case.
    pub headers: Vec<(Arc<str>, Arc<str>)>,
    /// The only origin that it may be used towards. Files of the controller always have one; a Secret says itself for
    /// which host it is.
    pub origin: Option<Arc<str>>,
}

/// TLS of an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tls {
    /// The only authorities that are trusted, in PEM form; those of the machine where absent.
    pub ca: Option<Piece>,
    /// Our certificate and its key, in PEM form.
    pub certificate: Option<(Piece, Piece)>,
    /// The name that the server's certificate must have, and that is asked for.
    pub server_name: Option<Arc<str>>,
    /// Trust any certificate.
    pub insecure: bool,
}

/// The Authorization header.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Login {
    /// `Bearer` and a token.
    Bearer(Piece),
    /// `Basic`, from a user and a password.
    Basic(Piece, Piece),
    /// `Basic`, from one line `user:password`.
    BasicLine(Piece),
}

/// Where something secret is kept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Piece {
    /// A file of the controller, and what it is called in an error: its flag.
    File(Arc<str>, &'static str),
    /// A key of a Secret.
    Secret {
        /// Its namespace: always that of the KubervisorService.
        namespace: Arc<str>,
        /// Its name.
        name: Arc<str>,
        /// The key of the data.
        key: Arc<str>,
    },
}

/// A Secret, as far as it matters.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret {
    /// Carries [`AUTH_LABEL`] with the value `true`.
    pub allowed: bool,
    /// Its [`HOST_ANNOTATION`].
    pub host: Option<String>,
    /// Its data.
    pub data: BTreeMap<String, Vec<u8>>,
}

/// Whoever can read Secrets: the API server in production, values in tests. `()` has none.
pub trait Secrets: Send + Sync + 'static {
    /// Reads one, or says why not.
    fn read<'a>(&'a self, namespace: &'a str, name: &'a str) -> BoxFuture<'a, Result<Secret, Unread>>;
}

impl Secrets for () {
    fn read<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, Result<Secret, Unread>> {
        async { Err(Unread::Missing) }.boxed()
    }
}

/// Why a Secret was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    /// 403.
    Forbidden,
    /// 404.
    Missing,
    /// Anything else: it may pass.
    Unavailable,
}

/// Why an access cannot be used. The text says what to do, and never what a Secret holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// No right.
    #[error(
        "no right to read Secret {1} of namespace {0}; bind a Role there that grants the controller `get` on \
         resource secrets, resourceName {1}"
    )]
    Forbidden(Arc<str>, Arc<str>),
    /// No such Secret.
    #[error("there is no Secret {0}; make it in this namespace, or mend the reference")]
    Missing(Arc<str>),
    /// The API server did not answer.
    #[error("Secret {0} could not be read just now; the API server gives no answer")]
    Unavailable(Arc<str>),
    /// Its owner has not allowed it.
    #[error("Secret {0} lacks the label {AUTH_LABEL}=true, by which its owner allows sources to use it")]
    NotAllowed(Arc<str>),
    /// For another host.
    #[error("Secret {0} is not for {1}: its annotation {HOST_ANNOTATION} must name that host")]
    OtherHost(Arc<str>, String),
    /// Lacks a key.
    #[error("Secret {0} has no key {1:?}, or nothing in it")]
    NoKey(Arc<str>, Arc<str>),
    /// The controller's own file.
    #[error("the controller cannot read the file of its flag {0}; its operator must mend it")]
    File(&'static str),
    /// Not of the form that it must have.
    #[error("{0} is not {1}")]
    Unusable(String, &'static str),
    /// The controller's own credentials, and another server.
    #[error("the controller's own credentials are only for its own Prometheus")]
    OtherOrigin,
}

impl AccessError {
    /// Whether only a person can mend it.
    #[must_use]
    pub fn permanent(&self) -> bool {
        match self {
            Self::Forbidden(..)
            | Self::Missing(_)
            | Self::NotAllowed(_)
            | Self::OtherHost(..)
            | Self::NoKey(..)
            | Self::Unusable(..)
            | Self::OtherOrigin => true,
            Self::Unavailable(_) | Self::File(_) => false,
        }
    }
}

impl Piece {
    /// For an error.
    pub(super) fn what(&self) -> String {
        match self {
            Self::File(_, flag) => format!("the file of the controller's flag {flag}"),
            Self::Secret { name, key, .. } => format!("key {key:?} of Secret {name}"),
        }
    }
}

impl Access {
    /// Everything secret that it refers to.
    pub(super) fn pieces(&self) -> Vec<&Piece> {
        let Self { tls: Tls { ca, certificate, server_name: _, insecure: _ }, login, headers: _, origin: _ } =
            self;
        let mut pieces: Vec<_> = ca.iter().collect();
        pieces.extend(certificate.iter().flat_map(|(certificate, key)| [certificate, key]));
        match login {
            Some(Login::Bearer(piece) | Login::BasicLine(piece)) => pieces.push(piece),
            Some(Login::Basic(user, password)) => pieces.extend([user, password]),
            None => {}
        }
        pieces
    }
}
