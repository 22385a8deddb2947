//! What a machine must have before a node can run on it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where the Debian package of the CNI plugins puts them.
pub(super) const CNI_PLUGINS: &str = "/usr/lib/cni";

/// Programs, each with the Debian package that has it.
const PROGRAMS: [(&str, &str); 12] = [
    ("containerd", "containerd"),
    ("containerd-shim-runc-v2", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
    ("iptables", "iptables"),
    ("conntrack", "conntrack"),
    ("ip", "iproute2"),
    ("mount", "mount"),
    ("unshare", "util-linux"),
    ("setpriv", "util-linux"),
    ("ldd", "libc-bin"),
    ("tar", "tar"),
];

/// What this machine lacks for a node, a sentence each; empty where one can run.
#[must_use]
pub fn missing() -> Vec<String> {
    if !cfg!(target_os = "linux") {
        return vec!["A node needs Linux: its pods are Linux containers.".to_owned()];
    }
    if !rustix::process::geteuid().is_root() {
        return vec!["A node needs root, for its network and mount namespaces; run this as root.".to_owned()];
    }
    let mut lacking: Vec<_> = PROGRAMS
        .iter()
        .filter(|(program, _)| find(program).is_none())
        .map(|(program, package)| format!("{program} is not on PATH; install the Debian package {package}."))
        .collect();
    let plugin = |name: &&&str| !Path::new(CNI_PLUGINS).join(name).is_file();
    lacking.extend(["bridge", "host-local", "portmap", "loopback"].iter().filter(plugin).map(|name| {
        format!(
            "The CNI plugin {CNI_PLUGINS}/{name} is missing; install the Debian package \
             containernetworking-plugins."
        )
    }));
    if lacking.is_empty() {
        lacking.extend(refused_namespaces());
    }
    lacking
}

/// Root in a container may not do what root may.
fn refused_namespaces() -> Option<String> {
    let mut tried = Command::new("unshare");
    tried.args([
        "--net",
        "--mount",
        "--pid",
        "--fork",
        "--mount-proc",
        "ip",
        "link",
        "add",
        "type",
        "bridge",
    ]);
    let output = tried.env("PATH", search_path()).stdin(Stdio::null()).output();
    let why = match output {
        Ok(output) if output.status.success() => return None,
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    Some(format!(
        "Root may not make namespaces with a bridge here ({why}); run this on a machine of its own or in a privileged \
         container."
    ))
}

/// PATH, and where Debian keeps the programs of root.
pub(super) fn search_path() -> String {
    format!("{}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin", std::env::var("PATH").unwrap_or_default())
}

pub(super) fn find(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&search_path()).map(|folder| folder.join(program)).find(|path| path.is_file())
}
