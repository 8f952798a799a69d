//! Why does the companion not work?

use sessionip_hook::section::Full;
use sessionip_hook::windows::shared::CreateError;
use std::path::PathBuf;

/// Why the companion could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// There is no DLL.
    #[error("the hook {path} is missing: it belongs beside sessionip.exe", path = path.display())]
    NoDll {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The DLL is another edition than this executable.
    #[error(
        "{path} is not the hook of this version: install both files of one release",
        path = path.display()
    )]
    OtherDll {
        /// Where it lies.
        path: PathBuf,
    },
    /// The section could not be made.
    #[error(transparent)]
    Section(#[from] CreateError),
    /// It could not be written.
    #[error(transparent)]
    Table(#[from] TableError),
}

/// What programs are told could not be changed; what held before holds on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// There is too much of something.
    #[error(transparent)]
    Full(#[from] Full),
    /// The section is smaller than what is to be in it.
    #[error("the hook's section is too small: another program made it")]
    Small,
}

/// Why a policy did not take effect.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct PolicyError(#[from] TableError);

/// Why the hook goes on in programs.
#[derive(Debug, thiserror::Error)]
#[error("programs could not be told to leave binds alone")]
pub struct UnloadError(#[from] TableError);
