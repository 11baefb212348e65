//! What commands print: JSON for machines, aligned columns for people.

use serde_json::Value;

/// Prints a value as indented JSON.
pub fn json(value: &Value) {
    println!("{}", serde_json::to_string_pretty(value).unwrap_or_default());
}

/// Columns, aligned, with a head; nothing but the head for no rows.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column heads; without any, it is rows only.
    pub fn new(heads: &[&str]) -> Self {
        let head: Vec<String> = heads.iter().map(|head| (*head).to_owned()).collect();
        Self { rows: if head.is_empty() { Vec::new() } else { vec![head] } }
    }

    /// One more row; a text is shown on one line, without control characters.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| one_line(&cell)).collect());
    }

    /// Prints it.
    pub fn print(&self) {
        print!("{}", self.render());
    }

    fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|at| {
                self.rows
                    .iter()
                    .filter_map(|row| row.get(at))
                    .map(|cell| cell.chars().count())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        for row in &self.rows {
            let line: Vec<String> =
                row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            text.push_str(line.join("  ").trim_end());
            text.push('\n');
        }
        text
    }
}

/// A field of a JSON object as a cell: texts without quotes, nothing as `-`.
pub fn cell(value: &Value, pointer: &str) -> String {
    match value.pointer(pointer) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// At most so many characters, the rest as an ellipsis.
pub fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// A text as one line in which nothing can move the cursor, colour the terminal or turn the
/// direction of writing: a person decides by what is seen here.
pub fn one_line(text: &str) -> String {
    text.chars()
        .flat_map(|c| match c {
            '\n' => "\\n".chars().collect::<Vec<_>>(),
            c if c.is_control() || is_invisible(c) => format!("\\u{{{:x}}}", u32::from(c)).chars().collect(),
            c => vec![c],
        })
        .collect()
}

/// Bidirectional controls, zero-width characters and line separators of Unicode.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&["id", "status"]);
        table.row(["a".to_owned(), "completed".to_owned()]);
        table.row(["longer".to_owned(), "failed".to_owned()]);
        assert_eq!(table.render(), "id      status\na       completed\nlonger  failed\n");
        let mut plain = Table::new(&[]);
        plain.row(["a".to_owned()]);
        assert_eq!(plain.render(), "a\n");
    }

    #[test]
    fn nothing_in_a_text_moves_the_terminal() {
        assert_eq!(one_line("a\nb\u{1b}[2Jc\u{202e}d"), "a\\nb\\u{1b}[2Jc\\u{202e}d");
        assert_eq!(one_line("Grüße, 東京"), "Grüße, 東京");
    }

    #[test]
    fn cells_are_texts() {
        let value = serde_json::json!({"a": "x", "b": 3, "c": null});
        assert_eq!(cell(&value, "/a"), "x");
        assert_eq!(cell(&value, "/b"), "3");
        assert_eq!(cell(&value, "/c"), "-");
        assert_eq!(cell(&value, "/d"), "-");
        assert_eq!(shortened("abcdef", 4), "abc…");
    }
}
