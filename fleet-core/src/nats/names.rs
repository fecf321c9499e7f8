//! Subjects, streams and consumers of a cell, in one place.

use crate::ids::{CellId, VehicleId};
use crate::schema::Schema;

/// Every NATS name of a cell.
#[derive(Debug, Clone)]
pub struct Names {
    cell: CellId,
    prefix: String,
}

impl Names {
    /// The names of `cell`.
    pub fn new(cell: &CellId) -> Self {
        Self { cell: cell.clone(), prefix: format!("fleet.{cell}.") }
    }

    /// The cell.
    pub fn cell(&self) -> &CellId {
        &self.cell
    }

    /// The stream that keeps every sample.
    pub fn telemetry_stream(&self) -> String {
        format!("TELEMETRY_{}", self.cell)
    }

    /// The stream that keeps the last `on` and `off` of every vehicle.
    pub fn lifecycle_stream(&self) -> String {
        format!("LIFECYCLE_{}", self.cell)
    }

    /// The work queue of bind requests.
    pub fn bind_stream(&self) -> String {
        format!("BINDINGS_{}", self.cell)
    }

    /// The stream of what could not be used.
    pub fn dead_letter_stream(&self) -> String {
        format!("DEADLETTER_{}", self.cell)
    }

    /// The workers' durable consumer on the bind queue. KEDA reads it.
    pub const WORKERS: &str = "workers";

    /// Discovery's durable consumer on the lifecycle stream.
    pub const DISCOVERY: &str = "discovery";

    /// `fleet.<cell>.<vehicle>.<last>`.
    pub fn subject(&self, vehicle: &VehicleId, last: &str) -> String {
        let mut subject = String::new();
        self.write_subject(vehicle, last, &mut subject);
        subject
    }

    /// Makes a text that is used again the [`subject`](Self::subject).
    pub fn write_subject(&self, vehicle: &VehicleId, last: &str, out: &mut String) {
        out.clear();
        for part in [&self.prefix, vehicle.as_str(), ".", last] {
            out.push_str(part);
        }
    }

    /// `fleet.<cell>.<vehicle>.*`: all of a vehicle.
    pub fn vehicle(&self, vehicle: &VehicleId) -> String {
        self.subject(vehicle, "*")
    }

    /// `fleet.<cell>.*.<last>`: one kind of message of all vehicles.
    pub fn all(&self, last: &str) -> String {
        format!("{}*.{last}", self.prefix)
    }

    /// The telemetry stream's subjects.
    pub fn telemetry_subjects(&self, schema: &Schema) -> Vec<String> {
        let signals = schema.signals().iter().map(|s| self.all(&s.name));
        signals.chain([self.fence()]).collect()
    }

    /// The lifecycle stream's subjects.
    pub fn lifecycle_subjects(&self) -> Vec<String> {
        vec![self.all("on"), self.all("off"), self.checkpoint()]
    }

    /// Where discovery says up to when it has dealt with all `on` signals.
    pub fn checkpoint(&self) -> String {
        format!("checkpoint.{}", self.cell)
    }

    /// The subject of fences.
    pub fn fence(&self) -> String {
        format!("fence.{}", self.cell)
    }

    /// The subject on which holders of redelivered requests tell older ones.
    pub fn claim(&self) -> String {
        format!("claim.{}", self.cell)
    }

    /// `bind.<cell>.<vehicle>`.
    pub fn bind(&self, vehicle: &VehicleId) -> String {
        format!("bind.{}.{vehicle}", self.cell)
    }

    /// `bind.<cell>.*`.
    pub fn all_binds(&self) -> String {
        format!("bind.{}.*", self.cell)
    }

    /// `deadletter.<cell>.<vehicle>`.
    pub fn dead_letter(&self, vehicle: &VehicleId) -> String {
        format!("deadletter.{}.{vehicle}", self.cell)
    }

    /// `deadletter.<cell>.*`.
    pub fn all_dead_letters(&self) -> String {
        format!("deadletter.{}.*", self.cell)
    }

    /// What discovery listens to for messages that no stream keeps: subjects with fewer or more tokens.
    pub fn strays(&self) -> [String; 3] {
        let prefix = &self.prefix;
        [format!("{prefix}*"), format!("{prefix}*.*.*"), format!("{prefix}*.*.*.>")]
    }

    /// What the cell's connection for `part` is called, `fleet-<part>-<cell>`.
    pub fn connection(&self, part: &str) -> String {
        format!("fleet-{part}-{}", self.cell)
    }

    /// The vehicle and the last token of `fleet.<cell>.<vehicle>.<last>`; `None` for any other
    /// subject, one with five tokens included. The tokens are not validated.
    pub fn parse<'a>(&self, subject: &'a str) -> Option<(&'a str, &'a str)> {
        let (vehicle, last) = subject.strip_prefix(&self.prefix)?.split_once('.')?;
        (!vehicle.is_empty() && !last.is_empty() && !last.contains('.')).then_some((vehicle, last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_have_four_tokens() {
        let names = Names::new(&CellId::new("7").unwrap());
        assert_eq!(names.parse("fleet.7.VIN1.speed"), Some(("VIN1", "speed")));
        for other in ["fleet.7.VIN1.speed.x", "fleet.7.VIN1", "fleet.8.VIN1.speed", "fleet.7..speed", "x"] {
            assert_eq!(names.parse(other), None, "{other}");
        }
        let vehicle = VehicleId::new("VIN1").unwrap();
        assert_eq!(names.parse(&names.subject(&vehicle, "on")), Some(("VIN1", "on")));
    }
}
