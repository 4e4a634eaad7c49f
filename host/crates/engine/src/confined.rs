//! Work done in a child process of this very binary, with limits of memory and time: what hostile input does to it, it does not do to the
//! host.
//!
//! The host writes to the child's standard input and reads its standard output: the child opens no file and needs none. It limits its own
//! memory, time and priority before it reads a byte, and tells the kernel that it is the first to go when memory is short.
//!
//! | the child | means |
//! |---|---|
//! | ends with 0 | standard output is the answer |
//! | ends with [`REFUSED`] | standard output says why there is none |
//! | is killed, or says that memory is short | it takes too much memory, or more than the container has left for it (`room.rs`) |
//! | has used up its processor time, or is still there after its time by the wall and was not kept waiting | it is killed: it takes too long |

mod room;
mod time;

use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread::{Builder, scope};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, Signal, getppid, getpriority_process, setrlimit};

use crate::confined::room::Room;
use crate::confined::time::TimeLeft;

/// The exit code of a child that refuses (`EX_DATAERR` of sysexits).
const REFUSED: u8 = 65;
/// What is kept of what the child says beside.
const MAX_WORDS_BYTES: u64 = 64 << 10;
/// How much politer than the lanes, in steps of `nice`, whichever thread begins it.
const POLITENESS: i32 = 10;

/// A child of this binary, to be started.
#[derive(Clone, Debug)]
pub struct Confined {
    program: PathBuf,
    arguments: Vec<String>,
}

/// What a child may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Memory: bytes.
    pub memory_bytes: u64,
    /// Of processors, all its threads together; counted in whole seconds.
    pub cpu: Duration,
    /// How long, by the wall, where it gets the processors it can use.
    pub wall: Duration,
    /// How long at most where it does not: a machine that is busy elsewhere is not the child's fault.
    pub patience: Duration,
    /// The most it may answer.
    pub answer_bytes: u64,
}

impl Bounds {
    /// No more than there is room for: an answer lies in the child and, while it is read, up to twice here.
    fn within(self, room: Option<Room>) -> Self {
        let Some(Room { bytes, .. }) = room else { return self };
        Self {
            memory_bytes: self.memory_bytes.min(bytes / 4 * 3),
            answer_bytes: self.answer_bytes.min(bytes / 8),
            ..self
        }
    }
}

/// What a child had too little of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShortOf {
    /// What it might take: bytes.
    pub bytes: u64,
    /// What the container may have in all, if it had no more left for the child: bytes.
    pub container_bytes: Option<u64>,
    /// Who stopped it.
    pub by: Stopped,
}

/// Who stopped a child that was short of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// The limit that it was given.
    ByItsLimit,
    /// The kernel, to which the whole machine or container was short.
    ByTheKernel,
}

/// How a child has ended.
#[derive(Debug)]
pub enum Ended {
    /// With an answer.
    Answered(Vec<u8>),
    /// It says why it has none.
    Refused(Vec<u8>),
    /// It wanted more memory than it may have, or to answer more.
    ShortOfMemory(ShortOf),
    /// It was killed when its time was over.
    OutOfTime,
    /// Otherwise: how, or why it could not be started.
    Broken(String),
}

impl Confined {
    /// A child of this binary, called with `arguments`, under which it must call [`serve_and_exit`].
    pub fn of_this_binary(arguments: &[&str]) -> Self {
        // Not its path: that may lead to another binary by now, or nowhere.
        Self::of("/proc/self/exe".into(), arguments)
    }

    pub(crate) fn of(program: PathBuf, arguments: &[&str]) -> Self {
        Self { program, arguments: arguments.iter().map(|&argument| argument.to_owned()).collect() }
    }

    /// Gives a child `input`, and waits until it ends or is ended. Blocks.
    pub fn run(&self, input: &[u8], bounds: Bounds) -> Ended {
        let room = room::room();
        let (wanted, bounds) = (bounds.memory_bytes, bounds.within(room));
        let short_of = ShortOf {
            bytes: bounds.memory_bytes,
            container_bytes: room.map(|room| room.container_bytes).filter(|_| bounds.memory_bytes < wanted),
            by: Stopped::ByItsLimit,
        };
        let child = Command::new(&self.program)
            .args(&self.arguments)
            .args([bounds.memory_bytes.to_string(), bounds.cpu.as_secs().max(1).to_string()])
            // Nothing in our environment is its business, passwords least of all.
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = match child {
            Ok(child) => child,
            Err(error) => return Ended::Broken(format!("it cannot be started: {error}")),
        };
        let time = TimeLeft::of(child.id(), bounds.wall, bounds.patience);
        let ended = converse(&mut child, input, &time, bounds.answer_bytes);
        // That it has ended already is as good; whatever it was about, it is gone when we return.
        let _ = child.kill();
        match (child.wait(), ended) {
            (Err(error), _) => Ended::Broken(error.to_string()),
            (Ok(status), Ok(Some((answer, words)))) => judge(status, answer, &words, (bounds.answer_bytes, short_of)),
            (Ok(_), Ok(None)) => Ended::OutOfTime,
            (Ok(_), Err(error)) => Ended::Broken(format!("it cannot be talked to: {error}")),
        }
    }
}

