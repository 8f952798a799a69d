//! What do administrators see of it? Logs and numbers; nothing here decides.

pub mod log;
pub mod metrics;
mod serve;

pub use serve::serve;
