//! Headless Chromium with one page, driven by Playwright over the lines of a small script.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use fleet_worker::local::{chromium, node_packages};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, sleep, timeout};

const PLAYWRIGHT: &str = "playwright-core@1.65.1";

pub(crate) struct Browser {
    _child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Browser {
    pub(crate) async fn start() -> Self {
        let (modules, chromium) = (node_packages(&[PLAYWRIGHT]).await.unwrap(), chromium().await.unwrap());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/browser/driver.mjs");
        let mut node = Command::new("node");
        node.arg(script).arg(modules).arg(chromium).kill_on_drop(true);
        let mut child = node.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { _child: child, input, output: BufReader::new(output).lines() }
    }

    async fn ask(&mut self, command: Value) -> Value {
        self.input.write_all(format!("{command}\n").as_bytes()).await.unwrap();
        let line = timeout(Duration::from_secs(60), self.output.next_line()).await;
        let line = line.expect("the browser answers").unwrap().expect("the browser is there");
        let answer: Value = serde_json::from_str(&line).unwrap();
        assert!(answer["error"].is_null(), "{command}: {}", answer["error"]);
        answer["answer"].clone()
    }

    pub(crate) async fn open(&mut self, url: &str, (width, height): (u32, u32), dark: bool) {
        let open = json!({ "command": "open", "url": url, "width": width, "height": height, "dark": dark });
        self.ask(open).await;
    }

    /// The value of an expression of JavaScript in the page.
    pub(crate) async fn evaluate(&mut self, expression: &str) -> Value {
        self.ask(json!({ "command": "evaluate", "expression": expression })).await
    }

    /// Waits until an expression is true; says what it was else, and what the page looks like.
    pub(crate) async fn until(&mut self, expression: &str, within: Duration) {
        let deadline = Instant::now() + within;
        loop {
            let value = self.evaluate(expression).await;
            if value == json!(true) {
                return;
            }
            if Instant::now() >= deadline {
                let text = self.evaluate("document.body.innerText").await;
                panic!("after {within:?} {expression} is {value}; the page: {text}");
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    pub(crate) async fn click(&mut self, x: f64, y: f64) {
        self.ask(json!({ "command": "click", "x": x, "y": y })).await;
    }

    /// Types into a field, and Enter.
    pub(crate) async fn fill(&mut self, selector: &str, text: &str) {
        self.ask(json!({ "command": "type", "selector": selector, "text": text })).await;
    }

    /// A screenshot of the whole page, for people, in the target folder.
    pub(crate) async fn shot(&mut self, name: &str) {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        self.ask(json!({ "command": "shot", "path": path })).await;
    }

    /// Errors and warnings of the console, and requests that left the origin, since `open`.
    pub(crate) async fn complaints(&mut self) -> Vec<String> {
        let complaints = self.ask(json!({ "command": "complaints" })).await;
        serde_json::from_value(complaints).unwrap()
    }
}
