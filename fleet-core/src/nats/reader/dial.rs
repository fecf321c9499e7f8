//! From an address to a connection on which the server has let us in.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use super::inbound::Inbound;
use super::info::ServerInfo;
use super::outbound::{Connect, Outbound};
use super::parse::{Limits, Operation};
use super::servers::Server;
use super::transport::Transport;
use super::{ReaderOptions, tls};
use crate::error::{Error, ErrorKind, Result};
use crate::nats::Auth;

/// How long a server may take for everything up to its first PONG.
const SERVER: Duration = Duration::from_secs(5);
/// How long one of its addresses may take to answer at all.
const ADDRESS: Duration = Duration::from_secs(2);

/// What connections are made with.
#[derive(Debug)]
pub(super) struct Dialler {
    pub options: ReaderOptions,
    /// The options' own, or that of the URL.
    pub auth: Auth,
}

/// A connection that the server has let in.
#[derive(Debug)]
pub(super) struct Dialled {
    pub server: Server,
    pub transport: Transport,
    pub info: ServerInfo,
    /// May hold what came behind the PONG.
    pub inbound: Inbound,
}

/// One round over the servers.
#[derive(Debug)]
pub(super) struct Round {
    /// Those that could not be connected to.
    pub failed: Vec<Server>,
    /// The first that could be, or why none.
    pub result: Result<Dialled>,
}

impl Dialler {
    /// Tries them in turn after a while.
    pub(super) async fn round(self: Arc<Self>, delay: Duration, servers: Vec<Server>) -> Round {
        sleep(delay).await;
        let (mut failed, mut why) = (Vec::new(), None);
        for server in servers {
            let dialled = match timeout(SERVER, self.dial(&server)).await {
                Ok(dialled) => dialled,
                Err(_) => Err(Error::unavailable(format!("the NATS server {server} does not answer"))),
            };
            match dialled {
                Ok(dialled) => return Round { failed, result: Ok(dialled) },
                Err(error) => {
                    tracing::debug!(connection = self.options.name, %error, "no connection to NATS");
                    // What a person must mend says more than that another server is down.
                    let says_more =
                        |old: &Error| error.kind() == ErrorKind::Configuration || old.kind() == error.kind();
                    if why.as_ref().is_none_or(says_more) {
                        why = Some(error);
                    }
                    failed.push(server);
                }
            }
        }
        Round {
            failed,
            result: Err(why.unwrap_or_else(|| Error::configuration("there is no NATS server to connect to"))),
        }
    }

    async fn dial(&self, server: &Server) -> Result<Dialled> {
        let stream = tcp(server).await?;
        let mut inbound = Inbound::new(self.options.buffer, Limits::default());
        let mut transport = Transport::Plain(stream);
        if self.options.nats.tls_first {
            transport = self.encrypted(server, transport, &inbound).await?;
        }
        let mut info = greeting(server, &mut transport, &mut inbound).await?;
        if !self.options.nats.tls_first && (server.tls || info.tls_required) {
            if !info.tls_required && !info.tls_available {
                return Err(Error::configuration(format!("the NATS server {server} offers no TLS")));
            }
            transport = self.encrypted(server, transport, &inbound).await?;
        }
        let tls = matches!(transport, Transport::Tls(_));
        let auth = self
            .auth
            .answer(info.nonce.as_bytes())
            .map_err(|why| Error::configuration(format!("the login to NATS: {why}")))?;
        let mut out = Outbound::default();
        let ReaderOptions { name, echo, headers, .. } = &self.options;
        let name = self.options.nats.labelled(name);
        out.connect(&Connect::new(&name, tls, *echo, *headers, auth))?;
        out.ping();
        loop {
            poll_fn(|cx| transport.poll_send(cx, &mut out)).await.map_err(|e| broken(server, e))?;
            match answer(server, &mut transport, &mut inbound).await? {
                Answer::LetIn => break,
                Answer::Ping => out.pong(),
                Answer::Info(newer) => info = newer,
                Answer::Refused(why) => return Err(refused(server, &why)),
            }
        }
        inbound.limits_mut().announced(info.max_payload());
        Ok(Dialled { server: server.clone(), transport, info, inbound })
    }

