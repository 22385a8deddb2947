//! A client of the API server that sends the first request of a connection at once.
//!
//! Built as kube builds its own, layer by layer, but for the socket: kube leaves Nagle's algorithm on and offers no
//! switch (kube-rs/kube#2056). The first request would then wait until the server acknowledges the last message of the
//! TLS handshake, which Linux does after 40 ms: of a cut after a quiet time, and of every command of the plugin.

use std::error::Error as StdError;
use std::net::IpAddr;

use http::header::AUTHORIZATION;
use http::{Request, Uri};
use hyper::rt::{Read, Write};
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::legacy::connect::{Connection, HttpConnector};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ConfigExt as _};
use kube::{Client, Config, Error};
use tower::util::MapRequestLayer;
use tower::{BoxError, Service, ServiceBuilder};
use tower_http::decompression::DecompressionLayer;

use super::token_file::TokenFile;

/// Repeats nothing, whatever the configuration says of that.
///
/// # Errors
/// The configuration makes no connection, or leads through a proxy of a kind that is not supported.
pub fn client(mut config: Config) -> kube::Result<Client> {
    config.default_retry = false;
    let Some(proxy) = proxy(&config, |name| std::env::var(name).ok())? else {
        return over(socket(), config);
    };
    let through = proxy.uri().clone();
    match through.scheme_str() {
        Some("http") => {
            let tunnel = Tunnel::new(through, socket());
            match proxy.basic_auth() {
                Some(login) => over(tunnel.with_auth(login.clone()), config),
                None => over(tunnel, config),
            }
        }
        // Names are looked up by the proxy in both, as kubectl has it.
        Some("socks5" | "socks5h") => {
            let socks = SocksV5::new(through, socket());
            match proxy.raw_auth() {
                Some((user, password)) => over(socks.with_auth(user.into(), password.into()), config),
                None => over(socks, config),
            }
        }
        _ => Err(Error::ProxyProtocolUnsupported { proxy_url: Box::new(through) }),
    }
}

/// The proxy on the way, if any. kube takes that of the kubeconfig's cluster, or else HTTPS_PROXY; that NO_PROXY may
/// name the API server, and that this machine itself needs no proxy, it leaves to others. kubectl knows both.
fn proxy(config: &Config, env: impl Fn(&str) -> Option<String>) -> kube::Result<Option<Intercept>> {
    let (Some(named), server) = (&config.proxy_url, &config.cluster_url) else { return Ok(None) };
    let set =
        |names: [&str; 2]| names.into_iter().find_map(|name| env(name).filter(|value| !value.is_empty()));
    let everybodys = set(["HTTPS_PROXY", "https_proxy"]).and_then(|text| text.parse::<Uri>().ok());
    if everybodys.as_ref() == Some(named) {
        let no = set(["NO_PROXY", "no_proxy"]).unwrap_or_default();
        let asked = Matcher::builder().all("http://any.invalid").no(no).build().intercept(server);
        if asked.is_none() || here(server) || server.scheme_str() != Some("https") {
            return Ok(None);
        }
    }
    match Matcher::builder().all(named.to_string()).build().intercept(server) {
        None => Err(Error::ProxyProtocolUnsupported { proxy_url: Box::new(named.clone()) }),
        proxy => Ok(proxy),
    }
}

