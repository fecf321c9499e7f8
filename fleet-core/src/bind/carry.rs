//! What a holder that ends leaves to the next one, so that nothing has to be replayed.

use crate::hash::Fnv;
use crate::ids::VehicleId;
use crate::time::Micros;

const VERSION: u8 = 1;

/// A vehicle's samples and how far its rows have gone, at a hand-over.
///
/// A holder that is shut down saves it with the state, once the rows that it takes for emitted are durable, and does
/// nothing more for the vehicle. The next claim takes it, and no later one finds it. To other holders it is of no
/// use: what they can't read they replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carry {
    /// Everything that was stored before this server time is in it.
    pub until: Micros,
    /// The aligner's own bytes.
    pub track: Vec<u8>,
}

impl Carry {
    /// As a store keeps it: a version, the epoch of the claim that it was saved under, `until` (all little-endian),
    /// the vehicle's name with its length before it, the track, and FNV-1a of all that.
    pub fn to_bytes(&self, vehicle: &VehicleId, epoch: i32) -> Vec<u8> {
        let name = vehicle.as_str().as_bytes();
        let mut bytes = Vec::with_capacity(22 + name.len() + self.track.len());
        bytes.push(VERSION);
        bytes.extend(epoch.to_le_bytes());
        bytes.extend(self.until.to_le_bytes());
        bytes.extend(u8::try_from(name.len()));
        bytes.extend(name);
        bytes.extend(&self.track);
        bytes.extend(Fnv::of(&bytes).to_le_bytes());
        bytes
    }

    /// What [`to_bytes`](Self::to_bytes) has made for this vehicle, if it was saved under the last claim, of this epoch:
    /// a program that knows nothing of carries may have claimed the vehicle since, and leaves them where they are.
    pub fn from_bytes(bytes: &[u8], vehicle: &VehicleId, epoch: i32) -> Option<Self> {
        let (bytes, hash) = bytes.split_last_chunk()?;
        let is_whole = Fnv::of(bytes) == u64::from_le_bytes(*hash);
        let (&version, bytes) = bytes.split_first()?;
        let (saved_under, bytes) = bytes.split_first_chunk()?;
        let (until, bytes) = bytes.split_first_chunk()?;
        let (&length, bytes) = bytes.split_first()?;
        let (name, track) = bytes.split_at_checked(usize::from(length))?;
        let is_last = is_whole
            && version == VERSION
            && i32::from_le_bytes(*saved_under) == epoch
            && name == vehicle.as_str().as_bytes();
        is_last.then(|| Self { until: Micros::from_le_bytes(*until), track: track.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_of_the_vehicle_and_the_claim_that_it_was_saved_under() {
        let (vehicle, other) = (VehicleId::new("V1").unwrap(), VehicleId::new("V2").unwrap());
        let carry = Carry { until: -5, track: vec![1, 2, 3] };
        let bytes = carry.to_bytes(&vehicle, 7);
        assert_eq!(Carry::from_bytes(&bytes, &vehicle, 7), Some(carry));
        assert_eq!(Carry::from_bytes(&bytes, &vehicle, 8), None);
        assert_eq!(Carry::from_bytes(&bytes, &other, 7), None);
        let mut later = [&[VERSION + 1], &bytes[1..bytes.len() - 8]].concat();
        later.extend(Fnv::of(&later).to_le_bytes());
        assert_eq!(Carry::from_bytes(&later, &vehicle, 7), None, "of a newer program");
    }

    #[test]
    fn one_that_has_come_to_harm_is_none() {
        let vehicle = VehicleId::new("V1").unwrap();
        let bytes = Carry { until: 1, track: vec![1, 2, 3] }.to_bytes(&vehicle, 7);
        assert!((0..bytes.len()).all(|len| Carry::from_bytes(&bytes[..len], &vehicle, 7).is_none()));
        for bit in 0..8 * bytes.len() {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Carry::from_bytes(&bytes, &vehicle, 7), None, "bit {bit}");
        }
    }
}
