//! The engine, alone: on simulated programs, against brute force and known counts.

mod sim;

mod blocks;
mod bound;
mod counts;
mod divergence;
mod explore;
mod memory;
mod minimise;
mod order;
mod random;
mod sampling;
mod uninterrupted;
