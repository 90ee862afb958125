//! What is stored: keys, values, and what a plan does to them.

use std::fmt;
use std::sync::Arc;

/// A value of the store: opaque to it but for its bytes.
pub trait Value: Send + Sync + Sized + 'static {
    /// The bytes to keep. Called on the writer thread, once per write.
    fn encode(&self) -> Vec<u8>;

    /// The value of bytes that [`Value::encode`] made, perhaps in an earlier version of the program.
    ///
    /// Called for every object when the store opens, on several threads.
    ///
    /// # Errors
    /// What is wrong with the bytes, in words; the store adds the file and the object.
    fn decode(key: &Key, bytes: &[u8]) -> Result<Self, String>;
}

/// Bytes as they are: the value type of the tools, which need not know what is stored.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Raw(pub Vec<u8>);

impl Value for Raw {
    fn encode(&self) -> Vec<u8> {
        self.0.clone()
    }

    fn decode(_key: &Key, bytes: &[u8]) -> Result<Self, String> {
        Ok(Self(bytes.to_vec()))
    }
}

/// Names an object. Ordered by kind, then namespace, then name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Key {
    /// `services`, or `discovery.k8s.io/endpointslices` with an API group.
    pub kind: Arc<str>,
    /// Empty for a kind without namespaces.
    pub namespace: Arc<str>,
    /// Unique within kind and namespace.
    pub name: Arc<str>,
}

impl Key {
    /// A key of its parts; `namespace` is empty for a kind without namespaces.
    pub fn new(
        kind: impl Into<Arc<str>>,
        namespace: impl Into<Arc<str>>,
        name: impl Into<Arc<str>>,
    ) -> Self {
        Self {
            kind: kind.into(),
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

/// `services default/web`, or `nodes node-1`.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.namespace {
            "" => write!(f, "{} {}", self.kind, self.name),
            namespace => write!(f, "{} {namespace}/{}", self.kind, self.name),
        }
    }
}

/// One operation of a plan.
#[derive(Clone, Debug)]
pub enum Op<V> {
    /// Creates the object, or replaces it.
    Put {
        /// Which object.
        key: Key,
        /// Its new state.
        value: V,
    },
    /// Removes an object that is there.
    Delete {
        /// Which object.
        key: Key,
        /// Its final state, stamped with the revision of the deletion: what watchers are shown.
        last: V,
    },
}

impl<V> Op<V> {
    /// The object that this operation touches.
    pub fn key(&self) -> &Key {
        match self {
            Self::Put { key, .. } | Self::Delete { key, .. } => key,
        }
    }
}

/// What a transaction wants done, and what to answer once it is.
///
/// Without operations nothing is written, no revision is used, and the answer speaks of the snapshot. A plan touches an
/// object at most once, and deletes only what is there; one that breaks this is refused whole.
#[derive(Debug)]
pub struct Plan<V, R> {
    /// The operations: all of them, or none. All get the same revision.
    pub ops: Vec<Op<V>>,
    /// Handed to `done` with the revision.
    pub answer: R,
}

/// A plan that was carried out: durable, and visible to everybody.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Committed<R> {
    /// The revision of the plan's operations; of the snapshot it ran on, if it had none.
    pub revision: u64,
    /// The plan's answer.
    pub answer: R,
}

/// An object in a snapshot.
#[derive(Debug)]
pub struct Entry<V> {
    /// Its state.
    pub value: Arc<V>,
    /// The revision that created it.
    pub created: u64,
    /// The revision that last changed it.
    pub revision: u64,
}

impl<V> Clone for Entry<V> {
    fn clone(&self) -> Self {
        Self {
            value: Arc::clone(&self.value),
            created: self.created,
            revision: self.revision,
        }
    }
}

/// What happened to an object.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum What {
    /// It was not there before.
    Added,
    /// It was there with another state.
    Modified,
    /// It is gone.
    Deleted,
}

/// One durable change.
#[derive(Debug)]
pub struct Change<V> {
    /// The revision of its transaction; several changes of one transaction share it.
    pub revision: u64,
    /// The object.
    pub key: Key,
    /// What happened to it.
    pub what: What,
    /// The new state; the final one of a deleted object.
    pub value: Arc<V>,
    /// The state before, unless the object is new: selectors need it.
    pub previous: Option<Arc<V>>,
}
