//! PostgreSQL.

use std::time::Duration;

use fleet_worker::local::{Postgres, Sources};
use tokio_postgres::NoTls;

use crate::{children, runs, user_of};

async fn write(server: &Postgres, n: i32) {
    let client = server.client().await.unwrap();
    client.batch_execute("create table if not exists kept (n int)").await.unwrap();
    client.execute("insert into kept values ($1)", &[&n]).await.unwrap();
}

async fn read(server: &Postgres) -> Vec<i32> {
    let rows = server.client().await.unwrap().query("select n from kept order by n", &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn data_survives_stop_and_crash() {
    let mut server = tokio::spawn(Postgres::start()).await.unwrap().unwrap();
    let url = server.url();
    let client = server.client().await.unwrap();
    assert_eq!(client.query_one("select 1", &[]).await.unwrap().get::<_, i32>(0), 1);
    write(&server, 1).await;
    // A client is no reason not to stop.
    server.stop().await.unwrap();
    assert!(client.simple_query("select 1").await.is_err());
    assert!(server.client().await.is_err());
    server.start_again().await.unwrap();
    assert_eq!((server.url(), read(&server).await), (url, vec![1]));
    // What runs is not started twice, and goes on.
    let error = server.start_again().await.unwrap_err().to_string();
    assert!(error.contains("postgres ended") && error.contains("lock file"), "{error}");
    write(&server, 2).await;
    server.crash().await.unwrap();
    assert!(server.process().is_none());
    server.start_again().await.unwrap();
    assert_eq!(read(&server).await, [1, 2]);
    assert!(server.logs().contains("automatic recovery in progress"), "{}", server.logs());
}

#[tokio::test]
async fn it_is_nobodys_servant_and_leaves_nothing() {
    let server = Postgres::start().await.unwrap();
    let client = server.client().await.unwrap();
    let folder = client.query_one("show data_directory", &[]).await.unwrap().get::<_, String>(0);
    let pid = server.process().and_then(|p| p.id()).unwrap();
    assert_ne!(user_of(pid), 0, "PostgreSQL refuses to run as root");
    let backends = children(pid);
    assert!(!backends.is_empty() && runs(pid));
    // In the middle of something.
    tokio::spawn(async move { client.simple_query("select pg_sleep(100)").await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(server);
    assert!(!runs(pid));
    assert!(!std::path::Path::new(&folder).parent().unwrap().exists());
    // The postmaster has waited for them.
    assert!(!backends.into_iter().any(runs));
}

#[tokio::test]
async fn it_stands_still_with_its_children_and_goes_on() {
    let server = Postgres::start().await.unwrap();
    let client = server.client().await.unwrap();
    let process = server.process().unwrap();
    let backends = children(process.id().unwrap());
    // One that has ended meanwhile stays a zombie as long as its parent stands still.
    let stands = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit_once(") ").unwrap().1.starts_with(['T', 'Z'])
    };
    process.pause_all().unwrap();
    let mut answer = std::pin::pin!(client.query_one("select 1", &[]));
    // One that waits for the disk stands still once that has answered.
    let all = async {
        while !backends.iter().all(stands) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all).await.unwrap();
    assert!(!backends.is_empty());
    tokio::time::timeout(Duration::from_millis(500), &mut answer).await.unwrap_err();
    process.resume_all().unwrap();
    answer.await.unwrap();
    // It ends even if it stands still, and they with it.
    process.pause_all().unwrap();
    drop(server);
    assert!(!backends.into_iter().any(runs));
}

#[tokio::test]
async fn a_password_is_asked_for() {
    let server = Postgres::builder().password("p@ss:w/rd%").start().await.unwrap();
    server.client().await.unwrap();
    let refused = async |password: Option<&str>| {
        let mut config: tokio_postgres::Config = server.url().parse().unwrap();
        assert_eq!(config.get_password(), Some("p@ss:w/rd%".as_bytes()));
        config.password(password.unwrap_or_default());
        config.connect(NoTls).await.err().unwrap()
    };
    assert_eq!(refused(Some("wrong")).await.code().unwrap().code(), "28P01");
    refused(None).await;
}

#[tokio::test]
async fn settings_files_and_databases() {
    let own = "settings.conf";
    let server = Postgres::builder()
        .setting("work_mem", "5MB")
        .file("postgresql.conf", format!("include '{own}'\n"))
        .file(own, "application_name = 'from a file'\n")
        .start()
        .await
        .unwrap();
    let url = server.create_database("a \"b\"").await.unwrap();
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let show = async |what: &str| {
        client.query_one(&format!("select {what}"), &[]).await.unwrap().get::<_, String>(0)
    };
    assert_eq!(show("current_database()::text").await, "a \"b\"");
    assert_eq!(show("current_setting('work_mem')").await, "5MB");
    assert_eq!(show("current_setting('application_name')").await, "from a file");

    let error = Postgres::builder().setting("nonsense", "1").start().await.unwrap_err().to_string();
    assert!(error.contains("postgres ended") && error.contains("\"nonsense\""), "{error}");
}

#[tokio::test]
async fn on_a_machine_that_has_nothing_it_is_fetched() {
    let mut server = Postgres::builder().sources(Sources::Fetched).start().await.unwrap();
    assert!(!server.has_timescale().await.unwrap(), "it is not in the package");
    let tls = server.client().await.unwrap().query_one("show ssl_library", &[]).await.unwrap();
    assert_eq!(tls.get::<_, &str>(0), "OpenSSL");
    write(&server, 1).await;
    server.crash().await.unwrap();
    server.start_again().await.unwrap();
    assert_eq!(read(&server).await, [1]);
}
