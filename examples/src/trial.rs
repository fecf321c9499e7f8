//! All secrets of a trial on Kubernetes in one folder, with a kustomization that makes them of it.

use std::fmt::Write as _;
use std::io::{self, Read as _};
use std::path::Path;

use fleet_core::{CellId, Schema};
use nkeys::KeyPair;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair as TlsKey};

use crate::nats_users;

/// The names of the servers inside of the cluster.
const INSIDE: [&str; 4] = ["nats.fleet.svc.cluster.local", "nats-0.nats", "nats-1.nats", "nats-2.nats"];

/// The folders of `examples/grafana` and the `ConfigMaps` that are made of them.
const GRAFANA: [(&str, &str); 4] = [
    ("grafana-datasources", "provisioning/datasources"),
    ("grafana-providers", "provisioning/dashboards"),
    ("grafana-alerting", "provisioning/alerting"),
    ("grafana-dashboards", "dashboards"),
];

/// Where the database is, once it is known.
#[derive(Debug, Clone)]
pub struct Database {
    /// `host:port`.
    pub address: String,
    /// The certificate that it is trusted by, in PEM.
    pub ca: String,
}

/// Makes what is missing in the folder and replaces nothing: keys of the programs and of a simulated fleet, the
/// certificate of NATS for these names as well, passwords, and, with a database, what connects to it. In the end
/// `kubectl apply -k` of the folder makes all Secrets and `ConfigMaps` that `kubernetes/README.md` lists; before there
/// is a database, `passwords.auto.tfvars` is for the Terraform that makes it.
///
/// # Errors
/// What could not be made.
pub fn trial(
    folder: &Path,
    cells: &[CellId],
    names: &[String],
    database: Option<&Database>,
) -> Result<(), String> {
    private(folder)?;
    if !folder.join("keys/keys.conf").exists() {
        nats_users::keys(folder, cells)?;
    }
    if !folder.join("vehicles/vehicles.conf").exists() {
        vehicles(folder, cells)?;
    }
    if !folder.join("tls/tls.crt").exists() {
        certificate(folder, names).map_err(|e| format!("the certificate: {e}"))?;
    }
    let passwords = Passwords::of(folder)?;
    if let Some(database) = database {
        passwords.database(folder, database)?;
    }
    let connected = folder.join("database/url").exists();
    put(folder, "kustomization.yaml", &kustomization(folder, connected)?)
}

/// A simulated fleet's key, which is good for all vehicles.
fn vehicles(folder: &Path, cells: &[CellId]) -> Result<(), String> {
    let key = KeyPair::new_user();
    let lines: String = cells.iter().map(|cell| format!("{cell},*,{}\n", key.public_key())).collect();
    let users = nats_users::vehicles(&Schema::default(), &lines)?;
    put(folder, "fleet/seed", &key.seed().map_err(|e| e.to_string())?)?;
    put(folder, "vehicles/vehicles.conf", &users)
}

/// One for all servers, of an authority whose key is forgotten: the next one is of a new authority.
fn certificate(folder: &Path, names: &[String]) -> Result<(), String> {
    let failed = |e: rcgen::Error| e.to_string();
    let mut authority = CertificateParams::default();
    authority.distinguished_name.push(DnType::CommonName, "a trial of fleet");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = TlsKey::generate().map_err(failed)?;
    let own = authority.self_signed(&authority_key).map_err(failed)?;
    let names: Vec<String> = names.iter().map(String::as_str).chain(INSIDE).map(str::to_owned).collect();
    let (key, issuer) = (TlsKey::generate().map_err(failed)?, Issuer::new(authority, authority_key));
    let certificate = CertificateParams::new(names).and_then(|params| params.signed_by(&key, &issuer));
    put(folder, "tls/ca.crt", &own.pem())?;
    put(folder, "tls/tls.key", &key.serialize_pem())?;
    put(folder, "tls/tls.crt", &certificate.map_err(failed)?.pem())
}

/// Of the database's administrator, of the role of the workers, of Grafana's role, and of Grafana's administrator.
struct Passwords([String; 4]);

impl Passwords {
    const NAMES: [&str; 4] = ["admin", "fleet", "grafana", "grafana-admin"];

