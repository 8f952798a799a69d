//! What can be typed?

pub mod check_config;
