//! The encoder against tokio-postgres's own writer, over a server that only plays COPY's part.

use std::fs;
use std::path::Path;
use std::pin::pin;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use fleet_core::batch::{Batch, BatchBuilder, Row};
use fleet_core::time::{Micros, SECOND, YEAR_2000, YEAR_2200};
use fleet_core::{Schema, VehicleId};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_postgres::NoTls;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{ToSql, Type};

use super::encode::{self, *};
use crate::timescale::value::Time;

/// What the fuzz target `copy_encoder` asserts.
#[path = "../../../../fuzz/src/copy_encoder.rs"]
#[allow(unreachable_pub, reason = "public in its own crate")]
mod copy_encoder;

const IDS: [i32; 3] = [7, -1, i32::MAX];

/// Takes one COPY and returns its bytes.
async fn copy_server(mut stream: DuplexStream) -> Vec<u8> {
    fn message(out: &mut BytesMut, kind: u8, body: &[u8]) {
        out.put_u8(kind);
        out.put_i32(i32::try_from(body.len()).unwrap() + 4);
        out.put_slice(body);
    }
    let length = stream.read_i32().await.unwrap();
    let mut startup = vec![0; usize::try_from(length).unwrap() - 4];
    stream.read_exact(&mut startup).await.unwrap();
    let mut out = BytesMut::new();
    message(&mut out, b'R', &[0; 4]);
    message(&mut out, b'Z', b"I");
    let mut copied = Vec::new();
    loop {
        stream.write_all_buf(&mut out).await.unwrap();
        let Ok(kind) = stream.read_u8().await else { return copied };
        let length = stream.read_i32().await.unwrap();
        let mut body = vec![0; usize::try_from(length).unwrap() - 4];
        stream.read_exact(&mut body).await.unwrap();
        match kind {
            b'P' => message(&mut out, b'1', &[]),
            b'D' => {
                message(&mut out, b't', &[0, 0]);
                message(&mut out, b'n', &[]);
            }
            b'S' => message(&mut out, b'Z', b"I"),
            b'C' => message(&mut out, b'3', &[]),
            b'B' => message(&mut out, b'2', &[]),
            b'E' => {
                message(&mut out, b'G', &[1, 0, 0]);
                stream.write_all_buf(&mut out).await.unwrap();
                // The Sync after it finds the server in COPY mode, where it means nothing.
                let mut sync = [0; 5];
                stream.read_exact(&mut sync).await.unwrap();
            }
            b'd' => copied.extend(body),
            b'c' => message(&mut out, b'C', b"COPY 1\0"),
            _ => {}
        }
    }
}

/// What tokio-postgres writes for these rows.
#[allow(clippy::future_not_send, reason = "run by one thread")]
async fn oracle(batch: &Batch, rows: &Rows<'_>, order: &[u32]) -> Vec<u8> {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let server = tokio::spawn(copy_server(theirs));
    let mut config = tokio_postgres::Config::new();
    let (client, driver) = config.user("u").connect_raw(ours, NoTls).await.unwrap();
    let driver = tokio::spawn(driver);
    let sink = client.copy_in::<_, Bytes>("copy").await.unwrap();
    let types: Vec<Type> = [Type::TIMESTAMPTZ, Type::INT4]
        .into_iter()
        .chain(rows.values.iter().map(|v| match v {
            Values::Double(_) => Type::FLOAT8,
            Values::Real(_) => Type::FLOAT4,
        }))
        .chain([Type::INT8])
        .collect();
    let mut writer = pin!(BinaryCopyInWriter::new(sink, &types));
    let reference = fleet_core::sink::memory::rows(batch);
    for &row in order {
        let (key, ts, stored) = &reference[row as usize];
        let (ts, id) = (Time(*ts), IDS[*key]);
        let mut fields: Vec<Box<dyn ToSql + Sync>> = vec![Box::new(ts), Box::new(id)];
        for (value, kind) in stored.values.iter().zip(&types[2..]) {
            fields.push(match *kind {
                Type::FLOAT8 => Box::new(*value),
                _ => Box::new(value.map(|v| v as f32)),
            });
        }
        fields.push(Box::new(stored.quality));
        let fields: Vec<_> = fields.iter().map(|f| &**f).collect();
        writer.as_mut().write(&fields).await.unwrap();
    }
    writer.finish().await.unwrap();
    drop(client);
    driver.await.unwrap().unwrap();
    server.await.unwrap()
}

