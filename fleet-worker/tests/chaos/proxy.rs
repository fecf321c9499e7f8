//! A link that can be cut, held up, slowed down and silently lost.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

use crate::plan::Harm;

/// How long a connection whose bytes have vanished stays dead after that. Our kernel acknowledges what vanishes, so
/// that keepalives and `tcp_user_timeout` find nothing wrong; they would end it in about this time.
const DEAD: Duration = Duration::from_secs(30);

/// A port that leads to another one, on the loopback.
#[derive(Debug)]
pub(crate) struct Proxy {
    port: u16,
    harm: watch::Sender<Option<Harm>>,
    task: AbortHandle,
}

impl Proxy {
    pub(crate) async fn to(target: u16) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let (harm, state) = watch::channel(None);
        let task = tokio::spawn(accept(listener, target, state)).abort_handle();
        Ok(Self { port, harm, task })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// What it does from now on; `None` is well.
    pub(crate) fn set(&self, harm: Option<Harm>) {
        self.harm.send_replace(harm);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, target: u16, harm: watch::Receiver<Option<Harm>>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((client, _)) = listener.accept() => {
                connections.spawn(carry(client, target, harm.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn carry(mut client: TcpStream, target: u16, mut harm: watch::Receiver<Option<Harm>>) {
    let now = *harm.borrow_and_update();
    match now {
        Some(Harm::Cut) => return,
        Some(Harm::Silent) => return swallow(&mut client, None, harm).await,
        _ => {}
    }
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", target)).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let silent = {
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
        tokio::select! {
            () = pipe(from_client, to_server, harm.clone()) => false,
            () = pipe(from_server, to_client, harm.clone()) => false,
            found = harm.wait_for(|harm| matches!(harm, Some(Harm::Cut | Harm::Silent))) =>
                found.is_ok_and(|found| *found == Some(Harm::Silent)),
        }
    };
    if silent {
        swallow(&mut client, Some(&mut server), harm).await;
    }
}

/// One direction, until it ends. Each piece has its own time to leave, so that what is slow is not narrow.
async fn pipe(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, mut harm: watch::Receiver<Option<Harm>>) {
    let (pieces, mut due) = mpsc::channel::<(Instant, Bytes)>(256);
    let slow = harm.clone();
    let reading = async move {
        let mut buffer = vec![0; 16 << 10];
        while let Ok(n @ 1..) = from.read(&mut buffer).await {
            let late = match *slow.borrow() {
                Some(Harm::Slow(millis)) => Duration::from_millis(millis),
                _ => Duration::ZERO,
            };
            if pieces.send((Instant::now() + late, Bytes::copy_from_slice(&buffer[..n]))).await.is_err() {
                return;
            }
        }
    };
    let writing = async move {
        while let Some((at, piece)) = due.recv().await {
            sleep_until(at).await;
            let moves = harm.wait_for(|harm| *harm != Some(Harm::Stalled)).await.is_ok();
            if !moves || to.write_all(&piece).await.is_err() {
                return;
            }
        }
    };
    let mut writing = std::pin::pin!(writing);
    tokio::select! {
        // The reader's end closes the channel, after which the rest is still written.
        () = reading => writing.await,
        () = &mut writing => {}
    }
}

/// Takes what comes and gives it to nobody. Neither side learns of the other's end while that lasts.
async fn swallow(
    client: &mut TcpStream,
    server: Option<&mut TcpStream>,
    harm: watch::Receiver<Option<Harm>>,
) {
    let (mut first, mut second) = (harm.clone(), harm);
    let noticed = async {
        drain(client).await;
        let _ = first.wait_for(|harm| *harm != Some(Harm::Silent)).await;
    };
    let forgotten = async {
        let _ = second.wait_for(|harm| *harm != Some(Harm::Silent)).await;
        sleep(DEAD).await;
    };
    let unheard = async {
        if let Some(server) = server {
            drain(server).await;
        }
        std::future::pending().await
    };
    tokio::select! {
        () = noticed => {}
        () = forgotten => {}
        () = unheard => {}
    }
}

async fn drain(from: &mut TcpStream) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(1..) = from.read(&mut buffer).await {}
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers each byte with the next one.
    async fn server() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    while let Ok(byte) = stream.read_u8().await {
                        let _ = stream.write_u8(byte + 1).await;
                    }
                });
            }
        });
        port
    }

    async fn asked(stream: &mut TcpStream, byte: u8) -> Option<u8> {
        stream.write_u8(byte).await.ok()?;
        tokio::time::timeout(Duration::from_secs(1), stream.read_u8()).await.ok()?.ok()
    }

    #[tokio::test]
    async fn what_is_cut_ends_and_what_is_silent_does_not() {
        let proxy = Proxy::to(server().await).await.unwrap();
        let connect = async || TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
        let mut kept = connect().await;
        assert_eq!(asked(&mut kept, 1).await, Some(2));
        proxy.set(Some(Harm::Stalled));
        assert_eq!(asked(&mut kept, 3).await, None);
        proxy.set(None);
        assert_eq!(kept.read_u8().await.unwrap(), 4, "it arrives afterwards");

        proxy.set(Some(Harm::Silent));
        assert_eq!(asked(&mut kept, 5).await, None);
        let mut new = connect().await;
        assert_eq!(asked(&mut new, 6).await, None);
        proxy.set(None);
        assert_eq!(asked(&mut kept, 7).await, None, "it stays dead");
        assert_eq!(asked(&mut connect().await, 8).await, Some(9));

        let mut cut = connect().await;
        assert_eq!(asked(&mut cut, 10).await, Some(11));
        proxy.set(Some(Harm::Cut));
        assert!(cut.read_u8().await.is_err(), "it ends");
        assert!(connect().await.read_u8().await.is_err());
    }
}
