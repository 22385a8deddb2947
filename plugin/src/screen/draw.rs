//! The state as a picture. Takes the state and the time; gives no more than the frame.

use jiff::Timestamp;
use kubervisor::api::{FleetStatus, State as Word};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

use super::state::{CHROME, Entry, Key, PAGE_CHROME, State};
use crate::bar::{Cell, cells, legend};
use crate::words::plain;
use crate::{age, describe};

/// Columns between two columns.
const GAP: usize = 2;
/// The longest name that is shown whole.
const NAME_MAX: usize = 36;
/// A fleet is given so many columns before headroom and acts are.
const FLEET_MIN: usize = 24;
/// And no more than this.
const FLEET_MAX: usize = 64;
/// Less of an act says nothing.
const ACT_MIN: usize = 12;

const LIST_KEYS: &str = "q quit  up/down select  Enter open  / filter  s troubled first";
const PAGE_KEYS: &str = "q quit  Esc back  up/down scroll  PgUp PgDn";

/// Draws it.
pub fn draw(frame: &mut Frame<'_>, state: &State, now: Timestamp) {
    let area = frame.area();
    let lines = match state.depth() {
        Some(from) => page(state, from, now, area.height),
        None => list(state, now, area),
    };
    for (line, y) in lines.into_iter().zip(area.y..area.bottom()) {
        frame.render_widget(line, Rect { y, height: 1, ..area });
    }
}

/// A style, where there may be colours.
fn coloured(state: &State, colour: Color) -> Style {
    if state.look.colour { Style::new().fg(colour) } else { Style::new() }
}

fn title(state: &State, text: String) -> Line<'static> {
    match &state.lost {
        Some(why) => {
            let said = format!("disconnected, trying again: {}", plain(why));
            Line::styled(said, coloured(state, Color::Red).add_modifier(Modifier::BOLD))
        }
        None => Line::styled(text, Style::new().add_modifier(Modifier::BOLD)),
    }
}

/// The page of one.
fn page(state: &State, from: usize, now: Timestamp, height: u16) -> Vec<Line<'static>> {
    let (all, rows) = (state.page(now), usize::from(height.saturating_sub(PAGE_CHROME)).max(1));
    let name = state.selected().map_or_else(String::new, |(key, _)| format!("{}/{}", key.0, key.1));
    let (all_lines, to) = (all.len(), (from + rows).min(all.len()));
    let mut lines = vec![title(state, format!("{name}  lines {} to {to} of {all_lines}", from + 1))];
    lines.extend(all.into_iter().skip(from).take(rows).map(Line::raw));
    lines.resize(rows + 1, Line::default());
    lines.push(Line::styled(PAGE_KEYS, Style::new().add_modifier(Modifier::DIM)));
    lines
}

/// All of them.
fn list(state: &State, now: Timestamp, area: Rect) -> Vec<Line<'static>> {
    let rows = usize::from(area.height.saturating_sub(CHROME)).max(1);
    let seen: Vec<_> = state.seen().collect();
    let columns = Columns::fit(state, &seen, usize::from(area.width), now);
    let (all, troubled) = state.counts();
    let place = state.look.scope.as_ref().map_or("all namespaces".to_owned(), |scope| plain(scope));
    let of = if seen.len() == all { all.to_string() } else { format!("{} of {all}", seen.len()) };
    let s = if all == 1 { "" } else { "s" };
    let first = if state.troubled_first { ", troubled first" } else { "" };
    let mut lines = vec![
        title(state, format!("{place}: {of} KubervisorService{s}, {troubled} troubled{first}")),
        Line::styled(columns.headers(), Style::new().add_modifier(Modifier::DIM)),
    ];
    let selected = state.selected().map(|(key, _)| key);
    for (key, entry) in seen.iter().skip(state.top).take(rows) {
        lines.push(columns.row(state, key, entry, Some(*key) == selected, now));
    }
    if seen.is_empty() {
        lines.push(Line::raw(nothing(state, all)));
    }
    lines.resize(rows + 2, Line::default());
    lines.push(Line::raw(if seen.is_empty() { String::new() } else { why(state, now) }));
    let scaled = seen.iter().any(|(_, entry)| columns.scaled(entry));
    let scaled = if scaled { "  1:n a sign is n pods" } else { "" };
    let dim = Style::new().add_modifier(Modifier::DIM);
    lines.push(Line::styled(format!("{}{scaled}", legend(state.look.utf8)), dim));
    lines.push(match (state.typing, state.filter.as_str()) {
        (true, filter) => Line::raw(format!("/{}_  Enter keep  Esc clear", plain(filter))),
        (false, "") => Line::styled(LIST_KEYS, dim),
        (false, filter) => Line::styled(format!("filter {:?}, Esc clears  {LIST_KEYS}", plain(filter)), dim),
    });
    lines
}

