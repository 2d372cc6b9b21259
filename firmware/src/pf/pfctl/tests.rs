//! The driver against a stand-in for pfctl(8), `stand-in.sh`: it records what it was given and answers what
//! the test wrote down for it. It shows what is sent and how answers and endings are taken, not what FreeBSD's
//! pfctl does.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use super::*;

struct StandIn {
    folder: tempfile::TempDir,
}

impl StandIn {
    fn new() -> Self {
        let stand_in = Self { folder: tempfile::tempdir().unwrap() };
        // A link, not a copy: a program that a test thread still writes cannot be started by another.
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/pf/pfctl/stand-in.sh");
        std::os::unix::fs::symlink(script, stand_in.path().join("pfctl")).unwrap();
        stand_in
    }
    fn path(&self) -> &Path {
        self.folder.path()
    }
    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).unwrap();
    }
    /// What every call without an answer of its own gets.
    fn answers(&self, status: u8, stdout: &str, stderr: &str) {
        self.write("status", &status.to_string());
        self.write("stdout", stdout);
        self.write("stderr", stderr);
    }
    fn pf(&self) -> Pfctl {
        Pfctl::with_program(self.path().join("pfctl"))
    }
    /// The calls since the last question.
    fn calls(&self) -> Vec<String> {
        let path = self.path().join("calls");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        self.write("calls", "");
        text.lines().map(Into::into).collect()
    }
    fn stdin(&self) -> String {
        std::fs::read_to_string(self.path().join("stdin")).unwrap()
    }
}

const NOISE: &str = "No ALTQ support in kernel\nALTQ related functions disabled\n";

#[test]
fn a_ruleset_is_sent_on_standard_input() {
    let stand_in = StandIn::new();
    stand_in.answers(0, "", NOISE);
    let pf = stand_in.pf();
    pf.check(Some("aifw"), "pass all\n").unwrap();
    assert_eq!(
        (stand_in.calls(), stand_in.stdin()),
        (vec!["[-a][aifw][-n][-f][-]".into()], "pass all\n".into())
    );
    pf.load(Some("aifw-nat"), "no nat on em0\n").unwrap();
    assert_eq!(stand_in.calls(), ["[-a][aifw-nat][-f][-]"]);
    pf.load(None, "block all\n").unwrap();
    assert_eq!((stand_in.calls(), stand_in.stdin()), (vec!["[-f][-]".into()], "block all\n".into()));
}

#[test]
fn a_refused_ruleset_names_anchor_and_line() {
    let stand_in = StandIn::new();
    stand_in.answers(
        1,
        "",
        &format!("{NOISE}stdin:3: syntax error\npfctl: Syntax error in config file: pf rules not loaded\n"),
    );
    let pf = stand_in.pf();
    let error = pf.load(Some("aifw"), "x").unwrap_err();
    assert!(matches!(error, PfError::Refused { .. }));
    assert_eq!(error.to_string(), "aifw: line 3: syntax error");
    assert_eq!(pf.check(None, "x").unwrap_err().to_string(), "main: line 3: syntax error");
    stand_in.answers(1, "", "pfctl: /dev/pf: No such file or directory\n");
    let error = pf.check(None, "x").unwrap_err();
    assert_eq!(error.to_string(), "pf cannot be reached: /dev/pf: No such file or directory");
}

#[test]
fn a_table_is_replaced_in_one_step() {
    let stand_in = StandIn::new();
    stand_in.answers(0, "", "1 table created.\n2 addresses added.\n");
    let lan = TableName::new("lan").unwrap();
    stand_in.pf().replace_table(&lan, &["10.0.0.0/8".into(), "!10.1.0.0/16".into()]).unwrap();
    assert_eq!(stand_in.calls(), ["[-t][lan][-T][replace][-f][-]"]);
    assert_eq!(stand_in.stdin(), "10.0.0.0/8\n!10.1.0.0/16\n");
}

#[test]
fn an_unknown_table_is_not_an_empty_one() {
    let stand_in = StandIn::new();
    stand_in.write("answer -s Tables", "bruteforce\nhosts\n");
    stand_in.write("answer -t bruteforce -T show", "   198.51.100.0/24\n   203.0.113.9\n");
    stand_in.write("answer -t hosts -T show", "");
    stand_in.write("answer -t lan -T show", "");
    let pf = stand_in.pf();
    let table = |name: &str| pf.table(&TableName::new(name).unwrap());
    assert_eq!(table("bruteforce").unwrap(), ["198.51.100.0/24", "203.0.113.9"]);
    assert!(table("hosts").unwrap().is_empty());
    assert!(matches!(table("lan"), Err(PfError::NoTable(name)) if name == "lan"));
    stand_in.answers(255, "", "pfctl: Table does not exist.\n");
    assert!(matches!(table("other"), Err(PfError::NoTable(name)) if name == "other"));
}

