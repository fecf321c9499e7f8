//! Connections to the database.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fleet_core::{Error, error::Result};
use tokio::task::AbortHandle;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::fault::{self, Verdict};
use super::tls;

/// Where the database is and whom it trusts.
#[derive(Clone)]
pub struct ConnectOptions {
    /// `postgres://user:password@host:5432/database?sslmode=require`; the special characters of the
    /// password percent-encoded.
    ///
    /// `sslmode` is `disable`, `prefer` (the default) or `require`, or `verify-full`, which is the
    /// same as `require`: whatever is encrypted is verified, the host's name included. With `prefer` a
    /// server without TLS, or with a certificate that can't be verified, is spoken to in the clear.
    pub url: String,
    /// Trust the PEM certificates in this file instead of the platform's.
    pub ca_file: Option<PathBuf>,
    /// How long one try to connect may take.
    pub connect_timeout: Duration,
    /// Gives the URL anew for each connection, for one whose user or password changes.
    pub renewed: Option<RenewedUrl>,
}

/// Gives a URL as [`ConnectOptions::url`] is, or says why it can't, without a secret.
pub type RenewedUrl = Arc<dyn Fn() -> std::result::Result<String, String> + Send + Sync>;

impl ConnectOptions {
    /// The options for a URL: the platform's certificates, 10 s to connect.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), ca_file: None, connect_timeout: Duration::from_secs(10), renewed: None }
    }
}

impl fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url: _, ca_file, connect_timeout, renewed: _ } = self;
        f.debug_struct("ConnectOptions")
            .field("ca_file", ca_file)
            .field("connect_timeout", connect_timeout)
            .finish_non_exhaustive()
    }
}

/// Makes connections to one database. Cheap to clone; does nothing before it is used.
#[derive(Clone)]
pub struct Connector {
    config: Config,
    renewed: Option<RenewedUrl>,
    /// Whether a login was ever accepted, by this value or a clone of it.
    accepted: Arc<AtomicBool>,
    tls: Option<MakeRustlsConnect>,
    timeout: Duration,
    target: String,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("target", &self.target).finish_non_exhaustive()
    }
}

/// What a URL should look like; the parser's own words could quote a part of the password.
const SHAPE: &str = "the database's URL must read \
    postgres://user:password@host:5432/database?sslmode=disable|prefer|require|verify-full, with special \
    characters percent-encoded; root certificates are not part of it but the option ca_file";

impl Connector {
    /// Parses the URL and reads the certificates.
    ///
    /// # Errors
    /// [`Configuration`](fleet_core::ErrorKind::Configuration) for a URL that can't be parsed and for
    /// certificates that can't be read.
    pub fn new(options: &ConnectOptions) -> Result<Self> {
        let config = parse(&options.url, options.connect_timeout)?;
        let target = target(&config).ok_or_else(|| Error::configuration(SHAPE))?;
        let tls = match config.get_ssl_mode() {
            SslMode::Disable => None,
            _ => Some(tls::connector(options.ca_file.as_deref())?),
        };
        let (renewed, timeout) = (options.renewed.clone(), options.connect_timeout);
        Ok(Self { config, renewed, accepted: Arc::default(), tls, timeout, target })
    }

    /// Host, port and database, for messages.
    pub fn target(&self) -> &str {
        &self.target
    }

    pub(super) async fn connect(&self) -> Result<Connection> {
        self.try_connect().await.map_err(|failed| failed.error)
    }

    /// The same, to know whether the server is there: nothing if it is and takes no connection.
    pub(super) async fn knock(&self) -> Result<Option<Connection>> {
        match self.try_connect().await {
            Ok(connection) => Ok(Some(connection)),
            Err(failed) if failed.answered => Ok(None),
            Err(failed) => Err(failed.error),
        }
    }

    async fn try_connect(&self) -> std::result::Result<Connection, Failed> {
        let config = self.login().map_err(Failed::before)?;
        let failed = match self.attempt(&config).await {
            Ok(connection) => {
                self.accepted.store(true, Ordering::Relaxed);
                return Ok(connection);
            }
            Err(failed) => failed,
        };
        // Its password has changed, and the new one is about to be written where we look for it.
        if failed.login && self.renewed.is_some() && self.accepted.load(Ordering::Relaxed) {
            return Err(Failed { error: Error::unavailable(failed.error.to_string()), ..failed });
        }
        if !(failed.certificate && self.config.get_ssl_mode() == SslMode::Prefer) {
            return Err(failed);
        }
        tracing::warn!(
            error = %failed.error,
            "connecting without TLS, because sslmode is prefer and the certificate could not be verified"
        );
        let mut plain = config;
        plain.ssl_mode(SslMode::Disable);
        self.attempt(&plain).await
    }

