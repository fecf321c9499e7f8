//! What the programs may not do; that it is enough for their job, `job` shows.

use async_nats::jetstream;
use async_nats::jetstream::consumer::pull;
use fleet_core::CellId;
use fleet_examples::nats_users;

use super::guarded::{Guarded, shipped};

#[test]
fn the_shipped_accounts_are_those_that_the_code_names() {
    let text = std::fs::read_to_string(shipped().join("accounts.conf")).unwrap();
    assert_eq!(text, nats_users::accounts(&[CellId::default()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_program_has_more_than_it_needs() {
    let (guarded, js) = Guarded::with_streams(&["CAR-1"]).await;
    js.publish("fleet.0.CAR-1.speed", "x".into()).await.unwrap().await.unwrap();
    let never = [
        "fleet.0.CAR-1.speed",
        "fleet.0.CAR-1.off",
        "bind.1.CAR-1",
        "$JS.API.INFO",
        "$JS.API.STREAM.DELETE.TELEMETRY_0",
        "$JS.API.STREAM.PURGE.TELEMETRY_0",
        "$JS.API.STREAM.MSG.DELETE.TELEMETRY_0",
        "$JS.API.STREAM.CREATE.MINE",
        "$JS.API.STREAM.UPDATE.TELEMETRY_1",
        "$JS.API.CONSUMER.DELETE.BINDINGS_0.workers",
        "$SYS.REQ.SERVER.PING",
    ];
    let strangers = [">", "fleet.>", "fleet.1.*.*", "_INBOX.>", "_INBOX.operator.>", "bind.0.*"];
    let others = [
        ("SETUP_0_A", "fleet-setup-0", "bind.0.CAR-1", "fleet.0.*.*"),
        ("DISCOVERY_0_A", "fleet-discovery-0", "$JS.API.CONSUMER.CREATE.TELEMETRY_0.x", "fleet.0.*.*"),
        ("WORKER_0_A", "fleet-live-0", "$JS.API.STREAM.UPDATE.TELEMETRY_0", "_INBOX.fleet-discovery-0.>"),
    ];
    for (login, connection, publish, subscribe) in others {
        let (client, refusals) = guarded.program(login, connection).await;
        for subject in never.into_iter().chain([publish]) {
            client.publish(subject, "{}".into()).await.unwrap();
            refusals.of("Publish", subject).await;
        }
        for subject in strangers.into_iter().chain([subscribe]) {
            drop(client.subscribe(subject).await.unwrap());
            refusals.of("Subscription", subject).await;
        }
    }
    let kept = js.get_stream("TELEMETRY_0").await.unwrap().cached_info().state.messages;
    assert_eq!(kept, 1, "only what the operator has published");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_reaches_everything_that_it_writes_to() {
    let (guarded, _) = Guarded::with_streams(&[]).await;
    let (client, refusals) = guarded.program("WORKER_0_B", "fleet-catch-up-0").await;
    // Without an ack: a refusal would come before the acks of what follows.
    client.publish("claim.0", "[]".into()).await.unwrap();
    let js = jetstream::new(client);
    for subject in ["bind.0.CAR-1", "fence.0", "deadletter.0.CAR-1"] {
        js.publish(subject, "x".into()).await.unwrap().await.unwrap();
    }
    // A catch-up that broke off gets a consumer with a name.
    let named = pull::OrderedConfig { name: Some("x_1".to_owned()), ..pull::OrderedConfig::default() };
    js.create_consumer_on_stream(named, "TELEMETRY_0").await.unwrap();
    js.delete_consumer_from_stream("x_1", "TELEMETRY_0").await.unwrap();
    assert!(refusals.all().is_empty(), "{:?}", refusals.all());
}
