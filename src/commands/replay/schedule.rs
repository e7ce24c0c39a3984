//! Who plays which step next: many workers, each user's own steps in the file's order.
//!
//! Steps are handed out in the file's order. A step whose user is at work waits for that user,
//! and the worker that ends the user's step goes on with it. With one worker nobody is ever at
//! work when a step is handed out: the file's order it is.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::plan::Step;
use super::recording::UserIndex;

pub struct Schedule {
    state: Mutex<State>,
}

struct State {
    steps: Vec<Step>,
    next: usize,
    users: Vec<User>,
}

#[derive(Clone, Default)]
struct User {
    at_work: bool,
    waiting: VecDeque<Step>,
}

impl Schedule {
    /// `users` is how many users the steps speak of.
    #[must_use]
    pub fn of(steps: Vec<Step>, users: usize) -> Self {
        Self { state: Mutex::new(State { steps, next: 0, users: vec![User::default(); users] }) }
    }

    /// A step of a user who is not at work. `None` once all are handed out: what still waits
    /// belongs to the workers of its users.
    pub fn next(&self) -> Option<Step> {
        let mut state = self.state();
        while let Some(&step) = state.steps.get(state.next) {
            state.next += 1;
            let user = state.user(step.user);
            if user.at_work {
                user.waiting.push_back(step);
            } else {
                user.at_work = true;
                return Some(step);
            }
        }
        None
    }

    /// The user's step has been played; the user's next one, where it had to wait.
    pub fn ended(&self, user: UserIndex) -> Option<Step> {
        let mut state = self.state();
        let user = state.user(user);
        let waiting = user.waiting.pop_front();
        user.at_work = waiting.is_some();
        waiting
    }

    /// A worker that panicked left no step half handed out: nothing in here can panic between
    /// two changes.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn user(&mut self, UserIndex(index): UserIndex) -> &mut User {
        &mut self.users[index as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::replay::plan::Deed;

    fn steps(users: &[u32]) -> Vec<Step> {
        let step = |(order, &user)| Step { user: UserIndex(user), deed: Deed::Cancel { order } };
        users.iter().enumerate().map(step).collect()
    }

    fn place(step: Option<Step>) -> Option<usize> {
        step.map(|step| match step.deed {
            Deed::Order { order, .. } | Deed::Cancel { order } => order,
        })
    }

    #[test]
    fn one_worker_gets_all_steps_in_the_files_order() {
        let schedule = Schedule::of(steps(&[0, 1, 0, 0, 2, 1]), 3);
        let mut played = Vec::new();
        while let Some(step) = schedule.next() {
            played.extend(place(Some(step)));
            assert_eq!(schedule.ended(step.user), None);
        }
        assert_eq!(played, [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_users_next_step_waits_for_the_one_at_work_while_others_go_on() {
        let schedule = Schedule::of(steps(&[0, 0, 1, 0]), 2);
        assert_eq!(place(schedule.next()), Some(0));
        assert_eq!(place(schedule.next()), Some(2), "the second step of user 0 waits");
        assert_eq!(place(schedule.next()), None, "and so does the third");
        assert_eq!(place(schedule.ended(UserIndex(1))), None);
        assert_eq!(place(schedule.ended(UserIndex(0))), Some(1));
        assert_eq!(place(schedule.ended(UserIndex(0))), Some(3));
        assert_eq!(place(schedule.ended(UserIndex(0))), None);
    }
}
