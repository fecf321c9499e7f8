//! What people look at: the same on every edition, and never more than was asked for.

use fleet_core::ErrorKind;
use fleet_core::time::MINUTE;
use fleet_sinks::timescale::TimescaleReader;

use crate::fixture::{NOON, vin};
use crate::server::Server;
use crate::views::filled;

#[tokio::test]
async fn newest_records_and_a_vehicles_of_late() {
    let servers = tokio::join!(Server::plain(), Server::timescale(), Server::apache());
    for server in [servers.0, servers.1, servers.2] {
        let f = filled(server).await;
        let reader = TimescaleReader::new(f.server.connector(), &f.schema);

        let fleet = reader.fleet(2).await.unwrap();
        assert_eq!((fleet.vehicles, fleet.on), (3, 2), "the fourth has no record");
        let seen: Vec<_> = fleet.newest.iter().map(|n| (n.vehicle.clone(), n.on, n.ts)).collect();
        assert_eq!(seen, [(vin(1), false, NOON), (vin(2), true, NOON)]);
        assert_eq!(fleet.newest[1].record.values, [1.0, 2.0, 2.0, 3.0, 4.0].map(Some));

        let table = f.table().await.into_iter().filter(|((vehicle, _), _)| *vehicle == vin(2));
        let expected: Vec<_> = table.map(|((_, ts), record)| (ts, record)).collect();
        let all = reader.records(&vin(2), MINUTE, 1_000).await.unwrap().unwrap();
        assert_eq!(all, expected);
        let last = reader.records(&vin(2), MINUTE, 4).await.unwrap().unwrap();
        assert_eq!(last, expected[expected.len() - 4..]);
        for stranger in [4, 5] {
            assert_eq!(reader.records(&vin(stranger), MINUTE, 4).await.unwrap(), None);
        }
    }
}

#[tokio::test]
async fn one_that_waits_too_long_gives_up_and_comes_back() {
    let f = filled(Server::plain().await).await;
    let reader = TimescaleReader::new(f.server.connector(), &f.schema);
    f.client.batch_execute("begin; lock table vehicle_latest").await.unwrap();
    let error = reader.fleet(1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    f.client.batch_execute("commit").await.unwrap();
    assert_eq!(reader.fleet(1).await.unwrap().vehicles, 3);
}
