// The page: asks every two seconds, shows what it is told, and says so when it is told nothing.

import { RateChart, SignalChart, withGaps } from "./charts.js";
import { age, clock, count, rate } from "./format.js";
import { FleetMap } from "./map.js";

const EVERY = 2_000;
const PATIENCE = 6_000;
const RATES = 150;
const SUGGESTED = 500;

const at = (id) => document.getElementById(id);
const state = { schema: null, fleet: null, vehicle: null, before: null, told: null };
const rates = [[], [], []];
const rateChart = new RateChart(at("rates"));
const map = new FleetMap(at("map"), pick);
let charts = [];

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function ask(path) {
  const answer = await fetch(`data/${path}`, { signal: AbortSignal.timeout(PATIENCE), cache: "no-store" });
  const body = await answer.json();
  if (!answer.ok) throw new Refused(answer.status, body.error);
  return body;
}

// What is picked stands in the address, so that it can be kept and sent.
const picked = () => new URLSearchParams(location.hash.slice(1)).get("vehicle");
const minutes = () => new URLSearchParams(location.hash.slice(1)).get("minutes") ?? "15";

function pick(vehicle, over = minutes()) {
  history.replaceState(null, "", `#${new URLSearchParams({ vehicle, minutes: over })}`);
  at("vin").value = vehicle;
  at("minutes").value = over;
  refreshVehicle();
}

function showFleet(fleet) {
  const { now, vehicles, on, newest, counts } = fleet;
  at("on").textContent = count(on);
  at("of").textContent = `of ${count(vehicles)} seen`;
  at("age").textContent = newest.length ? age(now - newest[0][2]) : "–";
  at("ago").textContent = newest.length ? "ago" : "";
  at("clock").textContent = clock(now);
  const [messages, records] = ratesOf(state.before, { now, counts });
  state.before = { now, counts };
  at("messages").textContent = rate(messages);
  at("records").textContent = rate(records);
  if (messages !== null) {
    [now / 1000, messages, records].forEach((v, i) => {
      rates[i].push(v);
      if (rates[i].length > RATES) rates[i].shift();
    });
  }
  rateChart.show(rates);
  const names = newest.slice(0, SUGGESTED).map(([name]) => name).sort();
  if (document.activeElement !== at("vin")) {
    at("vins").replaceChildren(...names.map((name) => Object.assign(document.createElement("option"), { value: name })));
  }
  if (!picked() && newest.length) pick((newest.find(([, isOn]) => isOn) ?? newest[0])[0]);
}

// A second's messages and records: the growth of every process that was there before.
function ratesOf(before, { now, counts }) {
  if (!before || now <= before.now) return [null, null];
  const grown = [0, 0];
  for (const [process, values] of Object.entries(counts)) {
    values.forEach((value, i) => {
      const old = before.counts[process]?.[i];
      if (old !== undefined && value > old) grown[i] += value - old;
    });
  }
  return grown.map((sum) => (sum * 1000) / (now - before.now));
}

function showMap() {
  const { schema, fleet, vehicle } = state;
  if (!schema || !fleet) return;
  const here = fleet.newest.filter(([, , , lat, lon]) => typeof lat === "number" && typeof lon === "number");
  const dots = here.map(([name, on, , lat, lon]) => ({ name, on: on === 1, lat, lon }));
  let empty = "";
  if (schema.position === null) empty = "No signal is a position: none is interpolated by great_circle.";
  else if (fleet.vehicles === 0) empty = "No vehicle yet.";
  else if (dots.length === 0) empty = "No position yet.";
  at("map-empty").textContent = empty;
  at("map-empty").hidden = !empty;
  const more = fleet.vehicles - fleet.newest.length;
  at("map-note").textContent = more > 0 ? `· the ${count(fleet.newest.length)} with the newest records` : "";
  at("map").setAttribute("aria-label", `Map of the last positions of ${dots.length} vehicles`);
  at("map").dataset.vehicles = dots.length;
  map.show(dots, picked(), vehicle ? wayOf(vehicle) : [], at("zoom").checked);
}

function wayOf({ schema, records }) {
  if (schema.position === null) return [];
  const first = firstColumn(schema, schema.position);
  return records.times.map((_, i) => {
    const [lat, lon] = [records.columns[first][i], records.columns[first + 1][i]];
    return lat === null || lon === null ? null : [lat, lon];
  });
}

const firstColumn = (schema, signal) => schema.signals.slice(0, signal).reduce((sum, s) => sum + s.columns.length, 0);

function showVehicle() {
  const { schema, vehicle } = state;
  at("vehicle-empty").hidden = vehicle !== null;
  at("charts").hidden = vehicle === null;
  if (!vehicle) return;
  if (charts.length === 0) {
    charts = schema.signals.map((signal, s) => {
      const { position } = schema;
      return new SignalChart(at("charts"), signal, s === position, position !== null);
    });
  }
  charts.forEach((chart, s) => {
    const first = firstColumn(schema, s);
    const { times, columns, how } = vehicle.records;
    chart.show(times, columns.slice(first, first + schema.signals[s].columns.length), how[s]);
  });
}

async function refreshVehicle() {
  const name = picked();
  if (!name || !state.schema) return;
  const { schema } = state;
  try {
    const { times, columns, how } = await ask(`vehicle/${encodeURIComponent(name)}/${encodeURIComponent(minutes())}`);
    if (picked() !== name) return;
    state.vehicle = { schema, records: withGaps(times, columns, how, schema.interval) };
  } catch (error) {
    // Whatever else is wrong shows in the fleet's answer too.
    if (!(error instanceof Refused) || error.status >= 500 || picked() !== name) return;
    state.vehicle = null;
    at("vehicle-empty").textContent = error.status === 404 ? `${name} has no record.` : error.message;
  }
  showVehicle();
  showMap();
}

async function refresh() {
  try {
    state.schema ??= await ask("schema");
    for (const scope of document.getElementsByClassName("scope")) scope.textContent = state.schema.scope;
    state.fleet = await ask("fleet");
    state.told = Date.now();
    at("trouble").hidden = true;
    showFleet(state.fleet);
    showMap();
    await refreshVehicle();
  } catch (error) {
    const since = state.told ? `What is shown is from ${age(Date.now() - state.told)} ago.` : "There is nothing to show yet.";
    const who = error instanceof Refused ? `The server says: ${error.message}.` : "The server does not answer.";
    at("trouble").textContent = `${who} ${since} The page goes on asking.`;
    at("trouble").hidden = false;
    state.before = null;
  }
}

async function run() {
  for (;;) {
    if (!document.hidden) await refresh();
    await new Promise((resolve) => setTimeout(resolve, EVERY));
  }
}

at("pick").addEventListener("submit", (event) => event.preventDefault());
at("vin").addEventListener("change", () => at("vin").value.trim() && pick(at("vin").value.trim()));
at("minutes").addEventListener("change", () => picked() && pick(picked(), at("minutes").value));
at("zoom").addEventListener("change", showMap);
at("vin").value = picked() ?? "";
at("minutes").value = minutes();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const chart of [rateChart, ...charts]) chart.restyle();
  rateChart.show(rates);
  showVehicle();
  showMap();
});
new ResizeObserver(() => [rateChart, ...charts].forEach((chart) => chart.resize())).observe(document.body);
run();
