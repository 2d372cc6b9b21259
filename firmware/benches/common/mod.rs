//! What the benchmarks share: an appliance in a process of its own with so many rules, a client that asks it, and
//! small measuring helpers. Only the benches use it.

#![allow(clippy::unwrap_used, clippy::expect_used, dead_code)]

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aifw::config::rule::{Action, Direction, Endpoint, IpVersion, Protocol};
use aifw::config::setup::Setup;
use aifw::config::{Config, Id, PortRange, Rule, Timestamp};
use aifw::store::{Author, Draft, Store};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

const ADMIN: (&str, &str) = ("admin", "TestPass123");

/// `--quick` on the command line: a short run that shows the order of magnitude.
pub fn quick() -> bool {
    std::env::args().any(|argument| argument == "--quick")
}

/// Prints one figure: what, how much, and a remark.
pub fn line(what: &str, value: impl std::fmt::Display, remark: impl std::fmt::Display) {
    println!("{what:<58} {value:>14}  {remark}");
}

pub fn heading(text: &str) {
    println!("\n{text}");
}

/// Median, smallest and largest.
pub struct Spread {
    pub median: Duration,
    pub least: Duration,
    pub most: Duration,
}

/// Runs `work` so often; it gives the time that counts.
pub fn spread(times: usize, mut work: impl FnMut(usize) -> Duration) -> Spread {
    let mut all: Vec<Duration> = (0..times).map(&mut work).collect();
    all.sort();
    Spread { median: all[all.len() / 2], least: all[0], most: all[all.len() - 1] }
}

impl Spread {
    pub fn print(&self, what: &str) {
        line(what, ms(self.median), format!("{} to {}", ms(self.least), ms(self.most)));
    }
}

/// `1.23 ms`.
pub fn ms(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

/// How long `work` takes, and what it gives.
pub fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let begun = Instant::now();
    let value = work();
    (begun.elapsed(), value)
}

/// A rule like an administrator's; each number gives another one.
pub fn rule(number: usize, now: Timestamp) -> Rule {
    let host = u32::try_from(number).unwrap();
    Rule {
        id: Id::from_u128(0x1234_5678_0000_4000_8000_0000_0000_0000 + number as u128),
        priority: u16::try_from(number % 10_000).unwrap(),
        action: Action::Pass,
        direction: Direction::In,
        ip_version: IpVersion::Both,
        interface: Some("em0".parse().unwrap()),
        protocol: Protocol::Tcp,
        src: Endpoint::default(),
        dst: Endpoint {
            addr: std::net::Ipv4Addr::from(0xc612_0000 + host).to_string().parse().unwrap(),
            port: Some(PortRange::new(443, 443).unwrap()),
            ..Endpoint::default()
        },
        log: number.is_multiple_of(7),
        quick: true,
        label: None,
        description: Some(format!("Rule number {number} of the benchmark")),
        gateway: None,
        state: Default::default(),
        status: Default::default(),
        schedule_id: None,
        created_at: now,
        updated_at: now,
    }
}

/// The same rule as the body of a POST.
pub fn rule_request(number: usize) -> Value {
    json!({
        "action": "pass", "direction": "in", "protocol": "tcp", "interface": "em0", "priority": number % 10_000,
        "dst_addr": "192.0.2.10", "dst_port_start": 443, "dst_port_end": 443,
        "description": format!("Rule number {number} added by the benchmark"),
    })
}

/// A configuration with two interfaces and exactly so many rules.
pub fn configuration(rules: usize) -> Config {
    let now = Timestamp::now();
    let setup = json!({
        "wan_interface": "em0", "wan_mode": "static", "wan_ip": "203.0.113.2/24", "wan_gateway": "203.0.113.1",
        "lan_interface": "em1", "lan_ip": "192.168.1.1/24", "nat_enabled": true, "dns_servers": ["192.0.2.53"],
    });
    let setup = Setup::parse_without_admin(setup.to_string().as_bytes(), now).unwrap();
    let mut config = setup.config;
    config.rules.clear();
    (0..rules).for_each(|number| config.rules.insert(rule(number, now)));
    config
}

