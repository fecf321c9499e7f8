//! The servers that may be connected to, and when the next attempt is made.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use async_nats::ServerAddr;

use crate::error::{Error, Result};
use crate::nats::random::random;

/// One server. Credentials of its URL are kept elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    pub host: String,
    pub port: u16,
    /// The name that its certificate is to have.
    pub tls_name: String,
    /// Nothing is said to it in plain.
    pub tls: bool,
    announced: bool,
    /// Rounds since it was last reached.
    failures: u32,
    /// It has said that it is about to end.
    leaving: bool,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Server {
    fn parse(url: &str) -> Option<Self> {
        let address: ServerAddr = url.parse().ok()?;
        if address.is_websocket() || address.host().is_empty() {
            return None;
        }
        let host = address.host().to_owned();
        let (port, tls) = (address.port(), address.tls_required());
        Some(Self { tls_name: host.clone(), host, port, tls, announced: false, failures: 0, leaving: false })
    }

    fn is_at(&self, other: &Self) -> bool {
        (&self.host, self.port) == (&other.host, other.port)
    }
}

/// The configured servers, and those that a cluster has announced.
#[derive(Debug)]
pub(super) struct Servers {
    all: Vec<Server>,
}

/// Servers that are announced beyond so many are not looked at.
const ANNOUNCED_UP_TO: usize = 256;

impl Servers {
    /// From URLs with commas between.
    pub(super) fn parse(urls: &str) -> Result<Self> {
        let mut all = Vec::new();
        for (at, url) in urls.split(',').enumerate() {
            // The URL itself may hold a password.
            let server = Server::parse(url.trim()).ok_or_else(|| {
                Error::configuration(format!(
                    "URL {} of NATS is not one such as nats://host:4222 or tls://host:4222",
                    at + 1
                ))
            })?;
            if !all.iter().any(|other| server.is_at(other)) {
                all.push(server);
            }
        }
        Ok(Self { all })
    }

    /// All of them, in the order in which to try them: by how often they failed, else by chance, and last one
    /// that is about to end.
    pub(super) fn round(&self) -> Vec<Server> {
        let mut round: Vec<(bool, u32, u64, Server)> =
            self.all.iter().map(|s| (s.leaving, s.failures, random(), s.clone())).collect();
        round.sort_by_key(|(leaving, failures, chance, _)| (*leaving, *failures, *chance));
        round.into_iter().map(|(.., server)| server).collect()
    }

    /// What the cluster says that its servers are, heard from one of them.
    pub(super) fn announce(&mut self, urls: &[String], from: &Server) {
        let tls = self.all.iter().any(|server| server.tls);
        let mut announced: Vec<Server> = Vec::new();
        for mut server in urls.iter().filter_map(|url| Server::parse(url)).take(ANNOUNCED_UP_TO) {
            // Its certificate has the name by which people know the cluster.
            if server.host.parse::<IpAddr>().is_ok() {
                server.tls_name.clone_from(&from.tls_name);
            }
            server.tls |= tls;
            server.announced = true;
            announced.push(server);
        }
        self.all.retain(|s| !s.announced || s.is_at(from) || announced.iter().any(|other| s.is_at(other)));
        for server in announced {
            if !self.all.iter().any(|other| server.is_at(other)) {
                self.all.push(server);
            }
        }
    }

    pub(super) fn failed(&mut self, which: &Server) {
        if let Some(server) = self.all.iter_mut().find(|server| server.is_at(which)) {
            server.failures = server.failures.saturating_add(1);
        }
    }

    pub(super) fn reached(&mut self, which: &Server) {
        for server in &mut self.all {
            server.leaving = false;
            if server.is_at(which) {
                server.failures = 0;
            }
        }
    }

    pub(super) fn leaves(&mut self, which: &Server) {
        if let Some(server) = self.all.iter_mut().find(|server| server.is_at(which)) {
            server.leaving = true;
        }
    }
}

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(2);

