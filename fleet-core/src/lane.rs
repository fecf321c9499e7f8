//! The runtime-free heart.
