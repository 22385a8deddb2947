//! Waiting for a condition, never for a time.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How often a condition is looked at: well below what a person or a test notices.
const PERIOD: Duration = Duration::from_millis(25);

/// Asks again and again until there is an answer.
///
/// # Errors
/// After `limit`: "`what` did not happen within ...", with the last reason that `ask` gave. An error of `ask` itself
/// ends the wait at once.
pub async fn until<T, F>(what: &str, limit: Duration, mut ask: impl FnMut() -> F) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<Result<T, String>>>,
{
    let deadline = Instant::now() + limit;
    loop {
        match ask().await? {
            Ok(answer) => return Ok(answer),
            Err(reason) if Instant::now() >= deadline => {
                anyhow::bail!("{what} did not happen within {limit:?}; at the end: {reason}")
            }
            Err(_) => sleep(PERIOD).await,
        }
    }
}
