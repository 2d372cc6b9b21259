//! The two small scripts between getty(8) and the menu, run by this host's sh(1) with stand-ins for the programs that
//! they call.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

const LOCKED: &str = "# accounts\nroot:*:0:0::0:0:Administrator:/root:/usr/local/sbin/aifw-console\n";
const WITH_PASSWORD: &str = "root:$6$salt$hash:0:0::0:0:Administrator:/root:/usr/local/sbin/aifw-console\n";
const NEW: &str = "HTTP/1.0 200 OK\r\n\r\n{\"configured\":false,\"hostname\":\"aifw\"}";
const SET_UP: &str = "HTTP/1.0 200 OK\r\n\r\n{\"configured\":true,\"url\":\"https://192.168.1.1:8080/\"}";
const STARTS: &str = "HTTP/1.0 200 OK\r\n\r\n{\"configured\":true,\"url\":null}";

/// A script of the overlay, its programs replaced by those of a directory.
struct Script {
    dir: tempfile::TempDir,
}

impl Script {
    fn new(path: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../overlay").join(path);
        let here = |name: &str| dir.path().join(name).display().to_string();
        let text = fs::read_to_string(source)
            .unwrap()
            .replace("/usr/bin/login", &here("login"))
            .replace("/usr/local/sbin/aifw", &here("aifw"))
            .replace("/bin/sh\n", &format!("{}\n", here("shell")))
            .replace("/etc/master.passwd", &here("master.passwd"))
            .replace("/var/run/aifw-started", &here("started"));
        // The first line is the interpreter's, whatever has been replaced in it.
        let script = Self { dir };
        script.program("script", text.split_once('\n').unwrap().1);
        script.program("login", "echo login \"$@\"\n");
        script.program("shell", "echo shell\n");
        // Each pause brings what the file `later` says the firmware answers then.
        script.program(
            "sleep",
            "echo pause >> \"$0.log\"\nmv \"${0%/*}/later\" \"${0%/*}/answer\" 2>/dev/null\nexit 0\n",
        );
        script.program("sysctl", "echo ttyu0,ttyv0,/ttyu0,ttyv0,\n");
        script.program("tty", "echo /dev/ttyu0\n");
        script.program("nc", "cat >/dev/null; cat \"${0%/*}/answer\" 2>/dev/null\n");
        script
    }

    fn program(&self, name: &str, body: &str) {
        self.file(name, &format!("#!/bin/sh\n{body}"));
        fs::set_permissions(self.dir.path().join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn file(&self, name: &str, text: &str) {
        fs::write(self.dir.path().join(name), text).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("sh");
        let path = format!("{}:/usr/bin:/bin", self.dir.path().display());
        command.arg(self.dir.path().join("script")).args(arguments).env("PATH", path);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn told(&self) -> String {
        String::from_utf8(self.run(&["-fp", "root"]).stdout).unwrap()
    }
}

#[test]
fn an_appliance_that_is_not_set_up_lets_whoever_is_there_into_the_menu() {
    let script = Script::new("usr/local/libexec/aifw-login");
    script.file("master.passwd", LOCKED);
    script.file("answer", NEW);
    assert_eq!(script.told(), "login -fp root\n");
}

#[test]
fn on_a_further_console_setup_begins_when_somebody_presses_enter() {
    let script = Script::new("usr/local/libexec/aifw-login");
    script.program("tty", "echo /dev/ttyv0\n");
    script.file("master.passwd", LOCKED);
    script.file("answer", NEW);
    let told = |input: &str| {
        script.file("input", input);
        let input = fs::File::open(script.dir.path().join("input")).unwrap();
        String::from_utf8(script.command(&["-fp", "root"]).stdin(input).output().unwrap().stdout).unwrap()
    };
    let asked = "AiFw is not set up. Press Enter to do it here.\n";
    assert_eq!(told("\n"), format!("{asked}login -fp root\n"));
    assert_eq!(told(""), asked, "the line was hung up");
}

#[test]
fn one_that_is_set_up_asks_for_name_and_password() {
    let script = Script::new("usr/local/libexec/aifw-login");
    script.file("master.passwd", LOCKED);
    script.file("answer", SET_UP);
    assert_eq!(script.told(), "login -p\n");
}

#[test]
fn nothing_is_decided_before_the_firmware_has_answered() {
    let script = Script::new("usr/local/libexec/aifw-login");
    script.file("master.passwd", LOCKED);
    script.file("later", SET_UP);
    assert_eq!(script.told(), "AiFw is starting.\nlogin -p\n");
    script.file("answer", "HTTP/1.0 500 Internal Server Error\r\n\r\n{}");
    script.file("later", NEW);
    assert_eq!(script.told(), "AiFw is starting.\nlogin -fp root\n");
}

#[test]
fn a_root_with_a_password_is_asked_for_it_whatever_the_firmware_does() {
    let script = Script::new("usr/local/libexec/aifw-login");
    script.file("master.passwd", WITH_PASSWORD);
    script.file("answer", NEW);
    assert_eq!(script.told(), "login -p\n");
}

#[test]
fn the_first_prompt_after_a_boot_comes_after_the_lines_about_the_start() {
    let pauses = |script: &Script| {
        fs::read_to_string(script.dir.path().join("sleep.log")).unwrap_or_default().lines().count()
    };
    let script = Script::new("usr/local/libexec/aifw-login");
    script.file("master.passwd", WITH_PASSWORD);
    script.file("answer", STARTS);
    script.file("later", SET_UP);
    assert_eq!((script.told().as_str(), pauses(&script)), ("login -p\n", 1));
    // Once: later prompts are there at once, whatever the firmware does.
    script.file("answer", STARTS);
    assert_eq!((script.told().as_str(), pauses(&script)), ("login -p\n", 1));
    // One that does not come up keeps nobody out.
    let script = Script::new("usr/local/libexec/aifw-login");
    script.file("master.passwd", WITH_PASSWORD);
    assert_eq!((script.told().as_str(), pauses(&script)), ("login -p\n", 30));
}

#[test]
fn the_menu_is_roots_shell_and_commands_are_passed_on() {
    let script = Script::new("usr/local/sbin/aifw-console");
    script.program("aifw", "echo aifw \"$@\"\n");
    let told = |arguments: &[&str]| String::from_utf8(script.run(arguments).stdout).unwrap();
    assert_eq!(told(&[]), "aifw console\n");
    assert_eq!(told(&["-c", "echo a  b"]), "aifw console -c echo a  b\n");
}

#[test]
fn a_menu_that_does_not_run_leaves_root_a_shell_and_a_line_that_was_hung_up_none() {
    let script = Script::new("usr/local/sbin/aifw-console");
    for (body, shell) in
        [("exit 3", true), ("kill -SEGV $$", true), ("exit 0", false), ("kill -HUP $$", false)]
    {
        script.program("aifw", &format!("{body}\n"));
        let told = String::from_utf8(script.run(&[]).stdout).unwrap();
        assert_eq!(told.ends_with("shell\n"), shell, "{body}: {told}");
    }
    fs::remove_file(script.dir.path().join("aifw")).unwrap();
    let told = String::from_utf8(script.run(&[]).stdout).unwrap();
    assert!(told.contains("status 127") && told.ends_with("shell\n"), "{told}");
}
