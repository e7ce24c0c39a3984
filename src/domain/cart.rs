//! A user's cart: which SKUs, how many of each. Knows nothing of prices or stock.
//!
//! `decide` turns a command into an edit (or into nothing, where nothing would change), `apply`
//! carries it out. Every edit raises the version by one.

use super::{Count, LINES_MAX, Sku};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cart {
    /// How many edits it has seen; 0 for a cart that was never used.
    pub version: i64,
    /// One line per SKU, in SKU order.
    lines: Vec<Line>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub sku: Sku,
    pub count: Count,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// More units of a SKU, on top of what is there.
    Add { sku: Sku, count: Count },
    /// Exactly so many units of a SKU.
    Set { sku: Sku, count: Count },
    /// So many units less; the whole line where no count is given or no unit would stay.
    Remove { sku: Sku, count: Option<Count> },
    /// No lines at all.
    Empty,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// The line of this SKU has this count from now on.
    LineSet(Line),
    LineRemoved(Sku),
    Emptied,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error("a cart has at most {LINES_MAX} lines")]
    TooManyLines,
    #[error("a line has at most {max} units", max = Count::MAX)]
    CountTooLarge,
}

impl Cart {
    #[must_use]
    pub fn new(version: i64, mut lines: Vec<Line>) -> Self {
        lines.sort_unstable_by(|one, other| one.sku.cmp(&other.sku));
        Self { version, lines }
    }

    #[must_use]
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// What the command changes; `None` where the cart already is as the command wants it.
    ///
    /// # Errors
    /// A [`Rejection`] where the cart would leave its limits.
    pub fn decide(&self, command: Command) -> Result<Option<Edit>, Rejection> {
        match command {
            Command::Add { sku, count } => {
                let count = match self.count_of(&sku) {
                    Some(held) => held.checked_add(count).map_err(|_| Rejection::CountTooLarge)?,
                    None => count,
                };
                self.decide_set(sku, count)
            }
            Command::Set { sku, count } => self.decide_set(sku, count),
            Command::Remove { sku, count } => Ok(self.decide_remove(sku, count)),
            Command::Empty => Ok((!self.lines.is_empty()).then_some(Edit::Emptied)),
        }
    }

    pub fn apply(&mut self, edit: Edit) {
        match edit {
            Edit::LineSet(line) => match self.position_of(&line.sku) {
                Ok(at) => self.lines[at] = line,
                Err(at) => self.lines.insert(at, line),
            },
            Edit::LineRemoved(sku) => self.lines.retain(|line| line.sku != sku),
            Edit::Emptied => self.lines.clear(),
        }
        self.version += 1;
    }

    fn decide_set(&self, sku: Sku, count: Count) -> Result<Option<Edit>, Rejection> {
        let held = self.count_of(&sku);
        if held.is_none() && self.lines.len() >= LINES_MAX {
            return Err(Rejection::TooManyLines);
        }
        Ok((held != Some(count)).then_some(Edit::LineSet(Line { sku, count })))
    }

    fn decide_remove(&self, sku: Sku, count: Option<Count>) -> Option<Edit> {
        let held = self.count_of(&sku)?;
        let left = count.and_then(|count| Count::new(held.units() - count.units()).ok());
        Some(match left {
            Some(count) => Edit::LineSet(Line { sku, count }),
            None => Edit::LineRemoved(sku),
        })
    }

    fn count_of(&self, sku: &Sku) -> Option<Count> {
        self.position_of(sku).ok().map(|at| self.lines[at].count)
    }

    fn position_of(&self, sku: &Sku) -> Result<usize, usize> {
        self.lines.binary_search_by(|line| line.sku.cmp(sku))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sku(text: &str) -> Sku {
        Sku::parse(text).expect("a valid SKU")
    }

    fn count(units: i64) -> Count {
        Count::new(units).expect("a valid count")
    }

    fn run(cart: &mut Cart, command: Command) -> bool {
        let edit = cart.decide(command).expect("within limits");
        let changed = edit.is_some();
        edit.into_iter().for_each(|edit| cart.apply(edit));
        changed
    }

    #[test]
    fn counts_of_the_same_sku_add_up_and_case_is_kept_apart() {
        let mut cart = Cart::default();
        run(&mut cart, Command::Add { sku: sku("85123a"), count: count(1) });
        run(&mut cart, Command::Add { sku: sku("85123A"), count: count(2) });
        run(&mut cart, Command::Add { sku: sku("85123A"), count: count(3) });
        let lines: Vec<_> = cart.lines().iter().map(|line| (line.sku.as_str(), line.count.units())).collect();
        assert_eq!(lines, [("85123A", 5), ("85123a", 1)]);
        assert_eq!(cart.version, 3);
    }

    #[test]
    fn a_line_goes_when_no_unit_stays() {
        let mut cart = Cart::default();
        run(&mut cart, Command::Set { sku: sku("A"), count: count(5) });
        run(&mut cart, Command::Remove { sku: sku("A"), count: Some(count(2)) });
        assert_eq!(cart.lines()[0].count, count(3));
        run(&mut cart, Command::Remove { sku: sku("A"), count: Some(count(3)) });
        assert!(cart.lines().is_empty());
    }

    #[test]
    fn what_changes_nothing_makes_no_version() {
        let mut cart = Cart::default();
        assert!(!run(&mut cart, Command::Empty));
        assert!(!run(&mut cart, Command::Remove { sku: sku("A"), count: None }));
        assert!(run(&mut cart, Command::Set { sku: sku("A"), count: count(5) }));
        assert!(!run(&mut cart, Command::Set { sku: sku("A"), count: count(5) }));
        assert_eq!(cart.version, 1);
    }

    #[test]
    fn the_limits_hold() {
        let lines = (0..LINES_MAX).map(|n| Line { sku: sku(&format!("S{n}")), count: count(1) }).collect();
        let cart = Cart::new(1, lines);
        let another = Command::Add { sku: sku("another"), count: count(1) };
        assert_eq!(cart.decide(another), Err(Rejection::TooManyLines));
        let million_more = Command::Add { sku: sku("S1"), count: count(1_000_000) };
        assert_eq!(cart.decide(million_more), Err(Rejection::CountTooLarge));
    }
}
