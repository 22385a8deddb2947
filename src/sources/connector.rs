//! Whom a client may reach, and how: made here for every source, with and without a login.

use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use reqwest::{Client, ClientBuilder, redirect};

use super::SourceOptions;
use super::address::{AsNamed, Guard};

/// Makes clients that follow no redirect, ask no proxy and connect to no address that may not be asked.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    pub(super) guard: Guard,
    idle: usize,
    /// One client for all who need nothing special.
    plain: Client,
}

impl Connector {
    pub(super) fn new(options: &SourceOptions) -> Result<Self, reqwest::Error> {
        let guard = Guard::new(options.allow_loopback, &options.refused_addresses);
        let idle = options.max_in_flight_per_endpoint;
        let plain = builder(idle).dns_resolver(guard.clone()).build().or_else(|error| {
            // An image without CA certificates: plain HTTP must work all the same.
            tracing::warn!(%error, "no certificate authorities found: sources can only be asked over plain http");
            builder(idle).dns_resolver(guard.clone()).tls_certs_only([]).build()
        })?;
        Ok(Self { guard, idle, plain })
    }

    pub(super) fn plain(&self) -> &Client {
        &self.plain
    }

    /// For a client of its own. With `host`, every name is found there.
    pub(super) fn builder(&self, host: Option<&str>) -> ClientBuilder {
        match host {
            None => builder(self.idle).dns_resolver(self.guard.clone()),
            Some(host) => {
                let host = host.trim_matches(['[', ']']).to_owned();
                // HTTP/2 has no Host header beside the name that it connects by.
                builder(self.idle).dns_resolver(AsNamed { guard: self.guard.clone(), host }).http1_only()
            }
        }
    }
}

fn builder(idle: usize) -> ClientBuilder {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    Client::builder()
        .user_agent(concat!("kubervisor/", env!("CARGO_PKG_VERSION")))
        .default_headers(headers)
        .redirect(redirect::Policy::none())
        // A proxy would resolve names itself, out of the guard's sight.
        .no_proxy()
        .no_gzip()
        .no_brotli()
        .no_zstd()
        .no_deflate()
        .pool_max_idle_per_host(idle)
}
