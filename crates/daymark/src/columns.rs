//! Tables for people.

/// Rows with their cells one below the other, two spaces apart, `indent` spaces before each row.
pub(crate) fn columns(indent: usize, rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |at: usize| {
        let cells = rows.iter().filter_map(|row| row.get(at));
        cells
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths);
        let line: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        let line = format!("{:indent$}{}", "", line.join("  "));
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::columns;

    #[test]
    fn cells_stand_below_each_other_and_lines_end_with_their_last() {
        let row = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect();
        let rows = [
            row(&["PLACE", "VERDICT"]),
            row(&["a", "no"]),
            row(&["longer-one", ""]),
        ];
        assert_eq!(
            columns(1, &rows),
            " PLACE       VERDICT\n a           no\n longer-one\n"
        );
    }
}
