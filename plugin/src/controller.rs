//! The controller's own pages, by way of the API server's proxy or at an address of its own.
//!
//! Takes a path; gives what the controller said, or a sentence on why it said nothing. Nothing is written.

use std::time::Duration;

use anyhow::Context;
use kube::client::Body;
use kube::{Client, Config};
use kubervisor::api::{EXPLAINED_VERSION, Explained, NotExplained, Unexplained};
use kubervisor::cluster::client::client;
use serde_json::Value;

use crate::args::ControllerArgs;
use crate::objects::text;
use crate::reach::Cluster;

/// Port of its pages.
pub const PORT: u16 = 8086;
/// It answers within two seconds or not at all; the rest is the way.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// The API server picks any controller behind the Service, and one that waits for the Lease knows nothing: of two, one in
/// four thousand is asked twelve times in vain.
const TRIES: usize = 12;

/// What came of a question.
#[derive(Debug)]
pub enum Heard {
    /// Its answer.
    Told(Value),
    /// It is there, and has none.
    Refused(NotExplained),
    /// It did not answer: why, and what the reader can do.
    Silent(String),
    /// The question did not come to it: whether it is there is another matter.
    Unasked(String),
}

/// Where it is asked.
pub struct Way {
    client: Client,
    /// Before the path of a page.
    prefix: String,
    /// For sentences.
    place: String,
    args: ControllerArgs,
}

impl Way {
    /// To the controller that the flags name.
    ///
    /// # Errors
    /// The address is none.
    pub fn to(cluster: &Cluster, args: &ControllerArgs) -> anyhow::Result<Self> {
        let args = args.clone();
        let (namespace, name) = (&args.controller_namespace, &args.controller_name);
        // A variable that is set to nothing is not set.
        let Some(url) = args.controller_url.as_ref().filter(|url| !url.is_empty()) else {
            let prefix = format!("/api/v1/namespaces/{namespace}/services/{name}:{PORT}/proxy");
            let place = format!("Service {namespace}/{name}");
            return Ok(Self { client: cluster.client.clone(), prefix, place, args });
        };
        let uri = url.parse::<http::Uri>().ok().filter(|uri| uri.scheme().is_some() && uri.host().is_some());
        let uri = uri.with_context(|| {
            format!("--controller-url {url:?} is no address: write it as http://localhost:{PORT}")
        })?;
        let mut config = Config::new(uri);
        config.default_retry = false;
        config.connect_timeout = Some(ANSWER_WITHIN);
        let client = client(config).with_context(|| format!("{url} makes no connection"))?;
        Ok(Self { client, prefix: String::new(), place: url.clone(), args })
    }

    /// Asks, where several controllers are there until it is the one that decides.
    pub async fn ask(&self, path: &str) -> Heard {
        let mut heard = self.ask_once(path).await;
        for _ in 1..TRIES {
            if !matches!(&heard, Heard::Refused(not) if not.reason == Unexplained::Standby) {
                break;
            }
            heard = self.ask_once(path).await;
        }
        match heard {
            Heard::Refused(not) if waits(not.reason) => Heard::Silent(not.error),
            heard => heard,
        }
    }

    async fn ask_once(&self, path: &str) -> Heard {
        let asked = tokio::time::timeout(ANSWER_WITHIN, self.send(path)).await;
        match asked {
            Ok(Ok((status, body))) => self.read(status, &body),
            Ok(Err(error)) => {
                Heard::Silent(format!("nothing answers at {}: {}", self.place, error.root_cause()))
            }
            Err(_) => Heard::Silent(format!("{} gave no answer within {ANSWER_WITHIN:?}", self.place)),
        }
    }

    /// A page as it is; `None` where it is not to be had.
    pub async fn page(&self, path: &str) -> Option<String> {
        let (status, body) = tokio::time::timeout(ANSWER_WITHIN, self.send(path)).await.ok()?.ok()?;
        if status == 200 { String::from_utf8(body).ok() } else { None }
    }

    /// Where it is asked, for sentences.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    async fn send(&self, path: &str) -> anyhow::Result<(u16, Vec<u8>)> {
        let request = http::Request::get(format!("{}{path}", self.prefix)).body(Body::empty())?;
        let response = self.client.send(request).await?;
        let status = response.status().as_u16();
        Ok((status, response.into_body().collect_bytes().await?.to_vec()))
    }

    fn read(&self, status: u16, body: &[u8]) -> Heard {
        let value: Value = serde_json::from_slice(body).unwrap_or_default();
        if value["kind"] == "Status" {
            let why = self.unreached(status, text(&value, "/message"));
            return if status == 503 { Heard::Silent(why) } else { Heard::Unasked(why) };
        }
        if status == 200 && value.is_object() {
            return Heard::Told(value);
        }
        match serde_json::from_value::<NotExplained>(value) {
            Ok(not) => Heard::Refused(not),
            Err(_) => Heard::Silent(format!(
                "{} answered {status} and no explanation: is it this controller, and of this version?",
                self.place
            )),
        }
    }

    /// The API server's own refusal to pass a question on.
    fn unreached(&self, status: u16, message: &str) -> String {
        let ControllerArgs { controller_namespace: namespace, controller_name: name, .. } = &self.args;
        match status {
            403 => format!(
                "you lack the right to get services/proxy \"{name}:{PORT}\" in namespace {namespace:?}: ask whoever grants \
                 roles there, or take `kubectl port-forward` and --controller-url"
            ),
            404 => format!(
                "there is no Service {name:?} in namespace {namespace:?}: say where the controller is with \
                 --controller-namespace and --controller-name, or --controller-url"
            ),
            503 => format!("no controller is ready behind {} ({message})", self.place),
            _ => format!(
                "the API server does not pass the question on to {} ({status}: {message})",
                self.place
            ),
        }
    }
}

/// An answer as this program knows it.
///
/// # Errors
/// It is of a newer form, or none.
pub fn explained(answer: Value) -> anyhow::Result<Explained> {
    let explained: Explained =
        serde_json::from_value(answer).context("the controller's answer cannot be read")?;
    anyhow::ensure!(
        explained.version <= EXPLAINED_VERSION,
        "the controller is newer than this program, which cannot read its answer: update it, or take explain -o json"
    );
    Ok(explained)
}

/// It may answer later, or another one may.
fn waits(reason: Unexplained) -> bool {
    match reason {
        Unexplained::Standby | Unexplained::NotReady | Unexplained::Busy => true,
        Unexplained::BadName
        | Unexplained::UnknownService
        | Unexplained::UnknownPod
        | Unexplained::NotEvaluated => false,
    }
}
