//! `.env`, in this folder or one above. Its lines may hold secrets: of one that cannot be read, the number is told.

use std::io::{self, Read};
use std::path::Path;

use super::ConfigError;

const FILE: &str = ".env";

/// Puts what the file sets into the environment, where it is not set there.
///
/// # Errors
/// [`ConfigError::DotEnv`] or [`ConfigError::DotEnvLine`] where there is one that cannot be read.
pub fn read_dot_env() -> Result<(), ConfigError> {
    // Without a folder to work in there are no files either.
    let Ok(folder) = std::env::current_dir() else { return Ok(()) };
    let found = folder.ancestors().map(|folder| folder.join(FILE)).find(|path| path.is_file());
    found.map_or(Ok(()), |path| read(&path))
}

fn read(path: &Path) -> Result<(), ConfigError> {
    let failed = |source| ConfigError::DotEnv { file: path.to_owned(), source };
    let text = std::fs::read(path).map_err(failed)?;
    let mut lines = LineByLine { rest: &text, begun: 0, is_within: false };
    match dotenvy::from_read(&mut lines) {
        Err(dotenvy::Error::LineParse(bad, _)) => {
            // A quote that is not closed reaches over several.
            let line = lines.begun.saturating_sub(bad.lines().count().saturating_sub(1));
            Err(ConfigError::DotEnvLine { file: path.to_owned(), line })
        }
        Err(dotenvy::Error::Io(source)) => Err(failed(source)),
        // Of a variable that is asked for, which is not done here.
        _ => Ok(()),
    }
}

/// Gives not more than a line at a time, and counts them: the error does not say in which one it is.
struct LineByLine<'text> {
    rest: &'text [u8],
    begun: usize,
    is_within: bool,
}

impl Read for LineByLine<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let end = self.rest.iter().position(|byte| *byte == b'\n').map_or(self.rest.len(), |at| at + 1);
        let count = self.rest.take(end as u64).read(buffer)?;
        let (read, rest) = self.rest.split_at(count);
        self.begun += usize::from(!self.is_within && count > 0);
        self.is_within = !read.ends_with(b"\n");
        self.rest = rest;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bad_line(text: &str) -> Option<usize> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(FILE);
        std::fs::write(&path, text).expect("written");
        let error = read(&path).err()?;
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        match error {
            ConfigError::DotEnvLine { line, .. } => Some(line),
            error => panic!("{error}"),
        }
    }

    #[test]
    fn a_line_that_cannot_be_read_is_told_by_its_number() {
        assert_eq!(bad_line("# LOMS\n\nLOMS_TEST_A=1\n"), None);
        assert_eq!(bad_line("s3cret"), Some(1));
        assert_eq!(bad_line("\u{FEFF}s3cret\n"), Some(1));
        assert_eq!(bad_line("LOMS_TEST_A=1\r\n\r\ns3cret word\r\nLOMS_TEST_B=2\r\n"), Some(3));
        assert_eq!(bad_line("LOMS_TEST_s3cret=1\nLOMS_TEST_s3cret\n"), Some(2));
        assert_eq!(bad_line("LOMS_TEST_A=1\nLOMS_TEST_B=s3cret word\nLOMS_TEST_C=2"), Some(2));
        assert_eq!(bad_line(&format!("LOMS_TEST_A={}\nLOMS_TEST_B=s3cret word", "long".repeat(5_000))), Some(2));
        assert_eq!(bad_line("LOMS_TEST_A='one\ntwo'\nLOMS_TEST_B='s3cret\nLOMS_TEST_C=1\n"), Some(3));
    }
}
