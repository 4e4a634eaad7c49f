//! The commands, one file each.

pub mod alerts;
pub mod api;
pub mod audit;
pub mod backtest;
pub mod check;
pub mod child;
pub mod dead_letters;
pub mod demo;
pub mod desired;
pub mod ending;
pub mod load;
pub mod migrate;
pub mod modules;
pub mod papers;
pub mod place;
pub mod replay;
pub mod rule;
pub mod rules;
pub mod run;
pub mod series;
pub mod spool;
pub mod status;
pub mod tail;
pub mod time;
pub mod token;
pub mod trace;
