//! How the simulated fleet publishes: acks in any order, links that break, several cells.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use async_nats::jetstream::{self, consumer};
use async_nats::{Client, Message};
use fleet_core::CellId;
use fleet_core::nats::NatsOptions;
use fleet_worker::deployment::Deployment;
use fleet_worker::local::NatsServer;
use fleet_worker::simulate::{Simulation, SimulationOptions};
use futures_util::StreamExt;
use tokio::process::Command;
use tokio::sync::oneshot;
use tokio::time::{interval, sleep};

use crate::world::{
    QUICK, assert_exact, deployment_by, durable_deployment, eventually, finish, fleet, vehicles,
};

/// What was published to a stream that we are ourselves: each message, by subject and payload, with how often it
/// came.
type Came = HashMap<(String, Vec<u8>), u32>;

/// Acknowledges as a stream does, but late, in the reverse order and twice; the first copy of one message in seven
/// never.
struct Answers {
    client: Client,
    came: Came,
    withheld: HashSet<(String, Vec<u8>)>,
    /// To be acknowledged, and acknowledged once.
    first: Vec<Message>,
    second: Vec<Message>,
}

impl Answers {
    fn take(&mut self, message: Message) {
        let key = (message.subject.to_string(), message.payload.to_vec());
        let samples = !key.0.ends_with(".on") && !key.0.ends_with(".off");
        let (number, copies) = (self.came.len(), self.came.entry(key.clone()).or_default());
        *copies += 1;
        if *copies == 1 && samples && number % 7 == 0 {
            self.withheld.insert(key);
        } else {
            self.first.push(message);
        }
    }

