//! TLS to a PostgreSQL with a certificate of an authority that only the test knows.

use fleet_core::{ErrorKind, Schema};
use fleet_sinks::timescale::{ConnectOptions, Connector, Edition, SetupOptions, setup};

use crate::ca::Ca;
use crate::server::Server;

#[tokio::test]
async fn what_is_encrypted_is_verified() {
    let ca = Ca::new("test-ca");
    let (certificate, key) = ca.certify(&["localhost"], ca.folder());
    let read = |file| std::fs::read(file).unwrap();
    let server = Server::with_tls(read(certificate), read(key)).await;

    let connect = async |host: &str, sslmode: &str, trusted: bool| {
        let url = server.url().replace("127.0.0.1", host).replace("disable", sslmode);
        let ca_file = trusted.then(|| ca.file());
        let connector = Connector::new(&ConnectOptions { ca_file, ..ConnectOptions::new(url) })?;
        setup(&connector, &Schema::default(), &SetupOptions::default()).await
    };
    assert_eq!(connect("localhost", "verify-full", true).await.unwrap(), Edition::Plain);
    assert_eq!(connect("localhost", "require", true).await.unwrap(), Edition::Plain);
    let authority = "name the server's root certificate as ca_file";
    let name = "call the host in the database's URL as its certificate does";
    for (host, trusted, mend) in [("localhost", false, authority), ("127.0.0.1", true, name)] {
        let error = connect(host, "require", trusted).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
        assert!(error.to_string().contains(mend), "{error}");
    }
    // Without demanding TLS it is used where it can be verified, and else not.
    assert_eq!(connect("localhost", "prefer", true).await.unwrap(), Edition::Plain);
    assert_eq!(connect("localhost", "prefer", false).await.unwrap(), Edition::Plain);
}
