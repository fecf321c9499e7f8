//! The least that each program and each vehicle needs at the server (docs/SECURITY.md).

use super::Names;
use crate::ids::VehicleId;
use crate::schema::Schema;

/// Subjects that somebody may publish to and subscribe to, and no others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// What may be published to.
    pub publish: Vec<String>,
    /// What may be subscribed to.
    pub subscribe: Vec<String>,
}

impl Access {
    /// `setup` of a cell: makes and updates its streams and consumers, and can't empty or delete them.
    pub fn setup(names: &Names) -> Self {
        let streams = [
            names.telemetry_stream(),
            names.lifecycle_stream(),
            names.bind_stream(),
            names.dead_letter_stream(),
        ];
        let words = ["INFO", "CREATE", "UPDATE"];
        let api = |word: &&str| streams.each_ref().map(|stream| format!("$JS.API.STREAM.{word}.{stream}"));
        let mut publish: Vec<String> = words.iter().flat_map(api).collect();
        let (workers, discovery) = (Names::WORKERS, Names::DISCOVERY);
        publish.push(format!("$JS.API.CONSUMER.INFO.{}.{workers}", names.bind_stream()));
        publish.push(format!("$JS.API.CONSUMER.CREATE.{}.{workers}", names.bind_stream()));
        let (stream, filter) = (names.lifecycle_stream(), names.all("on"));
        publish.push(format!("$JS.API.CONSUMER.INFO.{stream}.{discovery}"));
        publish.push(format!("$JS.API.CONSUMER.CREATE.{stream}.{discovery}.{filter}"));
        Self { publish, subscribe: vec![inbox(&names.connection("setup"))] }
    }

    /// Vehicle Discovery of a cell.
    pub fn discovery(names: &Names) -> Self {
        let mut publish = reads(&names.lifecycle_stream(), Names::DISCOVERY);
        publish.extend(direct_gets(&names.lifecycle_stream()));
        publish.push(format!("$JS.API.CONSUMER.INFO.{}.{}", names.bind_stream(), Names::WORKERS));
        publish.extend([names.all_binds(), names.checkpoint()]);
        let mut subscribe = vec![inbox(&names.connection("discovery"))];
        subscribe.extend(names.strays());
        Self { publish, subscribe }
    }

    /// A worker of a cell.
    pub fn worker(names: &Names) -> Self {
        let telemetry = names.telemetry_stream();
        let mut publish = reads(&names.bind_stream(), Names::WORKERS);
        publish.extend(
            [names.lifecycle_stream(), telemetry.clone()].iter().flat_map(|stream| direct_gets(stream)),
        );
        publish.push(format!("$JS.API.STREAM.INFO.{telemetry}"));
        // A message that can't be read is asked for in a form that can.
        publish.push(format!("$JS.API.STREAM.MSG.GET.{telemetry}"));
        for word in ["CREATE", "MSG.NEXT", "DELETE"] {
            publish.push(format!("$JS.API.CONSUMER.{word}.{telemetry}.*"));
        }
        publish.extend([names.all_binds(), names.claim(), names.fence(), names.all_dead_letters()]);
        let mut subscribe = vec![names.all("*"), names.claim()];
        subscribe.extend(["live", "catch-up", "binder"].map(|part| inbox(&names.connection(part))));
        Self { publish, subscribe }
    }

    /// A vehicle: the literal subjects of its own id, and its own inboxes.
    pub fn vehicle(names: &Names, schema: &Schema, vehicle: &VehicleId) -> Self {
        let publish = words(schema).map(|word| names.subject(vehicle, word)).collect();
        Self { publish, subscribe: vec![inbox(vehicle.as_str())] }
    }

    /// `simulate`: every vehicle of a cell on one connection. For trials.
    pub fn simulation(names: &Names, schema: &Schema) -> Self {
        let publish = words(schema).map(|word| names.all(word)).collect();
        Self { publish, subscribe: vec![inbox(&names.connection("simulate"))] }
    }
}

fn words(schema: &Schema) -> impl Iterator<Item = &str> {
    schema.signals().iter().map(|signal| signal.name.as_str()).chain(["on", "off"])
}

/// Reading and acknowledging with a durable pull consumer.
fn reads(stream: &str, consumer: &str) -> Vec<String> {
    vec![
        format!("$JS.API.CONSUMER.INFO.{stream}.{consumer}"),
        format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"),
        format!("$JS.ACK.{stream}.{consumer}.>"),
    ]
}

/// Of many subjects at once and of each alone.
fn direct_gets(stream: &str) -> [String; 2] {
    let subject = format!("$JS.API.DIRECT.GET.{stream}");
    [format!("{subject}.>"), subject]
}

/// What comes back to whoever has that name.
fn inbox(name: &str) -> String {
    format!("_INBOX.{name}.>")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::CellId;

    #[test]
    fn a_vehicle_has_literal_subjects_of_its_own() {
        let names = Names::new(&CellId::new("7").unwrap());
        let access = Access::vehicle(&names, &Schema::default(), &VehicleId::new("VIN1").unwrap());
        let subjects =
            ["position", "speed", "fuel", "brake", "on", "off"].map(|w| format!("fleet.7.VIN1.{w}"));
        assert_eq!(access.publish, subjects);
        assert_eq!(access.subscribe, ["_INBOX.VIN1.>"]);
    }

    #[test]
    fn no_program_may_touch_another_cell_or_empty_a_stream() {
        let names = Names::new(&CellId::new("7").unwrap());
        for access in [Access::setup(&names), Access::discovery(&names), Access::worker(&names)] {
            for subject in access.publish.iter().chain(&access.subscribe) {
                assert!(subject.contains('7'), "{subject}");
                assert!(!subject.contains("PURGE") && !subject.contains("STREAM.DELETE"), "{subject}");
            }
        }
    }
}
