//! An S3 for tests: moto's, which checks signatures.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fleet_sinks::parquet::BucketOptions;
use fleet_worker::local::{Process, free_port, http_get, python_packages};
use tempfile::TempDir;
use tokio::process::Command;

/// A running S3 that knows one user and one bucket, `archive`; it forgets both when it ends.
pub(crate) struct Server {
    /// Ends with the value.
    _process: Process,
    _folder: TempDir,
    pub(crate) port: u16,
    keys: (String, String),
}

impl Server {
    pub(crate) async fn start() -> Self {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let process = launch(port, folder.path()).await;
        let mut python = Command::new("python3");
        python
            .args(["-c", include_str!("s3.py")])
            .arg(format!("http://127.0.0.1:{port}"))
            .env("PYTHONPATH", packages().await);
        let done = python.output().await.unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let said = String::from_utf8(done.stdout).unwrap();
        let (key, secret) = said.trim().split_once(' ').unwrap();
        let keys = (key.to_owned(), secret.to_owned());
        Self { _process: process, _folder: folder, port, keys }
    }

    pub(crate) fn options(&self, url: &str) -> BucketOptions {
        BucketOptions {
            url: url.to_owned(),
            endpoint: Some(format!("http://127.0.0.1:{}", self.port)),
            region: "us-east-1".to_owned(),
            access_key_id: self.keys.0.clone(),
            secret_access_key: self.keys.1.clone(),
        }
    }
}

async fn packages() -> PathBuf {
    python_packages(include_str!("s3-requirements.txt")).await.unwrap()
}

async fn launch(port: u16, folder: &Path) -> Process {
    let mut moto = Command::new("python3");
    moto.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]);
    // Three calls make the user; from then on keys are checked.
    moto.env("PYTHONPATH", packages().await).env("INITIAL_NO_AUTH_ACTION_COUNT", "3");
    let mut process = Process::start("moto", moto, &folder.join("log")).unwrap();
    let address = format!("127.0.0.1:{port}");
    let ready = || async { http_get(&address, "/moto-api/").await.is_some_and(|(status, _)| status == 200) };
    process.until_ready(Duration::from_secs(60), ready).await.unwrap();
    process
}
