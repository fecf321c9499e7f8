//! Vehicles that don't know their cell.

use std::collections::{BTreeMap, BTreeSet};

use async_nats::jetstream;
use fleet_core::nats::{Names, StreamOptions, set_up};
use fleet_core::{CellId, Schema};
use fleet_worker::local::NatsServer;

/// As docs/operations.md has it.
const MAPPINGS: &str =
    r#"mappings { "car.*.*": "fleet.{{partition(4,1)}}.{{wildcard(1)}}.{{wildcard(2)}}" }"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_server_gives_each_vehicle_one_cell_by_its_id() {
    let nats = NatsServer::builder().config(MAPPINGS).start().await.unwrap();
    let js = jetstream::new(async_nats::connect(nats.url()).await.unwrap());
    let cells: Vec<CellId> = (0..4).map(|n| CellId::new(&n.to_string()).unwrap()).collect();
    let options = StreamOptions { max_bytes: 64 << 20, ..StreamOptions::default() };
    for cell in &cells {
        set_up(&js, &Names::new(cell), &Schema::default(), &options).await.unwrap();
    }
    let mut vehicles_of: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for n in 0..40 {
        let vehicle = format!("VIN{n:05}");
        let mut stored = BTreeSet::new();
        for last in ["on", "position", "speed", "fuel", "brake", "off"] {
            let ack = js.publish(format!("car.{vehicle}.{last}"), "".into()).await.unwrap();
            let stream = ack.await.unwrap().stream;
            let (kind, cell) = stream.split_once('_').unwrap();
            let expected = if matches!(last, "on" | "off") { "LIFECYCLE" } else { "TELEMETRY" };
            assert_eq!(kind, expected, "{vehicle} {last}");
            stored.insert(cell.to_owned());
            vehicles_of.entry(cell.to_owned()).or_default().insert(vehicle.clone());
        }
        assert_eq!(stored.len(), 1, "{vehicle} is in the cells {stored:?}");
    }
    assert_eq!(vehicles_of.len(), cells.len(), "{vehicles_of:?}");
}
