//! Who may use which Secret towards whom, and what goes over the wire then.

use std::collections::BTreeSet;

use futures::FutureExt;
use futures::future::BoxFuture;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::super::access::Tls;
use super::super::testing::{GOOD, ok, options, prom};
use super::super::{Question, Source, SourceOptions, Sources};
use super::*;

macro_rules! pem {
    ($name:literal) => {
        include_str!(concat!("../../tests/fixtures/tls/", $name))
    };
}

/// Secrets by name, all of namespace `shop`, and how often each was read.
#[derive(Default)]
struct Vault {
    secrets: Mutex<HashMap<String, Result<Secret, Unread>>>,
    reads: Mutex<Vec<String>>,
}

impl Secrets for Vault {
    fn read<'a>(&'a self, namespace: &'a str, name: &'a str) -> BoxFuture<'a, Result<Secret, Unread>> {
        self.reads.lock().unwrap().push(format!("{namespace}/{name}"));
        let found = self.secrets.lock().unwrap().get(name).filter(|_| namespace == "shop").cloned();
        async move { found.unwrap_or(Err(Unread::Missing)) }.boxed()
    }
}

impl Vault {
    fn put(&self, name: &str, secret: Result<Secret, Unread>) {
        self.secrets.lock().unwrap().insert(name.into(), secret);
    }

    fn reads(&self) -> usize {
        self.reads.lock().unwrap().len()
    }
}

/// Allowed, towards loopback.
fn secret(data: &[(&str, &str)]) -> Secret {
    let data = data.iter().map(|(key, text)| ((*key).to_owned(), text.as_bytes().to_vec())).collect();
    Secret { allowed: true, host: Some("127.0.0.1".into()), data }
}

fn key(name: &str, key: &str) -> Piece {
    Piece::Secret { namespace: "shop".into(), name: name.into(), key: key.into() }
}

fn bearer() -> Access {
    Access { login: Some(Login::Bearer(key("prom", "token"))), ..Access::default() }
}

/// A vault with a token, and sources that read there.
fn vault() -> (Arc<Vault>, Sources) {
    let vault = Arc::new(Vault::default());
    vault.put("prom", Ok(secret(&[("token", "hunter2\n")])));
    let secrets: Arc<dyn Secrets> = Arc::clone(&vault) as _;
    let sources = Sources::new(SourceOptions { secrets, ..options() }).unwrap();
    (vault, sources)
}

fn question(url: &str, access: Access) -> Question {
    Question::Prometheus(super::super::PromQuestion { access: Some(Arc::new(access)), ..prom(url, "up") })
}

async fn server(answer: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(answer).mount(&server).await;
    server
}

async fn good() -> MockServer {
    server(ResponseTemplate::new(200).set_body_string(GOOD)).await
}

