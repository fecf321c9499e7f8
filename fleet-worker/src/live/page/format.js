// Numbers, times and colours as people read them.

const plain = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const time = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium", timeZone: "UTC" });

export const count = (n) => plain.format(n);

export const rate = (n) => (n === null ? "–" : n < 10 ? n.toFixed(1) : plain.format(n));

export const clock = (ms) => `${time.format(ms)} UTC`;

export function age(ms) {
  if (ms < 90_000) return `${Math.max(0, Math.round(ms / 1000))} s`;
  if (ms < 5_400_000) return `${Math.round(ms / 60_000)} min`;
  return ms < 172_800_000 ? `${Math.round(ms / 3_600_000)} h` : `${Math.round(ms / 86_400_000)} days`;
}

// About four digits of a column's range; a position to a metre.
export function value(v, { min, max }, isPosition) {
  if (v === null || v === undefined) return "–";
  return v.toFixed(isPosition ? 5 : Math.min(6, Math.max(0, 4 - Math.ceil(Math.log10(max - min)))));
}

// The labels of an axis whose lines are `step` apart.
export function ticks(values, step) {
  let digits = 0;
  while (digits < 9 && Math.abs(step * 10 ** digits - Math.round(step * 10 ** digits)) > 1e-6) digits++;
  return values.map((v) => (v === null ? "" : v.toFixed(digits)));
}

export const unit = (name) => ({ deg: "°", Cel: "°C" })[name] ?? name;

export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
