//! Every way in which a server can fail in mid-batch; after each of them exactly the right rows.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fleet_core::batch::BatchBuilder;
use fleet_core::sink::memory::MemorySink;
use fleet_core::{ErrorKind, Sink};
use fleet_sinks::timescale::{ConnectOptions, Connector, TimescaleSink};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_postgres::Client;

use crate::fixture::{Fixture, NOON, Random, Record, seal, speed, table};
use crate::server::{Server, postgres};

/// A sink that stores batch after batch, each until it is taken.
pub(crate) struct Storing {
    pub(crate) fixture: Fixture,
    reference: MemorySink,
    ends: Arc<AtomicBool>,
    batches: Arc<AtomicUsize>,
    errors: Arc<AtomicUsize>,
    /// What the last one said.
    said: Arc<Mutex<String>>,
    task: JoinHandle<()>,
}

/// The rows of the batch of that number.
pub(crate) type Rows = fn(&mut Random, usize) -> Vec<Record>;

/// Few rows again and again, new and as corrections.
pub(crate) const AGAIN: Rows = |random, _| (0..400).map(|_| random.record()).collect();

impl Storing {
    pub(crate) async fn on(server: Server) -> Self {
        let connector = server.connector();
        Self::by(Fixture::on(server).await, connector)
    }

    /// By another way to the same server.
    pub(crate) fn by(fixture: Fixture, connector: Connector) -> Self {
        Self::rows_by(AGAIN, fixture, connector)
    }

    pub(crate) fn rows_by(rows: Rows, fixture: Fixture, connector: Connector) -> Self {
        let (ends, batches, errors) = (Arc::default(), Arc::default(), Arc::default());
        let said = Arc::default();
        let reference = MemorySink::new(&fixture.schema);
        let sink = TimescaleSink::new(connector, &fixture.schema);
        let builder = BatchBuilder::new(&fixture.schema);
        let counts = (Arc::clone(&ends), Arc::clone(&batches), Arc::clone(&errors), Arc::clone(&said));
        let task = tokio::spawn(store(rows, sink, reference.clone(), builder, counts));
        Self { fixture, reference, ends, batches, errors, said, task }
    }

    fn errors(&self) -> usize {
        self.errors.load(Ordering::Relaxed)
    }

    pub(crate) fn last_error(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Waits until so many more batches are stored.
    pub(crate) async fn goes_on(&self, batches: usize) {
        let wanted = self.batches.load(Ordering::Relaxed) + batches;
        let stored = async {
            while self.batches.load(Ordering::Relaxed) < wanted {
                sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), stored).await.expect("it stores again");
    }

    /// Waits until so many more batches were refused.
    pub(crate) async fn fails(&self, errors: usize) {
        let wanted = self.errors() + errors;
        let refused = async {
            while self.errors() < wanted {
                sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), refused).await.expect("the outage is noticed");
    }

    /// Lets it store some more, and compares.
    pub(crate) async fn ends_with_the_right_rows(self) {
        self.goes_on(3).await;
        self.ends.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        let client = self.fixture.server.client().await;
        assert!(table(&client, &self.fixture.schema).await == self.reference.rows(), "other rows are stored");
    }
}

async fn store(
    rows: Rows,
    mut sink: TimescaleSink,
    mut reference: MemorySink,
    mut builder: BatchBuilder,
    (ends, batches, errors, said): (Arc<AtomicBool>, Arc<AtomicUsize>, Arc<AtomicUsize>, Arc<Mutex<String>>),
) {
    let mut random = Random(5);
    while !ends.load(Ordering::Relaxed) {
        let batch = seal(&mut builder, &rows(&mut random, batches.load(Ordering::Relaxed)));
        reference.accept(&batch).await.unwrap();
        loop {
            match sink.accept(&batch).await {
                Ok(progress) => break assert!(progress.rejected.is_empty(), "a good row was left out"),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                    *said.lock().unwrap() = error.to_string();
                }
            }
            errors.fetch_add(1, Ordering::Relaxed);
            sleep(Duration::from_millis(10)).await;
        }
        batches.fetch_add(1, Ordering::Relaxed);
    }
}

