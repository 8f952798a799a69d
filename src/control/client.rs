//! How does a command ask the daemon?

use super::{Request, Response, Stream, connect};
use crate::places;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A daemon that can be reached.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<Stream>,
}

/// Why a question got no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens there.
    #[error(
        "no sessionip daemon answers at {}: {source}; start it with `sessionip run` or \
         `{}`, or name its configuration with --config",
        path.display(),
        places::START
    )]
    Unreachable {
        /// The control socket.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The connection broke.
    #[error("the daemon did not answer: {0}")]
    Broken(#[from] std::io::Error),
    /// The answer is not what this version expects.
    #[error("the daemon's answer was not understood ({0}): is it of another version?")]
    Foreign(#[from] serde_json::Error),
    /// The daemon says no, and why.
    #[error("{0}")]
    Refused(String),
}

impl Client {
    /// How long an answer may take.
    const PATIENCE: Duration = Duration::from_secs(15);

    /// Connects to the daemon whose control socket is `path`.
    ///
    /// # Errors
    /// [`AskError::Unreachable`].
    pub fn connect(path: &Path) -> Result<Self, AskError> {
        let unreachable = |source| AskError::Unreachable { path: path.to_owned(), source };
        let stream = connect(path, Self::PATIENCE).map_err(unreachable)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Asks and waits for the answer, of the shape that [`Request`] names.
    ///
    /// # Errors
    /// Any [`AskError`] but `Unreachable`.
    pub fn ask<T: serde::de::DeserializeOwned>(
        &mut self,
        request: &Request,
    ) -> Result<T, AskError> {
        let mut line = serde_json::to_string(request)?;
        line.push('\n');
        self.stream.get_mut().write_all(line.as_bytes())?;
        line.clear();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(AskError::Broken(std::io::ErrorKind::UnexpectedEof.into()));
        }
        match serde_json::from_str(&line)? {
            Response::Ok(value) => Ok(serde_json::from_value(value)?),
            Response::Error(sentence) => Err(AskError::Refused(sentence)),
        }
    }
}
