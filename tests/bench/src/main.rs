//! What Tidegate costs, against the least that it could cost.
fn main() {}
