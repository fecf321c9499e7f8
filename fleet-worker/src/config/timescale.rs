//! The table `[sink.timescale]`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fleet_core::time::{display_duration, micros};
use fleet_sinks::timescale::{ConnectOptions, Connector, RenewedUrl, SetupOptions};

use super::HOUR;
use super::archive::ParquetConfig;
use super::secret::{Secret, Url};
use super::values::Values;

/// Where the database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimescaleConfig {
    /// With the password, also where that came from a file.
    pub url: Url,
    /// Where the URL comes from, if a part of it is in a file.
    pub files: Option<UrlFiles>,
    /// Root certificates instead of the platform's.
    pub ca_file: Option<PathBuf>,
    /// How many vehicles the tables are laid out for.
    pub expected_vehicles: u32,
    /// The role that may read the views.
    pub reader: Option<String>,
    /// How long rows that are in the archive stay in the database too; as long as in the archive if not set.
    pub retention: Option<Duration>,
}

/// Files that are read anew for each connection, since what they say may change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlFiles {
    /// The URL, where it is not in a file.
    url: Url,
    url_file: Option<PathBuf>,
    password_file: Option<PathBuf>,
}

const URL: &str = "sink.timescale.url";
const URL_FILE: &str = "sink.timescale.url_file";
const PASSWORD_FILE: &str = "sink.timescale.password_file";

impl UrlFiles {
    /// The URL as of now; or the key and what is wrong with its file.
    fn read(&self) -> Result<String, (&'static str, String)> {
        let url = match &self.url_file {
            Some(file) => Secret::read(file).map_err(|problem| (URL_FILE, problem))?,
            None => Secret::new(self.url.expose()),
        };
        let url = url.expose().trim();
        let Some(file) = &self.password_file else { return Ok(url.to_owned()) };
        let password = Secret::read(file).map_err(|problem| (PASSWORD_FILE, problem))?;
        with_password(url, &password).map_err(|rule| (PASSWORD_FILE, format!("{} {rule}", file.display())))
    }
}

impl TimescaleConfig {
    /// The options of a connection.
    pub fn connect_options(&self) -> ConnectOptions {
        let renewed = self
            .files
            .clone()
            .map(|files| Arc::new(move || files.read().map_err(|(_, problem)| problem)) as RenewedUrl);
        let ca_file = self.ca_file.clone();
        ConnectOptions { ca_file, renewed, ..ConnectOptions::new(self.url.expose()) }
    }

    /// The options of the tables. Chunks are compressed only when no catch-up can reach them: samples
    /// are kept for `max_age`, and as much again is allowed for late ones.
    pub fn setup_options(&self, max_age: Duration, retention: Option<Duration>) -> SetupOptions {
        SetupOptions {
            vehicles: self.expected_vehicles,
            compress_after: max_age.saturating_mul(2),
            retention,
            retire_after: self.retention,
            reader: self.reader.clone(),
            ..SetupOptions::default()
        }
    }
}

pub(super) fn read(values: &mut Values, retention: Option<Duration>) -> Option<TimescaleConfig> {
    let before = values.problems.len();
    let expected_vehicles = values.whole("sink.timescale.expected_vehicles", 1..=10_000_000);
    let reader = reader(values);
    // Without a URL the rest is no mistake: discovery may share the workers' file and lack the secrets.
    let source = values.either(&[URL, URL_FILE])?;
    let ca_file = values.file("sink.timescale.ca_file");
    let file = |path| values.optional(path).map(PathBuf::from);
    let (url, url_file) = if source == URL { (values.text(URL), None) } else { ("", file(URL_FILE)) };
    let files = UrlFiles { url: Url::new(url), url_file, password_file: file(PASSWORD_FILE) };
    let url = files.read().map_err(|(path, problem)| values.say(path, problem)).ok()?;
    let files = Some(files).filter(|files| files.url_file.is_some() || files.password_file.is_some());
    let expected_vehicles = u32::try_from(expected_vehicles).unwrap_or(u32::MAX);
    let config = TimescaleConfig { url: Url::new(url), files, ca_file, expected_vehicles, reader, retention };
    // With an unreadable ca_file the connector would only repeat that.
    if values.problems.len() == before
        && let Err(error) = Connector::new(&config.connect_options())
    {
        values.say(source, error.to_string());
    }
    Some(config)
}

