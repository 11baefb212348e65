//! A RabbitMQ of one test's own, to be killed and started again.

use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use crate::poll::until_blocking;
use crate::ports::{answers, free_port};
use crate::processes::{Process, Spawn};
use crate::services::unique;

/// On a machine where everything else starts at once.
const START: Duration = Duration::from_secs(150);

/// A private RabbitMQ with a port mapper of its own; both ended when it is dropped.
#[derive(Debug)]
pub struct PrivateBroker {
    server: Option<Process>,
    _port_mapper: Process,
    folder: TempDir,
    node: String,
    port: u16,
    distribution_port: u16,
    port_mapper_port: u16,
    metrics_port: Option<u16>,
}

impl PrivateBroker {
    /// Makes an empty one and starts it.
    pub fn start() -> Self {
        Self::start_with(None)
    }

    /// The same with its plugin for Prometheus.
    pub fn start_measured() -> Self {
        Self::start_with(Some(free_port()))
    }

    fn start_with(metrics_port: Option<u16>) -> Self {
        let folder = tempfile::Builder::new().prefix("hp-rabbit").tempdir().expect("a folder");
        let port_mapper_port = free_port();
        write_files(folder.path(), metrics_port);
        let _port_mapper = Spawn::program("epmd", "epmd")
            .args(["-port", &port_mapper_port.to_string(), "-address", "127.0.0.1"])
            .spawn();
        until_blocking("epmd answers", START, || answers(port_mapper_port).then_some(()));
        let node = format!("{}@localhost", &unique("hp_")[..20]);
        let (port, distribution_port) = (free_port(), free_port());
        let mut broker = Self {
            server: None,
            _port_mapper,
            folder,
            node,
            port,
            distribution_port,
            port_mapper_port,
            metrics_port,
        };
        broker.start_again();
        broker
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port)
    }

    /// Where its plugin serves metrics.
    pub fn metrics_address(&self) -> String {
        format!("127.0.0.1:{}", self.metrics_port.expect("it was started with the plugin"))
    }

    /// SIGKILL to the server.
    pub fn kill9(&mut self) {
        self.server.take();
    }

    /// Starts it again with the data that it had; returns when it accepts connections.
    pub fn start_again(&mut self) {
        let port = self.port;
        until_blocking("the port is free", START, || (!answers(port)).then_some(()));
        let mut server = self.program("rabbitmq-server").own_group().spawn();
        until_blocking("RabbitMQ answers", START, || {
            assert!(server.try_exit().is_none(), "RabbitMQ ended: {:?}", server.log());
            answers(port).then_some(())
        });
        self.server = Some(server);
    }

    /// Runs `rabbitmqctl` with these arguments: what it printed.
    pub fn ctl(&self, args: &[&str]) -> String {
        self.program("rabbitmqctl").args(["-q", "-n", self.node.as_str()]).args(args).run()
    }

    /// Has it write to disk what it knows of queues and bindings. It does so by itself only after a
    /// while, and forgets those that were declared within some two seconds before a SIGKILL.
    pub fn sync_registry(&self) {
        let tables = "[dets:sync(Table) || Table <- dets:all()]";
        let logs = "[disk_log:sync(Log) || Log <- disk_log:all()]";
        self.ctl(&["eval", &format!("{tables}, {logs}.")]);
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        let files = std::fs::read_dir(self.folder.path().join("log")).expect("a folder of logs");
        files.filter_map(|file| std::fs::read_to_string(file.ok()?.path()).ok()).collect()
    }

    /// What a program needs in its environment to find `rabbitmqctl`, and by it this broker.
    pub fn tool_environment(&self) -> Vec<(String, String)> {
        let home = self.folder.path().to_str().expect("a plain path").to_owned();
        let server = server_program();
        let folder = Path::new(&server).parent().and_then(Path::to_str).expect("a plain path");
        let path = format!("{folder}:{}", std::env::var("PATH").unwrap_or_default());
        [
            ("PATH", path),
            ("HOME", home),
            ("RABBITMQ_CONF_ENV_FILE", "/dev/null".to_owned()),
            ("RABBITMQ_NODENAME", self.node.clone()),
            ("ERL_EPMD_PORT", self.port_mapper_port.to_string()),
            ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// Throws away what lies in a queue.
    pub fn purge(&self, queue: &str) {
        self.ctl(&["purge_queue", queue]);
    }

    fn program(&self, name: &str) -> Spawn {
        let home = self.folder.path().to_str().expect("a plain path");
        let path = if name == "rabbitmq-server" {
            server_program()
        } else {
            server_program().replace("-server", "ctl")
        };
        Spawn::program(name, path)
            .cwd(self.folder.path())
            .env("HOME", home)
            .env("ERL_EPMD_PORT", self.port_mapper_port.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("RABBITMQ_NODENAME", self.node.as_str())
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", self.port.to_string())
            .env("RABBITMQ_DIST_PORT", self.distribution_port.to_string())
            .env("RABBITMQ_MNESIA_BASE", format!("{home}/mnesia"))
            .env("RABBITMQ_LOG_BASE", format!("{home}/log"))
            .env("RABBITMQ_CONFIG_FILE", format!("{home}/rabbitmq.conf"))
            .env("RABBITMQ_GENERATED_CONFIG_DIR", format!("{home}/config"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", format!("{home}/plugins"))
            .env("RABBITMQ_PID_FILE", format!("{home}/pid"))
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+sbwt none +S 2:2")
    }
}

impl Drop for PrivateBroker {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// Debian's wrapper in PATH refuses to run as anybody but `rabbitmq`; the program behind it does not.
fn server_program() -> String {
    std::env::var("HOLDPOINT_TEST_RABBITMQ_SERVER")
        .ok()
        .filter(|path| !path.is_empty())
        .unwrap_or_else(|| "/usr/lib/rabbitmq/bin/rabbitmq-server".to_owned())
}

fn write_files(folder: &Path, metrics_port: Option<u16>) {
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).expect("a file is written");
    write(".erlang.cookie", &unique("cookie"));
    let owner_only = std::os::unix::fs::PermissionsExt::from_mode(0o400);
    std::fs::set_permissions(folder.join(".erlang.cookie"), owner_only).expect("a mode is set");
    let settings = "disk_free_limit.absolute = 50MB\n";
    let Some(port) = metrics_port else {
        write("plugins", "[].\n");
        return write("rabbitmq.conf", settings);
    };
    write("plugins", "[rabbitmq_prometheus].\n");
    let listen = format!("prometheus.tcp.ip = 127.0.0.1\nprometheus.tcp.port = {port}\n");
    write("rabbitmq.conf", &format!("{settings}{listen}"));
}