#[test]
fn pf_that_is_already_as_wanted_is_fine() {
    let stand_in = StandIn::new();
    let pf = stand_in.pf();
    stand_in.answers(1, "", "pfctl: pf already enabled\n");
    pf.set_enabled(true).unwrap();
    assert!(pf.set_enabled(false).is_err());
    stand_in.answers(1, "", "pfctl: pf not enabled\n");
    pf.set_enabled(false).unwrap();
    assert_eq!(stand_in.calls(), ["[-e]", "[-d]", "[-d]"]);
}

#[test]
fn states_are_killed_by_label_and_counted() {
    let stand_in = StandIn::new();
    stand_in.answers(0, "", &format!("{NOISE}killed 3 states\n"));
    let pf = stand_in.pf();
    assert_eq!(pf.kill_states_with_label("rule:1 -F all").unwrap(), 3);
    stand_in.answers(0, "", "7 states cleared\n");
    assert_eq!(pf.flush_states().unwrap(), 7);
    assert_eq!(stand_in.calls(), ["[-k][label][-k][rule:1 -F all]", "[-F][states]"]);
}

#[test]
fn questions_and_their_answers() {
    let stand_in = StandIn::new();
    stand_in.write(
        "answer -a aifw -v -s rules",
        "block drop in all label \"x\"\n  [ Evaluations: 5 Packets: 2 Bytes: 80 States: 0 ]\n",
    );
    stand_in.write("answer -a aifw -v -s nat", "");
    stand_in.write("answer -v -s Anchors", "  aifw-nat\n  aifw\n");
    stand_in.write("answer -s memory", "states        hard limit    50000\n");
    stand_in.write("answer -s info", "Status: Disabled for 0 days 00:00:01           Debug: Urgent\n");
    stand_in.write("answer -v -v -s Interfaces", "em0\n\tIn4/Pass:    [ Packets: 4   Bytes: 5   ]\n");
    stand_in.write("answer -v -v -s states", "all udp 10.0.0.1:1 -> 10.0.0.2:53       MULTIPLE:SINGLE\n");
    stand_in.write("answer -s labels", "x 5 2 80 2 80 0 0 0\n");
    stand_in.write("answer -s timeouts", "tcp.first                   120s\n");
    let pf = stand_in.pf();
    let (translation, filter) = pf.rules(Some("aifw")).unwrap();
    assert!(translation.is_empty());
    assert_eq!((filter[0].text.as_str(), filter[0].packets), ("block drop in all label \"x\"", 2));
    assert_eq!(pf.anchors().unwrap(), ["aifw", "aifw-nat"]);
    assert_eq!(pf.state_limit().unwrap(), 50000);
    assert!(!pf.info().unwrap().enabled);
    assert_eq!(pf.interfaces().unwrap()[0].packets_in, 4);
    assert_eq!(pf.states().unwrap()[0].dst.1, 53);
    assert_eq!(pf.labels().unwrap()[0].bytes, 80);
    assert_eq!(pf.timeouts().unwrap(), [("tcp.first".to_owned(), 120)]);
}

#[test]
fn a_host_without_pfctl_cannot_be_asked() {
    let error = Pfctl::with_program("/nonexistent/pfctl").info().unwrap_err();
    assert_eq!(error.to_string(), "pf cannot be reached: /nonexistent/pfctl is not installed");
}

#[test]
fn logged_packets_get_the_labels_of_their_rule_until_the_next_load() {
    let stand_in = StandIn::new();
    stand_in.answers(0, "", "");
    stand_in.write(
        "answer -v -s rules",
        "scrub in all\nanchor \"aifw\" all\nblock drop log all label \"default-deny\"\n",
    );
    stand_in.write("answer -v -s Anchors", "  aifw\n  aifw-nat/web\n  other/web\n");
    stand_in.write("answer -a aifw -v -s rules", "block drop in all label \"a\" label \"b\"\n");
    let pf = stand_in.pf();
    let labels = |anchor: &str, rule: Option<u32>| {
        pf.labels.of(&LoggedPacket {
            at: crate::config::Timestamp::UNIX_EPOCH,
            passed: false,
            inbound: true,
            interface: "em0".into(),
            protocol: "udp".into(),
            src: std::net::Ipv4Addr::LOCALHOST.into(),
            src_port: 1,
            dst: std::net::Ipv4Addr::LOCALHOST.into(),
            dst_port: 2,
            reason: "match".into(),
            anchor: anchor.into(),
            rule_number: rule,
            labels: vec![],
        })
    };
    assert_eq!(labels("", Some(1)), ["default-deny"]);
    assert!(labels("", Some(0)).is_empty() && labels("", Some(9)).is_empty() && labels("", None).is_empty());
    assert_eq!(labels("aifw", Some(0)), ["a", "b"]);
    // Two anchors end in "web".
    assert!(labels("web", Some(0)).is_empty());
    assert_eq!(stand_in.calls().len(), 4);
    assert_eq!(labels("aifw", Some(0)), ["a", "b"]);
    assert!(stand_in.calls().is_empty());
    pf.load(Some("aifw"), "pass all\n").unwrap();
    stand_in.write("answer -a aifw -v -s rules", "block drop in all label \"c\"\n");
    assert_eq!(labels("aifw", Some(0)), ["c"]);
}

