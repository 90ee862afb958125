//! Who gets what several ask for: the oldest Service, then the first by name.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Wishes for places, by place. The least claim has it.
#[derive(Clone, Debug)]
pub(crate) struct Claims<At, Who, Wish> {
    /// Sorted: the first one has the place. Hardly ever more than one.
    places: BTreeMap<At, Vec<Claim<Who, Wish>>>,
}

impl<At, Who, Wish> Default for Claims<At, Who, Wish> {
    fn default() -> Self {
        Self {
            places: BTreeMap::new(),
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
        let first = self.places.get(&at).and_then(|claims| claims.first());
        let winner = first.map(|claim| claim.wish.clone());
        if winner.is_none() {
            self.places.remove(&at);
        }
        winner
    }

    /// What was not granted, by place: who asks, and who has it.
    pub(crate) fn refused(&self) -> impl Iterator<Item = (At, &Who, &Who)> {
        self.places.iter().flat_map(|(at, claims)| {
            let mut all = claims.iter().map(|claim| &claim.who);
            let holder = all.next();
            all.filter_map(move |loser| holder.map(|holder| (*at, loser, holder)))
        })
    }
}
