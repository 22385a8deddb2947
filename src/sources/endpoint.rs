//! Where a source listens: text of a spec, parsed and normalised once.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use reqwest::Url;

/// Longest text that is parsed. Real ones have some tens of characters; 2 KiB is what proxies and browsers agree on.
const MAX_LENGTH: usize = 2_048;

/// The address of a source. Equal addresses are equal endpoints, however they were written.
///
/// Cheap to clone. Holds no credentials: an address stands in status, logs and metrics.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint(Arc<Url>);

/// Why a text is no [`Endpoint`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not the address of a source: {why}")]
pub struct EndpointError {
    text: String,
    why: Why,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Why {
    #[error("it is empty; write host:port, or a URL with http:// or https://")]
    Empty,
    #[error("it is longer than {MAX_LENGTH} characters")]
    TooLong,
    #[error("it holds a space, a control character or a backslash")]
    Characters,
    #[error("only http:// and https:// can be asked")]
    Scheme,
    #[error("it names no host; write host:port, or a URL with http:// or https://")]
    Host,
    #[error("its port is not a number from 1 to 65535")]
    Port,
    #[error("a user or password does not belong in an address")]
    Credentials,
    #[error("the part after # is never sent; leave it out")]
    Fragment,
    #[error("a question mark has no place in the base address of an API")]
    Query,
    #[error("it is not a URL; write host:port, or a URL with http:// or https://")]
    Malformed,
}

impl Endpoint {
    /// The base of an API: `host:port` (plain HTTP), or an `http://` or `https://` URL, with a path if the API is
    /// served below one. A slash at its end makes no difference.
    ///
    /// # Errors
    /// A sentence that names the text and what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let mut url = parse(text)?;
        if url.query().is_some() {
            return Err(error(text, Why::Query));
        }
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(Self(Arc::new(url)))
    }

    /// One page: as [`Endpoint::parse`], but with its path and query exactly as they stand.
    ///
    /// # Errors
    /// A sentence that names the text and what is wrong with it.
    pub fn parse_page(text: &str) -> Result<Self, EndpointError> {
        parse(text).map(|url| Self(Arc::new(url)))
    }

    /// The normalised URL.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Scheme, host and port: what credentials are bound to, and what counts as one server. The port is always there.
    #[must_use]
    pub fn origin(&self) -> String {
        let port = self.0.port_or_known_default().unwrap_or_default();
        format!("{}://{}:{port}", self.0.scheme(), self.0.host_str().unwrap_or_default())
    }

    /// Whether it is asked over TLS.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Host, as it stands in a URL, and port.
    #[must_use]
    pub fn host_and_port(&self) -> (&str, u16) {
        (self.0.host_str().unwrap_or_default(), self.0.port_or_known_default().unwrap_or_default())
    }

    /// Its path, as it is sent.
    #[must_use]
    pub fn path(&self) -> &str {
        self.0.path()
    }

    pub(super) fn url(&self) -> &Url {
        &self.0
    }

    /// The host, if it is an address and not a name.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        let host = self.0.host_str()?;
        host.trim_start_matches('[').trim_end_matches(']').parse().ok()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({})", self.as_str())
    }
}

fn parse(text: &str) -> Result<Url, EndpointError> {
    check_text(text).map_err(|why| error(text, why))?;
    // Not left to the parser of URLs: it takes `prometheus` in `prometheus:9090` for a scheme.
    let url = if text.contains("://") { Url::parse(text) } else { Url::parse(&format!("http://{text}")) };
    let url = url.map_err(|why| error(text, why_not(why)))?;
    check_url(&url).map_err(|why| error(text, why))?;
    Ok(url)
}

fn check_text(text: &str) -> Result<(), Why> {
    // The parser of URLs would drop the control characters, read `\` as `/` and skip leading slashes: a text must
    // mean what a reader sees in it.
    match text {
        "" => Err(Why::Empty),
        _ if text.len() > MAX_LENGTH => Err(Why::TooLong),
        _ if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\') => {
            Err(Why::Characters)
        }
        _ if text.split_once("://").map_or(text, |(_, rest)| rest).starts_with(['/', '?', '#']) => {
            Err(Why::Host)
        }
        _ => Ok(()),
    }
}

fn check_url(url: &Url) -> Result<(), Why> {
    match url {
        _ if !matches!(url.scheme(), "http" | "https") => Err(Why::Scheme),
        _ if !url.username().is_empty() || url.password().is_some() => Err(Why::Credentials),
        _ if url.host_str().is_none_or(str::is_empty) => Err(Why::Host),
        _ if url.port() == Some(0) => Err(Why::Port),
        _ if url.fragment().is_some() => Err(Why::Fragment),
        // Normalised, each sign of another alphabet is several.
        _ if url.as_str().len() > MAX_LENGTH => Err(Why::TooLong),
        _ => Ok(()),
    }
}

