//! An archive in a bucket of an S3-compatible service.

use std::fmt;
use std::fs;
use std::path::Path as Folder;
use std::time::Duration;

use fleet_core::error::{Error, ErrorKind, Result};
use futures_util::TryStreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt, RetryConfig};

use super::naming;

/// Which bucket, and whose keys.
#[derive(Clone, PartialEq, Eq)]
pub struct BucketOptions {
    /// `s3://bucket` or `s3://bucket/folder`.
    pub url: String,
    /// Where the service is, `https://s3.fr-par.scw.cloud`; AWS's own if there is none. One that begins
    /// with `http://` is spoken to in the clear.
    pub endpoint: Option<String>,
    /// The service's region.
    pub region: String,
    /// The access key.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: String,
}

impl fmt::Debug for BucketOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, endpoint, region, access_key_id: _, secret_access_key: _ } = self;
        f.debug_struct("BucketOptions")
            .field("url", url)
            .field("endpoint", endpoint)
            .field("region", region)
            .finish_non_exhaustive()
    }
}

/// A bucket, or a folder in one. An object is seen when its upload is complete, and not before.
#[derive(Debug, Clone)]
pub struct Bucket {
    store: AmazonS3,
    prefix: Path,
    url: String,
}

/// One call's; who waits for longer tries again.
const TIMEOUT: Duration = Duration::from_secs(60);

impl Bucket {
    /// Opens a bucket; nothing is sent. If the process has no provider of TLS yet, `ring` becomes it.
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration) for a URL or an endpoint that is none.
    pub fn open(options: &BucketOptions) -> Result<Self> {
        let BucketOptions { url, endpoint, region, access_key_id, secret_access_key } = options;
        let shape = || Error::configuration(format!("{url:?} is not a URL such as s3://bucket/folder"));
        let (bucket, folder) = url
            .strip_prefix("s3://")
            .map(|rest| rest.split_once('/').unwrap_or((rest, "")))
            .ok_or_else(shape)?;
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
        // The path's parser takes an empty first part for none.
        if folder.starts_with('/') || !(3..=63).contains(&bucket.len()) || !bucket.chars().all(fits) {
            return Err(shape());
        }
        let prefix = Path::parse(folder).map_err(|_| shape())?;
        // It fails if there is one, which then is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = ClientOptions::new()
            .with_timeout(TIMEOUT)
            .with_connect_timeout(Duration::from_secs(5))
            .with_allow_http(endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://")));
        // Longer outages are waited out by who wraps the sink.
        let retry =
            RetryConfig { max_retries: 2, retry_timeout: Duration::from_secs(20), ..RetryConfig::default() };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_region(region)
            .with_access_key_id(access_key_id)
            .with_secret_access_key(secret_access_key)
            .with_client_options(client)
            .with_retry(retry);
        if let Some(endpoint) = endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        let store = builder.build().map_err(|e| said("open", url, &e))?;
        Ok(Self { store, prefix, url: url.clone() })
    }

    /// Asks whether the bucket is there and the keys are good for it.
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration) if not, [`Unavailable`](ErrorKind::Unavailable) if
    /// nobody answers.
    pub async fn check(&self) -> Result<()> {
        self.dates().await.map(drop)
    }

    /// Makes an object visible, whole or not at all.
    pub(super) async fn put(&self, path: &str, bytes: Vec<u8>) -> Result<()> {
        let path = self.at(path)?;
        let put = self.store.put(&path, bytes.into()).await;
        put.map(drop).map_err(|e| said("write to", &self.url, &e))
    }

    /// The paths of a day's files.
    pub(super) async fn files(&self, date: &str) -> Result<Vec<String>> {
        let day = naming::folder(date);
        let mut objects = self.store.list(Some(&self.at(&day)?));
        let mut files = Vec::new();
        while let Some(object) = objects.try_next().await.map_err(|e| said("list", &self.url, &e))? {
            let name = object.location.filename().filter(|name| naming::is_visible(name));
            files.extend(name.map(|name| format!("{day}/{name}")));
        }
        Ok(files)
    }

    /// An object's bytes.
    pub(super) async fn get(&self, path: &str) -> Result<Vec<u8>> {
        let path = self.at(path)?;
        let reading = async { self.store.get(&path).await?.bytes().await };
        let bytes = reading.await.map_err(|e| said("read from", &self.url, &e))?;
        Ok(bytes.into())
    }

    /// Removes an object.
    pub(super) async fn remove(&self, path: &str) -> Result<()> {
        let removed = self.store.delete(&self.at(path)?).await;
        removed.map_err(|e| said("remove from", &self.url, &e))
    }

    fn at(&self, path: &str) -> Result<Path> {
        let path = if self.prefix.is_root() { path.to_owned() } else { format!("{}/{path}", self.prefix) };
        Path::parse(path).map_err(|e| Error::internal("a name that can't be in a bucket").caused_by(e))
    }

    /// The days of which there are files, sorted: `2026-11-24`.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub async fn dates(&self) -> Result<Vec<String>> {
        let listed = self.store.list_with_delimiter(Some(&self.prefix)).await;
        let listed = listed.map_err(|e| said("list", &self.url, &e))?;
        let date = |folder: &Path| naming::date(folder.filename()?).map(str::to_owned);
        let mut dates: Vec<String> = listed.common_prefixes.iter().filter_map(date).collect();
        dates.sort();
        Ok(dates)
    }

    /// Copies the files of a day into the archive of a folder, where an [`Archive`](super::Archive) reads
    /// them.
    ///
    /// # Errors
    /// As [`check`](Self::check), and [`Data`](ErrorKind::Data) if the folder can't be written.
    pub async fn fetch(&self, date: &str, folder: &Folder) -> Result<()> {
        let failed = |e: std::io::Error| {
            Error::data(format!("the folder {} can't be written", folder.display())).caused_by(e)
        };
        fs::create_dir_all(folder.join(naming::folder(date))).map_err(failed)?;
        for path in self.files(date).await? {
            fs::write(folder.join(&path), self.get(&path).await?).map_err(failed)?;
        }
        Ok(())
    }
}

