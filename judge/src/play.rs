//! One case against one contender, second by second.

use crate::case::Case;
use crate::contender::Contender;
use crate::score::{Score, Watcher};
use crate::world::World;

/// Plays the whole case: scrape, decide, serve. `scraped`: the contender asks Prometheus.
#[must_use]
pub fn play(case: &Case, contender: &mut dyn Contender, scraped: bool) -> Score {
    let mut world = World::new(case, scraped);
    let mut out = vec![false; case.pods() as usize];
    let mut watcher = Watcher::new(case);
    for second in 0..case.seconds() {
        world.scrape();
        contender.decide(&world, &mut out);
        watcher.second(second, &out);
        watcher.seen(world.serve(&out));
    }
    watcher.end()
}
