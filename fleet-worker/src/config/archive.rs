//! The table `[sink.parquet]`.

use std::path::PathBuf;
use std::time::Duration;

use super::secret::{Secret, Url};
use super::values::Values;
use super::{HOUR, SECOND};

/// An archive of Parquet files beside the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParquetConfig {
    /// Where it is.
    pub place: ArchivePlace,
    /// Rows in memory that become a file, bytes.
    pub max_bytes: usize,
    /// How long rows wait for their file to be full at most.
    pub max_age: Duration,
    /// Whether states and releases wait for the archive too; otherwise it holds nothing back and
    /// catches up.
    pub required: bool,
}

/// Where an archive is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArchivePlace {
    /// A folder.
    Folder(PathBuf),
    /// A bucket of an S3-compatible service.
    Bucket(BucketConfig),
}

/// A bucket and the keys to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketConfig {
    /// `s3://bucket/folder`.
    pub url: String,
    /// Where the service is.
    pub endpoint: Option<Url>,
    /// Its region.
    pub region: String,
    /// The access key.
    pub access_key_id: Secret,
    /// Its secret.
    pub secret_access_key: Secret,
}

impl BucketConfig {
    /// The sink's options.
    #[cfg(feature = "s3")]
    pub fn options(&self) -> fleet_sinks::parquet::BucketOptions {
        fleet_sinks::parquet::BucketOptions {
            url: self.url.clone(),
            endpoint: self.endpoint.as_ref().map(|endpoint| endpoint.expose().to_owned()),
            region: self.region.clone(),
            access_key_id: self.access_key_id.expose().to_owned(),
            secret_access_key: self.secret_access_key.expose().to_owned(),
        }
    }
}

pub(super) fn read(values: &mut Values) -> Option<ParquetConfig> {
    let max_bytes = values.size("sink.parquet.max_bytes", 1 << 10);
    let max_age = values.duration("sink.parquet.max_age", SECOND..=HOUR);
    let required = match values.text("sink.parquet.when_down") {
        "hold" => true,
        "catch_up" => false,
        other => {
            let message = format!("{other:?} is neither \"hold\" nor \"catch_up\"");
            values.say("sink.parquet.when_down", message);
            false
        }
    };
    let place = match values.either(&["sink.parquet.path", "sink.parquet.url"])? {
        path @ "sink.parquet.path" => {
            if !cfg!(feature = "parquet") {
                values.say(path, "this program was built without the feature parquet");
            }
            ArchivePlace::Folder(values.text(path).into())
        }
        _ => ArchivePlace::Bucket(bucket(values)?),
    };
    let max_bytes = usize::try_from(max_bytes).unwrap_or(usize::MAX);
    Some(ParquetConfig { place, max_bytes, max_age, required })
}

/// The place that `--from-archive` names: a bucket's URL, with the configured keys, or a folder.
///
/// # Errors
/// What the configuration lacks.
pub fn archive_place(config: &super::Config, named: &str) -> Result<ArchivePlace, String> {
    let configured = config.parquet.as_ref().map(|parquet| &parquet.place);
    match (named, configured) {
        ("", Some(place)) => Ok(place.clone()),
        ("", None) => Err("neither --from-archive nor sink.parquet names an archive".to_owned()),
        (url, Some(ArchivePlace::Bucket(bucket))) if url.starts_with("s3://") => {
            Ok(ArchivePlace::Bucket(BucketConfig { url: url.to_owned(), ..bucket.clone() }))
        }
        (url, _) if url.starts_with("s3://") => {
            Err(format!("{url} needs the keys of a bucket: configure one as sink.parquet.url"))
        }
        (path, _) => Ok(ArchivePlace::Folder(path.into())),
    }
}

fn bucket(values: &mut Values) -> Option<BucketConfig> {
    const URL: &str = "sink.parquet.url";
    if !cfg!(feature = "s3") {
        values.say(URL, "this program was built without the feature s3");
    }
    let access_key_id = secret(values, "sink.parquet.access_key_id", "sink.parquet.access_key_id_file");
    let secret_access_key =
        secret(values, "sink.parquet.secret_access_key", "sink.parquet.secret_access_key_file");
    let endpoint = values.optional("sink.parquet.endpoint");
    if let Some(endpoint) = endpoint.as_ref().filter(|e| !is_endpoint(e)) {
        let shown = Url::new(endpoint.as_str());
        let rule = "is not a URL such as https://s3.fr-par.scw.cloud";
        values.say("sink.parquet.endpoint", format!("\"{shown}\" {rule}"));
        return None;
    }
    let config = BucketConfig {
        url: values.text(URL).to_owned(),
        endpoint: endpoint.map(Url::new),
        region: values.text("sink.parquet.region").to_owned(),
        access_key_id: access_key_id?,
        secret_access_key: secret_access_key?,
    };
    #[cfg(feature = "s3")]
    if let Err(error) = fleet_sinks::parquet::Bucket::open(&config.options()) {
        values.say(URL, error.to_string());
    }
    Some(config)
}

fn secret(values: &mut Values, plain: &'static str, file: &'static str) -> Option<Secret> {
    match values.either(&[plain, file]) {
        Some(path) if path == plain => Some(Secret::new(values.text(path))),
        Some(path) => values.secret_file(path),
        None => {
            values.say(plain, format!("is missing, and so is {file}: sink.parquet.url needs one of them"));
            None
        }
    }
}

/// Whether this is a server's address and no more.
fn is_endpoint(url: &str) -> bool {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    rest.map(|rest| rest.strip_suffix('/').unwrap_or(rest))
        .is_some_and(|rest| !rest.is_empty() && !rest.contains(['/', '?', '#', '@', ' ']))
}
