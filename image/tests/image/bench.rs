//! A directory with sets, programs and keys, and the tool run on them as a process.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::set;

pub struct Bench {
    pub dir: tempfile::TempDir,
}

impl Bench {
    /// With the synthetic sets, programs that are there already, and a signing key.
    pub fn new() -> Self {
        let bench = Self { dir: tempfile::tempdir().unwrap() };
        for name in ["sets", "daemons"] {
            fs::create_dir(bench.path(name)).unwrap();
        }
        set::write(&bench.path("sets"), &set::base(), &set::kernel());
        fs::write(bench.path("aifw"), set::program(&[])).unwrap();
        for daemon in ["rdns", "rdns-control", "rdhcpd", "rtime"] {
            fs::write(bench.path("daemons").join(daemon), set::program(&[])).unwrap();
        }
        let public = text(&bench.run(&["keygen", &bench.name("release.pem")]));
        fs::write(bench.path("release.keys"), format!("# this year's\n{public}")).unwrap();
        bench
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn name(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_image"));
        command.args(arguments).env("XDG_CACHE_HOME", self.path("cache")).current_dir(self.dir.path());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// `build` with everything given, and these arguments.
    pub fn build(&self, output: &str, further: &[&str]) -> Output {
        let (firmware, daemons, keys) = (self.name("aifw"), self.name("daemons"), self.name("release.keys"));
        let output = self.name(output);
        let mut arguments =
            vec!["build", "--firmware", &firmware, "--daemons", &daemons, "--release-keys", &keys];
        arguments.extend(["--slot-size", "40", "--output", &output]);
        arguments.extend(further);
        self.run(&arguments)
    }

    /// The image of the synthetic sets.
    pub fn image(&self) -> PathBuf {
        let output = self.build("aifw.img", &["--sets", &self.name("sets"), "--version", "0.2.0"]);
        assert!(output.status.success(), "{}", errors(&output));
        self.path("aifw.img")
    }

    /// A file of slot A.
    pub fn cat(&self, image: &Path, path: &str) -> Vec<u8> {
        let output = self.run(&["inspect", &image.display().to_string(), "--cat", path]);
        assert!(output.status.success(), "{path}: {}", errors(&output));
        output.stdout
    }

    /// The lines about slot A's files.
    pub fn list(&self, image: &Path) -> Vec<String> {
        let output = self.run(&["inspect", &image.display().to_string(), "--list"]);
        assert!(output.status.success(), "{}", errors(&output));
        text(&output).lines().map(str::to_owned).collect()
    }
}

pub fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
