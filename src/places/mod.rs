//! Where is everything, unless the configuration says otherwise?
//!
//! A platform supplies [`config_file`], [`state_directory`], [`control`] and [`START`].

#[cfg(target_os = "linux")]
mod linux;
#[cfg(windows)]
mod windows;

#[cfg(target_os = "linux")]
pub use linux::{START, config_file, control, state_directory};
#[cfg(windows)]
pub use windows::{START, config_file, control, folder, log_file, state_directory};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_do_not_depend_on_where_one_stands() {
        assert!(config_file().is_absolute());
        assert!(std::path::Path::new(&state_directory()).is_absolute());
        assert!(config_file().ends_with("sessionip/sessionip.toml"));
    }
}
