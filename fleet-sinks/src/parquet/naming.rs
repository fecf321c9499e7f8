//! How an archive names its days and files, in a folder as in a bucket.

/// The folder of a day.
pub(super) fn folder(date: &str) -> String {
    format!("date={date}")
}

/// The day that a folder is of, if it is one of ours.
pub(super) fn date(folder: &str) -> Option<&str> {
    folder.strip_prefix("date=")
}

/// Whether a name in a day's folder is that of a file to be read: one that is being written has a dot in front.
pub(super) fn is_visible(file: &str) -> bool {
    !file.starts_with('.') && file.ends_with(".parquet")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_says_its_day_and_unfinished_files_are_not_seen() {
        assert_eq!(date(&folder("2026-11-24")), Some("2026-11-24"));
        assert_eq!(date("lost+found"), None);
        assert!(is_visible("a.parquet") && !is_visible(".tmp-a.parquet") && !is_visible("a.parquet.bak"));
    }
}
