//! Which tracked flows may stay when endpoints change.
//!
//! The kernel decides once where a flow goes, for its first packet. A UDP client that sends from one port is one flow
//! as long as it talks: when its endpoint goes the flow must be forgotten, or the client talks to nobody. A TCP or SCTP
//! connection that stands ends by itself. One that is still being *opened* does not: its SYN is sent again and again to an
//! endpoint that will never answer, and for two minutes any new connection from that port goes there too.
//!
//! A flow is stale, in this order:
//! 1. it was sent to no place of a Service: never, it is not ours;
//! 2. it is a connection that was answered: it belongs to its endpoint. One of TCP is stale whose place is a frontend, whose endpoint
//!    no slice names any more, in whatever condition, and which is half-closed and silent ([`Stage::Silent`]) in a way that
//!    tells that nothing is to come ([`Leave`]); or whatever its stage, if [`GoneEndpoints::Reset`] says so;
//! 3. that place is no frontend any more, or the address serves node ports no more: always;
//! 4. the endpoint that it was sent to is neither ready nor serving while it terminates, in no slice of the
//!    frontend's Service port: yes.
//!
//! Policies, hints and affinity are not asked: they choose an endpoint for a new flow and end none that works. A flow that
//! no rule translated went through before its Service was there, and is stale as soon as it is. kube-proxy knows
//! UDP alone.
//!
//! Why an endpoint that no slice names is not enough to end a connection: a Pod that is taken out of its Service by a label, or by a
//! selector that moves on to another version, serves its clients to the end, and is told from a dead one by nothing but what
//! it sends. Why an abandoned connection goes all the same: the kernel keeps it for as long as an hour
//! (`nf_conntrack_tcp_timeout_close_wait` as kube-proxy sets it), no packet opens it anew (`tcp_conntracks` of
//! `nf_conntrack_proto_tcp.c` ignores a SYN), and a client that comes by the same port talks to nobody all that time.
//!
//! Silence alone abandons nothing: a client that has sent its request, taken leave, and waits for the answer is silent, and so is
//! an endpoint that works on it, for minutes perhaps. It is told by its leave: the client's, and acknowledged.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::address::{Family, Protocol};
use crate::desired::{FrontendKey, PortName};
use crate::endpoints::{Named, Ranked, Survey};
use crate::input::{Change, ServiceKey, Slice};
use crate::rules::GoneEndpoints;
use crate::world::World;

/// A flow as the kernel tracks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Its protocol.
    pub protocol: Protocol,
    /// How far it has come.
    pub stage: Stage,
    /// Where the client sent it.
    pub original: SocketAddr,
    /// Who answers: the endpoint, or `original` if nothing was translated.
    pub answers: SocketAddr,
}

/// How far a flow has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Nobody has answered.
    Opening,
    /// Packets went both ways.
    Answered,
    /// The same of TCP, and one side has sent its last (`FIN`), and for [`SILENCE`] no packet came from either.
    Silent(Leave),
}

/// Whose last came first, and whether the other side has acknowledged it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// The endpoint's, and the client has: of the answer nothing is missing.
    EndpointHeard,
    /// The endpoint's, and the client has not: it may be out of reach for a while, and be sent the last again.
    EndpointUnheard,
    /// The client's, and the endpoint has: it lived, and works on the answer perhaps.
    ClientHeard,
    /// The client's, and the endpoint has not: it is gone.
    ClientUnheard,
}

impl Leave {
    /// Every one.
    pub const ALL: [Self; 4] = [
        Self::EndpointHeard,
        Self::EndpointUnheard,
        Self::ClientHeard,
        Self::ClientUnheard,
    ];

    /// Whether a connection that is silent after it is abandoned: nothing is to come by it that somebody waits for.
    #[must_use]
    pub const fn abandons(self) -> bool {
        matches!(self, Self::EndpointHeard | Self::ClientUnheard)
    }
}

/// How long a half-closed connection must be without a packet to be [`Stage::Silent`]. Longer than the pauses of a client that sends its
/// `FIN` again and again (RFC 6298: 0.2 s, doubling) for the first dozen of seconds.
pub const SILENCE: Duration = Duration::from_secs(10);

/// Where flows may go on, for the places that some changes touched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    places: BTreeMap<FrontendKey, Place>,
    /// Addresses at which the node ports among them answer, or did.
    node_addresses: BTreeMap<IpAddr, Serves>,
    departures: Departures,
}

