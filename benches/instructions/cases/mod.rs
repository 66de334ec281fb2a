//! What is counted.

mod log;
mod message;
mod queue;
mod route;
mod smtp;

use std::hint::black_box;

use super::{RUNS, WARM_UP};

/// One operation to count.
pub(super) struct Case {
    pub(super) name: &'static str,
    /// Makes the operation ready to run; only running it is counted.
    pub(super) prepare: fn() -> Box<dyn FnMut()>,
}

/// All of them, in the order they run in.
pub(super) fn all() -> Vec<Case> {
    [smtp::cases(), message::cases(), queue::cases(), route::cases(), log::cases()]
        .into_iter()
        .flatten()
        .collect()
}

fn case(name: &'static str, prepare: fn() -> Box<dyn FnMut()>) -> Case {
    Case { name, prepare }
}

/// An operation on the same input each time.
fn on<I: 'static, R>(input: I, mut operation: impl FnMut(&I) -> R + 'static) -> Box<dyn FnMut()> {
    Box::new(move || {
        black_box(operation(black_box(&input)));
    })
}

/// An operation that uses its input up: a fresh one for each run is made beforehand.
fn on_fresh<I: 'static, R>(
    input: impl Fn() -> I,
    mut operation: impl FnMut(&mut I) -> R + 'static,
) -> Box<dyn FnMut()> {
    let mut inputs: Vec<I> = (0..WARM_UP + RUNS).map(|_| input()).collect();
    let mut next = 0;
    Box::new(move || {
        let input = inputs.get_mut(next).expect("an input for each run");
        next += 1;
        black_box(operation(black_box(input)));
    })
}
