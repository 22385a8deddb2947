//! What a caller may wish of a cluster.

use std::net::IpAddr;
use std::path::PathBuf;

/// What a cluster should have.
#[derive(Clone, Debug)]
pub struct Options {
    /// Let kwok play the kubelet of the node [`KWOK_NODE`](crate::KWOK_NODE): pods bound to it get an address and become
    /// Ready, and go when they are deleted or evicted. There is no scheduler, so a pod template has to say
    /// `nodeName: kwok-node-0`; with the annotation `localcluster/ready: "false"` a pod runs without becoming Ready.
    ///
    /// On [`NODE`](crate::NODE), which is always there, nothing happens to a pod that the test does not do itself: it
    /// patches the status, and a bound pod goes only when it is deleted with a grace period of 0.
    pub kwok: bool,
    /// Users besides `admin`, each with a token of its own and no rights until RBAC binds the *User* of that name.
    pub actors: Vec<String>,
    /// Where everything is written. `None`: a temporary folder that goes with the cluster. A folder given here must be
    /// empty or absent, and is kept.
    pub data_dir: Option<PathBuf>,
    /// Serve at this address of this machine, and publish it as the Service `default/kubernetes`, for the pods of a
    /// real node ([`node`](crate::node)); there is no [`NODE`](crate::NODE) then, and nodes have to beat. `None`: on
    /// loopback only.
    pub address: Option<IpAddr>,
}

impl Default for Options {
    fn default() -> Options {
        let actors = ["controller", "observer", "human", "load"].map(str::to_owned).to_vec();
        Options { kwok: false, actors, data_dir: None, address: None }
    }
}
