//! The threads of a worker's lanes, from their start to their end.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use fleet_core::error::{Error, Result};
use fleet_core::nats::Ticks;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::pipeline::{Environment, Handle};
use crate::lanes;

/// What the pipelines are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Connect, and wait.
    Wait,
    /// Take vehicles.
    Run,
    /// Give all of them back, and end.
    Stop,
}

/// Waits for the order to run, or to stop.
pub(super) async fn begun(orders: &mut watch::Receiver<Order>) {
    // An error says that nobody gives orders any more.
    let _ = orders.wait_for(|order| *order != Order::Wait).await;
}

/// Waits for the order to stop.
pub(super) async fn stopped(orders: &mut watch::Receiver<Order>) {
    let _ = orders.wait_for(|order| *order == Order::Stop).await;
}

/// Threads that run pipelines. Dropped, they are told to stop and not waited for.
pub(super) struct Threads {
    orders: Arc<watch::Sender<Order>>,
    tries: mpsc::UnboundedReceiver<Result<()>>,
    pipelines: usize,
    ended: FuturesUnordered<oneshot::Receiver<Result<()>>>,
}

impl Threads {
    /// Starts a thread for each lane; its pipelines begin to connect.
    ///
    /// # Errors
    /// [`Internal`](fleet_core::ErrorKind::Internal) if the system refuses a thread.
    pub(super) fn start(handles: &[Arc<Handle>], environment: &Arc<Environment>) -> Result<Self> {
        let orders = Arc::new(watch::Sender::new(Order::Wait));
        let (told, tries) = mpsc::unbounded_channel();
        let mut lanes: BTreeMap<usize, Vec<Arc<Handle>>> = BTreeMap::new();
        for handle in handles {
            lanes.entry(handle.share.lane).or_default().push(Arc::clone(handle));
        }
        let threads = Self { orders, tries, pipelines: handles.len(), ended: FuturesUnordered::new() };
        for (lane, handles) in lanes {
            let (report, ended) = oneshot::channel();
            let (orders, told) = (Arc::clone(&threads.orders), told.clone());
            let environment = Arc::clone(environment);
            std::thread::Builder::new()
                .name(format!("lane-{lane}"))
                .spawn(move || {
                    // Also if it panics.
                    let _stop = StopAll(Arc::clone(&orders));
                    let _ = report.send(serve(handles, &environment, &orders, &told));
                })
                .map_err(|e| Error::internal("could not start the thread of a lane").caused_by(e))?;
            threads.ended.push(ended);
        }
        Ok(threads)
    }

    /// Waits until every pipeline has tried to connect; one that could goes for all, the others go on trying.
    ///
    /// # Errors
    /// Why none could connect, or what a person must mend.
    pub(super) async fn connected(&mut self) -> Result<()> {
        let (mut connected, mut failures) = (0, Vec::new());
        while connected + failures.len() < self.pipelines {
            match self.tries.recv().await {
                Some(Ok(())) => connected += 1,
                Some(Err(error)) => failures.push(error),
                // One has ended, and all with it.
                None => return self.all_ended().await,
            }
        }
        if connected == 0
            && let Some(first) = failures.into_iter().next()
        {
            return Err(first);
        }
        Ok(())
    }

    /// Lets the pipelines take vehicles.
    pub(super) fn run(&self) {
        self.order(Order::Run);
    }

    /// Waits until all have ended: when one ends by itself, or `stop` is ready, the others give back their
    /// vehicles.
    ///
    /// # Errors
    /// The first one's.
    pub(super) async fn ended(mut self, stop: impl Future<Output = ()>) -> Result<()> {
        let orders = Arc::clone(&self.orders);
        let stopping = async {
            stop.await;
            orders.send_replace(Order::Stop);
            std::future::pending().await
        };
        tokio::select! {
            biased;
            () = stopping => Ok(()),
            ended = self.all_ended() => ended,
        }
    }

    async fn all_ended(&mut self) -> Result<()> {
        let mut all = Ok(());
        while let Some(ended) = self.ended.next().await {
            all =
                all.and(ended.unwrap_or_else(|_| Err(Error::internal("the thread of a lane has panicked"))));
        }
        all
    }

    fn order(&self, order: Order) {
        // Whoever was told to stop does so.
        self.orders.send_if_modified(|is| {
            let changes = *is != Order::Stop && *is != order;
            if changes {
                *is = order;
            }
            changes
        });
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.order(Order::Stop);
    }
}

/// Tells all pipelines to stop when it is dropped.
struct StopAll(Arc<watch::Sender<Order>>);

impl Drop for StopAll {
    fn drop(&mut self) {
        self.0.send_replace(Order::Stop);
    }
}

/// Runs pipelines on this thread until all of them have ended; the first that fails stops all, of other lanes too.
fn serve(
    handles: Vec<Arc<Handle>>,
    environment: &Arc<Environment>,
    orders: &Arc<watch::Sender<Order>>,
    tries: &mpsc::UnboundedSender<Result<()>>,
) -> Result<()> {
    let ticks = Ticks::default();
    let runtime = lanes::runtime(&ticks)?;
    let ended = runtime.block_on(async {
        let mut pipelines = JoinSet::new();
        for handle in handles {
            let (orders, tries) = (orders.subscribe(), tries.clone());
            pipelines.spawn(handle.serve(Arc::clone(environment), ticks.clone(), orders, tries));
        }
        let mut all = Ok(());
        while let Some(ended) = pipelines.join_next().await {
            let ended =
                ended.unwrap_or_else(|e| Err(Error::internal("a pipeline has panicked").caused_by(e)));
            // Of the only one the program's last line says it.
            if let Err(error) = &ended
                && *orders.borrow() != Order::Stop
                && environment.handles.len() > 1
            {
                tracing::error!(%error, "a pipeline has ended, the others give their vehicles back");
            }
            orders.send_replace(Order::Stop);
            all = all.and(ended);
        }
        all
    });
    // A name that is still being looked up holds nobody.
    runtime.shutdown_background();
    ended
}
