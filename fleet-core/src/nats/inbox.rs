//! Inboxes on our own reader.

use super::random::random;

/// What inboxes of a connection begin with, `_INBOX.<name>.<token>.`. Nobody can guess the token: whoever may
/// publish anywhere could otherwise write answers.
pub(super) fn inboxes(name: &str) -> String {
    format!("_INBOX.{name}.{:016x}{:016x}.", random(), random())
}

/// The number behind the prefix.
pub(super) fn number_in(inbox: &[u8], inboxes: &str) -> Option<u64> {
    std::str::from_utf8(inbox.strip_prefix(inboxes.as_bytes())?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inbox_is_known_by_its_number() {
        let (one, other) = (inboxes("fleet-gets-0"), inboxes("fleet-gets-0"));
        assert!(one.starts_with("_INBOX.fleet-gets-0.") && one != other);
        assert_eq!(number_in(format!("{one}17").as_bytes(), &one), Some(17));
        for no in [format!("{other}17"), format!("{one}x"), one.clone(), format!("{one}1.2"), String::new()] {
            assert_eq!(number_in(no.as_bytes(), &one), None, "{no}");
        }
    }
}
