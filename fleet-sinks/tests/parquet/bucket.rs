//! The archive in a bucket.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fleet_core::batch::BatchBuilder;
use fleet_core::error::Result;
use fleet_core::sink::contract::{Stored, Subject, examine};
use fleet_core::sink::{Backoff, Retry};
use fleet_core::time::SECOND;
use fleet_core::{ErrorKind, Schema, Sink};
use fleet_sinks::parquet::{Bucket, BucketOptions, ParquetOptions, ParquetSink, Place};
use tokio::net::{TcpListener, TcpStream};

use crate::fixture::{MIDNIGHT, batch, sink, stored};
use crate::s3::Server;

/// Everything in a bucket.
async fn all(bucket: &Bucket, schema: &Schema) -> Result<Stored> {
    let folder = tempfile::tempdir().unwrap();
    for date in bucket.dates().await? {
        bucket.fetch(&date, folder.path()).await?;
    }
    Ok(stored(folder.path(), schema))
}

fn into(options: BucketOptions, max_bytes: usize) -> ParquetOptions {
    ParquetOptions { max_bytes, ..ParquetOptions::new(Place::Bucket(options), "w") }
}

struct InBucket {
    server: Server,
    schema: Schema,
    clears: usize,
}

impl InBucket {
    fn options(&self) -> BucketOptions {
        self.server.options(&format!("s3://archive/case/{}", self.clears))
    }
}

impl Subject for InBucket {
    type Sink = ParquetSink;

    async fn clear(&mut self) -> Result<()> {
        self.clears += 1;
        Ok(())
    }

    async fn open(&mut self) -> Result<ParquetSink> {
        Ok(sink(into(self.options(), 3_000), &self.schema))
    }

    async fn stored(&mut self) -> Result<Stored> {
        all(&Bucket::open(&self.options())?, &self.schema).await
    }
}

#[tokio::test]
async fn the_contract_is_kept_in_a_bucket() {
    let schema = Schema::default();
    let mut subject = InBucket { server: Server::start().await, schema: schema.clone(), clears: 0 };
    examine(&mut subject, &schema, 0..2).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_goes_away_is_waited_for_and_what_cannot_work_is_said() {
    let server = Server::start().await;
    let (schema, mut builder) = (Schema::default(), BatchBuilder::new(&Schema::default()));
    let refused = async |options: BucketOptions, parts: &[&str]| {
        let secret = options.secret_access_key.clone();
        let error = sink(into(options, 1), &schema).check().await.unwrap_err();
        let said = error.to_string();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{said}");
        assert!(parts.iter().all(|part| said.contains(part)) && !said.contains(&secret), "{said}");
        assert!(!said.contains('\n') && said.len() < 400, "{said}");
    };
    refused(server.options("s3://missing"), &["NoSuchBucket", "s3://missing", "create the bucket"]).await;
    let good = server.options("s3://archive/fleet");
    let wrong = BucketOptions { secret_access_key: "wrong-sesame".to_owned(), ..good.clone() };
    refused(wrong, &["SignatureDoesNotMatch", "check the access key"]).await;
    let wrong = BucketOptions { access_key_id: "AKIANOBODY".to_owned(), ..good.clone() };
    refused(wrong, &["InvalidAccessKeyId", "check the access key"]).await;
    sink(into(good.clone(), 1), &schema).check().await.unwrap();

    // It is away while a file is written, and everything is there when it is back.
    let open = Arc::new(AtomicBool::new(false));
    let port = door(server.port, Arc::clone(&open)).await;
    let behind = BucketOptions { endpoint: Some(format!("http://127.0.0.1:{port}")), ..good.clone() };
    let gone = sink(into(behind.clone(), 1), &schema).check().await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::Unavailable, "{gone}");
    let backoff =
        Backoff { first: Duration::from_millis(50), cap: Duration::from_millis(200), deadline: None };
    let mut writer = Retry::new(sink(into(behind, 1), &schema), "bucket", backoff);
    let rows = [(1, MIDNIGHT, 1.0), (1, MIDNIGHT + SECOND, 2.0)];
    let flushing = tokio::spawn(async move {
        writer.accept(&batch(&mut builder, &rows)).await.unwrap();
        writer.flush().await.unwrap().durable
    });
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!flushing.is_finished());
    open.store(true, Ordering::Relaxed);
    assert_eq!(flushing.await.unwrap(), 1);
    let bucket = Bucket::open(&good).unwrap();
    assert_eq!((bucket.dates().await.unwrap().len(), all(&bucket, &schema).await.unwrap().len()), (1, 2));
}

/// Leads to a server while it is open.
async fn door(server: u16, open: Arc<AtomicBool>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            if open.load(Ordering::Relaxed) {
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        }
    });
    port
}
