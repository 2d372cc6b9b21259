//! Live data.

pub mod series;
