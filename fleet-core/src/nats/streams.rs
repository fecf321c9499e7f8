//! The streams and consumers of a cell as they are wanted (docs/architecture.md).

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use async_nats::jetstream::{self, Context};

use super::dead_letters::MOST_BYTES;
use super::{Names, Owner};
use crate::error::Error;
use crate::schema::Schema;

/// What is a deployment's choice about its streams.
#[derive(Debug, Clone)]
pub struct StreamOptions {
    /// 1, or 3 on a cluster.
    pub replicas: usize,
    /// How long samples are kept: what is older can't be caught up.
    pub max_age: Duration,
    /// How many bytes of samples are kept at most.
    pub max_bytes: i64,
    /// How long dead letters are kept.
    pub dead_letters_max_age: Duration,
    /// How long a bind request waits for a sign of its holder.
    pub ack_wait: Duration,
    /// Whose they are to be. `None`: no mark is looked at or written.
    pub owner: Option<Owner>,
    /// Take them over from another deployment.
    pub take_over: bool,
    /// Keep no more of signals that the schema does not have.
    pub remove_signals: bool,
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self {
            replicas: 1,
            max_age: Duration::from_secs(6 * 3600),
            max_bytes: 20 << 30,
            dead_letters_max_age: Duration::from_secs(7 * 24 * 3600),
            ack_wait: Duration::from_secs(30),
            owner: None,
            take_over: false,
            remove_signals: false,
        }
    }
}

/// The streams as they are made.
pub(super) fn streams(names: &Names, schema: &Schema, options: &StreamOptions) -> [Config; 4] {
    let base = Config {
        storage: StorageType::File,
        num_replicas: options.replicas,
        retention: RetentionPolicy::Limits,
        max_message_size: 4096,
        max_messages: -1,
        max_bytes: -1,
        max_consumers: -1,
        max_messages_per_subject: -1,
        ..Config::default()
    };
    [
        Config {
            name: names.telemetry_stream(),
            subjects: names.telemetry_subjects(schema),
            max_age: options.max_age,
            max_bytes: options.max_bytes,
            allow_direct: true,
            ..base.clone()
        },
        Config {
            name: names.lifecycle_stream(),
            subjects: names.lifecycle_subjects(),
            max_messages_per_subject: 1,
            allow_direct: true,
            ..base.clone()
        },
        Config {
            name: names.bind_stream(),
            subjects: vec![names.all_binds()],
            retention: RetentionPolicy::WorkQueue,
            max_messages_per_subject: 1,
            discard: DiscardPolicy::New,
            discard_new_per_subject: true,
            ..base.clone()
        },
        Config {
            name: names.dead_letter_stream(),
            subjects: vec![names.all_dead_letters()],
            max_age: options.dead_letters_max_age,
            // A twentieth of what samples may take: small brokers are for trials.
            max_bytes: (options.max_bytes / 20).clamp(1 << 20, 1 << 30),
            max_message_size: MOST_BYTES,
            // A replay meets the same bad messages again; one letter each is enough.
            duplicate_window: Duration::from_secs(3600).min(options.dead_letters_max_age),
            ..base
        },
    ]
}

/// The workers' consumer.
pub(super) fn workers(options: &StreamOptions) -> pull::Config {
    pull::Config {
        durable_name: Some(Names::WORKERS.to_owned()),
        ack_policy: AckPolicy::Explicit,
        ack_wait: options.ack_wait,
        max_ack_pending: -1,
        deliver_policy: DeliverPolicy::All,
        ..pull::Config::default()
    }
}

/// Discovery's consumer.
pub(super) fn discovery(names: &Names) -> pull::Config {
    pull::Config {
        durable_name: Some(Names::DISCOVERY.to_owned()),
        ack_policy: AckPolicy::Explicit,
        ack_wait: Duration::from_secs(30),
        max_ack_pending: 20_000,
        filter_subject: names.all("on"),
        deliver_policy: DeliverPolicy::All,
        ..pull::Config::default()
    }
}

/// The server's refusal of `what`, or its silence.
pub(super) fn refused(what: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    let text = chain(&error);
    let full = text.contains("insufficient storage");
    let hint =
        if full { ", whose max_bytes is reserved at once: lower it or give the server more" } else { "" };
    let message = format!("JetStream would not create or update {what}{hint}");
    // A server's refusal carries an error code; anything else is a time-out or no JetStream.
    let configuration = text.contains("error code") || text.contains("insufficient");
    if configuration { Error::configuration(message) } else { Error::unavailable(message) }.caused_by(error)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        text.push_str(&e.to_string());
        cause = e.source();
    }
    text
}

/// JetStream on a connection, with a bounded wait for each answer.
pub(super) fn jetstream(client: &async_nats::Client) -> Context {
    jetstream::context::ContextBuilder::new()
        .timeout(Duration::from_secs(5))
        .max_ack_inflight(4096)
        .backpressure_on_inflight(true)
        .build(client.clone())
}
