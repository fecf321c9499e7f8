//! The live page: a look at the fleet for people without Grafana, read-only, on the admin port.
//!
//! A worker knows its own vehicles only, so the page reads the database, over one connection of its
//! own that takes nothing from the pipeline. Answers are shared by all viewers for a second.

mod answers;
mod guard;
mod page;
mod shelf;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use fleet_core::time::MINUTE;
use fleet_core::{Schema, VehicleId};
use fleet_sinks::timescale::TimescaleReader;
use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;

use shelf::{Answer, Shelf};

/// How long an answer is good for everyone who asks the same.
const FRESH: Duration = Duration::from_secs(1);

/// Vehicles on the map at most; the page says when there are more.
const MAP: u32 = 5_000;

/// Records of a vehicle at most: an hour of one a second.
const RECORDS: u32 = 3_600;

/// The most minutes that can be looked back.
const LONGEST: u32 = 60;

/// Questions that may wait at a time.
const WAITING: usize = 64;

/// What a process has counted since its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    /// Which process; the page compares only counts of the same one.
    pub process: String,
    /// Messages with samples.
    pub messages: u64,
    /// Records made durable.
    pub records: u64,
}

type Counting = Arc<dyn Fn() -> BoxFuture<'static, Vec<Counts>> + Send + Sync>;

/// What the page shows; cheap to clone.
#[derive(Clone)]
pub struct Live(Arc<Inner>);

struct Inner {
    reader: TimescaleReader,
    schema: Schema,
    counting: Counting,
    scope: &'static str,
    shelf: Shelf<Question>,
    waiting: Semaphore,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").field("reader", &self.0.reader).finish_non_exhaustive()
    }
}

/// What can be asked of the database.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Question {
    Fleet,
    Vehicle(VehicleId, u32),
}

impl Live {
    /// Shows what `reader` reads; rates come of what `counting` gives, which counts for `scope`, such
    /// as "this worker".
    pub fn new<C, A>(reader: TimescaleReader, schema: &Schema, scope: &'static str, counting: C) -> Self
    where
        C: Fn() -> A + Send + Sync + 'static,
        A: Future<Output = Vec<Counts>> + Send + 'static,
    {
        Self(Arc::new(Inner {
            reader,
            schema: schema.clone(),
            counting: Arc::new(move || Box::pin(counting())),
            scope,
            shelf: Shelf::new(FRESH),
            waiting: Semaphore::new(WAITING),
        }))
    }

    /// The page and its data below `/live/`; nothing but GET.
    pub fn router(self) -> Router {
        Router::new()
            .route("/live", get(|| async { Redirect::permanent("/live/") }))
            .route("/live/", get(|| async { page::INDEX }))
            .route("/live/{file}", get(file))
            .route("/live/data/schema", get(schema))
            .route("/live/data/fleet", get(fleet))
            .route("/live/data/vehicle/{vehicle}/{minutes}", get(vehicle))
            .layer(middleware::from_fn(guard::guard))
            .with_state(self)
    }

    async fn answer(&self, question: Question) -> Response {
        let Ok(_place) = self.0.waiting.try_acquire() else {
            return refusal(StatusCode::SERVICE_UNAVAILABLE, "too many people look at once");
        };
        match self.0.shelf.get(question.clone(), self.ask(question)).await {
            Answer::Found(json) => json_of(StatusCode::OK, json),
            Answer::Nothing => refusal(StatusCode::NOT_FOUND, "this vehicle has no record"),
            Answer::Failed => {
                refusal(StatusCode::SERVICE_UNAVAILABLE, "the database does not answer; the log says why")
            }
        }
    }

    async fn ask(&self, question: Question) -> Answer {
        let Inner { reader, schema, counting, .. } = &*self.0;
        let answer = async {
            match &question {
                Question::Fleet => {
                    let (fleet, counts) = tokio::join!(reader.fleet(MAP), counting());
                    Ok(Some(answers::fleet(schema, crate::clock::now(), &fleet?, &counts)))
                }
                Question::Vehicle(vehicle, minutes) => {
                    let span = MINUTE * i64::from(*minutes);
                    let records = reader.records(vehicle, span, RECORDS).await?;
                    Ok(records.map(|records| answers::vehicle(schema, vehicle, &records)))
                }
            }
        };
        match answer.await {
            Ok(Some(json)) => Answer::Found(json.to_string().into()),
            Ok(None) => Answer::Nothing,
            Err(error) => {
                let error: fleet_core::Error = error;
                tracing::warn!(%error, "the live page gets no answer");
                Answer::Failed
            }
        }
    }
}

async fn file(Path(name): Path<String>) -> Response {
    page::file(&name)
        .map_or_else(|| refusal(StatusCode::NOT_FOUND, "no such file"), IntoResponse::into_response)
}

async fn schema(State(live): State<Live>) -> Response {
    let json = answers::schema(&live.0.schema, live.0.scope);
    json_of(StatusCode::OK, json.to_string().into())
}

async fn fleet(State(live): State<Live>) -> Response {
    live.answer(Question::Fleet).await
}

async fn vehicle(State(live): State<Live>, Path((vehicle, minutes)): Path<(String, String)>) -> Response {
    let vehicle = match VehicleId::new(&vehicle) {
        Ok(vehicle) => vehicle,
        Err(error) => return refusal(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    match minutes.parse() {
        Ok(minutes) if (1..=LONGEST).contains(&minutes) => {
            live.answer(Question::Vehicle(vehicle, minutes)).await
        }
        _ => refusal(StatusCode::BAD_REQUEST, &format!("minutes must be 1 to {LONGEST}")),
    }
}

fn refusal(status: StatusCode, why: &str) -> Response {
    json_of(status, serde_json::json!({ "error": why }).to_string().into())
}

fn json_of(status: StatusCode, json: bytes::Bytes) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, json).into_response()
}
