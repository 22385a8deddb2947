//! Files, folders and standard input to objects.
//!
//! Takes what `-f` names; gives every object with its place, and a finding for what could not be read. Does not look at
//! what an object says.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use kubervisor::api::{GROUP, key};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::finding::Finding;
use super::object::{Object, Place};
use super::rules::Rule;

/// Of one file: manifests of whole clusters have some MB, and an object of more than 1.5 MB is refused by etcd.
const FILE_MAX: u64 = 64 * 1024 * 1024;
/// Files of all folders together.
const FILES_MAX: usize = 100_000;
/// What kubectl reads in a folder.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];
/// Brackets within brackets: more than any manifest has, and a YAML parser takes their square in time.
const DEPTH_MAX: usize = 2_000;
/// Words that YAML 1.1, which kubectl reads, takes for true or false.
const BOOLEANS: [&str; 8] = ["y", "n", "yes", "no", "on", "off", "true", "false"];

/// What was read.
#[derive(Debug, Default)]
pub struct Input {
    /// Names of the files, in order; `-` for standard input.
    pub files: Vec<String>,
    /// In the order of the input.
    pub objects: Vec<Object>,
    /// Documents of folders that are no objects.
    pub others: usize,
    /// What could not be read.
    pub findings: Vec<Finding>,
}

/// Reads all of it. `namespace`: of objects that name none.
#[must_use]
pub fn read(paths: &[PathBuf], stdin: impl std::io::Read, namespace: &str) -> Input {
    let mut reader = Reader { namespace, named: true, input: Input::default() };
    let mut stdin = Some(stdin);
    for path in paths {
        if path.as_os_str() == "-" {
            // A second `-` has nothing left.
            if let Some(stdin) = stdin.take() {
                let read = text(stdin);
                reader.file("-", read);
            }
        } else if path.is_dir() {
            reader.folder(path);
        } else {
            reader.named = true;
            reader.file(&path.display().to_string(), File::open(path).and_then(text));
        }
    }
    reader.input
}

fn text(from: impl std::io::Read) -> std::io::Result<String> {
    let mut text = String::new();
    from.take(FILE_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_MAX {
        return Err(std::io::Error::other(format!("larger than {} MiB", FILE_MAX / 1024 / 1024)));
    }
    Ok(text)
}

struct Reader<'a> {
    namespace: &'a str,
    /// Whether the file at hand was named itself, or found in a folder.
    named: bool,
    input: Input,
}

