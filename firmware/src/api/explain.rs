//! `POST /rules/explain`: what pf would do with a packet, and why. An addition of ours.

use super::{Access, ApiError, Call, Reply, Route};
use crate::apply::machine::ExplainError;
use crate::config::Permission;
use crate::pf::sim::{Explanation, Question};

pub fn routes() -> Vec<Route> {
    let summary = "Explain what the loaded rules do with a packet";
    vec![
        Route::new("POST", "/rules/explain", Access::Needs(Permission::RulesRead), summary, explain)
            .takes::<Question>()
            .answers::<Explanation>(200)
            .without_snapshot(),
    ]
}

async fn explain(call: Call) -> Result<Reply, ApiError> {
    let question: Question = call.json()?;
    let machine = call.app.applier.machine().clone();
    let explained = blocking::unblock(move || machine.explain(&question)).await;
    match explained {
        Ok(explanation) => Ok(Reply::json(&explanation)),
        Err(ExplainError::Question(bad)) => Err(ApiError::bad_request(bad.to_string())),
        Err(ExplainError::NoInterface(name)) => {
            Err(ApiError::bad_request(format!("interface: this machine has no {name:?}")))
        }
        Err(ExplainError::Apply(error)) => Err(ApiError::internal(error)),
    }
}
