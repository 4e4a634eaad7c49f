//! The binary under test, driven from outside.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::account::Account;
use crate::ask::Ask;
use crate::http::{Response, request};
use crate::machine::{binary, free_port};
use crate::message::Message;
use crate::server::{Server, Signal};
use crate::status::Status;
use crate::store::AlertRow;
use crate::store::{DeadLetter, sqlite_alerts, sqlite_count, sqlite_dead_letters, sqlite_rows};
use crate::wait::{DEADLINE, wait_for};

/// `tidegate run`, in a directory of its own that outlives the process: it can be stopped, killed and started again.
#[derive(Debug)]
pub struct Host {
    /// Before the directory, so that it ends first. None while it is stopped.
    server: Option<Server>,
    directory: TempDir,
    top: String,
    sections: String,
    port: u16,
    /// Where it answers probes, if not with the rest.
    probes: Option<u16>,
    /// How many files it may have open, if that is less than it could have.
    open_files: Option<u32>,
    /// It counts as started when it answers, whatever it does then.
    early: bool,
    /// Where its next start ends, in the words of the crate `fail`.
    armed: Option<String>,
    /// It was armed when it was started.
    crash_due: bool,
}

/// How a process ends that calls `abort`.
const SIGABRT: i32 = 6;

impl Host {
    pub(crate) fn launch(directory: TempDir, top: String, sections: String, open_files: Option<u32>) -> Self {
        let mut host = Self::idle(directory, top, sections);
        host.open_files = open_files;
        host.launch_again();
        host
    }

    /// The same for one that is seen while it starts.
    pub(crate) fn launch_early(directory: TempDir, top: String, sections: String) -> Self {
        let mut host = Self::idle(directory, top, sections);
        host.early = true;
        host.launch_again();
        host
    }

    /// The same for one that answers probes at a port of their own.
    pub(crate) fn launch_at(directory: TempDir, top: String, sections: String, probes: u16) -> Self {
        let mut host = Self::idle(directory, top, sections);
        host.probes = Some(probes);
        host.launch_again();
        host
    }

    fn idle(directory: TempDir, top: String, sections: String) -> Self {
        let (server, probes, open_files, armed) = (None, None, None, None);
        let (early, crash_due) = (false, false);
        Self { server, directory, top, sections, port: 0, probes, open_files, early, armed, crash_due }
    }

    /// Starts it again after [`Self::stop`] or [`Self::kill`], and waits until messages flow.
    pub fn start_again(&mut self) {
        self.launch_again();
        self.wait_ready();
    }

    /// Starts it again and waits until it answers and has looked its rules over, ready or not.
    pub fn launch_again(&mut self) {
        for _ in 0..3 {
            if self.answers() {
                self.crash_due = self.armed.take().is_some();
                return;
            }
        }
        panic!("the host found no port of its own in three attempts; {}", self.tail());
    }

    /// Its next start ends by itself, as a crash would, when it comes to `site` after having passed it so many times. The sites
    /// are the `fail_point!`s in the host's crates.
    pub fn arm(&mut self, site: &str, passes: u32) {
        assert_failpoints();
        self.armed = Some(format!("{site}={passes}*off->return"));
    }

    /// Waits until it has ended by itself where it was armed.
    pub fn wait_crash(&mut self) {
        let crashed = |host: &mut Self| host.has_crashed().then_some(()).ok_or_else(|| host.tail());
        wait_for("the host to come to where it was armed", DEADLINE, || crashed(self));
    }

    /// Whether it has ended by itself: where it was armed, or else the test fails. It is stopped then.
    pub fn has_crashed(&mut self) -> bool {
        let Some(server) = &mut self.server else { return false };
        let Some(status) = server.ended() else { return false };
        assert_eq!(status.signal(), Some(SIGABRT), "the host has ended by itself: {status}; {}", server.tail());
        assert!(self.crash_due, "the host aborted, and was not armed; {}", server.tail());
        self.server = None;
        true
    }