    async fn answer(&mut self) {
        let again = std::mem::take(&mut self.second);
        let first = std::mem::take(&mut self.first);
        for message in again.iter().chain(first.iter().rev()) {
            let reply = message.reply.clone().unwrap();
            self.client.publish(reply, r#"{"stream":"T", "seq":1}"#.into()).await.unwrap();
        }
        self.second = first;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn acks_in_any_order_and_twice_are_taken_for_their_own_messages() {
    let nats = NatsServer::start().await.unwrap();
    let client = async_nats::connect(nats.url()).await.unwrap();
    let mut published = client.subscribe("fleet.0.>").await.unwrap();
    client.flush().await.unwrap();
    let (end, mut ended) = oneshot::channel::<()>();
    let answering = tokio::spawn(async move {
        let mut answers = Answers {
            client,
            came: Came::new(),
            withheld: HashSet::new(),
            first: Vec::new(),
            second: Vec::new(),
        };
        let mut often = interval(Duration::from_millis(20));
        loop {
            tokio::select! {
                Some(message) = published.next() => answers.take(message),
                _ = often.tick() => answers.answer().await,
                _ = &mut ended => return answers,
            }
        }
    });
    let options = SimulationOptions { window: 256, ledger: true, ..vehicles(300, 15) };
    let simulation = Simulation::new(&NatsOptions::new(nats.url()), options).await.unwrap();
    let summary = simulation.run(std::future::pending()).await.unwrap();
    end.send(()).unwrap();
    let answers = answering.await.unwrap();
    let samples = answers.came.keys().filter(|(subject, _)| {
        let last = subject.rsplit('.').next().unwrap();
        last != "on" && last != "off"
    });
    assert_eq!((summary.unacknowledged, summary.switched_off), (0, 300), "{summary:?}");
    assert_eq!(summary.acknowledged, samples.count() as u64);
    assert!(answers.withheld.len() > 50, "{} acks were withheld", answers.withheld.len());
    let taken: Vec<_> = answers.withheld.iter().filter(|key| answers.came[*key] < 2).collect();
    assert!(taken.is_empty(), "{} of {} never sent again: {taken:?}", taken.len(), answers.withheld.len());
    assert!(summary.retried >= answers.withheld.len() as u64, "{summary:?}");
}

/// What a stream holds of vehicles, by subject and payload, and how many messages these are.
async fn stored(nats: &NatsServer, stream: &str) -> (u64, HashSet<(String, Vec<u8>)>) {
    let js = jetstream::new(async_nats::connect(nats.url()).await.unwrap());
    let stream = js.get_stream(stream).await.unwrap();
    let all = stream.get_info().await.unwrap().state.messages;
    let options = consumer::pull::OrderedConfig::default();
    let mut messages = stream.create_consumer(options).await.unwrap().messages().await.unwrap();
    let (mut count, mut distinct) = (0, HashSet::new());
    for _ in 0..all {
        let message = messages.next().await.unwrap().unwrap();
        // Fences lie there too.
        if message.subject.starts_with("fleet.") {
            count += 1;
            distinct.insert((message.subject.to_string(), message.payload.to_vec()));
        }
    }
    (count, distinct)
}

/// A server that stands still and dies has taken messages and answered none of them.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_lost_connection_had_taken_is_sent_again_and_nothing_else() {
    let mut deployment = durable_deployment(0).await;
    let options = SimulationOptions {
        connections: 3,
        ledger: true,
        schema: deployment.config.schema.clone(),
        vehicles: 1_000,
        ..SimulationOptions::default()
    };
    let simulation = Simulation::new(&deployment.config.nats.options(), options).await.unwrap();
    let progress = simulation.progress();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(simulation.run(async { drop(stopped.await) }));
    eventually("it runs", Duration::from_secs(60), async || progress.acknowledged() > 500).await;
    deployment.nats.process().pause().unwrap();
    eventually("messages wait", Duration::from_secs(60), async || progress.unacknowledged() > 100).await;
    deployment.nats.kill().await;
    sleep(Duration::from_secs(1)).await;
    deployment.nats.start_again().await.unwrap();
    let before = progress.acknowledged();
    eventually("acks come again", Duration::from_secs(60), async || progress.acknowledged() > before).await;
    drop(stop);
    let summary = running.await.unwrap().unwrap();
    assert_eq!((summary.unacknowledged, summary.switched_off), (0, 1_000), "{summary:?}");
    // Of some the acks were on their way.
    assert!(summary.retried > 0, "{summary:?}");
    let (count, distinct) = stored(&deployment.nats, "TELEMETRY_0").await;
    assert_eq!(distinct.len() as u64, summary.acknowledged, "{summary:?}");
    assert!(count <= summary.acknowledged + summary.retried, "{count} are stored: {summary:?}");
}

async fn vehicles_of(deployment: &Deployment, cell: &CellId) -> HashSet<String> {
    let (_, signals) = stored(&deployment.nats, &format!("LIFECYCLE_{cell}")).await;
    signals.iter().filter_map(|(subject, _)| subject.split('.').nth(2).map(str::to_owned)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn vehicles_are_spread_over_several_cells() {
    let deployment = deployment_by(&format!("cells = [\"0\", \"1\", \"2\"]\n{QUICK}"), 1).await;
    let fleet = fleet(&deployment, SimulationOptions { connections: 2, ..vehicles(60, 10) }).await;
    let (summary, verdict) = finish(&deployment, fleet).await;
    assert_eq!((summary.vehicles, summary.switched_off), (60, 60));
    assert_exact(&deployment, &verdict);
    let mut simulate = Command::new(env!("CARGO_BIN_EXE_fleet-worker"));
    simulate.args(["simulate", "--cells", "2", "--vehicles", "10", "--seconds", "2", "--nats-url"]);
    let ended = simulate.arg(deployment.nats.url()).output().await.unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    for (cell, ours, by_flag) in [("0", 20, 5), ("1", 20, 5), ("2", 20, 0)] {
        let vehicles = vehicles_of(&deployment, &CellId::new(cell).unwrap()).await;
        let flagged = vehicles.iter().filter(|vehicle| vehicle.starts_with("sim-")).count();
        assert_eq!((vehicles.len() - flagged, flagged), (ours, by_flag), "cell {cell}: {vehicles:?}");
    }
}