fn nothing(state: &State, all: usize) -> String {
    match &state.look.scope {
        _ if all > 0 => format!("No name holds {:?}.", plain(&state.filter)),
        Some(scope) => format!("No KubervisorService is in namespace {}.", plain(scope)),
        None => "No KubervisorService is in this cluster.".to_owned(),
    }
}

/// What is with the selected one, in a line.
fn why(state: &State, now: Timestamp) -> String {
    let Some((key, entry)) = state.selected() else { return String::new() };
    let status = &entry.status;
    let held = status.conditions.iter().find(|c| c.type_ == "Held" && c.status == "True");
    let what = if let Some(c) = held.or_else(|| describe::wrong(&status.conditions).next()) {
        let not = if c.status == "False" { "not " } else { "" };
        let since = age::since(c.last_transition_time.as_deref(), now);
        let message = c.message.as_deref().filter(|m| !m.is_empty()).or(c.reason.as_deref());
        format!("{not}{} for {since}: {}", c.type_, message.unwrap_or_default())
    } else if let Some(cut) = status.cut.first() {
        format!("{} is out: {}", cut.pod, cut.why.as_deref().unwrap_or("by hand"))
    } else if status.state.is_none() {
        "no controller has looked at it yet".to_owned()
    } else {
        "nothing is wrong".to_owned()
    };
    plain(&format!("{}: {what}", key.1))
}

/// Which columns there are, and how wide; 0: there is no room for it.
#[derive(Debug, Default)]
struct Columns {
    name: usize,
    state: usize,
    fleet: usize,
    serving: usize,
    headroom: usize,
    act: usize,
}

impl Columns {
    /// Names, states and counts first; then some of the fleet, headroom, the last act, and all of the fleet.
    fn fit(state: &State, seen: &[(&Key, &Entry)], width: usize, now: Timestamp) -> Self {
        let widest = |least: &str, text: &dyn Fn(&(&Key, &Entry)) -> String| {
            seen.iter().map(|row| text(row).chars().count()).max().unwrap_or(0).max(least.len())
        };
        let name = widest("NAME", &|row| label(state, row.0)).min(NAME_MAX).min(width / 3);
        let word = widest("STATE", &|row| row.1.word().to_owned()).min((width / 5).max(8));
        let serving = widest("SERVING", &|row| serving(row.1));
        let headroom = widest("HEADROOM", &|row| headroom(row.1));
        let fleet = widest("FLEET", &|row| {
            let members = row.1.status.fleet.as_ref().map_or(0, |fleet| fleet.members.clamp(0, 1_000));
            // The ends and the floor.
            " ".repeat(usize::try_from(members).unwrap_or(0) + 3)
        });
        let fleet = fleet.min(FLEET_MAX);
        let act = widest("LAST ACT", &|row| last_act(row.1, now));
        let mut left = width.saturating_sub(2 + name + word + serving + 3 * GAP);
        let mut columns =
            Self { name, state: word, serving, fleet: fleet.min(FLEET_MIN).min(left), ..Self::default() };
        left -= columns.fleet;
        if left >= headroom + GAP {
            columns.headroom = headroom;
            left -= headroom + GAP;
        }
        if left >= ACT_MIN + GAP {
            left -= GAP;
            // The rest is shared.
            let more = (fleet - columns.fleet).min(left.saturating_sub(act).max((left - ACT_MIN) / 2));
            columns.fleet += more;
            columns.act = left - more;
        }
        columns
    }

    fn headers(&self) -> String {
        let heads = [
            (self.name, "NAME"),
            (self.state, "STATE"),
            (self.fleet, "FLEET"),
            (self.serving, "SERVING"),
            (self.headroom, "HEADROOM"),
            (self.act, "LAST ACT"),
        ];
        let heads = heads.into_iter().filter(|(width, _)| *width > 0);
        let heads: Vec<_> = heads.map(|(width, head)| fitted(head, width)).collect();
        format!("  {}", heads.join("  "))
    }

