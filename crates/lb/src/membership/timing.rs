//! How often Leases are renewed, and when they lapse.

use std::time::Duration;

use thiserror::Error;

/// How often a Lease is renewed and when it lapses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    pub(super) renew: Duration,
    pub(super) lapse: Duration,
}

/// Why a [`Timing`] is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TimingError {
    /// A Lease counts whole seconds.
    #[error(
        "the Lease duration is {0:?}, but a Lease counts whole seconds from 1 to 3600: round it"
    )]
    NotSeconds(Duration),
    /// One late renewal would lose every address.
    #[error(
        "renewing each {renew:?} is too seldom for a Lease of {lapse:?}: renew at least three times in it"
    )]
    TooSeldom {
        /// The time between renewals.
        renew: Duration,
        /// The Lease's duration.
        lapse: Duration,
    },
}

impl Default for Timing {
    /// Renewed each second, lapsed after three.
    fn default() -> Self {
        Self {
            renew: Duration::from_secs(1),
            lapse: Duration::from_secs(3),
        }
    }
}

impl Timing {
    /// Renew each `renew`; a Lease not renewed for `lapse` has lapsed.
    ///
    /// # Errors
    /// When `lapse` is not 1 to 3600 whole seconds, or less than three times `renew`.
    pub fn new(renew: Duration, lapse: Duration) -> Result<Self, TimingError> {
        if lapse.subsec_nanos() != 0 || !(1..=3600).contains(&lapse.as_secs()) {
            return Err(TimingError::NotSeconds(lapse));
        }
        if renew.is_zero() || renew.saturating_mul(3) > lapse {
            return Err(TimingError::TooSeldom { renew, lapse });
        }
        Ok(Self { renew, lapse })
    }

    /// The time between renewals.
    #[must_use]
    pub fn renew(self) -> Duration {
        self.renew
    }

    /// The Lease's duration.
    #[must_use]
    pub fn lapse(self) -> Duration {
        self.lapse
    }

    /// How long after a renewal this agent may answer: half a renewal less than others wait. The margin is for
    /// clocks that run at different speeds and threads that wake late.
    #[must_use]
    pub fn fence(self) -> Duration {
        self.lapse - self.renew / 2
    }
}
