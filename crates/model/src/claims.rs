//! Who gets what several ask for: the oldest Service, then the first by name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Wishes for places, by place. The least claim has it.
#[derive(Clone, Debug)]
pub(crate) struct Claims<At, Who, Wish> {
    /// Sorted: the first one has the place. Hardly ever more than one.
    places: BTreeMap<At, Vec<Claim<Who, Wish>>>,
    /// The places that several ask for.
    disputed: BTreeSet<At>,
    stirred: bool,
}

impl<At, Who, Wish> Default for Claims<At, Who, Wish> {
    fn default() -> Self {
        Self {
            places: BTreeMap::new(),
            disputed: BTreeSet::new(),
            stirred: false,
        }
    }
}

#[derive(Clone, Debug)]
struct Claim<Who, Wish> {
    /// When the Service was created, seconds since 1970.
    created: i64,
    who: Who,
    wish: Arc<Wish>,
}

impl<At: Ord + Copy, Who: Ord, Wish> Claims<At, Who, Wish> {
    /// Takes back what `who` asked for at a place.
    pub(crate) fn withdraw(&mut self, at: At, who: &Who) {
        if let Some(claims) = self.places.get_mut(&at) {
            claims.retain(|claim| claim.who != *who);
        }
    }

    /// Asks for a place.
    pub(crate) fn enter(&mut self, at: At, created: i64, who: Who, wish: Arc<Wish>) {
        let claims = self.places.entry(at).or_default();
        let order = |known: &Claim<Who, Wish>| (known.created, &known.who).cmp(&(created, &who));
        match claims.binary_search_by(order) {
            Ok(at) => claims[at].wish = wish,
            Err(at) => {
                claims.reserve_exact(1);
                claims.insert(at, Claim { created, who, wish });
            }
        }
    }

    /// What is granted at a place now. A place that nobody asks for any more is forgotten.
    pub(crate) fn winner(&mut self, at: At) -> Option<Arc<Wish>> {
        let claims = self.places.get(&at).map_or(&[][..], Vec::as_slice);
        let winner = claims.first().map(|claim| claim.wish.clone());
        let (was, is) = (self.disputed.contains(&at), claims.len() > 1);
        self.stirred |= was || is;
        if is {
            self.disputed.insert(at);
        } else {
            self.disputed.remove(&at);
        }
        if winner.is_none() {
            self.places.remove(&at);
        }
        winner
    }

    /// What was not granted, by place: who asks, and who has it.
    pub(crate) fn refused(&self) -> impl Iterator<Item = (At, &Who, &Who)> {
        self.disputed.iter().flat_map(|at| {
            let claims = self.places.get(at).into_iter().flatten();
            let mut all = claims.map(|claim| &claim.who);
            let holder = all.next();
            all.filter_map(move |loser| holder.map(|holder| (*at, loser, holder)))
        })
    }

    /// Whether some place that several ask for, or asked for, was looked at since the last time.
    pub(crate) fn take_stirred(&mut self) -> bool {
        std::mem::take(&mut self.stirred)
    }
}
