//! The slices of one Service in one family, looked through once for all of its ports.
//!
//! Ports that the same slices name have the same endpoints, each at a number of its own. So endpoints are looked at once for each
//! *shape*: which slices name a port, and which of its numbers each of them has, by rank. What a port has is what its
//! shape has, with numbers in place of ranks. All ports of a Service have one shape, most often, be they a thousand.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::{Candidate, Choice, Health, Lists, Presence, Taken, distinct, reads_family, take};
use crate::address::{Family, Protocol};
use crate::desire::MOST_LOOKED_AT;
use crate::desired::{Backend, List};
use crate::input::{Node, ServicePort, Slice};

/// The slices, by the ports that they name. Lists that are sorted once: most Services have one slice and few ports.
#[derive(Debug)]
pub(crate) struct Survey<'a> {
    slices: Vec<&'a Slice>,
    family: Family,
    /// The slices of each shape, and the rank of the number there, sorted.
    shapes: Vec<Vec<(usize, u16)>>,
    /// Sorted by name and protocol.
    ports: Vec<((&'a str, Protocol), Named)>,
}

/// A port as slices name it.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    /// The shape that it has.
    pub(crate) shape: usize,
    /// Its numbers, ascending: a rank is a place in this list.
    pub(crate) numbers: Arc<[u16]>,
}

impl<'a> Survey<'a> {
    /// Reads what ports the slices name. Endpoints are not looked at.
    pub(crate) fn of(slices: impl IntoIterator<Item = &'a Arc<Slice>>, family: Family) -> Self {
        let slices = slices.into_iter().map(|slice| &**slice);
        let slices: Vec<&Slice> = slices
            .filter(|slice| reads_family(slice, family).is_ok())
            .collect();
        let places = slices.iter().enumerate().flat_map(|(index, slice)| {
            let ports = slice.ports.iter();
            ports.map(move |port| ((&*port.name, port.protocol), index, port.port))
        });
        let mut places: Vec<_> = places.collect();
        places.sort_unstable();
        places.dedup();
        let mut known = BTreeMap::new();
        let mut ports = Vec::new();
        for of_port in places.chunk_by(|(a, ..), (b, ..)| a == b) {
            let mut numbers: Vec<u16> = of_port.iter().map(|(_, _, number)| *number).collect();
            numbers.sort_unstable();
            numbers.dedup();
            let numbers: Arc<[u16]> = numbers.into();
            let ranked = of_port.iter();
            let ranked: Vec<_> = ranked
                .map(|(_, slice, number)| (*slice, rank_of(&numbers, *number)))
                .collect();
            let next = known.len();
            let shape = *known.entry(ranked).or_insert(next);
            ports.push((of_port[0].0, Named { shape, numbers }));
        }
        let mut shapes = vec![Vec::new(); known.len()];
        for (places, shape) in known {
            shapes[shape] = places;
        }
        Self {
            slices,
            family,
            shapes,
            ports,
        }
    }

    /// How the slices name a Service's port; `None` if none of them does.
    pub(crate) fn port(&self, name: &str, protocol: Protocol) -> Option<&Named> {
        let place = |(port, _): &((&str, _), _)| (*port).cmp(&(name, protocol));
        let place = self.ports.binary_search_by(place).ok()?;
        Some(&self.ports[place].1)
    }

    fn ports<'b>(&'b self, ports: &'b [ServicePort]) -> impl Iterator<Item = &'b Named> {
        let named = |port: &'b ServicePort| self.port(&port.name, port.protocol);
        ports.iter().filter_map(named)
    }

    /// How many endpoints a shape has to look at.
    pub(crate) fn cost(&self, shape: usize) -> usize {
        let places = self.shapes[shape].iter();
        places
            .map(|(slice, _)| self.slices[*slice].endpoints.len())
            .sum()
    }

    /// All endpoints of a shape, as [`Choice`] has them for a port; their ports are ranks.
    fn candidates(&self, shape: usize) -> Vec<Candidate<'a>> {
        let mut all = Vec::new();
        for (slice, rank) in &self.shapes[shape] {
            let slice = self.slices[*slice];
            take(&mut all, slice, *rank, self.family, &mut |_| ());
        }
        distinct(all, &mut |_| ())
    }

    /// Those of each shape that some of these ports has, as far as a node looks at them.
    fn candidates_of(&self, ports: &[ServicePort]) -> impl Iterator<Item = Vec<Candidate<'a>>> {
        let shapes: BTreeSet<usize> = self.ports(ports).map(|named| named.shape).collect();
        let mut left = MOST_LOOKED_AT;
        shapes.into_iter().filter_map(move |shape| {
            left = left.checked_sub(self.cost(shape))?;
            Some(self.candidates(shape))
        })
    }

    /// Those that still answer, and all of them, as [`super::serving`] and [`super::named`] have them for a port; their ports are ranks.
    /// One list where all answer, as most often.
    pub(crate) fn members(&self, shape: usize) -> (Ranked, Ranked) {
        let all = self.candidates(shape);
        let at = |c: &Candidate| (c.endpoint.address, c.port);
        let named: Ranked = all.iter().map(at).collect();
        if all.iter().all(|c| c.health().answers()) {
            return (Arc::clone(&named), named);
        }
        let living = all.iter().filter(|c| c.health().answers()).map(at);
        (living.collect(), named)
    }
}

