//! Real recordings through the whole path.

use std::path::PathBuf;

use fleet_worker::simulate::SimulationOptions;

use crate::world::{assert_exact, deployment, finish, fleet};

/// The recordings are not part of the project; where they lie beside it they are played.
fn recording(name: &str) -> Option<PathBuf> {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(name);
    file.is_file().then_some(file)
}

async fn play(name: &str, speed: f64) {
    let Some(file) = recording(name) else {
        println!("{name} is not beside the project, so that there is nothing to play");
        return;
    };
    let deployment = deployment(2).await;
    let options = SimulationOptions { recording: Some(file), speed, ..SimulationOptions::default() };
    let fleet = fleet(&deployment, options).await;
    let (summary, verdict) = finish(&deployment, fleet).await;
    assert!(summary.acknowledged > 900, "{} messages", summary.acknowledged);
    assert_exact(&deployment, &verdict);
}

#[tokio::test(flavor = "multi_thread")]
async fn ved() {
    play("ved.csv", 200.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn truck() {
    play("truck.csv", 60.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn covesa() {
    play("cv.csv", 60.0).await;
}
