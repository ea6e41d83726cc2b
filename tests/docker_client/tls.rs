//! TLS as dockerd speaks it: its own CA, client certificates, and what is said when one of them is wrong.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use squall::docker::{Client, Endpoint, Error, Surroundings};

use super::{limits, run};

/// A directory with a CA and the certificates that it signed: `server/`, `client/`, each with ca, cert and key.
struct Authority {
    dir: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let authority = Self { dir: tempfile::tempdir().unwrap() };
        let dir = authority.dir.path();
        openssl(
            dir,
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=ca -keyout ca.key -out ca.pem",
        );
        for (name, usage) in [("server", "serverAuth"), ("client", "clientAuth")] {
            std::fs::create_dir(dir.join(name)).unwrap();
            let extensions = format!("subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage={usage}\n");
            std::fs::write(dir.join("extensions"), extensions).unwrap();
            openssl(
                dir,
                &format!(
                    "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} -keyout {name}/key.pem -out request"
                ),
            );
            openssl(
                dir,
                &format!(
                    "x509 -req -in request -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out {name}/cert.pem"
                ),
            );
            std::fs::copy(dir.join("ca.pem"), dir.join(name).join("ca.pem")).unwrap();
        }
        authority
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A daemon on a port of its own that wants a certificate of this CA; it answers any request.
    fn serve(&self) -> u16 {
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.path("ca.pem")).unwrap()).unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
        let cert = CertificateDer::from_pem_file(self.path("server/cert.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(self.path("server/key.pem")).unwrap();
        let versions = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = versions.with_client_cert_verifier(verifier).with_single_cert(vec![cert], key).unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                // A handshake that fails is what some of the tests are about.
                let _ = answer(StreamOwned::new(connection, stream));
            }
        });
        port
    }
}

fn answer(mut stream: StreamOwned<ServerConnection, std::net::TcpStream>) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let body = r#"{"ApiVersion":"1.41","Name":"behind TLS"}"#;
    write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
    stream.conn.send_close_notify();
    stream.flush()
}

fn openssl(dir: &Path, arguments: &str) {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(dir).stdin(Stdio::null()).output();
    let output = output.expect("these tests need the openssl command");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn endpoint(host: &str, certs: Option<&Path>, verify: bool) -> Endpoint {
    let env = |name: &str| match name {
        "DOCKER_CERT_PATH" => certs.map(|path| path.display().to_string()),
        "DOCKER_TLS_VERIFY" if verify && certs.is_some() => Some("1".to_owned()),
        "DOCKER_TLS" if certs.is_some() => Some("1".to_owned()),
        _ => None,
    };
    Endpoint::resolve(&Surroundings::new(&env, Some(host.to_owned()), None)).unwrap()
}

fn name_at(endpoint: &Endpoint) -> Result<String, Error> {
    let client = Client::new(endpoint, limits())?;
    Ok(run(client.info())?.name)
}

#[test]
fn certificates_open_the_door_and_their_lack_is_explained() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let host = format!("tcp://127.0.0.1:{}", ours.serve());
    let with = |certs: &Path, verify: bool| name_at(&endpoint(&host, Some(certs), verify));
    let tls_error = |result: Result<String, Error>, words: &str| match result {
        Err(Error::Tls { detail, .. }) => assert!(detail.contains(words), "{detail}"),
        other => panic!("{other:?}"),
    };
    assert_eq!(with(&ours.path("client"), true).unwrap(), "behind TLS");
    tls_error(with(&theirs.path("client"), true), "not signed by the CA in ca.pem");
    // Unverified: the server's CA is of no interest, but the server still wants our certificate.
    let mixed = tempfile::tempdir().unwrap();
    for (name, from) in [("cert.pem", &ours), ("key.pem", &ours), ("ca.pem", &theirs)] {
        std::fs::copy(from.path("client").join(name), mixed.path().join(name)).unwrap();
    }
    assert_eq!(with(mixed.path(), false).unwrap(), "behind TLS");
    std::fs::remove_file(mixed.path().join("key.pem")).unwrap();
    tls_error(with(mixed.path(), false), "no key.pem beside it");
    std::fs::remove_file(mixed.path().join("cert.pem")).unwrap();
    tls_error(with(mixed.path(), false), "client certificate");
    std::fs::write(mixed.path().join("ca.pem"), "nonsense").unwrap();
    assert!(matches!(with(mixed.path(), true), Err(Error::Tls { .. })));
}

#[test]
fn tls_to_a_port_without_it_is_said() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let authority = Authority::new();
    let client = authority.path("client");
    let error = name_at(&endpoint(&format!("tcp://127.0.0.1:{port}"), Some(&client), true)).unwrap_err();
    assert!(matches!(&error, Error::Tls { detail, .. } if detail.contains("does not speak TLS")), "{error}");
}
