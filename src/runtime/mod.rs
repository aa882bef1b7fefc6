//! Running workers: one execution at a time, strictly by plan.

pub mod blocks;
pub mod buffers;
pub mod carrier;
pub mod channels;
pub mod execution;
pub mod exploration;
pub mod files;
pub mod label;
pub mod locations;
pub mod locks;
pub mod queues;
pub mod recorder;
pub mod resources;
pub mod script;
pub mod session;
pub mod stats;
pub mod tasks;
pub mod threads;
pub mod time;
