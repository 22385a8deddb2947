//! The scenes in order.

use std::time::Duration;

use demo::words::seconds;

use crate::play::Play;
use crate::record::Client;
use crate::scenes::{absence, incident, release};
use crate::stage::Stage;

/// From the first program that starts to the last promise, builds aside.
const LIMIT: Duration = Duration::from_secs(720);

/// So many requests that went wrong are shown.
const SHOWN: usize = 10;

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
    let from = play.now();
    incident::ten_pods_are_green(play).await?;
    let patient = incident::one_answers_badly(play).await?;
    incident::it_recovers(play, &patient).await?;
    let out = absence::the_leader_is_killed(play).await?;
    absence::nobody_is_there(play, &out).await?;
    release::upgraded_and_rolled_back(play, &out).await?;
    release::uninstalled(play, &out).await?;
    release::rolled_out_after(play).await?;
    total(play, from).await
}

/// Also what the scenes' own windows leave out.
async fn total(play: &mut Play, from: Duration) -> anyhow::Result<()> {
    let took = play.now();
    let until = play.settled().await?;
    let (new, kept, faults) = {
        let record = play.shared().record();
        let [new, kept] = [Client::New, Client::Kept].map(|client| record.count(client, from, until));
        let faults: Vec<_> = record.unasked_faults(from).into_iter().map(ToString::to_string).collect();
        (new, kept, faults)
    };
    play.say("clients", &format!("in all: new connections {new}; the kept one {kept}"));
    faults.iter().take(SHOWN).for_each(|fault| play.say("fault", fault));
    play.promise(
        faults.is_empty() && new.asked > 0 && kept.asked > 0,
        format!(
            "from the first scene to the last: {} of {} requests went wrong but those to pods that were told to answer \
             badly",
            faults.len(),
            new.asked + kept.asked
        ),
    );
    play.promise(took <= LIMIT, format!("all of it in {} (within {})", seconds(took), seconds(LIMIT)));
    Ok(())
}