impl Reader<'_> {
    fn folder(&mut self, path: &Path) {
        let mut found = Vec::new();
        if let Err(error) = walk(path, &mut found) {
            self.fault(Rule::Unreadable, &path.display().to_string(), 0, 0, &error.to_string());
        }
        if found.is_empty() {
            let reason = "the folder holds no .yaml, .yml or .json file";
            self.fault(Rule::Empty, &path.display().to_string(), 0, 0, reason);
        }
        self.named = false;
        for file in found {
            self.file(&file.display().to_string(), File::open(&file).and_then(text));
        }
        self.named = true;
    }

    fn fault(&mut self, rule: Rule, file: &str, document: usize, line: usize, reason: &str) {
        let place = Place { file: file.to_owned(), document, line };
        self.input.findings.push(Finding::of_place(rule, place, reason));
    }

    fn file(&mut self, name: &str, read: std::io::Result<String>) {
        self.input.files.push(name.to_owned());
        let text = match read {
            Ok(text) => text,
            Err(error) => return self.fault(Rule::Unreadable, name, 0, 0, &error.to_string()),
        };
        if deeper(&text) {
            let reason = format!("it has more than {DEPTH_MAX} brackets within each other");
            return self.fault(Rule::Unreadable, name, 0, 0, &reason);
        }
        let documents = documents(&text);
        if documents.is_empty() {
            return self.fault(Rule::Empty, name, 0, 0, "it holds no document");
        }
        for (number, Document { line, text, value }) in documents.into_iter().enumerate() {
            let place = Place { file: name.to_owned(), document: number + 1, line };
            match value {
                Ok(value) => self.document(&place, text, value),
                Err((line, reason)) => self.fault(Rule::Unreadable, name, number + 1, line, &reason),
            }
        }
    }

    fn document(&mut self, place: &Place, text: &str, mut value: Value) {
        let before = self.input.objects.len();
        if value["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) && value["items"].is_array() {
            for item in value["items"].as_array_mut().into_iter().flatten() {
                self.object(place, item.take());
            }
        } else {
            self.object(place, value);
        }
        for (line, word) in unquoted(text) {
            // Only where the document says so too: a text that shows a manifest is none. In a list, the line tells which.
            let objects = &self.input.objects[before..];
            let users: Vec<_> = objects.iter().filter(|object| says(&object.value, word)).collect();
            let subject = users.first().filter(|_| users.len() == 1).map(|object| object.subject());
            if users.is_empty() {
                continue;
            }
            let place = Place { line: place.line + line, ..place.clone() };
            // Without an object's name, the line stands before it.
            let at = if subject.is_some() { format!("line {}: ", place.line) } else { String::new() };
            let reason = format!("{at}{word} has no quotes, so kubectl takes it for a truth value");
            let finding = Finding { subject, ..Finding::of_place(Rule::UnquotedYes, place, reason) };
            self.input.findings.push(finding.cured_by(format!("write {}: \"{word}\"", key::TRAFFIC)));
        }
        self.truths(before, text);
    }

    /// Words in our own kind, such as one of goodValues, that no quotes stand around anywhere in the text.
    fn truths(&mut self, before: usize, text: &str) {
        let quoted =
            |word: &str| text.contains(&format!("\"{word}\"")) || text.contains(&format!("'{word}'"));
        for object in self.input.objects[before..].iter().filter(|object| object.group == GROUP) {
            let mut words = Vec::new();
            booleans(&object.value["spec"], "spec", &mut words);
            for (field, word) in words.into_iter().filter(|(_, word)| !quoted(word)) {
                let reason = format!("{word} has no quotes, so kubectl takes it for a truth value");
                let finding = Finding::of(Rule::UnquotedYes, object, reason).at(field);
                self.input.findings.push(finding.cured_by(format!("write \"{word}\"")));
            }
        }
    }

    fn object(&mut self, place: &Place, value: Value) {
        let field = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).filter(|t| !t.is_empty());
        let name = field("/metadata/name").or(field("/metadata/generateName").map(|_| ""));
        let (Some(api), Some(kind)) = (field("/apiVersion"), field("/kind")) else {
            return self.no_object(place, "it has no apiVersion or no kind");
        };
        // Lists of parts, such as a kustomization, have no name.
        let Some(name) = name else { return self.no_object(place, "it has no metadata.name") };
        let (group, version) = api.split_once('/').unwrap_or(("", api));
        let object = Object {
            place: place.clone(),
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
            namespace: field("/metadata/namespace").unwrap_or(self.namespace).to_owned(),
            name: name.to_owned(),
            value: Value::Null,
        };
        self.input.objects.push(Object { value, ..object });
    }

    fn no_object(&mut self, place: &Place, reason: &str) {
        if self.named {
            self.fault(Rule::NoObject, &place.file, place.document, place.line, reason);
        } else {
            self.input.others += 1;
        }
    }
}

/// Folders in it too, in the order of their names. A link to a folder is not followed: it may lead back.
fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let mut entries: Vec<_> = std::fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let wanted =
            path.extension().is_some_and(|e| EXTENSIONS.iter().any(|known| e.eq_ignore_ascii_case(known)));
        if entry.file_type()?.is_dir() {
            walk(&path, found)?;
        } else if wanted && path.is_file() {
            if found.len() == FILES_MAX {
                return Err(std::io::Error::other(format!(
                    "more than {FILES_MAX} files; name folders in it"
                )));
            }
            found.push(path);
        }
    }
    Ok(())
}

/// By the brackets alone, those in texts too: in those, too, most are closed.
fn deeper(text: &str) -> bool {
    let mut depth = 0_usize;
    text.bytes().any(|byte| {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth > DEPTH_MAX
    })
}

/// One document of a file.
struct Document<'t> {
    /// Of its first line, from 1.
    line: usize,
    text: &'t str,
    /// Or the line and what is wrong.
    value: Result<Value, (usize, String)>,
}

fn documents(text: &str) -> Vec<Document<'_>> {
    let text = text.trim_start_matches('\u{feff}');
    if text.trim_start().starts_with(['{', '['])
        && let Some(documents) = json(text)
    {
        return documents;
    }
    parts(text).into_iter().filter_map(|(line, part)| yaml(line, part)).collect()
}

/// Values of JSON one after the other. `None`: it may be YAML that begins like it, or that stands between them.
fn json(text: &str) -> Option<Vec<Document<'_>>> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let (mut documents, mut start, mut line) = (Vec::new(), 0, 1);
    let divided = || text.lines().any(|line| line.starts_with("---"));
    while let Some(value) = values.next() {
        let end = if value.is_ok() { values.byte_offset() } else { text.len() };
        let begin = start + (text[start..].len() - text[start..].trim_start().len());
        line += text[start..begin].matches('\n').count();
        if value.is_err() && (documents.is_empty() || divided()) {
            return None;
        }
        let value = value.map_err(|error| (error.line(), error.to_string()));
        documents.push(Document { line, text: &text[begin..end], value });
        line += text[begin..end].matches('\n').count();
        start = end;
    }
    Some(documents)
}

