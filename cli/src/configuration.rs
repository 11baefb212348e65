//! The configuration: defaults, then `holdpoint.toml` (or the file that `--config` names),
//! then `HOLDPOINT__SECTION__KEY`. A key that does not exist, or a value that makes no sense,
//! is refused with its name, what it was and what it may be, before anything starts.

mod check;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use config::{Config, ConfigError, Environment, File, FileFormat};
use serde::Deserialize;

use crate::usage::Usage;

/// The file that is read when none is named and it is there.
pub const DEFAULT_FILE: &str = "holdpoint.toml";

/// Everything that can be configured; each section is declared by the crate that it is for.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Configuration {
    /// How to reach the database.
    pub database: holdpoint_db::Settings,
    /// How to reach the broker.
    pub queue: holdpoint_queue::Settings,
    /// How the API serves.
    pub api: holdpoint_api::Settings,
    /// How a worker works.
    pub worker: holdpoint_worker::Settings,
    /// What calls to models and tools may reach, and with which secrets.
    pub outbound: holdpoint_perform::Settings,
    /// How workflows' expressions are evaluated.
    pub expressions: holdpoint_perform::expressions::Settings,
    /// When sweeps run.
    pub scheduler: holdpoint_scheduler::Settings,
    /// Limits on executions.
    pub limits: holdpoint_engine::limits::Limits,
    /// What is logged, and how.
    pub log: Log,
    /// Where a worker and a scheduler show their metrics.
    pub metrics: Metrics,
    /// Where spans of distributed traces go.
    pub trace: Trace,
}

/// What is logged, and how.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `off`, `error`, `warn`, `info`, `debug`, `trace`, or directives by module.
    pub level: String,
    /// `text` or `json`.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text }
    }
}

/// The shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "String")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object on each line.
    Json,
}

impl TryFrom<String> for LogFormat {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err(format!("`{text}` is no log format, it may be `text` or `json`,")),
        }
    }
}

/// Where a worker and a scheduler show their metrics (the API shows its own on its address).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// The address of `/metrics` and `/healthz`; none if left out.
    pub listen: Option<SocketAddr>,
}

/// Where spans of distributed traces go.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Trace {
    /// The address of a collector that takes OTLP over HTTP, without `/v1/traces`; spans are not
    /// exported if left out.
    pub otlp_endpoint: Option<String>,
    /// Headers for the collector, such as its credentials.
    pub otlp_headers: BTreeMap<String, String>,
    /// The `service.name` of this process.
    pub service_name: String,
    /// Of traces that begin here, how many are exported: 0 to 1. A caller's own is exported
    /// where its caller says that it is sampled.
    pub ratio: f64,
}

impl Default for Trace {
    fn default() -> Self {
        Self {
            otlp_endpoint: None,
            otlp_headers: BTreeMap::new(),
            service_name: "holdpoint".to_owned(),
            ratio: 1.0,
        }
    }
}

/// Keys whose value is a list: by the environment they come as one text with commas.
const LISTS: &[&str] = &["outbound.allow_networks", "outbound.hosts", "outbound.seal_keys"];

/// Names that other tools have made usual, and the keys they stand for.
const USUAL_NAMES: &[(&str, &str)] = &[
    ("DATABASE_URL", "database.url"),
    ("AMQP_URL", "queue.url"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "trace.otlp_endpoint"),
    ("OTEL_SERVICE_NAME", "trace.service_name"),
];

/// Reads the configuration of this process.
pub fn load(file: Option<&Path>) -> Result<Configuration, Usage> {
    let file = match file {
        Some(named) if !named.is_file() => {
            return Err(Usage(format!("--config: there is no file {}", named.display())));
        }
        Some(named) => Some(named.to_owned()),
        None => Some(PathBuf::from(DEFAULT_FILE)).filter(|usual| usual.is_file()),
    };
    // Only names of ours can be wrong for us: another program's variable that is not Unicode
    // is none of our business.
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    read(file.as_deref(), environment)
}

fn read(file: Option<&Path>, environment: HashMap<String, String>) -> Result<Configuration, Usage> {
    let configuration = sources(file, environment)
        .and_then(Config::try_deserialize::<Configuration>)
        .map_err(|error| Usage(format!("configuration: {error}")))?;
    check::check(&configuration)?;
    Ok(configuration)
}

