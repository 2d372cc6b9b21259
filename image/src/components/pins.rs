//! Which daemons, in which version. The one place where that stands.
//!
//! Why exactly these: the files that the firmware writes for a daemon, and what it believes of the daemon's answers,
//! were checked against this version of it. None of the four rejects a key it does not know, so another version may
//! quietly do something else. Whoever changes a pin goes through that daemon's tests first.

/// A daemon that Cargo's registry has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Component {
    /// The crate's name.
    pub package: &'static str,
    pub version: &'static str,
    /// What it installs, all of it needed.
    pub programs: &'static [&'static str],
    /// The program that tells its version, and the option that makes it. Where none does, cargo's record of the
    /// installation stands for it.
    pub tells: Option<(&'static str, &'static str)>,
}

/// In the order in which they are built.
pub const COMPONENTS: [Component; 4] = [
    Component {
        package: "rdns-server",
        version: "1.17.25",
        programs: &["rdns", "rdns-control"],
        tells: None,
    },
    Component { package: "rdhcpd", version: "0.16.2", programs: &["rdhcpd"], tells: None },
    Component { package: "rtimed", version: "0.15.1", programs: &["rtime"], tells: Some(("rtime", "-V")) },
    Component {
        package: "trafficcop",
        version: "1.5.0",
        programs: &["trafficcop"],
        tells: Some(("trafficcop", "--version")),
    },
];

impl Component {
    /// The directory of its own in which it is kept, below the components' directory.
    pub fn directory(&self) -> String {
        format!("{}-{}", self.package, self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_whole_versions_and_programs_have_one_owner() {
        let mut programs: Vec<&str> = Vec::new();
        for component in COMPONENTS {
            let numbers: Vec<_> = component.version.split('.').map(str::parse::<u32>).collect();
            assert!(numbers.len() == 3 && numbers.iter().all(Result::is_ok), "{component:?}");
            assert!(component.tells.is_none_or(|(program, _)| component.programs.contains(&program)));
            programs.extend(component.programs);
        }
        programs.sort_unstable();
        assert_eq!(programs, ["rdhcpd", "rdns", "rdns-control", "rtime", "trafficcop"]);
    }
}
