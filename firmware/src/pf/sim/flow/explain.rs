//! The way of a packet through pf, told instead of gone: nothing is counted, begun or logged.

use super::super::engine::Engine;
use super::super::evaluate::{Random, Reason, is_error};
use super::super::explain::{
    Explanation, Leg, ShownPacket, ShownRoute, ShownRule, ShownState, ShownTranslation, answer_word, shown,
};
use super::super::state::Via;
use super::super::tcp::Verdict;
use super::{Passage, Seen, translated};
use crate::pf::packet::{Direction, Family, Packet};

impl Engine {
    /// What pf would do with a packet, without doing it.
    pub fn explain(&self, interface: &str, direction: Direction, packet: &Packet) -> Explanation {
        let interface = self.interfaces.name(interface);
        let mut random = self.random.clone();
        let passage = Passage {
            packet,
            direction,
            interface: interface.clone(),
            received_on: None,
            continuation: false,
        };
        let (first, after, via) = self.explain_leg(&passage, &mut random);
        let mut explanation =
            Explanation { verdict: first.verdict, rule: first.rule.clone(), route: None, legs: vec![first] };
        if !explanation.passed() {
            return explanation;
        }
        if direction == Direction::Out {
            explanation.route = explanation.legs[0].route.clone();
            return explanation;
        }
        let by_rule = explanation.legs[0].route.clone();
        let Some(hop) = self.forward(&after, via) else { return explanation };
        explanation.route = Some(by_rule.unwrap_or_else(|| ShownRoute {
            interface: hop.interface.to_string(),
            gateway: hop.gateway,
            by: "routing table",
        }));
        let mut leaving = after;
        leaving.ttl = leaving.ttl.saturating_sub(1);
        let passage = Passage {
            packet: &leaving,
            direction: Direction::Out,
            interface: hop.interface.clone(),
            received_on: Some(interface),
            continuation: false,
        };
        let changes_family = explanation.legs[0]
            .translation
            .as_ref()
            .is_some_and(|t| Family::of(t.before.src) != Family::of(t.after.src));
        if changes_family {
            // The state that the packet begins covers this leg too.
            return explanation;
        }
        let (second, _, _) = self.explain_leg(&passage, &mut random);
        if second.verdict == "block" {
            explanation.verdict = "block";
            explanation.rule = second.rule.clone();
        }
        if second.route.is_some() {
            explanation.route = second.route.clone();
        }
        explanation.legs.push(second);
        explanation
    }

    fn explain_leg(&self, p: &Passage<'_>, random: &mut Random) -> (Leg, Packet, Option<Via>) {
        let mut leg = Leg {
            interface: p.interface.to_string(),
            direction: p.direction,
            verdict: "pass",
            reason: "match",
            answer: "",
            rule: None,
            state: None,
            keeps_state: false,
            logged: false,
            translation: None,
            route: None,
            rtable: None,
            tag: None,
            path: Vec::new(),
        };
        let mut after = p.packet.clone();
        let mut via = None;
        match self.see(p, self.now(), random, Some(&mut leg)) {
            Seen::Skipped => leg.reason = "skip",
            Seen::Dropped(reason) => {
                (leg.verdict, leg.reason, leg.answer) = ("block", reason.as_str(), "drop");
                leg.logged = true;
            }
            Seen::State(found) => {
                if let Some(mut state) = self.states.get(found.slot).cloned() {
                    leg.reason = "state";
                    leg.state = Some(ShownState::from(&state));
                    leg.rule = Some(ShownRule::from(&*state.rule));
                    leg.rtable = state.rtable;
                    let fits = is_error(p.packet)
                        || state.follow(p.packet, found.from_originator, self.now()) != Verdict::Mismatch;
                    if fits {
                        after = translated(&state, found, p.packet, p.direction);
                        let (by, route) = if found.from_originator {
                            ("route-to", state.route_to.clone())
                        } else {
                            ("reply-to", state.reply_to.clone())
                        };
                        leg.route = route.as_ref().map(|v| shown_route(v, by));
                        via = route;
                    } else {
                        (leg.verdict, leg.reason, leg.answer) =
                            ("block", Reason::StateMismatch.as_str(), "drop");
                    }
                    leg.logged = state.log_all;
                }
                if after != *p.packet {
                    leg.translation = Some(ShownTranslation {
                        rule: None,
                        before: ShownPacket::from(p.packet),
                        after: ShownPacket::from(&after),
                    });
                }
            }
            Seen::New(decision) => {
                leg.reason = decision.reason.as_str();
                leg.rule = shown(decision.filter.as_ref());
                leg.keeps_state = decision.passed && decision.keep_state;
                leg.logged = !decision.logging.is_empty();
                leg.rtable = decision.rtable;
                leg.tag = decision.tag.as_ref().map(ToString::to_string);
                if decision.passed {
                    leg.route = match (&decision.route_to, &decision.reply_to) {
                        (Some(via), _) => Some(shown_route(via, "route-to")),
                        (None, Some(via)) => Some(shown_route(via, "reply-to")),
                        (None, None) => None,
                    };
                    via = decision.route_to.clone();
                } else {
                    leg.verdict = "block";
                    leg.answer = answer_word(decision.answer, p.packet.protocol);
                }
                after = decision.packet.clone();
                if after != *p.packet {
                    leg.translation = Some(ShownTranslation {
                        rule: shown(decision.nat.as_ref()),
                        before: ShownPacket::from(p.packet),
                        after: ShownPacket::from(&after),
                    });
                }
            }
        }
        (leg, after, via)
    }
}

fn shown_route(via: &Via, by: &'static str) -> ShownRoute {
    ShownRoute { interface: via.interface.to_string(), gateway: via.gateway, by }
}
