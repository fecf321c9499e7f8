//! The states of the vehicles, in `vehicle_latest`, and their trips.

use fleet_core::align::MAX_CARRY;
use fleet_core::bind::{
    Carry, Claim, ClaimRequest, LatestRow, StateStore, Stored, TRIP_AHEAD, VehicleState, plan,
};
use fleet_core::error::Result;
use fleet_core::schema::ColumnType;
use fleet_core::time::{Micros, YEAR_2000, YEAR_2200};
use fleet_core::{Error, Schema, VehicleId};
use hashbrown::{HashMap, HashSet};
use tokio::sync::Mutex;
use tokio_postgres::Statement;
use tokio_postgres::types::ToSql;

use super::connect::{Connection, Connector};
use super::layout::{self, Later};
use super::newest::end_to_end;
use super::sql::{self, Has};
use super::value::{Time, micros, times};
use super::vehicles::{VehicleIds, look_up};

/// Vehicles of one statement. Its arrays are cut into pieces by the server, which costs the more the
/// longer they are.
pub(super) const GROUP: usize = 256;

/// Keeps states in `vehicle_latest` and trips in `trip`, over a connection of its own.
///
/// It connects when it must, and again after an error. A call that is dropped half-way closes the
/// connection; nothing of it, or all of it, is stored, and it may be repeated.
pub struct TimescaleStates {
    connector: Connector,
    schema: Schema,
    link: Mutex<Option<Link>>,
}

impl std::fmt::Debug for TimescaleStates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TimescaleStates").field("connector", &self.connector).finish_non_exhaustive()
    }
}

struct Link {
    connection: Connection,
    keeps: Has,
    ids: VehicleIds,
    raise: Statement,
    plan: Statement,
    begin: Statement,
    save: Statement,
    end: Statement,
}

/// Gives the state as it was; its row lock holds off other claims, and merges, until the plan is stored. What is too
/// long for a carry is none, and stays where it is.
fn raise(keeps_carries: bool) -> String {
    let most = MAX_CARRY + 128;
    let carry = if keeps_carries {
        format!("case when octet_length(carry) <= {most} then carry end")
    } else {
        "null::bytea".to_owned()
    };
    format!(
        "insert into vehicle_latest as old (vehicle_id, epoch) \
         select id, 1 from unnest($1::int[]) id order by id \
         on conflict (vehicle_id) do update set epoch = old.epoch + 1 \
         returning vehicle_id, epoch, resume_at, released_at, floor, horizon, newest, {carry}"
    )
}

fn store_plan(keeps_carries: bool) -> String {
    let carry = if keeps_carries { ", carry = null" } else { "" };
    format!(
        "update vehicle_latest as l set resume_at = u.resume_at, released_at = null, \
           horizon = ($3::timestamptz[])[u.first : u.first + u.many - 1]{carry} \
         from unnest($1::int[], $2::timestamptz[], $4::int[], $5::int[]) u(id, resume_at, first, many) \
         where l.vehicle_id = u.id"
    )
}

/// The trip that began then (`$2`), or the newest if that began later, is there, and open unless it ended
/// after it was told of (`$3`). What ended when it began may have been told of by a clock that is ahead.
const BEGIN: &str = "with told as ( \
      select id, max(told) as told, \
        greatest(max(at), (select max(started_at) from trip where vehicle_id = id)) as at \
      from unnest($1::int[], $2::timestamptz[], $3::timestamptz[]) u(id, at, told) group by id), \
    again as ( \
      select t.vehicle_id, t.started_at from told \
      join trip t on t.vehicle_id = told.id and t.started_at = told.at \
      where t.ended_at <= greatest(told.told, told.at) \
      order by t.vehicle_id, t.started_at for update of t), \
    opened as ( \
      update trip t set ended_at = null from again \
      where t.vehicle_id = again.vehicle_id and t.started_at = again.started_at) \
    insert into trip (vehicle_id, started_at) select id, at from told order by id on conflict do nothing";

/// `$3`: how many microseconds after its end a trip may have begun.
const END: &str = "with open as ( \
      select t.vehicle_id, t.started_at, u.at \
      from unnest($1::text[], $2::timestamptz[]) u(vin, at) \
      join vehicle v on v.vin = u.vin join trip t on t.vehicle_id = v.vehicle_id \
      where t.ended_at is null and t.started_at <= u.at + $3::bigint * interval '1 microsecond' \
      order by t.vehicle_id, t.started_at for update of t) \
    update trip t set ended_at = greatest(t.started_at, open.at) from open \
    where t.vehicle_id = open.vehicle_id and t.started_at = open.started_at";

