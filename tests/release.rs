//! What is released, on a machine that has never seen it.
#![expect(clippy::print_stdout, reason = "what the script says")]

#[path = "support/packages.rs"]
mod packages;

use std::path::Path;
use std::process::Command;

use packages::packages;

/// The script has the steps, and says each.
#[test]
fn the_packages_install_and_run_on_a_clean_debian() {
    let lab = std::env::var_os("SQUALL_LAB").expect("SQUALL_LAB is not set: use tests/run");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/packages");
    let output = Command::new(script).arg(packages()).arg(lab).output().expect("tests/packages starts");
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
}
