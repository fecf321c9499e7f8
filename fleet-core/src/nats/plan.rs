//! From what streams and consumers are to what they should be: planned first, and then done.
//!
//! The server's own words are changed, as JSON, and only in what is ours: what an operator has set beside us
//! stays, also what this program has never heard of.

use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::IntoConsumerConfig;
use async_nats::jetstream::response::Response;
use serde_json::{Map, Value, json};

use super::Names;
use super::owner::Owner;
use super::streams::{StreamOptions, discovery, refused, streams, workers};
use crate::error::{Error, ErrorKind, Result};
use crate::schema::Schema;

/// What is ours of a stream, where what is wanted has it; the last two can't be changed.
const OF_STREAM: [&str; 11] = [
    "subjects",
    "max_age",
    "max_bytes",
    "num_replicas",
    "max_msg_size",
    "max_msgs_per_subject",
    "discard",
    "discard_new_per_subject",
    "allow_direct",
    "retention",
    "storage",
];

/// The same of a consumer.
const OF_CONSUMER: [&str; 5] =
    ["ack_wait", "max_ack_pending", "filter_subject", "ack_policy", "deliver_policy"];

const FIXED: [&str; 4] = ["retention", "storage", "ack_policy", "deliver_policy"];

/// What has to be done to the streams and consumers of a cell.
#[derive(Debug, Default)]
pub struct Plan {
    requests: Vec<Request>,
    changes: Vec<String>,
    refusals: Vec<String>,
    /// It is somebody else's cell; said once, and not of each of its parts.
    is_strangers: bool,
}

#[derive(Debug)]
struct Request {
    what: String,
    subject: String,
    payload: Value,
}

/// Finds out what [`set_up`] would do, and changes nothing.
///
/// # Errors
/// [`Unavailable`](crate::ErrorKind::Unavailable) without JetStream or when it does not answer.
pub async fn plan(js: &Context, names: &Names, schema: &Schema, options: &StreamOptions) -> Result<Plan> {
    let mut plan = Plan::default();
    for wanted in streams(names, schema, options) {
        let (name, wanted) = (wanted.name.clone(), json_of(&wanted)?);
        plan.stream(js, names, options, &name, wanted).await?;
    }
    for (stream, wanted) in
        [(names.bind_stream(), workers(options)), (names.lifecycle_stream(), discovery(names))]
    {
        let name = wanted.durable_name.clone().unwrap_or_default();
        plan.consumer(js, options, &stream, &name, json_of(&wanted.into_consumer_config())?).await?;
    }
    Ok(plan)
}

/// Creates or updates the streams and consumers of a cell. May be repeated, also at once from several
/// processes. Nothing is changed if anything is refused by the plan.
///
/// # Errors
/// [`Unavailable`](crate::ErrorKind::Unavailable) without JetStream or when it does not answer,
/// [`Configuration`](crate::ErrorKind::Configuration) when something is refused, by us or by the server.
pub async fn set_up(js: &Context, names: &Names, schema: &Schema, options: &StreamOptions) -> Result<()> {
    let plan = plan(js, names, schema, options).await?;
    if !plan.refusals.is_empty() {
        return Err(Error::configuration(plan.refusals.join("; ")));
    }
    plan.apply(js).await
}

impl Plan {
    /// What would change, in words; nothing where all is as it should be.
    pub fn changes(&self) -> &[String] {
        &self.changes
    }

    /// Why nothing should be changed, in words: what a person must change first, or allow.
    pub fn refusals(&self) -> &[String] {
        &self.refusals
    }

    /// Does it; telemetry's stream first, because its size is what a server refuses.
    ///
    /// # Errors
    /// As [`set_up`]; what was done before stays done.
    async fn apply(&self, js: &Context) -> Result<()> {
        for Request { what, subject, payload } in &self.requests {
            let answer: Response<Value> =
                js.request(subject.clone(), payload).await.map_err(|e| refused(what, e))?;
            if let Response::Err { error } = answer {
                return Err(refused(what, error));
            }
        }
        Ok(())
    }