    /// The configuration with the user and password of now. Where they can't be had, somebody may be
    /// writing them: not reachable yet.
    fn login(&self) -> Result<Config> {
        let mut config = self.config.clone();
        if let Some(renewed) = &self.renewed {
            let url = renewed().map_err(Error::unavailable)?;
            let now = parse(&url, self.timeout).map_err(|e| Error::unavailable(e.to_string()))?;
            now.get_user().map(|user| config.user(user));
            now.get_password().map(|password| config.password(password));
        }
        Ok(config)
    }

    async fn attempt(&self, config: &Config) -> std::result::Result<Connection, Failed> {
        let connecting = Box::pin(async {
            match &self.tls {
                Some(tls) => {
                    let (client, driver) = config.connect(tls.clone()).await?;
                    Ok((client, drive(driver)))
                }
                None => {
                    let (client, driver) = config.connect(NoTls).await?;
                    Ok((client, drive(driver)))
                }
            }
        });
        match tokio::time::timeout(self.timeout, connecting).await {
            Ok(Ok((client, driver))) => Ok(Connection { client, driver, target: self.target.clone() }),
            Ok(Err(error)) => Err(self.failed(&error)),
            Err(_) => {
                let (target, seconds) = (&self.target, self.timeout.as_secs_f64());
                let text = format!("the database at {target} did not answer within {seconds} s");
                Err(Failed::before(Error::unavailable(text)))
            }
        }
    }

    fn failed(&self, error: &tokio_postgres::Error) -> Failed {
        let certificate = fault::io_cause(error).and_then(|io| match io.get_ref()?.downcast_ref()? {
            rustls::Error::InvalidCertificate(why) => Some(mend(why)),
            _ => None,
        });
        let what = format!("could not connect to the database at {}", self.target);
        let why = fault::describe(error);
        let login = error.code().is_some_and(|code| {
            [SqlState::INVALID_PASSWORD, SqlState::INVALID_AUTHORIZATION_SPECIFICATION].contains(code)
        });
        let answered = error.code().is_some_and(|code| !code.code().starts_with("57P"));
        let error = if let Some(mend) = certificate {
            Error::configuration(format!("{what}: {why}; {mend}"))
        } else if error.code().is_none() && !error.is_closed() && fault::io_cause(error).is_none() {
            // No server's word and no I/O: a missing password or TLS that the server lacks.
            Error::configuration(format!("{what}: {why}; check the database's URL"))
        } else {
            match fault::verdict(error, true) {
                Verdict::Unavailable => Error::unavailable(format!("{what}: {why}")),
                Verdict::Configuration => Error::configuration(format!("{what}: {why}")),
                _ => Error::internal(format!("{what}: {why}")),
            }
        };
        Failed { error, certificate: certificate.is_some(), login, answered }
    }
}

fn parse(url: &str, timeout: Duration) -> Result<Config> {
    let url = url.trim();
    if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
        return Err(Error::configuration(SHAPE));
    }
    // A second one would leave open where the password ends.
    if url.matches('@').count() > 1 {
        return Err(Error::configuration(SHAPE));
    }
    let mut config: Config = verified_is_required(url).parse().map_err(|_| Error::configuration(SHAPE))?;
    if !config.get_hosts().iter().all(is_host) {
        return Err(Error::configuration(SHAPE));
    }
    config.connect_timeout(timeout);
    if config.get_application_name().is_none() {
        config.application_name("fleet");
    }
    notice_lost_links(&mut config);
    Ok(config)
}

/// Whether this can be a host; the parser takes anything between two commas.
fn is_host(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => {
            !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "._-:%".contains(c))
        }
        Host::Unix(_) => true,
    }
}

/// What a person can do about a certificate.
fn mend(why: &rustls::CertificateError) -> &'static str {
    use rustls::CertificateError as Why;
    match why {
        Why::NotValidForName | Why::NotValidForNameContext { .. } => {
            "call the host in the database's URL as its certificate does"
        }
        Why::Expired | Why::ExpiredContext { .. } | Why::NotValidYet | Why::NotValidYetContext { .. } => {
            "renew the server's certificate, or set this machine's clock"
        }
        _ => "name the server's root certificate as ca_file",
    }
}

struct Failed {
    error: Error,
    /// The server's certificate is not trusted.
    certificate: bool,
    /// The server refuses the user or the password.
    login: bool,
    /// The server is there and refuses the connection.
    answered: bool,
}

impl Failed {
    /// Without a word of the server.
    fn before(error: Error) -> Self {
        Self { error, certificate: false, login: false, answered: false }
    }
}

fn drive<S, T>(driver: tokio_postgres::Connection<S, T>) -> AbortHandle
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let task = tokio::spawn(async move {
        if let Err(error) = driver.await {
            tracing::debug!(error = %fault::describe(&error), "a connection to the database ended");
        }
    });
    task.abort_handle()
}

/// An open connection; dropping it closes it at once, whatever is under way.
pub(super) struct Connection {
    client: Client,
    driver: AbortHandle,
    target: String,
}

