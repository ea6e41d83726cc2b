//! squall
pub mod cli;
pub mod config;
pub mod daemon;
pub mod detect;
pub mod docker;
pub mod ingest;
pub mod model;