/// What is younger may still be caught up; what the archive has no longer could not leave the database.
pub(super) fn retention(
    values: &mut Values,
    max_age: Duration,
    archived: Option<Duration>,
    parquet: Option<&ParquetConfig>,
) -> Option<Duration> {
    const PATH: &str = "sink.timescale.retention";
    let text = values.optional(PATH)?;
    let before = values.problems.len();
    let kept = values.duration(PATH, 48 * HOUR..=100 * 366 * 24 * HOUR);
    if kept < max_age.saturating_mul(2) {
        values.say(PATH, format!("{text:?} is less than twice nats.max_age"));
    }
    if let Some(archived) = archived.filter(|archived| *archived <= kept) {
        let archived = display_duration(micros(archived));
        values.say(PATH, format!("{text:?} is not less than retention, \"{archived}\""));
    }
    match parquet {
        Some(ParquetConfig { required: false, .. }) => {
            let rule = "needs sink.parquet.when_down = \"hold\": another archive may miss rows";
            values.say(PATH, format!("{text:?} {rule}"));
        }
        None if values.either(&["sink.parquet.path", "sink.parquet.url"]).is_none() => {
            values.say(PATH, format!("{text:?} needs an archive: set sink.parquet.path or sink.parquet.url"));
        }
        _ => {}
    }
    (values.problems.len() == before).then_some(kept)
}

/// A role's name as PostgreSQL takes it without quotes, or with a hyphen as some servers make them.
fn reader(values: &mut Values) -> Option<String> {
    let name = values.optional("sink.timescale.reader")?;
    let first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let rest = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if !(first && rest && name.len() <= 63) {
        let rule = "is not a role's name: a letter or _ and then up to 62 of a-z A-Z 0-9 _ -";
        values.say("sink.timescale.reader", format!("{name:?} {rule}"));
    }
    Some(name)
}

/// Puts a password behind the URL's user.
fn with_password(url: &str, password: &Secret) -> Result<String, &'static str> {
    let (scheme, rest) = url.split_once("://").ok_or("needs sink.timescale.url to be a URL")?;
    let (user, rest) = rest.rsplit_once('@').ok_or("needs a user in sink.timescale.url")?;
    if user.contains(':') {
        return Err("is set, and sink.timescale.url has a password too");
    }
    let mut encoded = String::new();
    for byte in password.expose().bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                encoded.push(char::from(byte));
            }
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    Ok(format!("{scheme}://{user}:{encoded}@{rest}"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_password_from_a_file_is_encoded() {
        let url = with_password("postgres://u@h/d", &Secret::new("a@/ü")).unwrap();
        assert_eq!(url, "postgres://u:a%40%2F%C3%BC@h/d");
        assert!(with_password("postgres://u:p@h/d", &Secret::new("x")).is_err());
        assert!(with_password("postgres://h/d", &Secret::new("x")).is_err());
    }

    #[test]
    fn files_are_read_for_each_connection() {
        let dir = tempfile::tempdir().unwrap();
        let (url_file, password_file) = (dir.path().join("url"), dir.path().join("password"));
        let files = UrlFiles {
            url: Url::new("postgres://v@h/d"),
            url_file: None,
            password_file: Some(password_file.clone()),
        };
        let (key, said) = files.read().unwrap_err();
        assert!(key == PASSWORD_FILE && said.contains("password can't be read"), "{key}: {said}");
        for password in ["one", "two"] {
            fs::write(&password_file, format!("{password}\n")).unwrap();
            assert_eq!(files.read().unwrap(), format!("postgres://v:{password}@h/d"));
        }
        let files = UrlFiles { url_file: Some(url_file.clone()), ..files };
        fs::write(&url_file, "postgres://u@h/d\n").unwrap();
        assert_eq!(files.read().unwrap(), "postgres://u:two@h/d");
        fs::write(&url_file, "postgres://u:open@h/d\n").unwrap();
        let (_, said) = files.read().unwrap_err();
        assert!(said.contains("has a password too") && !said.contains("open"), "{said}");
    }

    #[test]
    fn by_default_compression_waits_as_the_sink_does() {
        let url = Url::new("postgres://h/d");
        let config = TimescaleConfig {
            url,
            files: None,
            ca_file: None,
            expected_vehicles: 2_000,
            reader: None,
            retention: None,
        };
        assert_eq!(config.setup_options(Duration::from_secs(6 * 3600), None), SetupOptions::default());
    }
}
