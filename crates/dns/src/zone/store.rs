//! Services, slices and namespaces as DNS needs them, and the addresses they have.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use daymark_feed::Event;
use daymark_model::{Change, Service, ServiceKey, Slice, SliceKey, audience};

/// Whether the name of a new cluster IP waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// It does, until the data plane has the batch it came in.
    ForPlane,
    /// There is no data plane to wait for.
    Nothing,
}

/// What is known.
#[derive(Debug, Default)]
pub(super) struct Store {
    /// By namespace, then name.
    services: HashMap<ServiceKey, Entry>,
    /// The Services that may have something held.
    waiting: Vec<ServiceKey>,
    /// How many Services each namespace has.
    populated: HashMap<Arc<str>, usize>,
    namespaces: HashSet<Arc<str>>,
    /// The slices of a Service, by the slice's name.
    slices: HashMap<ServiceKey, BTreeMap<Arc<str>, Arc<Slice>>>,
    /// The Service that each slice belongs to.
    owners: HashMap<SliceKey, Arc<str>>,
    cluster_ips: HashMap<IpAddr, Owners>,
    endpoints: HashMap<IpAddr, Owners>,
}

/// A Service as published, and as it will be once the plane has it.
#[derive(Debug, Default)]
struct Entry {
    published: Option<Arc<Service>>,
    held: Option<(u64, Arc<Service>)>,
}

/// Who has an address: nearly always one Service.
#[derive(Debug)]
enum Owners {
    One(Arc<ServiceKey>),
    #[allow(
        clippy::box_collection,
        reason = "the rare case must not widen the common one"
    )]
    Many(Box<Vec<Arc<ServiceKey>>>),
}

impl Store {
    /// Takes in one event; returns how many Services it holds back.
    pub(super) fn apply(&mut self, event: &Event, hold: Hold, number: u64) -> usize {
        match event {
            Event::Model(Change::Service(key, service)) => {
                return self.set_service(key, service.as_ref(), hold, number);
            }
            Event::Model(Change::Slice(key, slice)) => self.set_slice(key, slice.as_ref()),
            Event::Namespace(name, Some(_)) => {
                self.namespaces.insert(Arc::clone(name));
            }
            Event::Namespace(name, None) => {
                self.namespaces.remove(name);
            }
            Event::Model(
                Change::Node(_) | Change::MachineAddresses(_) | Change::ServiceCidr(..),
            )
            | Event::Pool(..)
            | Event::L2Advertisement(..)
            | Event::Triggered(..)
            | Event::Unusable(..)
            | Event::Eligibility(_)
            | Event::Lease(..)
            | Event::Node(..) => {}
        }
        0
    }

    /// Publishes what is held since this batch or an earlier one.
    pub(super) fn release(&mut self, number: u64) -> usize {
        let mut due = Vec::new();
        let services = &mut self.services;
        self.waiting.retain(|key| {
            let held = services.get_mut(key).map(|entry| &mut entry.held);
            let Some(held) = held.filter(|held| held.is_some()) else {
                return false;
            };
            match held.take_if(|(since, _)| *since <= number) {
                Some((_, service)) => due.push((key.clone(), service)),
                None => return true,
            }
            false
        });
        for (key, service) in &due {
            self.publish(key, Some(service));
        }
        due.len()
    }

    /// The Service of this name, if it has records.
    pub(super) fn service(&self, namespace: &str, name: &str) -> Option<&Arc<Service>> {
        // Names of the API are lower case (RFC 1123 labels); so is what is asked for here.
        self.services
            .get(&ServiceKey::new(namespace, name))?
            .published
            .as_ref()
    }

    pub(super) fn namespace_exists(&self, name: &str) -> bool {
        self.namespaces.contains(name) || self.populated.contains_key(name)
    }

    /// All slices of a Service.
    pub(super) fn slices(&self, key: &ServiceKey) -> impl Iterator<Item = &Arc<Slice>> {
        self.slices.get(key).into_iter().flat_map(BTreeMap::values)
    }

    /// The Services with this cluster IP.
    pub(super) fn cluster_ip_owners(&self, address: IpAddr) -> &[Arc<ServiceKey>] {
        self.cluster_ips.get(&address).map_or(&[], Owners::all)
    }

    /// The Services with an endpoint of this address, ready or not.
    pub(super) fn endpoint_owners(&self, address: IpAddr) -> &[Arc<ServiceKey>] {
        self.endpoints.get(&address).map_or(&[], Owners::all)
    }

    fn set_service(
        &mut self,
        key: &ServiceKey,
        service: Option<&Arc<Service>>,
        hold: Hold,
        number: u64,
    ) -> usize {
        let service = service.filter(|service| audience::dns(service));
        let Some(service) = service else {
            self.publish(key, None);
            return 0;
        };
        let entry = self.services.entry(key.clone()).or_default();
        if hold == Hold::Nothing || !is_new(entry.published.as_deref(), service) {
            self.publish(key, Some(service));
            return 0;
        }
        // A held Service that changes again waits no longer for it, unless its addresses changed.
        let (since, newly) = match &entry.held {
            Some((since, held)) if held.cluster_ips == service.cluster_ips => (*since, 0),
            Some(_) | None => (number, 1),
        };
        if entry.held.replace((since, Arc::clone(service))).is_none() {
            self.waiting.push(key.clone());
        }
        newly
    }