/// How long to wait before a round of attempts, the first one being 0: twice as long each time, up to two
/// seconds, of which a random half is taken off so that not all come back at once.
pub(super) fn delay(round: u32) -> Duration {
    let longest = FIRST.saturating_mul(1 << round.min(10)).min(LONGEST);
    let parts = u32::try_from(random() % 1_000).unwrap_or_default();
    longest / 2 + longest / 2 * parts / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(servers: &[Server]) -> Vec<String> {
        servers.iter().map(ToString::to_string).collect()
    }

    fn sorted(servers: &Servers) -> Vec<String> {
        let mut names = names(&servers.round());
        names.sort();
        names
    }

    #[test]
    fn urls_are_servers_and_no_password_is_shown() {
        let servers = Servers::parse("nats://u:s3cret@a:1, tls://b ,c,[::1]:5,nats://t@a:1").unwrap();
        assert_eq!(sorted(&servers), ["[::1]:5", "a:1", "b:4222", "c:4222"]);
        assert!(servers.all.iter().all(|server| server.tls == (server.host == "b")));
        assert!(!format!("{servers:?}").contains("s3cret"));
        for bad in ["", "nats://", "http://u:s3cret@a", "ws://a", "nats://a:1,,"] {
            let said = Servers::parse(bad).unwrap_err().to_string();
            assert!(said.contains("of NATS is not one") && !said.contains("s3cret"), "{bad}: {said}");
        }
    }

    #[test]
    fn what_failed_or_leaves_is_tried_last() {
        let mut servers = Servers::parse("a,b,c").unwrap();
        let of = |servers: &Servers, host: &str| servers.all.iter().find(|s| s.host == host).unwrap().clone();
        let (a, b) = (of(&servers, "a"), of(&servers, "b"));
        servers.failed(&b);
        servers.leaves(&a);
        for _ in 0..20 {
            assert_eq!(names(&servers.round()), ["c:4222", "b:4222", "a:4222"]);
        }
        servers.reached(&b);
        let first: std::collections::BTreeSet<String> =
            (0..200).map(|_| servers.round()[0].to_string()).collect();
        assert_eq!(first.len(), 3, "each is the first one at times: {first:?}");
    }

    #[test]
    fn announced_servers_come_and_go_and_configured_ones_stay() {
        let mut servers = Servers::parse("tls://nats.example:4222").unwrap();
        let from = servers.all[0].clone();
        let urls = |urls: &[&str]| urls.iter().map(|&url| url.to_owned()).collect::<Vec<_>>();
        servers.announce(&urls(&["10.0.0.1:4222", "other.example:4222", "bad url"]), &from);
        assert_eq!(sorted(&servers), ["10.0.0.1:4222", "nats.example:4222", "other.example:4222"]);
        assert!(
            servers.all.iter().all(|server| server.tls),
            "what is asked for by tls:// is never said in plain"
        );
        let name = |host: &str| servers.all.iter().find(|s| s.host == host).unwrap().tls_name.clone();
        assert_eq!(name("10.0.0.1"), "nats.example");
        assert_eq!(name("other.example"), "other.example");
        // We are on an announced one, which the others no longer know.
        let on = servers.all[1].clone();
        servers.announce(&urls(&["10.0.0.2:4222"]), &on);
        assert_eq!(sorted(&servers), ["10.0.0.1:4222", "10.0.0.2:4222", "nats.example:4222"]);
        let many: Vec<String> = (0..1_000).map(|n| format!("10.1.{}.{}:1", n / 250, n % 250)).collect();
        servers.announce(&many, &from);
        assert_eq!(servers.all.len(), ANNOUNCED_UP_TO + 1);
    }

    #[test]
    fn delays_grow_up_to_two_seconds() {
        for (round, longest) in [(0, 50), (1, 100), (3, 400), (5, 1_600), (6, 2_000), (u32::MAX, 2_000)] {
            let longest = Duration::from_millis(longest);
            let delays: Vec<Duration> = (0..100).map(|_| delay(round)).collect();
            assert!(delays.iter().all(|d| (longest / 2..=longest).contains(d)), "{round}: {delays:?}");
            assert!(delays.iter().any(|d| *d != delays[0]), "no chance in {round}");
        }
    }
}
