//! Everything that the play needs, brought up in order: the shop, Prometheus, the controller, its policy.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use incidents::Seed;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::DynamicObject;
use kube::runtime::conditions::is_crd_established;
use kube::runtime::wait::Condition;
use localcluster::{Prometheus, PrometheusOptions, ScrapeTarget};

use crate::controller::{Controller, Orders};
use crate::desk::Desk;
use crate::neighbours::Neighbours;
use crate::shop::{CONTROLLER, NAMESPACE, SERVICE, Shop, apply};
use crate::sights::kubervisor_services;

const POLICY: &str = include_str!("../manifests/policy.yaml");
/// The kind that the controller registers when it starts.
const CRD: &str = "kubervisorservices.kubervisor.k8s.io";
/// The controller needs a second or two for each step.
const STEP_LIMIT: Duration = Duration::from_secs(60);

/// The shipped binaries.
#[derive(Clone, Debug)]
pub struct Programs {
    /// `kubervisor`
    pub controller: PathBuf,
    /// `kubectl-kubervisor`
    pub plugin: PathBuf,
}

/// The stage, set. Dropping it pulls everything down, the controller first.
pub struct Stage {
    /// The shipped binary.
    pub controller: Controller,
    /// Where a person asks the plugin.
    pub desk: Desk,
    /// Scrapes the shop once a second.
    pub prometheus: Prometheus,
    _neighbours: Neighbours,
    /// The cluster, the pods and their clients.
    pub shop: Shop,
}

impl Stage {
    /// Sets the stage; the controller then governs ten healthy pods without traffic.
    ///
    /// # Errors
    /// When a part does not start, with the end of its log.
    pub async fn set(programs: &Programs, seed: Seed, say: impl Fn(&str)) -> anyhow::Result<Self> {
        let shop = Shop::open(seed, &say).await?;
        let neighbours = Neighbours::move_in(&shop.cluster).await?;
        let targets = vec![
            ScrapeTarget::new(SERVICE, shop.metrics.clone()),
            ScrapeTarget::new("neighbours", neighbours.metrics()),
        ];
        let prometheus =
            Prometheus::start(PrometheusOptions { targets, ..PrometheusOptions::default() }).await?;
        say("Prometheus scrapes the pods once a second");
        let kubeconfig = shop.cluster.kubeconfig(CONTROLLER, None)?;
        let log = log_file()?;
        let url = prometheus.url();
        let orders = Orders {
            program: &programs.controller,
            kubeconfig: &kubeconfig,
            prometheus_url: &url,
            log: &log,
        };
        let mut controller = Controller::start(&orders)?;
        say(&format!("controller started, it logs to {}", log.display()));
        await_crd(&shop, &mut controller).await?;
        apply(&shop.cluster, POLICY).await?;
        neighbours.are_governed(&shop.cluster).await?;
        await_running(&shop, &mut controller).await?;
        say("the KubervisorService is Running");
        let desk = Desk::new(&shop, &controller, &programs.plugin)?;
        Ok(Self { controller, desk, prometheus, _neighbours: neighbours, shop })
    }

    /// What a person can do while everything is kept.
    pub fn look_around(&self) -> String {
        let Self { controller, desk, prometheus, _neighbours: _, shop } = self;
        format!(
            "Everything is kept until Ctrl-C. To look around:\n\
             \x20 {}\n\
             \x20 kubectl kubervisor watch -A\n\
             \x20 kubectl kubervisor explain POD -n {NAMESPACE}\n\
             \x20 kubectl kubervisor dry-run cart -n front --off   # and it cuts a slow pod\n\
             \x20 kubectl -n {NAMESPACE} get pods -L kubervisor/traffic,kubervisor/strategy\n\
             \x20 kubectl -n {NAMESPACE} get kubervisorservices,deployments,endpointslices\n\
             \x20 kubectl -n {NAMESPACE} get events.events.k8s.io --sort-by=.metadata.creationTimestamp\n\
             \x20 kubectl -n {NAMESPACE} label pod POD kubervisor/traffic=no --overwrite\n\
             \x20 curl {}/metrics          # the controller\n\
             \x20 curl http://{}/metrics   # the pods\n\
             \x20 Prometheus: {}\n\
             \x20 the controller's log: {}",
            desk.exports().replace('\n', "\n  "),
            controller.url(),
            shop.metrics,
            prometheus.url(),
            controller.log().display(),
        )
    }
}

/// Beside the program, so that it is there when the cluster's folder is gone.
fn log_file() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    Ok(program.with_file_name("demo-controller.log"))
}

async fn await_crd(shop: &Shop, controller: &mut Controller) -> anyhow::Result<()> {
    let crds = Api::<CustomResourceDefinition>::all(shop.client.clone());
    localcluster::until("the registration of KubervisorService", STEP_LIMIT, || {
        let alive = controller.ensure_running();
        let crds = &crds;
        async move {
            alive?;
            let crd = crds.get_opt(CRD).await?;
            let established = is_crd_established().matches_object(crd.as_ref());
            Ok(if established { Ok(()) } else { Err(format!("{CRD} is not established")) })
        }
    })
    .await
    .map_err(|error| controller.explain(&error))
}

async fn await_running(shop: &Shop, controller: &mut Controller) -> anyhow::Result<()> {
    let services =
        Api::<DynamicObject>::namespaced_with(shop.client.clone(), NAMESPACE, &kubervisor_services());
    localcluster::until("state Running of the KubervisorService", STEP_LIMIT, || {
        let alive = controller.ensure_running();
        let services = &services;
        async move {
            alive?;
            let service = services.get(SERVICE).await?;
            let status = &service.data["status"];
            Ok(if status["state"] == "Running" { Ok(()) } else { Err(format!("its status: {status}")) })
        }
    })
    .await
    .map_err(|error| controller.explain(&error))
}
