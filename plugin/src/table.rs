//! Tables as kubectl prints them: upper-case headers, three spaces between columns, no lines.

use comfy_table::{ColumnConstraint, ContentArrangement, Table as Grid, Width, presets::NOTHING};

use crate::words::plain;

/// Spaces between two columns.
const GAP: u16 = 3;

/// Rows under headers. Columns are as wide as what was put into them so far, also in an earlier table with the same
/// [`Widths`]: rows of a watch stand under those of its list.
#[derive(Debug, Clone)]
pub struct Table {
    headers: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

/// The least width of each column.
#[derive(Debug, Clone, Default)]
pub struct Widths(Vec<u16>);

impl Table {
    /// Without rows.
    #[must_use]
    pub fn new(headers: &[&'static str]) -> Self {
        Self { headers: headers.to_vec(), rows: Vec::new() }
    }

    /// Adds a row with a cell for each header.
    pub fn push(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Whether there is nothing but headers.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// As text, a line for each row.
    #[must_use]
    pub fn text(&self, headers: bool) -> String {
        self.under(headers, &mut Widths::default())
    }

    /// The same, with columns at least so wide; the widths grow with it.
    #[must_use]
    pub fn under(&self, headers: bool, widths: &mut Widths) -> String {
        let mut grid = Grid::new();
        grid.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        if headers {
            grid.add_row(self.headers.clone());
        }
        for row in &self.rows {
            grid.add_row(row.iter().map(|cell| plain(cell)).collect::<Vec<_>>());
        }
        let wide = grid.column_max_content_widths();
        widths.0.resize(wide.len().max(widths.0.len()), 0);
        for ((column, least), wide) in grid.column_iter_mut().zip(&mut widths.0).zip(wide) {
            *least = wide.max(*least);
            column.set_padding((0, GAP));
            column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(*least + GAP)));
        }
        grid.lines().map(|line| format!("{}\n", line.trim_end())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_three_spaces_apart_and_lines_end_with_their_text() {
        let mut table = Table::new(&["NAME", "STATE"]);
        table.push(vec!["pick".into(), "Running".into()]);
        table.push(vec!["a-longer-one".into(), String::new()]);
        assert_eq!(table.text(true), "NAME           STATE\npick           Running\na-longer-one\n");
        assert_eq!(table.text(false).lines().count(), 2);
    }

    #[test]
    fn later_rows_stand_under_earlier_ones() {
        let mut widths = Widths::default();
        let mut table = Table::new(&["NAME", "CUT"]);
        table.push(vec!["checkout".into(), "1".into()]);
        let first = table.under(true, &mut widths);
        let mut next = Table::new(&["NAME", "CUT"]);
        next.push(vec!["cart".into(), "2".into()]);
        let next = next.under(false, &mut widths);
        assert_eq!(first.find('1').map(|at| at - first.rfind("checkout").unwrap()), next.find('2'));
    }

    #[test]
    fn what_an_object_holds_cannot_move_the_cursor() {
        let mut table = Table::new(&["WHY"]);
        table.push(vec!["bad\n\u{1b}[2Jgood".into()]);
        assert_eq!(table.text(false), "bad  [2Jgood\n");
    }
}
