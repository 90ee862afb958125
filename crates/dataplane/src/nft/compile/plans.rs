//! The plans of one table: their numbers, who uses them, and when they go.
//!
//! A plan is made when a frontend first needs it. One that no frontend names any more is kept for a while, because
//! what a Service was it often becomes again; beyond [`SPARE`] such plans the one that has been idle longest goes: its
//! number behind everything else of the update, its chain in a later one. Kernels before 6.2 count a chain as
//! used for a moment after the element that led to it is gone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use daymark_netlink::nft::{Data, Elements, Message, SetElem, Victim};

use super::draft::Draft;
use crate::nft::layout::{FrontendValue, Words, set};
use crate::nft::plan::Plan;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Plans {
    numbers: BTreeMap<Plan, u32>,
    users: BTreeMap<u32, Users>,
    /// Plans that lost their last user, the oldest first; some have one again.
    idle: VecDeque<u32>,
    /// Those whose chain is there and has no number.
    orphans: BTreeSet<Plan>,
    last: u32,
    spare: usize,
}

/// How often frontends name a plan.
#[derive(Clone, Debug)]
struct Users {
    plan: Plan,
    count: usize,
}

/// How many plans without a user are kept.
const SPARE: usize = 64;

impl Plans {
    /// None yet.
    pub(super) fn new() -> Self {
        Self {
            numbers: BTreeMap::new(),
            users: BTreeMap::new(),
            idle: VecDeque::new(),
            orphans: BTreeSet::new(),
            last: 0,
            spare: SPARE,
        }
    }

    pub(super) fn set_spare(&mut self, spare: usize) {
        self.spare = spare;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.numbers.is_empty() && self.orphans.is_empty()
    }

    /// A plan that was found in the kernel.
    pub(super) fn found(&mut self, plan: Plan, number: u32) {
        self.last = self.last.max(number);
        self.enter(plan, number);
        self.idle.push_back(number);
    }

    /// A chain that was found in the kernel; an orphan if no plan found so far is its.
    pub(super) fn found_chain(&mut self, chain: &str) {
        let plan = Plan::of_chain(chain).filter(|plan| !self.numbers.contains_key(plan));
        self.orphans.extend(plan);
    }

    /// The number of a chain, if it has one.
    pub(super) fn number_of(&self, chain: &str) -> Option<u32> {
        self.numbers.get(&Plan::of_chain(chain)?).copied()
    }

    /// The number of a plan, which is made if there is none.
    pub(super) fn number(&mut self, plan: &Plan, words: &Words, draft: &mut Draft) -> u32 {
        if let Some(number) = self.numbers.get(plan) {
            return *number;
        }
        self.last += 1;
        let number = self.last;
        if self.orphans.remove(plan) {
            draft.plans.push(plan.enter(words, number));
        } else {
            draft.plans.extend(plan.create(words, number));
        }
        self.enter(*plan, number);
        number
    }

    fn enter(&mut self, plan: Plan, number: u32) {
        self.numbers.insert(plan, number);
        self.users.insert(number, Users { plan, count: 0 });
    }

    /// A frontend names these plans from now on.
    pub(super) fn take(&mut self, value: &FrontendValue) {
        for number in [value.inside, value.outside] {
            if let Some(users) = self.users.get_mut(&number) {
                users.count += 1;
            }
        }
    }

    /// A frontend names these plans no more.
    pub(super) fn release(&mut self, value: &FrontendValue) {
        for number in [value.inside, value.outside] {
            let Some(users) = self.users.get_mut(&number) else {
                continue;
            };
            users.count = users.count.saturating_sub(1);
            if users.count == 0 {
                self.idle.push_back(number);
            }
        }
    }

    /// Lets those go that have been idle for longest, and the chains of those that went before.
    pub(super) fn retire(&mut self, words: &Words, draft: &mut Draft) {
        let table = words.table();
        for plan in std::mem::take(&mut self.orphans) {
            let chain = plan.chain();
            draft.retired.push(Message::DelRule {
                table: table.clone(),
                chain: chain.as_str().into(),
                which: Victim::All,
            });
            draft.retired.push(Message::DelChain {
                table: table.clone(),
                chain: chain.as_str().into(),
            });
        }
        if self.idle.len() <= self.spare {
            return;
        }
        let without = |users: &&Users| users.count == 0;
        let mut surplus = self.users.values().filter(without).count();
        while surplus > self.spare
            && let Some(number) = self.idle.pop_front()
        {
            if self.users.get(&number).is_none_or(|users| users.count > 0) {
                continue;
            }
            if let Some(users) = self.users.remove(&number) {
                surplus -= 1;
                self.numbers.remove(&users.plan);
                self.orphans.insert(users.plan);
                let elems = vec![SetElem::key(Data::host(number))];
                let elements = Elements {
                    set: set::PLANS.into(),
                    elems,
                };
                let table = table.clone();
                draft.retired.push(Message::DelElems { table, elements });
            }
        }
        let users = &self.users;
        self.idle
            .retain(|number| users.get(number).is_some_and(|users| users.count == 0));
    }
}
