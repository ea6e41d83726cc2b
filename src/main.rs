//! The command line of [`squall`].

use std::process::ExitCode;

fn main() -> ExitCode {
    squall::cli::run().into()
}