    fn of(folder: &Path) -> Result<Self, String> {
        let mut passwords = Self::NAMES.map(str::to_owned);
        for name in &mut passwords {
            let file = format!("passwords/{name}");
            if !folder.join(&file).exists() {
                put(folder, &file, &random().map_err(|e| format!("random bytes: {e}"))?)?;
            }
            *name = read(folder, &file)?;
        }
        let [admin, fleet, grafana, grafana_admin] = &passwords;
        let text = format!(
            "passwords         = {{ admin = \"{admin}\", fleet = \"{fleet}\" }}\n\
             grafana_passwords = {{ database = \"{grafana}\", admin = \"{grafana_admin}\" }}\n"
        );
        put(folder, "passwords.auto.tfvars", &text)?;
        Ok(Self(passwords))
    }

    fn database(&self, folder: &Path, database: &Database) -> Result<(), String> {
        let ([_, fleet, grafana, _], address) = (&self.0, &database.address);
        put(folder, "database/url", &format!("postgres://fleet:{fleet}@{address}/fleet?sslmode=require"))?;
        put(folder, "database/ca.pem", &database.ca)?;
        let (name, ca) = ("FLEET_GRAFANA_DB", "/etc/fleet/database/ca.pem");
        let grafana = format!(
            "{name}_HOST={address}\n{name}_NAME=fleet\n{name}_USER=grafana\n{name}_PASSWORD={grafana}\n\
             {name}_SSLMODE=verify-ca\n{name}_CA_FILE={ca}\n"
        );
        put(folder, "database/grafana.env", &grafana)
    }
}

fn kustomization(folder: &Path, connected: bool) -> Result<String, String> {
    let mut text = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: fleet\n\
        generatorOptions: { disableNameSuffixHash: true }\nsecretGenerator:\n"
        .to_owned();
    let mut files = |name: &str, folder: &Path, sub: &str| -> Result<(), String> {
        let _ = writeln!(text, "  - name: {name}\n    files:");
        for file in names(&folder.join(sub))? {
            let _ = writeln!(text, "      - {sub}/{file}");
        }
        Ok(())
    };
    files("nats-tls", folder, "tls")?;
    files("nats-seeds", folder, "seeds")?;
    files("nats-vehicles", folder, "vehicles")?;
    text += "  - name: grafana-admin\n    files: [password=passwords/grafana-admin]\n";
    if connected {
        text += "  - name: fleet-database\n    files: [database/url, database/ca.pem]\n  \
            - name: grafana-database\n    envs: [database/grafana.env]\n";
    }
    text += "configMapGenerator:\n  - name: nats-keys\n    files: [keys/keys.conf]\n";
    for (name, part) in GRAFANA {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("grafana").join(part);
        let _ = writeln!(text, "  - name: {name}\n    files:");
        for file in names(&from)? {
            put(folder, &format!("{name}/{file}"), &read(&from, &file)?)?;
            let _ = writeln!(text, "      - {name}/{file}");
        }
    }
    Ok(text)
}

/// The names of a folder's files, in order.
fn names(folder: &Path) -> Result<Vec<String>, String> {
    let list = || -> io::Result<Vec<String>> {
        std::fs::read_dir(folder)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    };
    let mut names = list().map_err(|e| format!("{}: {e}", folder.display()))?;
    names.sort();
    Ok(names)
}

/// 192 bits as text that needs no quoting anywhere and has all kinds of characters, as managed databases want.
fn random() -> io::Result<String> {
    let mut bytes = [0; 24];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().fold("Fl-".to_owned(), |text, byte| format!("{text}{byte:02x}")))
}

fn read(folder: &Path, file: &str) -> Result<String, String> {
    std::fs::read_to_string(folder.join(file)).map_err(|e| format!("{}: {e}", folder.join(file).display()))
}

/// A folder that only its owner looks into.
fn private(folder: &Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)))
        .map_err(|e| format!("{}: {e}", folder.display()))
}

fn put(folder: &Path, file: &str, text: &str) -> Result<(), String> {
    let path = folder.join(file);
    let write = || {
        path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        std::fs::write(&path, text)
    };
    write().map_err(|e| format!("{}: {e}", path.display()))
}