    async fn stream(
        &mut self,
        js: &Context,
        names: &Names,
        options: &StreamOptions,
        name: &str,
        wanted: Map<String, Value>,
    ) -> Result<()> {
        let Some(there) = info(js, format!("STREAM.INFO.{name}"), name).await? else {
            let mut config = wanted;
            mark(&mut config, options.owner.as_ref());
            self.changes.push(format!("create the stream {name} for {}", list(config.get("subjects"))));
            self.request(name, format!("STREAM.CREATE.{name}"), Value::Object(config));
            return Ok(());
        };
        self.require_owner(name, &there, options);
        let mut config = there.clone();
        for key in OF_STREAM {
            let Some(wanted) = wanted.get(key) else { continue };
            let wanted = match key {
                "subjects" => self.subjects(names, options, name, &there, wanted),
                // Only telemetry and dead letters have keys for them.
                "max_age" | "max_bytes" if !bounded(names, name) => continue,
                _ => wanted.clone(),
            };
            self.set(&mut config, name, key, wanted);
        }
        // A server refuses to remember duplicates for longer than messages.
        let age = config.get("max_age").and_then(Value::as_i64).unwrap_or(0);
        if age > 0
            && config.get("duplicate_window").and_then(Value::as_i64).is_some_and(|window| window > age)
        {
            self.set(&mut config, name, "duplicate_window", age.into());
        }
        mark(&mut config, options.owner.as_ref());
        if config.get("metadata") != there.get("metadata") {
            self.changes.push(format!("{name}: write into its metadata whose it is"));
        }
        if config != there {
            self.request(name, format!("STREAM.UPDATE.{name}"), Value::Object(config));
        }
        Ok(())
    }

    async fn consumer(
        &mut self,
        js: &Context,
        options: &StreamOptions,
        stream: &str,
        name: &str,
        wanted: Map<String, Value>,
    ) -> Result<()> {
        let what = format!("{name} on {stream}");
        let there = info(js, format!("CONSUMER.INFO.{stream}.{name}"), &what).await?;
        let mut config = there.clone().unwrap_or_else(|| wanted.clone());
        if let Some(there) = &there {
            self.require_owner(&what, there, options);
            for key in OF_CONSUMER {
                let Some(wanted) = wanted.get(key) else { continue };
                self.set(&mut config, &what, key, wanted.clone());
            }
        } else {
            self.changes.push(format!("create the consumer {what}"));
        }
        mark(&mut config, options.owner.as_ref());
        if there.as_ref().is_some_and(|there| there.get("metadata") != config.get("metadata")) {
            self.changes.push(format!("{what}: write into its metadata whose it is"));
        }
        if there.as_ref() != Some(&config) {
            let filter = config.get("filter_subject").and_then(Value::as_str).filter(|f| !f.is_empty());
            let filter = filter.map_or_else(String::new, |filter| format!(".{filter}"));
            let subject = format!("CONSUMER.CREATE.{stream}.{name}{filter}");
            self.request(&what, subject, json!({ "stream_name": stream, "config": config }));
        }
        Ok(())
    }

    /// Those that are there and those that are wanted; signals are taken out only on demand.
    fn subjects(
        &mut self,
        names: &Names,
        options: &StreamOptions,
        stream: &str,
        there: &Map<String, Value>,
        wanted: &Value,
    ) -> Value {
        let texts = |value: Option<&Value>| -> Vec<String> {
            let texts = value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
            texts.map(str::to_owned).collect()
        };
        let (mut subjects, wanted) = (texts(there.get("subjects")), texts(Some(wanted)));
        let gone: Vec<String> = subjects
            .iter()
            .filter(|subject| !wanted.contains(subject))
            .filter_map(|subject| names.parse(subject).filter(|(vehicle, _)| *vehicle == "*"))
            .map(|(_, signal)| signal.to_owned())
            .collect();
        if options.remove_signals {
            subjects.retain(|subject| !gone.iter().any(|signal| *subject == names.all(signal)));
        } else if !gone.is_empty() {
            self.refusals.push(format!(
                "the stream {stream} keeps {}, which the configuration does not have: add what is missing, or run \
                 `setup --remove-signals` to keep no more of it",
                gone.join(", ")
            ));
        }
        let new: Vec<String> = wanted.into_iter().filter(|subject| !subjects.contains(subject)).collect();
        subjects.extend(new);
        subjects.into()
    }

