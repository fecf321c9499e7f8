//! Who a connection to NATS says that it is.

use std::path::PathBuf;
use std::{fmt, fs};

use nkeys::KeyPair;

/// How a connection identifies itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Auth {
    /// Not at all.
    #[default]
    None,
    /// User and password.
    Password { user: String, password: Key },
    /// A token.
    Token(Key),
    /// An nkey's seed.
    Nkey(Key),
    /// A `.creds` file, with a user's JWT and the seed of its nkey, read anew for each connection.
    Credentials(PathBuf),
}

/// A secret, or where it is.
#[derive(Clone, PartialEq, Eq)]
pub enum Key {
    /// The secret itself.
    Given(String),
    /// A file with the secret. It is read anew for each connection, so that programs take up a changed one
    /// when the server ends what was opened with the old one.
    File(PathBuf),
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(_) => f.write_str("***"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Key {
    fn read(&self) -> Result<String, String> {
        match self {
            Self::Given(secret) => Ok(secret.clone()),
            Self::File(path) => Ok(read(path)?.trim_end_matches(['\r', '\n']).to_owned()),
        }
    }
}

fn read(path: &PathBuf) -> Result<String, String> {
    fs::read_to_string(path).map_err(|e| format!("{} can't be read: {e}", path.display()))
}

impl Auth {
    /// What the server is told when it asks with a `nonce`, or what is wrong here, without a secret in it.
    pub(super) fn answer(&self, nonce: &[u8]) -> Result<async_nats::Auth, String> {
        let mut answer = async_nats::Auth::new();
        match self {
            Self::None => {}
            Self::Password { user, password } => {
                answer.username = Some(user.clone());
                answer.password = Some(password.read()?);
            }
            Self::Token(token) => answer.token = Some(token.read()?),
            Self::Nkey(seed) => {
                let pair = key_pair(&seed.read()?).ok_or_else(|| format!("{seed:?} is no nkey's seed"))?;
                answer.nkey = Some(pair.public_key());
                answer.signature = Some(sign(&pair, nonce)?);
            }
            Self::Credentials(path) => {
                let text = read(path)?;
                let lacks = |what| format!("{} has no {what}", path.display());
                let mut parts = decorated(&text);
                let jwt = parts.next().ok_or_else(|| lacks("user JWT"))?;
                let pair = parts.next().and_then(key_pair).ok_or_else(|| lacks("seed of an nkey"))?;
                answer.jwt = Some(jwt.to_owned());
                answer.signature = Some(sign(&pair, nonce)?);
            }
        }
        Ok(answer)
    }
}

fn key_pair(seed: &str) -> Option<KeyPair> {
    KeyPair::from_seed(seed.trim()).ok()
}

fn sign(pair: &KeyPair, nonce: &[u8]) -> Result<Vec<u8>, String> {
    pair.sign(nonce).map_err(|e| format!("the nkey can't sign: {e}"))
}

/// The lines that stand below a line such as `-----BEGIN NATS USER JWT-----`.
fn decorated(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().map(str::trim);
    let begins = |line: &str| line.starts_with("---") && line.ends_with("---") && line.contains("BEGIN");
    lines.clone().zip(lines.skip(1)).filter(move |(line, _)| begins(line)).map(|(_, below)| below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_anew_for_each_answer() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("seed");
        let auth = Auth::Nkey(Key::File(file.clone()));
        let absent = auth.answer(b"").map(drop).unwrap_err();
        assert!(absent.contains("seed can't be read"), "{absent}");
        for _ in 0..2 {
            let pair = KeyPair::new_user();
            fs::write(&file, format!("{}\n", pair.seed().unwrap())).unwrap();
            let answer = auth.answer(b"nonce").unwrap();
            assert_eq!(answer.nkey, Some(pair.public_key()));
            pair.verify(b"nonce", &answer.signature.unwrap()).unwrap();

            let creds = folder.path().join("creds");
            let (seed, dashes) = (pair.seed().unwrap(), "-----");
            let text = format!(
                "{dashes}BEGIN NATS USER JWT{dashes}\r\ney.J0.x\r\n------END NATS USER JWT------\r\n\n\
                 *** IMPORTANT ***\n{dashes}BEGIN USER NKEY SEED{dashes}\n{seed}\n------END USER NKEY SEED------\n"
            );
            fs::write(&creds, text).unwrap();
            let answer = Auth::Credentials(creds).answer(b"nonce").unwrap();
            assert_eq!(answer.jwt.as_deref(), Some("ey.J0.x"));
            pair.verify(b"nonce", &answer.signature.unwrap()).unwrap();
        }
        fs::write(&file, "secret\n").unwrap();
        let said = auth.answer(b"").map(drop).unwrap_err();
        assert!(said.contains("is no nkey's seed") && !said.contains("secret"), "{said}");
        let said = Auth::Credentials(file.clone()).answer(b"").map(drop).unwrap_err();
        assert!(said.contains("has no user JWT") && !said.contains("secret"), "{said}");
        let password = Auth::Password { user: "u".into(), password: Key::File(file) };
        assert_eq!(password.answer(b"").unwrap().password.as_deref(), Some("secret"));
    }

    #[test]
    fn no_secret_is_shown() {
        let auth = Auth::Password { user: "u".into(), password: Key::Given("hunter2".into()) };
        assert!(!format!("{auth:?}").contains("hunter2"));
        let said = Auth::Nkey(Key::Given("hunter2".into())).answer(b"").map(drop).unwrap_err();
        assert!(!said.contains("hunter2"), "{said}");
    }
}