/// Split where kubectl splits, so that a fault in one document hides no other.
fn parts(text: &str) -> Vec<(usize, &str)> {
    let (mut parts, mut start, mut first, mut at) = (Vec::new(), 0, 1, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let ends = line.strip_prefix("---").is_some_and(|rest| {
            let rest = rest.trim();
            rest.is_empty() || rest.starts_with('#')
        });
        if ends {
            parts.push((first, &text[start..at]));
            (start, first) = (at + line.len(), number + 2);
        }
        at += line.len();
    }
    parts.push((first, &text[start..]));
    parts
}

/// `None` where nothing stands in it.
fn yaml(line: usize, text: &str) -> Option<Document<'_>> {
    let value = match parse(text) {
        Ok(Value::Null) => return None,
        Ok(value) => Ok(value),
        // Read once more where it stands, so that every line that the sentence names is the file's.
        Err(_) => {
            let moved = format!("{}{text}", "\n".repeat(line - 1));
            parse(&moved).map_err(|error| (error.location().map_or(line, |at| at.line()), error.to_string()))
        }
    };
    let blank = text.lines().take_while(|l| l.trim().is_empty() || l.trim_start().starts_with('#')).count();
    Some(Document { line: line + blank, text, value })
}

fn parse(text: &str) -> Result<Value, serde_yaml_ng::Error> {
    let mut value = serde_yaml_ng::Value::deserialize(serde_yaml_ng::Deserializer::from_str(text))?;
    value.apply_merge()?;
    Ok(as_json(value))
}

/// As kubectl makes JSON of it: keys that are numbers or truth values become texts.
fn as_json(value: serde_yaml_ng::Value) -> Value {
    use serde_yaml_ng::Value as Yaml;
    match value {
        Yaml::Null => Value::Null,
        Yaml::Bool(truth) => Value::Bool(truth),
        Yaml::Number(number) => serde_json::to_value(number).unwrap_or_default(),
        Yaml::String(text) => Value::String(text),
        Yaml::Sequence(items) => items.into_iter().map(as_json).collect(),
        Yaml::Mapping(entries) => {
            let text = |key| match as_json(key) {
                Value::String(text) => text,
                other => other.to_string(),
            };
            Value::Object(entries.into_iter().map(|(k, v)| (text(k), as_json(v))).collect::<Map<_, _>>())
        }
        Yaml::Tagged(tagged) => as_json(tagged.value),
    }
}

/// Words without quotes behind the traffic key, each with the number of its line from 0.
fn unquoted(text: &str) -> Vec<(usize, &str)> {
    let first = text.lines().take_while(|l| l.trim().is_empty() || l.trim_start().starts_with('#')).count();
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for (at, _) in line.match_indices(key::TRAFFIC) {
            let rest = line[at + key::TRAFFIC.len()..].trim_start_matches(['"', '\'']).trim_start();
            let comment = line[..at].trim_start().starts_with('#') || line[..at].contains(" #");
            let Some(value) = rest.strip_prefix(':').filter(|_| !comment) else { continue };
            let word = value.trim_start().split([' ', ',', '}', '#', '\t']).next().unwrap_or_default();
            if BOOLEANS.iter().any(|known| word.eq_ignore_ascii_case(known)) {
                found.push((number.saturating_sub(first), word));
            }
        }
    }
    found
}