    /// Starts it; false if somebody else took its port first.
    fn answers(&mut self) -> bool {
        self.port = free_port();
        let listen = format!("[admin]\nlisten = \"127.0.0.1:{}\"\n", self.port);
        let config = self.path().join("tidegate.toml");
        std::fs::write(&config, format!("{}\n{listen}\n{}", self.top, self.sections)).unwrap();
        let mut command = match self.open_files {
            None => Command::new(binary()),
            Some(most) => {
                let mut command = Command::new("sh");
                // The limit that it cannot raise itself.
                command.args(["-c", &format!("ulimit -n {most} && exec \"$0\" \"$@\"")]).arg(binary());
                command
            }
        };
        command.arg("run").arg("--config").arg(&config).current_dir(self.path()).env("TIDEGATE_LOG", "info");
        if let Some(armed) = &self.armed {
            command.env("FAILPOINTS", armed);
        }
        let mut server = Server::spawn("tidegate", &mut command, &self.path().join("tidegate.log"));
        let up = wait_for("the host to answer", DEADLINE, || {
            if let Some(status) = server.ended() {
                if self.armed.is_some() && status.signal() == Some(SIGABRT) {
                    return Ok(true);
                }
                let log = server.tail();
                assert!(log.contains("cannot listen"), "the host ended; {log}");
                return Ok(false);
            }
            let live = request(self.probes.unwrap_or(self.port), "GET", "/livez")
                .map_err(|error| format!("{error}; {}", server.tail()))?;
            if live.code != 200 {
                return Err(format!("{live:?}; {}", server.tail()));
            }
            if self.early {
                return Ok(true);
            }
            let ready =
                request(self.probes.unwrap_or(self.port), "GET", "/readyz").map_err(|error| error.to_string())?;
            if ready.body.contains("the host is starting") { Err(ready.body) } else { Ok(true) }
        });
        self.server = Some(server);
        up
    }

    /// How many lanes it has from its next start on.
    pub fn set_lanes(&mut self, lanes: u32) {
        let others = self.top.lines().filter(|line| !line.starts_with("lanes"));
        self.top = others.map(|line| format!("{line}\n")).collect::<String>() + &format!("lanes = {lanes}\n");
    }

    /// Waits until `/readyz` says that messages flow from end to end.
    pub fn wait_ready(&mut self) {
        if let Some(status) = self.server.as_mut().and_then(Server::ended) {
            panic!("the host has ended: {status}; {}", self.tail());
        }
        wait_for("the host to be ready", DEADLINE, || {
            let ready = self.asked("/readyz")?;
            if ready.code == 200 { Ok(()) } else { Err(format!("{ready:?}; {}", self.tail())) }
        });
    }

    /// Waits until the source `plant` is up and so many rules serve, whatever its sinks do.
    pub fn wait_taking(&self, rules: usize) {
        self.wait_status("the source and the rules", |status| {
            let up = status.sources.iter().any(|source| source.name == "plant" && source.up);
            let serve = status.rules.iter().filter(|rule| rule.state == "serving").count();
            (up && serve == rules).then_some(())
        });
    }

    /// Writes something else into its configuration, from its next start on.
    pub fn replace_in_config(&mut self, from: &str, to: &str) {
        assert!(self.sections.contains(from), "{from:?} is not in {}", self.sections);
        self.sections = self.sections.replace(from, to);
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Where its rules are dropped.
    pub fn rules_dir(&self) -> PathBuf {
        self.path().join("rules.d")
    }

    /// Where it writes.
    pub fn data_dir(&self) -> PathBuf {
        self.path().join("data")
    }

    /// The default SQLite database.
    pub fn database(&self) -> PathBuf {
        self.data_dir().join("store.db")
    }

    /// The end of its log.
    pub fn tail(&self) -> String {
        self.server.as_ref().map_or_else(|| "it does not run".to_owned(), Server::tail)
    }

    /// Its whole log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path().join("tidegate.log")).unwrap_or_default()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.server.as_ref().expect("the host should run").pid()
    }

    /// The port of its HTTP interface.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A request to be filled and sent.
    pub fn ask(&self, method: &str, path: &str) -> Ask {
        Ask::new(self.port, method, path)
    }

    /// A request that must be answered.
    pub fn get(&self, path: &str) -> Response {
        request(self.port, "GET", path).unwrap_or_else(|error| panic!("GET {path}: {error}; {}", self.tail()))
    }

    /// A request without a body that must be answered.
    pub fn post(&self, path: &str) -> Response {
        request(self.port, "POST", path).unwrap_or_else(|error| panic!("POST {path}: {error}; {}", self.tail()))
    }

