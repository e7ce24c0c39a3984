//! What each sub-command does. Reading the command line and building the program stay outside.

pub mod replay;
