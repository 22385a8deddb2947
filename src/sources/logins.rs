//! From an [`Access`] to a client that has it: reads what it refers to, checks who allowed what, keeps the client.
//!
//! What was read is read again after [`REREAD`], and after an answer that shows it may be old (401, 403, a failed
//! handshake). No Secret is watched: rights on them are given one by one.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reqwest::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Certificate, Client, Identity, Url};
use tokio::time::Instant;

use super::access::{Access, AccessError, Login, Piece, Secret, Secrets, Unread};
use super::connector::Connector;
use super::{Endpoint, SourceError};

/// Between two looks at a Secret that works: 5,000 services with one each make 17 reads a second.
const REREAD: Duration = Duration::from_mins(5);
/// Between two looks at one that does not work, or whose answers show that it may be old.
const RETRY: Duration = Duration::from_secs(10);
/// Accesses kept; beyond it the one that was used least lately goes. A client of its own takes some 20 kB.
const KEPT: usize = 2_048;
/// Bytes of a file that are read: what a Secret holds at the most.
const FILE: u64 = 1024 * 1024;

/// Accesses that are in use, each towards one server.
pub(super) struct Logins {
    secrets: Arc<dyn Secrets>,
    connector: Connector,
    known: Mutex<HashMap<Key, Known>>,
}

type Key = (Arc<Access>, String);

struct Known {
    outcome: Result<Arc<Session>, AccessError>,
    read_at: Instant,
    used: Instant,
    /// Its answers show that it may be old.
    suspect: bool,
}

/// A client, and what each request carries.
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) headers: HeaderMap,
    /// Where requests go to: the endpoint's address, by the name that its certificate must have.
    pub(super) base: Url,
    /// What it was made of: the same again needs no new connections.
    pieces: BTreeMap<Piece, Vec<u8>>,
}

impl Session {
    /// With nothing along.
    pub(super) fn plain(client: Client, base: Url) -> Self {
        Self { client, headers: HeaderMap::new(), base, pieces: BTreeMap::new() }
    }
}

impl Logins {
    pub(super) fn new(secrets: Arc<dyn Secrets>, connector: Connector) -> Self {
        Self { secrets, connector, known: Mutex::default() }
    }

    /// A client that has this access, towards this endpoint.
    pub(super) async fn open(
        &self,
        endpoint: &Endpoint,
        access: &Arc<Access>,
    ) -> Result<Arc<Session>, SourceError> {
        let key = (Arc::clone(access), endpoint.as_str().to_owned());
        let before = match self.known(&key) {
            Some((outcome, true)) => return outcome.map_err(SourceError::Access),
            Some((outcome, false)) => outcome.ok(),
            None => None,
        };
        let outcome = match (self.make(endpoint, access, before.as_ref()).await, before) {
            // What worked a moment ago is not given up because the API server is away.
            (Err(AccessError::Unavailable(_) | AccessError::File(_)), Some(before)) => Ok(before),
            (outcome, _) => outcome,
        };
        self.keep(key, outcome.clone());
        outcome.map_err(SourceError::Access)
    }

    /// An answer showed that what it was asked with may be old.
    pub(super) fn suspect(&self, endpoint: &Endpoint, access: &Arc<Access>) {
        let key = (Arc::clone(access), endpoint.as_str().to_owned());
        if let Some(known) = self.lock().get_mut(&key) {
            known.suspect = true;
        }
    }

    /// What is known, and whether it is fresh.
    fn known(&self, key: &Key) -> Option<(Result<Arc<Session>, AccessError>, bool)> {
        let now = Instant::now();
        let mut all = self.lock();
        let known = all.get_mut(key)?;
        known.used = now;
        let valid = if known.suspect || known.outcome.is_err() { RETRY } else { REREAD };
        Some((known.outcome.clone(), now.duration_since(known.read_at) < valid))
    }

