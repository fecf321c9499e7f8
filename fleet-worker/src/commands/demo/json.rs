//! What the demo came to, for programs.

use serde_json::{Map, Value, json};

use super::phases::{Phase, Spent};
use super::report::Outcome;
use crate::cli::DemoArgs;
use crate::verify::Latency;

/// Times in seconds, memory in bytes. A phase that did not come about is null, and so is what was not seen.
pub(super) fn json(args: &DemoArgs, outcome: &Outcome<'_>) -> Value {
    let Outcome { summary, verdict, stored, .. } = outcome;
    let phase = |phase| outcome.phases.spent(phase).map(|spent| spent_json(outcome, &spent));
    let memory = outcome.before.iter().zip(&outcome.usage).map(|((name, before), (_, end))| {
        ((*name).to_owned(), json!({ "before": before.peak_memory, "peak": end.peak_memory }))
    });
    json!({
        "vehicles": summary.vehicles,
        "cells": args.cells.unwrap_or(1),
        "workers": args.workers,
        "connections": args.connections,
        "seconds": args.seconds,
        "acknowledged": summary.acknowledged,
        "retried": summary.retried,
        "records": verdict.counts(),
        "publish_to_row": verdict.latency.map(Latency::to_json),
        "publish_to_whole_row": verdict.latency_of_whole.map(Latency::to_json),
        "publish_to_newest": outcome.to_newest.map(Latency::to_json),
        "publish_to_record_of_two": outcome.to_record.map(Latency::to_json),
        "failover": outcome.failover.flatten().map(|took| took.as_secs_f64()),
        "phases": {
            "binding": phase(Phase::Binding),
            "steady": phase(Phase::Steady),
            "failover": phase(Phase::Failover),
            "releasing": phase(Phase::Releasing),
        },
        "memory": memory.collect::<Map<_, _>>(),
        "bytes_a_message": stored.bytes_a_message,
        "bytes_a_record": stored.bytes_a_record,
        "took": outcome.took.as_secs_f64(),
    })
}

fn spent_json(outcome: &Outcome<'_>, spent: &Spent) -> Value {
    let cpu = outcome.usage.iter().enumerate();
    let cpu = cpu.map(|(part, (name, _))| ((*name).to_owned(), json!(spent.seconds(part))));
    json!({
        "took": spent.took.as_secs_f64(),
        "messages": spent.messages,
        "rows": spent.rows,
        "cpu": cpu.collect::<Map<_, _>>(),
    })
}