/// The values of a header in everything that a server was asked.
async fn sent(server: &MockServer, header: &str) -> BTreeSet<String> {
    let requests = server.received_requests().await.unwrap();
    let values = |r: &wiremock::Request| {
        r.headers.get_all(header).iter().map(|v| v.to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    requests.iter().flat_map(values).collect()
}

fn only(value: &str) -> BTreeSet<String> {
    [value.to_owned()].into()
}

#[tokio::test]
async fn a_token_of_a_secret_that_is_allowed_towards_this_host_is_sent_with_query_and_probe() {
    let (server, (_, sources)) = (good().await, vault());
    assert!(sources.ask(&question(&server.uri(), bearer()), 1).await.is_ok());
    assert_eq!(sent(&server, "authorization").await, only("Bearer hunter2"));
    let all = server.received_requests().await.unwrap();
    assert!(all.iter().all(|r| r.headers.contains_key("authorization")));
}

#[tokio::test]
async fn user_and_password_and_headers_are_sent() {
    let (server, (vault, sources)) = (good().await, vault());
    vault.put("basic", Ok(secret(&[("username", "pear"), ("password", "s3:cret")])));
    let login = Some(Login::Basic(key("basic", "username"), key("basic", "password")));
    let headers = vec![("x-scope-orgid".into(), "orchard".into())];
    let access = Access { login, headers, ..Access::default() };
    assert!(sources.ask(&question(&server.uri(), access), 1).await.is_ok());
    assert_eq!(sent(&server, "authorization").await, only("Basic cGVhcjpzMzpjcmV0"));
    assert_eq!(sent(&server, "x-scope-orgid").await, only("orchard"));
}

#[tokio::test]
async fn a_secret_that_its_owner_did_not_allow_for_this_host_goes_nowhere_and_the_reason_is_told() {
    let server = good().await;
    let port = server.address().port();
    let token = secret(&[("token", "hunter2")]);
    let host = |host: &str| Ok(Secret { host: Some(host.into()), ..token.clone() });
    for (found, why) in [
        (Ok(Secret { allowed: false, ..token.clone() }), "lacks the label kubervisor.k8s.io/auth=true"),
        (
            Ok(Secret { host: None, ..token.clone() }),
            "is not for 127.0.0.1: its annotation kubervisor.k8s.io/host",
        ),
        (host("prometheus.bank"), "is not for 127.0.0.1"),
        (host("127.0.0.1:1"), "is not for 127.0.0.1"),
        (host("127.0.0.1.evil.test"), "is not for 127.0.0.1"),
        (Ok(secret(&[("password", "hunter2")])), "has no key \"token\""),
        (Ok(secret(&[("token", "")])), "has no key \"token\""),
        (Ok(secret(&[("token", "hunter2\nx: y")])), "is not a text that a header can carry"),
        (Err(Unread::Missing), "there is no Secret prom"),
        (
            Err(Unread::Forbidden),
            "bind a Role there that grants the controller `get` on resource secrets, resourceName prom",
        ),
    ] {
        let (vault, sources) = vault();
        vault.put("prom", found);
        let error = sources.ask(&question(&server.uri(), bearer()), 1).await.unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
        assert!(error.permanent() && !error.to_string().contains("hunter2"), "{error}");
    }
    assert!(server.received_requests().await.unwrap().is_empty(), "nothing was sent");
    let (vault, sources) = vault();
    vault.put("prom", host(&format!("127.0.0.1:{port}")));
    assert!(sources.ask(&question(&server.uri(), bearer()), 1).await.is_ok(), "host and port");
}

#[tokio::test]
async fn an_api_server_that_is_away_is_no_fault_of_the_spec() {
    let (server, (vault, sources)) = (good().await, vault());
    vault.put("prom", Err(Unread::Unavailable));
    let error = sources.ask(&question(&server.uri(), bearer()), 1).await.unwrap_err();
    assert!(matches!(error, SourceError::Access(AccessError::Unavailable(_))) && !error.permanent());
}

#[tokio::test]
async fn the_controllers_own_credentials_go_to_its_own_server_only() {
    let (own, other, (_, sources)) = (good().await, good().await, vault());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "pear:hunter2\n").unwrap();
    let path = file.path().to_str().unwrap();
    let login = Some(Login::BasicLine(Piece::File(path.into(), "--prometheus-basic-auth-file")));
    let access = Access { login, origin: Some(own.uri().into()), ..Access::default() };
    assert!(sources.ask(&question(&own.uri(), access.clone()), 1).await.is_ok());
    assert_eq!(sent(&own, "authorization").await, only("Basic cGVhcjpodW50ZXIy"));
    let refused = sources.ask(&question(&other.uri(), access), 1).await;
    assert_eq!(refused, Err(SourceError::Access(AccessError::OtherOrigin)));
    assert!(other.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn no_redirect_carries_credentials_anywhere() {
    let (other, (_, sources)) = (good().await, vault());
    for status in [301, 302, 303, 307, 308] {
        let to = format!("{}/api/v1/query", other.uri());
        let from = server(ResponseTemplate::new(status).insert_header("location", to.as_str())).await;
        let outcome = sources.ask(&question(&from.uri(), bearer()), status.into()).await;
        assert_eq!(outcome, Err(SourceError::Redirect(status)));
    }
    assert!(other.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn questions_that_differ_in_their_credentials_are_not_shared() {
    let (server, (vault, sources)) = (good().await, vault());
    vault.put("other", Ok(secret(&[("token", "hunter3")])));
    let other = Access { login: Some(Login::Bearer(key("other", "token"))), ..Access::default() };
    let elsewhere = Piece::Secret { namespace: "bank".into(), name: "prom".into(), key: "token".into() };
    let elsewhere = Access { login: Some(Login::Bearer(elsewhere)), ..Access::default() };
    for _ in 0..2 {
        assert!(sources.ask(&question(&server.uri(), bearer()), 1).await.is_ok());
        assert!(sources.ask(&question(&server.uri(), other.clone()), 1).await.is_ok());
        assert!(
            sources.ask(&question(&server.uri(), elsewhere.clone()), 1).await.is_err(),
            "another namespace's"
        );
    }
    let queries: Vec<_> = server.received_requests().await.unwrap();
    let queries = queries.iter().filter(|r| !String::from_utf8_lossy(&r.body).contains("nonsense")).count();
    assert_eq!(queries, 2, "one for each of the two that may");
}

#[tokio::test]
async fn a_server_that_does_not_let_us_in_is_told_without_its_words() {
    for status in [401, 403] {
        let (server, (_, sources)) =
            (server(ResponseTemplate::new(status).set_body_string("token hunter2 expired")).await, vault());
        let error = sources.ask(&question(&server.uri(), bearer()), 1).await.unwrap_err();
        assert_eq!(error, SourceError::Denied(status));
        assert!(!error.to_string().contains("hunter2") && !error.permanent());
    }
}

/// What the sources keep, without a server: opening an access sends nothing.
fn logins(vault: &Arc<Vault>) -> (Logins, Endpoint, Arc<Access>) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let connector = Connector::new(&options()).unwrap();
    let secrets: Arc<dyn Secrets> = Arc::clone(vault) as _;
    (Logins::new(secrets, connector), Endpoint::parse("127.0.0.1:9090").unwrap(), Arc::new(bearer()))
}

#[tokio::test(start_paused = true)]
async fn a_secret_is_read_again_after_its_period_and_a_new_token_is_used() {
    let (vault, _) = vault();
    let (logins, endpoint, access) = logins(&vault);
    let first = logins.open(&endpoint, &access).await.unwrap();
    tokio::time::advance(REREAD - Duration::from_secs(1)).await;
    assert!(Arc::ptr_eq(&first, &logins.open(&endpoint, &access).await.unwrap()));
    assert_eq!(vault.reads(), 1);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(Arc::ptr_eq(&first, &logins.open(&endpoint, &access).await.unwrap()), "nothing changed");
    vault.put("prom", Ok(secret(&[("token", "hunter4")])));
    tokio::time::advance(REREAD).await;
    let renewed = logins.open(&endpoint, &access).await.unwrap();
    assert_eq!(renewed.headers[AUTHORIZATION], "Bearer hunter4");
    assert_eq!(vault.reads(), 3);
}

#[tokio::test(start_paused = true)]
async fn after_a_refusal_a_secret_is_read_again_at_once_but_no_storm_of_reads_follows() {
    let (vault, _) = vault();
    let (logins, endpoint, access) = logins(&vault);
    logins.open(&endpoint, &access).await.unwrap();
    vault.put("prom", Ok(secret(&[("token", "hunter4")])));
    tokio::time::advance(RETRY).await;
    logins.suspect(&endpoint, &access);
    let renewed = logins.open(&endpoint, &access).await.unwrap();
    assert_eq!(renewed.headers[AUTHORIZATION], "Bearer hunter4");
    for _ in 0..9 {
        logins.suspect(&endpoint, &access);
        tokio::time::advance(Duration::from_secs(1)).await;
        logins.open(&endpoint, &access).await.unwrap();
    }
    assert_eq!(vault.reads(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_worked_goes_on_while_the_api_server_is_away_and_ends_when_its_owner_says_so() {
    let (vault, _) = vault();
    let (logins, endpoint, access) = logins(&vault);
    let first = logins.open(&endpoint, &access).await.unwrap();
    vault.put("prom", Err(Unread::Unavailable));
    tokio::time::advance(REREAD).await;
    assert!(Arc::ptr_eq(&first, &logins.open(&endpoint, &access).await.unwrap()));
    vault.put("prom", Ok(Secret { allowed: false, ..secret(&[("token", "hunter2")]) }));
    tokio::time::advance(REREAD).await;
    assert!(logins.open(&endpoint, &access).await.is_err());
    vault.put("prom", Ok(secret(&[("token", "hunter2")])));
    tokio::time::advance(RETRY).await;
    assert!(logins.open(&endpoint, &access).await.is_ok(), "and is mended soon");
}

#[tokio::test(start_paused = true)]
async fn accesses_without_number_are_not_kept() {
    let (vault, _) = vault();
    let (logins, endpoint, _) = logins(&vault);
    for n in 0..KEPT + 10 {
        let headers = vec![("x-scope-orgid".into(), n.to_string().into())];
        logins.open(&endpoint, &Arc::new(Access { headers, ..Access::default() })).await.unwrap();
    }
    assert_eq!(logins.lock().len(), KEPT);
}

/// An https server named pears.test; with `authority`, it wants a certificate from it. Gives its URL.
async fn tls_server(wants_certificate: bool) -> String {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let chain = CertificateDer::pem_slice_iter(pem!("server.crt").as_bytes()).map(Result::unwrap).collect();
    let its_key = PrivateKeyDer::from_pem_slice(pem!("server.key").as_bytes()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem!("ca.crt").as_bytes()).unwrap()).unwrap();
    let builder = ServerConfig::builder();
    let builder = if wants_certificate {
        builder.with_client_cert_verifier(WebPkiClientVerifier::builder(roots.into()).build().unwrap())
    } else {
        builder.with_no_client_auth()
    };
    let acceptor = TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, its_key).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let _ = stream.read(&mut [0; 4096]).await;
                    let _ = stream.write_all(ok(GOOD).as_bytes()).await;
                    let _ = stream.shutdown().await;
                }
            });
        }
    });
    url
}

