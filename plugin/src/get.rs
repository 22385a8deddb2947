//! `get`, and the table of the original: KubervisorServices as rows.

use jiff::Timestamp;
use serde_json::Value;

use crate::age;
use crate::args::{GetArgs, Output, Reach};
use crate::objects::{as_list, find, name, namespace, strip, text};
use crate::out::{formed, print, say};
use crate::reach::Cluster;
use crate::table::{Table, Widths};

/// What a row has.
#[derive(Debug, Clone, Copy)]
pub struct Columns {
    /// The namespace first.
    pub all: bool,
    /// What the definition's own columns leave out.
    pub wide: bool,
}

impl Columns {
    /// Their headers: the printer columns of the definition, in its order.
    #[must_use]
    pub fn headers(self) -> Vec<&'static str> {
        let first = if self.all { &["NAMESPACE"][..] } else { &[] };
        let usual = ["NAME", "SERVICE", "STATE", "MEMBERS", "SERVING", "CUT", "PAUSED", "FLOOR", "AGE"];
        let more = ["HEADROOM", "LIMITED BY", "LOAD", "FAILING", "LAST ACT"];
        let more = if self.wide { &more[..] } else { &[] };
        [first, &usual, more].concat()
    }

    /// Their cells.
    #[must_use]
    pub fn row(self, object: &Value, now: Timestamp) -> Vec<String> {
        let at = |pointer: &str| cell(object, pointer);
        let mut row = Vec::new();
        if self.all {
            row.push(namespace(object).to_owned());
        }
        row.extend(["/metadata/name", "/spec/service", "/status/state"].map(at));
        row.extend(
            ["members", "serving", "cut", "paused", "floor"].map(|of| at(&format!("/status/fleet/{of}"))),
        );
        let born = object.pointer("/metadata/creationTimestamp").and_then(Value::as_str);
        row.push(age::since(born, now));
        if self.wide {
            row.extend(["headroom", "limitedBy", "loadFactor"].map(|of| at(&format!("/status/fleet/{of}"))));
            row.push(failing(object));
            row.push(last_act(object));
        }
        row
    }
}

/// A text or a number; nothing where it is missing.
fn cell(object: &Value, pointer: &str) -> String {
    match object.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    }
}

fn items<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Breakers whose source gives no answer to go by.
fn failing(object: &Value) -> String {
    let fails = |breaker: &&Value| !text(breaker, "/error").is_empty();
    let names = items(object, "/status/breakers").iter().filter(fails).map(|breaker| text(breaker, "/name"));
    names.collect::<Vec<_>>().join(",")
}

