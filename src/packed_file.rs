//! Files that may be compressed with gzip.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

const GZIP: [u8; 2] = [0x1f, 0x8b];

/// What is in the file, unpacked while it is read.
///
/// # Errors
/// Where the file cannot be opened or read.
pub fn open(file: &Path) -> io::Result<Box<dyn Read>> {
    unpacked(BufReader::new(File::open(file)?))
}

/// The whole of it.
///
/// # Errors
/// As [`open`], and where its compression is broken.
pub fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(file)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// # Errors
/// Where nothing can be read.
pub fn unpacked(mut bytes: impl BufRead + 'static) -> io::Result<Box<dyn Read>> {
    // By what it holds and not by its name: downloads lose their endings.
    let is_packed = bytes.fill_buf()?.starts_with(&GZIP);
    Ok(if is_packed { Box::new(MultiGzDecoder::new(bytes)) } else { Box::new(bytes) })
}
