//! A real server's bytes, a few at a time: no line reaches the client in one read.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{programs, publishes, server_with_stream, server_with_stream_and, with_password};

/// Goes between a client and the server of that port. What the server says is passed on in pieces of 1 to 7
/// bytes, with time for the client to read each alone; `inside` counts those that end inside a line.
pub(super) async fn proxy(port: u16, inside: Arc<AtomicUsize>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            client.set_nodelay(true).unwrap();
            let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
            let inside = Arc::clone(&inside);
            tokio::spawn(async move {
                let (mut chunk, mut length) = ([0; 7], 0);
                loop {
                    length = length % 7 + 1;
                    let got = from_server.read(&mut chunk[..length]).await.unwrap_or(0);
                    if got == 0 || to_client.write_all(&chunk[..got]).await.is_err() {
                        return;
                    }
                    inside.fetch_add(usize::from(chunk[got - 1] != b'\n'), Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            });
        }
    });
    address.port()
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_that_come_in_pieces_are_put_together() {
    let programs = programs(&["sensor"]).await;
    let (server, js) = server_with_stream().await;
    let inside = Arc::new(AtomicUsize::new(0));
    let port = proxy(server.port(), Arc::clone(&inside)).await;
    let url = with_password(port);
    publishes(&programs, "sensor", &[], &url, &js).await;
    // 50 acknowledgements and an INFO, of more than ten pieces each.
    assert!(inside.load(Ordering::Relaxed) > 500, "{inside:?} pieces ended inside a line");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_greeting_of_more_than_4_kib_is_read() {
    let programs = programs(&["sensor"]).await;
    let name = "n".repeat(4096);
    let (server, js) = server_with_stream_and(&format!("server_name: {name}")).await;
    // What the client depends on comes behind the name.
    let mut info = vec![0; 8192];
    let mut link = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
    let mut length = 0;
    while !info[..length].ends_with(b"\r\n") {
        length += link.read(&mut info[length..]).await.unwrap();
    }
    let info = String::from_utf8_lossy(&info[..length]).into_owned();
    assert!(info.find(&name) < info.find("\"headers\":true"), "{info}");
    publishes(&programs, "sensor", &[], &with_password(server.port()), &js).await;
}
