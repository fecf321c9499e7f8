// Positions on a plain equirectangular canvas with a graticule: no tiles, nothing from elsewhere.

import { colour } from "./format.js";

const STEPS = [45, 30, 15, 10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001];
const MARGIN = { left: 56, right: 14, top: 12, bottom: 20 };
const REACH = 18;

export class FleetMap {
  #canvas;
  #dots = [];
  #way = [];
  #picked = null;
  #zoomed = false;

  constructor(canvas, onPick) {
    this.#canvas = canvas;
    canvas.addEventListener("click", (event) => {
      const vehicle = this.#near(event.offsetX, event.offsetY);
      if (vehicle) onPick(vehicle);
    });
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  // `vehicles`: {name, on, lat, lon}; `way`: [lat, lon] or null for a gap; `zoomed`: fit the way only.
  show(vehicles, picked, way, zoomed) {
    this.#zoomed = zoomed;
    this.#dots = vehicles;
    this.#picked = picked;
    this.#way = way;
    this.draw();
  }

  draw() {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    const scale = window.devicePixelRatio || 1;
    this.#canvas.width = width * scale;
    this.#canvas.height = height * scale;
    const g = this.#canvas.getContext("2d");
    g.scale(scale, scale);
    if (this.#dots.length === 0 || width < 80 || height < 80) return;
    const picked = this.#dots.filter((vehicle) => vehicle.name === this.#picked);
    const way = this.#way.filter((point) => point !== null).map(([lat, lon]) => ({ lat, lon }));
    const project = fit(this.#zoomed && picked.length ? [...picked, ...way] : this.#dots, width, height);
    graticule(g, project, width, height);
    g.save();
    g.beginPath();
    g.rect(MARGIN.left, MARGIN.top, width - MARGIN.left - MARGIN.right, height - MARGIN.top - MARGIN.bottom);
    g.clip();
    this.#drawWay(g, project);
    this.#drawDots(g, project);
    g.restore();
  }

  #drawWay(g, project) {
    g.strokeStyle = colour("orange");
    g.lineWidth = 2;
    g.beginPath();
    let pen = false;
    for (const point of this.#way) {
      if (point) {
        const [x, y] = project.point(point[0], point[1]);
        if (pen) g.lineTo(x, y);
        else g.moveTo(x, y);
      }
      pen = point !== null;
    }
    g.stroke();
  }

  #drawDots(g, project) {
    const dot = (vehicle, fill, radius) => {
      [vehicle.x, vehicle.y] = project.point(vehicle.lat, vehicle.lon);
      g.fillStyle = fill;
      g.beginPath();
      g.arc(vehicle.x, vehicle.y, radius, 0, 2 * Math.PI);
      g.fill();
    };
    const [on, off] = [colour("blue"), colour("soft")];
    const radius = this.#dots.length > 1000 ? 2 : 3;
    for (const vehicle of this.#dots) {
      g.globalAlpha = vehicle.on ? 0.85 : 0.45;
      dot(vehicle, vehicle.on ? on : off, radius);
    }
    g.globalAlpha = 1;
    let picked = this.#dots.find((vehicle) => vehicle.name === this.#picked);
    if (!picked) return;
    // Its way is younger than the state that it is drawn by.
    const last = this.#way.findLast((point) => point !== null);
    if (last) picked = { lat: last[0], lon: last[1] };
    dot(picked, colour("card"), 6.5);
    dot(picked, colour("orange"), 5);
  }

  #near(x, y) {
    let best = null;
    let least = REACH * REACH;
    for (const vehicle of this.#dots) {
      const distance = (vehicle.x - x) ** 2 + (vehicle.y - y) ** 2;
      if (distance < least) [best, least] = [vehicle.name, distance];
    }
    return best;
  }
}

// Where the longitudes begin: behind their widest gap, so that a fleet astride 180° stays together.
function westmost(dots) {
  const sorted = dots.map((d) => d.lon).sort((a, b) => a - b);
  let [west, widest] = [sorted[0], sorted[0] + 360 - sorted[sorted.length - 1]];
  for (let i = 1; i < sorted.length; i++) {
    if (sorted[i] - sorted[i - 1] > widest) [west, widest] = [sorted[i], sorted[i] - sorted[i - 1]];
  }
  return west;
}

