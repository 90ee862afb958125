//! Plans: the few ways in which a new connection is handled, a chain for each.
//!
//! The modulus of `numgen` is a constant of its rule, so that every distinct number of slots is a chain
//! of its own. A frontend names its plans by number; the map `plans` turns the number into a jump.
//!
//! A chain that finds no backend returns, and the frontend is asked anew: between its plan and its pool a
//! change may have come, and a number that was drawn for the old pool may be too large for the new one.

use daymark_model::desired::List;
use daymark_netlink::nft::{
    Bitwise, Chain, ChainKind, Counter, Data, Dynset, DynsetOp, Elements, Exists, Expr, Hash,
    Lookup, LookupResult, Message, Nat, NatFlags, NatKind, Numgen, NumgenKind, Place, RegRange,
    Rule, SetElem, Verdict,
};

use super::base::{self, ASKED, with};
use super::layout::{Words, reg, set};

/// How a new connection is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Plan {
    /// Which maps hold the frontend.
    pub at: At,
    /// Whether the client must be in the frontend's ranges.
    pub sources: Checked,
    /// What happens to it.
    pub fate: Fate,
}

/// Which maps hold a frontend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum At {
    /// Those of addresses.
    Address,
    /// Those of node ports.
    NodePort,
}

/// Whether clients are checked against the frontend's ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Checked {
    /// Everybody may come.
    No,
    /// Who is in none is dropped.
    Yes,
}

/// What happens to a connection that may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fate {
    /// It goes to one of `slots` backends.
    Spread {
        /// Of which pool.
        list: List,
        /// How many there are, above zero.
        slots: u32,
        /// For how many seconds of idleness a client keeps its backend; `None`: no affinity.
        sticky: Option<u32>,
    },
    /// It is accepted as it is; the filter chains refuse it.
    Refuse,
    /// It is dropped here.
    Drop,
}

impl Plan {
    /// The name of its chain: says all of it, so that a dump can be read and adopted.
    #[must_use]
    pub fn chain(&self) -> String {
        let at = match self.at {
            At::Address => "",
            At::NodePort => "np-",
        };
        let checked = match self.sources {
            Checked::No => "",
            Checked::Yes => "-checked",
        };
        let fate = match self.fate {
            Fate::Refuse => "refused".to_owned(),
            Fate::Drop => "dropped".to_owned(),
            Fate::Spread {
                list,
                slots,
                sticky,
            } => {
                let list = match list {
                    List::Cluster => "to",
                    List::Local => "to-local",
                };
                let sticky = sticky.map_or(String::new(), |seconds| format!("-sticky-{seconds}s"));
                format!("{list}-{slots}{sticky}")
            }
        };
        format!("{at}{fate}{checked}")
    }

    /// The plan of a chain's name.
    #[must_use]
    pub fn of_chain(chain: &str) -> Option<Self> {
        let (name, sources) = chain
            .strip_suffix("-checked")
            .map_or((chain, Checked::No), |rest| (rest, Checked::Yes));
        let (name, at) = name
            .strip_prefix("np-")
            .map_or((name, At::Address), |rest| (rest, At::NodePort));
        let fate = match name {
            "refused" => Fate::Refuse,
            "dropped" => Fate::Drop,
            _ => {
                let rest = name.strip_prefix("to-")?;
                let (rest, list) = rest
                    .strip_prefix("local-")
                    .map_or((rest, List::Cluster), |rest| (rest, List::Local));
                let (slots, sticky) = match rest.split_once("-sticky-") {
                    Some((slots, seconds)) => {
                        (slots, Some(seconds.strip_suffix('s')?.parse().ok()?))
                    }
                    None => (rest, None),
                };
                Fate::Spread {
                    list,
                    slots: slots.parse().ok().filter(|slots| *slots > 0)?,
                    sticky,
                }
            }
        };
        // Numbers may be written in more ways than one.
        Some(Self { at, sources, fate }).filter(|plan| plan.chain() == chain)
    }

    /// The messages that create the chain, its rules and its number.
    #[must_use]
    pub fn create(&self, words: &Words, number: u32) -> Vec<Message> {
        let table = words.table();
        let name = self.chain();
        let chain = Chain {
            name: name.as_str().into(),
            kind: ChainKind::Regular,
            comment: None,
        };
        let mut messages = vec![Message::NewChain {
            table: table.clone(),
            chain,
            exists: Exists::Keep,
        }];
        messages.extend(self.rules(words).into_iter().map(|exprs| Message::NewRule {
            table: table.clone(),
            rule: Rule::new(name.as_str(), exprs),
            place: Place::Last,
        }));
        messages.push(self.enter(words, number));
        messages
    }