/// Gives the child its input, and takes what it answers and what it says beside; none if it has not ended in its time.
fn converse(child: &mut Child, given: &[u8], time: &TimeLeft, most: u64) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
    let taken = || io::Error::other("its pipes are gone");
    let mut input = child.stdin.take().ok_or_else(taken)?;
    let output = child.stdout.take().ok_or_else(taken)?;
    let words = child.stderr.take().ok_or_else(taken)?;
    scope(|scope| {
        let (done, answered) = mpsc::channel();
        let (said, heard) = mpsc::channel();
        Builder::new().name("child-in".into()).spawn_scoped(scope, move || {
            // A child that ends before it has read all says why itself.
            let _ = input.write_all(given);
        })?;
        // If nobody listens any more, its time was over.
        Builder::new().name("child-out".into()).spawn_scoped(scope, move || done.send(read_to(output, most)))?;
        Builder::new()
            .name("child-say".into())
            .spawn_scoped(scope, move || said.send(read_to(words, MAX_WORDS_BYTES)))?;
        let answer = time.receive(&answered);
        let words = time.receive(&heard);
        let ended = ends(child, time)?;
        match (answer, words) {
            (Some(answer), Some(words)) if ended => Ok(Some((answer?, words.unwrap_or_default()))),
            _ => {
                // Its pipes close, and so the threads end.
                child.kill()?;
                Ok(None)
            }
        }
    })
}

/// Waits until the child has ended, or its time is over; gives whether it has. It closes its pipes as it ends, so this is soon over.
fn ends(child: &mut Child, time: &TimeLeft) -> io::Result<bool> {
    let mut pause = Duration::from_micros(20);
    while child.try_wait()?.is_none() {
        if time.is_over() {
            return Ok(false);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(1));
    }
    Ok(true)
}

fn read_to(from: impl Read, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(most + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What the end of a child means.
fn judge(status: ExitStatus, answer: Vec<u8>, words: &[u8], (most, short_of): (u64, ShortOf)) -> Ended {
    let words = String::from_utf8_lossy(words);
    let killed_by = |signal: Signal| status.signal() == Some(signal.as_raw());
    match status.code() {
        Some(0) if answer.len() as u64 <= most => Ended::Answered(answer),
        Some(0) => Ended::ShortOfMemory(short_of),
        Some(code) if code == i32::from(REFUSED) => Ended::Refused(answer),
        // The kernel ran short of memory, and took the first to go.
        _ if killed_by(Signal::KILL) => Ended::ShortOfMemory(ShortOf { by: Stopped::ByTheKernel, ..short_of }),
        _ if killed_by(Signal::XCPU) => Ended::OutOfTime,
        // So Rust says it before it aborts.
        _ if words.contains("memory allocation of") => Ended::ShortOfMemory(short_of),
        _ => {
            let last = words.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
            Ended::Broken(format!("{status}: {last}"))
        }
    }
}

/// The child's side: limits itself, gives `work` what stands on standard input, at most `most` bytes, and answers on standard output. `Err`
/// of `work` says why there is no answer. `memory_bytes` and `seconds` are the last two arguments it was called with.
pub fn serve_and_exit(
    memory_bytes: u64,
    seconds: u64,
    most: u64,
    work: impl FnOnce(&[u8]) -> io::Result<Result<Vec<u8>, Vec<u8>>>,
) -> ExitCode {
    let serve = || {
        confine(memory_bytes, seconds)?;
        let mut given = Vec::new();
        io::stdin().take(most).read_to_end(&mut given)?;
        let mut output = io::stdout().lock();
        let (answer, code) = match work(&given)? {
            Ok(answer) => (answer, ExitCode::SUCCESS),
            Err(why) => (why, ExitCode::from(REFUSED)),
        };
        output.write_all(&answer)?;
        output.flush()?;
        io::Result::Ok(code)
    };
    serve().unwrap_or_else(|error| {
        // If nobody reads it, nobody wants to know.
        let _ = writeln!(io::stderr(), "{error}");
        ExitCode::FAILURE
    })
}

/// Gives up what such work does not need.
fn confine(memory_bytes: u64, seconds: u64) -> io::Result<()> {
    let limit = |resource, most| setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) });
    // Where there is no such file there is no such killer.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    // Of what is written to, not of address space: that would count what allocators and threads only reserve.
    limit(Resource::Data, memory_bytes)?;
    // Beyond the one it is told so, beyond the other it is killed as one that is short of memory is.
    setrlimit(Resource::Cpu, Rlimit { current: Some(seconds), maximum: Some(seconds + 1) })?;
    limit(Resource::Fsize, 0)?;
    limit(Resource::Core, 0)?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let of_lanes = getppid().map_or(Ok(0), |host| getpriority_process(Some(host)))?;
    rustix::process::nice((of_lanes + POLITENESS - getpriority_process(None)?).max(0))?;
    Ok(())
}