    /// How it is.
    pub fn status(&self) -> Status {
        let answer = self.get("/api/v1/status");
        assert_eq!(answer.code, 200, "{answer:?}");
        parsed(&answer)
    }

    /// An answer, or why there is none yet.
    fn asked(&self, path: &str) -> Result<Response, String> {
        request(self.port, "GET", path).map_err(|error| format!("GET {path}: {error}; {}", self.tail()))
    }

    /// Waits until `look` is content with its state; gives what it made of it. `what` is what is waited for.
    pub fn wait_status<T>(&self, what: &str, mut look: impl FnMut(&Status) -> Option<T>) -> T {
        wait_for(what, DEADLINE, || {
            let answer = self.asked("/api/v1/status")?;
            assert_eq!(answer.code, 200, "{answer:?}");
            let status = parsed(&answer);
            look(&status).ok_or_else(|| format!("{status:#?}; {}", self.tail()))
        })
    }

    /// Waits until it has received `messages` since it was started, and settled all; gives its state then.
    pub fn wait_settled(&self, messages: u64) -> Status {
        self.wait_status(&format!("{messages} messages to be settled"), |status| {
            let (m, p) = (&status.messages, &status.points);
            (m.received >= messages && m.in_flight == 0 && p.in_flight == 0).then(|| status.clone())
        })
    }

    /// Waits until the target of this sink has what was settled: a write that takes longer than 2 s goes by the sink's spool.
    pub fn wait_drained(&self, sink: &str) {
        self.wait_status(&format!("the spool of {sink} to be empty"), |status| {
            let found = status.sinks.iter().find(|found| found.name == sink)?;
            let empty = found.spool.as_ref().is_none_or(|spool| spool.records == 0);
            (empty && found.down.is_none()).then_some(())
        });
    }

    /// Waits until its SQLite database has `rows` points.
    pub fn wait_rows(&self, rows: u64) {
        wait_for(&format!("{rows} rows"), DEADLINE, || {
            let found = sqlite_count(&self.database());
            if found >= rows { Ok(()) } else { Err(format!("{found} rows; {}", self.tail())) }
        });
    }

    /// The points in its SQLite database.
    pub fn rows(&self) -> Vec<crate::message::Row> {
        sqlite_rows(&self.database())
    }

    /// The alerts in its SQLite database.
    pub fn alerts(&self) -> Vec<AlertRow> {
        sqlite_alerts(&self.database())
    }

    /// Its dead letters.
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        sqlite_dead_letters(&self.data_dir())
    }

    /// What was sent against what its SQLite database and its dead letters have.
    pub fn account<'a>(&self, sent: impl IntoIterator<Item = &'a Message>) -> Account {
        Account::of(sent, self.rows(), &self.dead_letters())
    }

    /// SIGTERM; waits for the end. `within` is what its configuration grants, and a little for the machine.
    pub fn stop(&mut self) -> ExitStatus {
        let mut server = self.server.take().expect("the host should run");
        server.signal(Signal::Term);
        server.wait(DEADLINE)
    }

    /// SIGKILL: it ends where it stands.
    pub fn kill(&mut self) {
        self.server.take().expect("the host should run").kill();
    }

    /// Puts a file into the rules directory as careful programs do: written beside, then renamed.
    pub fn drop_by_rename(&self, name: &str, bytes: &[u8]) {
        let beside = self.rules_dir().join(format!(".{name}.part"));
        std::fs::write(&beside, bytes).unwrap();
        std::fs::rename(&beside, self.rules_dir().join(name)).unwrap();
    }

    /// Puts a file into the rules directory as `cp` does: the old one is cut off and written over.
    pub fn drop_by_overwrite(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.rules_dir().join(name), bytes).unwrap();
    }
}

fn parsed(answer: &Response) -> Status {
    serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {}", answer.body))
}

/// Fails where the binary under test was built without the sites.
fn assert_failpoints() {
    static VERSION: OnceLock<String> = OnceLock::new();
    let version = VERSION.get_or_init(|| {
        let output = Command::new(binary()).arg("--version").output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    });
    assert!(
        version.contains("failpoints"),
        "`{version}` was built without failpoints; run `cargo build --workspace --bins`, or `make test`"
    );
}
