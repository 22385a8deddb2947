//! A client of the API server that sends the first request of a connection at once.
//!
//! Built as kube builds its own, layer by layer, but for the socket: kube leaves Nagle's algorithm on and offers no
//! switch (kube-rs/kube#2056). The first request would then wait until the server acknowledges the last message of the
//! TLS handshake, which Linux does after 40 ms: of a cut after a quiet time, and of every command of the plugin.

use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ConfigExt as _};
use kube::{Client, Config};
use tower::{BoxError, ServiceBuilder};
use tower_http::decompression::DecompressionLayer;

/// Repeats nothing, whatever the configuration says of that.
///
/// # Errors
/// The configuration makes no connection, or leads through a proxy of a kind that is not supported.
pub fn client(mut config: Config) -> kube::Result<Client> {
    config.default_retry = false;
    if config.proxy_url.is_some() {
        return Client::try_from(config);
    }
    let mut connector = TimeoutConnector::new(config.rustls_https_connector_with_connector(socket())?);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    connector.set_reset_reader_on_write(config.reset_reader_on_write);
    let wire: legacy::Client<_, Body> = legacy::Client::builder(TokioExecutor::new()).build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .layer(DecompressionLayer::new().no_br().no_deflate().no_zstd().gzip(!config.disable_compression))
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(wire);
    Ok(Client::new(service, config.default_namespace))
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
    use tower_service::Service as _;

    #[tokio::test]
    async fn a_socket_sends_what_it_is_given_at_once() {
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", server.local_addr().unwrap()).parse().unwrap();
        let connected = socket().call(url).await.unwrap();
        assert!(connected.inner().nodelay().unwrap());
    }

    #[tokio::test]
    async fn a_proxy_that_is_not_supported_is_refused_and_not_passed_by() {
        let mut config = Config::new("http://127.0.0.1:1".parse().unwrap());
        config.proxy_url = Some("socks5://127.0.0.1:2".parse().unwrap());
        let refused = client(config).map(drop).unwrap_err().to_string();
        assert!(refused.contains("127.0.0.1:2"), "{refused}");
    }
}
