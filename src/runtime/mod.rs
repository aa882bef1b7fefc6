//! Running workers: one execution at a time, strictly by plan.

pub mod carrier;
pub mod execution;
pub mod exploration;
pub mod label;
pub mod locations;
pub mod locks;
pub mod queues;
pub mod recorder;
pub mod script;
pub mod session;
pub mod stats;
pub mod threads;
pub mod time;