/// Every reader on what FreeBSD 15.1's pfctl really printed, whole.
#[test]
fn the_answers_of_15_1_are_read_whole() {
    let Some(folder) = crate::testing::shared("freebsd-15.1") else { return };
    let text = |name: &str| {
        let text = std::fs::read_to_string(folder.join(format!("pfctl-{name}.txt"))).unwrap();
        let told = text.lines().filter(|line| !line.starts_with("$ ") && !line.starts_with("[exit "));
        without_noise(&told.map(|line| format!("{line}\n")).collect::<String>())
    };
    let lines = |name: &str| text(name).lines().map(str::to_owned).collect::<Vec<_>>();

    let states = states::read(&text("ss-vv"));
    let protocols: Vec<_> = states.iter().map(|state| state.protocol.as_str()).collect();
    assert_eq!(protocols, ["igmp", "ipv6-icmp", "tcp", "carp", "udp", "icmp", "tcp"]);
    let ids: std::collections::HashSet<_> = states.iter().map(|state| state.id & ((1 << 53) - 1)).collect();
    assert_eq!(ids.len(), states.len());
    assert_eq!((states[4].dst.1, states[4].packets, states[4].bytes), (51820, (3, 0), (528, 0)));
    // Without -v there is less to tell, and the same states.
    assert_eq!(states::read(&text("ss")).len(), states.len());

    // With counters or without, a rule's text is the same.
    let texts = |name: &str| rules::read(&text(name)).into_iter().map(|rule| rule.text).collect::<Vec<_>>();
    assert_eq!(texts("sr-v"), lines("sr"));
    let rules = rules::read(&text("sr-v"));
    assert_eq!(
        (rules[12].evaluations, rules[12].packets, rules[12].bytes, rules[12].states),
        (9, 32, 2468, 7)
    );
    assert_eq!(texts("sn"), lines("sn"));
    assert_eq!(texts("recursive").len(), lines("recursive").len() - 2);
    let labels: Vec<_> = rules.iter().flat_map(|rule| &rule.labels).collect();
    assert_eq!(labels, ["default-deny", "rule:11111111-2222-3333-4444-555555555555", "ssh"]);
    assert_eq!(labels::read(&text("sl")).len(), labels.len());
    assert_eq!(rules::read_anchors(&text("sA-v")), ["aifw", "aifw-nat", "aifw-nat/web", "aifw-pbr"]);

    let interfaces = interfaces::read(&text("sI-vv"));
    let names: Vec<_> = interfaces.iter().map(|interface| interface.name.clone()).collect();
    assert_eq!(names, lines("sI"));
    let vtnet0 = interfaces.iter().find(|interface| interface.name == "vtnet0").unwrap();
    assert_eq!((vtnet0.packets_in, vtnet0.packets_out), (7, 10));
    assert_eq!((vtnet0.bytes_in, vtnet0.bytes_out, vtnet0.packets_blocked), (500, 1068, 0));

    let info = info::read(&text("si"));
    assert_eq!((info.enabled, info.states, info.counters.len()), (true, 7, 17));
    assert_eq!(info::read(&text("si-v")), info);
    assert_eq!(info::read_limit(&text("sm"), "states"), Some(50000));
    let timeouts = info::read_timeouts(&text("st"));
    assert_eq!((timeouts.len(), timeouts[9].clone()), (25, ("sctp.established".to_owned(), 86400)));
    assert_eq!(tables::read_names(&text("sT-vv")), tables::read_names(&text("sT")));
    assert_eq!(tables::read_entries(&text("table-show-vv")), tables::read_entries(&text("table-show")));
    assert_eq!(states::read_count(&text("kill-label")), Some(0));
    assert_eq!(states::read_count(&text("kill-states-all")), Some(7));
    assert!(info::is_already(&text("d-when-on"), false));
}
