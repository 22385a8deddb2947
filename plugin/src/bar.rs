//! A fleet as a bar: a cell for each member, with the floor drawn into it.

use kubervisor::api::FleetStatus;

/// Cells at most: with the text beside it a line stays within 80.
const CELLS: usize = 40;

/// What a cell says of its members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    /// They serve.
    Serving,
    /// They are cut.
    Cut,
    /// They are paused.
    Paused,
    /// They are otherwise out.
    Other,
    /// No member: as many as stand before it must serve.
    Floor,
}

impl Cell {
    /// What stands for it.
    #[must_use]
    pub fn sign(self, utf8: bool) -> char {
        match (self, utf8) {
            (Self::Serving, true) => '█',
            (Self::Cut, true) => '▒',
            (Self::Paused, true) => '░',
            (Self::Other, true) => '·',
            (Self::Floor, true) => '┃',
            (Self::Serving, false) => '#',
            (Self::Cut, false) => 'x',
            (Self::Paused, false) => 'p',
            (Self::Other, false) => '.',
            (Self::Floor, false) => '|',
        }
    }
}

/// Those that serve, then those that are cut, paused and otherwise out; the floor stands behind as many cells as must
/// serve. Of a fleet of more than `most` a cell is several members, as many as the second value says; one of them that is
/// out is seen all the same.
#[must_use]
pub fn cells(fleet: &FleetStatus, most: usize) -> (Vec<Cell>, i64) {
    let members = fleet.members.max(0);
    let most = i64::try_from(most.max(1)).unwrap_or(i64::MAX);
    let each = of(members, most).max(1);
    let other = members.saturating_sub(fleet.serving).saturating_sub(fleet.cut).saturating_sub(fleet.paused);
    let out = [(Cell::Cut, fleet.cut), (Cell::Paused, fleet.paused), (Cell::Other, other)];
    let all = of(members, each);
    // What somebody else wrote may count more than there are.
    let out = out.map(|(cell, n)| (cell, of(n.clamp(0, members), each)));
    let serving = all.saturating_sub(out.iter().map(|(_, n)| n).sum()).max(0);
    let drawn = std::iter::once((Cell::Serving, serving)).chain(out);
    let mut cells: Vec<_> =
        drawn.flat_map(|(cell, n)| std::iter::repeat_n(cell, usize::try_from(n).unwrap_or(0))).collect();
    cells.truncate(usize::try_from(all).unwrap_or(0));
    let floor = usize::try_from(of(fleet.floor.max(0), each)).unwrap_or(0);
    cells.insert(floor.min(cells.len()), Cell::Floor);
    (cells, each)
}

/// How many cells of so many members hold all of them.
fn of(members: i64, each: i64) -> i64 {
    members / each + i64::from(members % each != 0)
}

/// The same as text.
#[must_use]
pub fn bar(fleet: &FleetStatus, utf8: bool) -> String {
    let (cells, _) = cells(fleet, CELLS);
    format!("[{}]", cells.into_iter().map(|cell| cell.sign(utf8)).collect::<String>())
}

/// What its signs mean.
#[must_use]
pub fn legend(utf8: bool) -> String {
    let [serving, cut, paused, other, floor] =
        [Cell::Serving, Cell::Cut, Cell::Paused, Cell::Other, Cell::Floor].map(|cell| cell.sign(utf8));
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

    #[test]
    fn one_that_is_out_is_seen_however_large_the_fleet_is() {
        let (row, each) = cells(&fleet(1_000, 997, 1, 1, 500), 20);
        let count = |cell| row.iter().filter(|c| **c == cell).count();
        assert_eq!((each, row.len()), (50, 21), "with the floor");
        assert_eq!([Cell::Cut, Cell::Paused, Cell::Other].map(count), [1, 1, 1]);
    }

    #[test]
    fn numbers_that_cannot_be_do_no_harm() {
        for odd in
            [fleet(2, 9, 9, -3, 9), fleet(-1, 0, 0, 0, -1), fleet(i64::MAX, i64::MIN, i64::MAX, i64::MAX, 0)]
        {
            assert!(cells(&odd, 10).0.len() <= 11, "{odd:?}");
        }
    }
}