fn here(server: &Uri) -> bool {
    let host = server.host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Over connections that are made so.
fn over<C>(connector: C, mut config: Config) -> kube::Result<Client>
where
    C: Service<Uri> + Clone + Send + Sync + 'static,
    C::Response: Connection + Read + Write + Send + Unpin + 'static,
    C::Future: Send + 'static,
    C::Error: StdError + Send + Sync + 'static,
{
    let token = TokenFile::taken_from(&mut config.auth_info).map_err(Error::Auth)?;
    let mut connector = TimeoutConnector::new(config.rustls_https_connector_with_connector(connector)?);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    connector.set_reset_reader_on_write(config.reset_reader_on_write);
    let wire: legacy::Client<_, Body> = legacy::Client::builder(TokioExecutor::new()).build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .layer(DecompressionLayer::new().no_br().no_deflate().no_zstd().gzip(!config.disable_compression))
        .option_layer(config.auth_layer()?)
        .option_layer(token.map(told))
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(wire);
    Ok(Client::new(service, config.default_namespace))
}

fn told(token: TokenFile) -> MapRequestLayer<impl FnMut(Request<Body>) -> Request<Body> + Clone> {
    MapRequestLayer::new(move |mut request: Request<Body>| {
        request.headers_mut().insert(AUTHORIZATION, token.header());
        request
    })
}

fn socket() -> HttpConnector {
    let mut connector = HttpConnector::new();
    // https too.
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use http::HeaderMap;
    use kube::config::AuthInfo;
    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    #[tokio::test]
    async fn a_socket_sends_what_it_is_given_at_once() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", server.local_addr().unwrap()).parse().unwrap();
        let connected = socket().call(url).await.unwrap();
        assert!(connected.inner().nodelay().unwrap());
    }

    fn through(server: &str, proxy: &str) -> Config {
        let mut config = Config::new(server.parse().unwrap());
        config.proxy_url = Some(proxy.parse().unwrap());
        config
    }

    #[tokio::test]
    async fn a_proxy_that_is_not_supported_is_refused_and_not_passed_by() {
        for proxy in ["socks4://127.0.0.1:2", "https://127.0.0.1:2", "gopher://127.0.0.1:2"] {
            let refused = client(through("http://orchard.invalid", proxy)).map(drop).unwrap_err().to_string();
            assert!(refused.contains("127.0.0.1:2"), "{refused}");
        }
    }

    #[test]
    fn a_proxy_of_the_environment_is_not_for_everybody_and_one_of_the_kubeconfig_is() {
        let (all, own) = ("http://all.invalid:3128", "socks5://own.invalid:1080");
        for (server, named, no, proxied) in [
            ("https://orchard.invalid", all, "", true),
            ("https://orchard.invalid", all, "meadow.invalid,10.0.0.0/8", true),
            ("https://orchard.invalid", all, "meadow.invalid,orchard.invalid", false),
            ("https://api.orchard.invalid:6443", all, ".orchard.invalid", false),
            ("https://10.9.8.7:6443", all, "meadow.invalid,10.0.0.0/8", false),
            ("https://orchard.invalid", all, "*", false),
            ("https://127.0.0.1:6443", all, "", false),
            ("https://[::1]:6443", all, "", false),
            ("https://localhost:6443", all, "", false),
            ("https://orchard.invalid", own, "orchard.invalid", true),
            ("https://127.0.0.1:6443", own, "*", true),
        ] {
            let env = |name: &str| match name {
                "https_proxy" => Some(all.to_owned()),
                "NO_PROXY" => Some(no.to_owned()),
                _ => None,
            };
            let chosen = proxy(&through(server, named), env).unwrap();
            assert_eq!(chosen.is_some(), proxied, "{server} by {named}, but not for {no:?}");
        }
        assert!(proxy(&Config::new("https://orchard.invalid".parse().unwrap()), |_| None).unwrap().is_none());
    }

    /// What stands on the wire up to here.
    async fn until(wire: &mut TcpStream, end: &[u8]) -> String {
        let mut read = Vec::new();
        while !read.ends_with(end) {
            read.push(wire.read_u8().await.unwrap());
        }
        String::from_utf8_lossy(&read).into_owned()
    }

    async fn answered(mut wire: TcpStream) -> String {
        let asked = until(&mut wire, b"\r\n\r\n").await;
        wire.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
        asked
    }

    async fn ask(config: Config) -> Value {
        let request = Request::get("/version").body(Vec::new()).unwrap();
        client(config).unwrap().request(request).await.unwrap()
    }

    #[tokio::test]
    async fn the_api_server_is_reached_through_an_http_proxy_that_wants_a_login() {
        let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = proxy.local_addr().unwrap();
        let config = through("http://orchard.invalid:8080", &format!("http://ada:pe%40r@{address}"));
        let passing = async {
            let (mut wire, _) = proxy.accept().await.unwrap();
            let connect = until(&mut wire, b"\r\n\r\n").await;
            assert!(connect.starts_with("CONNECT orchard.invalid:8080 "), "{connect}");
            assert!(connect.to_lowercase().contains("proxy-authorization: basic ywrhonblqhi="), "{connect}");
            wire.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            answered(wire).await
        };
        let (answer, asked) = tokio::join!(ask(config), passing);
        assert_eq!(answer, json!({}));
        assert!(asked.starts_with("GET /version ") && !asked.contains("roxy-"), "{asked}");
    }

    #[tokio::test]
    async fn the_api_server_is_reached_through_a_socks_proxy_that_looks_up_its_name() {
        let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = proxy.local_addr().unwrap();
        let config = through("http://orchard.invalid:8080", &format!("socks5://{address}"));
        let passing = async {
            let (mut wire, _) = proxy.accept().await.unwrap();
            let mut hello = [0; 3];
            wire.read_exact(&mut hello).await.unwrap();
            wire.write_all(&[5, 0]).await.unwrap();
            let mut wanted = [0; 7 + 15];
            wire.read_exact(&mut wanted).await.unwrap();
            assert_eq!(&wanted[5..20], b"orchard.invalid");
            wire.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 80]).await.unwrap();
            answered(wire).await
        };
        let (answer, asked) = tokio::join!(ask(config), passing);
        assert_eq!(answer, json!({}));
        assert!(asked.starts_with("GET /version "), "{asked}");
    }

    /// A server that tells who asks.
    async fn telling() -> Config {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let told = |headers: HeaderMap| async move {
            let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
            axum::Json(json!([header("authorization"), header("impersonate-user")]))
        };
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(told)).await });
        Config::new(url.parse().unwrap())
    }

    #[tokio::test]
    async fn a_token_in_a_file_is_told_without_the_end_of_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "pear\n").unwrap();
        let mut config = telling().await;
        config.auth_info = serde_json::from_value(json!({"tokenFile": file})).unwrap();
        assert_eq!(ask(config).await, json!(["Bearer pear", null]));
    }

    #[tokio::test]
    async fn a_login_is_renewed_when_it_is_over_and_the_caller_stays_who_he_says() {
        let folder = tempfile::tempdir().unwrap();
        // Each login gives another token, which is over at once.
        let script = r#"echo x >> "$0"; printf '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential",
            "status":{"token":"pear-%s","expirationTimestamp":"2020-01-01T00:00:00Z"}}' "$(wc -l < "$0" | tr -d ' ')""#;
        let mut config = telling().await;
        config.auth_info = serde_json::from_value::<AuthInfo>(json!({"as": "ada", "exec": {
            "apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never", "command": "sh",
            "args": ["-c", script, folder.path().join("logins")]}}))
        .unwrap();
        let client = client(config).unwrap();
        let mut tokens = Vec::new();
        for _ in 0..2 {
            let request = Request::get("/version").body(Vec::new()).unwrap();
            let [token, whom]: [String; 2] = client.request(request).await.unwrap();
            assert_eq!(whom, "ada");
            tokens.push(token);
        }
        assert!(tokens[0].starts_with("Bearer pear-") && tokens[0] != tokens[1], "{tokens:?}");
    }
}
