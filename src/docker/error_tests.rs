//! What a failure is taken for.
#![expect(clippy::unwrap_used, reason = "a test panics on a surprise")]

use super::*;

fn endpoint(host: &str) -> Endpoint {
    Endpoint::parse(host).unwrap()
}

fn status(status: u16, body: &str) -> Error {
    let asked = ApiVersion::parse("1.41");
    Error::from_status(&endpoint("unix:///x.sock"), "GET /tasks", asked, status, body.as_bytes())
}

#[test]
fn a_worker_is_told_from_a_node_outside_any_swarm() {
    let worker = r#"{"message":"This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state. Please run this command on a manager node or promote the current node to a manager."}"#;
    let outside = r#"{"message":"This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again."}"#;
    let locked = r#"{"message":"Swarm is encrypted and needs to be unlocked before it can be used. Please use \"docker swarm unlock\" to unlock it."}"#;
    let preparing = r#"{"message":"This node is not a swarm manager. Manager is being prepared or has trouble connecting to the cluster."}"#;
    let why = |body| match status(503, body) {
        Error::NotManager { why, .. } => why,
        other => panic!("{other}"),
    };
    assert_eq!(why(worker), NotManager::Worker);
    assert_eq!(why(outside), NotManager::NoSwarm);
    assert_eq!(why(locked), NotManager::Locked);
    assert_eq!(why(preparing), NotManager::Preparing);
    assert!(!status(503, worker).is_transient());
    assert!(status(503, preparing).is_transient());
}

#[test]
fn a_lost_quorum_is_said() {
    let body = r#"{"message":"rpc error: code = Unknown desc = The swarm does not have a leader. It's possible that too few managers are online. Make sure more than half of the managers are online."}"#;
    assert!(matches!(status(500, body), Error::NoLeader { .. }));
    assert!(status(500, body).is_transient());
}

#[test]
fn a_refused_version_is_said() {
    let body = r#"{"message":"client version 1.41 is too old. Minimum supported API version is 1.44, please upgrade your client to a newer version"}"#;
    let error = status(400, body);
    assert!(matches!(error, Error::VersionRefused { .. }));
    assert!(error.to_string().contains("1.44"), "{error}");
}

#[test]
fn a_message_is_one_short_line_whatever_its_form() {
    let message = |body: &str| match status(500, body) {
        Error::Status { message, .. } => message,
        other => panic!("{other}"),
    };
    assert_eq!(message(r#"{"message":"a\nb"}"#), "a b");
    assert_eq!(message("<html>bad\n gateway</html>"), "<html>bad gateway</html>");
    assert_eq!(message(""), "no message");
    assert_eq!(message(&"é".repeat(600)).chars().count(), 503);
}

#[test]
fn io_errors_become_what_the_operator_can_mend() {
    let of =
        |host: &str, kind: io::ErrorKind| Error::from_transport(&endpoint(host), "GET /info", &io::Error::from(kind));
    let unix = "unix:///run/x.sock";
    assert!(matches!(of(unix, io::ErrorKind::NotFound), Error::NoSocket { .. }));
    let denied = of(unix, io::ErrorKind::PermissionDenied);
    assert!(!denied.is_transient());
    assert_eq!(
        denied.to_string(),
        "no permission to open Docker's socket /run/x.sock: run as root or as a member of the docker group"
    );
    assert!(matches!(of("tcp://h", io::ErrorKind::ConnectionRefused), Error::Refused { .. }));
    assert!(matches!(of("tcp://h", io::ErrorKind::NetworkUnreachable), Error::Connect { .. }));
    assert!(matches!(of(unix, io::ErrorKind::ConnectionReset), Error::Lost { .. }));
    let tls = io::Error::new(io::ErrorKind::InvalidData, rustls::Error::DecryptError);
    assert!(matches!(Error::from_transport(&endpoint("tcp://h"), "GET /info", &tls), Error::Tls { .. }));
}