    fn publish(&mut self, key: &ServiceKey, service: Option<&Arc<Service>>) {
        let before = match service {
            Some(service) => {
                let entry = self.services.entry(key.clone()).or_default();
                entry.held = None;
                entry.published.replace(Arc::clone(service))
            }
            None => self.services.remove(key).and_then(|entry| entry.published),
        };
        match (&before, service) {
            (None, Some(_)) => {
                *self
                    .populated
                    .entry(Arc::clone(&key.namespace))
                    .or_default() += 1
            }
            (Some(_), None) => self.depopulate(&key.namespace),
            (Some(_), Some(_)) | (None, None) => {}
        }
        let old = before
            .as_ref()
            .map_or(&[][..], |service| service.cluster_ips.all());
        let new = service.map_or(&[][..], |service| service.cluster_ips.all());
        if old != new {
            let owner = Arc::new(key.clone());
            old.iter()
                .for_each(|address| remove(&mut self.cluster_ips, *address, key));
            new.iter()
                .for_each(|address| insert(&mut self.cluster_ips, *address, &owner));
        }
    }

    fn depopulate(&mut self, namespace: &Arc<str>) {
        if let Some(count) = self.populated.get_mut(namespace) {
            *count -= 1;
            if *count == 0 {
                self.populated.remove(namespace);
            }
        }
    }

    fn set_slice(&mut self, key: &SliceKey, slice: Option<&Arc<Slice>>) {
        let owner = |service: &Arc<str>| ServiceKey {
            namespace: Arc::clone(&key.namespace),
            name: Arc::clone(service),
        };
        let before = self.owners.get(key).map(owner);
        let after = slice.map(|slice| owner(&slice.service));
        if let Some(service) = &before {
            let old = self
                .slices
                .get_mut(service)
                .and_then(|slices| slices.remove(&key.name));
            let others = self.slices.get(service);
            let elsewhere: HashSet<IpAddr> = others
                .into_iter()
                .flat_map(BTreeMap::values)
                .flat_map(|slice| slice.endpoints.iter().map(|endpoint| endpoint.address))
                .collect();
            for endpoint in old.iter().flat_map(|slice| &slice.endpoints) {
                if !elsewhere.contains(&endpoint.address) {
                    remove(&mut self.endpoints, endpoint.address, service);
                }
            }
            if others.is_some_and(BTreeMap::is_empty) {
                self.slices.remove(service);
            }
        }
        if let (Some(service), Some(slice)) = (&after, slice) {
            let shared = Arc::new(service.clone());
            for endpoint in &slice.endpoints {
                insert(&mut self.endpoints, endpoint.address, &shared);
            }
            self.slices
                .entry(service.clone())
                .or_default()
                .insert(Arc::clone(&key.name), Arc::clone(slice));
            self.owners.insert(key.clone(), Arc::clone(&slice.service));
        } else {
            self.owners.remove(key);
        }
    }
}

/// Whether the plane has yet to hear of an address that the Service's name would give out.
fn is_new(published: Option<&Service>, service: &Service) -> bool {
    let known = published.map_or(&[][..], |service| service.cluster_ips.all());
    audience::proxy(service).is_ok()
        && service
            .cluster_ips
            .all()
            .iter()
            .any(|address| !known.contains(address))
}

impl Owners {
    fn all(&self) -> &[Arc<ServiceKey>] {
        match self {
            Self::One(owner) => std::slice::from_ref(owner),
            Self::Many(owners) => owners,
        }
    }
}

fn insert(map: &mut HashMap<IpAddr, Owners>, address: IpAddr, owner: &Arc<ServiceKey>) {
    match map.get_mut(&address) {
        None => {
            map.insert(address, Owners::One(Arc::clone(owner)));
        }
        Some(owners) if owners.all().contains(owner) => {}
        Some(Owners::Many(owners)) => owners.push(Arc::clone(owner)),
        Some(one) => {
            let both = vec![Arc::clone(&one.all()[0]), Arc::clone(owner)];
            *one = Owners::Many(Box::new(both));
        }
    }
}

fn remove(map: &mut HashMap<IpAddr, Owners>, address: IpAddr, owner: &ServiceKey) {
    match map.get_mut(&address) {
        Some(Owners::One(one)) if **one == *owner => {
            map.remove(&address);
        }
        Some(Owners::Many(owners)) => {
            owners.retain(|other| **other != *owner);
            if let [last] = &owners[..] {
                let last = Arc::clone(last);
                map.insert(address, Owners::One(last));
            }
        }
        Some(Owners::One(_)) | None => {}
    }
}
