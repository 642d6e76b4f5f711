//! The pages of `runner help TOPIC`, at 80 columns, of what this release has.

use crate::model::nearest;

const TOPICS: [(&str, &str); 4] = [
    ("exit-codes", include_str!("topics/exit-codes.md")),
    ("environment", include_str!("topics/environment.md")),
    ("formats", include_str!("topics/formats.md")),
    ("doubt", include_str!("topics/doubt.md")),
];

/// The page of a topic.
#[must_use]
pub fn text(name: &str) -> Option<&'static str> {
    TOPICS.iter().find(|(topic, _)| *topic == name).map(|(_, text)| *text)
}

/// The topics' names in the order in which they are listed.
pub fn names() -> impl Iterator<Item = &'static str> {
    TOPICS.iter().map(|(name, _)| *name)
}

/// The topic that was probably meant.
#[must_use]
pub fn meant(name: &str) -> Option<&'static str> {
    nearest(name, names())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Class;

    #[test]
    fn every_page_fits_a_terminal_of_80_columns() {
        for name in names() {
            let text = text(name).unwrap();
            assert!(text.ends_with('\n') && !text.contains('\t'), "{name}");
            for line in text.lines() {
                assert!(line.chars().count() <= 80 && line == line.trim_end(), "{name}: {line}");
            }
        }
    }

    #[test]
    fn every_class_is_on_the_page_of_exit_codes() {
        let page = text("exit-codes").unwrap();
        for class in Class::BY_RANK {
            let row = format!("  {:>2}  {:<15} ", class.code(), class.name());
            assert!(page.contains(&row), "{row}");
        }
    }

    #[test]
    fn a_page_names_no_command_that_does_not_exist() {
        for (topic, page) in TOPICS {
            for words in page.split("`runner ").skip(1) {
                let command = words.split([' ', '`']).next().unwrap();
                assert!(crate::cli::args::help(Some(command)).is_ok(), "{topic}: {command}");
            }
        }
    }

    #[test]
    fn a_close_name_is_found() {
        assert_eq!(meant("exit-code"), Some("exit-codes"));
        assert_eq!(text("exit-code"), None);
    }
}
