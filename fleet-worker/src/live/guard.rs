//! What every answer of the page goes through: where vehicles are is personal data.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::header::{HOST, HeaderName, HeaderValue};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// A browser runs and loads only what comes from here, and shows it to no other page.
const HEADERS: [(&str, &str); 5] = [
    (
        "content-security-policy",
        "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'",
    ),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
];

/// Refuses names that somebody on the internet may have pointed here, and adds the headers.
pub(super) async fn guard(request: Request, next: Next) -> Response {
    let mut response = if is_local(request.headers()) {
        next.run(request).await
    } else {
        let why = "the live page answers to addresses and local names only, because a foreign page can \
                   have its own name lead here: use the address, or a port-forward\n";
        (StatusCode::MISDIRECTED_REQUEST, why).into_response()
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

/// Whether the host is an address or a name that no public name server has (DNS rebinding).
fn is_local(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST).and_then(|host| host.to_str().ok()) else { return false };
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let ends = [".localhost", ".local", ".internal", ".svc"];
    name.parse::<IpAddr>().is_ok() || !name.contains('.') || ends.iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_names_are_refused() {
        let local = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().unwrap());
            is_local(&headers)
        };
        for good in ["127.0.0.1:9600", "[::1]:9600", "10.1.2.3", "localhost:1", "fleet-worker:9600"] {
            assert!(local(good), "{good}");
        }
        for good in ["fleet-worker.fleet.svc.cluster.local:9600", "w.fleet.svc", "LOCALHOST."] {
            assert!(local(good), "{good}");
        }
        for bad in ["evil.example:9600", "127.0.0.1.evil.example", "local.evil.example", "a.localhost.com"] {
            assert!(!local(bad), "{bad}");
        }
        assert!(!is_local(&HeaderMap::new()));
    }
}
