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
    pub fn push(&mut self, time: Micros, values: &[f64]) {
        debug_assert_eq!(values.len(), self.columns);
        self.times.push(time);
        self.values.extend_from_slice(values);
    }

    /// How many samples there are.
    pub fn len(&self) -> usize {
        self.times.len()
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
        self.times.iter().copied().zip(self.values.chunks_exact(self.columns.max(1)))
    }
}
