//! Two clients of the Service, from inside the node's network: one opens a connection for each request, the other keeps
//! its one open.

use std::net::SocketAddr;
use std::time::Duration;

use axum::http::StatusCode;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::connection::{Connection, Lost, Reply};
use crate::record::{Answer, Client, Outcome};
use crate::shared::Shared;

/// A hundred a second in new connections: ten for each of ten pods, so that a share in a window of 5 s is known.
const NEW_EACH: Duration = Duration::from_millis(10);
/// Ten a second on the kept one.
const KEPT_EACH: Duration = Duration::from_millis(100);

/// Lets both begin; they go on until the set is dropped.
pub fn come(tasks: &mut JoinSet<()>, shop: SocketAddr, shared: &Shared) {
    tasks.spawn(in_new_connections(shop, shared.clone()));
    tasks.spawn(in_a_kept_one(shop, shared.clone()));
}

async fn in_new_connections(shop: SocketAddr, shared: Shared) {
    let mut beats = interval(NEW_EACH);
    // After a stall nobody comes twice as often: the rate is a bound.
    beats.set_missed_tick_behavior(MissedTickBehavior::Skip);
    // At most 1,000 are on their way: a hundred a second, each for two times five seconds at the longest.
    let mut on_their_way = JoinSet::new();
    loop {
        beats.tick().await;
        let shared = shared.clone();
        on_their_way.spawn(async move {
            let at = sent(&shared);
            let outcome = match Connection::open(shop).await {
                Ok(mut connection) => outcome(connection.get("/").await),
                Err(error) => Outcome::Failed(format!("{error:#}")),
            };
            shared.record().answer(Answer { at, by: Client::New, outcome });
        });
        while on_their_way.try_join_next().is_some() {}
    }
}

async fn in_a_kept_one(shop: SocketAddr, shared: Shared) {
    let mut beats = interval(KEPT_EACH);
    beats.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut kept = None;
    loop {
        beats.tick().await;
        if shared.hung_up() {
            kept = None;
        }
        let at = sent(&shared);
        let was_open = kept.is_some();
        let outcome = match ask_on(&mut kept, shop, &shared).await {
            // It was closed just then, as by a pod that ends: a client opens another one.
            Err(Lost::Closed) if was_open => outcome(ask_on(&mut kept, shop, &shared).await),
            answered => outcome(answered),
        };
        shared.record().answer(Answer { at, by: Client::Kept, outcome });
    }
}

/// Notes that a request is sent now.
fn sent(shared: &Shared) -> Duration {
    let mut record = shared.record();
    let at = shared.now();
    record.asked(at);
    at
}

/// Asks on the connection that there is, or on a new one; one that fails is not kept.
async fn ask_on(kept: &mut Option<Connection>, shop: SocketAddr, shared: &Shared) -> Result<Reply, Lost> {
    let mut connection = match kept.take().filter(|connection| !connection.is_closed()) {
        Some(connection) => connection,
        None => {
            let opened = Connection::open(shop).await.map_err(|error| Lost::Failed(format!("{error:#}")))?;
            shared.record().opened(shared.now());
            opened
        }
    };
    let reply = connection.get("/").await?;
    *kept = Some(connection);
    Ok(reply)
}

fn outcome(answered: Result<Reply, Lost>) -> Outcome {
    match answered {
        Ok(Reply { status: StatusCode::OK, text }) => Outcome::Good(text),
        Ok(Reply { text, .. }) => Outcome::Bad(text),
        Err(Lost::Closed) => Outcome::Failed("closed without an answer".to_owned()),
        Err(Lost::Failed(why)) => Outcome::Failed(why),
    }
}