/// Whether some endpoint may have left the slices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Departures {
    #[default]
    Nobody,
    Somebody,
}

/// The endpoints of a place; none at one that is no frontend any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Place {
    /// Those that still answer.
    living: Members,
    /// Those that some slice names, whatever their condition; `None` at what is no frontend any more.
    named: Option<Members>,
    /// What happens to connections that stand.
    gone: GoneEndpoints,
}

/// Whether an address serves node ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Serves {
    NoMore,
    Now,
}

impl Verdicts {
    /// Whether no flow can be stale.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Takes newer verdicts in: where both know a place, the newer one counts.
    pub fn extend(&mut self, newer: Self) {
        self.places.extend(newer.places);
        self.node_addresses.extend(newer.node_addresses);
        self.departures = self.departures.max(newer.departures);
    }

    /// The same, without places that are no frontends any more, and addresses that serve node ports no more: no connection that stands
    /// is stale by those.
    pub fn extend_frontends(&mut self, newer: &Self) {
        for (at, place) in &newer.places {
            match place.named {
                Some(_) => self.places.insert(*at, place.clone()),
                None => self.places.remove(at),
            };
        }
        self.node_addresses.extend(&newer.node_addresses);
        self.node_addresses
            .retain(|_, serves| *serves == Serves::Now);
        self.departures = self.departures.max(newer.departures);
    }

    /// For places that `newer` verdicts are about too: what may go on by those may go on here. For verdicts that wait for
    /// their moment, while endpoints come back.
    pub fn soften(&mut self, newer: &Self) {
        for (at, place) in &mut self.places {
            if let Some(more) = newer.places.get(at).filter(|more| more != &place) {
                place.living = place.living.union(&more.living);
                let both = place.named.as_ref().zip(more.named.as_ref());
                place.named = both.map(|(mine, more)| mine.union(more));
            }
        }
        for (ip, serves) in &mut self.node_addresses {
            let newer = newer.node_addresses.get(ip);
            *serves = newer.map_or(*serves, |newer| (*serves).max(*newer));
        }
    }

    /// Whether some place among them is of this protocol.
    #[must_use]
    pub fn concern(&self, protocol: Protocol) -> bool {
        let mut families = Family::BOTH.into_iter();
        families.any(|family| self.concern_in(family, protocol))
    }

    /// The same of one family: only a flow of that family can be sent to such a place.
    #[must_use]
    pub fn concern_in(&self, family: Family, protocol: Protocol) -> bool {
        let is_here = |at: &FrontendKey| at.family() == family && at.protocol_port().0 == protocol;
        self.places.keys().any(is_here)
    }

    /// Whether connections that were answered can be stale.
    #[must_use]
    pub fn concern_standing(&self) -> bool {
        let mut places = self.places.values();
        places.any(|place| place.named.is_some() && place.gone == GoneEndpoints::Reset)
    }

    /// Whether connections can be stale as soon as they are abandoned: some endpoint has left.
    #[must_use]
    pub fn concern_abandoned(&self) -> bool {
        self.departures == Departures::Somebody && self.concern(Protocol::Tcp)
    }

    /// Whether a flow must be forgotten.
    #[must_use]
    pub fn is_stale(&self, flow: &Flow) -> bool {
        let place = self.at(flow.protocol, flow.original);
        let stands = flow.protocol != Protocol::Udp && flow.stage != Stage::Opening;
        let among = |all: &Members| all.has(flow.answers);
        match place {
            None => false,
            Some(At::Nowhere) => !stands,
            Some(At::Place(place)) if !stands => !among(&place.living),
            Some(At::Place(place)) => {
                let is_ours = flow.protocol == Protocol::Tcp && flow.answers != flow.original;
                let is_abandoned = matches!(flow.stage, Stage::Silent(leave) if leave.abandons());
                let may_end = is_abandoned || place.gone == GoneEndpoints::Reset;
                let named = place.named.as_ref();
                is_ours && may_end && named.is_some_and(|named| !among(named))
            }
        }
    }

    /// The place that a flow was sent to: the one at its very address first.
    fn at(&self, protocol: Protocol, to: SocketAddr) -> Option<At<'_>> {
        let (ip, port) = (to.ip(), to.port());
        let address = FrontendKey::Address { ip, protocol, port };
        if let Some(place) = self.places.get(&address) {
            return Some(At::Place(place));
        }
        let serves = self.node_addresses.get(&ip)?;
        let family = Family::of(ip);
        let node_port = FrontendKey::NodePort {
            family,
            protocol,
            port,
        };
        let place = self.places.get(&node_port)?;
        Some(match serves {
            Serves::Now => At::Place(place),
            Serves::NoMore => At::Nowhere,
        })
    }
}

