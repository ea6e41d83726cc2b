//! squall
pub mod detect;
pub mod ingest;
pub mod model;
