//! The controller's own credentials, from its flags: for its own Prometheus and no other server.

use std::sync::Arc;

use anyhow::{anyhow, bail};

use crate::api::{Defaults, header_fault};
use crate::args::{PrometheusArgs, RunArgs};
use crate::sources::{Access, Endpoint, Login, Piece, Tls};

/// What specs may leave open.
///
/// # Errors
/// A flag that cannot be used, by its name.
pub fn defaults(args: &RunArgs) -> anyhow::Result<Defaults> {
    let url = args.prometheus_url.as_deref();
    let prometheus = url.map(Endpoint::parse).transpose().map_err(|e| anyhow!("--prometheus-url: {e}"))?;
    let access =
        prometheus.as_ref().map(|endpoint| access(&args.prometheus, endpoint)).transpose()?.flatten();
    Ok(Defaults { prometheus, access, enforce_namespace: args.enforce_namespace })
}

fn access(args: &PrometheusArgs, endpoint: &Endpoint) -> anyhow::Result<Option<Arc<Access>>> {
    let file = |path: &Option<String>, flag| path.as_deref().map(|path| Piece::File(Arc::from(path), flag));
    let certificate = file(&args.prometheus_cert_file, "--prometheus-cert-file");
    let tls = Tls {
        ca: file(&args.prometheus_ca_file, "--prometheus-ca-file"),
        certificate: certificate.zip(file(&args.prometheus_key_file, "--prometheus-key-file")),
        server_name: args.prometheus_server_name.as_deref().map(Arc::from),
        insecure: args.prometheus_insecure_skip_verify,
    };
    if tls != Tls::default() && !endpoint.is_https() {
        bail!(
            "--prometheus-url: {endpoint} is not https, but flags for TLS are given; write it as an https:// URL"
        );
    }
    let token = file(&args.prometheus_bearer_token_file, "--prometheus-bearer-token-file").map(Login::Bearer);
    let basic = file(&args.prometheus_basic_auth_file, "--prometheus-basic-auth-file").map(Login::BasicLine);
    let headers =
        args.prometheus_headers.iter().map(|text| header(text)).collect::<anyhow::Result<Vec<_>>>()?;
    let access = Access { tls, login: token.or(basic), headers, origin: None };
    let any = access != Access::default();
    Ok(any.then(|| Arc::new(Access { origin: Some(Arc::from(endpoint.origin())), ..access })))
}

fn header(text: &str) -> anyhow::Result<(Arc<str>, Arc<str>)> {
    let (name, value) =
        text.split_once('=').ok_or_else(|| anyhow!("--prometheus-header: write NAME=VALUE"))?;
    let name = name.trim().to_ascii_lowercase();
    match header_fault(&name, value) {
        Some(why) => bail!("--prometheus-header: {name} {why}"),
        None => Ok((Arc::from(name), Arc::from(value))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser;

    fn read(flags: &[&str]) -> Result<Defaults, String> {
        let words = ["kubervisor", "run"].iter().chain(flags);
        let cli = Cli::try_parse_from(words).map_err(|e| e.to_string())?;
        let Command::Run(args) = cli.command else { panic!("{flags:?}") };
        defaults(&args).map_err(|e| e.to_string())
    }

    const URL: &str = "--prometheus-url=https://own.test/prometheus";

    #[test]
    fn credentials_are_bound_to_the_origin_of_the_url_beside_them() {
        let flags = [URL, "--prometheus-bearer-token-file=/token", "--prometheus-header=X-Scope-OrgID=a=b"];
        let access = read(&flags).unwrap().access.unwrap();
        assert_eq!(access.origin.as_deref(), Some("https://own.test:443"));
        assert_eq!(
            access.login,
            Some(Login::Bearer(Piece::File("/token".into(), "--prometheus-bearer-token-file")))
        );
        assert_eq!(access.headers, [("x-scope-orgid".into(), "a=b".into())]);
        assert_eq!(read(&[URL]).unwrap().access, None);
    }

    #[test]
    fn flags_that_cannot_be_used_are_refused_by_name() {
        for (flags, why) in [
            (&["--prometheus-ca-file=/ca"][..], "--prometheus-url"),
            (&["--enforce-namespace"], "--prometheus-url"),
            (&[URL, "--prometheus-cert-file=/crt"], "--prometheus-key-file"),
            (
                &[URL, "--prometheus-bearer-token-file=/a", "--prometheus-basic-auth-file=/b"],
                "cannot be used with",
            ),
            (&[URL, "--prometheus-header=nothing"], "--prometheus-header: write NAME=VALUE"),
            (&[URL, "--prometheus-header=Authorization=x"], "--prometheus-header: authorization belongs"),
            (&["--prometheus-url=own.test", "--prometheus-insecure-skip-verify"], "is not https"),
        ] {
            let told = read(flags).unwrap_err();
            assert!(told.contains(why), "{why} is not in {told}");
        }
    }
}