// Told apart by its text, as the error's own type is not among what reqwest shows.
fn why_not(error: impl fmt::Display) -> Why {
    match error.to_string() {
        text if text.contains("port") => Why::Port,
        text if text.contains("host") => Why::Host,
        _ => Why::Malformed,
    }
}

fn error(text: &str, why: Why) -> EndpointError {
    const SHOWN: usize = 100;
    let text = match why {
        // It may hold a password, and the message goes into a status.
        Why::Credentials => text.rsplit('@').next().map(|rest| format!("…@{rest}")).unwrap_or_default(),
        _ => text.to_owned(),
    };
    EndpointError { text: text.chars().take(SHOWN).collect(), why }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn url(text: &str) -> String {
        Endpoint::parse(text).map(|e| e.as_str().to_owned()).unwrap_or_else(|e| e.to_string())
    }

    #[test]
    fn host_and_port_mean_plain_http() {
        assert_eq!(url("prometheus.monitoring:9090"), "http://prometheus.monitoring:9090/");
        assert_eq!(url("localhost:9090"), "http://localhost:9090/");
        assert_eq!(url("[::1]:9090"), "http://[::1]:9090/");
        assert_eq!(url("thanos"), "http://thanos/");
    }

    #[test]
    fn one_address_written_in_many_ways_is_one_endpoint() {
        let ways = ["thanos", "http://thanos", "http://THANOS:80", "http://thanos/", "HTTP://thanos//"];
        let all: std::collections::BTreeSet<_> = ways.iter().map(|w| Endpoint::parse(w).unwrap()).collect();
        assert_eq!(all.len(), 1, "{all:?}");
        assert_eq!(url("https://mimir:8443/prometheus/"), "https://mimir:8443/prometheus");
    }

    #[test]
    fn the_origin_always_has_its_port() {
        assert_eq!(Endpoint::parse("https://mimir/prometheus").unwrap().origin(), "https://mimir:443");
        assert_eq!(Endpoint::parse("[fe80::1]").unwrap().origin(), "http://[fe80::1]:80");
    }

    #[test]
    fn a_page_keeps_its_path_and_query() {
        let page = Endpoint::parse_page("judge.shop:8080/bad/pods/?fleet=checkout").unwrap();
        assert_eq!(page.as_str(), "http://judge.shop:8080/bad/pods/?fleet=checkout");
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_reason() {
        let refused = |text: &str, word: &str| {
            let message = Endpoint::parse(text).expect_err(text).to_string();
            assert!(message.contains(word), "{text}: {message}");
        };
        refused("", "empty");
        refused("ftp://prometheus", "only http");
        refused("file:///etc/passwd", "no host");
        refused("http://", "no host");
        refused("///prometheus", "no host");
        refused("prometheus:none", "port");
        refused("prometheus:65536", "port");
        refused("prometheus:0", "port");
        refused("prometheus 9090", "space");
        refused("http:\\\\prometheus", "backslash");
        refused("prometheus:9090?query=up", "question mark");
        refused("prometheus:9090#here", "#");
        refused(&"p".repeat(3_000), "2048");
    }

    #[test]
    fn a_password_is_refused_and_not_repeated() {
        let message = Endpoint::parse("https://admin:hunter2@prometheus").expect_err("refused").to_string();
        assert!(message.contains("password") && !message.contains("hunter2"), "{message}");
    }

    #[test]
    fn an_address_in_disguise_is_seen_as_one() {
        let ip = |text: &str| Endpoint::parse(text).unwrap().ip().map(|ip| ip.to_string());
        assert_eq!(ip("0x7f.1:9090").as_deref(), Some("127.0.0.1"));
        assert_eq!(ip("2852039166").as_deref(), Some("169.254.169.254"));
        assert_eq!(ip("[::ffff:7f00:1]:9090").as_deref(), Some("::ffff:127.0.0.1"));
        assert_eq!(ip("prometheus"), None);
    }

    #[test]
    fn an_address_that_is_too_long_only_once_it_is_normalised_is_refused_too() {
        let text = |signs: usize| format!("prom.test/{}", "é".repeat(signs));
        assert!(Endpoint::parse_page(&text(300)).is_ok() && text(400).len() < MAX_LENGTH);
        assert_eq!(Endpoint::parse_page(&text(400)).unwrap_err().why, Why::TooLong);
    }

    proptest! {
        #[test]
        fn what_is_an_address_reads_back_as_itself_whatever_was_written(
            text in "(https?://)?[a-z0-9.:@%\\[\\]-]{1,20}(:[0-9]{1,6})?(/[a-z?#%.]{0,8})?|\\PC{0,30}",
        ) {
            for read in [Endpoint::parse, Endpoint::parse_page] {
                let Ok(endpoint) = read(&text) else { continue };
                prop_assert_eq!(read(endpoint.as_str()), Ok(endpoint.clone()));
                prop_assert!(!endpoint.host_and_port().0.is_empty() && endpoint.host_and_port().1 > 0);
            }
        }
    }
}
