//! The container runtime: its process, and what is asked of it with `ctr`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;

use super::image::Image;
use super::missing::{find, search_path};
use super::settings::{self, PAUSE, SOCKET};
use crate::access::write_private;
use crate::boot::START_LIMIT;
use crate::process::{Process, ProcessSpec};
use crate::{runtime, wait};

/// Killing and forgetting all containers.
const END_LIMIT: Duration = Duration::from_secs(60);

pub(super) struct Containerd {
    process: Process,
}

impl Containerd {
    /// Ready to run pods: it answers, and has the image that holds a pod's namespaces.
    pub(super) async fn start(folder: &Path) -> anyhow::Result<Containerd> {
        let (cni, config) = (folder.join("cni"), folder.join("containerd.toml"));
        std::fs::create_dir_all(&cni).with_context(|| format!("cannot create {}", cni.display()))?;
        write_private(&cni.join("pods.conflist"), &settings::network().to_string())?;
        write_private(&config, &settings::containerd(&cni))?;
        let args = ["--config".to_owned(), config.display().to_string()];
        let mut process = spawn("containerd", &program("containerd")?, &args, folder)?;
        wait::until("an answer of containerd", START_LIMIT, || {
            let alive = process.ensure_running();
            async {
                alive?;
                Ok(ctr(["version"]).await.map(drop).map_err(|error| error.to_string()))
            }
        })
        .await?;
        let containerd = Containerd { process };
        containerd.import_pause(folder).await?;
        Ok(containerd)
    }

    async fn import_pause(&self, folder: &Path) -> anyhow::Result<()> {
        let archive = folder.join("pause.tar");
        let mut image = Image::of_program(PAUSE, &program("sleep")?)?;
        image.entrypoint.push("infinity".to_owned());
        image.write(&archive)?;
        self.import(&archive).await
    }

    /// Returns when kubelet can see the images of this archive.
    pub(super) async fn import(&self, archive: &Path) -> anyhow::Result<()> {
        let file = archive.display().to_string();
        let said = ctr(["images", "import", "--snapshotter=native", &file]).await?;
        // unpacking docker.io/library/NAME:TAG (sha256:…)...done
        let names: Vec<_> = said.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
        anyhow::ensure!(!names.is_empty(), "{file} has no image with a name and a tag (ctr said: {said})");
        for name in names {
            let what = format!("the image {name} in kubelet's eyes");
            wait::until(&what, END_LIMIT, || async { seen(name).await }).await?;
        }
        Ok(())
    }

    pub(super) fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Kills every container, forgets it, and ends; kubelet must be gone, or it would start them again.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        wait::until("the end of all containers", END_LIMIT, || async {
            for task in ctr(["tasks", "ls", "-q"]).await?.lines() {
                // An error means that it has just ended; what is left is seen by the next look.
                let _ = ctr(["tasks", "rm", "--force", task]).await;
            }
            let left = ctr(["tasks", "ls", "-q"]).await?;
            Ok(if left.trim().is_empty() { Ok(()) } else { Err(format!("there are {left}")) })
        })
        .await?;
        runtime::drop_blocking(self.process).await
    }
}

pub(super) fn spawn(name: &str, program: &Path, args: &[String], dir: &Path) -> anyhow::Result<Process> {
    let env = [("PATH", search_path()), ("HOME", dir.display().to_string())];
    Process::spawn(&ProcessSpec { name, program, args, dir, env: Some(&env) })
}

fn program(name: &str) -> anyhow::Result<PathBuf> {
    find(name).with_context(|| format!("{name} is not on PATH; node::missing() names its package"))
}

/// Its CRI plugin marks an image when it has taken it up.
async fn seen(name: &str) -> anyhow::Result<Result<(), String>> {
    let filter = format!("name=={name}");
    let listed = ctr(["images", "ls", &filter]).await?;
    Ok(if listed.contains("io.cri-containerd.image=managed") { Ok(()) } else { Err(listed) })
}

/// Its output.
async fn ctr<const N: usize>(args: [&str; N]) -> anyhow::Result<String> {
    let mut command = Command::new(program("ctr")?);
    command.args(["--address", SOCKET, "--namespace", "k8s.io"]).args(args);
    let what = args.join(" ");
    let output = runtime::run_blocking(move || command.output().context("cannot run ctr")).await?;
    anyhow::ensure!(
        output.status.success(),
        "ctr {what} failed ({}): {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
