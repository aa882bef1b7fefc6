//! Which executions can happen where threads switch only at certain points.
//!
//! Cut the events of each worker into blocks that nothing interrupts. An execution
//! is equivalent to one in which every block runs in one go exactly if the blocks,
//! ordered as their events are, form no cycle. It is the test for conflict
//! serialisability of transactions (Papadimitriou, *The serializability of
//! concurrent database updates*, JACM 1979).

use super::cost::Order;
use crate::trace::Trace;

/// Can the events be put into another order, without changing what they do, so that
/// no worker is left before an event of which `joined` says that it belongs to the
/// block of the worker's event before?
pub fn has_uninterrupted_order(trace: &Trace, joined: &[bool]) -> bool {
    let order = Order::of(trace);
    let mut block_of = vec![0; trace.len()];
    let mut blocks = 0;
    for steps in &order.steps {
        for (n, &step) in steps.iter().enumerate() {
            if n == 0 || !joined[step] {
                blocks += 1;
            }
            block_of[step] = blocks - 1;
        }
    }
    // Which blocks come right after a block, and how many right before.
    let mut after = vec![vec![]; blocks];
    let mut before = vec![0_usize; blocks];
    for (step, needed) in order.before.iter().enumerate() {
        for (steps, &count) in order.steps.iter().zip(needed) {
            let Some(&last) = count.checked_sub(1).and_then(|n| steps.get(n)) else { continue };
            let (from, to) = (block_of[last], block_of[step]);
            if from != to {
                after[from].push(to);
                before[to] += 1;
            }
        }
    }
    let mut free: Vec<usize> = (0..blocks).filter(|&block| before[block] == 0).collect();
    let mut done = 0;
    while let Some(block) = free.pop() {
        done += 1;
        for &next in &after[block] {
            before[next] -= 1;
            if before[next] == 0 {
                free.push(next);
            }
        }
    }
    done == blocks
}
