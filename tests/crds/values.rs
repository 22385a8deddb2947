//! The chart's README: what stands in values.yaml, with the comments above it.

const HEAD: &str = "\
# The chart kubervisor

Installs the controller, with the rights that it uses and no other, and the definition of `KubervisorService`.

```sh
helm install kubervisor charts/kubervisor --namespace kubervisor --create-namespace \\
  --set image.repository=registry.example.com/kubervisor --set prometheus.url=prometheus.monitoring:9090
```

Where a controller of an earlier day has registered the definition itself, the first installation takes
`--take-ownership --force-conflicts` (helm 3 has and needs the first alone, from 3.17 on), and where a release of another name or
namespace has left it, `--take-ownership`. The definition stays when the release goes, and every KubervisorService with it. Every
pod is given back [before the release is uninstalled](../../docs/operating.md#uninstall), and the pods of a namespace
[before it leaves `scope.namespaces`](../../docs/operating.md#take-a-namespace-out-of-the-scope).

What a value may be is checked by `values.schema.json`: a name that is not known is refused. `make reference` writes
this page from `values.yaml`.

| value | default | meaning |
|---|---|---|
";

/// One row for each value that is no group of others.
pub fn reference(values: &str) -> String {
    let mut page = HEAD.to_owned();
    let (mut path, mut notes): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    for line in values.lines() {
        let (depth, text) = ((line.len() - line.trim_start().len()) / 2, line.trim());
        if let Some(note) = text.strip_prefix('#') {
            notes.push(note.trim());
            continue;
        }
        let Some((key, value)) = text.split_once(':') else {
            notes.clear();
            continue;
        };
        path.truncate(depth);
        path.push(key);
        if !value.is_empty() {
            let (name, meaning) = (path.join("."), notes.join(" "));
            page.push_str(&format!("| `{name}` | `{}` | {meaning} |\n", value.trim()));
        }
        notes.clear();
    }
    page
}