    fn require_owner(&mut self, what: &str, there: &Map<String, Value>, options: &StreamOptions) {
        let Some(owner) = options.owner.as_ref().filter(|_| !options.take_over && !self.is_strangers) else {
            return;
        };
        let metadata = there.get("metadata").cloned().unwrap_or_default();
        let metadata = serde_json::from_value(metadata).unwrap_or_default();
        if let Err(error) = owner.require(what, &metadata) {
            self.is_strangers = true;
            self.refusals.push(error.to_string());
        }
    }

    /// Sets what is ours, and says so where it was something else.
    fn set(&mut self, config: &mut Map<String, Value>, what: &str, key: &str, wanted: Value) {
        let is = config.get(key).cloned().unwrap_or_default();
        // The server leaves out what is nothing.
        if is == wanted || is.is_null() && [json!(0), json!(false), json!("")].contains(&wanted) {
            return;
        }
        let change = format!("{what}: {key} {} instead of {}", shown(key, &wanted), shown(key, &is));
        if FIXED.contains(&key) {
            self.refusals.push(format!(
                "{change}, which can't be changed: delete what is there, if nothing in it is needed, and set up again"
            ));
            return;
        }
        self.changes.push(change);
        config.insert(key.to_owned(), wanted);
    }

    fn request(&mut self, what: &str, subject: String, payload: Value) {
        self.requests.push(Request { what: what.to_owned(), subject, payload });
    }
}

/// Whether a stream's age and size are keys of the configuration.
fn bounded(names: &Names, stream: &str) -> bool {
    [names.telemetry_stream(), names.dead_letter_stream()].iter().any(|name| name == stream)
}

fn mark(config: &mut Map<String, Value>, owner: Option<&Owner>) {
    let Some(owner) = owner else { return };
    for (key, value) in owner.marks() {
        let metadata = config.entry("metadata").or_insert_with(|| json!({}));
        metadata[key] = value.into();
    }
}

/// The configuration of a stream or consumer, if it is there.
async fn info(js: &Context, subject: String, what: &str) -> Result<Option<Map<String, Value>>> {
    const NO_CONSUMER: u64 = 10_014;
    const NO_STREAM: u64 = 10_059;
    let answer = js.request(subject, &json!({})).await;
    let answer: Response<Value> = answer.map_err(|e| {
        let text =
            format!("JetStream does not answer for {what}: is it there, and has the login the right to ask?");
        Error::unavailable(text).caused_by(e)
    })?;
    match answer {
        Response::Err { error } if [NO_CONSUMER, NO_STREAM].contains(&error.error_code().0) => Ok(None),
        Response::Err { error } => {
            // At the start of a cluster a server may not know yet.
            let error = refused(what, error);
            Err(Error::new(ErrorKind::Unavailable, error.to_string()))
        }
        Response::Ok(mut info) => match info["config"].take() {
            Value::Object(config) => Ok(Some(config)),
            _ => Err(Error::internal(format!("JetStream's answer for {what} has no configuration"))),
        },
    }
}

fn json_of(config: &impl serde::Serialize) -> Result<Map<String, Value>> {
    match serde_json::to_value(config) {
        Ok(Value::Object(config)) => Ok(config),
        _ => Err(Error::internal("a stream's configuration can't be written as JSON")),
    }
}

fn list(subjects: Option<&Value>) -> String {
    let subjects = subjects.and_then(Value::as_array).into_iter().flatten();
    subjects.filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}

/// A value for people: durations travel as nanoseconds.
fn shown(key: &str, value: &Value) -> String {
    match (key, value) {
        ("max_age" | "ack_wait" | "duplicate_window", Value::Number(nanos)) => {
            format!("{:?}", std::time::Duration::from_nanos(nanos.as_u64().unwrap_or(0)))
        }
        (_, Value::Array(_)) => list(Some(value)),
        (_, Value::Null) => "nothing".to_owned(),
        (_, Value::String(text)) => text.clone(),
        _ => value.to_string(),
    }
}