    fn keep(&self, key: Key, outcome: Result<Arc<Session>, AccessError>) {
        let now = Instant::now();
        let mut all = self.lock();
        if all.len() >= KEPT && !all.contains_key(&key) {
            let oldest = all.iter().min_by_key(|(_, known)| known.used).map(|(key, _)| key.clone());
            oldest.map(|oldest| all.remove(&oldest));
        }
        all.insert(key, Known { outcome, read_at: now, used: now, suspect: false });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn make(
        &self,
        endpoint: &Endpoint,
        access: &Access,
        before: Option<&Arc<Session>>,
    ) -> Result<Arc<Session>, AccessError> {
        if access.origin.as_ref().is_some_and(|origin| **origin != endpoint.origin()) {
            return Err(AccessError::OtherOrigin);
        }
        let pieces = self.read(endpoint, access).await?;
        match before.filter(|before| before.pieces == pieces) {
            Some(before) => Ok(Arc::clone(before)),
            None => self.connect(endpoint, access, pieces).map(Arc::new),
        }
    }

    /// Everything that it refers to; each Secret once.
    async fn read(
        &self,
        endpoint: &Endpoint,
        access: &Access,
    ) -> Result<BTreeMap<Piece, Vec<u8>>, AccessError> {
        let mut secrets: BTreeMap<(Arc<str>, Arc<str>), Secret> = BTreeMap::new();
        let mut pieces = BTreeMap::new();
        for piece in access.pieces() {
            let bytes = match piece {
                Piece::File(path, flag) => read_file(path).await.ok_or(AccessError::File(flag))?,
                Piece::Secret { namespace, name, key } => {
                    let at = (Arc::clone(namespace), Arc::clone(name));
                    if !secrets.contains_key(&at) {
                        secrets.insert(at.clone(), self.secret(endpoint, namespace, name).await?);
                    }
                    let found = secrets[&at].data.get(&**key).filter(|bytes| !bytes.is_empty());
                    found.cloned().ok_or_else(|| AccessError::NoKey(Arc::clone(name), Arc::clone(key)))?
                }
            };
            pieces.insert(piece.clone(), bytes);
        }
        Ok(pieces)
    }

    /// One Secret, where its owner allows its use towards this host.
    async fn secret(
        &self,
        endpoint: &Endpoint,
        namespace: &Arc<str>,
        name: &Arc<str>,
    ) -> Result<Secret, AccessError> {
        let name = || Arc::clone(name);
        let secret = self.secrets.read(namespace, &name()).await.map_err(|unread| match unread {
            Unread::Forbidden => AccessError::Forbidden(Arc::clone(namespace), name()),
            Unread::Missing => AccessError::Missing(name()),
            Unread::Unavailable => AccessError::Unavailable(name()),
        })?;
        if !secret.allowed {
            return Err(AccessError::NotAllowed(name()));
        }
        let (host, port) = endpoint.host_and_port();
        // With a scheme it is the whole origin: a token that must not travel in the clear.
        let for_it = |wanted: &str| {
            if wanted.contains("://") {
                return Endpoint::parse(wanted).is_ok_and(|wanted| wanted.origin() == endpoint.origin());
            }
            wanted.eq_ignore_ascii_case(host) || wanted == format!("{host}:{port}")
        };
        if secret.host.as_deref().map(str::trim).is_some_and(for_it) {
            Ok(secret)
        } else {
            Err(AccessError::OtherHost(name(), host.to_owned()))
        }
    }

    fn connect(
        &self,
        endpoint: &Endpoint,
        access: &Access,
        pieces: BTreeMap<Piece, Vec<u8>>,
    ) -> Result<Session, AccessError> {
        let (base, mut headers) = (endpoint.url().clone(), HeaderMap::new());
        for (name, value) in &access.headers {
            let header = HeaderName::try_from(&**name).ok().zip(HeaderValue::from_str(value).ok());
            let (name, value) =
                header.ok_or_else(|| unusable(format!("header {name:?}"), "one that can be sent"))?;
            headers.append(name, value);
        }
        if let Some(login) = &access.login {
            headers.insert(AUTHORIZATION, authorization(login, &pieces)?);
        }
        let mut session = Session { client: self.connector.plain().clone(), headers, base, pieces };
        if access.tls != super::access::Tls::default() {
            self.secure(endpoint, access, &mut session)?;
        }
        Ok(session)
    }

    /// Its own client: whom TLS trusts belongs to a client, not to a request.
    fn secure(&self, endpoint: &Endpoint, access: &Access, session: &mut Session) -> Result<(), AccessError> {
        let tls = &access.tls;
        let name = tls.server_name.as_deref().filter(|_| session.base.scheme() == "https");
        let mut builder = self.connector.builder(name.map(|_| endpoint.host_and_port().0));
        if let Some(piece) = &tls.ca {
            let bundle =
                Certificate::from_pem_bundle(&session.pieces[piece]).ok().filter(|found| !found.is_empty());
            let bundle =
                bundle.ok_or_else(|| unusable(piece.what(), "a bundle of certificates in PEM form"))?;
            builder = builder.tls_certs_only(bundle);
        }
        if let Some((certificate, key)) = &tls.certificate {
            let both =
                [session.pieces[certificate].as_slice(), b"\n", session.pieces[key].as_slice()].concat();
            let identity = Identity::from_pem(&both);
            builder = builder.identity(identity.map_err(|_| {
                unusable(certificate.what(), "a certificate in PEM form, or its key does not fit")
            })?);
        }
        if let Some(name) = name {
            let (host, port) = endpoint.host_and_port();
            let host = HeaderValue::from_str(&format!("{host}:{port}"));
            // An address would be connected to as it stands, unseen by whoever resolves and refuses names, and with
            // everything secret along.
            let fits = session.base.set_host(Some(name)).is_ok() && session.base.domain().is_some();
            let host = host.ok().filter(|_| fits);
            session
                .headers
                .insert(HOST, host.ok_or_else(|| unusable(format!("tls.serverName {name:?}"), "a name"))?);
        }
        let client = builder.tls_danger_accept_invalid_certs(tls.insecure).build();
        session.client =
            client.map_err(|_| unusable("tls".to_owned(), "usable: its parts do not fit together"))?;
        Ok(())
    }
}

fn authorization(login: &Login, pieces: &BTreeMap<Piece, Vec<u8>>) -> Result<HeaderValue, AccessError> {
    // Files and Secrets are often made with a line's end.
    let text =
        |piece: &Piece| String::from_utf8_lossy(&pieces[piece]).trim_end_matches(['\r', '\n']).to_owned();
    let (piece, value) = match login {
        Login::Bearer(token) => (token, format!("Bearer {}", text(token))),
        Login::Basic(user, password) => (password, basic(&format!("{}:{}", text(user), text(password)))),
        Login::BasicLine(line) if !text(line).contains(':') => {
            return Err(unusable(line.what(), "user:password"));
        }
        Login::BasicLine(line) => (line, basic(&text(line))),
    };
    let mut value = HeaderValue::from_str(&value)
        .map_err(|_| unusable(piece.what(), "a text that a header can carry"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn basic(login: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(login))
}

fn unusable(what: String, wanted: &'static str) -> AccessError {
    AccessError::Unusable(what, wanted)
}

async fn read_file(path: &str) -> Option<Vec<u8>> {
    let size = tokio::fs::metadata(path).await.ok()?.len();
    if size > FILE { None } else { tokio::fs::read(path).await.ok() }
}

#[cfg(test)]
#[path = "logins_tests.rs"]
mod tests;