impl Link {
    async fn open(connector: &Connector, schema: &Schema) -> Result<Self> {
        let connection = connector.connect().await?;
        layout::require(&connection, schema, Later::Ignored).await?;
        let client = connection.client();
        let keeps = layout::has(&connection).await?;
        let (raise, plan) = (raise(keeps.carry), store_plan(keeps.carry));
        let save = sql::save(schema, keeps);
        let prepared = async {
            tokio::try_join!(
                client.prepare(&raise),
                client.prepare(&plan),
                client.prepare(BEGIN),
                client.prepare(&save),
                client.prepare(END)
            )
        };
        let prepared = Box::pin(prepared).await;
        let (raise, plan, begin, save, end) =
            prepared.map_err(connection.failed("prepare the statements of the states"))?;
        let ids = VehicleIds::default();
        Ok(Self { connection, keeps, ids, raise, plan, begin, save, end })
    }

    async fn claim(&mut self, group: &[&ClaimRequest], now: Micros, context: Micros) -> Result<Vec<Claim>> {
        let names: Vec<_> = group.iter().map(|r| r.vehicle.as_str()).collect();
        let found = look_up(&self.connection, &names).await?;
        let id = |r: &ClaimRequest| found.get(r.vehicle.as_str()).copied();
        let ids = group.iter().map(|r| id(r)).collect::<Option<Vec<i32>>>().ok_or_else(no_row)?;

        let client = self.connection.client();
        let claimed = async {
            client.batch_execute("begin").await?;
            let raised = client.query(&self.raise, &[&ids]).await?;
            let mut raised: HashMap<i32, Raised> = raised.iter().map(|r| (r.get(0), Raised::of(r))).collect();
            let mut claims = Vec::with_capacity(group.len());
            let mut plans = Plans::default();
            for (request, id) in group.iter().zip(&ids) {
                let Some(Raised { epoch, floor, stored, carry }) = raised.remove(id) else { continue };
                let last = epoch.wrapping_sub(1);
                let carry = carry.and_then(|bytes| Carry::from_bytes(&bytes, &request.vehicle, last));
                let (start, horizon) = plan(&stored, request.on_time, now, context);
                plans.push(*id, start, &horizon);
                let vehicle = request.vehicle.clone();
                claims.push(Claim { vehicle, epoch, start, floor, horizon, carry });
            }
            let Plans { ids: planned, resume_at, horizons, first, many } = &plans;
            client.execute(&self.plan, &[planned, resume_at, horizons, first, many]).await?;
            let started: Vec<_> = group.iter().map(|r| Time(trip_start(r))).collect();
            let told: Vec<_> = group.iter().map(|r| Time(r.told_at)).collect();
            client.execute(&self.begin, &[&ids, &started, &told]).await?;
            client.batch_execute("commit").await?;
            Ok(claims)
        };
        let claims = claimed.await.map_err(|e| self.connection.error("claim vehicles", &e))?;
        if claims.len() < group.len() {
            return Err(no_row());
        }
        for (claim, id) in claims.iter().zip(ids) {
            self.ids.insert(&claim.vehicle, claim.epoch, id);
        }
        Ok(claims)
    }

    /// The vehicles whose states were passed over.
    async fn save(&mut self, schema: &Schema, states: &[&VehicleState]) -> Result<Vec<VehicleId>> {
        let vehicles: Vec<_> = states.iter().map(|s| (&s.vehicle, s.epoch)).collect();
        let ids = self.ids.resolve(&self.connection, &vehicles).await?;
        let mut states: Vec<_> = ids.into_iter().zip(states.iter().copied()).collect();
        // In key order over all groups too, so that it does not matter how they are cut.
        states.sort_unstable_by_key(|(id, _)| *id);
        let mut superseded = Vec::new();
        for group in states.chunks(GROUP) {
            let rows = saved(schema, group, self.keeps);
            let rows: Vec<&(dyn ToSql + Sync)> = rows.iter().map(|p| &**p as _).collect();
            let saved = self.connection.client().query(&self.save, &rows).await;
            let saved = saved.map_err(self.connection.failed("save states"))?;
            let saved: HashSet<i32> = saved.iter().map(|row| row.get(0)).collect();
            let void = group.iter().filter(|(id, _)| !saved.contains(id));
            superseded.extend(void.map(|(_, state)| state.vehicle.clone()));
        }
        Ok(superseded)
    }
}

