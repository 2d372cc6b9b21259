//! One child's life: a task that takes orders and watches the process.

use std::io;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_io::Timer;
use async_process::Child;
use futures_lite::future;
use nix::sys::signal::Signal;
use serde::Serialize;

use super::backoff::{Ends, Next, Run};
use super::log::Log;
use super::spec::{Liveness, RestartPolicy, ServiceSpec};
use super::{Supervisor, SupervisorError, child};
use crate::config::Timestamp;

/// Where a child stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub enum State {
    #[serde(rename = "not installed")]
    NotInstalled,
    #[serde(rename = "stopped")]
    Stopped,
    #[serde(rename = "starting")]
    Starting,
    #[serde(rename = "running")]
    Running,
    #[serde(rename = "backing off")]
    BackingOff,
    #[serde(rename = "failed")]
    Failed,
}

/// What is known of a child.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Status {
    pub name: String,
    pub state: State,
    pub pid: Option<u32>,
    /// Since when it has been in this state.
    pub since: Timestamp,
    /// Starts that followed an end which nobody had asked for.
    pub restarts: u64,
    /// How it ended last: `exit status 1`, `signal 9` …
    pub last_end: Option<String>,
    /// Why it is not running, where there is more to say.
    pub reason: Option<String>,
    /// What it said last, when it has failed.
    pub last_lines: Vec<String>,
}

impl Status {
    /// Of a child that nobody has heard of.
    pub fn unknown(name: &str) -> Self {
        Self {
            name: name.into(),
            state: State::NotInstalled,
            pid: None,
            since: Timestamp::now(),
            restarts: 0,
            last_end: None,
            reason: None,
            last_lines: Vec::new(),
        }
    }
}

/// What a child may be told.
pub(super) enum Order {
    Start,
    Stop,
    /// Stop, and take no more orders.
    End,
}

type Answer = async_channel::Sender<Result<(), SupervisorError>>;
type Sent = (Order, Answer);

/// A child under supervision.
pub(super) struct Service {
    pub name: String,
    spec: Mutex<ServiceSpec>,
    status: Mutex<Status>,
    log: Arc<Log>,
    orders: (async_channel::Sender<Sent>, async_channel::Receiver<Sent>),
}

/// How a run came to its end.
enum Ended {
    /// By itself.
    Alone(io::Result<ExitStatus>),
    /// It never became ready.
    NotReady(String),
    /// It lived, but did not work any more.
    Mute(String),
    Ordered(Order, Answer),
}

const TAIL: usize = 20;
/// How long the pipes of a child that has ended are read on.
const LAST_WORDS: Duration = Duration::from_millis(500);

impl Service {
    pub fn new(spec: ServiceSpec) -> Arc<Self> {
        let status = Status {
            name: spec.name.clone(),
            state: if installed(&spec.program) { State::Stopped } else { State::NotInstalled },
            pid: None,
            since: Timestamp::now(),
            restarts: 0,
            last_end: None,
            reason: None,
            last_lines: Vec::new(),
        };
        Arc::new(Self {
            name: spec.name.clone(),
            spec: Mutex::new(spec),
            status: Mutex::new(status),
            log: Arc::default(),
            orders: async_channel::unbounded(),
        })
    }

