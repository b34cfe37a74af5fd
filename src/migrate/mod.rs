//! Work on what is stored, on MongoDB itself and while services go on.

pub mod database;
pub mod walk;