/// Where a flow was sent to.
enum At<'a> {
    Place(&'a Place),
    /// A node port at an address that serves none any more.
    Nowhere,
}

/// The places of a batch of changes, gathered before it is taken in and judged afterwards.
///
/// ```
/// use daymark_model::{Options, World, flows};
/// let mut world = World::new(Options::default());
/// let changes = Vec::new();
/// let suspects = flows::suspects(&world, &changes);
/// world.apply(changes);
/// assert!(suspects.judge(&world).is_empty());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suspects {
    services: BTreeSet<ServiceKey>,
    frontends: BTreeSet<FrontendKey>,
    node_addresses: BTreeSet<IpAddr>,
    /// The addresses that served node ports before one of the changes that may alter that.
    served: Option<BTreeSet<IpAddr>>,
    departures: Departures,
}

/// The places that `changes` may make flows stale at, while `world` has not taken them in.
#[must_use]
pub fn suspects(world: &World, changes: &[Change]) -> Suspects {
    let mut suspects = Suspects::default();
    for change in changes {
        match change {
            Change::Service(key, _) => suspects.services.extend([key.clone()]),
            Change::Slice(key, new) => {
                let old = world.slice(key, new.as_deref());
                if old.is_some_and(|old| loses_somebody(old, new.as_deref())) {
                    suspects.departures = Departures::Somebody;
                }
                let owners = old.into_iter().chain(new).map(|slice| slice.owner());
                suspects.services.extend(owners);
            }
            Change::Node(_) | Change::MachineAddresses(_) => {
                suspects.served = Some(world.desired().node_port_addresses.clone());
            }
            Change::ServiceCidr(..) => {}
        }
    }
    suspects.gather(world);
    suspects
}

impl Suspects {
    /// Takes those of further changes in.
    pub fn extend(&mut self, further: Self) {
        self.services.extend(further.services);
        self.frontends.extend(further.frontends);
        self.node_addresses.extend(further.node_addresses);
        // The oldest is what the last judgement left.
        self.served = self.served.take().or(further.served);
        self.departures = self.departures.max(further.departures);
    }

    /// Adds places that were captured before: those of tables that an agent found when it came.
    pub fn remember(
        &mut self,
        frontends: impl IntoIterator<Item = FrontendKey>,
        node_addresses: impl IntoIterator<Item = IpAddr>,
    ) {
        self.frontends.extend(frontends);
        self.node_addresses.extend(node_addresses);
        // Who left meanwhile, nobody knows.
        self.departures = Departures::Somebody;
    }

    /// What may go on of the flows to these places, now that `world` has taken the changes in.
    #[must_use]
    pub fn judge(mut self, world: &World) -> Verdicts {
        self.gather(world);
        self.gather_node_ports(world);
        let mut of_port: HashMap<(&PortName, Family), Place> = HashMap::new();
        let mut endpoints = Endpoints::new(world);
        let mut place = |at: &FrontendKey| {
            let Some(frontend) = world.desired().frontends.get(at) else {
                return Place::default();
            };
            let found = of_port.entry((&*frontend.port, at.family()));
            let found = found.or_insert_with(|| endpoints.of(&frontend.port, at.family()));
            found.clone()
        };
        let serving = &world.desired().node_port_addresses;
        let serves = |ip: &IpAddr| match serving.contains(ip) {
            true => Serves::Now,
            false => Serves::NoMore,
        };
        let addresses = self.node_addresses.iter();
        Verdicts {
            places: self.frontends.iter().map(|at| (*at, place(at))).collect(),
            node_addresses: addresses.map(|ip| (*ip, serves(ip))).collect(),
            departures: self.departures,
        }
    }

    /// Every node port, if the addresses at which they answer are others now.
    fn gather_node_ports(&mut self, world: &World) {
        let now = &world.desired().node_port_addresses;
        let Some(before) = self.served.take().filter(|before| before != now) else {
            return;
        };
        let is_node_port = |at: &&FrontendKey| matches!(at, FrontendKey::NodePort { .. });
        let all = world.desired().frontends.keys();
        self.frontends.extend(all.filter(is_node_port));
        self.node_addresses.extend(before.iter().chain(now));
    }