    fn row(&self, state: &State, key: &Key, entry: &Entry, selected: bool, now: Timestamp) -> Line<'static> {
        let gap = || Span::raw(" ".repeat(GAP));
        let word = Span::styled(fitted(entry.word(), self.state), colour_of(state, entry));
        let mut spans = vec![
            Span::raw(if selected { "> " } else { "  " }),
            Span::raw(fitted(&label(state, key), self.name)),
            gap(),
            word,
            gap(),
        ];
        spans.extend(self.fleet(state, entry));
        spans.extend([gap(), Span::raw(fitted(&serving(entry), self.serving))]);
        for (width, text) in [(self.headroom, headroom(entry)), (self.act, last_act(entry, now))] {
            if width > 0 {
                spans.extend([gap(), Span::raw(fitted(&text, width))]);
            }
        }
        let line = Line::from(spans);
        if selected { line.style(Style::new().add_modifier(Modifier::REVERSED)) } else { line }
    }

    /// The fleet's row, filled up to the column.
    fn fleet(&self, state: &State, entry: &Entry) -> Vec<Span<'static>> {
        let Some(fleet) = &entry.status.fleet else {
            return vec![Span::raw(fitted("not counted yet", self.fleet))];
        };
        let (row, scale) = self.cells(fleet);
        let mut spans = vec![Span::raw("[")];
        for run in row.chunk_by(|a, b| a == b) {
            let sign: String = run.iter().map(|cell| cell.sign(state.look.utf8)).collect();
            let style = match run[0] {
                Cell::Serving => coloured(state, Color::Green),
                Cell::Cut => coloured(state, Color::Red),
                Cell::Paused => coloured(state, Color::Yellow),
                Cell::Other | Cell::Floor => Style::new(),
            };
            spans.push(Span::styled(sign, style));
        }
        let used = 1 + row.len();
        spans.push(Span::raw(fitted(&format!("]{scale}"), self.fleet.saturating_sub(used))));
        spans
    }

    /// Its cells, and how many pods each is where that is not one.
    fn cells(&self, fleet: &FleetStatus) -> (Vec<Cell>, String) {
        let most = self.fleet.saturating_sub(3);
        let (row, each) = cells(fleet, most);
        if each == 1 {
            return (row, String::new());
        }
        // The scale itself takes room, and a longer one more of it.
        let room = (1..most).rev().find_map(|most| {
            let (row, each) = cells(fleet, most);
            let scale = format!(" 1:{each}");
            (row.len() + 2 + scale.len() <= self.fleet).then_some((row, scale))
        });
        room.unwrap_or_default()
    }

    fn scaled(&self, entry: &Entry) -> bool {
        entry.status.fleet.as_ref().is_some_and(|fleet| !self.cells(fleet).1.is_empty())
    }
}

fn colour_of(state: &State, entry: &Entry) -> Style {
    match entry.status.state {
        Some(Word::Running) => coloured(state, Color::Green),
        Some(Word::Held | Word::NotActivated) => coloured(state, Color::Yellow),
        Some(Word::InitFailed | Word::ServiceNotAvailable | Word::Conflict) => coloured(state, Color::Red),
        Some(Word::DryRun | Word::Disabled) | None => Style::new(),
    }
}

fn label(state: &State, (namespace, name): &Key) -> String {
    plain(&if state.look.scope.is_some() { name.clone() } else { format!("{namespace}/{name}") })
}

fn serving(entry: &Entry) -> String {
    let fleet = entry.status.fleet.as_ref();
    fleet.map_or_else(String::new, |f| format!("{}/{} floor {}", f.serving, f.members, f.floor))
}

fn headroom(entry: &Entry) -> String {
    let Some(fleet) = &entry.status.fleet else { return String::new() };
    plain(&format!("{} {}", fleet.headroom, fleet.limited_by.as_deref().unwrap_or_default()))
}

fn last_act(entry: &Entry, now: Timestamp) -> String {
    let Some((at, what)) = entry.status.recent.last().and_then(|act| act.split_once(' ')) else {
        return String::new();
    };
    plain(&format!("{} {what}", age::since(Some(at), now)))
}