/// Fills a new state directory with so many rules, all of them applied.
pub fn fill(state: &Path, rules: usize) {
    let store = Store::open(state).unwrap();
    let config = configuration(rules);
    let change = move |draft: &mut Draft| {
        draft.applied = config.clone();
        draft.config = config;
        Ok::<(), Infallible>(())
    };
    smol::block_on(store.commit(&Author::system("bench"), change)).unwrap();
    store.close();
}

/// `aifw sandbox`, running.
pub struct Appliance {
    process: Child,
    pub address: SocketAddr,
    /// From the start of the process to its first answer.
    pub first_answer: Duration,
    state: PathBuf,
}

impl Appliance {
    /// Starts it and waits for its first answer.
    pub fn start(state: &Path) -> Self {
        let address_file = state.with_extension("address");
        std::fs::remove_file(&address_file).ok();
        let begun = Instant::now();
        let process = Command::new(env!("CARGO_BIN_EXE_aifw"))
            .arg("sandbox")
            .args(["--listen", "127.0.0.1:0", "--state"])
            .arg(state)
            .arg("--address-file")
            .arg(&address_file)
            // Its notes to the administrator; a failure shows in the exit status.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let address = loop {
            match std::fs::read_to_string(&address_file) {
                Ok(text) => break text.trim().parse().unwrap(),
                Err(_) => std::thread::sleep(Duration::from_micros(200)),
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "the appliance does not come up");
        };
        let (status, _) = Client::new(address, "").ask("GET", "/auth/me", None);
        assert_eq!(status, 401);
        Self { process, address, first_answer: begun.elapsed(), state: state.to_owned() }
    }

    /// Registers the administrator of a new appliance and logs in.
    pub fn sign_in(&self) -> Client {
        let admin = json!({ "username": ADMIN.0, "password": ADMIN.1 });
        let mut client = Client::new(self.address, "");
        assert_eq!(client.ask("POST", "/auth/register", Some(&admin)).0, 201);
        let (status, login) = client.ask("POST", "/auth/login", Some(&admin));
        assert_eq!(status, 200, "{login}");
        Client::new(self.address, login["access_token"].as_str().unwrap())
    }

    /// Resident memory in KiB.
    pub fn memory(&self) -> u64 {
        let output = Command::new("ps").args(["-o", "rss=", "-p", &self.process.id().to_string()]).output();
        String::from_utf8(output.unwrap().stdout).unwrap().trim().parse().unwrap()
    }

    /// Of which memory that is no mapped file, in KiB, where the system tells (Linux).
    pub fn anonymous_memory(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).ok()?;
        let text = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
        text.trim().trim_end_matches(" kB").parse().ok()
    }

    pub fn print_memory(&self, what: &str) {
        let mb = |kib: u64| format!("{:.1} MB", kib as f64 * 1024.0 / 1e6);
        let own = self
            .anonymous_memory()
            .map_or(String::new(), |kib| format!("{} without the program file", mb(kib)));
        line(what, mb(self.memory()), own);
    }

    /// Processor time that the process has used, where the system tells (Linux; in steps of 10 ms).
    pub fn processor_time(&self) -> Option<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
        let user: u64 = fields.next()?.parse().ok()?;
        let system: u64 = fields.next()?.parse().ok()?;
        Some(Duration::from_millis((user + system) * 10))
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.process.id()).unwrap());
        kill(pid, Signal::SIGTERM).ok();
        let status = self.process.wait().unwrap();
        if !std::thread::panicking() {
            assert!(status.success(), "{}: {status}", self.state.display());
        }
    }
}

/// One connection that is kept open.
pub struct Client {
    address: SocketAddr,
    stream: TcpStream,
    buffer: Vec<u8>,
    pub token: String,
}

impl Client {
    pub fn new(address: SocketAddr, token: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { address, stream, buffer: Vec::new(), token: token.to_owned() }
    }

