//! The live page in a real browser, against a worker with simulated vehicles.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use fleet_core::time::SECOND;
use fleet_worker::admin;
use fleet_worker::clock::now;
use fleet_worker::deployment::Deployment;
use fleet_worker::local::http_get;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::browser::Browser;
use crate::schemas::SIGNALS;
use crate::world::{Hand, QUICK, deployment_by, endless_fleet, eventually};

const DESK: (u32, u32) = (1280, 800);
const PHONE: (u32, u32) = (390, 844);
const SOON: Duration = Duration::from_secs(20);

async fn with_page(signals: &str) -> Deployment {
    let config = QUICK.replacen("[worker]", &format!("{signals}[worker]"), 1) + "[admin]\npage = true\n";
    deployment_by(&config, 1).await
}

/// How many values of each kind the chart of a signal shows.
async fn shown(browser: &mut Browser, signal: &str) -> [u64; 3] {
    let data = format!("({{...document.querySelector('[data-signal={signal}]').dataset}})");
    let data = browser.evaluate(&data).await;
    ["measured", "interpolated", "held"].map(|how| data[how].as_str().unwrap().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_a_fleet_and_says_when_it_can_not() {
    let mut deployment = with_page("").await;
    let page = format!("http://{}/live/", deployment.workers[0].address());
    let mut browser = Browser::start().await;

    browser.open(&page, DESK, false).await;
    browser.until("document.getElementById('of').textContent === 'of 0 seen'", SOON).await;
    assert_eq!(
        browser.evaluate("document.getElementById('map-empty').textContent").await,
        json!("No vehicle yet.")
    );
    assert_eq!(browser.evaluate("document.getElementById('vehicle-empty').hidden").await, json!(false));
    browser.shot("live-empty.png").await;

    // One vehicle whose speed is measured on the grid, among others whose readings are not.
    let (running, _on) = endless_fleet(&deployment, 24).await;
    let mut hand = Hand::new(&deployment, "HAND-1").await;
    hand.send("on", "").await;
    let start = (now() / SECOND - 30) * SECOND;
    for second in 0..20 {
        hand.speed(start + second * SECOND, 50.0 + 10.0 * (second as f64 / 3.0).sin()).await;
    }
    for second in (0..20).step_by(4) {
        hand.speed(start + (26 + second) * SECOND, 60.0).await;
    }
    browser.until("document.getElementById('on').textContent === '25'", SOON).await;
    browser.until("Number(document.getElementById('map').dataset.vehicles) === 24", SOON).await;
    browser.until("Number(document.getElementById('messages').textContent) > 0", SOON).await;
    browser.until("Number(document.getElementById('records').textContent) > 0", SOON).await;

    browser.fill("#vin", "HAND-1").await;
    browser.until("location.hash.includes('HAND-1')", SOON).await;
    browser.until("document.querySelector('[data-signal=speed]').dataset.measured >= 20", SOON).await;
    let [measured, interpolated, _] = shown(&mut browser, "speed").await;
    assert!((20..=25).contains(&measured) && interpolated >= 9, "{measured} measured, {interpolated} not");
    assert_eq!(shown(&mut browser, "fuel").await, [0, 0, 0]);
    browser.shot("live-hand.png").await;

    // A vehicle of the simulation has all four.
    browser.fill("#vin", "SIM00003").await;
    for signal in ["position", "speed", "fuel", "brake"] {
        let points = format!("document.querySelector('[data-signal={signal}]').dataset");
        let enough = format!("Number({points}.measured) + Number({points}.interpolated) > 3");
        browser.until(&enough, Duration::from_secs(60)).await;
    }
    browser.shot("live-light.png").await;

    // A click on the map picks the one that is there.
    let spot = browser
        .evaluate(
            "(() => { const r = document.getElementById('map').getBoundingClientRect(); \
        return [r.left, r.top, r.width, r.height]; })()",
        )
        .await;
    let spot: Vec<f64> = serde_json::from_value(spot).unwrap();
    let mut hit = Value::Null;
    'search: for x in (50..spot[2] as i32 - 20).step_by(24) {
        for y in (20..spot[3] as i32 - 24).step_by(24) {
            browser.click(spot[0] + f64::from(x), spot[1] + f64::from(y)).await;
            hit = browser.evaluate("document.getElementById('vin').value").await;
            if hit != json!("SIM00003") {
                break 'search;
            }
        }
    }
    assert!(hit.as_str().unwrap().starts_with("SIM"), "{hit}");

    browser.evaluate("document.getElementById('zoom').click()").await;
    browser.shot("live-zoomed.png").await;

    // Neither names that can't be nor ones that are not there break anything.
    for (vin, said) in [("NOBODY", "NOBODY has no record."), ("a/../b", "must be 1 to 64 of")] {
        browser.fill("#vin", vin).await;
        let message = format!("document.getElementById('vehicle-empty').textContent.includes({said:?})");
        browser.until(&message, SOON).await;
    }
    let complaints = browser.complaints().await;
    let expected = |text: &String| text.contains("404 (Not Found)") || text.contains("400 (Bad Request)");
    assert!(complaints.iter().all(expected), "{complaints:?}");

    for (name, size, dark) in [("live-dark.png", DESK, true), ("live-phone.png", PHONE, false)] {
        browser.open(&format!("{page}#vehicle=SIM00003&minutes=5"), size, dark).await;
        browser.until("document.querySelectorAll('#charts canvas').length === 4", SOON).await;
        browser.until("document.querySelectorAll('#rates canvas').length === 1", SOON).await;
        let too_wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth";
        assert_eq!(browser.evaluate(too_wide).await, json!(false), "{name} scrolls sideways");
        tokio::time::sleep(Duration::from_secs(5)).await;
        browser.shot(name).await;
        let complaints = browser.complaints().await;
        assert!(complaints.is_empty(), "{name}: {complaints:?}");
    }

    // First the database goes, then the worker.
    browser.open(&page, DESK, false).await;
    browser.until("document.getElementById('on').textContent === '25'", SOON).await;
    running.abort();
    deployment.postgres.stop().await.unwrap();
    let trouble = |text: &str| format!("document.getElementById('trouble').textContent.startsWith({text:?})");
    browser.until(&trouble("The server says: the database does not answer"), SOON).await;
    deployment.postgres.start_again().await.unwrap();
    browser.until("document.getElementById('trouble').hidden", SOON).await;
    deployment.kill_worker().await;
    browser.until(&trouble("The server does not answer"), SOON).await;
    browser.shot("live-away.png").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_holds_for_other_signals() {
    let deployment = with_page(SIGNALS).await;
    let (running, _on) = endless_fleet(&deployment, 5).await;
    let mut browser = Browser::start().await;
    let page = format!("http://{}/live/", deployment.workers[0].address());
    browser.open(&page, DESK, false).await;
    for signal in ["position", "speed", "heading", "tyre"] {
        let points = format!("document.querySelector('[data-signal={signal}]')?.dataset");
        browser.until(&format!("Number({points}?.interpolated) > 3"), Duration::from_secs(40)).await;
    }
    browser.shot("live-five.png").await;
    let complaints = browser.complaints().await;
    assert!(complaints.is_empty(), "{complaints:?}");
    running.abort();
}

async fn raw(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{request}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.to_lowercase()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_read_only_local_and_off_by_default() {
    let deployment = with_page("").await;
    let address = deployment.workers[0].address();
    let get = async |path: &str| raw(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}")).await;
    for (path, kind) in [
        ("/live/", "text/html"),
        ("/live/app.js", "text/javascript"),
        ("/live/uPlot.min.css", "text/css"),
        ("/live/data/schema", "application/json"),
        ("/live/data/fleet", "application/json"),
    ] {
        let answer = get(path).await;
        assert!(
            answer.starts_with("http/1.1 200") && answer.contains(&format!("content-type: {kind}")),
            "{answer}"
        );
        assert!(answer.contains("content-security-policy: default-src 'self';"), "{answer}");
        assert!(!answer.contains("access-control-allow"), "{answer}");
        let post = format!("POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0");
        assert!(raw(address, &post).await.starts_with("http/1.1 405"));
    }
    for (path, status) in [
        ("/live", 308),
        ("/live/config.rs", 404),
        ("/live/..%2fCargo.toml", 404),
        ("/live/data/vehicle/V1/15", 404),
        ("/live/data/vehicle/V1/0", 400),
        ("/live/data/vehicle/V1/61", 400),
        ("/live/data/vehicle/V1';drop/15", 400),
        ("/live/data/vehicle/a%2fb/15", 400),
    ] {
        let answer = get(path).await;
        assert!(answer.starts_with(&format!("http/1.1 {status}")), "{path}: {answer}");
    }
    let foreign = raw(address, "GET /live/data/fleet HTTP/1.1\r\nHost: evil.example").await;
    assert!(foreign.starts_with("http/1.1 421") && !foreign.contains("vehicles"), "{foreign}");

    // Somebody who asks half a question does not hold the worker up when it is to end.
    let mut half = TcpStream::connect(address).await.unwrap();
    half.write_all(b"GET /live/ HTTP/1.1\r\n").await.unwrap();
    let worker = &deployment.workers[0];
    worker.process.terminate().unwrap();
    eventually("the worker has ended", Duration::from_secs(10), || async { !runs(worker.process.id()) })
        .await;

    // A worker has no page unless it is asked for; that of the demo is its own, over all workers.
    let plain = crate::world::deployment(2).await;
    assert_eq!(plain.workers[0].get("/live/").await.unwrap().0, 404);
    let listen = "127.0.0.1:0".parse().unwrap();
    let page = plain.live().unwrap().router();
    let serving = admin::serve(page, listen, std::future::pending()).await.unwrap();
    let (status, fleet) = http_get(&serving.address.to_string(), "/live/data/fleet").await.unwrap();
    let counted: Value = serde_json::from_str(&fleet).unwrap();
    assert_eq!((status, counted["counts"].as_object().unwrap().len()), (200, 2), "{fleet}");
}

/// Whether the process is more than a zombie.
fn runs(id: Option<u32>) -> bool {
    let status = id.and_then(|id| std::fs::read_to_string(format!("/proc/{id}/stat")).ok());
    status.is_some_and(|status| !status.contains(") Z "))
}

#[test]
fn the_plotting_library_is_the_one_that_is_named() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/live/vendor/uplot");
    let named = std::fs::read_to_string(folder.join("README.md")).unwrap();
    for file in ["uPlot.iife.min.js", "uPlot.min.css", "LICENSE"] {
        let sum = Command::new("sha256sum").arg(folder.join(file)).output().unwrap().stdout;
        let sum = String::from_utf8(sum[..64].to_vec()).unwrap();
        assert!(named.contains(&format!("| `{file}` | `{sum}` |")), "{file} is {sum}");
    }
    let script = std::fs::read_to_string(folder.join("uPlot.iife.min.js")).unwrap();
    assert!(named.starts_with("# uPlot 1.6.32\n") && script.contains("(v1.6.32)"));
}
