//! How the process starts and ends.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use http::Method;
use localcluster::{Fault, ProcessSignal, Rule};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Controller, FakeSource, SOON, Shop, custom_breaker, eventually};

/// Writes under way have this long; the rest is the machine's.
const GOODBYE: Duration = Duration::from_secs(7);

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_it_in_time_with_success_whatever_is_under_way() {
    let shop = Shop::open("term", 0).await;
    shop.bare_pods(3).await;
    let (source, proxy) = (FakeSource::start(&shop.namespace).await, shop.proxy().await);
    let mut controller = Controller::ready(&shop.controller_at(Some(&proxy.url()))).await;
    let hangs = proxy.inject(Rule::new(Fault::Hang).method(Method::PATCH).path("/pods/"));
    source.name_bad(["pear-0"]);
    shop.govern(json!({"breakers": [custom_breaker("named", &source)]})).await;
    eventually("a write hangs", SOON, || async { proxy.hits(hangs) > 0 }).await;
    // Somebody who connects and asks nothing, as a load balancer's probe does, and somebody who never ends his question.
    let address = controller.url.trim_start_matches("http://");
    let _idle = TcpStream::connect(address).await.unwrap();
    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(b"GET /metrics HTTP/1.1\r\nHost: ").await.unwrap();
    let start = Instant::now();
    controller.signal(ProcessSignal::End);
    assert!(controller.ended().await, "{}", controller.log());
    assert!(start.elapsed() < GOODBYE, "it took {:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_an_error_that_names_it_and_the_flag() {
    let shop = Shop::open("port", 0).await;
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let output = Command::new(Path::new(env!("CARGO_BIN_EXE_kubervisor")))
        .args(["run", &format!("--http-addr={address}")])
        .env("KUBECONFIG", shop.controller().kubeconfig)
        .output()
        .unwrap();
    assert!(!output.status.success());
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains(&format!("cannot listen on {address}")) && told.contains("--http-addr"), "{told}");
}

/// Runs the program with these variables and no cluster; gives what it says at its end, which is never a success.
fn says(words: &[&str], env: &[(&str, &str)]) -> String {
    let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_kubervisor")));
    command.args(words).env("KUBECONFIG", "/nowhere/kubeconfig").env_remove("KUBERVISOR_NAMESPACE");
    let output = command.envs(env.iter().copied()).output().unwrap();
    assert!(!output.status.success(), "{words:?} {env:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// An unset variable of a template must not widen the scope to the whole cluster.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_namespace_is_refused_wherever_it_is_given() {
    for said in [
        says(&["run"], &[("KUBERVISOR_NAMESPACE", "")]),
        says(&["run"], &[("KUBERVISOR_NAMESPACE", "meadow,")]),
        says(&["run", "--namespace="], &[]),
        says(&["release", "-n", ""], &[]),
        says(&["release", "-n", "meadow,"], &[]),
    ] {
        assert!(said.contains("is no namespace") && said.contains("leave the setting out"), "{said}");
    }
    let said = says(&["run"], &[("KUBERVISOR_NAMESPACE", "meadow")]);
    assert!(said.contains("no cluster is configured"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_in_the_environment_may_be_a_digit_or_a_word() {
    for value in ["1", "0", "true", "false"] {
        let own = ["DRY_RUN", "REGISTER_CRDS", "ALLOW_LOOPBACK_SOURCES"];
        let of_prometheus = ["ENFORCE_NAMESPACE", "PROMETHEUS_INSECURE_SKIP_VERIFY"];
        for variable in own.iter().chain(&of_prometheus).map(|name| format!("KUBERVISOR_{name}")) {
            let url = ("KUBERVISOR_PROMETHEUS_URL", "https://prometheus.invalid");
            let said = says(&["run"], &[(&variable, value), url]);
            assert!(said.contains("no cluster is configured"), "{variable}={value}: {said}");
        }
    }
    let said = says(&["run"], &[("KUBERVISOR_DRY_RUN", "perhaps")]);
    assert!(said.contains("--dry-run"), "{said}");
}