type Record = (usize, Micros, [f64; 5], i64);

fn batch(records: &[Record]) -> Batch {
    let mut builder = BatchBuilder::new(&Schema::default());
    for name in ["a", "b", "c"] {
        builder.vehicle(&VehicleId::new(name).unwrap(), 1);
    }
    for (vehicle, ts, values, quality) in records {
        let key = i32::try_from(*vehicle).unwrap();
        builder.push(key, Row { ts: *ts, values, quality: *quality, correction: false });
    }
    builder.seal().unwrap()
}

fn record() -> impl Strategy<Value = Record> {
    let value = prop_oneof![Just(f64::NAN), Just(-0.0), Just(f64::INFINITY), any::<f64>()];
    (0..3_usize, YEAR_2000..YEAR_2200, proptest::array::uniform5(value), any::<i64>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn bytes_are_those_of_the_librarys_writer(records in proptest::collection::vec(record(), 0..40)) {
        let batch = batch(&records);
        let rows = Rows::of(&batch).unwrap();
        let order: Vec<u32> = (0..u32::try_from(rows.len()).unwrap()).rev().step_by(2).collect();
        let mut ours = BytesMut::new();
        begin(&mut ours);
        for part in order.chunks(7) {
            rows.encode(part, &IDS, &mut ours);
        }
        end(&mut ours);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let theirs = runtime.block_on(oracle(&batch, &rows, &order));
        prop_assert_eq!(&ours[..], &theirs[..]);
    }
}

#[test]
fn the_corpus_of_copy_encoder_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/copy_encoder");
    let seeds: Vec<_> = fs::read_dir(&folder).unwrap().map(|seed| seed.unwrap().path()).collect();
    assert!(seeds.len() >= 5, "{} has only {} seeds", folder.display(), seeds.len());
    seeds.iter().for_each(|seed| copy_encoder::check(&fs::read(seed).unwrap()));
}

#[test]
fn a_row_is_as_long_as_reserved() {
    let batch = batch(&[(0, YEAR_2000, [1.0; 5], 1)]);
    let rows = Rows::of(&batch).unwrap();
    let mut out = BytesMut::new();
    rows.encode(&[0], &IDS, &mut out);
    assert!(out.len() <= rows.widest());
    let mut tail = &out[..];
    assert_eq!(tail.get_i16(), 8, "ts, vehicle, five values, quality");
    assert_eq!((tail.get_i32(), tail.get_i64()), (8, 0), "PostgreSQL counts from the year 2000");
}

#[test]
fn times_that_no_sample_can_have_are_refused() {
    let ts = [YEAR_2000 - 1, YEAR_2000, YEAR_2200 - 1, YEAR_2200, Micros::MAX, Micros::MIN];
    let batch = batch(&ts.map(|ts| (0, ts, [1.0; 5], 1)));
    let rows = Rows::of(&batch).unwrap();
    let refused: Vec<_> = (0..rows.len()).map(|row| (rows.ts(row), rows.refused(row).is_some())).collect();
    assert!(refused.iter().all(|(ts, refused)| *refused != (YEAR_2000..YEAR_2200).contains(ts)));
    assert_eq!(refused.iter().filter(|(_, refused)| *refused).count(), 4);
    let early = (0..rows.len()).find(|&row| rows.ts(row) == YEAR_2000 - 1).unwrap();
    assert_eq!(
        rows.refused(early).unwrap(),
        "ts 1999-12-31T23:59:59.999999Z is not between the years 2000 and 2200"
    );
    assert_eq!(YEAR_2000 % SECOND, 0);
}
