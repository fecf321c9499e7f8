//! What the streams and consumers of a cell say that they belong to.

use std::collections::HashMap;

use async_nats::jetstream::Context;

use super::Names;
use crate::error::{Error, Result};

/// A deployment: a database, and all cells whose records go there. `setup` writes it into the metadata of
/// streams and consumers, so that a program with another deployment's file is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Its id, which its database keeps; `None` before its first setup.
    pub deployment: Option<String>,
    /// Where that database is, for people: `host:port/database`.
    pub database: String,
}

const DEPLOYMENT: &str = "fleet_deployment";
const DATABASE: &str = "fleet_database";

impl Owner {
    /// Refuses what says that it belongs to somebody else. What says nothing was made by an earlier version,
    /// or by hand, and is anybody's.
    ///
    /// # Errors
    /// [`Configuration`](crate::ErrorKind::Configuration), with both deployments and what can be done.
    pub(super) fn require(&self, what: &str, metadata: &HashMap<String, String>) -> Result<()> {
        let Some(found) = metadata.get(DEPLOYMENT) else { return Ok(()) };
        if self.deployment.as_ref() == Some(found) {
            return Ok(());
        }
        let theirs = metadata.get(DATABASE).map_or("an unknown one", String::as_str);
        let ours = self
            .deployment
            .as_ref()
            .map_or_else(|| "no deployment yet".to_owned(), |id| format!("the deployment {id}"));
        let database = &self.database;
        Err(Error::configuration(format!(
            "{what} belongs to the deployment {found}, whose database is {theirs}; that at {database} is of {ours}: \
             correct `cell`, `nats.url` or the database's URL, or run `setup --take-over` to make the cell this \
             database's"
        )))
    }

    /// The metadata to write.
    pub(super) fn marks(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.deployment.iter().flat_map(|id| [(DEPLOYMENT, id.as_str()), (DATABASE, self.database.as_str())])
    }

    /// Refuses a cell whose telemetry stream belongs to somebody else.
    ///
    /// # Errors
    /// [`Configuration`](crate::ErrorKind::Configuration) then, and
    /// [`Unavailable`](crate::ErrorKind::Unavailable) where there is no such stream.
    pub async fn require_stream(&self, js: &Context, names: &Names) -> Result<()> {
        let name = names.telemetry_stream();
        let stream = js.get_stream(&name).await;
        let stream = stream.map_err(|e| {
            Error::unavailable(format!(
                "no answer for the stream {name}: is `cell` right, and was `setup` run?"
            ))
            .caused_by(e)
        })?;
        self.require(&name, &stream.cached_info().config.metadata)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_names_another_is_refused() {
        let owner = |id: Option<&str>, database: &str| Owner {
            deployment: id.map(str::to_owned),
            database: database.to_owned(),
        };
        let marks = |owner: &Owner| {
            owner.marks().map(|(k, v)| (k.to_owned(), v.to_owned())).collect::<HashMap<_, _>>()
        };
        let ours = owner(Some("a"), "h:1/fleet");
        ours.require("S", &HashMap::new()).unwrap();
        ours.require("S", &marks(&ours)).unwrap();
        // The same database by another name, as after a move.
        ours.require("S", &marks(&owner(Some("a"), "elsewhere:1/fleet"))).unwrap();
        for (stranger, parts) in [
            (
                owner(Some("b"), "h:2/other"),
                [
                    "S belongs to the deployment a, whose database is h:1/fleet",
                    "that at h:2/other is of the deployment b",
                ],
            ),
            (
                owner(None, "h:2/new"),
                ["S belongs to the deployment a", "that at h:2/new is of no deployment yet"],
            ),
        ] {
            let said = stranger.require("S", &marks(&ours)).unwrap_err().to_string();
            assert!(parts.iter().all(|part| said.contains(part)) && said.contains("--take-over"), "{said}");
        }
    }
}
