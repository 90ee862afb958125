//! Who gets what several ask for: the one with the best right, then the first by name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Wishes for places, by place. The least claim, by right and then by name, has it.
#[derive(Clone, Debug)]
pub(crate) struct Claims<At, Who, Right, Wish> {
    /// Sorted: the first one has the place. Hardly ever more than one, and of each who one at most.
    places: BTreeMap<At, Vec<Claim<Who, Right, Wish>>>,
    /// The places that several ask for.
    disputed: BTreeSet<At>,
    stirred: bool,
}

impl<At, Who, Right, Wish> Default for Claims<At, Who, Right, Wish> {
    fn default() -> Self {
        Self {
            places: BTreeMap::new(),
            disputed: BTreeSet::new(),
            stirred: false,
        }
    }
}

/// What one asks for.
#[derive(Clone, Debug)]
pub(crate) struct Claim<Who, Right, Wish> {
    pub(crate) right: Right,
    pub(crate) who: Who,
    pub(crate) wish: Arc<Wish>,
}

impl<At: Ord + Copy, Who: Ord, Right: Ord, Wish> Claims<At, Who, Right, Wish> {
    /// Takes back what `who` asked for at a place.
    pub(crate) fn withdraw(&mut self, at: At, who: &Who) {
        if let Some(claims) = self.places.get_mut(&at) {
            claims.retain(|claim| claim.who != *who);
        }
    }

    /// Asks for a place. Of several claims of one `who` the one with the best right counts.
    pub(crate) fn enter(&mut self, at: At, claim: Claim<Who, Right, Wish>) {
        let claims = self.places.entry(at).or_default();
        if let Some(known) = claims.iter().position(|known| known.who == claim.who) {
            if claims[known].right <= claim.right {
                return;
            }
            claims.remove(known);
        }
        let is_before = |known: &Claim<Who, Right, Wish>| {
            (&known.right, &known.who) <= (&claim.right, &claim.who)
        };
        let place = claims.partition_point(is_before);
        claims.reserve_exact(1);
        claims.insert(place, claim);
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
    pub(crate) fn refused(&self) -> impl Iterator<Item = Refused<'_, At, Who, Right, Wish>> {
        self.disputed.iter().flat_map(|at| {
            let mut all = self.places.get(at).into_iter().flatten();
            let holder = all.next();
            all.filter_map(move |loser| holder.map(|holder| (*at, loser, holder)))
        })
    }

    /// Whether some place that several ask for, or asked for, was looked at since the last time.
    pub(crate) fn take_stirred(&mut self) -> bool {
        std::mem::take(&mut self.stirred)
    }
}

/// A place, who asks for it in vain, and who has it.
type Refused<'a, At, Who, Right, Wish> =
    (At, &'a Claim<Who, Right, Wish>, &'a Claim<Who, Right, Wish>);
