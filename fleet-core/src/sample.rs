//! Samples: what decoders make of messages and the aligner makes rows of.

use crate::time::Micros;

/// The samples of one message, all of one signal, in a buffer that is cleared and used again.
///
/// Values lie in one array with a stride of the signal's column count.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Samples {
    columns: usize,
    times: Vec<Micros>,
    values: Vec<f64>,
}

impl Samples {
    /// An empty buffer for samples of `columns` values each.
    pub fn new(columns: usize) -> Self {
        Self { columns, ..Self::default() }
    }

    /// Empties the buffer and sets how many values a sample has; keeps the memory.
    pub fn reset(&mut self, columns: usize) {
        self.columns = columns;
        self.times.clear();
        self.values.clear();
    }

    /// Appends a sample: its event time and one value per column.
    ///
    /// # Panics
    /// In debug builds, if `values` has another length than the signal has columns.
    #[inline(always)]
    pub fn push(&mut self, time: Micros, values: &[f64]) {
        debug_assert_eq!(values.len(), self.columns);
        self.times.push(time);
        // One by one: to copy so few costs less than the call of a copy.
        for value in values {
            self.values.push(*value);
        }
    }

    /// Keeps the samples for which `keep` says so, in their order; allocates nothing.
    pub fn retain(&mut self, mut keep: impl FnMut(Micros, &[f64]) -> bool) {
        let stride = self.columns;
        let mut kept = 0;
        for i in 0..self.times.len() {
            let row = i * stride..(i + 1) * stride;
            let Some(values) = self.values.get(row.clone()) else { break };
            if !keep(self.times[i], values) {
                continue;
            }
            if kept < i {
                self.times[kept] = self.times[i];
                self.values.copy_within(row, kept * stride);
            }
            kept += 1;
        }
        self.times.truncate(kept);
        self.values.truncate(kept * stride);
    }

    /// How many samples there are.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// The sample, if there is just one.
    pub(crate) fn only(&self) -> Option<(Micros, &[f64])> {
        if let [time] = *self.times { Some((time, &self.values)) } else { None }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// How many values each sample has.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Each sample's event time and values, in the order in which they were pushed.
    pub fn iter(&self) -> impl Iterator<Item = (Micros, &[f64])> {
        let mut rest = &*self.values;
        self.times.iter().map(move |&time| {
            let (values, after) = rest.split_at_checked(self.columns).unwrap_or_default();
            rest = after;
            (time, values)
        })
    }
}

/// The newest sample of each signal of a vehicle.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NewestSamples {
    /// Per signal of the schema its event time; `None` where no sample is known.
    pub times: Vec<Option<Micros>>,
    /// A value per column of the schema.
    pub values: Vec<Option<f64>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retain_keeps_order_and_pairs() {
        let mut samples = Samples::new(2);
        for i in 0..6 {
            samples.push(i, &[i as f64, -(i as f64)]);
        }
        samples.retain(|t, values| t % 2 == 1 && values[0] < 5.0);
        let left: Vec<_> = samples.iter().map(|(t, v)| (t, v.to_vec())).collect();
        assert_eq!(left, [(1, vec![1.0, -1.0]), (3, vec![3.0, -3.0])]);
        samples.retain(|_, _| false);
        assert!(samples.is_empty());
        assert_eq!(samples.columns(), 2);
    }
}
