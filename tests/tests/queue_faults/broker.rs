//! A RabbitMQ of one test's own, to be killed, started again and put under pressure.

use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use uuid::Uuid;

const PROGRAMS: &str = "/usr/lib/rabbitmq/bin";
const START: Duration = Duration::from_secs(90);

/// The broker and its port mapper; both end when it is dropped.
pub struct Broker {
    server: Option<Child>,
    port_mapper: Child,
    folder: TempDir,
    node: String,
    port: u16,
    distribution_port: u16,
    port_mapper_port: u16,
}

impl Broker {
    /// Starts an empty one.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        file(".erlang.cookie", &Uuid::now_v7().simple().to_string());
        file("plugins", "[].\n");
        file("rabbitmq.conf", "disk_free_limit.absolute = 50MB\n");
        let cookie = folder.path().join(".erlang.cookie");
        std::fs::set_permissions(cookie, std::fs::Permissions::from_mode(0o400)).unwrap();
        let port_mapper_port = free_port();
        let port_mapper = Command::new("epmd")
            .args(["-port", &port_mapper_port.to_string(), "-address", "127.0.0.1"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        until_answers(port_mapper_port);
        let (port, distribution_port) = (free_port(), free_port());
        let node = format!("hp{port}@localhost");
        let mut broker =
            Self { server: None, port_mapper, folder, node, port, distribution_port, port_mapper_port };
        broker.start_again();
        broker
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port)
    }

    /// Starts it with the data that it had.
    pub fn start_again(&mut self) {
        let log = std::fs::File::create(self.folder.path().join("output")).unwrap();
        let mut command = self.command("rabbitmq-server");
        // A group of its own: the server is a shell script with children.
        let server = command.process_group(0).stdout(log.try_clone().unwrap()).stderr(log).spawn();
        self.server = Some(server.unwrap());
        until_answers(self.port);
    }

    /// SIGKILL to the broker with all its processes.
    pub fn kill9(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        let group = format!("-{}", server.id());
        Command::new("kill").args(["-KILL", "--", &group]).status().unwrap();
        server.wait().unwrap();
    }

    /// Has it write its registry of quorum queues to disk. It does so by itself only after a
    /// while, and forgets queues that were declared just before a SIGKILL.
    pub fn sync_registry(&mut self) {
        self.ctl(&["eval", "[dets:sync(Table) || Table <- dets:all()]."]);
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        let files = std::fs::read_dir(self.folder.path().join("log")).unwrap();
        files.filter_map(|file| std::fs::read_to_string(file.unwrap().path()).ok()).collect()
    }

    /// Runs `rabbitmqctl`.
    pub fn ctl(&self, args: &[&str]) {
        let output = self.command("rabbitmqctl").args(["-q", "-n", &self.node]).args(args).output().unwrap();
        assert!(output.status.success(), "rabbitmqctl {args:?}: {output:?}");
    }

    fn command(&self, program: &str) -> Command {
        let home = self.folder.path();
        let mut command = Command::new(format!("{PROGRAMS}/{program}"));
        command
            .stdin(Stdio::null())
            .env("HOME", home)
            .env("ERL_EPMD_PORT", self.port_mapper_port.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("RABBITMQ_NODENAME", &self.node)
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", self.port.to_string())
            .env("RABBITMQ_DIST_PORT", self.distribution_port.to_string())
            .env("RABBITMQ_MNESIA_BASE", home.join("mnesia"))
            .env("RABBITMQ_LOG_BASE", home.join("log"))
            .env("RABBITMQ_CONFIG_FILE", home.join("rabbitmq.conf"))
            .env("RABBITMQ_GENERATED_CONFIG_DIR", home.join("config"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", home.join("plugins"))
            .env("RABBITMQ_PID_FILE", home.join("pid"))
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+sbwt none +S 2:2");
        command
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill9();
        let _ = self.port_mapper.kill();
        let _ = self.port_mapper.wait();
    }
}

/// Below the range from which the kernel takes ports for outgoing connections.
fn free_port() -> u16 {
    let mut ports = std::iter::repeat_with(|| 20_000 + (Uuid::now_v7().as_u128() % 12_000) as u16);
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}

fn until_answers(port: u16) {
    let begun = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(begun.elapsed() < START, "nobody answers on {port}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
