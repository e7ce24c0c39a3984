//! Reads the command line, runs the command, and says how it ended.

use std::process::ExitCode;

use clap::Parser;
use loms::commands::{self, CommandLine};
use loms::config;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("loms: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<bool> {
    // First, so that `--help` is given whatever the files hold.
    let command_line = CommandLine::parse();
    config::read_dot_env()?;
    actix_rt::System::new().block_on(commands::run(command_line))
}
