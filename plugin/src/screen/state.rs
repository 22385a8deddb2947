//! What the screen shows and how keys and news change it. No terminal, no clock, no network.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kubervisor::api::{KubervisorServiceStatus, State as Word};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use serde_json::Value;

use crate::describe;
use crate::news::News;
use crate::objects::{name, namespace, strip};
use crate::words::wrapped;

/// Namespace and name.
pub type Key = (String, String);

/// Lines of the screen that are no rows: the title, the headers, why, the legend, the keys.
pub const CHROME: u16 = 5;
/// The same of the page of one: the title and the keys.
pub const PAGE_CHROME: u16 = 2;

/// What does not change while it runs.
#[derive(Debug, Clone)]
pub struct Look {
    /// Whether more than ASCII can be shown.
    pub utf8: bool,
    /// Whether there may be colours.
    pub colour: bool,
    /// `None`: every namespace.
    pub scope: Option<String>,
}

/// What follows a key.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// The screen goes on.
    Stay,
    /// It ends.
    Leave,
}

/// A KubervisorService.
#[derive(Debug)]
pub struct Entry {
    object: Value,
    /// Read once, not at each draw.
    pub status: KubervisorServiceStatus,
    /// Whether something is wrong, or a member is out.
    pub troubled: bool,
}

impl Entry {
    fn new(mut object: Value) -> Self {
        strip(&mut object);
        let status = describe::status(&object);
        let well = matches!(status.state, Some(Word::Running | Word::DryRun | Word::Disabled));
        let out = status.fleet.as_ref().is_some_and(|fleet| fleet.cut + fleet.paused > 0);
        let fails = status.breakers.iter().any(|breaker| !breaker.error.is_empty());
        let troubled = !well || out || fails || describe::wrong(&status.conditions).next().is_some();
        Self { object, status, troubled }
    }

    /// Its state in a word.
    #[must_use]
    pub fn word(&self) -> &'static str {
        self.status.state.map_or("unknown", Word::as_str)
    }
}

/// All that the screen knows.
#[derive(Debug)]
pub struct State {
    /// How it is drawn.
    pub look: Look,
    /// Why nothing is heard, while that is so.
    pub lost: Option<String>,
    /// Those with something wrong or a member out come first.
    pub troubled_first: bool,
    /// Part of a name.
    pub filter: String,
    /// Keys go to the filter.
    pub typing: bool,
    /// The first row that is seen.
    pub top: usize,
    entries: BTreeMap<Key, Entry>,
    selected: Option<Key>,
    /// The first line of the page of the selected one, while that is open.
    depth: Option<usize>,
    width: u16,
    height: u16,
}

impl State {
    /// With these objects, on a screen of this size.
    #[must_use]
    pub fn new(look: Look, objects: Vec<Value>, (width, height): (u16, u16)) -> Self {
        let mut state = Self {
            look,
            lost: None,
            troubled_first: false,
            filter: String::new(),
            typing: false,
            top: 0,
            entries: BTreeMap::new(),
            selected: None,
            depth: None,
            width,
            height,
        };
        state.hear(News::All(objects));
        state
    }

    /// The screen has another size.
    pub fn resize(&mut self, width: u16, height: u16) {
        (self.width, self.height) = (width, height);
        self.settle();
    }

    /// Takes news in.
    pub fn hear(&mut self, news: News) {
        let key = |object: &Value| (namespace(object).to_owned(), name(object).to_owned());
        match news {
            // What was known stays on the screen.
            News::Lost(why) => return self.lost = Some(format!("{why:#}")),
            News::All(objects) => {
                self.entries = objects.into_iter().map(|object| (key(&object), Entry::new(object))).collect();
            }
            News::Set(object) => {
                self.entries.insert(key(&object), Entry::new(object));
            }
            News::Gone(object) => {
                self.entries.remove(&key(&object));
            }
        }
        self.lost = None;
        self.settle();
    }

