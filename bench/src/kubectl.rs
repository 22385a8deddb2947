//! The plugin beside kubectl: the same question, asked of both.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::num::NonZero;
use std::path::{Path, PathBuf};

use anyhow::Context;
use localcluster::ADMIN;
use localcluster::tools::Tool;
use serde_json::Value;

use crate::figures::compare;
use crate::meter::{Meter, Taken};
use crate::objects::{COUNT, NAMESPACES, name, namespace};
use crate::page::{Row, Section};
use crate::stage::Stage;

/// Rounds before those that count: they fill kubectl's cache of what the server serves, and the system's of files.
const WARM: u32 = 2;
const PLUGIN: &str = "kubectl-kubervisor";

/// What has to stand in what both print.
#[derive(Debug, Clone, Copy)]
enum Holds {
    /// Anything: there is no object in it.
    Words,
    /// A row of the first object.
    One,
    /// A row of each object.
    Rows,
    /// A List of all objects in JSON.
    List,
}

/// Two commands with one answer.
struct Pair {
    ours: String,
    theirs: String,
    holds: Holds,
}

fn pairs() -> Vec<Pair> {
    let pair =
        |ours: &str, theirs: &str, holds| Pair { ours: ours.to_owned(), theirs: theirs.to_owned(), holds };
    let one = format!("{} -n {}", name(0), namespace(0));
    let all = "kubectl get kubervisorservices -A";
    vec![
        pair("kubectl-kubervisor version --client", "kubectl version --client", Holds::Words),
        pair("kubectl-kubervisor --help", "kubectl --help", Holds::Words),
        pair(
            &format!("kubectl-kubervisor get {one}"),
            &format!("kubectl get kubervisorservices {one}"),
            Holds::One,
        ),
        pair("kubectl-kubervisor get -A", all, Holds::Rows),
        pair("kubectl-kubervisor get -A -o json", &format!("{all} -o json"), Holds::List),
        pair("kubectl kubervisor get -A", all, Holds::Rows),
    ]
}

/// Starts a cluster, fills it, and asks both.
///
/// # Errors
/// The cluster does not start, a command fails, or does not print what it should.
pub fn section(rounds: NonZero<u32>) -> anyhow::Result<Section> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start the threads of the bench")?;
    eprintln!("bench: a cluster with {COUNT} KubervisorServices");
    let stage = runtime.block_on(Stage::set())?;
    let home = tempfile::tempdir().context("cannot create a home for kubectl")?;
    let places = Places::find(stage.cluster.kubectl_path())?;
    let meter = Meter::new(places.environment(home.path(), &stage.cluster.kubeconfig(ADMIN, None)?)?)?;
    let pairs = pairs();
    let mut taken = vec![Vec::new(); pairs.len()];
    for round in 0..WARM + rounds.get() {
        eprintln!("bench: round {} of {}", round + 1, WARM + rounds.get());
        for (pair, taken) in pairs.iter().zip(&mut taken) {
            let both = ask(&meter, &places, pair, round.is_multiple_of(2))?;
            if round >= WARM {
                taken.push(both);
            }
        }
    }
    let rows = pairs.into_iter().zip(&taken).filter_map(|(pair, taken)| {
        Some(Row { ours: pair.ours, theirs: pair.theirs, compared: compare(taken)? })
    });
    Ok(Section {
        title: "The plugin and kubectl",
        what: what(&stage, rounds)?,
        theirs: "kubectl",
        rows: rows.collect(),
    })
}

fn what(stage: &Stage, rounds: NonZero<u32>) -> anyhow::Result<String> {
    let cores = std::thread::available_parallelism().context("cannot tell the number of cores")?;
    Ok(format!(
        "Release build; {COUNT} KubervisorServices in {NAMESPACES} namespaces, {:.1} kB of JSON each; kubectl {} and its API \
         server, on the same {cores} cores; {rounds} rounds after {WARM} to warm up.",
        f64::from(u32::try_from(stage.bytes)?) / 1_000.0,
        Tool::Kubectl.version()?,
    ))
}

/// Where the two programs are.
struct Places {
    plugin: PathBuf,
    kubectl: PathBuf,
}

impl Places {
    /// The plugin as it was built beside this program.
    fn find(kubectl: &Path) -> anyhow::Result<Self> {
        let itself = std::env::current_exe().context("cannot tell where this program is")?;
        let plugin = itself.with_file_name(PLUGIN);
        anyhow::ensure!(plugin.exists(), "{} is not there: `make bench` builds it", plugin.display());
        Ok(Self { plugin, kubectl: kubectl.to_owned() })
    }