    /// Adds the places that the Services have now.
    fn gather(&mut self, world: &World) {
        for service in &self.services {
            self.frontends.extend(world.frontends_of(service));
        }
        let is_node_port = |at: &FrontendKey| matches!(at, FrontendKey::NodePort { .. });
        if self.frontends.iter().any(is_node_port) {
            let addresses = &world.desired().node_port_addresses;
            self.node_addresses.extend(addresses);
        }
    }
}

/// Whether a new version of a slice lacks an endpoint of the old one, or one of its ports, or is of another Service.
fn loses_somebody(old: &Slice, new: Option<&Slice>) -> bool {
    fn addresses(slice: &Slice) -> impl Iterator<Item = IpAddr> {
        slice.endpoints.iter().map(|one| one.address)
    }
    let Some(new) = new else { return true };
    let same = old.owner() == new.owner() && old.ports == new.ports;
    // As they came, most often; sorted, there may be a thousand.
    let has_all = || {
        let mut new: Vec<IpAddr> = addresses(new).collect();
        new.sort_unstable();
        addresses(old).all(|one| new.binary_search(&one).is_ok())
    };
    !same || !(addresses(old).eq(addresses(new)) || has_all())
}

/// What the ports of Services have, looked at once for all ports that the same slices name.
struct Endpoints<'a> {
    world: &'a World,
    surveys: HashMap<(&'a ServiceKey, Family), Surveyed<'a>>,
}

struct Surveyed<'a> {
    survey: Survey<'a>,
    /// Those that still answer, and all.
    of_shape: BTreeMap<usize, (Ranked, Ranked)>,
}

impl<'a> Endpoints<'a> {
    fn new(world: &'a World) -> Self {
        Self {
            world,
            surveys: HashMap::new(),
        }
    }

    /// The place of a Service port that some frontend is of.
    fn of(&mut self, name: &'a PortName, family: Family) -> Place {
        let world = self.world;
        let found = self.surveys.entry((&name.service, family));
        let found = found.or_insert_with(|| Surveyed {
            survey: Survey::of(world.slices_of(&name.service), family),
            of_shape: BTreeMap::new(),
        });
        let (living, named) = found.members(name);
        Place {
            living,
            named: Some(named),
            gone: world.options().rules.gone_endpoints,
        }
    }
}

impl Surveyed<'_> {
    fn members(&mut self, name: &PortName) -> (Members, Members) {
        let Self { survey, of_shape } = self;
        let Some(Named { shape, numbers }) = survey.port(&name.port, name.protocol) else {
            return Default::default();
        };
        let look = of_shape.entry(*shape);
        let (living, named) = look.or_insert_with(|| survey.members(*shape));
        let members = |ranked: &Ranked| Members {
            ranked: Arc::clone(ranked),
            numbers: Arc::clone(numbers),
        };
        (members(living), members(named))
    }
}

/// Addresses and numbers of endpoints. Ports of one Service share the addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Members {
    /// Sorted; in place of each number stands its place in the list of numbers.
    ranked: Ranked,
    /// Ascending.
    numbers: Arc<[u16]>,
}

impl Members {
    fn has(&self, endpoint: SocketAddr) -> bool {
        let rank = self.numbers.binary_search(&endpoint.port());
        let rank = rank.ok().and_then(|rank| u16::try_from(rank).ok());
        rank.is_some_and(|rank| self.ranked.binary_search(&(endpoint.ip(), rank)).is_ok())
    }

    fn all(&self) -> impl Iterator<Item = (IpAddr, u16)> {
        let number = |rank: u16| self.numbers.get(usize::from(rank)).copied();
        let all = self.ranked.iter();
        all.filter_map(move |(ip, rank)| Some((*ip, number(*rank)?)))
    }

    fn union(&self, other: &Self) -> Self {
        let numbers: BTreeSet<u16> = self
            .numbers
            .iter()
            .chain(&*other.numbers)
            .copied()
            .collect();
        let numbers: Arc<[u16]> = numbers.into_iter().collect();
        let ranked = |(ip, number): (IpAddr, u16)| {
            let rank = numbers.binary_search(&number).ok()?;
            Some((ip, u16::try_from(rank).ok()?))
        };
        let both: BTreeSet<_> = self.all().chain(other.all()).filter_map(ranked).collect();
        Self {
            ranked: both.into_iter().collect(),
            numbers,
        }
    }
}
