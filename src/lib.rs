//! squall
pub mod cli;
pub mod config;
pub mod detect;
pub mod docker;
pub mod ingest;
pub mod model;