    /// Status and JSON; `path` is below `/api/v1`.
    pub fn ask(&mut self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let body = body.map_or(String::new(), Value::to_string);
        let request = request(method, &format!("/api/v1{path}"), self.address, &self.token, &body);
        self.stream.write_all(request.as_bytes()).unwrap();
        let (status, body) = read_answer(&mut self.stream, &mut self.buffer);
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }
}

fn request(method: &str, path: &str, address: SocketAddr, token: &str, body: &str) -> String {
    let credential =
        if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
    let length = if method == "GET" { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\n{credential}User-Agent: bench\r\nAccept: */*\r\n{length}\r\n{body}"
    )
}

/// Reads one answer that tells its length.
fn read_answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> (u16, Vec<u8>) {
    let mut chunk = [0; 64 * 1024];
    let mut more = |buffer: &mut Vec<u8>| {
        let count = stream.read(&mut chunk).unwrap();
        assert!(count > 0, "the server has closed the connection");
        buffer.extend_from_slice(&chunk[..count]);
    };
    let end = loop {
        match buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            Some(end) => break end,
            None => more(buffer),
        }
    };
    let head = std::str::from_utf8(&buffer[..end]).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let total = end + 4 + length.map_or(0, |length| length.parse::<usize>().unwrap());
    while buffer.len() < total {
        more(buffer);
    }
    let body = buffer[end + 4..total].to_vec();
    buffer.drain(..total);
    (status, body)
}

const CONNECTIONS: usize = 64;

/// Answers per second, asked for by a process of its own: this program again, see [`load_if_asked`].
pub fn rate(address: SocketAddr, path: &str, token: &str, seconds: f64) -> f64 {
    let program = std::env::current_exe().unwrap();
    let arguments = ["--load", &address.to_string(), path, token, &seconds.to_string()];
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

/// Where this program was started by [`rate`]: makes the load, prints answers per second, and gives `true`.
pub fn load_if_asked() -> bool {
    let arguments: Vec<String> = std::env::args().collect();
    let Some(at) = arguments.iter().position(|argument| argument == "--load") else { return false };
    let [address, path, token, seconds] = &arguments[at + 1..at + 5] else {
        panic!("--load ADDRESS PATH TOKEN SECONDS")
    };
    println!("{}", load(address.parse().unwrap(), path, token, seconds.parse().unwrap()));
    true
}

/// Asks for `path` on all connections, one request after the other on each. One thread, so that the server is
/// measured and not the client's switching between threads. Anything but a 200 is an error.
fn load(address: SocketAddr, path: &str, token: &str, seconds: f64) -> f64 {
    let request = request("GET", path, address, token, "");
    let mut clients: Vec<Client> = (0..CONNECTIONS).map(|_| Client::new(address, token)).collect();
    let begun = Instant::now();
    let mut answers = 0_u64;
    while begun.elapsed() < Duration::from_secs_f64(seconds) {
        for client in &mut clients {
            client.stream.write_all(request.as_bytes()).unwrap();
        }
        for client in &mut clients {
            let status = skim_answer(&mut client.stream, &mut client.buffer);
            assert_eq!(status, 200);
            answers += 1;
        }
    }
    answers as f64 / begun.elapsed().as_secs_f64()
}

/// As [`read_answer`], the body being thrown away as it comes.
fn skim_answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> u16 {
    let mut chunk = [0; 64 * 1024];
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        let count = stream.read(&mut chunk).unwrap();
        assert!(count > 0, "the server has closed the connection");
        buffer.extend_from_slice(&chunk[..count]);
    };
    let head = std::str::from_utf8(&buffer[..end]).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let total = end + 4 + length.parse::<usize>().unwrap();
    let mut seen = buffer.len();
    buffer.clear();
    while seen < total {
        let count = stream.read(&mut chunk).unwrap();
        assert!(count > 0, "the server has closed the connection");
        seen += count;
    }
    assert_eq!(seen, total, "more than one answer to one request");
    status
}
