//! The schema of KubervisorService as a page of tables.

use std::fmt::Write as _;

use serde_json::{Map, Value};

const HEAD: &str = "\
# KubervisorService

Generated from the schema by `make reference`; a test compares them. The definition itself is
`crds/kubervisorservices.yaml`.

A *duration* is a number of seconds, fractions allowed, or a text such as `500ms` or `2m30s`. A field that is absent
and one that is `null` mean the same. A default is taken by the controller, not stored by the API server. Beyond the
bounds of the schema, the controller refuses (`InitFailed`) an `evaluationPeriod`, a `scrapeInterval` or a range of a
query of more than a day, and a time to answer of 0.
";

/// The page.
pub fn reference() -> String {
    let crd = serde_json::to_value(kubervisor::api::crd()).unwrap();
    let schema = crd.pointer("/spec/versions/0/schema/openAPIV3Schema").unwrap();
    let mut page = HEAD.to_owned();
    for (part, title) in [("spec", "Spec"), ("status", "Status")] {
        let mut rows = Vec::new();
        collect(part, &schema["properties"][part], &mut rows);
        let defaults = part == "spec";
        let (columns, line) = if defaults { ("| default ", "|---") } else { ("", "") };
        let _ = writeln!(
            page,
            "\n## {title}\n\n| field | type {columns}| bound | meaning |\n|---|---{line}|---|---|"
        );
        for Row { field, kind, default, bound, meaning } in rows {
            let default = if defaults { format!("| {default} ") } else { String::new() };
            let _ = writeln!(page, "| `{field}` | {kind} {default}| {bound} | {meaning} |");
        }
    }
    let mut rules = Vec::new();
    collect_rules(schema, &mut rules);
    let _ = writeln!(page, "\n## Refused by the API server\n\nBeside the bounds above:\n");
    for rule in rules {
        let _ = writeln!(page, "- {rule}");
    }
    page
}

struct Row {
    field: String,
    kind: String,
    default: String,
    bound: String,
    meaning: String,
}

/// One row for each field below `path`, parents before their children.
fn collect(path: &str, schema: &Value, rows: &mut Vec<Row>) {
    let required = schema["required"].as_array();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let must = required.is_some_and(|names| names.iter().any(|n| n == name));
        let (default, meaning) = without_default(field["description"].as_str().unwrap_or_default());
        rows.push(Row {
            kind: kind(field),
            default: if must { "required".to_owned() } else { default },
            bound: bound(field).replace('|', "\\|"),
            meaning: meaning.replace('|', "\\|"),
            field: path.clone(),
        });
        collect(&path, field, rows);
        collect(&format!("{path}[]"), &field["items"], rows);
    }
}

/// Every default is told in the description, in a sentence of its own.
fn without_default(text: &str) -> (String, String) {
    let text = text.replace('\n', " ");
    let Some(start) = text.find("Default") else { return (String::new(), text) };
    let sentence = text[start..].split_inclusive(". ").next().unwrap_or_default();
    let default = sentence.trim_start_matches("Default").trim_start_matches(':').trim().trim_end_matches('.');
    let rest = format!("{}{}", &text[..start], &text[start + sentence.len()..]);
    (default.trim_matches('"').to_owned(), rest.trim().to_owned())
}

fn kind(field: &Value) -> String {
    if field["x-kubernetes-int-or-string"] == true {
        return "integer or text".into();
    }
    match (field["type"].as_str(), field["enum"].as_array()) {
        (None, _) if field["x-kubernetes-preserve-unknown-fields"] == true => "duration".into(),
        (_, Some(values)) => values
            .iter()
            .filter(|v| !v.is_null())
            .map(|v| format!("`{}`", text(v)))
            .collect::<Vec<_>>()
            .join(", "),
        (Some("array"), _) => format!("list of {}s", kind(&field["items"])),
        (Some("string"), _) => "text".into(),
        (Some(kind), _) => kind.into(),
        (None, None) => panic!("a field without a type: {field}"),
    }
}

fn bound(field: &Value) -> String {
    let number = |key: &str| field[key].as_f64();
    let duration = kind(field) == "duration";
    let mut bounds = Vec::new();
    match (number("minimum"), number("maximum")) {
        _ if duration => bounds.push("0 to 366 days".to_owned()),
        (Some(least), Some(most)) => bounds.push(format!("{least} to {most}")),
        (Some(least), None) => bounds.push(format!("{least} or more")),
        (None, Some(most)) => bounds.push(format!("at most {most}")),
        (None, None) => {}
    }
    match (number("minItems"), number("maxItems")) {
        _ if duration => {}
        (Some(least), Some(most)) => bounds.push(format!("{least} to {most} of them")),
        (_, Some(most)) => bounds.push(format!("at most {most} of them")),
        _ => {}
    }
    if let (Some(length), false) = (number("maxLength").or(number_of(&field["items"], "maxLength")), duration)
    {
        bounds.push(format!("at most {length} characters"));
    }
    if let (Some(pattern), false) = (field["pattern"].as_str(), duration) {
        bounds.push(format!("`{pattern}`"));
    }
    bounds.join("; ")
}

fn number_of(field: &Value, key: &str) -> Option<f64> {
    field.get(key)?.as_f64()
}

fn collect_rules(schema: &Value, rules: &mut Vec<String>) {
    let own = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
    rules.extend(own.filter_map(|rule| rule["message"].as_str().map(str::to_owned)));
    let none = Map::new();
    schema["properties"].as_object().unwrap_or(&none).values().for_each(|field| collect_rules(field, rules));
    if schema["items"].is_object() {
        collect_rules(&schema["items"], rules);
    }
    if schema["x-kubernetes-list-map-keys"].is_array() {
        let keys: Vec<_> =
            schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten().map(text).collect();
        let of =
            schema["items"]["description"].as_str().unwrap_or_default().split('.').next().unwrap_or_default();
        rules.push(format!("two entries with the same {} ({of})", keys.join(", ")));
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
