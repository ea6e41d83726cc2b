//! Images of the tests' own, each unlike any other, in the lab's real registry and not on its node.
#![expect(clippy::unwrap_used, reason = "a test panics on a surprise")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use crate::lab::{Lab, checked};

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// How long the registry may take for an answer.
const ANSWER: Duration = Duration::from_secs(20);

/// An image for one platform, of one layer, as `NAME:1`.
pub(crate) fn push(lab: &Lab, name: &str) {
    push_tag(lab, name, "1");
}

/// An image for linux/amd64 and linux/arm64, as `NAME:1`.
pub(crate) fn push_index(lab: &Lab, name: &str) {
    push_tag(lab, name, "amd64");
    let registry = Registry { lab, name };
    let manifest = registry.get("manifests/amd64");
    let amd64 = json!({"architecture": "amd64", "os": "linux"});
    let arm64 = json!({"architecture": "arm64", "os": "linux"});
    let mut entries = vec![entry(&manifest, &amd64)];

    // The same layer, with a configuration of its own.
    let mut manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let config = registry.get(&format!("blobs/{}", manifest["config"]["digest"].as_str().unwrap()));
    let mut config: Value = serde_json::from_slice(&config).unwrap();
    config["architecture"] = json!("arm64");
    let config = config.to_string().into_bytes();
    registry.put_blob(&config);
    manifest["config"]["digest"] = json!(digest_of(&config));
    manifest["config"]["size"] = json!(config.len());
    let manifest = manifest.to_string().into_bytes();
    registry.put("arm64", MANIFEST, &manifest);
    entries.push(entry(&manifest, &arm64));

    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
    registry.put("1", INDEX, index.to_string().as_bytes());
}

/// Removes every image of a repository, whatever its tag, from the node; no container may need it.
pub(crate) fn forget(lab: &Lab, repository: &str) {
    let format = "{{.Repository}} {{.Tag}} {{.Digest}}";
    let images = || lab.docker(&["images", "--digests", "--format", format, repository]);
    for line in images().lines() {
        let (name, rest) = line.split_once(' ').unwrap();
        // An image may have a tag, a digest or both, and goes with the last of them.
        match rest.split_once(' ').unwrap() {
            ("<none>", digest) => drop(lab.docker_says(&["rmi", &format!("{name}@{digest}")])),
            (tag, _) => drop(lab.docker_says(&["rmi", &format!("{name}:{tag}")])),
        }
    }
    assert_eq!(images().trim(), "", "the node has not got {repository}");
}

/// An image for one platform, of one layer.
pub(crate) fn push_tag(lab: &Lab, name: &str, tag: &str) {
    let dir = tempfile::tempdir().unwrap();
    let unique = dir.path().join("unique");
    let tar = dir.path().join("image.tar");
    let nonce = format!("{name} {:?} {}\n", std::time::SystemTime::now(), std::process::id());
    fs::write(&unique, nonce).unwrap();
    let rootfs = lab.dir().join("rootfs");
    let mut pack = Command::new("tar");
    pack.arg("-cf").arg(&tar).arg("-C").arg(rootfs).arg(".").arg("-C").arg(dir.path()).arg("unique");
    checked(pack.output().unwrap(), "tar");
    let image = format!("{}/{name}:{tag}", lab.var("REGISTRY"));
    lab.docker(&["import", tar.to_str().unwrap(), &image]);
    lab.docker(&["push", "--quiet", &image]);
    lab.docker(&["rmi", &image]);
}

fn entry(manifest: &[u8], platform: &Value) -> Value {
    json!({"mediaType": MANIFEST, "digest": digest_of(manifest), "size": manifest.len(), "platform": platform})
}

fn digest_of(bytes: &[u8]) -> String {
    let sum = digest(&SHA256, bytes);
    let hex: String = sum.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// A repository of the lab's real registry.
struct Registry<'a> {
    lab: &'a Lab,
    name: &'a str,
}

impl Registry<'_> {
    fn get(&self, path: &str) -> Vec<u8> {
        let path = format!("/v2/{}/{path}", self.name);
        self.ask("GET", &path, &[("Accept", MANIFEST)], b"").body
    }

    fn put(&self, tag: &str, kind: &str, manifest: &[u8]) {
        let path = format!("/v2/{}/manifests/{tag}", self.name);
        self.ask("PUT", &path, &[("Content-Type", kind)], manifest);
    }

    fn put_blob(&self, blob: &[u8]) {
        let upload = self.ask("POST", &format!("/v2/{}/blobs/uploads/", self.name), &[], b"");
        let place = upload.header("location").expect("an upload has a place");
        let mark = if place.contains('?') { '&' } else { '?' };
        let path = format!("{place}{mark}digest={}", digest_of(blob));
        self.ask("PUT", &path, &[("Content-Type", "application/octet-stream")], blob);
    }

    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let answer = ask(self.lab.var("REGISTRY"), method, path, headers, body);
        assert!((200..300).contains(&answer.status), "{method} {path}: {} {}", answer.status, answer.text());
        answer
    }
}

/// What a server answers to one request.
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The value of a header, whose name is given in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let pairs = self.head.lines().filter_map(|line| line.split_once(": "));
        pairs.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Asks `HOST:PORT` once. HTTP/1.0, so that the answer ends with its connection.
pub(crate) fn ask(address: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(ANSWER)).unwrap();
    let mut head = format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut whole = Vec::new();
    stream.read_to_end(&mut whole).unwrap();
    let end = whole.windows(4).position(|four| four == b"\r\n\r\n").expect("an answer has a head") + 4;
    let head = String::from_utf8_lossy(&whole[..end]).into_owned();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: whole.split_off(end) }
}