    /// The plugin in the PATH, as kubectl looks for it there.
    fn environment(
        &self,
        home: &Path,
        kubeconfig: &Path,
    ) -> anyhow::Result<BTreeMap<&'static str, OsString>> {
        let folder = self.plugin.parent().context("the plugin is in no folder")?;
        let path = std::env::join_paths([folder, Path::new("/usr/bin"), Path::new("/bin")])?;
        Ok([
            ("PATH", path),
            ("HOME", home.into()),
            ("KUBECONFIG", kubeconfig.into()),
            ("LANG", "C.UTF-8".into()),
        ]
        .into())
    }

    fn command(&self, line: &str) -> Vec<String> {
        let mut words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        if let Some(program) = words.first_mut() {
            let place = if program == PLUGIN { &self.plugin } else { &self.kubectl };
            *program = place.display().to_string();
        }
        words
    }
}

/// Runs both, ours first or theirs: who is second finds the server's memory warm.
fn ask(meter: &Meter, places: &Places, pair: &Pair, ours_first: bool) -> anyhow::Result<(Taken, Taken)> {
    let run = |line: &str| {
        let (taken, out) = meter.take(&places.command(line))?;
        let fault = pair.holds.fault(&out);
        fault.map_or(Ok(taken), |fault| Err(anyhow::anyhow!("`{line}` prints another answer: {fault}")))
    };
    if ours_first {
        let ours = run(&pair.ours)?;
        Ok((ours, run(&pair.theirs)?))
    } else {
        let theirs = run(&pair.theirs)?;
        Ok((run(&pair.ours)?, theirs))
    }
}

type Names = BTreeSet<(String, String)>;

impl Holds {
    /// What is wrong with an answer, if anything is.
    fn fault(self, out: &str) -> Option<String> {
        match self {
            Self::Words => out.is_empty().then(|| "nothing".to_owned()),
            Self::One => {
                let rows = out.lines().skip(1).map(|line| line.split_whitespace().next().unwrap_or_default());
                let found: Vec<_> = rows.collect();
                (found != [name(0)]).then(|| format!("rows of {found:?} instead of {:?}", name(0)))
            }
            Self::Rows => differs(&rows(out)),
            Self::List => match serde_json::from_str(out) {
                Ok(list) => differs(&items(&list)),
                Err(error) => Some(format!("no JSON, {error}")),
            },
        }
    }
}

fn differs(found: &[(String, String)]) -> Option<String> {
    let wanted: Names = (0..COUNT).map(|number| (namespace(number), name(number))).collect();
    let distinct: Names = found.iter().cloned().collect();
    (found.len() != COUNT || distinct != wanted).then(|| {
        format!(
            "{} objects, {} of the {COUNT} that are there",
            found.len(),
            distinct.intersection(&wanted).count()
        )
    })
}

/// The first two columns of a table.
fn rows(table: &str) -> Vec<(String, String)> {
    let pair = |line: &str| {
        let mut words = line.split_whitespace().map(str::to_owned);
        (words.next().unwrap_or_default(), words.next().unwrap_or_default())
    };
    table.lines().skip(1).map(pair).collect()
}

fn items(list: &Value) -> Vec<(String, String)> {
    let text = |item: &Value, of: &str| item["metadata"][of].as_str().unwrap_or_default().to_owned();
    let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().map(|item| (text(item, "namespace"), text(item, "name"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn table(numbers: std::ops::Range<usize>) -> String {
        let row = |number| format!("{}   {}   shop   Running\n", namespace(number), name(number));
        format!("NAMESPACE   NAME   SERVICE   STATE\n{}", numbers.map(row).collect::<String>())
    }

    #[test]
    fn an_answer_in_which_an_object_is_missing_or_twice_is_no_answer() {
        assert_eq!(Holds::Rows.fault(&table(0..COUNT)), None);
        let missing = Holds::Rows.fault(&table(1..COUNT)).unwrap();
        assert_eq!(missing, "1999 objects, 1999 of the 2000 that are there");
        let twice = table(0..COUNT - 1) + table(0..1).lines().nth(1).unwrap();
        assert_eq!(Holds::Rows.fault(&twice).unwrap(), "2000 objects, 1999 of the 2000 that are there");
    }

    #[test]
    fn a_list_in_json_has_all_objects_too() {
        let item = |number| json!({"metadata": {"namespace": namespace(number), "name": name(number)}});
        let list = |to| json!({"items": (0..to).map(item).collect::<Vec<_>>()}).to_string();
        assert_eq!(Holds::List.fault(&list(COUNT)), None);
        assert!(Holds::List.fault(&list(3)).is_some_and(|fault| fault.starts_with("3 objects")));
        assert!(Holds::List.fault("oh").is_some_and(|fault| fault.starts_with("no JSON")));
    }

    #[test]
    fn the_row_of_one_object_is_that_of_the_one_that_was_asked_for() {
        let one = format!("NAME   SERVICE\n{}   shop\n", name(0));
        assert_eq!(Holds::One.fault(&one), None);
        assert!(Holds::One.fault(&one.replace(&name(0), "another")).is_some());
        assert_eq!([Holds::Words.fault("v1"), Holds::Words.fault("")], [None, Some("nothing".into())]);
    }
}
