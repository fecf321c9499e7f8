//! `examples/nats` as it is shipped, on a real server: who may do what, and who may not.

mod check;
mod cluster;
mod forgery;
mod guarded;
mod job;
mod operator;
mod poisoned;
mod programs;
mod rotation;
mod vehicles;

pub(crate) use job::Job;
