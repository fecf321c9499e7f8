//! Identifiers that come from outside, checked once and carried as types from then on.

use std::fmt;
use std::sync::Arc;

/// An identifier that was refused, with the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value:?} must be {rule}")]
pub struct InvalidId {
    what: &'static str,
    value: String,
    rule: &'static str,
}

fn token(what: &'static str, value: &str, max: usize, rule: &'static str) -> Result<(), InvalidId> {
    let fits = (1..=max).contains(&value.len())
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if fits {
        return Ok(());
    }
    Err(InvalidId { what, value: value.chars().take(80).collect(), rule })
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:literal, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and takes an identifier.
            ///
            /// # Errors
            /// [`InvalidId`] names the value and the rule that it broke.
            pub fn new(value: &str) -> Result<Self, InvalidId> {
                token($what, value, $max, $rule)?;
                Ok(Self(Arc::from(value)))
            }

            /// The identifier's text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidId;
            fn from_str(value: &str) -> Result<Self, InvalidId> {
                Self::new(value)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let value = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                Self::new(&value).map_err(serde::de::Error::custom)
            }
        }
    };
}

id! {
    /// A vehicle: one NATS token, `[A-Za-z0-9_-]{1,64}`, in which a VIN fits.
    VehicleId, "vehicle", 64, "1 to 64 of A-Z a-z 0-9 _ -"
}

id! {
    /// A cell: a group of vehicles that share streams and workers, `[A-Za-z0-9_-]{1,32}`.
    CellId, "cell", 32, "1 to 32 of A-Z a-z 0-9 _ -"
}

impl Default for CellId {
    fn default() -> Self {
        Self(Arc::from("0"))
    }
}

/// A vehicle inside one lane: dense, reused after release, meaningless elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

impl Slot {
    /// The slot with an index.
    pub(crate) fn at(index: usize) -> Self {
        #[allow(clippy::cast_possible_truncation, reason = "fewer than 2^32 vehicles")]
        Self(index as u32)
    }

    /// The slot as an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A signal: its position in the frozen schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SignalIndex(pub u8);

impl SignalIndex {
    /// The signal as an index.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vehicle_is_one_token() {
        assert!(VehicleId::new("WDB9634031L123456").is_ok());
        assert!(VehicleId::new(&"x".repeat(64)).is_ok());
        for bad in ["", "a.b", "a b", "*", ">", "a/b", "ä", "a\n", &"x".repeat(65)] {
            assert!(VehicleId::new(bad).is_err(), "{bad:?} was taken");
        }
        let said = VehicleId::new("a.b").unwrap_err().to_string();
        assert_eq!(said, "vehicle \"a.b\" must be 1 to 64 of A-Z a-z 0-9 _ -");
    }
}
