//! The one fact that the parts of an agent share about the data plane.

use tokio::sync::watch;

/// How far the data plane of this host has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaneStatus {
    /// No data plane runs here: nobody has to wait for one.
    NoPlane,
    /// There is one, and it has committed nothing of this feed yet.
    Starting,
    /// The kernel holds everything up to this batch ([`crate::Batch::number`]).
    Committed {
        /// The batch's number.
        generation: u64,
    },
}

impl PlaneStatus {
    /// Whether what came with batch `number` may be told to others: the plane has it, or there is none.
    ///
    /// ```
    /// use daymark_feed::PlaneStatus;
    /// assert!(PlaneStatus::NoPlane.holds(7));
    /// assert!(PlaneStatus::Committed { generation: 7 }.holds(7));
    /// assert!(!PlaneStatus::Starting.holds(1));
    /// ```
    #[must_use]
    pub fn holds(self, number: u64) -> bool {
        match self {
            Self::NoPlane => true,
            Self::Starting => false,
            Self::Committed { generation } => generation >= number,
        }
    }
}

/// The data plane's end of the channel.
pub type PlaneSender = watch::Sender<PlaneStatus>;
/// The end of those who wait for the plane.
pub type PlaneReceiver = watch::Receiver<PlaneStatus>;

/// A channel that starts at `status`.
#[must_use]
pub fn plane_channel(status: PlaneStatus) -> (PlaneSender, PlaneReceiver) {
    watch::channel(status)
}
