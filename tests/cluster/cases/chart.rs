//! The chart, installed by helm, and the shipped binary as its ServiceAccount with nothing else.

use std::collections::BTreeSet;

use http::Method;
use localcluster::{Fault, Rule};

use super::rights::every_act;
use crate::harness::chart::{Chart, Right};
use crate::harness::trace::Step;
use crate::harness::{Controller, SOON, Shop, eventually, troubled};

#[tokio::test(flavor = "multi_thread")]
async fn installed_for_one_namespace_it_uses_every_right_that_it_asks_for_there_and_no_other() {
    let shop = Shop::open("chart", 9).await;
    let scope = format!("scope.namespaces={{{}}}", shop.namespace);
    uses_every_right(&shop, &[&scope, "crds.install=false"]).await;
}

/// In a cluster of its own: it looks after every namespace.
#[tokio::test(flavor = "multi_thread")]
async fn installed_for_the_cluster_it_uses_every_right_that_it_asks_for_and_no_other() {
    let troubled = troubled().await;
    let shop = Shop::open_in(troubled.cluster, "chart", 9).await;
    uses_every_right(&shop, &[]).await;
}

async fn uses_every_right(shop: &Shop, values: &[&str]) {
    let chart = Chart::install(shop, values);
    let proxy = shop.proxy().await;
    // What a run in which all goes well has no use for: lists where the server does not stream them, and reads of what
    // became of a write whose answer never came.
    proxy.inject(Rule::new(Fault::Status(422)).query("sendInitialEvents=true"));
    let patch = |fault, path| Rule::new(fault).method(Method::PATCH).path(path);
    proxy.inject(patch(Fault::LoseAnswer, "/status").times(1));
    let controller = Controller::ready(&chart.controller(Some(&proxy.url())).await).await;
    let lost = async {
        // How a label fared is not asked.
        let labelled = async || shop.pod_writes_by(&chart.user).await.iter().any(|w| w.step == Step::Label);
        eventually("a pod is labelled", SOON, labelled).await;
        // More than one: another event of the pod may settle it before the server is asked.
        proxy.inject(patch(Fault::Drop, "/pods/").times(3));
    };
    tokio::join!(every_act(shop, &chart.user), lost);
    drop(controller);
    let (used, granted) = (chart.used().await, chart.granted());
    let sorted = |rights: &BTreeSet<Right>, others: &BTreeSet<Right>| -> Vec<Right> {
        rights.difference(others).cloned().collect()
    };
    let (without_need, in_vain) = (sorted(&granted, &used), sorted(&used, &granted));
    println!(
        "{} rights; granted and not used: {without_need:?}; used and not granted: {in_vain:?}",
        granted.len()
    );
    assert_eq!((without_need, in_vain), (Vec::new(), Vec::new()));
    chart.uninstall();
}
