//! `get -w`: the list, then a row for each change, as kubectl prints them.

use std::collections::BTreeMap;
use std::pin::pin;

use futures::{Stream, StreamExt};
use jiff::Timestamp;
use kube::runtime::watcher;
use serde_json::Value;

use crate::args::{GetArgs, Output};
use crate::get::{Columns, columns, names, nothing};
use crate::news::{News, news};
use crate::objects::{name, namespace, strip, text};
use crate::out::{formed, print, say};
use crate::reach::Cluster;
use crate::table::{Table, Widths};

/// Prints until nobody reads, or the server no longer allows it.
///
/// # Errors
/// The server's refusal.
pub async fn run(cluster: &Cluster, args: &GetArgs) -> anyhow::Result<()> {
    anyhow::ensure!(
        args.names.len() < 2,
        "watch is only supported on individual resources and resource collections: name one, or none"
    );
    let mut config = watcher::Config::default();
    if let Some(wanted) = args.names.first() {
        let found = crate::objects::one(cluster, wanted).await?;
        config = config.fields(&format!("metadata.name={}", crate::objects::name(&found)));
    }
    if let Some(selector) = &args.selector {
        config = config.labels(selector);
    }
    follow(news(cluster, config), Printer::new(columns(cluster, args), args), &nothing(cluster)).await
}

/// Prints what is told.
async fn follow(news: impl Stream<Item = News>, mut printer: Printer, nothing: &str) -> anyhow::Result<()> {
    let mut news = pin!(news);
    let (mut first, mut troubled) = (true, false);
    while let Some(told) = news.next().await {
        let objects = match told {
            News::All(objects) => {
                if first && objects.is_empty() {
                    say(nothing);
                }
                objects
            }
            News::Set(object) | News::Gone(object) => vec![object],
            News::Lost(why) => {
                // One that was there once may come back: an API server that restarts is no reason to end.
                if first || matches!(crate::fail::code(&why), Some(401 | 403 | 404)) {
                    return Err(why);
                }
                if !std::mem::replace(&mut troubled, true) {
                    say(&format!("warning: {why:#}; trying again"));
                }
                continue;
            }
        };
        (first, troubled) = (false, false);
        let text = printer.text(objects, Timestamp::now())?;
        if !text.is_empty() {
            print(&text)?;
        }
    }
    Ok(())
}

/// What has been printed so far, and how.
struct Printer {
    columns: Columns,
    output: Option<Output>,
    headers: bool,
    widths: Widths,
    /// The version of each object that was printed last: a list after a broken watch tells most of them again.
    seen: BTreeMap<(String, String), String>,
}

impl Printer {
    fn new(columns: Columns, args: &GetArgs) -> Self {
        let headers = !args.no_headers;
        Self { columns, output: args.output, headers, widths: Widths::default(), seen: BTreeMap::new() }
    }

    /// Those of them that are news.
    fn text(&mut self, objects: Vec<Value>, now: Timestamp) -> anyhow::Result<String> {
        let news: Vec<_> = objects.into_iter().filter(|object| self.is_news(object)).collect();
        match self.output {
            None | Some(Output::Wide) => {
                let mut table = Table::new(&self.columns.headers());
                news.iter().for_each(|object| table.push(self.columns.row(object, now)));
                if table.is_empty() {
                    return Ok(String::new());
                }
                let headers = std::mem::take(&mut self.headers);
                Ok(table.under(headers, &mut self.widths))
            }
            Some(Output::Name) => Ok(names(&news)),
            Some(output) => {
                let Some(form) = output.form() else { return Ok(String::new()) };
                let mut text = String::new();
                for mut object in news {
                    strip(&mut object);
                    if form == crate::args::Form::Yaml {
                        text.push_str("---\n");
                    }
                    text.push_str(&formed(&object, form)?);
                }
                Ok(text)
            }
        }
    }

    fn is_news(&mut self, object: &Value) -> bool {
        let version = text(object, "/metadata/resourceVersion").to_owned();
        let key = (namespace(object).to_owned(), name(object).to_owned());
        self.seen.insert(key, version.clone()) != Some(version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{now, objects};
    use serde_json::json;

    #[test]
    fn a_change_is_a_row_under_the_first_ones_and_what_was_printed_is_no_news() {
        let args = GetArgs::default();
        let mut printer = Printer::new(Columns { all: false, wide: false }, &args);
        let first = printer.text(objects(), now()).unwrap();
        assert_eq!(printer.text(objects(), now()).unwrap(), "", "a list told again");
        let mut changed = objects().remove(0);
        changed["metadata"]["resourceVersion"] = json!("99");
        changed["status"]["fleet"]["cut"] = json!(77);
        let row = printer.text(vec![changed], now()).unwrap();
        assert!(first.starts_with("NAME ") && row.starts_with("checkout "), "{row}");
        let column = |text: &str, what: &str| text.lines().next().unwrap().find(what);
        assert_eq!(column(&row, "77"), column(&first, "CUT"), "{first}{row}");
    }
}
