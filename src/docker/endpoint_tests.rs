//! What an address is taken for.
#![expect(clippy::unwrap_used, reason = "a test panics on a surprise")]

use super::*;

fn check(host: &str, expected: &str) {
    assert_eq!(Endpoint::parse(host).unwrap().to_string(), expected, "{host}");
}

#[test]
fn addresses_are_read_as_docker_reads_them() {
    check("unix:///run/x.sock", "unix:///run/x.sock");
    check("unix://", "unix:///var/run/docker.sock");
    check("tcp://h", "tcp://h:2375");
    check("tcp://:4000", "tcp://localhost:4000");
    check("h:2376", "tcp://h:2376");
    check("tcp://[::1]", "tcp://[::1]:2375");
    check("tcp://[fe80::1]:99/base/", "tcp://[fe80::1]:99/base");
    check("http://proxy/docker", "tcp://proxy:80/docker");
    check("https://h", "tcp://h:443");
    check("ssh://me@h:22", "ssh://me@h:22");
    check("ssh://h/run/user/1000/docker.sock", "ssh://h/run/user/1000/docker.sock");
    check("ssh://[::1]:2222", "ssh://[::1]:2222");
}

#[test]
fn addresses_that_cannot_work_are_refused_with_a_reason() {
    let why = |host: &str| match Endpoint::parse(host) {
        Err(EndpointError::Address { why, .. }) => why,
        other => panic!("{host}: {other:?}"),
    };
    assert!(why("npipe:////./pipe/docker_engine").contains("Windows"));
    assert!(why("fd://").contains("dockerd"));
    assert!(why("/var/run/docker.sock").contains("unix://"));
    assert!(why("tcp://::1:80").contains("brackets"));
    assert!(why("tcp://h:0").contains("port"));
    assert!(why("tcp://h:99999").contains("port"));
    assert!(why("tcp://a b").contains("host"));
    assert!(why("ssh://-oProxyCommand").contains("ssh"));
    assert!(why("ssh://-x@h").contains("ssh"));
    assert!(why("ssh://h/$(reboot)").contains("socket path"));
    assert!(why("ssh://me:pw@h").contains("password"));
    assert!(why("gopher://h").contains("unix://"));
}

#[test]
fn a_password_is_never_shown() {
    let endpoint = Endpoint::parse("tcp://me:hunter2@h:1").unwrap();
    assert!(!format!("{endpoint} {endpoint:?}").contains("hunter2"));
    for bad in ["ssh://me:hunter2@h", "tcp://me:hunter2@h:99999", "me:hunter2@h:x"] {
        let error = Endpoint::parse(bad).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
}