    pub fn set_spec(&self, spec: ServiceSpec) {
        *self.spec.lock().unwrap_or_else(PoisonError::into_inner) = spec;
    }
    fn spec(&self) -> ServiceSpec {
        self.spec.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
    pub fn after(&self) -> Vec<String> {
        self.spec().after
    }
    pub fn status(&self) -> Status {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Gives an order and waits until it is carried out.
    pub async fn order(&self, order: Order) -> Result<(), SupervisorError> {
        let (answer, answered) = async_channel::bounded(1);
        self.orders.0.send((order, answer)).await.map_err(|_| SupervisorError::ShuttingDown)?;
        answered.recv().await.unwrap_or(Err(SupervisorError::ShuttingDown))
    }

    fn change(&self, supervisor: &Supervisor, edit: impl FnOnce(&mut Status)) {
        {
            let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
            let before = status.state;
            edit(&mut status);
            if status.state != before {
                status.since = Timestamp::now();
            }
        }
        supervisor.changed();
    }

    /// Lives as long as the supervisor.
    pub async fn run(self: Arc<Self>, supervisor: Supervisor) {
        let mut ends = Ends::default();
        // Somebody who waits for a start that is under way.
        let mut waiting: Option<Answer> = None;
        loop {
            if waiting.is_none() {
                match self.orders.1.recv().await {
                    Ok((Order::Start, answer)) => {
                        ends.forget();
                        waiting = Some(answer);
                    }
                    Ok((Order::Stop, answer)) => {
                        self.change(&supervisor, |status| {
                            if !matches!(status.state, State::NotInstalled) {
                                status.state = State::Stopped;
                            }
                        });
                        answer.send(Ok(())).await.ok();
                        continue;
                    }
                    Ok((Order::End, answer)) => {
                        answer.send(Ok(())).await.ok();
                        self.orders.1.close();
                        return;
                    }
                    Err(_) => return,
                }
            }
            if self.keep_up(&supervisor, &mut ends, &mut waiting).await {
                self.orders.1.close();
                return;
            }
        }
    }

    /// Keeps the child up until it is told to stop or has failed for good; `true` = the end of supervision.
    async fn keep_up(&self, supervisor: &Supervisor, ends: &mut Ends, waiting: &mut Option<Answer>) -> bool {
        loop {
            let spec = self.spec();
            if !installed(&spec.program) {
                let reason = format!("{} is not there or not executable", spec.program.display());
                self.change(supervisor, |status| {
                    (status.state, status.pid, status.reason) = (State::NotInstalled, None, Some(reason));
                });
                reply(waiting, Err(SupervisorError::NotInstalled(self.name.clone()))).await;
                return false;
            }
            self.change(supervisor, |status| {
                (status.state, status.reason, status.last_lines) = (State::Starting, None, Vec::new());
            });
            let began = Instant::now();
            let ended = match self.wait_for_others(supervisor, &spec).await {
                Some((order, answer)) => Ended::Ordered(order, answer),
                None => self.run_once(supervisor, &spec, waiting).await,
            };
            let (how, success) = match ended {
                Ended::Ordered(order, answer) => {
                    reply(waiting, Err(SupervisorError::NotRunning(self.name.clone()))).await;
                    self.change(supervisor, |status| (status.state, status.pid) = (State::Stopped, None));
                    answer.send(Ok(())).await.ok();
                    return matches!(order, Order::End);
                }
                Ended::Alone(Ok(status)) => (describe(status), status.success()),
                Ended::Alone(Err(error)) => (error.to_string(), false),
                Ended::NotReady(reason) => (format!("not ready: {reason}"), false),
                Ended::Mute(reason) => (format!("no answer any more: {reason}"), false),
            };
            log::warn!("{}: ended: {how}", self.name);
            let was_ready = self.status().state == State::Running;
            let run = Run { ended: Instant::now(), lasted: began.elapsed(), was_ready };
            let over = match spec.restart {
                RestartPolicy::Always => false,
                RestartPolicy::OnFailure => success,
                RestartPolicy::Never => true,
            };
            let next = if over { Next::GiveUp } else { ends.ended(run, &spec.backoff) };
            match next {
                Next::GiveUp => {
                    let lines: Vec<String> = self.log.tail(TAIL).into_iter().map(|line| line.line).collect();
                    let state = if over && success { State::Stopped } else { State::Failed };
                    self.change(supervisor, |status| {
                        (status.state, status.pid) = (state, None);
                        status.last_end = Some(how.clone());
                        status.last_lines = lines;
                    });
                    let reason = self.why(&how);
                    reply(waiting, Err(SupervisorError::NotReady { service: self.name.clone(), reason }))
                        .await;
                    match spec.backoff.retry_after.filter(|_| !over) {
                        None => return false,
                        Some(delay) => {
                            if let Some(end) = self.wait(supervisor, delay, ends, waiting).await {
                                return end;
                            }
                            self.change(supervisor, |status| status.restarts += 1);
                        }
                    }
                }
                Next::StartAfter(delay) => {
                    self.change(supervisor, |status| {
                        (status.state, status.pid) = (State::BackingOff, None);
                        status.last_end = Some(how.clone());
                        status.restarts += 1;
                    });
                    let reason = self.why(&how);
                    reply(waiting, Err(SupervisorError::NotReady { service: self.name.clone(), reason }))
                        .await;
                    if let Some(end) = self.wait(supervisor, delay, ends, waiting).await {
                        return end;
                    }
                }
            }
        }
    }

    /// Waits for the next start; an order comes first. `Some` = it is not to be kept up any more, and whether
    /// that is the end of supervision.
    async fn wait(
        &self,
        supervisor: &Supervisor,
        delay: Duration,
        ends: &mut Ends,
        waiting: &mut Option<Answer>,
    ) -> Option<bool> {
        match self.pause(delay).await {
            None => None,
            Some((Order::Start, answer)) => {
                ends.forget();
                *waiting = Some(answer);
                None
            }
            Some((order, answer)) => {
                self.change(supervisor, |status| status.state = State::Stopped);
                answer.send(Ok(())).await.ok();
                Some(matches!(order, Order::End))
            }
        }
    }

    fn why(&self, how: &str) -> String {
        match self.log.tail(1).pop() {
            Some(last) => format!("{how}; it said: {}", last.line),
            None => how.to_owned(),
        }
    }

    async fn pause(&self, delay: Duration) -> Option<Sent> {
        let wait = async {
            Timer::after(delay).await;
            None
        };
        future::or(wait, async { self.orders.1.recv().await.ok() }).await
    }

    /// Waits until those it depends on run; an order that is not a start ends the wait.
    async fn wait_for_others(&self, supervisor: &Supervisor, spec: &ServiceSpec) -> Option<Sent> {
        for other in &spec.after {
            let ready = async {
                // An unknown dependency is no reason to wait for ever.
                supervisor.wait_for(other, |status| status.state == State::Running).await.ok();
                None
            };
            let order = async {
                loop {
                    match self.orders.1.recv().await {
                        Ok((Order::Start, answer)) => {
                            answer.send(Ok(())).await.ok();
                        }
                        Ok(order) => return Some(order),
                        Err(_) => return None,
                    }
                }
            };
            if let Some(order) = future::or(ready, order).await {
                return Some(order);
            }
        }
        None
    }

    /// One process, from its start to its end.
    async fn run_once(
        &self,
        supervisor: &Supervisor,
        spec: &ServiceSpec,
        waiting: &mut Option<Answer>,
    ) -> Ended {
        for path in &spec.stale {
            std::fs::remove_file(path).ok();
        }
        let mut process = match child::start(spec) {
            Ok(process) => process,
            Err(error) => return Ended::Alone(Err(error)),
        };
        let pid = process.id();
        self.change(supervisor, |status| status.pid = Some(pid));
        let mut followers = Vec::new();
        if let Some(pipe) = process.stdout.take() {
            let log = self.log.clone();
            followers.push(smol::spawn(async move { log.follow(pipe).await }));
        }
        if let Some(pipe) = process.stderr.take() {
            let log = self.log.clone();
            followers.push(smol::spawn(async move { log.follow(pipe).await }));
        }
        let ended = self.watch(supervisor, spec, &mut process, waiting).await;
        match &ended {
            Ended::Alone(_) => {}
            Ended::NotReady(_) | Ended::Mute(_) | Ended::Ordered(..) => {
                stop(&mut process, pid, spec.grace).await
            }
        }
        // What the child itself left behind goes with it.
        child::signal_group(pid, Signal::SIGKILL);
        super::guardian::ended(pid);
        // Its last words are in the pipes. A descendant that left the group may hold them open.
        let heard = async {
            for follower in followers {
                follower.await;
            }
        };
        let patience = async {
            Timer::after(LAST_WORDS).await;
        };
        future::or(heard, patience).await;
        ended
    }

    async fn watch(
        &self,
        supervisor: &Supervisor,
        spec: &ServiceSpec,
        process: &mut Child,
        waiting: &mut Option<Answer>,
    ) -> Ended {
        let ready = async {
            let deadline = Instant::now() + spec.ready_within;
            let mut pause = Duration::from_millis(20);
            let mut failure = String::from("no answer in time");
            loop {
                let asked = async { spec.readiness.probe().await.map_err(Some) };
                let time_is_up = async {
                    Timer::at(deadline).await;
                    Err(None)
                };
                match future::or(asked, time_is_up).await {
                    Ok(()) => return None,
                    Err(Some(told)) => failure = told,
                    // What was told before says more than that this time nothing was.
                    Err(None) => {}
                }
                if Instant::now() >= deadline || spec.readiness.is_final(&failure) {
                    return Some(Ended::NotReady(failure));
                }
                Timer::after(pause).await;
                pause = (pause * 2).min(Duration::from_millis(500));
            }
        };
        let first = {
            let exit = async { Some(Ended::Alone(process.status().await)) };
            future::or(
                exit,
                future::or(async { self.other_order(None).await.map(|(o, a)| Ended::Ordered(o, a)) }, ready),
            )
            .await
        };
        if let Some(ended) = first {
            return ended;
        }
        self.change(supervisor, |status| status.state = State::Running);
        reply(waiting, Ok(())).await;
        let exit = async { Ended::Alone(process.status().await) };
        let order = async {
            match self.other_order(Some(())).await {
                Some((order, answer)) => Ended::Ordered(order, answer),
                None => future::pending().await,
            }
        };
        let mute = async {
            match spec.liveness {
                Some(liveness) => Ended::Mute(no_longer_answers(spec, liveness).await),
                None => future::pending().await,
            }
        };
        future::or(exit, future::or(order, mute)).await
    }

    /// The next order that is not a start. A start is answered at once when the child runs; while it is being
    /// started the caller is told so by the answer to its own order.
    async fn other_order(&self, running: Option<()>) -> Option<Sent> {
        loop {
            match self.orders.1.recv().await {
                Ok((Order::Start, answer)) => {
                    let told = match running {
                        Some(()) => Ok(()),
                        None => Err(SupervisorError::NotReady {
                            service: self.name.clone(),
                            reason: "it is being started already".into(),
                        }),
                    };
                    answer.send(told).await.ok();
                }
                Ok(order) => return Some(order),
                Err(_) => return None,
            }
        }
    }
}

async fn reply(waiting: &mut Option<Answer>, outcome: Result<(), SupervisorError>) {
    if let Some(answer) = waiting.take() {
        answer.send(outcome).await.ok();
    }
}

/// Returns when a running child has missed too many answers in a row, with why the last one was missing.
async fn no_longer_answers(spec: &ServiceSpec, liveness: Liveness) -> String {
    let mut missed = 0;
    loop {
        Timer::after(liveness.every).await;
        let late = async {
            Timer::after(liveness.within).await;
            Err(format!("none within {} s", liveness.within.as_secs_f32()))
        };
        match future::or(async { spec.readiness.probe().await }, late).await {
            Ok(()) => missed = 0,
            Err(reason) => {
                missed += 1;
                if missed >= liveness.misses {
                    return reason;
                }
            }
        }
    }
}

/// TERM to the group, KILL when the grace is over.
async fn stop(process: &mut Child, pid: u32, grace: Duration) {
    child::signal_group(pid, Signal::SIGTERM);
    let exited = async { process.status().await.is_ok() };
    let late = async {
        Timer::after(grace).await;
        false
    };
    if !future::or(exited, late).await {
        child::signal_group(pid, Signal::SIGKILL);
        process.status().await.ok();
    }
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "ended".into(),
    }
}

fn installed(program: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(program).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
