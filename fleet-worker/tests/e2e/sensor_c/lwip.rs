//! The C client's port to lwIP: a real lwIP on a wire in the program's own process, which loses packets.

use super::{programs, publishes_so_many, server_with_stream, survives_a_kill, with_password};

/// The acknowledgements are more than lwIP takes before it is told that something was read.
#[tokio::test(flavor = "multi_thread")]
async fn over_lwip_all_samples_arrive_once() {
    let programs = programs(&["sensor-lwip"]).await;
    let (server, js) = server_with_stream().await;
    let url = with_password(server.port());
    publishes_so_many(20_000, &programs, "sensor-lwip", &[], &url, &js).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_lwip_a_network_that_loses_packets_costs_nothing() {
    survives_a_kill("sensor-lwip", &["--lose", "5"]).await;
}
