//! The scenes in order.

use std::time::Duration;

use demo::words::seconds;

use crate::play::Play;
use crate::record::Client;
use crate::scenes::{absence, incident, release};
use crate::stage::Stage;

/// From the first program that starts to the last promise, builds aside.
const LIMIT: Duration = Duration::from_secs(720);

/// Plays all of it; gives the promises in order.
///
/// # Errors
/// When it cannot go on: a program fails, or the cluster breaks down.
pub async fn perform(stage: Stage) -> (Play, anyhow::Result<()>) {
    let mut play = Play::new(stage);
    let played = all(&mut play).await;
    (play, played)
}

async fn all(play: &mut Play) -> anyhow::Result<()> {
    incident::ten_pods_are_green(play).await?;
    let patient = incident::one_answers_badly(play).await?;
    incident::it_recovers(play, &patient).await?;
    let out = absence::the_leader_is_killed(play).await?;
    absence::nobody_is_there(play, &out).await?;
    release::upgraded_and_rolled_back(play, &out).await?;
    release::uninstalled(play, &out).await?;
    release::rolled_out_after(play).await?;
    total(play);
    Ok(())
}

fn total(play: &mut Play) {
    let took = play.now();
    let (new, kept) = {
        let record = play.shared().record();
        let all = |client| record.count(client, Duration::ZERO, Duration::MAX);
        (all(Client::New), all(Client::Kept))
    };
    play.say("clients", &format!("in all: new connections {new}; the kept one {kept}"));
    play.promise(took <= LIMIT, format!("all of it in {} (within {})", seconds(took), seconds(LIMIT)));
}
