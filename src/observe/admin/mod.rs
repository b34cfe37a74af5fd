//! The admin endpoint: metrics, health, and a page for people.
