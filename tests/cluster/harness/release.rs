//! `kubervisor release`, the shipped binary.

use std::path::PathBuf;
use std::process::Command;

use super::Shop;

impl Shop {
    /// Runs it in this namespace as the admin, with these words behind; gives whether it succeeded, and what it said.
    pub async fn release(&self, words: &[&str]) -> (bool, String) {
        self.release_by(self.cluster.kubeconfig("admin", None).unwrap(), words).await
    }

    /// The same as whom this kubeconfig names.
    pub async fn release_by(&self, kubeconfig: PathBuf, words: &[&str]) -> (bool, String) {
        let mut command = Command::new(super::program("kubervisor"));
        command.args(["release", "--namespace", &self.namespace, "--lease-namespace", &self.namespace]);
        command.args(words).env("KUBECONFIG", kubeconfig);
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }
}