impl Connection {
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Asks whether the server answers and isn't read-only, as a standby is, or one whose disk is full.
    ///
    /// # Errors
    /// [`Unavailable`](fleet_core::ErrorKind::Unavailable) if it is, or what the server says.
    pub(super) async fn takes_writes(&self) -> Result<()> {
        const WHAT: &str = "ask whether records are taken";
        // Nothing is prepared for it.
        let answer = self.client.simple_query("show transaction_read_only").await;
        let answer = answer.map_err(self.failed(WHAT))?;
        let is_on = |message: &_| matches!(message, SimpleQueryMessage::Row(row) if row.get(0) == Some("on"));
        if answer.iter().any(is_on) {
            return Err(Error::unavailable(format!("the database at {} is read-only", self.target)));
        }
        Ok(())
    }

    /// Lets statements change compressed rows, however many. By way of `pg_settings`, because only
    /// TimescaleDB has the setting, and not every version.
    pub(super) async fn unlimit_decompression(&self) -> Result<()> {
        let set = "select set_config(name, '0', false) from pg_settings \
                   where name = 'timescaledb.max_tuples_decompressed_per_dml_transaction'";
        self.client.batch_execute(set).await.map_err(self.failed("set the session up"))
    }

    /// Maps an error of this connection, for `map_err`; `what` reads after "could not".
    pub(super) fn failed(&self, what: &str) -> impl Fn(tokio_postgres::Error) -> Error {
        let closed = self.is_closed();
        move |error| fault::error(what, &self.target, &error, closed)
    }

    pub(super) fn error(&self, what: &str, error: &tokio_postgres::Error) -> Error {
        fault::error(what, &self.target, error, self.is_closed())
    }

    pub(super) fn verdict(&self, error: &tokio_postgres::Error) -> Verdict {
        fault::verdict(error, self.is_closed())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// tokio-postgres knows `require` at most; what it encrypts, we verify.
fn verified_is_required(url: &str) -> String {
    let Some((address, query)) = url.rsplit_once('?') else { return url.to_owned() };
    let query = query.split('&').map(|pair| match pair {
        "sslmode=verify-full" | "sslmode=verify-ca" => "sslmode=require",
        other => other,
    });
    format!("{address}?{}", query.collect::<Vec<_>>().join("&"))
}

/// `host:port/database`, or nothing if the host holds an `@`: then it holds a part of the password.
fn target(config: &Config) -> Option<String> {
    let mut hosts = Vec::new();
    for (i, host) in config.get_hosts().iter().enumerate() {
        let host = match host {
            Host::Tcp(host) => host.clone(),
            Host::Unix(path) => path.display().to_string(),
        };
        let ports = config.get_ports();
        let port = ports.get(i).or(ports.first()).copied().unwrap_or(5432);
        hosts.push(format!("{host}:{port}"));
    }
    let database = config.get_dbname().or(config.get_user()).unwrap_or_default();
    (!hosts.is_empty()).then(|| format!("{}/{database}", hosts.join(",")))
}

/// A peer that vanished without a word is noticed within 30 s, unless the URL says otherwise.
fn notice_lost_links(config: &mut Config) {
    let default_idle = Config::new().get_keepalives_idle();
    if config.get_keepalives_idle() == default_idle {
        config.keepalives_idle(Duration::from_secs(15));
        config.keepalives_interval(Duration::from_secs(5));
        config.keepalives_retries(3);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(Duration::from_secs(30));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connector(url: &str) -> Result<Connector> {
        Connector::new(&ConnectOptions::new(url))
    }

    #[test]
    fn sslmodes_are_those_of_libpq() {
        let mode =
            |query: &str| connector(&format!("postgres://u:p@h/db{query}")).unwrap().config.get_ssl_mode();
        assert_eq!(mode(""), SslMode::Prefer);
        assert_eq!(mode("?sslmode=disable"), SslMode::Disable);
        assert_eq!(mode("?sslmode=require"), SslMode::Require);
        assert_eq!(mode("?application_name=x&sslmode=verify-full"), SslMode::Require);
    }

    #[test]
    fn nothing_shows_the_password() {
        let good = connector("postgres://u:sesame@h:1/db?sslmode=disable").unwrap();
        assert_eq!(good.target(), "h:1/db");
        assert_eq!(connector("postgres://u:p@[::1]:5/d?sslmode=disable").unwrap().target(), "::1:5/d");
        let shown = format!("{good:?} {:?}", ConnectOptions::new("postgres://u:sesame@h/db"));
        assert!(!shown.contains("sesame"), "{shown}");
        for bad in [
            "postgres://u:open@sesame@h/db",
            "postgres://u:sesame@h:/d@b",
            "postgres://u:sesame@h[i,://j/db",
            "postgres://u:open/sesame",
            "postgres://h/db?sesame=1",
            "host=h password=sesame",
            "sesame",
            "postgres://",
        ] {
            let said = connector(bad).unwrap_err();
            assert_eq!(said.kind(), fleet_core::ErrorKind::Configuration, "{bad}");
            assert!(!said.to_string().contains("sesame"), "{bad}: {said}");
        }
    }
}
