//! The admin server of a long-running subcommand, if it is configured.

use std::time::Duration;

use fleet_core::error::Result;
use tokio::sync::oneshot;

use crate::admin::{Admin, Serving};
use crate::config::Config;

/// Serving until it is shut down.
#[derive(Debug)]
pub(super) struct Served {
    running: Option<(Serving, oneshot::Sender<()>)>,
}

impl Served {
    pub(super) async fn start(admin: Admin, config: &Config) -> Result<Self> {
        let Some(listen) = config.admin else { return Ok(Self { running: None }) };
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = admin.serve(listen, async move { drop(stopped.await) }).await?;
        tracing::info!(address = %serving.address, "the admin server listens");
        Ok(Self { running: Some((serving, stop)) })
    }

    /// Answers what was asked; who has asked but half a question is not waited for.
    pub(super) async fn shut_down(self) {
        if let Some((serving, stop)) = self.running {
            let _ = stop.send(());
            let _ = tokio::time::timeout(Duration::from_secs(2), serving.task).await;
        }
    }
}