fn no_row() -> Error {
    Error::unavailable("a vehicle was deleted from the database while it was claimed")
}

/// A trip's start may be the vehicle's own word; what no clock can say is not believed.
fn trip_start(request: &ClaimRequest) -> Micros {
    let believed = (YEAR_2000..YEAR_2200).contains(&request.started_at);
    if believed { request.started_at } else { request.on_time }
}

/// A row that [`raise`] returned.
struct Raised {
    epoch: i32,
    floor: Option<Micros>,
    stored: Stored,
    carry: Option<Vec<u8>>,
}

impl Raised {
    fn of(row: &tokio_postgres::Row) -> Self {
        let time = |column: usize| row.get::<_, Option<Time>>(column).map(|t| t.0);
        let list = |column: usize| micros(row.get::<_, Option<Vec<_>>>(column).unwrap_or_default());
        let stored = Stored { resume_at: time(2), released_at: time(3), horizon: list(5), newest: list(6) };
        Self { epoch: row.get(1), floor: time(4), stored, carry: row.get(7) }
    }
}

/// The parameters of [`store_plan`], column by column: the horizons end to end, with where each begins.
#[derive(Default)]
struct Plans {
    ids: Vec<i32>,
    resume_at: Vec<Time>,
    horizons: Vec<Option<Time>>,
    first: Vec<i32>,
    many: Vec<i32>,
}

#[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "256 vehicles, 31 signals")]
impl Plans {
    fn push(&mut self, id: i32, resume_at: Micros, horizon: &[Option<Micros>]) {
        self.ids.push(id);
        self.resume_at.push(Time(resume_at));
        self.first.push(self.horizons.len() as i32 + 1);
        self.many.push(horizon.len() as i32);
        self.horizons.extend(times(horizon));
    }
}

type Parameter = Box<dyn ToSql + Sync + Send>;

/// The parameters of [`sql::save`], column by column.
fn saved(schema: &Schema, group: &[(i32, &VehicleState)], keeps: Has) -> Vec<Parameter> {
    let states = || group.iter().map(|(_, state)| *state);
    let signals = schema.signals().len();
    let per_signal = |of: fn(&VehicleState) -> &Vec<Option<Micros>>| {
        let padded = move |state| {
            let list: &Vec<_> = of(state);
            (0..signals).map(|i| list.get(i).copied().flatten().map(Time))
        };
        states().flat_map(padded).collect::<Vec<_>>()
    };
    // A time that no sample can have would be the newest for ever.
    let latest = |state: &VehicleState| -> Option<LatestRow> {
        state.latest.clone().filter(|row| (YEAR_2000..YEAR_2200).contains(&row.ts))
    };
    let latest: Vec<Option<LatestRow>> = states().map(latest).collect();
    let many = i32::try_from(signals).unwrap_or_default();
    let mut parameters: Vec<Parameter> = vec![
        Box::new(group.iter().map(|(id, _)| *id).collect::<Vec<i32>>()),
        Box::new(states().map(|s| s.epoch).collect::<Vec<i32>>()),
        Box::new(states().map(|s| Time(s.resume_at)).collect::<Vec<_>>()),
        Box::new(states().map(|s| s.released_at.map(Time)).collect::<Vec<_>>()),
        Box::new(states().map(|s| s.floor.map(Time)).collect::<Vec<_>>()),
        Box::new(per_signal(|s| &s.horizon)),
        Box::new(per_signal(|s| &s.newest)),
        Box::new(many),
        Box::new(latest.iter().map(|l| l.as_ref().map(|l| Time(l.ts))).collect::<Vec<_>>()),
        Box::new(latest.iter().map(|l| l.as_ref().map(|l| l.quality)).collect::<Vec<_>>()),
    ];
    for (c, column) in schema.columns().enumerate() {
        let values = latest
            .iter()
            .map(|l| l.as_ref().and_then(|l| l.values.get(c)).copied().filter(|value| !value.is_nan()));
        #[allow(clippy::cast_possible_truncation, reason = "the column is real by configuration")]
        parameters.push(match column.kind {
            ColumnType::Double => Box::new(values.collect::<Vec<Option<f64>>>()),
            ColumnType::Real => Box::new(values.map(|v| v.map(|v| v as f32)).collect::<Vec<_>>()),
        });
    }
    if keeps.carry {
        let carry = |s: &VehicleState| s.carry.as_ref().map(|carry| carry.to_bytes(&s.vehicle, s.epoch));
        parameters.push(Box::new(states().map(carry).collect::<Vec<Option<Vec<u8>>>>()));
    }
    if keeps.samples {
        let (times, values) = end_to_end(schema, states().map(|state| &state.samples));
        parameters.push(Box::new(times));
        parameters.push(Box::new(values));
        parameters.push(Box::new(i32::try_from(schema.column_count()).unwrap_or_default()));
    }
    parameters
}

