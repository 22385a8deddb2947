//! A fleet as a bar: a cell for each member, with the floor drawn into it.

use kubervisor::api::FleetStatus;

/// Cells at most: with the text beside it a line stays within 80.
const CELLS: i64 = 40;

/// What stands for a member in each state, and for the floor.
struct Signs {
    serving: char,
    cut: char,
    paused: char,
    other: char,
    floor: char,
}

const BLOCKS: Signs = Signs { serving: '█', cut: '▒', paused: '░', other: '·', floor: '┃' };
const ASCII: Signs = Signs { serving: '#', cut: 'x', paused: 'p', other: '.', floor: '|' };

/// Those that serve, then those that are cut, paused and otherwise out; the floor stands behind as many cells as must
/// serve. Of a large fleet a cell is several members.
#[must_use]
pub fn bar(fleet: &FleetStatus, utf8: bool) -> String {
    let signs = if utf8 { BLOCKS } else { ASCII };
    let cells = fleet.members.clamp(0, CELLS);
    let mut bar = String::from("[");
    let mut drawn = false;
    for cell in 0..cells {
        // The member in whose place this cell stands.
        let member = cell * fleet.members / cells;
        if !drawn && member >= fleet.floor {
            bar.push(signs.floor);
            drawn = true;
        }
        bar.push(match member {
            m if m < fleet.serving => signs.serving,
            m if m < fleet.serving + fleet.cut => signs.cut,
            m if m < fleet.serving + fleet.cut + fleet.paused => signs.paused,
            _ => signs.other,
        });
    }
    if !drawn {
        bar.push(signs.floor);
    }
    bar + "]"
}

/// What its signs mean.
#[must_use]
pub fn legend(utf8: bool) -> String {
    let Signs { serving, cut, paused, other, floor } = if utf8 { BLOCKS } else { ASCII };
    format!("{serving} serving  {cut} cut  {paused} paused  {other} otherwise out  {floor} floor")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet(members: i64, serving: i64, cut: i64, paused: i64, floor: i64) -> FleetStatus {
        FleetStatus { members, serving, cut, paused, floor, ..FleetStatus::default() }
    }

    #[test]
    fn the_floor_stands_behind_the_members_that_must_serve() {
        assert_eq!(bar(&fleet(10, 7, 1, 1, 5), false), "[#####|##xp.]");
        assert_eq!(bar(&fleet(10, 7, 1, 1, 5), true), "[█████┃██▒░·]");
        assert_eq!(bar(&fleet(3, 3, 0, 0, 3), false), "[###|]");
        assert_eq!(bar(&fleet(0, 0, 0, 0, 1), false), "[|]");
    }

    #[test]
    fn a_large_fleet_keeps_its_proportions() {
        let bar = bar(&fleet(1_000, 750, 250, 0, 500), false);
        let count = |sign| bar.chars().filter(|c| *c == sign).count();
        assert_eq!((count('#'), count('x'), bar.find('|')), (30, 10, Some(21)));
    }
}
