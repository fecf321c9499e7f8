//! Positions along the shortest way over the globe.

use super::interpolator::{At, Interpolator, Reach};
use super::view::View;
use crate::batch::Quality;
use crate::time::Micros;

/// Nearer than this (radians; 6 mm on Earth) to opposite points the way is not defined.
const CHORD: f64 = 1e-9;

/// Below this difference (radians; 1.6 km on Earth) three terms of the way's series are enough.
const NEAR: f64 = 2.5e-4;

/// With a cosine above this (latitudes up to 75 degrees) what they leave out is small.
const OFF_POLE: f64 = 0.25;

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

/// The point `share` of the way; points are `[latitude, longitude]` in degrees.
fn intermediate(from: [f64; 2], to: [f64; 2], share: f64) -> [f64; 2] {
    // A parked vehicle keeps its digits, which matters to compression.
    if from == to {
        return from;
    }
    nearby(from, to, share).unwrap_or_else(|| faraway(from, to, share))
}

/// The same for points near each other and off the poles, by the Taylor series of a geodesic: with `φ`
/// the latitude and `λ` the longitude, `φ'' = -sin φ cos φ λ'²` and `λ'' = 2 tan φ φ' λ'`, of which the
/// terms up to the third order are taken and fitted to end at the second point. What is left out is
/// 1e-12 degrees at most, 0.1 µm on Earth.
fn nearby(from: [f64; 2], to: [f64; 2], share: f64) -> Option<[f64; 2]> {
    let (north, east) = ((to[0] - from[0]).to_radians(), (to[1] - from[1]).to_radians());
    if !(north.abs() < NEAR && east.abs() < NEAR) {
        return None;
    }
    let (sine, cosine) = from[0].to_radians().sin_cos();
    if cosine < OFF_POLE {
        return None;
    }
    let (tangent, sine_square) = (sine / cosine, sine * sine);
    let bow = share * (1.0 - share);
    let third = (1.0 + share) - 2.0 * sine_square * (2.0 - share);
    let rise = bow * east * east * (0.5 * sine * cosine + north * third * (1.0 / 6.0));
    let third = north * ((1.0 + share) * (1.0 / 3.0) + tangent * tangent * share);
    let last = sine_square * east * east * (1.0 - 2.0 * share) * (1.0 / 6.0);
    let turn = bow * east * (north * (tangent + third) + last);
    let latitude = from[0] + (to[0] - from[0]) * share + rise.to_degrees();
    let longitude = from[1] + (to[1] - from[1]) * share - turn.to_degrees();
    Some([latitude, longitude.clamp(-180.0, 180.0)])
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
    fn near_points_are_as_far_ones() {
        let mut compared = 0;
        for latitude in [-74.99, -60.0, -0.001, 0.0, 48.137, 70.5, 89.9] {
            let ways = [(0.014, 0.014), (-0.012, 0.0128), (0.0, -0.004), (1e-4, 1e-5), (-0.001, 0.0)];
            for (north, east) in ways {
                let (from, to) = ([latitude, 11.5], [latitude + north, 11.5 + east]);
                for share in [0.0, 1e-6, 0.25, 0.5, 0.9, 1.0] {
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
