//! The C client with TLS: who must be believed, and that nothing is said to anybody else.

use std::path::Path;
use std::sync::Arc;

use async_nats::jetstream;
use fleet_worker::local::NatsServer;

use super::split::proxy;
use super::{create_stream, misused, programs, publishes, refused, stored, try_one};
use crate::ca::Ca;

impl Ca {
    /// A server with TLS and a certificate for these names, with a stream of speeds, which the first name
    /// reaches. More options go into the server's `tls`.
    async fn server(&self, names: &[&str], more: &str) -> (NatsServer, jetstream::Context) {
        let (cert, key) = self.certify(names, self.folder());
        let server = NatsServer::builder()
            .config("authorization { user: car, password: s3cret, timeout: 60 }")
            .config(&format!("tls {{ cert_file: {cert:?}, key_file: {key:?}, timeout: 60, {more} }}"));
        let server = server.start().await.unwrap();
        let js = self.log_in(&format!("{}:{}", names[0], server.port())).await;
        create_stream(&js).await;
        (server, js)
    }

    async fn log_in(&self, address: &str) -> jetstream::Context {
        let options = async_nats::ConnectOptions::with_user_and_password("car".into(), "s3cret".into());
        let options = options.add_root_certificates(self.file()).require_tls(true);
        jetstream::new(options.connect(format!("tls://{address}")).await.unwrap())
    }
}

fn url(host: &str, port: u16) -> String {
    format!("tls://car:s3cret@{host}:{port}")
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_the_right_ca_gets_all_samples() {
    let (programs, ca) = (programs(&["sensor-tls"]).await, Ca::new("ours"));
    let (server, js) = ca.server(&["127.0.0.1"], "").await;
    let file = ca.file();
    publishes(&programs, "sensor-tls", &["--ca", text(&file)], &url("127.0.0.1", server.port()), &js).await;
    drop(server);
    // By its name, and with INFO, handshake and records in pieces.
    let (server, js) = ca.server(&["localhost"], "").await;
    let port = proxy(server.port(), Arc::default()).await;
    publishes(&programs, "sensor-tls", &["--ca", text(&file)], &url("localhost", port), &js).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_may_come_before_the_first_word() {
    let (programs, ca) = (programs(&["sensor-tls"]).await, Ca::new("ours"));
    // Half a second later the server would greet in plain, as our look whether it is there needs.
    let (server, js) = ca.server(&["127.0.0.1"], "handshake_first: 500ms").await;
    let file = ca.file();
    let options = ["--ca", text(&file), "--tls-first"];
    publishes(&programs, "sensor-tls", &options, &url("127.0.0.1", server.port()), &js).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_another_ca_or_name_gets_nothing() {
    let (programs, ca, other) = (programs(&["sensor-tls"]).await, Ca::new("ours"), Ca::new("another"));
    for (name, host, trusted, reason) in [
        ("127.0.0.1", "127.0.0.1", &other, "unable to get local issuer certificate"),
        ("localhost", "127.0.0.1", &ca, "IP address mismatch"),
        ("127.0.0.1", "localhost", &ca, "hostname mismatch"),
    ] {
        let (server, js) = ca.server(&[name], "").await;
        let file = trusted.file();
        let sensor = try_one(&programs, "sensor-tls", &["--ca", text(&file)], &url(host, server.port()));
        let said = refused(sensor, &format!("the certificate of {host} is refused: {reason}")).await;
        assert!(!said.contains("s3cret"), "{said}");
        assert!(stored(&js).await.is_empty(), "something was published to {name} by {host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tls_on_the_other_side_nothing_is_said() {
    let (programs, ca) = (programs(&["sensor", "sensor-tls"]).await, Ca::new("ours"));
    let (server, js) = super::server_with_stream().await;
    let (url, file) = (url("127.0.0.1", server.port()), ca.file());
    for first in [&[][..], &["--tls-first"]] {
        let options = [&["--ca", text(&file)], first].concat();
        let said =
            refused(try_one(&programs, "sensor-tls", &options, &url), "127.0.0.1 speaks no TLS on this port");
        said.await;
        assert!(stored(&js).await.is_empty());
    }
    // And the client without OpenSSL doesn't go on in plain.
    let said = misused(try_one(&programs, "sensor", &[], &url)).await;
    assert!(said.contains("tls:// needs sensor-tls"), "{said}");
    let missing = ["--ca", "/nowhere/ca.pem"];
    let said = misused(try_one(&programs, "sensor-tls", &missing, &url)).await;
    assert!(said.contains("the CAs can't be read"), "{said}");
}
