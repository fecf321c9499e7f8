//! Interpolation methods by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::great_circle::GreatCircle;
use super::interpolator::Interpolator;
use super::linear::Linear;
use super::nearest::Nearest;
use super::pchip::Pchip;
use super::previous::Previous;
use super::room;
use super::time_weighted_mean::TimeWeightedMean;
use crate::schema::{Problem, RecordsConfig, Schema, SignalConfig};

/// The methods that a schema can name; the built-in ones by default.
#[derive(Debug, Clone)]
pub struct Methods(BTreeMap<String, Arc<dyn Interpolator>>);

impl Default for Methods {
    fn default() -> Self {
        let mut methods = Self::empty();
        methods.register("great_circle", Arc::new(GreatCircle));
        methods.register("linear", Arc::new(Linear));
        methods.register("nearest", Arc::new(Nearest));
        methods.register("pchip", Arc::new(Pchip));
        methods.register("previous", Arc::new(Previous));
        methods.register("time_weighted_mean", Arc::new(TimeWeightedMean));
        methods
    }
}

impl Methods {
    /// No method at all.
    pub fn empty() -> Self {
        Self(BTreeMap::new())
    }

    /// Adds a method, or replaces the one of that name.
    pub fn register(&mut self, name: &str, method: Arc<dyn Interpolator>) {
        self.0.insert(name.to_owned(), method);
    }

    /// The method of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn Interpolator>> {
        self.0.get(name)
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// What [`resolve`](Self::resolve) says of methods that are unknown, of a configuration that is wrong otherwise.
    pub fn unknown_of(&self, config: &RecordsConfig) -> Vec<Problem> {
        let signals = config.signal.iter().enumerate();
        let unknown = signals.filter(|(_, signal)| {
            // An empty name was said already.
            !signal.interpolation.is_empty() && self.get(&signal.interpolation).is_none()
        });
        let problem = |(i, signal): (usize, &SignalConfig)| Problem {
            path: format!("signal[{i}].interpolation"),
            message: self.unknown(&signal.name, &signal.interpolation),
        };
        unknown.map(problem).collect()
    }

    fn unknown(&self, signal: &str, method: &str) -> String {
        let known = self.names().collect::<Vec<_>>().join(", ");
        format!("{method:?} of signal {signal:?} is none of {known}")
    }

    /// The method of each signal of the schema.
    ///
    /// # Errors
    /// Every signal whose method is unknown or can't work on its columns, all at once; and where a signal's
    /// `sampling_period` is known, the bound that leaves no room for what the method needs of it.
    pub fn resolve(&self, schema: &Schema) -> Result<Vec<Arc<dyn Interpolator>>, Vec<Problem>> {
        let mut found = Vec::new();
        let mut problems = Vec::new();
        for (i, signal) in schema.signals().iter().enumerate() {
            let (name, method) = (&signal.name, &signal.interpolation);
            let problem = match self.get(method) {
                None => self.unknown(name, method),
                Some(known) => match known.check_columns(signal.columns.len()) {
                    Ok(()) => {
                        found.push(Arc::clone(known));
                        continue;
                    }
                    Err(need) => {
                        format!("{method:?} {need}, and signal {name:?} has {}", signal.columns.len())
                    }
                },
            };
            problems.push(Problem { path: format!("signal[{i}].interpolation"), message: problem });
        }
        if problems.is_empty() {
            problems = room::check(schema, &found);
        }
        if problems.is_empty() { Ok(found) } else { Err(problems) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_methods_and_wrong_columns_are_named_all_at_once() {
        let mut config = RecordsConfig::default();
        config.signal[0].columns.pop();
        config.signal[1].interpolation = "cubic".to_owned();
        let schema = config.build().unwrap();
        let problems = Methods::default().resolve(&schema).unwrap_err();
        let said: Vec<_> = problems.iter().map(ToString::to_string).collect();
        let columns = "signal[0].interpolation: \"great_circle\" needs two columns, latitude and \
                       longitude, and signal \"position\" has 1";
        let unknown = "signal[1].interpolation: \"cubic\" of signal \"speed\" is none of great_circle, \
                       linear, nearest, pchip, previous, time_weighted_mean";
        assert_eq!(said, [columns, unknown]);
    }

    #[test]
    fn a_method_can_be_added() {
        let mut config = RecordsConfig::default();
        config.signal[1].interpolation = "mine".to_owned();
        let schema = config.build().unwrap();
        let mut methods = Methods::default();
        assert!(methods.resolve(&schema).is_err());
        methods.register("mine", Arc::new(Linear));
        assert_eq!(methods.resolve(&schema).unwrap().len(), 4);
    }
}