fn trusting(authority: &str) -> Tls {
    Tls { ca: Some(key(authority, "ca.crt")), server_name: Some("pears.test".into()), ..Tls::default() }
}

fn tls_vault() -> Sources {
    let (vault, sources) = vault();
    vault.put("ca", Ok(secret(&[("ca.crt", pem!("ca.crt"))])));
    vault.put("other-ca", Ok(secret(&[("ca.crt", pem!("other-ca.crt"))])));
    vault.put("no-ca", Ok(secret(&[("ca.crt", "pears")])));
    vault.put("client", Ok(secret(&[("tls.crt", pem!("client.crt")), ("tls.key", pem!("client.key"))])));
    sources
}

async fn over_tls(url: &str, tls: Tls) -> Result<(), SourceError> {
    let access = Access { tls, ..Access::default() };
    tls_vault().ask(&question(url, access), 1).await.map(|_| ())
}

#[tokio::test]
async fn a_server_is_trusted_by_its_authority_and_its_name_and_by_nothing_less() {
    let url = tls_server(false).await;
    assert_eq!(over_tls(&url, trusting("ca")).await, Ok(()));
    assert_eq!(over_tls(&url, trusting("other-ca")).await, Err(SourceError::Tls));
    assert_eq!(
        over_tls(&url, Tls { server_name: Some("plums.test".into()), ..trusting("ca") }).await,
        Err(SourceError::Tls)
    );
    assert_eq!(over_tls(&url, Tls { server_name: None, ..trusting("ca") }).await, Err(SourceError::Tls));
    let broken = over_tls(&url, trusting("no-ca")).await.unwrap_err();
    assert!(
        broken.to_string().contains("key \"ca.crt\" of Secret no-ca is not a bundle of certificates"),
        "{broken}"
    );
}

