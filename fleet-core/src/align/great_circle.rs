//! Positions along the shortest way over the globe.

use super::interpolator::{At, Interpolator, Reach};
use super::view::View;
use crate::batch::Quality;
use crate::time::Micros;

/// Nearer than this (radians; 6 mm on Earth) to opposite points the way is not defined.
const CHORD: f64 = 1e-9;

/// Below this difference (radians; 2.5 km on Earth) the first terms of a series give all bits, quicker.
const SHORT: f64 = 4e-4;

/// So far from the axis (a cosine; 6 km on Earth) longitudes mean something.
const OFF_AXIS: f64 = 1e-3;

/// `great_circle`: two columns, latitude and longitude in degrees, at constant speed along the great
/// circle between the neighbours, on a sphere; the longitude is in [-180, 180].
///
/// Formula: "Intermediate points on a great circle" in Ed Williams, *Aviation Formulary* (V1.47),
/// which is Shoemake's slerp ("Animating rotation with quaternion curves", SIGGRAPH 1985) of the
/// points' unit vectors; the angle by `atan2(|a × b|, a · b)`, which keeps its precision for near
/// and for opposite points. Between exact antipodes every great circle is as short; then it is the
/// one over the north along the first point's meridian.
#[derive(Debug, Clone, Copy, Default)]
pub struct GreatCircle;

impl Interpolator for GreatCircle {
    fn reach(&self, _interval: Micros) -> Reach {
        Reach { before: 1, after: 1, look_back: 0 }
    }

    #[allow(clippy::cast_precision_loss, reason = "durations are far below 2^53 µs")]
    fn value(&self, samples: View<'_>, at: At<'_>, out: &mut [f64]) -> Option<Quality> {
        let (left, right) = samples.bracket(at)?;
        let part = at.t.saturating_sub(left.time) as f64;
        let share = part / right.time.saturating_sub(left.time) as f64;
        let from = [left.value(0), left.value(1)];
        let to = [right.value(0), right.value(1)];
        let [latitude, longitude] = out else { return None };
        [*latitude, *longitude] = intermediate(from, to, share);
        Some(Quality::Interpolated)
    }

    fn check_columns(&self, columns: usize) -> Result<(), String> {
        if columns == 2 {
            return Ok(());
        }
        Err("needs two columns, latitude and longitude".to_owned())
    }
}

type Vector = [f64; 3];

/// `sin(x) / x` of a small `x`'s square, by Taylor's series; 1 at 0.
fn short_sinc(square: f64) -> f64 {
    1.0 - square * (1.0 / 6.0) * (1.0 - square * (1.0 / 20.0))
}

/// `1 - cos(x)` of a small `x`'s square, by Taylor's series.
fn short_versine(square: f64) -> f64 {
    square * 0.5 * (1.0 - square * (1.0 / 12.0))
}

/// `x / sin(x)` of a small `sin(x)`'s square: the series of the arcsine.
fn short_arc(square: f64) -> f64 {
    1.0 + square * (1.0 / 6.0 + square * (3.0 / 40.0))
}

/// The arctangent of a small number, by its series.
fn short_arctangent(x: f64) -> f64 {
    let square = x * x;
    x * (1.0 - square * (1.0 / 3.0 - square * (1.0 / 5.0)))
}

/// The point `share` of the way; points are `[latitude, longitude]` in degrees.
fn intermediate(from: [f64; 2], to: [f64; 2], share: f64) -> [f64; 2] {
    // A parked vehicle keeps its digits, which matters to compression.
    if from == to {
        return from;
    }
    nearby(from, to, share).unwrap_or_else(|| faraway(from, to, share))
}