    /// A key was pressed.
    pub fn on(&mut self, key: KeyEvent) -> Step {
        if key.kind == KeyEventKind::Release {
            return Step::Stay;
        }
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            return Step::Leave;
        }
        if self.typing {
            self.typed(key.code);
        } else if key.code == KeyCode::Char('q') {
            return Step::Leave;
        } else {
            self.pressed(key.code);
        }
        self.settle();
        Step::Stay
    }

    fn typed(&mut self, code: KeyCode) {
        match code {
            KeyCode::Char(c) => self.filter.push(c),
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.filter.clear();
                self.typing = false;
            }
            _ => {}
        }
    }

    fn pressed(&mut self, code: KeyCode) {
        let page = isize::try_from(self.rows()).unwrap_or(1);
        match code {
            KeyCode::Up | KeyCode::Char('k') => self.go(-1),
            KeyCode::Down | KeyCode::Char('j') => self.go(1),
            KeyCode::PageUp => self.go(-page),
            KeyCode::PageDown => self.go(page),
            KeyCode::Home | KeyCode::Char('g') => self.go(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.go(isize::MAX),
            KeyCode::Esc if self.depth.is_some() => self.depth = None,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Enter if self.selected.is_some() => self.depth = self.depth.or(Some(0)),
            KeyCode::Char('s') if self.depth.is_none() => self.troubled_first = !self.troubled_first,
            KeyCode::Char('/') if self.depth.is_none() => self.typing = true,
            _ => {}
        }
    }

    fn go(&mut self, by: isize) {
        if let Some(line) = &mut self.depth {
            *line = line.saturating_add_signed(by);
            return;
        }
        let keys: Vec<Key> = self.seen().map(|(key, _)| key.clone()).collect();
        let at = keys.iter().position(|key| Some(key) == self.selected.as_ref()).unwrap_or(0);
        let to = at.saturating_add_signed(by).min(keys.len().saturating_sub(1));
        self.selected = keys.get(to).cloned();
    }

    /// The selection is on something that is seen, and nothing is scrolled past its end.
    fn settle(&mut self) {
        if self.depth.is_some() {
            // Ages differ in width from moment to moment, and a line more or less is cut off when it is drawn.
            let last = self.page(Timestamp::UNIX_EPOCH).len().saturating_sub(self.rows());
            self.depth = self.depth.map(|line| line.min(last));
            return;
        }
        let keys: Vec<Key> = self.seen().map(|(key, _)| key.clone()).collect();
        let here = keys.iter().position(|key| Some(key) == self.selected.as_ref());
        // In the place of one that is gone stands the next.
        let next = || keys.iter().position(|key| Some(key) > self.selected.as_ref());
        let at = here.or_else(next).unwrap_or(keys.len().saturating_sub(1));
        let rows = self.rows();
        let last = keys.len().saturating_sub(rows);
        self.top = self.top.min(at).max((at + 1).saturating_sub(rows)).min(last);
        self.selected = keys.into_iter().nth(at);
    }

    /// Lines between what stands above and what stands below.
    #[must_use]
    pub fn rows(&self) -> usize {
        let chrome = if self.depth.is_some() { PAGE_CHROME } else { CHROME };
        usize::from(self.height.saturating_sub(chrome)).max(1)
    }

    /// How many there are, and how many of them have trouble.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.entries.len(), self.entries.values().filter(|entry| entry.troubled).count())
    }

    /// Those that the filter lets through, in order.
    pub fn seen(&self) -> impl Iterator<Item = (&Key, &Entry)> {
        let mut seen: Vec<_> =
            self.entries.iter().filter(|((_, name), _)| name.contains(&self.filter)).collect();
        if self.troubled_first {
            seen.sort_by_key(|(_, entry)| !entry.troubled);
        }
        seen.into_iter()
    }

    /// The one that the selection is on; `None` too where it was deleted while its page was open.
    #[must_use]
    pub fn selected(&self) -> Option<(&Key, &Entry)> {
        self.entries.get_key_value(self.selected.as_ref()?)
    }

    /// The first line that is seen of the page that is open.
    #[must_use]
    pub fn depth(&self) -> Option<usize> {
        self.depth
    }

    /// The page of the selected one.
    #[must_use]
    pub fn page(&self, now: Timestamp) -> Vec<String> {
        let Some((_, entry)) = self.selected() else {
            return vec!["It was deleted.".to_owned()];
        };
        let text = describe::alone(&entry.object, now, self.look.utf8);
        let indent = |line: &str| line.chars().take_while(|c| *c == ' ').count() + 4;
        text.lines().flat_map(|line| wrapped(line, usize::from(self.width), indent(line))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::objects;
    use serde_json::json;

    fn state() -> State {
        State::new(Look { utf8: true, colour: true, scope: Some("shop".into()) }, objects(), (80, 12))
    }

    fn press(state: &mut State, keys: &str) -> Step {
        let codes = keys.chars().map(|c| match c {
            '\n' => KeyCode::Enter,
            '\u{1b}' => KeyCode::Esc,
            '\u{8}' => KeyCode::Backspace,
            c => KeyCode::Char(c),
        });
        codes.map(|code| state.on(KeyEvent::from(code))).last().unwrap()
    }

    fn names(state: &State) -> Vec<String> {
        state.seen().map(|(key, _)| key.1.clone()).collect()
    }

    fn selected(state: &State) -> String {
        state.selected().map(|(key, _)| key.1.clone()).unwrap_or_default()
    }

    #[test]
    fn the_selection_moves_stops_at_the_ends_and_stays_on_its_object() {
        let mut state = state();
        assert_eq!(
            (names(&state), selected(&state)),
            (vec!["cart".into(), "checkout".into(), "old".into()], "cart".into())
        );
        press(&mut state, "kj");
        assert_eq!(selected(&state), "checkout");
        state.hear(News::Set(json!({"metadata": {"namespace": "shop", "name": "apples"}})));
        assert_eq!(selected(&state), "checkout");
        press(&mut state, "Gj");
        assert_eq!(selected(&state), "old");
        state.hear(News::Gone(objects().remove(2)));
        assert_eq!(selected(&state), "checkout");
        press(&mut state, "g");
        assert_eq!(selected(&state), "apples");
    }

    #[test]
    fn the_selected_row_is_always_seen() {
        let fleet = |n: usize| json!({"metadata": {"namespace": "shop", "name": format!("s{n:03}")}});
        let mut state = State::new(state().look, (0..100).map(fleet).collect(), (80, 12));
        for key in
            [KeyCode::PageDown, KeyCode::Down, KeyCode::End, KeyCode::PageUp, KeyCode::Up, KeyCode::Home]
        {
            state.on(KeyEvent::from(key));
            let at = state.seen().position(|(key, _)| *key.1 == selected(&state)).unwrap();
            assert!((state.top..state.top + state.rows()).contains(&at), "{key:?}: {at} from {}", state.top);
        }
        press(&mut state, "G");
        state.resize(80, 7);
        assert_eq!((state.top, state.rows()), (98, 2));
    }

    #[test]
    fn those_with_trouble_come_first_when_asked() {
        let mut state = state();
        state.hear(News::Set(json!({"metadata": {"namespace": "shop", "name": "apples"},
            "status": {"state": "Running"}})));
        press(&mut state, "s");
        assert_eq!(names(&state), ["cart", "checkout", "old", "apples"]);
        press(&mut state, "s");
        assert_eq!(names(&state)[0], "apples");
    }

    #[test]
    fn a_filter_takes_every_key_until_it_is_done_or_given_up() {
        let mut state = state();
        press(&mut state, "/qx\u{8}");
        assert_eq!((names(&state).len(), state.filter.as_str()), (0, "q"));
        press(&mut state, "\u{8}c\n");
        assert_eq!(names(&state), ["cart", "checkout"]);
        press(&mut state, "\u{1b}");
        assert_eq!(names(&state).len(), 3);
        assert_eq!(press(&mut state, "/\u{1b}q"), Step::Leave);
    }

    #[test]
    fn ctrl_c_leaves_from_everywhere() {
        for before in ["j", "/ol", "\n"] {
            let mut state = state();
            press(&mut state, before);
            assert_eq!(state.on(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), Step::Leave);
        }
    }

    #[test]
    fn a_page_opens_scrolls_to_its_end_follows_its_object_and_closes() {
        let mut state = state();
        press(&mut state, "j\n");
        assert_eq!(state.depth(), Some(0));
        press(&mut state, "G");
        assert_eq!(state.depth(), Some(state.page(Timestamp::UNIX_EPOCH).len() - state.rows()));
        let mut changed = objects().remove(0);
        changed["spec"]["service"] = json!("pears");
        state.hear(News::Set(changed));
        assert!(state.page(Timestamp::UNIX_EPOCH).contains(&"Service:    pears".to_owned()));
        state.hear(News::Gone(objects().remove(0)));
        assert_eq!(
            (state.depth(), state.page(Timestamp::UNIX_EPOCH)),
            (Some(0), vec!["It was deleted.".to_owned()])
        );
        press(&mut state, "\u{1b}");
        assert_eq!((state.depth(), selected(&state)), (None, "old".into()));
    }

    #[test]
    fn a_broken_watch_forgets_nothing_and_is_forgotten_by_the_next_news() {
        let mut state = state();
        state.hear(News::Lost(anyhow::anyhow!("gone")));
        assert_eq!((names(&state).len(), state.lost.as_deref()), (3, Some("gone")));
        state.hear(News::All(objects()));
        assert_eq!(state.lost, None);
    }
}
