//! What does a file say, if it is one that ends?

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// Opens what is a file, and nothing else: a device need not end, and a pipe that
/// nobody writes cannot even be opened.
///
/// # Errors
/// It is not there, or no file, or not to be read.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    if !path.metadata()?.is_file() {
        let sentence = "it is a folder, a device or a pipe, not a file";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, sentence));
    }
    File::open(path)
}

/// All of a file that has at most `most` bytes.
///
/// # Errors
/// As [`open`], or it is longer.
pub(crate) fn whole(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        let sentence = format!("it is longer than {most} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, sentence));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_a_length() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(whole(&path, 5).unwrap(), b"12345");
        assert_eq!(whole(&path, 4).unwrap_err().to_string(), "it is longer than 4 bytes");
        assert!(whole(&folder.path().join("none"), 5).is_err());
        assert_eq!(whole(folder.path(), 5).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_never_ends_is_not_begun() {
        use nix::sys::stat::Mode;

        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        for path in [&pipe, Path::new("/dev/zero")] {
            let refused = whole(path, 5).unwrap_err().to_string();
            assert_eq!(refused, "it is a folder, a device or a pipe, not a file", "{path:?}");
        }
    }
}
