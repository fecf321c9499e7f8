//! The table `[nats]`.

use std::path::PathBuf;
use std::time::Duration;

use async_nats::ServerAddr;
use fleet_core::nats::{Auth, Key, NatsOptions};

use super::secret::Url;
use super::values::Values;

/// Where NATS is, who we are, and how the streams are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsConfig {
    /// One server or several with commas between.
    pub url: Url,
    /// How to log in; with nothing else, as the URL says.
    pub login: Auth,
    /// Root certificates, which are trusted instead of the platform's.
    pub ca_file: Option<PathBuf>,
    /// TLS before the server's first word.
    pub tls_first: bool,
    /// 1, or 3 on a cluster.
    pub replicas: usize,
    /// How long samples are kept.
    pub max_age: Duration,
    /// How many bytes of samples are kept at most.
    pub max_bytes: i64,
}

impl NatsConfig {
    /// The options of a connection.
    pub fn options(&self) -> NatsOptions {
        let (auth, tls_first) = (self.login.clone(), self.tls_first);
        NatsOptions { auth, ca_file: self.ca_file.clone(), tls_first, ..NatsOptions::new(self.url.expose()) }
    }
}

pub(super) fn read(values: &mut Values) -> NatsConfig {
    NatsConfig {
        url: url(values),
        login: login(values),
        ca_file: values.file("nats.ca_file"),
        tls_first: values.flag("nats.tls_first"),
        replicas: values.count("nats.replicas", 1..=5),
        max_age: values.duration("nats.max_age", 60_000..=365 * 86_400_000),
        max_bytes: values.size("nats.max_bytes", 1 << 20),
    }
}

fn url(values: &mut Values) -> Url {
    let url = Url::list(values.text("nats.url").trim());
    if !url.parts().is_some_and(|parts| parts.into_iter().all(is_server)) {
        // The parser's own words could quote a part of the password.
        let rule = "is not a URL such as nats://host:4222 or tls://host:4222";
        values.say("nats.url", format!("\"{url}\" {rule}"));
    }
    url
}

/// Whether this is a server's address and no more; the parser would take any path, or none of it.
fn is_server(one: &str) -> bool {
    let rest = one.split_once("://").map_or(one, |(_, rest)| rest);
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    !rest.contains(['/', '?', '#'])
        && one.parse::<ServerAddr>().is_ok_and(|address| !address.host().is_empty())
}

fn login(values: &mut Values) -> Auth {
    let kinds = ["nats.creds", "nats.nkey_file", "nats.user", "nats.token", "nats.token_file"];
    let chosen = values.either(&kinds);
    if chosen != Some("nats.user") && values.optional("nats.user").is_none() {
        for path in ["nats.password", "nats.password_file"] {
            if values.optional(path).is_some() {
                values.say(path, "is set without nats.user");
            }
        }
    }
    match chosen {
        Some("nats.creds") => values.file("nats.creds").map_or(Auth::None, Auth::Credentials),
        Some("nats.nkey_file") => key_file(values, "nats.nkey_file").map_or(Auth::None, Auth::Nkey),
        Some("nats.token_file") => key_file(values, "nats.token_file").map_or(Auth::None, Auth::Token),
        Some("nats.token") => Auth::Token(Key::Given(values.text("nats.token").to_owned())),
        Some(_) => user(values),
        None => Auth::None,
    }
}

fn user(values: &mut Values) -> Auth {
    let user = values.text("nats.user").to_owned();
    let password = match values.either(&["nats.password", "nats.password_file"]) {
        Some("nats.password") => Some(Key::Given(values.text("nats.password").to_owned())),
        Some(file) => key_file(values, file),
        None => {
            values.say("nats.user", format!("{user:?} has neither nats.password nor nats.password_file"));
            None
        }
    };
    password.map_or(Auth::None, |password| Auth::Password { user, password })
}

/// A file with a secret, which can be read now.
fn key_file(values: &mut Values, path: &str) -> Option<Key> {
    values.secret_file(path)?;
    values.optional(path).map(|file| Key::File(file.into()))
}
