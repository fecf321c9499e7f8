//! The newest samples of vehicles, for people who look.

use std::future::Future;

use crate::error::Result;
use crate::ids::VehicleId;
use crate::sample::NewestSamples;

/// A vehicle's newest samples, which no record may have yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Newest {
    /// The vehicle.
    pub vehicle: VehicleId,
    /// The claim under which it is held; a newer claim makes it void.
    pub epoch: i32,
    /// Its samples.
    pub samples: NewestSamples,
}

/// Keeps the newest samples of vehicles where people look.
///
/// Nothing hangs on it: what is lost here comes again with the vehicle's next sample or its next state.
pub trait NewestStore: Send + Sync + 'static {
    /// Stores samples that are newer than the stored ones, of vehicles whose claims are the newest. It waits for nobody
    /// and holds nobody up; the answer is the vehicles that others were writing to, to be given again.
    ///
    /// # Errors
    /// None of them may be stored; give them again.
    fn show(&self, newest: &[Newest]) -> impl Future<Output = Result<Vec<VehicleId>>> + Send;
}