    /// The message that gives the chain, which is there, a number.
    #[must_use]
    pub fn enter(&self, words: &Words, number: u32) -> Message {
        let to = Verdict::Jump(self.chain().into());
        let elements = Elements {
            set: set::PLANS.into(),
            elems: vec![SetElem::verdict(Data::host(number), to)],
        };
        Message::NewElems {
            table: words.table(),
            elements,
            exists: Exists::Keep,
        }
    }

    /// The rules of the chain.
    #[must_use]
    pub fn rules(&self, words: &Words) -> Vec<Vec<Expr>> {
        let mut rules = Vec::new();
        if self.sources == Checked::Yes {
            rules.push(outside_ranges(words));
        }
        match self.fate {
            Fate::Refuse => rules.push(vec![Expr::Verdict(Verdict::Accept)]),
            Fate::Drop => rules.push(counted_drop().into()),
            Fate::Spread {
                list,
                slots,
                sticky: None,
            } => {
                let counted = [count(), translate(words)];
                rules
                    .extend(ASKED.map(|side| self.pick(words, side, list, slots, counted.clone())));
                let uncounted = [translate(words)];
                rules.extend(
                    UNCOUNTED.map(|side| self.pick(words, side, list, slots, uncounted.clone())),
                );
            }
            Fate::Spread {
                list,
                slots,
                sticky: Some(seconds),
            } => {
                rules.extend(self.sticky_rules(words, list, slots, seconds));
            }
        }
        rules
    }

    /// In order: a backend that left is forgotten; one that is there begins its time anew and is used;
    /// a new client chooses, the choice is kept, and what was kept is used; if nothing could be kept
    /// (the map is full) the client's address chooses, counted: it gets the same backend again as long as
    /// they are the same, whoever filled the map.
    ///
    /// Writing the map is the end of its rule: where it fails the kernel stops the rule, and the
    /// connection must go on.
    fn sticky_rules(&self, words: &Words, list: List, slots: u32, seconds: u32) -> Vec<Vec<Expr>> {
        let timeout = Some(u64::from(seconds) * 1000);
        let kept = |side| with(with(self.frontend(words, side), local(list)), recall(words));
        let still_there = || member(LookupResult::Member);
        let mut rules = Vec::new();
        for side in [0, 1] {
            rules.push(with(
                kept(side),
                [
                    member(LookupResult::NotMember),
                    write(words, DynsetOp::Delete, None),
                ],
            ));
        }
        for side in [0, 1] {
            rules.push(with(
                kept(side),
                [still_there(), write(words, DynsetOp::Update, timeout)],
            ));
        }
        let used = || {
            let counted = |side| with(kept(side), [still_there(), count(), translate(words)]);
            let uncounted = |side| with(kept(side), [still_there(), translate(words)]);
            ASKED
                .map(counted)
                .into_iter()
                .chain(UNCOUNTED.map(uncounted))
        };
        rules.extend(used());
        for side in [0, 1] {
            let keep = [client(words), write(words, DynsetOp::Add, timeout)];
            rules.push(self.pick(words, side, list, slots, keep));
        }
        rules.extend(used());
        rules.extend(ASKED.map(|side| self.pick_unkept(words, side, list, slots, Some(count()))));
        rules.extend(UNCOUNTED.map(|side| self.pick_unkept(words, side, list, slots, None)));
        rules
    }

    fn frontend(&self, words: &Words, side: usize) -> Vec<Expr> {
        match self.at {
            At::Address => base::frontend(words, side),
            At::NodePort => base::node_port(side),
        }
    }

    fn pick(
        &self,
        words: &Words,
        side: usize,
        list: List,
        slots: u32,
        then: impl IntoIterator<Item = Expr>,
    ) -> Vec<Expr> {
        let number = Numgen {
            dreg: reg::SLOT,
            modulus: slots,
            kind: NumgenKind::Random,
            offset: 0,
        };
        let slot = Lookup {
            set: set::SLOTS.into(),
            key: reg::POOL,
            result: LookupResult::Data(reg::SLOT),
        };
        let pool = with(self.frontend(words, side), local(list));
        with(with(pool, [Expr::Numgen(number), Expr::Lookup(slot)]), then)
    }
}