/// A session that no setting of the server hinders.
pub(crate) async fn operator(server: &Server) -> Client {
    let client = server.client().await;
    let free = "set statement_timeout = 0; set lock_timeout = 0; set default_transaction_read_only = off";
    client.batch_execute(free).await.unwrap();
    client
}

/// Changes a setting of the running server, for its sessions too.
async fn set(operator: &Client, setting: &str) {
    // Neither goes into a transaction with the other.
    operator.batch_execute(&format!("alter system {setting}")).await.unwrap();
    operator.batch_execute("select pg_reload_conf()").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fast_restart() {
    let mut storing = Storing::on(Server::plain().await).await;
    for _ in 0..2 {
        storing.goes_on(5).await;
        storing.fixture.server.stop().await;
        storing.fails(1).await;
        storing.fixture.server.start_again().await;
    }
    storing.ends_with_the_right_rows().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_backend_is_terminated_again_and_again() {
    let storing = Storing::on(Server::plain().await).await;
    let operator = operator(&storing.fixture.server).await;
    let terminate = "select pg_terminate_backend(pid) from pg_stat_activity \
                     where backend_type = 'client backend' and state <> 'idle' and pid <> pg_backend_pid()";
    for _ in 0..10 {
        storing.goes_on(1).await;
        let before = storing.errors();
        // Only while it is at work.
        while storing.errors() == before {
            operator.batch_execute(terminate).await.unwrap();
            sleep(Duration::from_millis(1)).await;
        }
    }
    storing.ends_with_the_right_rows().await;
}

/// In the middle of one COPY, with rows of it written already.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_backend_is_terminated_in_mid_copy() {
    let mut f = Fixture::on(Server::plain().await).await;
    f.client
        .batch_execute(
            "create function hold() returns trigger language plpgsql as $$ begin \
               if new.speed_kmh = 13 then perform pg_advisory_xact_lock(13); end if; return new; end $$; \
             create trigger hold before insert on telemetry for each row execute function hold(); \
             select pg_advisory_lock(13)",
        )
        .await
        .unwrap();
    let rows: Vec<_> = (0..5_000).map(|i| speed(1, NOON + i, if i == 4_000 { 13.0 } else { 50.0 })).collect();
    let batch = seal(&mut f.builder, &rows);
    let copying = "from pg_stat_activity where wait_event = 'advisory' and query like 'copy telemetry %'";
    let terminated = async {
        let terminate = format!("select pg_terminate_backend(pid) {copying}");
        while f.client.query(&terminate, &[]).await.unwrap().is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    let (stored, ()) = tokio::join!(f.sink.accept(&batch), terminated);
    assert_eq!(stored.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(table(&f.client, &f.schema).await.len(), 0);
    f.client.batch_execute("select pg_advisory_unlock(13)").await.unwrap();
    f.sink.accept(&batch).await.unwrap();
    assert_eq!(f.table().await.len(), 5_000);
}

/// Goes between sink and server, and cuts each connection once it has passed on so much.
async fn scissors(server: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        for connection in 1_u64.. {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
            tokio::spawn(async move {
                // Sooner and later: in the hand-shake, in COPY, between batches.
                let most = if connection > 20 { u64::MAX } else { connection * 7_919 % 90_000 };
                let (from_client, mut to_client) = client.split();
                let (mut from_server, mut to_server) = server.split();
                let mut limited = tokio::io::AsyncReadExt::take(from_client, most);
                tokio::select! {
                    _ = tokio::io::copy(&mut limited, &mut to_server) => {}
                    _ = tokio::io::copy(&mut from_server, &mut to_client) => {}
                }
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_connection_is_cut_anywhere() {
    let fixture = Fixture::on(Server::plain().await).await;
    let server = fixture.server.port();
    let url = fixture.server.url().replace(&format!(":{server}"), &format!(":{}", scissors(server).await));
    let storing = Storing::by(fixture, Connector::new(&ConnectOptions::new(url)).unwrap());
    storing.fails(20).await;
    storing.ends_with_the_right_rows().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_waits_too_long_for_a_lock_or_works_too_long() {
    let fixture = Fixture::on(Server::plain().await).await;
    // From the start: a session that waits for a lock learns of no setting.
    let url = format!("{}&options=-c%20lock_timeout%3D20ms", fixture.server.url());
    let storing = Storing::by(fixture, Connector::new(&ConnectOptions::new(url)).unwrap());
    let operator = operator(&storing.fixture.server).await;
    storing.goes_on(2).await;
    operator.batch_execute("begin; lock table telemetry in access exclusive mode").await.unwrap();
    storing.fails(3).await;
    operator.batch_execute("commit").await.unwrap();
    storing.goes_on(2).await;
    set(&operator, "set statement_timeout = '1ms'").await;
    storing.fails(3).await;
    set(&operator, "reset statement_timeout").await;
    storing.ends_with_the_right_rows().await;
}

/// As a managed server does whose disk is full.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_turns_read_only_for_a_while() {
    let storing = Storing::on(Server::plain().await).await;
    let operator = operator(&storing.fixture.server).await;
    storing.goes_on(2).await;
    set(&operator, "set default_transaction_read_only = on").await;
    storing.fails(3).await;
    set(&operator, "reset default_transaction_read_only").await;
    storing.ends_with_the_right_rows().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_is_no_connection_left() {
    let few = postgres().setting("max_connections", "8").setting("superuser_reserved_connections", "0");
    let storing = Storing::on(Server::Plain(few.start().await.unwrap())).await;
    let operator = operator(&storing.fixture.server).await;
    storing.goes_on(2).await;
    // The sink loses its place to others.
    let mut others = Vec::new();
    let terminate = "select pg_terminate_backend(pid) from pg_stat_activity \
                     where backend_type = 'client backend' and query ilike '%telemetry%' \
                     and pid <> pg_backend_pid()";
    let url = storing.fixture.server.url();
    while others.len() < 6 {
        operator.batch_execute(terminate).await.unwrap();
        if let Ok((client, driver)) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await {
            others.push((client, tokio::spawn(driver)));
        }
    }
    storing.fails(5).await;
    drop(others);
    storing.ends_with_the_right_rows().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_table_grows_and_is_rebuilt_underneath() {
    let storing = Storing::on(Server::plain().await).await;
    let operator = operator(&storing.fixture.server).await;
    storing.goes_on(2).await;
    operator.batch_execute("alter table telemetry add column note text").await.unwrap();
    storing.goes_on(2).await;
    operator.batch_execute("vacuum full telemetry; reindex table telemetry").await.unwrap_or_default();
    storing.ends_with_the_right_rows().await;
}

#[tokio::test]
async fn a_bad_row_among_ten_thousand_is_left_out_alone() {
    let mut f = Fixture::on(Server::plain().await).await;
    let check = "alter table telemetry add constraint no_13 check (speed_kmh <> 13)";
    f.client.batch_execute(check).await.unwrap();
    let value = |i| if i == 6_789 { 13.0 } else { 100.0 };
    let rows: Vec<_> = (0..10_001).map(|i| speed(i % 50, NOON + i as i64, value(i))).collect();
    let batch = seal(&mut f.builder, &rows);
    let progress = f.sink.accept(&batch).await.unwrap();
    assert_eq!((progress.durable, progress.rejected.len()), (batch.sequence(), 1));
    assert!(progress.rejected[0].reason.contains("no_13"), "{}", progress.rejected[0].reason);
    assert_eq!(f.table().await.len(), 10_000);
}
