//! The same permissions in NATS's operator mode, for fleets whose vehicles are too many for a file: a
//! scoped key signs each vehicle's JWT, and its template says what the vehicle may do.

use async_nats::ConnectOptions;
use async_nats::jetstream;
use fleet_core::nats::{Access, Names};
use fleet_core::{Schema, VehicleId};
use fleet_worker::local::NatsServer;
use nkeys::KeyPair;
use serde_json::{Value, json};

use super::forgery::{attack, harm};
use super::guarded::{connect, streams};
use crate::sensor_c::login::{account_jwt, creds, jwt, jwt_of};

/// What every vehicle may do, in the words of a template: those of a vehicle whose cell and id stand for
/// themselves.
fn template() -> Value {
    let names = Names::new(&"CELL".parse().unwrap());
    let access = Access::vehicle(&names, &Schema::default(), &VehicleId::new("VIN").unwrap());
    let of = |subjects: &[String]| -> Vec<String> {
        let put =
            |subject: &String| subject.replace(".CELL.", ".{{tag(cell)}}.").replace("VIN", "{{name()}}");
        subjects.iter().map(put).collect()
    };
    json!({"pub": {"allow": of(&access.publish)}, "sub": {"allow": of(&access.subscribe)},
           "subs": -1, "data": -1, "payload": -1})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scoped_key_gives_each_vehicle_its_own_subjects() {
    let [operator, system, fleet, vehicles] =
        [KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_account(), KeyPair::new_account()];
    let scope = KeyPair::new_account();
    let own = jwt(&operator, &operator.public_key(), json!({"type": "operator", "version": 2}));
    let service = json!({"name": "fleet", "subject": "fleet.>", "type": "service"});
    let mut import = service.clone();
    import["account"] = fleet.public_key().into();
    let signing =
        json!([{"kind": "user_scope", "key": scope.public_key(), "role": "vehicle", "template": template()}]);
    let accounts = [
        (&system, account_jwt(&operator, &system, 0, json!({}))),
        (&fleet, account_jwt(&operator, &fleet, -1, json!({"exports": [service]}))),
        (
            &vehicles,
            account_jwt(&operator, &vehicles, 0, json!({"imports": [import], "signing_keys": signing})),
        ),
    ];
    let accounts: Vec<String> =
        accounts.iter().map(|(key, jwt)| format!("{}: {jwt}", key.public_key())).collect();
    let server = NatsServer::builder().config(&format!(
        "operator: {own}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{ {} }}",
        system.public_key(),
        accounts.join(", "),
    ));
    let server = server.start().await.unwrap();

    let key = KeyPair::new_user();
    let limits = json!({"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1});
    let ops = creds(&jwt(&fleet, &key.public_key(), limits), &key);
    let ops = ConnectOptions::with_credentials(&ops).unwrap();
    let js = jetstream::new(ops.connect(server.url()).await.unwrap());
    streams(&js).await;

    // What the factory writes into a vehicle; the server learns nothing new.
    let key = KeyPair::new_user();
    let user =
        json!({"type": "user", "version": 2, "issuer_account": vehicles.public_key(), "tags": ["cell:0"]});
    let login = creds(&jwt_of(&scope, &key.public_key(), "CAR-1", user), &key);
    let options = ConnectOptions::with_credentials(&login).unwrap().custom_inbox_prefix("_INBOX.CAR-1");
    let (car, refusals) = connect(options, &server.url()).await.unwrap();
    attack(&car, true).await;
    assert_eq!(harm(&js).await, [""; 0]);
    for subject in ["fleet.0.CAR-2.speed", "fleet.1.CAR-1.speed", "fleet.0.CAR-1.doors", "$JS.API.INFO"] {
        car.publish(subject, "x".into()).await.unwrap();
        refusals.of("Publish", subject).await;
    }
    for subject in ["fleet.>", "_INBOX.>", "_INBOX.CAR-2.>"] {
        drop(car.subscribe(subject).await.unwrap());
        refusals.of("Subscription", subject).await;
    }
}
