//! A vehicle behind NATS's MQTT gateway, with a client of others.

use std::path::Path;
use std::time::Duration;

use fleet_worker::clock::now;
use fleet_worker::deployment::Deployment;
use fleet_worker::local::{NatsServer, free_port};
use rumqttc::{AsyncClient, Event, EventLoop, LastWill, MqttOptions, Packet, QoS};

use crate::world::{Hand, QUICK, count, eventually};

/// Names its sensors' topics as our subjects; its gateway has a last will, each sensor has not.
fn connect(port: u16) -> (AsyncClient, EventLoop) {
    let mut options = MqttOptions::new("gateway-1", "127.0.0.1", port);
    options.set_last_will(LastWill::new("fleet/0/MQTT-1/off", "", QoS::AtLeastOnce, false));
    AsyncClient::new(options, 64)
}

/// Runs the connection until so many publishes are acknowledged.
async fn acknowledged(connection: &mut EventLoop, publishes: usize) {
    let mut acknowledged = 0;
    while acknowledged < publishes {
        let event = tokio::time::timeout(Duration::from_secs(20), connection.poll()).await.unwrap();
        acknowledged += usize::from(matches!(event.unwrap(), Event::Incoming(Packet::PubAck(_))));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mqtt_messages_become_records_and_the_last_will_ends_the_trip() {
    let port = free_port();
    let gateway = format!("mqtt {{ host: 127.0.0.1, port: {port} }}");
    let nats = NatsServer::builder().config(&gateway).start().await.unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_fleet-worker"));
    let deployment = Deployment::start_on(nats, program, QUICK, 1).await.unwrap();
    let mut expected = Hand::new(&deployment, "MQTT-1").await;

    let (client, mut connection) = connect(port);
    let begun = now() / 1_000_000 * 1_000;
    client.publish("fleet/0/MQTT-1/on", QoS::AtLeastOnce, false, "").await.unwrap();
    for second in 0..12 {
        let (ms, value) = (begun - 11_500 + second * 1_000, 40.0 + second as f64);
        let payload = format!("{{\"ts\":{ms},\"value\":{value}}}");
        client.publish("fleet/0/MQTT-1/speed", QoS::AtLeastOnce, false, payload).await.unwrap();
        expected.note(1, ms * 1_000, &[value]);
    }
    acknowledged(&mut connection, 13).await;
    let bound = "select count(*) from trip where ended_at is null";
    eventually("the vehicle is bound", Duration::from_secs(20), async || {
        count(&deployment, bound).await == 1
    })
    .await;

    // The link is gone without a word.
    drop((client, connection));
    deployment.until_released(Duration::from_secs(40)).await.unwrap();
    expected.assert_exact(&deployment).await;
    let trips = "select count(*) from trip where ended_at is not null";
    assert_eq!(count(&deployment, trips).await, 1);
}
