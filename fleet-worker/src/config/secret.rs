//! Values that must not be shown.

use std::path::Path;
use std::{fmt, fs};

/// A password, a token or a seed: shown as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides `value`.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// What a file holds, without the line's end that editors add.
    ///
    /// # Errors
    /// In words that name the file, if it is empty or can't be read.
    pub fn read(file: &Path) -> Result<Self, String> {
        match fs::read_to_string(file) {
            Ok(text) if text.trim().is_empty() => Err(format!("{} is empty", file.display())),
            Ok(text) => Ok(Self::new(text.trim_end_matches(['\r', '\n']))),
            Err(e) => Err(format!("{} can't be read: {e}", file.display())),
        }
    }

    /// The value itself, for those that log in with it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A URL, or a list of them with commas between; shown without user and password.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    text: String,
    is_list: bool,
}

impl Url {
    /// Takes any text; whoever connects says whether it is a URL.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_list: false }
    }

    /// Takes any text, in which a comma may begin another URL.
    pub fn list(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_list: true }
    }

    /// The whole text, for those that connect.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// Each URL of it; nothing if a comma may be a password's: beside a user each needs its scheme.
    pub(super) fn parts(&self) -> Option<Vec<&str>> {
        if !self.is_list {
            return Some(vec![self.text.trim()]);
        }
        let parts: Vec<&str> = self.text.split(',').map(str::trim).collect();
        let apart = !self.text.contains('@') || parts.iter().all(|one| one.contains("://"));
        apart.then_some(parts)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.parts().unwrap_or_else(|| vec![self.text.trim()]);
        f.write_str(&parts.into_iter().map(shown).collect::<Vec<_>>().join(","))
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// One URL as it may be shown. Where it is malformed, what could be a password is hidden as well: a
/// port that is no number, and every parameter whose name speaks of a password.
fn shown(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let (user, rest) = match rest.rsplit_once('@') {
        Some((_, rest)) => ("***@", rest),
        None => ("", rest),
    };
    let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
    let end = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let mut text = if scheme.is_empty() { String::new() } else { format!("{scheme}://") };
    text.push_str(user);
    for (i, host) in authority.split(',').enumerate() {
        text.push_str(if i == 0 { "" } else { "," });
        match host.rsplit_once(':') {
            Some((name, port))
                if !(port.ends_with(']') || port.is_empty() || port.parse::<u16>().is_ok()) =>
            {
                // What follows may be the password's rest.
                text.push_str(name);
                text.push_str(":***");
                return text;
            }
            _ => text.push_str(host),
        }
    }
    text.push_str(path);
    if let Some(query) = query {
        let pairs = query.split('&').map(|pair| match pair.split_once('=') {
            Some((name, _)) if name.to_ascii_lowercase().contains("pass") => format!("{name}=***"),
            _ => pair.to_owned(),
        });
        text.push('?');
        text.push_str(&pairs.collect::<Vec<_>>().join("&"));
    }
    text
}

/// A text in which URLs may stand, without their passwords.
pub fn without_passwords(text: &str) -> String {
    let border = |c: char| c.is_whitespace() || matches!(c, '\'' | '"' | '`');
    let word = |word: &str| if word.contains("://") { shown(word) } else { word.to_owned() };
    text.split_inclusive(border)
        .map(|part| match part.strip_suffix(border) {
            Some(inner) => format!("{}{}", word(inner), &part[inner.len()..]),
            None => word(part),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_never_shown() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?} {secret:#?}"), "*** *** ***");
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn urls_are_shown_without_what_could_be_a_password() {
        let show = |url: &str| Url::list(url).to_string();
        assert_eq!(show("nats://h:4222"), "nats://h:4222");
        assert_eq!(show("nats://u:pw@h:4222, tls://tok@i"), "nats://***@h:4222,tls://***@i");
        assert_eq!(show("postgres://u:p@h:1/d?sslmode=disable"), "postgres://***@h:1/d?sslmode=disable");
        assert_eq!(show("postgres://h/d?password=pw&a=b"), "postgres://h/d?password=***&a=b");
        for plain in ["nats://[::1]:4222", "postgres://a:1,b:+2/d", "postgres://a,b:2,[::1]/d"] {
            assert_eq!(Url::new(plain).to_string(), plain);
        }
        for odd in ["nats://u:p@s:pw@h", "nats://u:a,pw@h", "nats://u:pw", "u:pw@h", "postgres://u:pw/pw"] {
            assert!(!show(odd).contains("pw"), "{odd}: {}", show(odd));
        }
        assert!(!format!("{:?}", Url::list("nats://u:pw@h")).contains("pw"));
        assert_eq!(Url::new("postgres://u:p@h/d,://y/z").to_string(), "postgres://***@h/d,://y/z");
    }

    #[test]
    fn urls_within_a_text_too() {
        let text = "unrecognized subcommand 'postgres://u:pw@h/d' found\n";
        assert_eq!(without_passwords(text), "unrecognized subcommand 'postgres://***@h/d' found\n");
    }
}