#[tokio::test]
async fn any_certificate_will_do_only_where_it_is_asked_for() {
    let url = tls_server(false).await;
    assert_eq!(over_tls(&url, Tls { insecure: true, ..Tls::default() }).await, Ok(()));
    assert_eq!(over_tls(&url, Tls::default()).await, Err(SourceError::Tls));
}

#[tokio::test]
async fn a_server_that_wants_a_certificate_gets_ours() {
    let url = tls_server(true).await;
    let certificate = Some((key("client", "tls.crt"), key("client", "tls.key")));
    assert_eq!(over_tls(&url, Tls { certificate, ..trusting("ca") }).await, Ok(()));
    assert!(over_tls(&url, trusting("ca")).await.is_err());
    let halves = Some((key("client", "tls.crt"), key("client", "tls.crt")));
    let error = over_tls(&url, Tls { certificate: halves, ..trusting("ca") }).await.unwrap_err();
    assert!(error.to_string().contains("or its key does not fit"), "{error}");
}

#[tokio::test]
async fn a_name_for_the_certificate_is_no_way_around_the_addresses_that_may_not_be_asked() {
    let url = tls_server(false).await;
    let (vault, _) = vault();
    vault.put("ca", Ok(secret(&[("ca.crt", pem!("ca.crt"))])));
    vault.put(
        "local-ca",
        Ok(Secret { host: Some("localhost".into()), ..secret(&[("ca.crt", pem!("ca.crt"))]) }),
    );
    let secrets: Arc<dyn Secrets> = vault as _;
    let strict = Sources::new(SourceOptions { secrets, ..SourceOptions::default() }).unwrap();
    for (url, authority) in [(url.clone(), "ca"), (url.replace("127.0.0.1", "localhost"), "local-ca")] {
        let access = Access { tls: trusting(authority), ..Access::default() };
        let outcome = strict.ask(&question(&url, access), 1).await.map(|_| ());
        assert!(matches!(outcome, Err(SourceError::Forbidden(_))), "{url}: {outcome:?}");
    }
}

