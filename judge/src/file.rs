//! Incidents as people write them: a YAML file each.
//!
//! Takes the text of a file; gives an [`IncidentFile`] whose numbers are within their bounds, or a sentence that names
//! the file, the field and what to do. The format is described in `docs/reference/judgement.md`, field by field.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Bounds, so that a slip of the pen does not run for hours: 10,000 pods at 1,000 requests would take a day.
const PODS_MAX: u32 = 1_000;
const SECONDS_MAX: u32 = 86_400;
const SCRAPE_MAX: u32 = 3_600;
const REQUESTS_MAX: f64 = 1_000.0;
const FACTOR_MAX: f64 = 1_000.0;

/// Why a file or a folder of files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It could not be read.
    #[error("{}: {error}; name a folder with incident files (*.yaml)", path.display())]
    Unreadable {
        /// Where.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// There is no incident in the folder.
    #[error("{}: no *.yaml file in it; put an incident there, the format is in docs/reference/judgement.md", .0.display())]
    Empty(PathBuf),
    /// It is not of the format.
    #[error("{file}: {error}; correct it, the format is in docs/reference/judgement.md")]
    Format {
        /// Its name.
        file: String,
        /// Field and fault.
        error: serde_yaml_ng::Error,
    },
    /// A value is out of its bounds.
    #[error("{file}: {field}: {fault}")]
    Value {
        /// Its name.
        file: String,
        /// The field.
        field: String,
        /// What is wrong, and what would be right.
        fault: String,
    },
}

/// One file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IncidentFile {
    /// The file's name without its ending; it seeds the draws.
    #[serde(skip)]
    pub name: String,
    /// One line for the tables.
    pub title: String,
    /// Fleet sizes; the incident is played once for each, and for each scrape interval.
    pub fleet: Vec<u32>,
    /// Seconds between two scrapes of a pod.
    pub scrape_seconds: Vec<u32>,
    /// How long it is played.
    pub seconds: u32,
    /// What the clients send.
    pub load: Load,
    /// What every pod does as a rule.
    #[serde(default)]
    pub usual: Usual,
    /// Who misbehaves and when. Of those that overlap, the last one holds.
    #[serde(default)]
    pub episodes: Vec<Episode>,
    /// Short bursts of errors, each at a pod drawn at random: noise, nobody is bad.
    #[serde(default)]
    pub bursts: Option<Bursts>,
    /// Every pod is replaced by a new one.
    #[serde(default)]
    pub rollout: Option<Rollout>,
}

/// What the clients send.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Load {
    /// Requests a second, times the fleet size.
    pub requests_per_second_per_pod: f64,
    /// Each second's load is drawn evenly from this share around it; 0.1 = ±10 %.
    #[serde(default)]
    pub noise: f64,
    /// Factor over time; linear between its points, constant before the first and after the last.
    #[serde(default)]
    pub curve: Vec<Point>,
}

/// A point of a curve.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// Second.
    pub at: u32,
    /// Times the usual.
    pub factor: f64,
}

/// What every pod does as a rule.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Usual {
    /// Share of requests answered 500.
    #[serde(default)]
    pub error_share: f64,
    /// The value in the answers, times this, over time.
    #[serde(default)]
    pub value_curve: Vec<Point>,
    /// The latency, times this, over time.
    #[serde(default)]
    pub latency_curve: Vec<Point>,
}

/// Pods that behave in another way for a while.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Episode {
    /// Whom it befalls.
    pub pods: Pods,
    /// First second.
    pub from: u32,
    /// First second after it.
    pub until: u32,
    /// What they do.
    #[serde(default, rename = "do")]
    pub symptoms: Symptoms,
    /// The value in the answers stays where it was when the episode began, whatever `valueCurve` says.
    #[serde(default)]
    pub value_stuck: bool,
    /// The symptoms grow evenly from the usual to what is written here.
    #[serde(default)]
    pub grows: bool,
    /// The label: whether these pods should be out of traffic.
    pub bad: bool,
    /// Since when they should be, if later than `from`; until then, to take them out is neither right nor wrong.
    #[serde(default)]
    pub bad_from: Option<u32>,
}

/// What is odd about the answers of a pod; what is not written is as usual.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Symptoms {
    /// Share of requests answered 500; absent: as usual.
    pub error_share: Option<f64>,
    /// Times the latency.
    pub latency_factor: f64,
    /// Times the value.
    pub value_factor: f64,
    /// Added to the value, whose mean is 100.
    pub value_offset: f64,
}

impl Default for Symptoms {
    fn default() -> Self {
        Self { error_share: None, latency_factor: 1.0, value_factor: 1.0, value_offset: 0.0 }
    }
}

/// Which pods.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "PodsAsWritten")]
pub enum Pods {
    /// So many, drawn at random.
    Count(u32),
    /// This share of the fleet, rounded down, at least one, drawn at random.
    Share(f64),
    /// All of them.
    Everyone,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PodsAsWritten {
    count: Option<u32>,
    share: Option<f64>,
    everyone: Option<bool>,
}

impl TryFrom<PodsAsWritten> for Pods {
    type Error = &'static str;