    async fn encrypted(&self, server: &Server, transport: Transport, inbound: &Inbound) -> Result<Transport> {
        // What was said in plain behind the greeting would count as said by TLS.
        let Transport::Plain(stream) = transport else { return Ok(transport) };
        if !inbound.is_empty() {
            return Err(Error::unavailable(format!(
                "the NATS server {server} goes on in plain where TLS begins"
            )));
        }
        let ca_file = self.options.nats.ca_file.clone();
        let config = tokio::task::spawn_blocking(move || tls::config(ca_file.as_deref()))
            .await
            .map_err(|e| Error::internal("the certificates could not be read").caused_by(e))??;
        let failed = |why: io::Error| {
            let text = format!("TLS to the NATS server {server} fails");
            let certificate = why.get_ref().and_then(|why| why.downcast_ref()).is_some_and(is_certificate);
            match certificate {
                true => Error::configuration(text).caused_by(why),
                false => Error::unavailable(text).caused_by(why),
            }
        };
        let name = ServerName::try_from(server.tls_name.clone()).map_err(|e| {
            Error::configuration(format!("no certificate can be for {:?}", server.tls_name)).caused_by(e)
        })?;
        let stream = TlsConnector::from(config).connect(name, stream).await.map_err(failed)?;
        Ok(Transport::Tls(Box::new(stream)))
    }
}

fn is_certificate(error: &rustls::Error) -> bool {
    matches!(error, rustls::Error::InvalidCertificate(_))
}

async fn tcp(server: &Server) -> Result<TcpStream> {
    let failed =
        |e: io::Error| Error::unavailable(format!("no NATS server answers at {server}")).caused_by(e);
    let addresses = tokio::net::lookup_host((server.host.as_str(), server.port)).await.map_err(failed)?;
    let mut why = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match timeout(ADDRESS, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true).map_err(failed)?;
                return Ok(stream);
            }
            Ok(Err(error)) => why = error,
            Err(_) => why = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(failed(why))
}

fn broken(server: &Server, error: io::Error) -> Error {
    Error::unavailable(format!("the NATS server {server} ends the connection")).caused_by(error)
}

/// Why the server did not let us in. With the right login it may not have the time or the room.
fn refused(server: &Server, why: &str) -> Error {
    let lower = why.to_ascii_lowercase();
    if lower.contains("authorization") || (lower.contains("authentication") && !lower.contains("timeout")) {
        return Error::configuration(format!("the NATS server {server} refuses this login: {why}"));
    }
    Error::unavailable(format!("the NATS server {server} refuses the connection: {why}"))
}

/// Waits for an operation of which something is made.
async fn first<T>(
    server: &Server,
    transport: &mut Transport,
    inbound: &mut Inbound,
    mut of: impl FnMut(Operation<'_>) -> Result<Option<T>>,
) -> Result<T> {
    loop {
        for operation in inbound.operations() {
            let operation = operation
                .map_err(|e| Error::unavailable(format!("{server} is no NATS server")).caused_by(e))?;
            if let Some(found) = of(operation)? {
                return Ok(found);
            }
        }
        poll_fn(|cx| transport.poll_fill(cx, inbound)).await.map_err(|e| broken(server, e))?;
    }
}

async fn greeting(server: &Server, transport: &mut Transport, inbound: &mut Inbound) -> Result<ServerInfo> {
    let of = |operation: Operation<'_>| match operation {
        Operation::Info(json) => ServerInfo::parse(json).map(Some),
        Operation::Error(why) => Err(refused(server, &String::from_utf8_lossy(why))),
        _ => Err(Error::unavailable(format!("the NATS server {server} does not begin with INFO"))),
    };
    first(server, transport, inbound, of).await
}

enum Answer {
    LetIn,
    Ping,
    Info(ServerInfo),
    Refused(String),
}

async fn answer(server: &Server, transport: &mut Transport, inbound: &mut Inbound) -> Result<Answer> {
    let of = |operation: Operation<'_>| {
        Ok(match operation {
            Operation::Pong => Some(Answer::LetIn),
            Operation::Ping => Some(Answer::Ping),
            Operation::Info(json) => Some(Answer::Info(ServerInfo::parse(json)?)),
            Operation::Error(why) => Some(Answer::Refused(String::from_utf8_lossy(why).into_owned())),
            _ => None,
        })
    };
    first(server, transport, inbound, of).await
}
