//! `watch`, at a terminal and without one.

use localcluster::{Fault, Rule, Terminal};
use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::LocalModes;
use tokio::process::Child;

use super::with_one_cut;
use crate::harness::SOON;
use crate::person::Person;

const ENTER_SCREEN: &str = "\u{1b}[?1049h";
const LEAVE_SCREEN: &str = "\u{1b}[?1049l";
const HIDE_CURSOR: &str = "\u{1b}[?25l";
const SHOW_CURSOR: &str = "\u{1b}[?25h";

fn opened() -> Terminal {
    Terminal::open(100, 20).unwrap()
}

/// That it ends well, and leaves the terminal as it was.
async fn leaves(mut child: Child, terminal: &Terminal, before: LocalModes) {
    let ended = tokio::time::timeout(SOON, child.wait()).await.expect("it goes on").unwrap();
    assert!(ended.success(), "{ended}");
    terminal.hears(LEAVE_SCREEN, SOON).await.unwrap();
    let seen = terminal.written();
    assert!(seen.rfind(LEAVE_SCREEN) > seen.rfind(ENTER_SCREEN), "{seen:?}");
    assert!(seen.rfind(SHOW_CURSOR) > seen.rfind(HIDE_CURSOR), "{seen:?}");
    assert_eq!(terminal.modes().unwrap(), before);
    assert!(before.contains(LocalModes::ECHO | LocalModes::ICANON), "{before:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_screen_opens_one_in_depth_follows_changes_and_leaves_a_clean_terminal_on_every_way_out() {
    let (shop, _source, _controller, bad) = with_one_cut("screen").await;
    let admin = Person::admin(&shop);
    let mut terminal = opened();
    let before = terminal.modes().unwrap();
    let child = admin.sits_at(&terminal, &["watch"]);
    terminal.shows("4/5 floor 1", SOON).await.unwrap();
    assert!(
        terminal.written().contains(ENTER_SCREEN) && !terminal.modes().unwrap().contains(LocalModes::ECHO)
    );
    admin.sees(&["hold", "pears", "--reason", "picking"]).await;
    terminal.shows("Held for ", SOON).await.unwrap();
    terminal.press("\r").unwrap();
    terminal.shows("Breakers:", SOON).await.unwrap();
    terminal.press("G").unwrap();
    terminal.shows(&format!("PodCut {bad}"), SOON).await.unwrap();
    terminal.press("\u{1b}").unwrap();
    terminal.shows("> pears", SOON).await.unwrap();
    terminal.press("q").unwrap();
    leaves(child, &terminal, before).await;

    let mut terminal = opened();
    let child = admin.sits_at(&terminal, &["watch", "-A"]);
    terminal.shows("all namespaces", SOON).await.unwrap();
    terminal.press("\u{3}").unwrap();
    leaves(child, &terminal, before).await;

    let terminal = opened();
    let child = admin.sits_at(&terminal, &["watch"]);
    terminal.shows("4/5 floor 1", SOON).await.unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    leaves(child, &terminal, before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_terminal_it_prints_rows_and_what_fails_before_the_screen_is_a_sentence() {
    let (shop, _source, _controller, _bad) = with_one_cut("rows").await;
    let admin = Person::admin(&shop);
    let mut rows = admin.starts(&["watch"]);
    rows.prints("NAME ").await;
    assert!(rows.prints("pears").await.contains("Running"));
    let terminal = opened();
    let mut child = admin.sits_at(&terminal, &["watch", "--context=nowhere"]);
    let ended = tokio::time::timeout(SOON, child.wait()).await.expect("it goes on").unwrap();
    assert!(!ended.success());
    terminal.hears("does not exist", SOON).await.unwrap();
    assert!(!terminal.written().contains(ENTER_SCREEN), "{:?}", terminal.written());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_goes_away_is_told_while_what_was_known_stays_and_is_followed_again() {
    let (shop, _source, _controller, _bad) = with_one_cut("screenaway").await;
    let proxy = shop.proxy().await;
    let admin = Person::admin(&shop);
    let far = Person::with(&shop, &shop.cluster.kubeconfig("admin", Some(&proxy.url())).unwrap());
    let mut terminal = opened();
    let before = terminal.modes().unwrap();
    let screen = far.sits_at(&terminal, &["watch"]);
    terminal.shows("4/5 floor 1", SOON).await.unwrap();
    let mut rows = far.starts(&["get", "-w"]);
    rows.prints("pears").await;

    let refused = proxy.inject(Rule::new(Fault::Drop));
    let broken = proxy.inject(Rule::new(Fault::CutWatch));
    terminal.shows("disconnected, trying again: ", SOON).await.unwrap();
    terminal.shows("4/5 floor 1", SOON).await.unwrap();
    admin.sees(&["hold", "pears", "--reason", "picking"]).await;
    shop.becomes("Held", "True").await;
    assert!(!terminal.screen().contains("Held for "), "{}", terminal.screen());
    proxy.clear(broken);
    proxy.clear(refused);
    terminal.shows("Held for ", SOON).await.unwrap();
    assert!(!terminal.screen().contains("disconnected"), "{}", terminal.screen());
    rows.prints("Held").await;
    terminal.press("q").unwrap();
    leaves(screen, &terminal, before).await;
}