    fn try_from(written: PodsAsWritten) -> Result<Self, Self::Error> {
        match (written.count, written.share, written.everyone) {
            (Some(count), None, None) => Ok(Self::Count(count)),
            (None, Some(share), None) => Ok(Self::Share(share)),
            (None, None, Some(true)) => Ok(Self::Everyone),
            _ => Err("write exactly one of count: a number, share: a number, everyone: true"),
        }
    }
}

/// Short bursts of errors.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Bursts {
    /// One begins each time so many seconds have passed.
    pub every_seconds: u32,
    /// It lasts so long.
    pub lasts: u32,
    /// Share of requests answered 500.
    pub error_share: f64,
}

/// Every pod is replaced by a new one, one after the other, the new one first.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rollout {
    /// First second.
    pub from: u32,
    /// All are replaced within so many seconds.
    pub within: u32,
    /// What a pod does in its first seconds: harmless.
    #[serde(default)]
    pub warm_up: Option<WarmUp>,
    /// What the new revision does for good.
    #[serde(default)]
    pub revision: Option<Revision>,
}

/// What a pod does in its first seconds.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WarmUp {
    /// So long.
    pub seconds: u32,
    /// What it does.
    #[serde(default, rename = "do")]
    pub symptoms: Symptoms,
}

/// What the new revision does.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revision {
    /// What it does.
    #[serde(default, rename = "do")]
    pub symptoms: Symptoms,
    /// The label.
    pub bad: bool,
}

/// Reads all files of a folder, by name.
///
/// # Errors
/// The first file that cannot be used, in a sentence.
pub fn read_folder(folder: &Path) -> Result<Vec<IncidentFile>, FileError> {
    let unreadable = |error| FileError::Unreadable { path: folder.into(), error };
    let entries = std::fs::read_dir(folder).map_err(unreadable)?;
    let mut paths: Vec<_> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(unreadable)?;
    paths.retain(|path| path.extension().is_some_and(|end| end == "yaml" || end == "yml"));
    paths.sort();
    if paths.is_empty() {
        return Err(FileError::Empty(folder.into()));
    }
    paths.iter().map(|path| read_file(path)).collect()
}

fn read_file(path: &Path) -> Result<IncidentFile, FileError> {
    let text =
        std::fs::read_to_string(path).map_err(|error| FileError::Unreadable { path: path.into(), error })?;
    let name = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    parse(&name, &text)
}

/// Reads the text of one file. `name`: without its ending.
///
/// # Errors
/// The first fault, in a sentence.
pub fn parse(name: &str, text: &str) -> Result<IncidentFile, FileError> {
    let file = format!("{name}.yaml");
    let read: Result<IncidentFile, _> = serde_yaml_ng::from_str(text);
    let incident = read.map_err(|error| FileError::Format { file: file.clone(), error })?;
    let incident = IncidentFile { name: name.into(), ..incident };
    match fault(&incident) {
        None => Ok(incident),
        Some((field, fault)) => Err(FileError::Value { file, field, fault }),
    }
}

type Fault = (String, String);

fn fault(incident: &IncidentFile) -> Option<Fault> {
    let within = |field: &str, values: &[u32], most: u32| {
        let bad = values.iter().find(|n| **n == 0 || **n > most);
        let bad = bad.map(|n| (field.into(), format!("{n} is not within 1 and {most}")));
        let none = || (field.into(), format!("give at least one number within 1 and {most}"));
        bad.or_else(|| values.is_empty().then(none))
    };
    within("fleet", &incident.fleet, PODS_MAX)
        .or_else(|| within("scrapeSeconds", &incident.scrape_seconds, SCRAPE_MAX))
        .or_else(|| within("seconds", &[incident.seconds], SECONDS_MAX))
        .or_else(|| load_fault(&incident.load))
        .or_else(|| share("usual.errorShare", incident.usual.error_share))
        .or_else(|| curve("usual.valueCurve", &incident.usual.value_curve))
        .or_else(|| curve("usual.latencyCurve", &incident.usual.latency_curve))
        .or_else(|| incident.episodes.iter().enumerate().find_map(|(i, e)| episode_fault(i, e)))
        .or_else(|| incident.bursts.as_ref().and_then(bursts_fault))
        .or_else(|| incident.rollout.as_ref().and_then(rollout_fault))
}

fn load_fault(load: &Load) -> Option<Fault> {
    let rate = load.requests_per_second_per_pod;
    let positive = rate > 0.0 && rate <= REQUESTS_MAX;
    let rate_fault = || {
        let fault = format!("{rate} is not above 0 and at most {REQUESTS_MAX}");
        ("load.requestsPerSecondPerPod".into(), fault)
    };
    (!positive)
        .then(rate_fault)
        .or_else(|| share("load.noise", load.noise))
        .or_else(|| curve("load.curve", &load.curve))
}

fn share(field: &str, value: f64) -> Option<Fault> {
    let fault = || (field.into(), format!("{value} is not a share; write a number from 0 to 1"));
    (!(0.0..=1.0).contains(&value)).then(fault)
}

