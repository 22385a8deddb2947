//! `watch`: a live screen of KubervisorServices.
//!
//! ```text
//!   terminal   keys; taken and given back    state   News, keys -> what is shown (pure)
//!                                            draw    state, time -> a picture (pure)
//! ```
//! Where there is no terminal it is `get -w`.

pub mod draw;
pub mod state;
pub mod terminal;

use std::pin::pin;
use std::time::Duration;

use anyhow::Context;
use futures::{FutureExt, Stream, StreamExt};
use jiff::Timestamp;
use kube::runtime::watcher;
use ratatui::crossterm::event::Event;
use ratatui::crossterm::terminal::size;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::args::{GetArgs, WatchArgs};
use crate::news::{News, news};
use crate::objects::list;
use crate::reach::Cluster;
use crate::words::shows_utf8;
use crate::{get_watch, out};
use state::{Look, State, Step};
use terminal::Terminal;

/// Ages are of whole seconds.
const REDRAW: Duration = Duration::from_secs(1);

/// `watch`
///
/// # Errors
/// The server's refusal of the first list, or a terminal that cannot be used.
pub async fn run(cluster: &Cluster, args: &WatchArgs) -> anyhow::Result<()> {
    if !out::is_screen() {
        let get = GetArgs { selector: args.selector.clone(), watch: true, ..GetArgs::default() };
        return get_watch::run(cluster, &get).await;
    }
    let scope = cluster.scope.as_deref();
    // What fails before the screen is there is said as any verb says it.
    let objects = list(&cluster.client, scope, args.selector.as_deref()).await?;
    let mut config = watcher::Config::default();
    if let Some(selector) = &args.selector {
        config = config.labels(selector);
    }
    let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let look = Look { utf8: shows_utf8(), colour, scope: cluster.scope.clone() };
    let ends = Ends::new().context("signals cannot be heard")?;
    let terminal = Terminal::take()?;
    let state = State::new(look, objects, size().unwrap_or((80, 24)));
    show(terminal, state, terminal::keys(), news(cluster, config), ends).await
}

/// Signals that end it.
struct Ends {
    term: Signal,
    int: Signal,
    hangup: Signal,
}

impl Ends {
    fn new() -> std::io::Result<Self> {
        let of = |kind| signal(kind);
        Ok(Self {
            term: of(SignalKind::terminate())?,
            int: of(SignalKind::interrupt())?,
            hangup: of(SignalKind::hangup())?,
        })
    }

    async fn any(&mut self) {
        tokio::select! {
            biased;
            _ = self.term.recv() => (),
            _ = self.int.recv() => (),
            _ = self.hangup.recv() => (),
        }
    }
}

/// Shows it until somebody leaves.
async fn show(
    mut terminal: Terminal,
    mut state: State,
    mut keys: mpsc::Receiver<std::io::Result<Event>>,
    news: impl Stream<Item = News>,
    mut ends: Ends,
) -> anyhow::Result<()> {
    let mut redraw = tokio::time::interval(REDRAW);
    let mut news = pin!(news);
    loop {
        terminal.0.draw(|frame| draw::draw(frame, &state, Timestamp::now()))?;
        tokio::select! {
            biased;
            () = ends.any() => return Ok(()),
            key = keys.recv() => match key {
                Some(event) => {
                    if took(&mut state, &event?) == Step::Leave {
                        return Ok(());
                    }
                }
                // Nobody can leave any more.
                None => return Ok(()),
            },
            Some(heard) = news.next() => {
                state.hear(heard);
                // A burst is drawn once.
                while let Some(Some(heard)) = news.next().now_or_never() {
                    state.hear(heard);
                }
            }
            _ = redraw.tick() => {}
        }
    }
}

fn took(state: &mut State, event: &Event) -> Step {
    match event {
        Event::Key(key) => state.on(*key),
        Event::Resize(width, height) => {
            state.resize(*width, *height);
            Step::Stay
        }
        _ => Step::Stay,
    }
}
