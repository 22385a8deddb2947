//! Text of others on a terminal, and what the terminal can show.

/// Without what moves a cursor, changes a colour, hides text or turns its order: names and messages in a cluster are
/// written by anybody.
#[must_use]
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || unseen(c) { ' ' } else { c }).collect()
}

/// Characters without a shape that change how others look: of direction, joining, lines, annotations and tags.
fn unseen(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}')
}

/// A line in parts of so many columns, broken between words where that can be; what goes on stands that far in.
#[must_use]
pub fn wrapped(line: &str, width: usize, indent: usize) -> Vec<String> {
    let mut rest: Vec<char> = line.chars().collect();
    let mut parts = Vec::new();
    while rest.len() > width && width > 2 * indent {
        let least = if parts.is_empty() { 0 } else { indent };
        let gap = rest[..=width].iter().rposition(|c| *c == ' ').filter(|at| *at > least + width / 2);
        let tail = rest.split_off(gap.unwrap_or(width));
        parts.push(rest.into_iter().collect());
        rest = std::iter::repeat_n(' ', indent).chain(tail.into_iter().skip_while(|c| *c == ' ')).collect();
    }
    parts.push(rest.into_iter().collect());
    parts
}

/// Whether the locale says that more than ASCII can be shown: the first of these that is set decides.
#[must_use]
pub fn utf8(env: impl Fn(&str) -> Option<String>) -> bool {
    let set = |name: &&str| env(name).filter(|value| !value.is_empty());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(set).unwrap_or_default().to_uppercase();
    locale.contains("UTF-8") || locale.contains("UTF8")
}

/// Of this process.
#[must_use]
pub fn shows_utf8() -> bool {
    utf8(|name| std::env::var(name).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_shows_in_the_order_in_which_it_is_and_whole() {
        assert_eq!(plain("frost\u{1b}[2K\nAda"), "frost [2K Ada");
        assert_eq!(plain("a\u{202e}b\u{2066}c\u{200b}d\u{feff}e"), "a b c d e");
        assert_eq!(plain("Grüße, 北京 ±2 %"), "Grüße, 北京 ±2 %");
    }

    #[test]
    fn a_long_line_goes_on_below_between_words() {
        let parts = wrapped("  why: one two three four five six seven", 20, 6);
        assert_eq!(parts, ["  why: one two three", "      four five six", "      seven"]);
        assert_eq!(wrapped("unbreakable-as-it-is-long", 20, 4), ["unbreakable-as-it-is", "    -long"]);
        assert_eq!(wrapped("as wide as it is", 16, 0), ["as wide as it is"]);
    }

    #[test]
    fn the_first_locale_that_is_set_decides() {
        let with = |pairs: &'static [(&str, &str)]| {
            utf8(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
        };
        assert!(with(&[("LANG", "de_DE.UTF-8")]));
        assert!(with(&[("LC_ALL", ""), ("LC_CTYPE", "C.utf8")]));
        assert!(!with(&[("LC_ALL", "C"), ("LANG", "de_DE.UTF-8")]));
        assert!(!with(&[]));
    }
}
