//! Who may speak to the API server: actors, their tokens, and how each kind of client is told.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::{Value, json};

/// The user whom RBAC does not bind.
pub const ADMIN: &str = "admin";
pub(crate) const CONTROLLER_MANAGER: &str = "system:kube-controller-manager";
pub(crate) const KWOK: &str = "kwok";
/// The authorizer of nodes knows a kubelet by the name of its node.
pub(crate) const KUBELET: &str = "system:node:node-1";
pub(crate) const KUBE_PROXY: &str = "system:kube-proxy";
pub(crate) const SCHEDULER: &str = "system:kube-scheduler";

/// Tokens by user name. The API server reads them from a file at its start, so the set is fixed.
pub(crate) struct Tokens(BTreeMap<String, String>);

impl Tokens {
    /// One random token for each actor, for the three users that always exist and, with `node`, for those of a real node.
    pub(crate) fn generate(actors: &[String], node: bool) -> anyhow::Result<Tokens> {
        let fixed = [ADMIN, CONTROLLER_MANAGER, KWOK].map(str::to_owned);
        let of_node = [KUBELET, KUBE_PROXY, SCHEDULER].map(str::to_owned);
        let of_node = of_node.iter().filter(|_| node);
        let mut tokens = BTreeMap::new();
        for user in fixed.iter().chain(of_node).chain(actors) {
            anyhow::ensure!(
                !user.is_empty() && !user.contains([',', '"', '\n', '/']),
                "the actor name {user:?} does not fit into a token file; use letters, digits, ':' and '-'"
            );
            tokens.insert(user.clone(), random_token()?);
        }
        Ok(Tokens(tokens))
    }

    /// The lines of `--token-auth-file`: token, user, uid, groups. Actors have no group, so RBAC binds them by user, as
    /// its default roles do with the scheduler and kube-proxy.
    pub(crate) fn file(&self) -> String {
        let groups = |user: &str| match user {
            ADMIN | CONTROLLER_MANAGER | KWOK => ",\"system:masters\"",
            KUBELET => ",\"system:nodes\"",
            _ => "",
        };
        self.0.iter().map(|(user, token)| format!("{token},{user},{user}{}\n", groups(user))).collect()
    }
}

fn random_token() -> anyhow::Result<String> {
    let mut bytes = [0_u8; 16];
    SystemRandom::new().fill(&mut bytes).map_err(|_| anyhow::anyhow!("the system gives no random bytes"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// All that a client of any kind needs.
pub(crate) struct Access {
    url: http::Uri,
    ca_file: PathBuf,
    ca: Vec<Vec<u8>>,
    tokens: Tokens,
    http: reqwest::Client,
}

impl Access {
    /// `ca_file` must be there already: the API server writes it at its first start.
    pub(crate) fn new(url: &str, ca_file: PathBuf, tokens: Tokens) -> anyhow::Result<Access> {
        let pem = std::fs::read(&ca_file).with_context(|| format!("cannot read {}", ca_file.display()))?;
        let ca =
            pem::parse_many(&pem).with_context(|| format!("{} holds no certificates", ca_file.display()))?;
        Ok(Access {
            url: url.parse().with_context(|| format!("{url} is not a URL"))?,
            http: http_client(&pem)?,
            ca: ca.into_iter().map(pem::Pem::into_contents).collect(),
            ca_file,
            tokens,
        })
    }

    /// `https://127.0.0.1:PORT`.
    pub(crate) fn url(&self) -> String {
        self.url.to_string().trim_end_matches('/').to_owned()
    }

    pub(crate) fn http(&self) -> &reqwest::Client {
        &self.http
    }

    pub(crate) fn token(&self, actor: &str) -> anyhow::Result<&str> {
        self.tokens.0.get(actor).map(String::as_str).with_context(|| {
            let known: Vec<_> = self.tokens.0.keys().map(String::as_str).collect();
            format!("no actor {actor:?} here (known: {}); name it in Options.actors", known.join(", "))
        })
    }

    /// For kube. An unknown actor gets no token, so the API server answers as to anybody: 401 or 403.
    pub(crate) fn config(&self, actor: &str) -> kube::Config {
        self.config_with_token(self.token(actor).ok())
    }

    pub(crate) fn config_with_token(&self, token: Option<&str>) -> kube::Config {
        let mut config = kube::Config::new(self.url.clone());
        config.root_cert = Some(self.ca.clone());
        config.auth_info = serde_json::from_value(json!({ "token": token })).unwrap_or_default();
        config
    }

    /// The text of a kubeconfig file; `server` stands in for the API server's own URL.
    pub(crate) fn kubeconfig(&self, user: &str, token: &str, server: Option<&str>) -> String {
        let url = server.map_or_else(|| self.url(), str::to_owned);
        let mut cluster = json!({ "server": url });
        if url.starts_with("https:") {
            cluster["certificate-authority"] = json!(self.ca_file);
        }
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": user,
            "clusters": [{ "name": "local", "cluster": cluster }],
            "users": [{ "name": user, "user": { "token": token } }],
            "contexts": [{ "name": user, "context": { "cluster": "local", "user": user, "namespace": "default" } }],
        });
        // JSON is YAML.
        format!("{config:#}\n")
    }

    /// GET as the admin; an `Err` inside says why there is no answer with a 2xx status (yet).
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Result<String, String>> {
        let request = self.http.get(format!("{}{path}", self.url())).bearer_auth(self.token(ADMIN)?);
        Ok(answer(request).await)
    }

    /// POST as the admin.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Result<String, String>> {
        let request =
            self.http.post(format!("{}{path}", self.url())).bearer_auth(self.token(ADMIN)?).json(body);
        Ok(answer(request).await)
    }
}

