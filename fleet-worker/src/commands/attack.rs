//! Tries on a real server what a vehicle must not be able to do (docs/SECURITY.md). What is published
//! is empty, so that nothing of it becomes a record.

use std::path::Path;
use std::time::Duration;

use async_nats::{Client, Subscriber};
use bytes::Bytes;
use fleet_core::VehicleId;
use fleet_core::error::{Error, Result};
use fleet_core::nats::{Auth, Key, Names, NatsOptions, connect, known_to_all};
use futures_util::StreamExt;
use tokio::time::timeout;

use crate::config::Config;

/// How long an answer is waited for that must not come; it would come in milliseconds.
const WAIT: Duration = Duration::from_secs(3);

/// Another vehicle, which there need not be.
const OTHER: &str = "fleet-check";

/// Whether the JetStream API refuses requests with fields that it does not know. One that doesn't takes
/// a publish ack for a request, such as one to purge a stream.
///
/// # Errors
/// [`Unavailable`](fleet_core::ErrorKind::Unavailable) if it does not answer.
pub(super) async fn is_strict(client: &Client, names: &Names) -> Result<bool> {
    // The same as an ack, to a subject that can do no harm.
    let subject = format!("$JS.API.STREAM.INFO.{}", names.telemetry_stream());
    let ack = Bytes::from_static(b"{\"stream\":\"x\",\"seq\":1}");
    let answer = client.request(subject, ack).await;
    let answer = answer.map_err(|e| Error::unavailable("the JetStream API does not answer").caused_by(e))?;
    let answer: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap_or_default();
    Ok(answer["error"]["err_code"] == 10_025)
}

/// What has to be said where [`is_strict`] says no.
pub(super) const NOT_STRICT: &str =
    "the JetStream API is not strict: set `jetstream { strict: true }` in the server's configuration";

/// What a vehicle can do that it must not, in words; nothing where all is well. `config` logs in as
/// `setup` does, the vehicle by a file with its nkey's seed or its credentials.
///
/// # Errors
/// If one of them can't log in, or the vehicle gets no acks for what it may publish.
pub(super) async fn attack(config: &Config, vehicle: &VehicleId, login: &Path) -> Result<Vec<String>> {
    let names = Names::new(super::one_cell(config)?);
    let ours = connect(&config.nats.options(), &names.connection("setup"), |_| {}).await?;
    let options = NatsOptions { auth: login_of(login)?, ..config.nats.options() };
    let client = connect(&options, vehicle.as_str(), |_| {}).await?;
    let signal = config.schema.signals().first().map_or("on", |signal| signal.name.as_str());
    let own = names.subject(vehicle, signal);
    let mut found = Vec::new();
    let inbox = ours.new_inbox();
    let mut forged = ours.subscribe(inbox.clone()).await.map_err(unavailable)?;
    // Its answer says that the server knows the subscription, too; `flush` only that it was sent.
    if !is_strict(&ours, &names).await? {
        found.push(NOT_STRICT.to_owned());
    }
    known_to_all(&ours).await;
    let acked = async || match answered(&client, own.clone()).await {
        Ok(false) => Err(Error::configuration(format!(
            "{vehicle} gets no publish ack for {own}: it may not publish there or not read its inboxes, or `setup` did not run"
        ))),
        other => other.map(drop),
    };
    acked().await?;

    // The ack of the vehicle's message must not reach a subject of our account.
    client.publish_with_reply(own.clone(), inbox, Bytes::new()).await.map_err(unavailable)?;
    acked().await?;
    // Acks are sent in order: what was sent to us before that one is here with this answer.
    is_strict(&ours, &names).await?;
    if came(&mut forged).await {
        found.push(format!(
            "{vehicle} can send publish acks to any subject by a forged reply: export `fleet.>` as a service to an account of the vehicles' own"
        ));
    }

    let other = VehicleId::new(OTHER).map_err(|e| Error::internal(e.to_string()))?;
    let other = names.subject(&other, signal);
    if answered(&client, other.clone()).await? {
        found.push(format!("{vehicle} can publish as another vehicle, to {other}"));
    }
    let info = format!("$JS.API.STREAM.INFO.{}", names.telemetry_stream());
    if answered(&client, info.clone()).await? {
        found.push(format!("{vehicle} reaches the JetStream API at {info}"));
    }
    let all = names.all(signal);
    let mut heard = client.subscribe(all.clone()).await.map_err(unavailable)?;
    acked().await?;
    if came(&mut heard).await {
        found.push(format!("{vehicle} can subscribe to {all}"));
    }
    Ok(found)
}

/// Whether something has come to a subscription; on a cluster it may have another way than an answer.
async fn came(heard: &mut Subscriber) -> bool {
    matches!(timeout(Duration::from_millis(100), heard.next()).await, Ok(Some(_)))
}

/// Whether anything comes back for an empty message.
async fn answered(client: &Client, subject: String) -> Result<bool> {
    match timeout(WAIT, client.request(subject, Bytes::new())).await {
        Ok(Ok(_)) => Ok(true),
        Ok(Err(error)) if error.kind() == async_nats::client::RequestErrorKind::NoResponders => Ok(false),
        Ok(Err(error)) => Err(unavailable(error)),
        Err(_) => Ok(false),
    }
}

fn login_of(file: &Path) -> Result<Auth> {
    let failed = |e| Error::configuration(format!("--login: {} can't be read", file.display())).caused_by(e);
    let text = std::fs::read_to_string(file).map_err(failed)?;
    let is_seed = text.trim().starts_with("SU");
    Ok(if is_seed { Auth::Nkey(Key::File(file.to_owned())) } else { Auth::Credentials(file.to_owned()) })
}

fn unavailable(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::unavailable("NATS").caused_by(error)
}
