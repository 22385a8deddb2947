//! The folder with all that one cluster writes.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::reaper;

/// Removed when dropped and, if this process dies first, by the reaper. A folder that the caller named is kept.
pub(crate) struct DataDir {
    path: PathBuf,
    keep: bool,
}

impl DataDir {
    /// # Errors
    /// When the folder cannot be made, or the one given has something in it: an old cluster's data would mix with ours.
    pub(crate) fn create(given: Option<PathBuf>) -> anyhow::Result<DataDir> {
        match given {
            Some(path) => DataDir::take(&path),
            None => DataDir::temporary(),
        }
    }

    fn temporary() -> anyhow::Result<DataDir> {
        let folder =
            tempfile::Builder::new().prefix("localcluster-").make(create_known).with_context(|| {
                let place = std::env::temp_dir();
                format!("cannot create a temporary folder in {}; set TMPDIR to another", place.display())
            })?;
        let path = folder.into_temp_path().keep().context("cannot keep the temporary folder")?;
        Ok(DataDir { path, keep: false })
    }

    fn take(path: &Path) -> anyhow::Result<DataDir> {
        std::fs::create_dir_all(path)
            .with_context(|| format!("cannot create the data folder {}", path.display()))?;
        let mut entries =
            path.read_dir().with_context(|| format!("cannot read the data folder {}", path.display()))?;
        anyhow::ensure!(
            entries.next().is_none(),
            "the data folder {} is not empty; name an empty or a new one",
            path.display()
        );
        let path = path
            .canonicalize()
            .with_context(|| format!("cannot resolve the data folder {}", path.display()))?;
        Ok(DataDir { path, keep: true })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        // If it fails the reaper tries again when this process ends.
        if std::fs::remove_dir_all(&self.path).is_ok() {
            let _ = reaper::drop_dir(&self.path);
        }
    }
}

/// Known to the reaper before it is there: whatever ends this process in between, no folder is left.
fn create_known(path: &Path) -> std::io::Result<()> {
    reaper::add_dir(path).map_err(std::io::Error::other)?;
    let created = DirBuilder::new().mode(0o700).create(path);
    if created.is_err() {
        // Somebody else's folder of this name is not ours to remove.
        reaper::drop_dir(path).map_err(std::io::Error::other)?;
    }
    created
}
