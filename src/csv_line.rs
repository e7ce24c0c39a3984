//! In which line of a CSV file a row stands, as an editor counts.

/// Lines count from 1. The reader's position of a row is before the rest of the line end that came before it
/// (the second half of CR LF) and before empty lines.
#[must_use]
pub fn of(bytes: &[u8], position: Option<&csv::Position>) -> u64 {
    let Some(position) = position else { return 0 };
    let start = usize::try_from(position.byte()).unwrap_or(usize::MAX);
    let before = bytes.get(start..).unwrap_or_default().iter().take_while(|byte| matches!(byte, b'\r' | b'\n'));
    position.line() + before.map(|byte| u64::from(*byte == b'\n')).sum::<u64>()
}