/// Addresses with the ranks of their numbers, sorted. A `SocketAddr` has room for what these never have, the scope and flow of IPv6, and
/// takes 32 bytes for 20.
pub(crate) type Ranked = Arc<[(IpAddr, u16)]>;

/// The place of a number that is there.
fn rank_of(numbers: &[u16], number: u16) -> u16 {
    let rank = numbers.binary_search(&number).unwrap_or_default();
    // There are no more numbers than ports.
    u16::try_from(rank).unwrap_or(u16::MAX)
}

/// What the ports of one Service may use on a node, in one family.
#[derive(Debug)]
pub(crate) struct Looks<'a> {
    survey: Survey<'a>,
    node: &'a Node,
    of_shape: BTreeMap<usize, Look>,
}

/// What a shape has; ports are ranks.
#[derive(Debug)]
struct Look {
    lists: Lists,
    local: Taken,
}

/// A Service has more than may be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMuch;

impl<'a> Looks<'a> {
    pub(crate) fn of(
        slices: impl IntoIterator<Item = &'a Arc<Slice>>,
        family: Family,
        node: &'a Node,
    ) -> Self {
        Self {
            survey: Survey::of(slices, family),
            node,
            of_shape: BTreeMap::new(),
        }
    }

    /// What [`super::select`] says of a port. `left` is how many endpoints may be looked at yet; what was looked at before costs nothing.
    pub(crate) fn lists(&mut self, port: &ServicePort, left: &mut usize) -> Result<Lists, TooMuch> {
        let named = self.survey.port(&port.name, port.protocol);
        let Some(Named { shape, numbers }) = named.cloned() else {
            return Ok(Lists::default());
        };
        let look = self.look(shape, left)?;
        let at = |backends: &[Backend]| {
            let numbered = |backend: &Backend| Backend {
                port: numbers[usize::from(backend.port)],
                ..*backend
            };
            backends.iter().map(numbered).collect()
        };
        Ok(Lists {
            cluster: at(&look.lists.cluster),
            local: at(&look.lists.local),
            anywhere: look.lists.anywhere,
        })
    }

    /// The addresses of the endpoints of some of these ports on this node that are ready: what a health check counts.
    pub(crate) fn ready_here(
        &mut self,
        ports: &[ServicePort],
        left: &mut usize,
    ) -> BTreeSet<IpAddr> {
        let named = self.survey.ports(ports);
        let shapes: BTreeSet<usize> = named.map(|named| named.shape).collect();
        let mut found = BTreeSet::new();
        for shape in shapes {
            if let Ok(look) = self.look(shape, left)
                && look.local == Taken::Ready
            {
                found.extend(look.lists.local.iter().map(|backend| backend.address));
            }
        }
        found
    }

    fn look(&mut self, shape: usize, left: &mut usize) -> Result<&Look, TooMuch> {
        if !self.of_shape.contains_key(&shape) {
            *left = left.checked_sub(self.survey.cost(shape)).ok_or(TooMuch)?;
        }
        let (survey, node) = (&self.survey, self.node);
        Ok(self.of_shape.entry(shape).or_insert_with(|| {
            let choice = Choice::among(survey.candidates(shape), node);
            Look {
                lists: choice.lists(),
                local: choice.taken(List::Local),
            }
        }))
    }
}

/// Whether some of these ports of a Service has a usable endpoint anywhere: [`Lists::anywhere`] of [`super::select`], asked of all of them at
/// once. What a node does not look at ([`MOST_LOOKED_AT`]) counts as nobody.
#[must_use]
pub fn anywhere<'a>(
    slices: impl IntoIterator<Item = &'a Arc<Slice>>,
    ports: &[ServicePort],
    family: Family,
) -> Presence {
    let survey = Survey::of(slices, family);
    let mut all = survey.candidates_of(ports);
    if all.any(|shape| shape.iter().any(|c| c.health().answers())) {
        Presence::Present
    } else {
        Presence::Absent
    }
}

/// The addresses in the Local lists of some of these ports of a Service ([`Lists::local`] of [`super::select`]), on each node that has any.
/// What a node does not look at ([`MOST_LOOKED_AT`]) is in none.
#[must_use]
pub fn local_by_node<'a>(
    slices: impl IntoIterator<Item = &'a Arc<Slice>>,
    ports: &[ServicePort],
    family: Family,
) -> BTreeMap<Arc<str>, BTreeSet<IpAddr>> {
    let survey = Survey::of(slices, family);
    let mut found: BTreeMap<Arc<str>, BTreeSet<IpAddr>> = BTreeMap::new();
    for shape in survey.candidates_of(ports) {
        let on = |health| {
            let all = shape.iter().filter(move |c| c.health() == health);
            all.filter_map(|c| Some((c.endpoint.node.as_ref()?, c.endpoint.address)))
        };
        let with_ready: BTreeSet<_> = on(Health::Ready).map(|(node, _)| node).collect();
        let draining = on(Health::Draining).filter(|(node, _)| !with_ready.contains(node));
        for (node, address) in on(Health::Ready).chain(draining) {
            found.entry(Arc::clone(node)).or_default().insert(address);
        }
    }
    found
}