/// Whoever may write a spec but not read the Secret has every field of `tls` to try.
#[tokio::test]
async fn an_address_for_the_certificates_name_takes_no_token_elsewhere() {
    let ours = tls_server(false).await;
    let port = ours.rsplit(':').next().unwrap();
    for place in ["127.0.0.1", "2130706433", "127.1", "[::ffff:127.0.0.1]", "[::1]"] {
        let (vault, sources) = vault();
        vault.put("prom", Ok(Secret { host: Some("prom.test".into()), ..secret(&[("token", "hunter2")]) }));
        let tls = Tls { server_name: Some(place.into()), insecure: true, ..Tls::default() };
        let question = question(&format!("https://prom.test:{port}"), Access { tls, ..bearer() });
        let told = sources.ask(&question, 1).await.unwrap_err().to_string();
        assert_eq!(told, format!("tls.serverName {place:?} is not a name"));
    }
}

#[tokio::test]
async fn a_secret_for_an_origin_is_sent_by_that_scheme_and_to_that_port_only() {
    let (server, (vault, sources)) = (good().await, vault());
    let asked = async |host: &str, slot| {
        vault.put("prom", Ok(Secret { host: Some(host.into()), ..secret(&[("token", "hunter2")]) }));
        let own = Access { headers: vec![("x-slot".into(), format!("{slot}").into())], ..bearer() };
        sources.ask(&question(&server.uri(), own), slot).await.is_ok()
    };
    assert!(asked(&server.uri(), 1).await);
    assert!(asked(&format!("{}/", server.uri()), 2).await);
    let port = server.address().port();
    for (other, slot) in [(format!("https://127.0.0.1:{port}"), 3), ("http://127.0.0.1".to_owned(), 4)] {
        assert!(!asked(&other, slot).await, "{other}");
    }
}
