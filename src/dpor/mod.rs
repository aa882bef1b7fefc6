//! Optimal dynamic partial-order reduction.