fn last_act(object: &Value) -> String {
    items(object, "/status/recent").last().and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// A table of them.
#[must_use]
pub fn table(objects: &[Value], columns: Columns, now: Timestamp) -> Table {
    let mut table = Table::new(&columns.headers());
    for object in objects {
        table.push(columns.row(object, now));
    }
    table
}

/// `get`
///
/// # Errors
/// The server's refusal, or names that are not there.
pub async fn run(cluster: &Cluster, args: &GetArgs) -> anyhow::Result<()> {
    let mut found = find(cluster, &args.names, args.selector.as_deref()).await?;
    match args.output {
        None | Some(Output::Wide) if found.objects.is_empty() && found.missing.is_empty() => {
            say(&nothing(cluster));
        }
        None | Some(Output::Wide) => {
            let table = table(&found.objects, columns(cluster, args), Timestamp::now());
            if !table.is_empty() {
                print(&table.under(!args.no_headers, &mut Widths::default()))?;
            }
        }
        Some(Output::Name) => print(&names(&found.objects))?,
        Some(Output::Json | Output::Yaml) => {
            found.objects.iter_mut().for_each(strip);
            let objects = std::mem::take(&mut found.objects);
            print(&structured(objects, args)?)?;
        }
    }
    found.whole()
}

/// What a row has for these flags.
#[must_use]
pub fn columns(cluster: &Cluster, args: &GetArgs) -> Columns {
    Columns { all: cluster.scope.is_none(), wide: args.output == Some(Output::Wide) }
}

/// kind/name, a line for each.
#[must_use]
pub fn names(objects: &[Value]) -> String {
    objects.iter().map(|object| format!("kubervisorservice.kubervisor.k8s.io/{}\n", name(object))).collect()
}

/// The object itself where one was asked for by name, else a List.
fn structured(mut objects: Vec<Value>, args: &GetArgs) -> anyhow::Result<String> {
    let form = args.output.and_then(Output::form).unwrap_or(crate::args::Form::Json);
    let value = match (args.names.len(), objects.len()) {
        (1, 1) => objects.remove(0),
        _ => as_list(&objects),
    };
    formed(&value, form)
}

/// kubectl's sentence for an empty list.
#[must_use]
pub fn nothing(cluster: &Cluster) -> String {
    match &cluster.scope {
        Some(namespace) => format!("No resources found in {namespace} namespace."),
        None => "No resources found".to_owned(),
    }
}

/// No verb: the table that the original's plugin printed.
///
/// # Errors
/// The server's refusal, or a name that is not there.
pub async fn original(reach: &Reach, only: Option<&str>) -> anyhow::Result<()> {
    let cluster = Cluster::reach(reach).await?;
    let names: Vec<String> = only.map(str::to_owned).into_iter().collect();
    let found = find(&cluster, &names, None).await?;
    if found.objects.is_empty() {
        say(&nothing(&cluster));
        return Ok(());
    }
    print(&original_table(&found.objects).text(true))
}

/// With the state as its status, and for an object that only the original has written, what the original made of its
/// conditions.
#[must_use]
pub fn original_table(objects: &[Value]) -> Table {
    let mut table =
        Table::new(&["NAME", "NAMESPACE", "STATUS", "PODS MANAGED", "PODS BREAKED", "PODS PAUSED"]);
    for object in objects {
        let count = |of: &str| match cell(object, &format!("/status/podCount/{of}")) {
            none if none.is_empty() => "0".to_owned(),
            count => count,
        };
        table.push(vec![
            name(object).to_owned(),
            namespace(object).to_owned(),
            status(object),
            count("nbPodsManaged"),
            count("nbPodsBreaked"),
            count("nbPodsPaused"),
        ]);
    }
    table
}

fn status(object: &Value) -> String {
    let state = text(object, "/status/state");
    let holds = |type_: &str| {
        let all = items(object, "/status/conditions").iter();
        all.into_iter().any(|c| text(c, "/type") == type_ && text(c, "/status") == "True")
    };
    let words = ["Running", "InitFailed", "ServiceNotAvailable", "Failed"];
    let word = if state.is_empty() { words.into_iter().find(|word| holds(word)) } else { Some(state) };
    word.unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{now, objects};

    #[test]
    fn the_usual_columns_are_those_of_the_definition() {
        let crd = serde_json::to_value(kubervisor::api::crd()).unwrap();
        let columns = items(&crd, "/spec/versions/0/additionalPrinterColumns").iter();
        let theirs: Vec<_> = columns.map(|column| text(column, "/name").to_uppercase()).collect();
        assert_eq!(Columns { all: false, wide: false }.headers()[1..], theirs);
    }

    #[test]
    fn the_table_of_a_namespace() {
        let columns = Columns { all: false, wide: false };
        insta::assert_snapshot!(table(&objects(), columns, now()).text(true));
    }

    #[test]
    fn the_wide_table_of_all_namespaces() {
        let columns = Columns { all: true, wide: true };
        insta::assert_snapshot!(table(&objects(), columns, now()).text(true));
    }

    #[test]
    fn the_table_of_the_original() {
        insta::assert_snapshot!(original_table(&objects()).text(true));
    }

    #[test]
    fn one_that_was_asked_for_by_name_is_printed_as_itself_and_several_as_a_list() {
        let args = |names: &[&str], output| GetArgs {
            names: names.iter().map(|&name| name.to_owned()).collect(),
            output: Some(output),
            ..GetArgs::default()
        };
        let one = structured(objects()[..1].to_vec(), &args(&["checkout"], Output::Json)).unwrap();
        assert!(one.starts_with("{\n    \"apiVersion\": \"kubervisor.k8s.io/v1alpha1\","), "{one}");
        let all = structured(objects(), &args(&[], Output::Yaml)).unwrap();
        let all: Value = serde_yaml_ng::from_str(&all).unwrap();
        assert_eq!((text(&all, "/kind"), items(&all, "/items").len()), ("List", 3));
        assert_eq!(all["items"][0], objects()[0], "nothing is lost on the way");
    }
}
