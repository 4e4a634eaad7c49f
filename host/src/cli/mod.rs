//! The commands, one file each.

pub mod check;
pub mod dead_letters;
pub mod demo;
pub mod load;
pub mod run;