/// The same for points so near each other that series serve, with one sine instead of eight. By the
/// vectors' parts to the east, to the north and up as seen from the first point: differences of
/// nearly equal numbers don't arise.
fn nearby(from: [f64; 2], to: [f64; 2], share: f64) -> Option<[f64; 2]> {
    let (north, east) = ((to[0] - from[0]).to_radians(), (to[1] - from[1]).to_radians());
    if !(north.abs() < SHORT && east.abs() < SHORT) {
        return None;
    }
    let (sine, cosine) = from[0].to_radians().sin_cos();
    let (north_square, east_square) = (north * north, east * east);
    let north_sine = north * short_sinc(north_square);
    // Of the second point's latitude, by the sum of angles.
    let to_cosine = cosine * (1.0 - short_versine(north_square)) - sine * north_sine;
    let eastward = to_cosine * east * short_sinc(east_square);
    let northward = north_sine + sine * to_cosine * short_versine(east_square);
    let sine_square = eastward * eastward + northward * northward;
    let arc = short_arc(sine_square);
    let angle_square = sine_square * arc * arc;
    let covered = share * share * angle_square;
    let scale = share * short_sinc(covered) * arc;
    let (eastward, northward, upward) = (scale * eastward, scale * northward, 1.0 - short_versine(covered));
    // The point's distance from the axis, along the first point's meridian.
    let off_axis = upward * cosine - northward * sine;
    if off_axis < OFF_AXIS {
        return None;
    }
    let tangent = eastward / off_axis;
    let square = tangent * tangent;
    let bend = square * (0.5 - square * 0.125);
    let rise = northward - sine * off_axis * bend;
    let latitude = from[0] + (rise * short_arc(rise * rise)).to_degrees();
    let longitude = from[1] + short_arctangent(tangent).to_degrees();
    Some([latitude.clamp(-90.0, 90.0), longitude.clamp(-180.0, 180.0)])
}

fn faraway(from: [f64; 2], to: [f64; 2], share: f64) -> [f64; 2] {
    let (a, b) = (unit(from), unit(to));
    let (sine, cosine) = (norm(cross(a, b)), dot(a, b));
    let point = if sine < CHORD && cosine > 0.0 {
        sum(1.0 - share, a, share, b)
    } else if sine < CHORD {
        let along = share * std::f64::consts::PI;
        sum(along.cos(), a, along.sin(), northward(from))
    } else {
        let angle = sine.atan2(cosine);
        sum(((1.0 - share) * angle).sin(), a, (share * angle).sin(), b)
    };
    let latitude = point[2].atan2((point[0] * point[0] + point[1] * point[1]).sqrt());
    [latitude.to_degrees(), point[1].atan2(point[0]).to_degrees()]
}

fn unit([latitude, longitude]: [f64; 2]) -> Vector {
    let (sin_lat, cos_lat) = latitude.to_radians().sin_cos();
    let (sin_lon, cos_lon) = longitude.to_radians().sin_cos();
    [cos_lat * cos_lon, cos_lat * sin_lon, sin_lat]
}

/// The direction of north at a point, a unit vector; at a pole along the point's meridian.
fn northward([latitude, longitude]: [f64; 2]) -> Vector {
    let (sin_lat, cos_lat) = latitude.to_radians().sin_cos();
    let (sin_lon, cos_lon) = longitude.to_radians().sin_cos();
    [-sin_lat * cos_lon, -sin_lat * sin_lon, cos_lat]
}

