//! What was found, as text for people or a document for programs.
//!
//! Takes what was checked; gives what is printed. Findings are in the order of the input.

use std::fmt::Write as _;

use serde::Serialize;

use super::Checked;
use super::finding::Finding;
use super::object::Place;
use super::rules::Severity;
use super::sums::{Sum, Sums};
use crate::args::Form;
use crate::out;
use crate::words::plain;

/// Raised with every change of the document that a program could notice.
const API_VERSION: &str = "check.kubervisor.k8s.io/v1";

/// The report for programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'c> {
    api_version: &'static str,
    kind: &'static str,
    /// What the exit code says.
    ok: bool,
    summary: Summary,
    findings: Vec<Entry<'c>>,
    sums: &'c [Sums],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    kubervisor_services: usize,
    other_objects: usize,
    other_documents: usize,
    files: usize,
    errors: usize,
    warnings: usize,
}

#[derive(Debug, Serialize)]
struct Entry<'c> {
    severity: Severity,
    rule: &'static str,
    #[serde(flatten)]
    place: &'c Place,
    kind: Option<&'c str>,
    namespace: Option<&'c str>,
    name: Option<&'c str>,
    field: Option<&'c str>,
    reason: &'c str,
    cure: &'c str,
}

/// Whether all is well, warnings included if `strict`.
#[must_use]
pub fn passes(checked: &Checked, strict: bool) -> bool {
    let summary = Summary::of(checked);
    summary.errors == 0 && (!strict || summary.warnings == 0)
}

/// The document, in the form that was asked for.
///
/// # Errors
/// It cannot be written in that form.
pub fn document(checked: &Checked, strict: bool, form: Form) -> anyhow::Result<String> {
    let document = Document {
        api_version: API_VERSION,
        kind: "CheckReport",
        ok: passes(checked, strict),
        summary: Summary::of(checked),
        findings: checked.findings.iter().map(Entry::of).collect(),
        sums: &checked.sums,
    };
    out::formed(&serde_json::to_value(&document)?, form)
}

impl Summary {
    fn of(checked: &Checked) -> Self {
        let count = |severity| checked.findings.iter().filter(|f| f.severity() == severity).count();
        Self {
            kubervisor_services: checked.policies,
            other_objects: checked.objects.saturating_sub(checked.policies),
            other_documents: checked.others,
            files: checked.files,
            errors: count(Severity::Error),
            warnings: count(Severity::Warning),
        }
    }
}

impl<'c> Entry<'c> {
    fn of(finding: &'c Finding) -> Self {
        let subject = finding.subject.as_ref();
        Self {
            severity: finding.severity(),
            rule: finding.rule.row().name,
            place: &finding.place,
            kind: subject.map(|s| s.kind.as_str()),
            namespace: subject.map(|s| s.namespace.as_str()),
            name: subject.map(|s| s.name.as_str()),
            field: finding.field.as_deref(),
            reason: &finding.reason,
            cure: &finding.cure,
        }
    }
}

/// The text. `colour`: with the terminal's own red and yellow.
#[must_use]
pub fn text(checked: &Checked, colour: bool) -> String {
    let mut text = String::new();
    for finding in &checked.findings {
        write_finding(&mut text, finding, colour);
    }
    for sums in &checked.sums {
        write_sums(&mut text, sums);
    }
    let Summary { kubervisor_services, files, errors, warnings, .. } = Summary::of(checked);
    let _ = writeln!(
        text,
        "{} in {}: {}, {}",
        count(kubervisor_services, "KubervisorService"),
        count(files, "file"),
        count(errors, "error"),
        count(warnings, "warning")
    );
    text
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

fn write_finding(text: &mut String, finding: &Finding, colour: bool) {
    let Place { file, document, line } = &finding.place;
    let place = match (document, line) {
        (0, _) => file.clone(),
        // Without an object's name, the line is all that leads there.
        (_, 1..) if finding.subject.is_none() => format!("{file}:{document} line {line}"),
        _ => format!("{file}:{document}"),
    };
    let subject = finding.subject.as_ref().map(|subject| format!(" {subject}")).unwrap_or_default();
    let severity = finding.severity();
    let (begin, end) = match (colour, severity) {
        (false, _) => ("", ""),
        (true, Severity::Error) => ("\u{1b}[31m", "\u{1b}[0m"),
        (true, Severity::Warning) => ("\u{1b}[33m", "\u{1b}[0m"),
    };
    let field = finding.field.as_ref().map(|field| format!("{field}: ")).unwrap_or_default();
    let about = one_line(&format!("{place}{subject}"));
    let _ = writeln!(text, "{about}  {begin}{}{end} {}", severity.as_str(), finding.rule.row().name);
    let _ = writeln!(text, "  {}", one_line(&format!("{field}{}", finding.reason)));
    let _ = writeln!(text, "  cure: {}\n", one_line(&finding.cure));
}

/// Queries have lines of their own.
fn one_line(text: &str) -> String {
    plain(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

fn write_sums(text: &mut String, sums: &Sums) {
    let Sums { subject, replicas, from, floor, max_out, max_cuts_per_period, can_be_cut, storm, coverage } =
        sums;
    let _ = writeln!(text, "{}", one_line(&format!("{subject} with {replicas} pods ({from})")));
    for (what, sum) in [
        ("floor", floor),
        ("out at once, at most", max_out),
        ("cuts per period, at most", max_cuts_per_period),
        ("cut in all, at most", can_be_cut),
        ("storm, from", storm),
        ("seen, at least", coverage),
    ] {
        let Sum { pods, because } = sum;
        let pods = pods.map_or("-".to_owned(), |pods| pods.to_string());
        let _ = writeln!(text, "  {what:<25} {pods:>5}  {}", one_line(because));
    }
    let _ = writeln!(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::checked;

    const ORPHAN: &str =
        "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {selector: {kubervisor/traffic: 'yes'}}}";

    #[test]
    fn colour_is_on_the_severity_only_and_only_where_it_is_wanted() {
        let checked = checked(ORPHAN);
        assert!(
            text(&checked, true)
                .contains("Service default/a  \u{1b}[33mwarning\u{1b}[0m key-without-owner\n")
        );
        assert!(!text(&checked, false).contains('\u{1b}'));
    }

    #[test]
    fn what_a_terminal_would_obey_and_the_lines_of_a_query_are_not_printed() {
        assert_eq!(one_line("sum(\n  x\u{1b}[31m\u{9b}\n)"), "sum( x [31m )");
    }

    #[test]
    fn a_warning_passes_unless_it_is_strict_and_an_error_never_does() {
        let warned = checked(ORPHAN);
        assert!(passes(&warned, false) && !passes(&warned, true));
        assert!(!passes(&checked("kind: ["), false));
    }
}