impl Plan {
    /// Chooses without memory, by a hash of the client's address and the port's number, and counts that.
    fn pick_unkept(
        &self,
        words: &Words,
        side: usize,
        list: List,
        slots: u32,
        hit: Option<Expr>,
    ) -> Vec<Expr> {
        let counter = Expr::Counter(Counter::default());
        let then = hit.into_iter().chain([counter, translate(words)]);
        // The kernel takes no hash below one.
        if slots == 1 {
            return self.pick(words, side, list, slots, then);
        }
        let hash = Hash::Jenkins {
            sreg: sticky_key(words),
            len: words.len + 4,
            dreg: reg::SLOT,
            modulus: slots,
            seed: Some(SEED),
            offset: 0,
        };
        let slot = Lookup {
            set: set::SLOTS.into(),
            key: reg::POOL,
            result: LookupResult::Data(reg::SLOT),
        };
        let pool = with(self.frontend(words, side), local(list));
        let chosen = [client(words), Expr::Hash(hash), Expr::Lookup(slot)];
        with(with(pool, chosen), then)
    }
}

/// Which map is asked when nothing could be counted, because `hits` is full: the kernel ends a rule whose write fails
/// (`nft_dynset_eval`), and the connection must go on.
const UNCOUNTED: [usize; 2] = [0, 1];

/// Counts a connection that is about to be translated, by the number of its Service port. Only first packets come here. Idle
/// ports are forgotten after a day, so that numbers of Services that went leave room.
fn count() -> Expr {
    Expr::Dynset(Dynset {
        set: set::HITS.into(),
        op: DynsetOp::Update,
        key: reg::PORT,
        data: None,
        timeout: Some(A_DAY),
        exprs: vec![Expr::Counter(Counter::default())],
    })
}

/// Milliseconds.
const A_DAY: u64 = 24 * 60 * 60 * 1000;

/// One for all rules, so that it does not matter which map holds the frontend.
const SEED: u32 = 0x6461_796d;

/// The Local pool is the one behind the Cluster pool.
fn local(list: List) -> Option<Expr> {
    let odd = Bitwise::Mask {
        sreg: reg::POOL,
        dreg: reg::POOL,
        mask: Data::host(!1),
        xor: Data::host(1),
    };
    (list == List::Local).then_some(Expr::Bitwise(odd))
}

/// Drops who is in none of the frontend's ranges. Three questions, because ranges may move from one set to the other between two.
fn outside_ranges(words: &Words) -> Vec<Expr> {
    let behind = Words::after(reg::KEY, words.regs + 2);
    let client = [base::address(words, words.saddr, behind)];
    let is_in_none_of = |side: usize| {
        Expr::Lookup(Lookup {
            set: set::RANGES[side].into(),
            key: reg::KEY,
            result: LookupResult::NotMember,
        })
    };
    let outside = with(base::destination(words), client);
    with(with(outside, [0, 1, 0].map(is_in_none_of)), counted_drop())
}

/// What is dropped is counted, by the reason that its rule stands for ([`super::counts`]).
fn counted_drop() -> [Expr; 2] {
    [
        Expr::Counter(Counter::default()),
        Expr::Verdict(Verdict::Drop),
    ]
}

/// The client's address, right before the number of the Service port: the key of `sticky`.
fn client(words: &Words) -> Expr {
    base::address(words, words.saddr, sticky_key(words))
}

fn sticky_key(words: &Words) -> daymark_netlink::nft::Reg {
    let first = reg::PORT.index() - usize::try_from(words.regs).expect("1 or 4");
    daymark_netlink::nft::Reg::at(u32::try_from(first).expect("below 16")).expect("below 16")
}

/// The backend that the client kept, to where the slot would be.
fn recall(words: &Words) -> [Expr; 2] {
    let kept = Lookup {
        set: set::STICKY.into(),
        key: sticky_key(words),
        result: LookupResult::Data(reg::SLOT),
    };
    [client(words), Expr::Lookup(kept)]
}

fn member(result: LookupResult) -> Expr {
    Expr::Lookup(Lookup {
        set: set::MEMBERS.into(),
        key: reg::POOL,
        result,
    })
}

/// A map's data register must be named even to delete (`nft_dynset_init`).
fn write(words: &Words, op: DynsetOp, timeout: Option<u64>) -> Expr {
    let set = set::STICKY.into();
    Expr::Dynset(Dynset {
        set,
        op,
        key: sticky_key(words),
        data: Some(reg::SLOT),
        timeout,
        exprs: Vec::new(),
    })
}

fn translate(words: &Words) -> Expr {
    let port = Words::after(reg::SLOT, words.regs);
    Expr::Nat(Nat {
        kind: NatKind::Dnat,
        family: words.nft,
        addr: Some(RegRange::one(reg::SLOT)),
        port: Some(RegRange::one(port)),
        flags: NatFlags::NONE,
    })
}