/// Texts are not guessed into numbers here: the typed sections convert what they need, so
/// that a secret such as `007` stays what it is.
fn sources(file: Option<&Path>, environment: HashMap<String, String>) -> Result<Config, ConfigError> {
    let mut builder = Config::builder();
    for (name, key) in USUAL_NAMES {
        if let Some(url) = environment.get(*name).filter(|url| !url.is_empty()) {
            builder = builder.set_default(key, url.as_str())?;
        }
    }
    if let Some(file) = file {
        builder = builder.add_source(File::from(file).format(FileFormat::Toml));
    }
    let lists: Vec<(&str, Vec<String>)> =
        LISTS.iter().filter_map(|key| Some((*key, list(key, &environment)?))).collect();
    let ours = Environment::with_prefix("HOLDPOINT")
        .prefix_separator("__")
        .separator("__")
        .ignore_empty(true)
        .source(Some(environment.into_iter().collect()));
    builder = builder.add_source(ours);
    for (key, items) in lists {
        builder = builder.set_override(key, items)?;
    }
    builder.build()
}

/// The items of a list that the environment gives, without empty ones.
fn list(key: &str, environment: &HashMap<String, String>) -> Option<Vec<String>> {
    let name = format!("HOLDPOINT__{}", key.replace('.', "__"));
    let (_, text) =
        environment.iter().find(|(given, text)| given.eq_ignore_ascii_case(&name) && !text.is_empty())?;
    Some(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(file: &str, environment: &[(&str, &str)]) -> Result<Configuration, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.toml");
        std::fs::write(&path, file).expect("written");
        let environment =
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        read(Some(&path), environment).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_hold_without_any_source() {
        let configuration = read(None, HashMap::new()).expect("defaults");
        assert_eq!(configuration.api.listen, "127.0.0.1:4653");
        assert_eq!(configuration.database.url, "sqlite:.holdpoint");
        assert_eq!(configuration.log.format, LogFormat::Text);
        assert_eq!(configuration.metrics.listen, None);
    }

    #[test]
    fn the_environment_goes_before_the_file_and_the_file_before_defaults() {
        let file = "[api]\nstreams = 5\nlisten = \"127.0.0.1:1\"\n[log]\nformat = \"json\"";
        let configuration = with(file, &[("HOLDPOINT__API__STREAMS", "7")]).expect("valid");
        assert_eq!(configuration.api.streams, 7);
        assert_eq!(configuration.api.listen, "127.0.0.1:1");
        assert_eq!(configuration.log.format, LogFormat::Json);
        assert_eq!(configuration.api.body_bytes, 2 * 1024 * 1024);
    }

    #[test]
    fn texts_of_the_environment_become_numbers_booleans_and_lists() {
        let configuration = with(
            "[outbound]\nallow_networks = [\"10.0.0.0/8\"]",
            &[
                ("HOLDPOINT__SCHEDULER__ENABLED", "false"),
                ("HOLDPOINT__SCHEDULER__MAX_LOST_LEASES", "9"),
                ("HOLDPOINT__OUTBOUND__ALLOW_NETWORKS", "127.0.0.0/8, ::1/128,"),
                ("HOLDPOINT__METRICS__LISTEN", "0.0.0.0:9464"),
            ],
        )
        .expect("valid");
        assert!(!configuration.scheduler.enabled);
        assert_eq!(configuration.scheduler.max_lost_leases, 9);
        assert_eq!(configuration.outbound.allow_networks, ["127.0.0.0/8", "::1/128"]);
        assert_eq!(configuration.metrics.listen, "0.0.0.0:9464".parse().ok());
    }

    #[test]
    fn one_network_is_a_list_too() {
        let configuration =
            with("", &[("HOLDPOINT__OUTBOUND__ALLOW_NETWORKS", "10.1.0.0/16")]).expect("valid");
        assert_eq!(configuration.outbound.allow_networks, ["10.1.0.0/16"]);
    }

    #[test]
    fn a_secret_that_looks_like_a_number_stays_a_text() {
        let configuration = with(
            "[outbound.secrets.acme]\nOpenAI = \"sk-1\"",
            &[("HOLDPOINT__API__CRON_SECRET", "007"), ("HOLDPOINT__OUTBOUND__SECRETS__ACME__SEARCH", "1e5")],
        )
        .expect("valid");
        assert_eq!(configuration.api.cron_secret.as_deref(), Some("007"));
        let acme = &configuration.outbound.secrets["acme"];
        assert_eq!(acme["search"], "1e5");
        assert_eq!(acme["OpenAI"], "sk-1", "a file keeps a name as it is written");
    }

    #[test]
    fn an_empty_variable_is_no_value() {
        let configuration = with(
            "",
            &[
                ("HOLDPOINT__API__CRON_SECRET", ""),
                ("HOLDPOINT__OUTBOUND__ALLOW_NETWORKS", ""),
                ("DATABASE_URL", ""),
            ],
        )
        .expect("valid");
        assert_eq!(configuration.api.cron_secret, None);
        assert!(configuration.outbound.allow_networks.is_empty());
        assert_eq!(configuration.database.url, "sqlite:.holdpoint");
    }

    #[test]
    fn the_usual_names_count_where_ours_say_nothing() {
        let usual = [("DATABASE_URL", "postgres://a/b"), ("AMQP_URL", "amqp://c")];
        let configuration = with("", &usual).expect("valid");
        assert_eq!(configuration.database.url, "postgres://a/b");
        assert_eq!(configuration.queue.url, "amqp://c");
        let configuration = with("[database]\nurl = \"postgres://file/b\"", &usual).expect("valid");
        assert_eq!(configuration.database.url, "postgres://file/b");
    }

    #[test]
    fn what_is_wrong_is_named() {
        type Wrong<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [&'a str]);
        let table: &[Wrong<'_>] = &[
            ("", &[("HOLDPOINT__API__STREAMS", "many")], &["api.streams", "many", "integer"]),
            ("", &[("HOLDPOINT__API__STREAMS", "-1")], &["api.streams", "-1"]),
            ("", &[("HOLDPOINT__API__STREAM", "1")], &["`stream`", "`streams`"]),
            ("", &[("HOLDPOINT__APY__STREAMS", "1")], &["`apy`", "`api`"]),
            (
                "",
                &[("HOLDPOINT__SCHEDULER__ENABLED", "perhaps")],
                &["scheduler.enabled", "perhaps", "boolean"],
            ),
            ("[log]\nformat = \"xml\"", &[], &["format", "xml", "json"]),
            ("[log]\nlevel = \"loud=\"", &[], &["log.level", "loud=", "debug"]),
            ("[nonsense]\na = 1", &[], &["nonsense"]),
            ("[api]\nlisten = \"here\"", &[], &["api.listen", "here", "127.0.0.1:4653"]),
            ("[metrics]\nlisten = \"9464\"", &[], &["metrics.listen", "socket address"]),
            ("[database]\nurl = \"mysql://x\"", &[], &["database.url", "postgres://"]),
            ("[queue]\nurl = \"kafka://x\"", &[], &["queue.url", "amqp://"]),
            ("[worker]\nslots = 0", &[], &["worker.slots", "0"]),
            ("[worker]\nlease_ms = 1000\nheartbeat_ms = 900", &[], &["worker.heartbeat_ms", "1000"]),
            (
                "[outbound]\nallow_networks = [\"all\"]",
                &[],
                &["outbound.allow_networks", "all", "10.0.0.0/8"],
            ),
            ("[scheduler]\nlimit = 0", &[], &["scheduler.limit"]),
            ("[scheduler]\ncommands_kept_days = 6", &[], &["scheduler.commands_kept_days", "6", "7"]),
            ("[api]\ncommands_prefetch = 0", &[], &["api.commands_prefetch"]),
            ("this is not toml", &[], &["x.toml"]),
        ];
        for (file, environment, expected) in table {
            let error = with(file, environment).expect_err(&format!("{file} {environment:?} was taken"));
            for part in *expected {
                assert!(error.contains(part), "`{part}` is not in: {error}");
            }
        }
    }

    /// The file shows every key, with its default.
    #[test]
    fn the_example_is_the_defaults() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../holdpoint.example.toml");
        let example = read(Some(Path::new(path)), HashMap::new()).expect("valid");
        assert_eq!(format!("{example:?}"), format!("{:?}", Configuration::default()));
        let text = std::fs::read_to_string(path).expect("there");
        for field in format!("{:?}", Configuration::default())
            .split([' ', '{'])
            .filter_map(|word| word.strip_suffix(':'))
        {
            let shown = text.lines().any(|line| {
                let line = line.trim_start_matches("# ");
                line.starts_with(&format!("{field} ="))
                    || line.starts_with(&format!("[{field}"))
                    || line.starts_with(&format!("[outbound.{field}"))
            });
            assert!(shown, "{field} is not in the example");
        }
    }

    #[test]
    fn a_password_in_a_bad_url_is_not_told() {
        let error = with("", &[("DATABASE_URL", "mysql://user:hunter2@host/db")]).expect_err("refused");
        assert!(!error.contains("hunter2"), "{error}");
    }
}