/// What a service's error means. Its own words are cut down to what they say: they come as XML, with all
/// that was signed.
fn said(what: &str, url: &str, error: &object_store::Error) -> Error {
    use object_store::Error as Store;
    let text = error.to_string();
    let tag = |name: &str| Some(text.split_once(&format!("<{name}>"))?.1.split_once('<')?.0);
    // The library knows what was refused by a listing only as "generic".
    let code = tag("Code").unwrap_or_default();
    let (kind, hint) = match (error, code) {
        (Store::NotFound { .. }, _) | (_, "NoSuchBucket") => {
            (ErrorKind::Configuration, "; create the bucket, or correct its URL")
        }
        (Store::PermissionDenied { .. } | Store::Unauthenticated { .. }, _)
        | (_, "AccessDenied" | "InvalidAccessKeyId" | "SignatureDoesNotMatch") => {
            (ErrorKind::Configuration, "; check the access key, its secret and its rights")
        }
        (
            Store::InvalidPath { .. } | Store::NotSupported { .. } | Store::UnknownConfigurationKey { .. },
            _,
        ) => (ErrorKind::Configuration, ""),
        _ => (ErrorKind::Unavailable, ""),
    };
    let words = match tag("Message") {
        Some(message) => format!("{code}: {message}"),
        None => text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect(),
    };
    Error::new(kind, format!("could not {what} the archive at {url}: {words}{hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(url: &str) -> BucketOptions {
        BucketOptions {
            url: url.to_owned(),
            endpoint: None,
            region: "fr-par".to_owned(),
            access_key_id: "SCWKEY".to_owned(),
            secret_access_key: "sesame".to_owned(),
        }
    }

    #[test]
    fn urls_are_checked_and_secrets_not_shown() {
        for good in ["s3://bucket", "s3://bucket/", "s3://my.bucket-1/some/folder"] {
            let shown = format!("{:?} {:?}", Bucket::open(&options(good)).unwrap(), options(good));
            assert!(!shown.contains("sesame"), "{shown}");
        }
        for bad in
            ["bucket", "s3://", "s3://ab", "s3://buck_et", "s3://bucket//x", "https://bucket/x", "s3://a b c"]
        {
            let error = Bucket::open(&options(bad)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration, "{bad}");
            assert!(error.to_string().contains("is not a URL such as s3://"), "{error}");
        }
    }
}
