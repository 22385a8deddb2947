//! What a machine must have before a node can run on it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where the Debian package of the CNI plugins puts them.
pub(super) const CNI_PLUGINS: &str = "/usr/lib/cni";

const CONTROL_GROUPS: &str = "/sys/fs/cgroup";

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
        lacking.extend(refused_namespaces().or_else(|| refused_control_groups(Path::new(CONTROL_GROUPS))));
    }
    lacking
}

/// A container sees control groups that it may not write, or those of its own only, which pods cannot be put below: in
/// version 2 a group with processes has no controllers for those below it, the machine's own first one aside.
fn refused_control_groups(root: &Path) -> Option<String> {
    let hierarchies = hierarchies(root);
    let refused = |path: &&PathBuf| rustix::fs::access(*path, rustix::fs::Access::WRITE_OK).is_err();
    let closed = hierarchies.iter().find(refused).map(PathBuf::as_path);
    if let Some(path) = closed.or(hierarchies.is_empty().then_some(root)) {
        return Some(format!(
            "Control groups cannot be made in {}, where those of pods are to be; run this on a machine of its own or in a \
             privileged container.",
            path.display()
        ));
    }
    // Only groups below the first one have a type.
    let has_processes = std::fs::read_to_string(root.join("cgroup.procs")).is_ok_and(|all| !all.is_empty());
    (root.join("cgroup.type").exists() && has_processes).then(|| {
        format!(
            "{} is not the first control group of the machine and has processes of its own, so that pods cannot be put \
             below it; run this on a machine of its own or in a container that sees the machine's (docker run \
             --cgroupns=host).",
            root.display()
        )
    })
}

/// The first group of each: there is only one hierarchy in version 2, and a folder each in version 1.
fn hierarchies(root: &Path) -> Vec<PathBuf> {
    let first = |path: &PathBuf| path.join("cgroup.procs").exists();
    let folders = std::fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    if first(&root.to_owned()) { vec![root.to_owned()] } else { folders.filter(first).collect() }
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
    beside_roots(&std::env::var("PATH").unwrap_or_default())
}

/// Without an empty entry, which would be the folder that one is in: a program there is not to be run as root.
fn beside_roots(path: &str) -> String {
    let all = path.split(':').chain(["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"]);
    all.filter(|folder| !folder.is_empty()).collect::<Vec<_>>().join(":")
}

pub(super) fn find(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&search_path()).map(|folder| folder.join(program)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_program_is_looked_for_in_the_folder_that_one_is_in() {
        let roots = "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin";
        assert_eq!(beside_roots(""), roots);
        assert_eq!(beside_roots(":/opt::/srv:"), format!("/opt:/srv:{roots}"));
    }

    #[test]
    fn control_groups_of_a_container_are_refused_with_the_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let write = |name: &str, text: &str| std::fs::write(root.join(name), text).unwrap();
        let said = refused_control_groups(root).unwrap();
        assert!(said.contains("cannot be made in"), "there are none: {said}");
        std::fs::create_dir(root.join("memory")).unwrap();
        write("memory/cgroup.procs", "1\n");
        assert_eq!(refused_control_groups(root), None, "version 1");
        write("cgroup.procs", "1\n");
        assert_eq!(refused_control_groups(root), None, "the machine's own");
        write("cgroup.type", "domain\n");
        let said = refused_control_groups(root).unwrap();
        assert!(said.contains("--cgroupns=host"), "{said}");
        write("cgroup.procs", "");
        assert_eq!(refused_control_groups(root), None, "somebody has made room");
    }
}