fn cross(a: Vector, b: Vector) -> Vector {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

fn dot(a: Vector, b: Vector) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn norm(a: Vector) -> f64 {
    dot(a, a).sqrt()
}

fn sum(p: f64, a: Vector, q: f64, b: Vector) -> Vector {
    [p * a[0] + q * b[0], p * a[1] + q * b[1], p * a[2] + q * b[2]]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(got: [f64; 2], want: [f64; 2]) {
        let off = (got[0] - want[0]).abs().max((got[1] - want[1]).abs());
        assert!(off < 1e-9, "{got:?} is not {want:?}");
    }

    #[test]
    fn the_series_give_all_bits() {
        let same =
            |got: f64, want: f64| assert!((got - want).abs() <= 3.0 * f64::EPSILON * want, "{got} {want}");
        for i in 1..=1_000 {
            let x = 1.5 * SHORT * f64::from(i) / 1_000.0;
            same(short_sinc(x * x), x.sin() / x);
            same(short_versine(x * x), 2.0 * (x / 2.0).sin().powi(2));
            same(x * short_arc(x * x), x.asin());
            same(short_arctangent(x), x.atan());
        }
    }

    #[test]
    fn near_points_are_as_far_ones() {
        let mut compared = 0;
        for latitude in [-89.999, -60.0, -0.001, 0.0, 48.137, 75.5, 89.9] {
            let ways = [(0.02, 0.02), (-0.012, 0.0228), (0.0, -0.004), (1e-4, 1e-5), (-0.001, 0.0)];
            for (north, east) in ways {
                let (from, to) = ([latitude, 11.5], [latitude + north, 11.5 + east]);
                for share in [1e-6, 0.25, 0.5, 0.9] {
                    let Some(point) = nearby(from, to, share) else { continue };
                    let far = faraway(from, to, share);
                    let off = (point[0] - far[0]).abs().max((point[1] - far[1]).abs());
                    assert!(off < 2e-12, "{from:?} {to:?} {share}: {point:?} {far:?}");
                    compared += 1;
                }
            }
        }
        assert!(compared > 100, "{compared}");
    }

    #[test]
    fn along_the_equator_and_a_meridian_it_is_linear() {
        near(intermediate([0.0, 10.0], [0.0, 20.0], 0.3), [0.0, 13.0]);
        near(intermediate([10.0, 8.0], [20.0, 8.0], 0.25), [12.5, 8.0]);
    }

    #[test]
    fn a_published_point() {
        // Aviation Formulary's worked example: 40 % of the way from LAX to JFK, which is
        // N 38°40.167' W 101°37.570'.
        let (lax, jfk) = ([33.95, -118.4], [40.0 + 38.0 / 60.0, -(73.0 + 47.0 / 60.0)]);
        let [lat, lon] = intermediate(lax, jfk, 0.4);
        assert!((lat - (38.0 + 40.167 / 60.0)).abs() < 2e-5, "{lat}");
        assert!((lon + 101.0 + 37.570 / 60.0).abs() < 2e-5, "{lon}");
    }

    #[test]
    fn the_antimeridian_is_crossed_the_short_way() {
        near(intermediate([0.0, 179.0], [0.0, -179.0], 0.25), [0.0, 179.5]);
        near(intermediate([0.0, 179.0], [0.0, -179.0], 0.75), [0.0, -179.5]);
        assert_eq!(intermediate([0.0, 180.0], [0.0, -180.0], 0.5)[1].abs(), 180.0);
    }

    #[test]
    fn over_the_pole() {
        near(intermediate([89.0, 10.0], [89.0, -170.0], 0.25), [89.5, 10.0]);
        let [latitude, _] = intermediate([89.0, 0.0], [89.0, 180.0], 0.5);
        assert!((latitude - 90.0).abs() < 1e-9);
        let [latitude, longitude] = intermediate([90.0, 0.0], [90.0, 90.0], 0.5);
        assert!((latitude - 90.0).abs() < 1e-9 && (-180.0..=180.0).contains(&longitude));
        near(intermediate([-90.0, 33.0], [0.0, 20.0], 0.5), [-45.0, 20.0]);
    }

    #[test]
    fn near_and_equal_points_keep_their_digits() {
        assert_eq!(intermediate([48.137, 11.575], [48.137, 11.575], 0.37), [48.137, 11.575]);
        near(intermediate([48.0, 11.0], [48.0 + 1e-10, 11.0], 0.5), [48.0, 11.0]);
        near(intermediate([48.0, 11.0], [48.0, 11.000_000_1], 0.5), [48.0, 11.000_000_05]);
        near(intermediate([48.0, 11.0], [48.0, 11.0_f64.next_up()], 0.5), [48.0, 11.0]);
    }

    #[test]
    fn antipodes_go_over_the_north() {
        near(intermediate([0.0, 20.0], [0.0, -160.0], 0.25), [45.0, 20.0]);
        near(intermediate([0.0, 20.0], [0.0, -160.0], 0.75), [45.0, -160.0]);
        near(intermediate([90.0, 0.0], [-90.0, 0.0], 0.5), [0.0, 180.0]);
        for share in [0.0, 0.5, 1.0] {
            let [latitude, longitude] = intermediate([30.0, 20.0], [-30.0, -160.0 + 1e-12], share);
            assert!(latitude.is_finite() && longitude.is_finite());
        }
    }
}
