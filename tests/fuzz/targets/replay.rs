//! A recording as a whole: files that a byte 0x1c parts, each of an origin of its own, the last two of the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use squall_fuzz::judge;

const ORIGINS: [&str; 5] = ["swarm", "node1", "node2", "node3", "node1"];

fuzz_target!(|bytes: &[u8]| {
    let parts: Vec<&[u8]> = bytes.splitn(ORIGINS.len(), |byte| *byte == 0x1c).collect();
    let files: Vec<(&str, &[u8])> = ORIGINS.into_iter().zip(parts).collect();
    let judged = judge(&files);
    assert_eq!(judged.end.understood.len(), files.len());
});
