//! A plan and its callback, on their way through the writer.

use crate::error::SubmitError;
use crate::snapshot::Snapshot;
use crate::value::{Committed, Op, Plan};
use crate::writer::Job;

pub(crate) struct Submission<P, D, R, E> {
    plan: Option<P>,
    done: D,
    answer: Option<Result<R, E>>,
}

impl<P, D, R, E> Submission<P, D, R, E> {
    pub(crate) fn new(plan: P, done: D) -> Self {
        Self {
            plan: Some(plan),
            done,
            answer: None,
        }
    }
}

impl<V, P, D, R, E> Job<V> for Submission<P, D, R, E>
where
    P: FnOnce(&Snapshot<V>, u64) -> Result<Plan<V, R>, E> + Send,
    D: FnOnce(Result<Committed<R>, SubmitError<E>>) + Send,
    R: Send,
    E: Send,
{
    fn plan(&mut self, state: &Snapshot<V>, revision: u64) -> Vec<Op<V>> {
        let plan = self.plan.take().expect("a plan runs once");
        let (ops, answer) = match plan(state, revision) {
            Ok(Plan { ops, answer }) => (ops, Ok(answer)),
            Err(refusal) => (Vec::new(), Err(refusal)),
        };
        self.answer = Some(answer);
        ops
    }

    fn finish(self: Box<Self>, outcome: Result<u64, String>) {
        (self.done)(match (outcome, self.answer) {
            (Err(reason), _) => Err(SubmitError::Unavailable(reason)),
            (Ok(_), None) => Err(SubmitError::Unavailable("the plan did not run".to_owned())),
            (Ok(_), Some(Err(refusal))) => Err(SubmitError::Refused(refusal)),
            (Ok(revision), Some(Ok(answer))) => Ok(Committed { revision, answer }),
        });
    }
}
