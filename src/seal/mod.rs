//! Sealed values and tokens: pure functions, no I/O.
