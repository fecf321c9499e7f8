//! A link that does harm where certain bytes pass from the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// What happens to the mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Harm {
    /// Its last byte is another one.
    Garble,
    /// The connection ends before it.
    Cut,
}

/// A port that leads to another one, and harms the mark as often as it is told to.
pub(super) struct Proxy {
    port: u16,
    left: Arc<AtomicU32>,
    done: Arc<AtomicU32>,
    task: AbortHandle,
}

#[derive(Clone)]
struct Link {
    target: u16,
    mark: &'static [u8],
    harm: Harm,
    left: Arc<AtomicU32>,
    done: Arc<AtomicU32>,
}

impl Proxy {
    pub(super) async fn to(target: u16, mark: &'static [u8], harm: Harm, times: u32) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (left, done) = (Arc::new(AtomicU32::new(times)), Arc::new(AtomicU32::new(0)));
        let link = Link { target, mark, harm, left: Arc::clone(&left), done: Arc::clone(&done) };
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(link.clone().carry(client));
            }
        });
        Self { port, left, done, task: task.abort_handle() }
    }

    pub(super) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// It does no harm from now on.
    pub(super) fn heal(&self) {
        self.left.store(0, Ordering::Relaxed);
    }

    /// How often it did.
    pub(super) fn done(&self) -> u32 {
        self.done.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Link {
    async fn carry(self, client: TcpStream) {
        let Ok(server) = TcpStream::connect(("127.0.0.1", self.target)).await else { return };
        let ((mut from_client, to_client), (from_server, mut to_server)) =
            (client.into_split(), server.into_split());
        tokio::select! {
            _ = copy(&mut from_client, &mut to_server) => {}
            () = self.pass(from_server, to_client) => {}
        }
    }

    async fn pass(self, mut from: impl AsyncReadExt + Unpin, mut to: impl AsyncWriteExt + Unpin) {
        let mut bytes = Vec::new();
        while let Ok(1..) = from.read_buf(&mut bytes).await {
            while let Some(at) = bytes.windows(self.mark.len()).position(|window| window == self.mark) {
                let end = at + self.mark.len();
                if self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok()
                {
                    self.done.fetch_add(1, Ordering::Relaxed);
                    match self.harm {
                        Harm::Garble => bytes[end - 1] ^= 0x20,
                        Harm::Cut => {
                            let _ = to.write_all(&bytes[..at]).await;
                            return;
                        }
                    }
                }
                if to.write_all(&bytes[..end]).await.is_err() {
                    return;
                }
                bytes.drain(..end);
            }
            // The beginning of a mark waits for its end.
            let held =
                (1..self.mark.len()).rev().find(|held| bytes.ends_with(&self.mark[..*held])).unwrap_or(0);
            let free = bytes.len() - held;
            if to.write_all(&bytes[..free]).await.is_err() {
                return;
            }
            bytes.drain(..free);
        }
    }
}
