//! The program: it will read the command line and run what it names.

fn main() {}