impl TimescaleStates {
    /// A store for vehicles of this schema; it needs [`setup`](super::setup) to be done before it is
    /// used.
    pub fn new(connector: Connector, schema: &Schema) -> Self {
        Self { connector, schema: schema.clone(), link: Mutex::new(None) }
    }

    /// The open link, or a new one. It is taken out, so that an error or a dropped future closes it.
    async fn take(&self, slot: &mut Option<Link>) -> Result<Link> {
        match slot.take().filter(|link| !link.connection.is_closed()) {
            Some(link) => Ok(link),
            None => Box::pin(Link::open(&self.connector, &self.schema)).await,
        }
    }
}

impl StateStore for TimescaleStates {
    async fn claim(&self, requests: &[ClaimRequest], now: Micros, context: Micros) -> Result<Vec<Claim>> {
        let mut slot = self.link.lock().await;
        let mut link = self.take(&mut slot).await?;
        let mut claims = Vec::with_capacity(requests.len());
        for round in rounds(requests, |r| &r.vehicle) {
            for group in round.chunks(GROUP) {
                claims.extend(link.claim(group, now, context).await?);
            }
        }
        *slot = Some(link);
        Ok(claims)
    }

    async fn save(&self, states: &[VehicleState]) -> Result<Vec<VehicleId>> {
        let mut slot = self.link.lock().await;
        let mut link = self.take(&mut slot).await?;
        let mut superseded = Vec::new();
        for round in rounds(states, |s| &s.vehicle) {
            superseded.extend(link.save(&self.schema, &round).await?);
        }
        *slot = Some(link);
        Ok(superseded)
    }

    async fn end_trips(&self, ends: &[(VehicleId, Micros)]) -> Result<()> {
        let mut slot = self.link.lock().await;
        let link = self.take(&mut slot).await?;
        for round in rounds(ends, |(vehicle, _)| vehicle) {
            let names: Vec<_> = round.iter().map(|(vehicle, _)| vehicle.as_str()).collect();
            let at: Vec<_> = round.iter().map(|(_, at)| Time(*at)).collect();
            let ended = link.connection.client().execute(&link.end, &[&names, &at, &TRIP_AHEAD]).await;
            ended.map_err(link.connection.failed("end trips"))?;
        }
        *slot = Some(link);
        Ok(())
    }

    async fn begin_trip(&self, vehicle: &VehicleId, started_at: Micros, told_at: Micros) -> Result<()> {
        let mut slot = self.link.lock().await;
        let link = self.take(&mut slot).await?;
        let name = vehicle.as_str();
        let ids = look_up(&link.connection, &[name]).await?;
        let id: Vec<i32> = ids.get(name).copied().into_iter().collect();
        let (at, told) = (vec![Time(started_at); id.len()], vec![Time(told_at); id.len()]);
        let begun = link.connection.client().execute(&link.begin, &[&id, &at, &told]).await;
        begun.map_err(link.connection.failed("begin a trip"))?;
        *slot = Some(link);
        Ok(())
    }
}

/// Splits items so that each vehicle is in a round once, because a statement changes a row once.
fn rounds<'a, T>(items: &'a [T], vehicle: impl Fn(&'a T) -> &'a VehicleId) -> Vec<Vec<&'a T>> {
    let mut rounds: Vec<(HashSet<&VehicleId>, Vec<&'a T>)> = Vec::new();
    for item in items {
        let name: &VehicleId = vehicle(item);
        match rounds.iter_mut().find(|(seen, _)| !seen.contains(name)) {
            Some((seen, round)) => {
                seen.insert(name);
                round.push(item);
            }
            None => rounds.push((HashSet::from([name]), vec![item])),
        }
    }
    rounds.into_iter().map(|(_, round)| round).collect()
}
