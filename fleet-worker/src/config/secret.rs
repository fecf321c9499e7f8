//! Values that must not be shown.

use std::fmt;

/// A password, a token or a seed: shown as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides `value`.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
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

/// A URL, or several with commas between; shown without user and password.
#[derive(Clone, PartialEq, Eq)]
pub struct Url(String);

impl Url {
    /// Takes any text; whoever connects says whether it is a URL.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The whole URL, for those that connect.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<String> = match self.0.rfind('@') {
            // Commas left of an `@` may belong to a password, unless each part is a URL by itself.
            Some(_) if !self.0.split(',').all(|one| one.contains("://")) => vec![shown(self.0.trim())],
            _ => self.0.split(',').map(|one| shown(one.trim())).collect(),
        };
        f.write_str(&shown.join(","))
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
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') && !port.bytes().all(|b| b.is_ascii_digit()) => {
            // What follows may be the password's rest.
            text.push_str(host);
            text.push_str(":***");
            return text;
        }
        _ => text.push_str(authority),
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
        let show = |url: &str| Url::new(url).to_string();
        assert_eq!(show("nats://h:4222"), "nats://h:4222");
        assert_eq!(show("nats://u:pw@h:4222, tls://tok@i"), "nats://***@h:4222,tls://***@i");
        assert_eq!(show("postgres://u:p@h:1/d?sslmode=disable"), "postgres://***@h:1/d?sslmode=disable");
        assert_eq!(show("postgres://h/d?password=pw&a=b"), "postgres://h/d?password=***&a=b");
        assert_eq!(show("nats://[::1]:4222"), "nats://[::1]:4222");
        for odd in ["nats://u:p@s:pw@h", "nats://u:a,pw@h", "nats://u:pw", "u:pw@h", "postgres://u:pw/pw"] {
            assert!(!show(odd).contains("pw"), "{odd}: {}", show(odd));
        }
        assert!(!format!("{:?}", Url::new("nats://u:pw@h")).contains("pw"));
    }

    #[test]
    fn urls_within_a_text_too() {
        let text = "unrecognized subcommand 'postgres://u:pw@h/d' found\n";
        assert_eq!(without_passwords(text), "unrecognized subcommand 'postgres://***@h/d' found\n");
    }
}
