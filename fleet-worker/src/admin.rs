//! The admin server: alive, ready, metrics, and on discovery the state of the queue.

mod health;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use fleet_core::Error;
use fleet_core::error::Result;
use futures_util::future::BoxFuture;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use health::{Health, Part};

use crate::live::Live;
use crate::metrics::{Metric, render};

type Snapshot = Arc<dyn Fn() -> Vec<Metric> + Send + Sync>;
type Answer = BoxFuture<'static, std::result::Result<Option<serde_json::Value>, String>>;
type Bindings = Arc<dyn Fn(Option<String>) -> Answer + Send + Sync>;

/// What the admin server tells; make one with [`Admin::new`], then [`Admin::serve`].
#[derive(Clone)]
pub struct Admin {
    health: Health,
    metrics: Snapshot,
    bindings: Option<Bindings>,
    page: Option<Live>,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").field("health", &self.health).finish_non_exhaustive()
    }
}

/// A server that listens. Dropping it leaves the server running until its shutdown.
#[derive(Debug)]
pub struct Serving {
    /// Where it listens: the port that was chosen where 0 was asked for.
    pub address: SocketAddr,
    /// Ends after the shutdown.
    pub task: JoinHandle<()>,
}

impl Admin {
    /// Tells `health` and what `metrics` gives at each scrape.
    pub fn new(health: Health, metrics: impl Fn() -> Vec<Metric> + Send + Sync + 'static) -> Self {
        Self { health, metrics: Arc::new(metrics), bindings: None, page: None }
    }

    /// Answers `/bindings` and, with the cell, `/bindings/<cell>` too: with the JSON, with 404 where there is none,
    /// or, as 503, with the error's text.
    #[must_use]
    pub fn with_bindings<F, A>(mut self, bindings: F) -> Self
    where
        F: Fn(Option<String>) -> A + Send + Sync + 'static,
        A: Future<Output = std::result::Result<Option<serde_json::Value>, String>> + Send + 'static,
    {
        self.bindings = Some(Arc::new(move |cell| Box::pin(bindings(cell))));
        self
    }

    /// Serves the live page too.
    #[must_use]
    pub fn with_page(self, page: Live) -> Self {
        Self { page: Some(page), ..self }
    }

    /// Listens and serves until `shutdown` is ready.
    ///
    /// # Errors
    /// [`Configuration`](fleet_core::ErrorKind::Configuration) when the address can't be had.
    pub async fn serve(
        mut self,
        listen: SocketAddr,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<Serving> {
        let page = self.page.take().map(Live::router);
        let mut router = Router::new()
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics));
        if self.bindings.is_some() {
            router = router.route("/bindings", get(bindings)).route("/bindings/{cell}", get(bindings_of));
        }
        let router = router.with_state(self).merge(page.unwrap_or_default());
        serve(router, listen, shutdown).await
    }
}

/// Listens and serves `router` until `shutdown` is ready.
///
/// # Errors
/// As [`Admin::serve`].
pub async fn serve(
    router: Router,
    listen: SocketAddr,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<Serving> {
    let failed = |e| Error::configuration(format!("admin.listen: can't listen on {listen}")).caused_by(e);
    let listener = TcpListener::bind(listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let server = axum::serve(listener, router).with_graceful_shutdown(shutdown);
    let task = tokio::spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(%error, "the admin server ended");
        }
    });
    Ok(Serving { address, task })
}

async fn healthz(State(admin): State<Admin>) -> impl IntoResponse {
    let hung = admin.health.hung();
    if hung.is_empty() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    let which = hung.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ");
    let which = if which.is_empty() { which } else { format!(": {which}") };
    (StatusCode::SERVICE_UNAVAILABLE, format!("the loop has not turned for 10 s{which}\n"))
}

async fn readyz(State(admin): State<Admin>) -> impl IntoResponse {
    let missing = admin.health.missing();
    if missing.is_empty() {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", missing.join(", ")))
    }
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, render(&(admin.metrics)()))
}

async fn bindings(State(admin): State<Admin>) -> impl IntoResponse {
    bindings_at(&admin, None).await
}

async fn bindings_of(State(admin): State<Admin>, Path(cell): Path<String>) -> impl IntoResponse {
    bindings_at(&admin, Some(cell)).await
}

async fn bindings_at(admin: &Admin, cell: Option<String>) -> impl IntoResponse + use<> {
    let json = [(header::CONTENT_TYPE, "application/json")];
    let text = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    match &admin.bindings {
        Some(bindings) => match bindings(cell).await {
            Ok(Some(value)) => (StatusCode::OK, json, format!("{value}\n")),
            Ok(None) => (StatusCode::NOT_FOUND, text, "no such cell is served here\n".to_owned()),
            Err(error) => (StatusCode::SERVICE_UNAVAILABLE, text, format!("{error}\n")),
        },
        None => (StatusCode::NOT_FOUND, text, String::new()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;
    use tokio::sync::oneshot;

    use super::*;

    async fn fetch(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn it_tells_and_stops() {
        let health = Health::new();
        let whole = health.part("");
        whole.set("queue", false);
        whole.set("sink", false);
        let (stop, stopped) = oneshot::channel::<()>();
        let admin = Admin::new(health.clone(), || vec![Metric::counter("fleet_x_total", "X.", 3)])
            .with_bindings(async |cell| {
                let waiting = if cell.is_some() { 2 } else { 1 };
                let is_ours = cell.as_deref() != Some("other");
                Ok(is_ours.then(|| serde_json::json!({ "waiting": waiting })))
            });
        let listen = "127.0.0.1:0".parse().unwrap();
        let serving = admin.serve(listen, async { drop(stopped.await) }).await.unwrap();
        let address = serving.address;
        assert_ne!(address.port(), 0);
        assert!(fetch(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        let unready = fetch(address, "/readyz").await;
        assert!(unready.starts_with("HTTP/1.1 503") && unready.contains("queue, sink"), "{unready}");
        whole.set("queue", true);
        whole.set("sink", true);
        assert!(fetch(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        assert!(fetch(address, "/metrics").await.contains("\nfleet_x_total 3\n"));
        assert!(fetch(address, "/bindings").await.contains("{\"waiting\":1}"));
        assert!(fetch(address, "/bindings/west").await.contains("{\"waiting\":2}"));
        assert!(fetch(address, "/bindings/other").await.starts_with("HTTP/1.1 404"));
        assert!(fetch(address, "/other").await.starts_with("HTTP/1.1 404"));
        stop.send(()).unwrap();
        serving.task.await.unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn without_a_queue_there_are_no_bindings_and_an_error_is_503() {
        let listen = "127.0.0.1:0".parse().unwrap();
        let plain = Admin::new(Health::new(), Vec::new).serve(listen, std::future::pending()).await.unwrap();
        assert!(fetch(plain.address, "/bindings").await.starts_with("HTTP/1.1 404"));
        let failing = Admin::new(Health::new(), Vec::new).with_bindings(async |_| Err("no NATS".to_owned()));
        let failing = failing.serve(listen, std::future::pending()).await.unwrap();
        let answer = fetch(failing.address, "/bindings").await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("no NATS"), "{answer}");
        let taken = Admin::new(Health::new(), Vec::new).serve(plain.address, std::future::pending()).await;
        assert_eq!(taken.unwrap_err().kind(), fleet_core::ErrorKind::Configuration);
    }
}