async fn answer(request: reqwest::RequestBuilder) -> Result<String, String> {
    let response = request.send().await.map_err(|error| format!("{error:?}"))?;
    let status = response.status();
    let text = response.text().await.map_err(|error| format!("{error:?}"))?;
    if status.is_success() { Ok(text) } else { Err(format!("{status}: {text}")) }
}

/// Trusts the API server only, follows no proxy variables, and speaks HTTP/1.1: one connection for each watch, as kube's.
fn http_client(ca_pem: &[u8]) -> anyhow::Result<reqwest::Client> {
    install_crypto();
    let roots =
        reqwest::Certificate::from_pem_bundle(ca_pem).context("the API server's certificate is not PEM")?;
    reqwest::Client::builder()
        .tls_certs_only(roots)
        .no_proxy()
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .context("cannot set up TLS towards the API server")
}

/// Makes ring the crypto provider of this process, if there is none yet.
pub fn install_crypto() {
    // An error means that there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// What stands before the point of a P-256 public key in its DER form (SubjectPublicKeyInfo, RFC 5480).
const P256_HEAD: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// Writes a new key pair (ECDSA P-256, PEM) for ServiceAccount tokens: `NAME.key` signs and `NAME.pub` checks.
pub(crate) fn write_signing_keys(dir: &Path, name: &str) -> anyhow::Result<()> {
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING as ALGORITHM, EcdsaKeyPair, KeyPair};
    let random = SystemRandom::new();
    let failed = |_| anyhow::anyhow!("cannot make a key for ServiceAccount tokens");
    let private = EcdsaKeyPair::generate_pkcs8(&ALGORITHM, &random).map_err(failed)?;
    let pair = EcdsaKeyPair::from_pkcs8(&ALGORITHM, private.as_ref(), &random)
        .map_err(|error| anyhow::anyhow!("cannot read the key for ServiceAccount tokens again: {error}"))?;
    let public = [&P256_HEAD, pair.public_key().as_ref()].concat();
    write_private(
        &dir.join(format!("{name}.key")),
        &pem::encode(&pem::Pem::new("PRIVATE KEY", private.as_ref())),
    )?;
    write_private(&dir.join(format!("{name}.pub")), &pem::encode(&pem::Pem::new("PUBLIC KEY", public)))
}

/// Writes a file that only this user may read. Whole or not at all: programs that are just starting read the very file
/// that another test writes once more.
pub(crate) fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    let write = || -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap_or(Path::new(".")))?;
        file.write_all(text.as_bytes())?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_written_again_is_never_seen_in_part_and_stays_private() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kubeconfig");
        let text = "k".repeat(100_000);
        write_private(&path, &text).unwrap();
        let written = std::thread::scope(|scope| {
            let writer = scope.spawn(|| (0..200).try_for_each(|_| write_private(&path, &text)));
            while !writer.is_finished() {
                assert_eq!(std::fs::read_to_string(&path).unwrap().len(), text.len());
            }
            writer.join().unwrap()
        });
        written.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "something is left beside it");
    }
}
