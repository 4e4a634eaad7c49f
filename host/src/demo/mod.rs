//! What the demo is made of: a broker, a directory with rules, a simulated plant, a view and a summary.

pub mod broker;
pub mod house;
pub mod plant;
pub mod screen;
pub mod summary;
