//! The Tokio driver.
