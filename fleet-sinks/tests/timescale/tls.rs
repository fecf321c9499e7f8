//! TLS to a PostgreSQL with a certificate of an authority that only the test knows.

use std::path::Path;
use std::process::Command;

use fleet_core::{ErrorKind, Schema};
use fleet_sinks::timescale::{ConnectOptions, Connector, Edition, SetupOptions, setup};

use crate::server::Server;

fn openssl(dir: &Path, arguments: &str) {
    let mut command = Command::new("openssl");
    let done = command.current_dir(dir).args(arguments.split(' ')).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[tokio::test]
async fn what_is_encrypted_is_verified() {
    let dir = tempfile::tempdir().unwrap();
    let new_key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(dir.path(), &format!("req -x509 {new_key} -keyout ca.key -out ca.crt -subj /CN=test-ca -days 9"));
    openssl(dir.path(), &format!("req {new_key} -keyout server.key -out server.csr -subj /CN=localhost"));
    std::fs::write(dir.path().join("names"), "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n")
        .unwrap();
    openssl(
        dir.path(),
        "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 9 -extfile names -out server.crt",
    );
    let read = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
    let server = Server::with_tls(read("server.crt"), read("server.key")).await;

    let connect = async |host: &str, sslmode: &str, trusted: bool| {
        let url = server.url().replace("127.0.0.1", host).replace("disable", sslmode);
        let ca_file = trusted.then(|| dir.path().join("ca.crt"));
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
