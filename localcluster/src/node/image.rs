//! Images without a registry and without a builder: an archive with one layer, as `docker save` writes it.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use ring::digest::{Context as Digest, SHA256};
use serde_json::json;

/// Nobody's number, and not root's.
const USER: &str = "65532:65532";

const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// An image to be.
#[derive(Clone, Debug)]
pub struct Image {
    /// With a tag, such as `kubervisor:e2e`. Not `latest`: kubelet would ask a registry for it.
    pub name: String,
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// Here, and there.
    pub files: Vec<(PathBuf, PathBuf)>,
    /// `UID:GID`.
    pub user: String,
}

impl Image {
    /// A program at `/NAME`, with the shared libraries that it asks for and the certificates of this machine, run as 65532.
    ///
    /// # Errors
    /// When the program is not there, or a library of it is not.
    pub fn of_program(name: &str, binary: &Path) -> anyhow::Result<Image> {
        let binary =
            binary.canonicalize().with_context(|| format!("there is no program {}", binary.display()))?;
        let there = Path::new("/").join(binary.file_name().context("a program without a name")?);
        let mut files: Vec<_> = libraries(&binary)?.into_iter().map(|path| (path.clone(), path)).collect();
        if Path::new(CERTIFICATES).is_file() {
            files.push((CERTIFICATES.into(), CERTIFICATES.into()));
        }
        let entrypoint = vec![there.display().to_string()];
        files.push((binary, there));
        Ok(Image { name: name.to_owned(), entrypoint, files, user: USER.to_owned() })
    }

    /// Writes the archive, for [`Node::import`](super::Node::import), `docker load` or `podman load`.
    ///
    /// # Errors
    /// When the name has no tag, a file cannot be read, or the archive cannot be written.
    pub fn write(&self, to: &Path) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.name.rsplit('/').next().is_some_and(|last| last.contains(':')),
            "the image {} has no tag; name it {}:TAG",
            self.name,
            self.name
        );
        let folder = tempfile::tempdir().context("cannot create a folder for an image")?;
        let (root, archive) = (folder.path().join("root"), folder.path().join("archive"));
        std::fs::create_dir_all(&archive).context("cannot create a folder for an image")?;
        self.lay_out(&root).with_context(|| format!("cannot lay out the image {}", self.name))?;
        let layer = archive.join("layer.tar");
        tar(&root, &layer)?;
        self.describe(&archive, &sha256(&layer)?)?;
        tar(&archive, to)
    }

    fn lay_out(&self, root: &Path) -> anyhow::Result<()> {
        for folder in ["etc", "tmp"] {
            std::fs::create_dir_all(root.join(folder))?;
        }
        std::fs::set_permissions(root.join("tmp"), PermissionsExt::from_mode(0o1777))?;
        let users = "root:x:0:0::/:/sbin/nologin\nnonroot:x:65532:65532::/:/sbin/nologin\n";
        std::fs::write(root.join("etc/passwd"), users)?;
        std::fs::write(root.join("etc/group"), "root:x:0:\nnonroot:x:65532:\n")?;
        for (here, there) in &self.files {
            let to = root.join(there.strip_prefix("/").unwrap_or(there));
            std::fs::create_dir_all(to.parent().unwrap_or(root))?;
            std::fs::copy(here, &to).with_context(|| format!("cannot copy {}", here.display()))?;
        }
        Ok(())
    }

    fn describe(&self, archive: &Path, layer: &str) -> anyhow::Result<()> {
        let config = json!({
            "architecture": architecture(), "os": "linux", "created": "1970-01-01T00:00:00Z",
            "config": { "Entrypoint": self.entrypoint, "User": self.user, "WorkingDir": "/",
                "Env": ["PATH=/usr/local/bin:/usr/bin:/bin"] },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer}")] },
        });
        let manifest = json!([{ "Config": "config.json", "RepoTags": [self.name], "Layers": ["layer.tar"] }]);
        for (name, content) in [("config.json", config), ("manifest.json", manifest)] {
            std::fs::write(archive.join(name), content.to_string())
                .with_context(|| format!("cannot write {name} of the image {}", self.name))?;
        }
        Ok(())
    }
}

