//! A column's number on the wire: a little-endian integer times a scale.

/// 2^21: a count of 32 bits times this is still exact in an `f64`.
const MAX_NUMERATOR: f64 = 2_097_152.0;

/// How a column's value travels in a frame: a little-endian integer, the count, times a scale.
///
/// A scale such as 0.01 has no exact `f64`, so counts are not multiplied by it. The scale is taken
/// as the fraction that it was written as (1/100, 3/10, 5/1), and a value is
/// `count × numerator / denominator`: the product is exact and the division rounds once. The result
/// is the `f64` nearest to the decimal number, the same that parsing `"63.21"` gives, and it leads
/// back to the same count. A scale that is no such fraction is multiplied with, which also rounds
/// once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wire {
    /// The integer.
    pub integer: WireInteger,
    scale: f64,
    numerator: f64,
    denominator: f64,
}

impl Wire {
    /// Counts of `integer`, each worth `scale` (finite, above 0) in the column's unit.
    pub fn new(integer: WireInteger, scale: f64) -> Self {
        let (numerator, denominator) = fraction(scale);
        Self { integer, scale, numerator, denominator }
    }

    /// What one count is worth, in the column's unit.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// The value of a count.
    pub fn value(&self, count: i64) -> f64 {
        count as f64 * self.numerator / self.denominator
    }

    /// The count nearest to `value` (half away from zero), if the integer can hold it.
    pub fn count(&self, value: f64) -> Option<i64> {
        let count = (value * self.denominator / self.numerator).round();
        let (min, max) = self.integer.range();
        // NaN and infinities fail the comparison too.
        (count >= min as f64 && count <= max as f64).then_some(count as i64)
    }
}

/// The fraction of small whole numbers that `scale` is the nearest `f64` to, or `scale / 1`.
fn fraction(scale: f64) -> (f64, f64) {
    let inverse = (1.0 / scale).round();
    if (1.0..=1e15).contains(&inverse) && 1.0 / inverse == scale {
        return (1.0, inverse);
    }
    let mut denominator = 1.0;
    while denominator <= 1e15 {
        let numerator = (scale * denominator).round();
        if (1.0..=MAX_NUMERATOR).contains(&numerator) && numerator / denominator == scale {
            return (numerator, denominator);
        }
        denominator *= 10.0;
    }
    (scale, 1.0)
}

/// The integers of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum WireInteger {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
}

impl WireInteger {
    /// Bytes on the wire.
    pub fn width(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 => 4,
        }
    }

    /// The smallest and the largest count.
    pub fn range(self) -> (i64, i64) {
        match self {
            Self::U8 => (0, u8::MAX.into()),
            Self::I8 => (i8::MIN.into(), i8::MAX.into()),
            Self::U16 => (0, u16::MAX.into()),
            Self::I16 => (i16::MIN.into(), i16::MAX.into()),
            Self::U32 => (0, u32::MAX.into()),
            Self::I32 => (i32::MIN.into(), i32::MAX.into()),
        }
    }

    /// Takes a count off the front of `bytes`; `None`, and nothing taken, if they are too few.
    pub fn read(self, bytes: &mut &[u8]) -> Option<i64> {
        Some(match self {
            Self::U8 => u8::from_le_bytes(take(bytes)?).into(),
            Self::I8 => i8::from_le_bytes(take(bytes)?).into(),
            Self::U16 => u16::from_le_bytes(take(bytes)?).into(),
            Self::I16 => i16::from_le_bytes(take(bytes)?).into(),
            Self::U32 => u32::from_le_bytes(take(bytes)?).into(),
            Self::I32 => i32::from_le_bytes(take(bytes)?).into(),
        })
    }

    /// Appends a count that is within [`range`](Self::range); of another one the low bytes.
    pub fn write(self, count: i64, out: &mut Vec<u8>) {
        let bytes = count.to_le_bytes();
        out.extend(bytes.into_iter().take(self.width()));
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const INTEGERS: [WireInteger; 6] = [
        WireInteger::U8,
        WireInteger::I8,
        WireInteger::U16,
        WireInteger::I16,
        WireInteger::U32,
        WireInteger::I32,
    ];

    #[test]
    fn scales_are_the_fractions_that_people_wrote() {
        for (scale, expected) in [
            (1e-7, (1.0, 1e7)),
            (0.01, (1.0, 100.0)),
            (0.05, (1.0, 20.0)),
            (1.0, (1.0, 1.0)),
            (5.0, (5.0, 1.0)),
            (0.3, (3.0, 10.0)),
            (1.0 / 3.0, (1.0, 3.0)),
            (0.015625, (1.0, 64.0)),
            (std::f64::consts::PI, (std::f64::consts::PI, 1.0)),
        ] {
            assert_eq!(fraction(scale), expected, "{scale}");
        }
    }

    #[test]
    fn every_count_of_the_scenario_is_the_nearest_to_its_decimal() {
        for (integer, digits) in [(WireInteger::U16, 2), (WireInteger::I16, 1)] {
            let ten = 10_i64.pow(digits);
            let wire = Wire::new(integer, 1.0 / ten as f64);
            let (min, max) = integer.range();
            for count in min..=max {
                let sign = if count < 0 { "-" } else { "" };
                let (whole, rest) = (count.abs() / ten, count.abs() % ten);
                let text = format!("{sign}{whole}.{rest:0width$}", width = digits as usize);
                assert_eq!(wire.value(count), text.parse::<f64>().unwrap(), "{text}");
            }
        }
    }

    #[test]
    fn what_does_not_fit_has_no_count() {
        let speed = Wire::new(WireInteger::U16, 0.01);
        assert_eq!(speed.count(655.354), Some(65_535));
        assert_eq!(speed.count(-0.004), Some(0));
        for value in [655.36, -0.01, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX] {
            assert_eq!(speed.count(value), None, "{value}");
        }
    }

    proptest! {
        #[test]
        fn a_count_comes_back(
            integer in prop::sample::select(&INTEGERS[..]),
            seed in any::<i64>(),
            scale in prop_oneof![
                prop::sample::select(&[1e-7, 1e-6, 0.01, 0.1, 0.3, 0.25, 1.0, 7.0, 1.0 / 3.0, 0.007][..]),
                1e-12..1e12_f64,
            ],
        ) {
            let wire = Wire::new(integer, scale);
            let (min, max) = integer.range();
            let count = min + seed.rem_euclid(max - min + 1);
            prop_assert_eq!(wire.count(wire.value(count)), Some(count));
            let mut bytes = Vec::new();
            integer.write(count, &mut bytes);
            prop_assert_eq!(bytes.len(), integer.width());
            prop_assert_eq!(integer.read(&mut bytes.as_slice()), Some(count));
        }

        #[test]
        fn degrees_are_the_nearest_to_their_decimal(count in any::<i32>()) {
            let wire = Wire::new(WireInteger::I32, 1e-7);
            let text = format!("{count}e-7");
            prop_assert_eq!(wire.value(count.into()), text.parse::<f64>().unwrap());
        }
    }
}
