//! Every scalar key: where it stands, of what kind it is and what it is by default.

/// What a key holds. It decides which TOML types are taken and what may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    /// Several texts; with commas between in a variable or a flag.
    List,
    /// Text such as `30s`.
    Duration,
    /// Bytes, or text such as `512MiB`.
    Size,
    /// A whole number.
    Whole,
    /// `true` or `false`.
    Bool,
    /// Text that is never shown.
    Secret,
    /// Text that is shown without its password.
    Url,
    /// Several such with commas between.
    Urls,
}

/// A scalar key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    pub(super) path: &'static str,
    pub(super) kind: Kind,
    /// As text; nothing where there is no default.
    pub(super) default: Option<&'static str>,
}

impl Key {
    /// The environment's name for it.
    pub(super) fn variable(&self) -> String {
        format!("FLEET_{}", self.path.replace('.', "__").to_ascii_uppercase())
    }
}

const fn with(path: &'static str, kind: Kind, default: &'static str) -> Key {
    Key { path, kind, default: Some(default) }
}

const fn optional(path: &'static str, kind: Kind) -> Key {
    Key { path, kind, default: None }
}

/// The keys in the order in which they are shown: top-level ones first, then table by table.
pub(super) const KEYS: &[Key] = &[
    // Its default, "0", is set where it is read: only one of the two is shown.
    optional("cell", Kind::Text),
    optional("cells", Kind::List),
    with("interval", Kind::Duration, "10s"),
    with("window", Kind::Duration, "30s"),
    with("patience", Kind::Duration, "30s"),
    with("max_future", Kind::Duration, "60s"),
    with("max_past", Kind::Duration, "7d"),
    with("max_samples", Kind::Whole, "8192"),
    with("max_vehicle_memory", Kind::Size, "512KiB"),
    optional("retention", Kind::Duration),
    with("nats.url", Kind::Urls, "nats://127.0.0.1:4222"),
    optional("nats.creds", Kind::Text),
    optional("nats.nkey_file", Kind::Text),
    optional("nats.user", Kind::Text),
    optional("nats.password", Kind::Secret),
    optional("nats.password_file", Kind::Text),
    optional("nats.token", Kind::Secret),
    optional("nats.token_file", Kind::Text),
    optional("nats.ca_file", Kind::Text),
    with("nats.tls_first", Kind::Bool, "false"),
    with("nats.replicas", Kind::Whole, "1"),
    with("nats.max_age", Kind::Duration, "6h"),
    with("nats.max_bytes", Kind::Size, "20GiB"),
    optional("worker.lanes", Kind::Whole),
    with("worker.max_vehicles", Kind::Whole, "10000"),
    with("worker.ack_wait", Kind::Duration, "30s"),
    with("worker.idle_timeout", Kind::Duration, "15m"),
    with("worker.first_sample_timeout", Kind::Duration, "2m"),
    with("worker.save_interval", Kind::Duration, "30s"),
    with("worker.newest_interval", Kind::Duration, "3s"),
    optional("worker.audit_interval", Kind::Duration),
    with("worker.round_interval", Kind::Duration, "5s"),
    with("worker.catch_up_timeout", Kind::Duration, "5m"),
    with("worker.batch_rows", Kind::Whole, "20000"),
    with("worker.batch_age", Kind::Duration, "1s"),
    with("worker.max_waiting_rows", Kind::Whole, "200000"),
    with("worker.shutdown_deadline", Kind::Duration, "25s"),
    optional("sink.timescale.url", Kind::Url),
    optional("sink.timescale.url_file", Kind::Text),
    optional("sink.timescale.password_file", Kind::Text),
    optional("sink.timescale.ca_file", Kind::Text),
    with("sink.timescale.expected_vehicles", Kind::Whole, "2000"),
    optional("sink.timescale.reader", Kind::Text),
    optional("sink.timescale.retention", Kind::Duration),
    optional("sink.parquet.path", Kind::Text),
    optional("sink.parquet.url", Kind::Text),
    optional("sink.parquet.endpoint", Kind::Url),
    with("sink.parquet.region", Kind::Text, "us-east-1"),
    optional("sink.parquet.access_key_id", Kind::Secret),
    optional("sink.parquet.access_key_id_file", Kind::Text),
    optional("sink.parquet.secret_access_key", Kind::Secret),
    optional("sink.parquet.secret_access_key_file", Kind::Text),
    with("sink.parquet.max_bytes", Kind::Size, "128MiB"),
    with("sink.parquet.max_age", Kind::Duration, "5m"),
    with("sink.parquet.when_down", Kind::Text, "catch_up"),
    with("admin.listen", Kind::Text, "127.0.0.1:9600"),
    with("admin.page", Kind::Bool, "false"),
    with("log.format", Kind::Text, "auto"),
    with("log.level", Kind::Text, "info"),
];

/// The key at `path`.
pub(super) fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// Whether keys stand below `path`.
pub(super) fn is_table(path: &str) -> bool {
    KEYS.iter().any(|key| key.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_named_after_the_path() {
        let name = |path| find(path).unwrap().variable();
        assert_eq!(name("cell"), "FLEET_CELL");
        assert_eq!(name("cells"), "FLEET_CELLS");
        assert_eq!(name("max_samples"), "FLEET_MAX_SAMPLES");
        assert_eq!(name("sink.timescale.url"), "FLEET_SINK__TIMESCALE__URL");
    }

    #[test]
    fn tables_are_known() {
        assert!(is_table("sink") && is_table("sink.timescale") && is_table("nats"));
        assert!(!is_table("nat") && !is_table("cell"));
    }
}