/// Texts that are such words, with their fields.
fn booleans(value: &Value, at: &str, found: &mut Vec<(String, String)>) {
    match value {
        Value::String(text) if BOOLEANS.iter().any(|known| text.eq_ignore_ascii_case(known)) => {
            found.push((at.to_owned(), text.clone()));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, item)| booleans(item, &format!("{at}[{i}]"), found));
        }
        Value::Object(map) => {
            map.iter().for_each(|(name, value)| booleans(value, &format!("{at}.{name}"), found));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Whether the traffic key has this value anywhere in it.
fn says(value: &Value, word: &str) -> bool {
    let is = |value: &Value| match value {
        Value::String(text) => text == word,
        Value::Bool(truth) => word.eq_ignore_ascii_case(&truth.to_string()),
        Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_) => false,
    };
    match value {
        Value::Object(map) => map.get(key::TRAFFIC).is_some_and(is) || map.values().any(|v| says(v, word)),
        Value::Array(items) => items.iter().any(|item| says(item, word)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(text: &str) -> Input {
        read(&["-".into()], text.as_bytes(), "default")
    }

    /// Document, line and name of each object.
    fn objects(text: &str) -> Vec<(usize, usize, String)> {
        of(text).objects.into_iter().map(|o| (o.place.document, o.place.line, o.name)).collect()
    }

    fn named(names: &[(usize, usize, &str)]) -> Vec<(usize, usize, String)> {
        names.iter().map(|(document, line, name)| (*document, *line, (*name).to_owned())).collect()
    }

    #[test]
    fn documents_are_divided_and_numbered_as_people_count_them() {
        let one = |name| format!("kind: A\napiVersion: v1\nmetadata: {{name: {name}}}\n");
        let text = format!("---\n# nothing\n---\n{}--- # next\n\n# why\n{}---\n", one("a"), one("b"));
        assert_eq!(objects(&text), named(&[(1, 4, "a"), (2, 10, "b")]));
        let json = "{\"kind\": \"A\", \"apiVersion\": \"v1\", \"metadata\": {\"name\": \"a\"}}";
        let streams = named(&[(1, 1, "a"), (2, 2, "a")]);
        assert_eq!(objects(&format!("{json}\n{json}\n")), streams);
        assert_eq!(objects(&format!("{json}\n---\n{json}\n")), named(&[(1, 1, "a"), (2, 3, "a")]));
        let windows = format!("{}---\r\n{}", one("a"), one("b")).replace('\n', "\r\n");
        assert_eq!(objects(&windows).len(), 2);
    }

    #[test]
    fn brackets_without_end_are_refused_before_they_cost_anything() {
        for open in ["[", "{\"a\":"] {
            let input = of(&format!("a: {}", open.repeat(1_000_000)));
            assert_eq!((input.findings.len(), input.findings[0].rule), (1, Rule::Unreadable));
            assert!(input.findings[0].reason.contains("brackets"), "{:?}", input.findings);
        }
        assert!(!deeper(&"[]{}".repeat(DEPTH_MAX)));
    }

    #[test]
    fn lists_merge_keys_and_numbers_as_keys_are_read_as_kubectl_reads_them() {
        let list = "{kind: List, apiVersion: v1, items: [{kind: A, apiVersion: v1, metadata: {name: a}}, {kind: B, apiVersion: g/v2, metadata: {name: b, namespace: n}}]}";
        let read = of(list).objects;
        let told: Vec<_> =
            read.iter().map(|o| format!("{}/{} {}", o.group, o.version, o.subject())).collect();
        assert_eq!(told, ["/v1 A default/a", "g/v2 B n/b"]);
        let merged =
            of("base: &b {x: 1}\nkind: A\napiVersion: v1\nmetadata: {name: a}\ndata: {<<: *b, 1: z}\n");
        assert_eq!(merged.objects[0].value["data"], serde_json::json!({"x": 1, "1": "z"}));
    }

    #[test]
    fn a_fault_is_told_with_its_line_in_the_file() {
        let found = of("kind: A\napiVersion: v1\nmetadata: {name: a}\n---\na: 1\nb: [\n---\nc: 1\nc: 2\n");
        let faults: Vec<_> =
            found.findings.iter().map(|f| (f.rule, f.place.document, f.place.line)).collect();
        assert_eq!(faults[0], (Rule::Unreadable, 2, 7));
        assert_eq!((faults[1].0, faults[1].1), (Rule::Unreadable, 3));
        assert!(found.findings[1].reason.contains("duplicate"), "{:?}", found.findings);
        assert_eq!(found.objects.len(), 1);
    }

    #[test]
    fn words_without_quotes_are_found_with_their_line_and_only_where_they_are_values() {
        let label = "# why\nkind: Pod\napiVersion: v1\nmetadata:\n  name: a\n  labels:\n    kubervisor/traffic: yes # now\n";
        let found = of(label).findings;
        assert_eq!((found.len(), found[0].rule, found[0].place.line), (1, Rule::UnquotedYes, 7));
        assert!(of(&label.replace("yes", "'yes'")).findings.is_empty());
        assert!(of(&label.replace("    kub", "    # kub")).findings.is_empty());
        let listed = |value: &str| {
            let spec = format!("spec: {{goodValues: [{value}]}}");
            of(&format!("kind: A\napiVersion: kubervisor.k8s.io/v1alpha1\nmetadata: {{name: a}}\n{spec}\n"))
                .findings
        };
        assert_eq!(listed("on")[0].field.as_deref(), Some("spec.goodValues[0]"));
        assert!(listed("\"on\"").is_empty() && listed("'on'").is_empty() && listed("one").is_empty());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_or_be_silent(text in "([-a-c0-1{}\\[\\]:,#&*!\"' \n]{0,40}(---)?\n?){0,4}|\\PC{0,60}") {
            let read = of(&text);
            prop_assert!(!read.findings.is_empty() || !read.objects.is_empty());
        }
    }
}