/// What `ldd` names, the loader too; nothing for a static program.
fn libraries(binary: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(binary).env("LC_ALL", "C").output();
    let output = output.context("cannot run ldd (Debian package libc-bin)")?;
    if String::from_utf8_lossy(&output.stderr).contains("not a dynamic executable") {
        return Ok(Vec::new());
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    anyhow::ensure!(
        output.status.success() && !text.contains("not found"),
        "{} lacks a library here: {text}",
        binary.display()
    );
    Ok(listed(&text))
}

/// `libc.so.6 => /lib/libc.so.6 (0x…)`, `/lib64/ld-linux-x86-64.so.2 (0x…)`; without a path it is the kernel's own.
fn listed(text: &str) -> Vec<PathBuf> {
    let path = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from);
    text.lines().filter_map(path).collect()
}

/// Of everything in a folder; the same bytes for the same content.
fn tar(folder: &Path, to: &Path) -> anyhow::Result<()> {
    let mut command = Command::new("tar");
    command.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@0"]);
    // Whatever umask we and who built the program had: nobody's number has to read all of it.
    command.args(["--mode=a+rX", "-cf"]);
    let output = command.arg(to).arg("-C").arg(folder).arg(".").output();
    let output = output.context("cannot run tar (the one of GNU, Debian package tar)")?;
    anyhow::ensure!(
        output.status.success(),
        "cannot write {}: {}",
        to.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn sha256(path: &Path) -> anyhow::Result<String> {
    let read = || -> std::io::Result<String> {
        let (mut file, mut digest, mut part) = (File::open(path)?, Digest::new(&SHA256), vec![0; 1 << 20]);
        loop {
            match file.read(&mut part)? {
                0 => break,
                n => digest.update(&part[..n]),
            }
        }
        Ok(digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
    };
    read().with_context(|| format!("cannot read {}", path.display()))
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_as_ldd_prints_them() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let wanted = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(listed(text), wanted.map(PathBuf::from));
    }

    #[test]
    fn nobody_may_read_and_run_what_only_its_owner_may_here() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("plum");
        std::fs::write(&program, "").unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o700)).unwrap();
        let (root, archive) = (folder.path().join("root"), folder.path().join("layer.tar"));
        let image = Image {
            name: "plum:1".to_owned(),
            entrypoint: Vec::new(),
            files: vec![(program, "/opt/plum".into())],
            user: USER.to_owned(),
        };
        image.lay_out(&root).unwrap();
        std::fs::set_permissions(root.join("opt"), PermissionsExt::from_mode(0o700)).unwrap();
        tar(&root, &archive).unwrap();
        let listed = Command::new("tar").arg("-tvf").arg(&archive).output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        let mode = |name: &str| {
            let line = listed.lines().find(|line| line.ends_with(&format!(" {name}"))).unwrap();
            line.split_whitespace().next().unwrap().to_owned()
        };
        assert_eq!(["./opt/", "./opt/plum", "./tmp/"].map(mode), ["drwxr-xr-x", "-rwxr-xr-x", "drwxrwxrwt"]);
    }

    #[test]
    fn an_image_without_a_tag_is_refused_as_kubelet_would_ask_a_registry_for_it() {
        let image = |name: &str| Image {
            name: name.to_owned(),
            entrypoint: Vec::new(),
            files: Vec::new(),
            user: USER.to_owned(),
        };
        let folder = tempfile::tempdir().unwrap();
        let error = image("localhost:5000/plum").write(&folder.path().join("plum.tar")).unwrap_err();
        assert!(error.to_string().contains("no tag"), "{error}");
    }
}