/// In exactly so many columns; what was cut off is marked.
fn fitted(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return format!("{text:<width$}");
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    if width > 0 {
        short.push('~');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::news::News;
    use crate::screen::state::Look;
    use crate::testing::{now, objects};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::{KeyCode, KeyEvent};
    use serde_json::{Value, json};

    fn look() -> Look {
        Look { utf8: true, colour: true, scope: Some("shop".into()) }
    }

    fn drawn(state: &State, (width, height): (u16, u16)) -> TestBackend {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, state, now())).unwrap();
        terminal.backend().clone()
    }

    fn one(name: &str, status: &Value) -> Value {
        json!({"metadata": {"namespace": "shop", "name": name}, "spec": {"service": name}, "status": status})
    }

    /// Beside those of the other tests: one that a storm holds, one at its floor, a large one.
    fn many() -> Vec<Value> {
        let mut all = objects();
        let fleet = |members: i64, serving: i64, cut: i64, floor: i64, headroom: i64, by: &str| json!({"members": members, "serving": serving, "cut": cut, "floor": floor, "headroom": headroom, "limitedBy": by});
        let condition = |of: &str, message: &str| {
            json!([{"type": of, "status": "True", "reason": of, "message": message,
                "lastTransitionTime": "2026-03-01T11:58:00Z"}])
        };
        all.push(one(
            "orders",
            &json!({"state": "Held", "fleet": fleet(10, 10, 0, 5, 0, "storm"),
            "conditions": condition("Held", "10 of 10 pods are anomalous or cut, more than 50 %")}),
        ));
        all.push(one(
            "prices",
            &json!({"state": "Running", "fleet": fleet(6, 3, 3, 3, 0, "floor"),
            "conditions": condition("FloorReached", "3 must serve"),
            "recent": ["2026-03-01T11:57:00Z PodCut prices-2: cut by errors: bad 90 % > 30 % of 50"]}),
        ));
        all.push(one(
            "search",
            &json!({"state": "Running", "fleet": fleet(1_200, 1_199, 1, 600, 40, "maxCutsPerPeriod")}),
        ));
        all.push(one("web", &json!({"state": "ServiceNotAvailable"})));
        all
    }

    fn at(size: (u16, u16), look: Look, objects: Vec<Value>) -> State {
        State::new(look, objects, size)
    }

    #[test]
    fn several_services() {
        let size = (120, 15);
        insta::assert_snapshot!(drawn(&at(size, look(), many()), size));
    }

    #[test]
    fn one_that_a_storm_holds_and_one_at_its_floor_say_why() {
        let size = (80, 13);
        let mut state = at(size, look(), many());
        state.on(KeyEvent::from(KeyCode::Char('s')));
        for _ in 0..3 {
            state.on(KeyEvent::from(KeyCode::Down));
        }
        insta::assert_snapshot!(drawn(&state, size));
        state.on(KeyEvent::from(KeyCode::Down));
        let text = drawn(&state, size).to_string();
        assert!(text.contains("prices: FloorReached for 2m: 3 must serve"), "{text}");
    }

    #[test]
    fn a_narrow_terminal_in_ascii() {
        let size = (60, 15);
        insta::assert_snapshot!(drawn(&at(size, Look { utf8: false, ..look() }, many()), size));
    }

    #[test]
    fn no_service_at_all_and_none_of_that_name() {
        let size = (80, 8);
        let mut state = at(size, Look { scope: None, ..look() }, Vec::new());
        let empty = drawn(&state, size).to_string();
        assert!(empty.contains("No KubervisorService is in this cluster."), "{empty}");
        state.hear(News::All(objects()));
        for c in "/zz".chars() {
            state.on(KeyEvent::from(KeyCode::Char(c)));
        }
        insta::assert_snapshot!(drawn(&state, size));
    }

    #[test]
    fn a_broken_watch_is_told_above_what_was_known() {
        let size = (80, 9);
        let mut state = at(size, look(), objects());
        state.hear(News::Lost(anyhow::anyhow!("the API server cannot be reached")));
        insta::assert_snapshot!(drawn(&state, size));
    }

    #[test]
    fn one_in_depth() {
        let size = (80, 24);
        let mut state = at(size, look(), objects());
        state.on(KeyEvent::from(KeyCode::Down));
        state.on(KeyEvent::from(KeyCode::Enter));
        insta::assert_snapshot!(drawn(&state, size));
    }

    #[test]
    fn a_word_has_its_colour_and_none_where_colours_are_not_wanted() {
        let size = (120, 15);
        let colour = |look: Look, row: u16| {
            let backend = drawn(&at(size, look, many()), size);
            let text: String = (0..size.0).map(|x| backend.buffer()[(x, row)].symbol().to_owned()).collect();
            let words = ["Running", "Held", "ServiceNotAvailable"];
            let x = words.iter().find_map(|word| text.find(word)).unwrap();
            backend.buffer()[(u16::try_from(x).unwrap(), row)].fg
        };
        assert_eq!([3, 6, 8].map(|row| colour(look(), row)), [Color::Yellow, Color::Green, Color::Red]);
        let plain = drawn(&at(size, Look { colour: false, ..look() }, many()), size);
        assert!(plain.buffer().content().iter().all(|cell| cell.fg == Color::Reset));
    }

    #[test]
    fn no_size_is_too_small() {
        for size in [(1, 1), (5, 2), (20, 5), (300, 100)] {
            let mut state = at(size, look(), many());
            drawn(&state, size);
            state.on(KeyEvent::from(KeyCode::Enter));
            drawn(&state, size);
        }
    }

    #[test]
    fn what_an_object_holds_cannot_move_the_cursor() {
        let evil = one(
            "evil\u{1b}[2J",
            &json!({"state": "Running", "recent": ["2026-03-01T11:57:00Z \u{1b}]0;x\u{7}"]}),
        );
        let size = (120, 8);
        let backend = drawn(&at(size, look(), vec![evil]), size);
        assert!(backend.buffer().content().iter().all(|cell| !cell.symbol().contains(char::is_control)));
    }
}
