//! Connections to NATS.

use std::path::PathBuf;
use std::time::Duration;

use async_nats::{AuthError, Client, ConnectOptions, Event, ServerAddr};

use super::auth::{Auth, Key};
use crate::error::{Error, Result};

/// Where the server is and who we are.
#[derive(Debug, Clone)]
pub struct NatsOptions {
    /// `nats://host:port` or `tls://host:port`, several with commas between. A user and password
    /// in it are used too.
    pub url: String,
    /// How to identify.
    pub auth: Auth,
    /// Root certificates, which are trusted instead of the platform's.
    pub ca_file: Option<PathBuf>,
    /// How long the first connection may take.
    pub timeout: Duration,
    /// TLS before the server's first word, which it must be configured for (`handshake_first`).
    pub tls_first: bool,
    /// What the connection's name ends with, so that the server's lists tell those of one process apart. Inboxes,
    /// and so permissions, go by the name without it.
    pub label: Option<String>,
}

impl NatsOptions {
    /// A server without authentication, 10 s to reach it.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            auth: Auth::None,
            ca_file: None,
            timeout: Duration::from_secs(10),
            tls_first: false,
            label: None,
        }
    }

    /// `name`, with the label.
    pub(super) fn labelled(&self, name: &str) -> String {
        self.label.as_ref().map_or_else(|| name.to_owned(), |label| format!("{name} {label}"))
    }
}

/// Connects, and stays connected: after the first time the client reconnects by itself for ever.
/// `name`, with the options' label, is what the server calls the connection, and its inboxes begin with
/// `_INBOX.<name>.`, so that permissions can tell programs apart. `on_event` is told of the connection's ups and downs.
///
/// # Errors
/// [`Configuration`](crate::ErrorKind::Configuration) for a bad URL, credentials or certificate,
/// [`Unavailable`](crate::ErrorKind::Unavailable) where no server answers in time.
pub async fn connect(
    options: &NatsOptions,
    name: &str,
    on_event: impl Fn(Event) + Send + Sync + Clone + 'static,
) -> Result<Client> {
    let connection = options.labelled(name);
    // The client takes no credentials out of a URL by itself.
    let in_url = if options.auth == Auth::None { credentials_in(&options.url) } else { None };
    let auth = in_url.unwrap_or_else(|| options.auth.clone());
    auth.answer(&[]).map_err(|why| Error::configuration(format!("the login to NATS: {why}")))?;
    let mut connect = ConnectOptions::with_auth_callback(move |nonce| {
        std::future::ready(auth.answer(&nonce).map_err(AuthError::new))
    })
    .name(&connection)
    .custom_inbox_prefix(format!("_INBOX.{name}"))
    .ping_interval(Duration::from_secs(10))
    .reconnect_delay_callback(|attempt| {
        Duration::from_millis(match attempt {
            0 | 1 => 50,
            2..=5 => 250,
            _ => 1_000,
        })
    })
    .event_callback(move |event| {
        tell(&connection, &event);
        on_event(event);
        async {}
    });
    if let Some(ca) = &options.ca_file {
        connect = connect.add_root_certificates(ca.clone());
    }
    if options.tls_first {
        connect = connect.tls_first();
    }
    let shown = without_password(&options.url);
    let servers: Vec<&str> = options.url.split(',').map(str::trim).collect();
    let connecting = connect.connect(servers);
    match tokio::time::timeout(options.timeout, connecting).await {
        Ok(Ok(client)) => Ok(client),
        Ok(Err(error)) => Err(classify(&shown, error)),
        Err(_) => Err(Error::unavailable(format!("no NATS server answers at {shown}"))),
    }
}

/// What the server refuses later on, a subject without permission or credentials that were withdrawn,
/// it says only here: whoever asked just gets no answer.
fn tell(connection: &str, event: &Event) {
    if let Event::ServerError(error) = event {
        tracing::warn!(connection, %error, "the NATS server refuses");
    }
}

/// The first `user:password@` or `token@` of the URLs.
pub(super) fn credentials_in(urls: &str) -> Option<Auth> {
    urls.split(',').find_map(|url| {
        let address: ServerAddr = url.trim().parse().ok()?;
        let user = decoded(address.username()?);
        Some(match address.password() {
            Some(password) => Auth::Password { user, password: Key::Given(decoded(password)) },
            None => Auth::Token(Key::Given(user)),
        })
    })
}

/// Undoes percent-encoding; what is none stays as it is.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, after)) = rest.split_once('%') {
        bytes.extend_from_slice(plain.as_bytes());
        match after.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(b'%');
                rest = after;
            }
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

fn classify(shown: &str, error: async_nats::ConnectError) -> Error {
    use async_nats::ConnectErrorKind as Kind;
    match error.kind() {
        Kind::Authentication | Kind::AuthorizationViolation => {
            Error::configuration(format!("the NATS server at {shown} refuses these credentials"))
        }
        Kind::ServerParse => Error::configuration(format!("{shown} is no NATS URL")).caused_by(error),
        Kind::Tls => {
            Error::configuration(format!("TLS to the NATS server at {shown} fails")).caused_by(error)
        }
        _ => Error::unavailable(format!("no NATS server answers at {shown}")).caused_by(error),
    }
}

/// The URL as it may be shown: `nats://user:***@host`.
fn without_password(url: &str) -> String {
    let hide = |one: &str| match (one.find("://"), one.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => format!("{}://***{}", &one[..scheme], &one[at..]),
        _ => one.to_owned(),
    };
    url.split(',').map(|one| hide(one.trim())).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_of_a_url_are_used() {
        let Some(Auth::Password { user, password }) = credentials_in("nats://h:1, nats://u:p%40%2f@i:2")
        else {
            panic!("no password")
        };
        assert_eq!((user.as_str(), password), ("u", Key::Given("p@/".into())));
        let Some(Auth::Token(token)) = credentials_in("nats://s3cret@h:1") else { panic!("no token") };
        assert_eq!(token, Key::Given("s3cret".into()));
        assert!(credentials_in("nats://h:1").is_none());
        assert_eq!(decoded("100%"), "100%");
    }

    #[test]
    fn no_secret_is_shown() {
        assert_eq!(without_password("nats://u:p@h:4222, nats://t@i"), "nats://***@h:4222,nats://***@i");
        assert_eq!(without_password("nats://h:4222"), "nats://h:4222");
    }
}