// The projection that has all these points in sight, with the same scale both ways at the middle latitude.
function fit(dots, width, height) {
  const west = westmost(dots);
  const east = (lon) => west + ((((lon - west) % 360) + 360) % 360);
  let [minLat, maxLat, maxLon] = [90, -90, west];
  for (const dot of dots) {
    minLat = Math.min(minLat, dot.lat);
    maxLat = Math.max(maxLat, dot.lat);
    maxLon = Math.max(maxLon, east(dot.lon));
  }
  const [midLat, midLon] = [(minLat + maxLat) / 2, (west + maxLon) / 2];
  const shrink = Math.max(0.1, Math.cos((midLat * Math.PI) / 180));
  const room = [width - MARGIN.left - MARGIN.right, height - MARGIN.top - MARGIN.bottom];
  const need = [Math.max((maxLon - west) * shrink, 0.002), Math.max(maxLat - minLat, 0.002)];
  const scale = 0.9 * Math.min(room[0] / need[0], room[1] / need[1]);
  const [cx, cy] = [MARGIN.left + room[0] / 2, MARGIN.top + room[1] / 2];
  // A way may leave the dots' longitudes on either side.
  const near = (lon) => midLon + ((((lon - midLon + 180) % 360) + 360) % 360) - 180;
  return {
    point: (lat, lon) => [cx + (near(lon) - midLon) * shrink * scale, cy - (lat - midLat) * scale],
    x: (lon) => cx + (lon - midLon) * shrink * scale,
    y: (lat) => cy - (lat - midLat) * scale,
    lon: (x) => midLon + (x - cx) / shrink / scale,
    lat: (y) => midLat - (y - cy) / scale,
  };
}

function graticule(g, project, width, height) {
  const [left, right, top, bottom] = [MARGIN.left, width - MARGIN.right, MARGIN.top, height - MARGIN.bottom];
  g.strokeStyle = colour("grid");
  g.fillStyle = colour("soft");
  g.lineWidth = 1;
  g.font = "11px system-ui, sans-serif";
  g.strokeRect(left, top, right - left, bottom - top);
  const step = (span, pixels) => STEPS.findLast((s) => (s / span) * pixels >= 70) ?? STEPS[0];
  const lines = (from, to, by) =>
    Array.from({ length: Math.min(100, Math.floor(to / by) - Math.ceil(from / by) + 1) }, (_, i) => (Math.ceil(from / by) + i) * by);
  const line = (x1, y1, x2, y2) => {
    g.beginPath();
    g.moveTo(x1, y1);
    g.lineTo(x2, y2);
    g.stroke();
  };
  const [west, east] = [project.lon(left), project.lon(right)];
  const ofLon = step(east - west, right - left);
  g.textAlign = "center";
  g.textBaseline = "top";
  for (const lon of lines(west, east, ofLon)) {
    line(project.x(lon), top, project.x(lon), bottom);
    const wrapped = ((((lon + 180) % 360) + 360) % 360) - 180;
    g.fillText(degrees(wrapped, ofLon, "E", "W"), project.x(lon), bottom + 5);
  }
  const [south, north] = [Math.max(-90, project.lat(bottom)), Math.min(90, project.lat(top))];
  const ofLat = step(north - south, bottom - top);
  g.textAlign = "right";
  g.textBaseline = "middle";
  for (const lat of lines(south, north, ofLat)) {
    line(left, project.y(lat), right, project.y(lat));
    g.fillText(degrees(lat, ofLat, "N", "S"), left - 5, project.y(lat));
  }
}

function degrees(value, step, positive, negative) {
  const digits = step >= 1 ? 0 : step >= 0.1 ? 1 : step >= 0.01 ? 2 : 3;
  const text = Math.abs(value).toFixed(digits);
  return Number(text) === 0 ? "0°" : `${text}°${value < 0 ? negative : positive}`;
}
