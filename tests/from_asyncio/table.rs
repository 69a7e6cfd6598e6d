//! The tables of the chapter, row by row.

/// A line of a table: asyncio's names, what they are here, and what is said about it.
pub(crate) struct Row {
    pub(crate) asyncio: Vec<String>,
    pub(crate) rust: Vec<String>,
    pub(crate) remarks: Vec<String>,
    /// It says that there is nothing.
    pub(crate) is_nothing: bool,
}

/// What stands between backticks.
fn code(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

pub(crate) fn rows(chapter: &str) -> Vec<Row> {
    // Other tables have two columns.
    let lines = chapter.lines().filter(|line| line.starts_with("| ") && line.split('|').count() > 4);
    let lines = lines.filter(|line| line.contains('`'));
    lines
        .map(|line| {
            let cells: Vec<_> = line.split('|').collect();
            assert_eq!(cells.len(), 5, "more than three columns: {line}");
            let is_nothing = cells[2].trim() == "-";
            Row { asyncio: code(cells[1]), rust: code(cells[2]), remarks: code(cells[3]), is_nothing }
        })
        .collect()
}

/// A name as it is called without what it belongs to.
pub(crate) fn bare(name: &str) -> &str {
    let name = name.trim_matches('\'').trim_end_matches('=');
    name.rsplit(['.', ':']).next().unwrap()
}
