//! How do log lines fit on a disk? In a file, and the file before it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

/// A file that was filled is put aside, over the one that was before.
const FULL: u64 = 4 << 20;

/// Lines, of which the last 4 to 8 MB are kept.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    length: u64,
    full: u64,
}

impl LogFile {
    /// Goes on with the file that is there.
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        let file = append(&path)?;
        let length = file.metadata()?.len();
        Ok(Self { path, file, length, full: FULL })
    }

    /// Begins anew. What was not put aside because somebody reads it is written on
    /// for as long again.
    fn turn_over(&mut self) {
        let mut aside = self.path.clone().into_os_string();
        aside.push(".1");
        let renamed = std::fs::rename(&self.path, aside);
        if let Ok(file) = renamed.and_then(|()| append(&self.path)) {
            self.file = file;
        }
        self.length = 0;
    }
}

impl Write for LogFile {
    /// Takes a line whole, as the log writes it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.length >= self.full {
            self.turn_over();
        }
        self.file.write_all(line)?;
        self.length += line.len() as u64;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn append(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_the_last_lines_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sessionip.log");
        let mut log = LogFile::open(path.clone()).unwrap();
        log.full = 100;
        for number in 0..50 {
            writeln!(log, "line {number:4}").unwrap();
        }
        drop(log);
        let mut names: Vec<_> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["sessionip.log", "sessionip.log.1"]);
        let mut kept = std::fs::read_to_string(folder.path().join("sessionip.log.1")).unwrap();
        kept += &std::fs::read_to_string(&path).unwrap();
        assert!(kept.len() <= 240, "{} bytes", kept.len());
        let lines: Vec<usize> =
            kept.lines().map(|line| line[5..].trim().parse().unwrap()).collect();
        let first = 50 - lines.len();
        assert_eq!(lines, (first..50).collect::<Vec<_>>());

        let mut log = LogFile::open(path.clone()).unwrap();
        writeln!(log, "more").unwrap();
        assert!(std::fs::read_to_string(&path).unwrap().ends_with("line   49\nmore\n"));
    }
}