fn factor(field: &str, value: f64) -> Option<Fault> {
    let fault = || (field.into(), format!("{value} is not a factor; write a number from 0 to {FACTOR_MAX}"));
    (!(0.0..=FACTOR_MAX).contains(&value)).then(fault)
}

fn curve(field: &str, points: &[Point]) -> Option<Fault> {
    let falls = points.windows(2).any(|pair| pair[0].at >= pair[1].at);
    let unordered = || (field.into(), "its points are not in order of time; sort them by `at`".into());
    let odd = points.iter().find_map(|point| factor(field, point.factor));
    falls.then(unordered).or(odd)
}

fn episode_fault(index: usize, episode: &Episode) -> Option<Fault> {
    let at = format!("episodes[{index}]");
    let pods = match episode.pods {
        Pods::Count(0) => Some((format!("{at}.pods"), "count is 0; name at least one pod".into())),
        Pods::Share(of) => share(&format!("{at}.pods.share"), of),
        Pods::Count(_) | Pods::Everyone => None,
    };
    let never = || (format!("{at}.until"), "it ends before it begins; write a later second".into());
    let begin = episode.bad_from.unwrap_or(episode.from);
    let outside = begin < episode.from || begin >= episode.until;
    let unbad = || (format!("{at}.badFrom"), "it is not within from and until".into());
    pods.or_else(|| (episode.until <= episode.from).then(never))
        .or_else(|| outside.then(unbad))
        .or_else(|| symptoms_fault(&at, &episode.symptoms))
}

fn symptoms_fault(at: &str, symptoms: &Symptoms) -> Option<Fault> {
    let Symptoms { error_share, latency_factor, value_factor, value_offset } = *symptoms;
    let endless = || (format!("{at}.do.valueOffset"), "write a finite number".into());
    error_share
        .and_then(|of| share(&format!("{at}.do.errorShare"), of))
        .or_else(|| factor(&format!("{at}.do.latencyFactor"), latency_factor))
        .or_else(|| factor(&format!("{at}.do.valueFactor"), value_factor))
        .or_else(|| (!value_offset.is_finite()).then(endless))
}

fn bursts_fault(bursts: &Bursts) -> Option<Fault> {
    let never = || ("bursts.everySeconds".into(), "0 is not a time; write 1 or more".into());
    (bursts.every_seconds == 0).then(never).or_else(|| share("bursts.errorShare", bursts.error_share))
}

fn rollout_fault(rollout: &Rollout) -> Option<Fault> {
    let warm = rollout.warm_up.as_ref().and_then(|w| symptoms_fault("rollout.warmUp", &w.symptoms));
    warm.or_else(|| rollout.revision.as_ref().and_then(|r| symptoms_fault("rollout.revision", &r.symptoms)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEARS: &str = "
title: pears
fleet: [7]
scrapeSeconds: [5]
seconds: 90
load: {requestsPerSecondPerPod: 3}
episodes:
- {pods: {count: 2}, from: 10, until: 40, do: {errorShare: 0.5}, bad: true}
";

    fn fault_of(from: &str, to: &str) -> String {
        parse("pears", &PEARS.replace(from, to)).unwrap_err().to_string()
    }

    #[test]
    fn what_is_not_written_is_as_usual() {
        let read = parse("pears", PEARS).unwrap();
        let Episode { symptoms, value_stuck, grows, .. } = &read.episodes[0];
        let expected = Symptoms { error_share: Some(0.5), ..Symptoms::default() };
        assert_eq!((*symptoms, *value_stuck, *grows), (expected, false, false));
        assert_eq!((read.name.as_str(), read.usual, read.rollout), ("pears", Usual::default(), None));
    }

    #[test]
    fn a_bad_file_is_refused_in_a_sentence_with_file_field_and_remedy() {
        let share = fault_of("0.5", "7");
        assert_eq!(
            share,
            "pears.yaml: episodes[0].do.errorShare: 7 is not a share; write a number from 0 to 1"
        );
        let ends = fault_of("until: 40", "until: 4");
        assert!(ends.starts_with("pears.yaml: episodes[0].until: it ends before"), "{ends}");
        let word = fault_of("fleet: [7]", "fleet: [many]");
        assert!(word.starts_with("pears.yaml: fleet[0]: invalid type"), "{word}");
        let none = fault_of("fleet: [7]", "fleet: []");
        assert!(none.starts_with("pears.yaml: fleet: give at least one number"), "{none}");
        let field = fault_of("seconds: 90", "seconds: 90\ncolour: green");
        assert!(field.contains("unknown field `colour`") && field.contains("correct it"), "{field}");
    }

    #[test]
    fn a_folder_without_incidents_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let told = read_folder(folder.path()).unwrap_err().to_string();
        assert!(told.contains("no *.yaml file in it; put an incident there"), "{told}");
        let told = read_folder(&folder.path().join("gone")).unwrap_err().to_string();
        assert!(told.contains("name a folder with incident files"), "{told}");
    }
}
