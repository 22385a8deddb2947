//! A control plane: etcd, the API server, the controller manager and, on wish, kwok as the kubelet.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::Context;
use serde_json::json;

use crate::access::{ADMIN, Access, CONTROLLER_MANAGER, KWOK, Tokens, install_crypto, write_private, write_signing_key};
use crate::audit::{Audit, POLICY};
use crate::components::{self, KWOK_NODE, KWOK_STAGES};
use crate::data_dir::DataDir;
use crate::ports::Port;
use crate::process::{Process, Spec};
use crate::tools::{self, Tool};
use crate::{reaper, runtime, wait};

/// Usually a start takes 4 s; a machine that builds at the same time takes ten times as long.
const START_LIMIT: Duration = Duration::from_secs(120);

/// What a cluster should have.
#[derive(Clone, Debug)]
pub struct Options {
    /// Let kwok play the kubelet of one node, [`KWOK_NODE`]: pods bound to it get an address and become Ready. There is
    /// no scheduler, so a pod template has to say `nodeName: kwok-node-0`. Without kwok nothing happens to a pod that
    /// the test does not do itself (bind it with any `nodeName`, patch its status), and a bound pod goes only when it
    /// is deleted with a grace period of 0.
    pub kwok: bool,
    /// Users besides `admin`, each with a token of its own and no rights until RBAC gives some to the *User* of that
    /// name.
    pub actors: Vec<String>,
    /// Where everything is written. `None`: a temporary folder that goes with the cluster. A folder given here must be
    /// empty or absent, and is kept.
    pub data_dir: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Options {
        let actors = ["controller", "observer", "human", "load"].map(str::to_owned).to_vec();
        Options { kwok: false, actors, data_dir: None }
    }
}

/// A running control plane on 127.0.0.1. Dropping it kills its processes and removes its folder; so does the end of this
/// process, however it ends.
pub struct Cluster {
    // Dropped in this order: processes before the folder that they write to.
    running: Mutex<Running>,
    access: Arc<Access>,
    kubectl: PathBuf,
    ports: Ports,
    tools: Programs,
    dir: DataDir,
}

/// From the one that depends to the one depended on, for they are dropped in this order.
#[derive(Default)]
struct Running {
    kwok: Option<Process>,
    controller_manager: Option<Process>,
    apiserver: Option<Process>,
    etcd: Option<Process>,
}

struct Ports {
    etcd_client: Port,
    etcd_peer: Port,
    apiserver: Port,
}

struct Programs {
    etcd: PathBuf,
    apiserver: PathBuf,
    controller_manager: PathBuf,
    kubectl: PathBuf,
    kwok: Option<PathBuf>,
}
