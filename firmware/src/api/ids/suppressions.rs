//! Suppressions: alerts that are not wanted.

use super::{KIND, READ, WRITE, id_of, missing};
use crate::api::resource::{Data, ListOf, Message};
use crate::api::services_common::audit;
use crate::api::{ApiError, Call, Reply, Route};
use crate::apply::services::Wish;
use crate::config::ids::{IdsSuppression, SuppressionRequest};

pub fn routes() -> Vec<Route> {
    let (all, one) = ("/ids/suppressions", "/ids/suppressions/{id}");
    vec![
        Route::new("GET", all, READ, "Suppressions, newest first", list)
            .answers::<ListOf<IdsSuppression>>(200)
            .with_query(&[
                ("limit", "1000 unless given, 5000 at most"),
                ("offset", "rows to leave out at the start"),
            ]),
        Route::new(
            "POST",
            all,
            WRITE,
            "Hide alerts of a rule; what it drops is dropped all the same",
            create,
        )
        .takes::<SuppressionRequest>()
        .answers::<Data<IdsSuppression>>(201),
        Route::new("DELETE", one, WRITE, "Show alerts of a rule again", delete).answers::<Message>(200),
    ]
}

async fn list(call: Call) -> Result<Reply, ApiError> {
    let page = call.page(1000, 5000)?;
    let snapshot = call.app.store.snapshot();
    let mut rows: Vec<_> = snapshot.config.ids_suppressions.iter().map(|row| &**row).collect();
    rows.sort_by_key(|row| std::cmp::Reverse((row.created_at, row.id)));
    let total = rows.len();
    Ok(Reply::page(&page.of(rows), total))
}

async fn create(call: Call) -> Result<Reply, ApiError> {
    let request: SuppressionRequest = call.json()?;
    let author = call.author();
    let by = author.clone();
    let row = call
        .app
        .store
        .commit(&author, move |draft| {
            let row = request.suppression(draft.now, &draft.config)?;
            draft.audit.push(audit("ids", &by, format!("alerts of rule {} suppressed", row.sid)));
            draft.config.ids_suppressions.insert(row.clone());
            Ok::<_, ApiError>(row)
        })
        .await?;
    call.app.applier.service_soon(&author, KIND, Wish::AsConfigured);
    Ok(Reply::created(&row))
}

async fn delete(call: Call) -> Result<Reply, ApiError> {
    let id = id_of(&call, "suppression")?;
    let author = call.author();
    let by = author.clone();
    call.app
        .store
        .commit(&author, move |draft| {
            let gone = draft.config.ids_suppressions.remove(&id).ok_or_else(|| missing("suppression", id))?;
            draft.audit.push(audit("ids", &by, format!("alerts of rule {} no longer suppressed", gone.sid)));
            Ok::<_, ApiError>(())
        })
        .await?;
    call.app.applier.service_soon(&author, KIND, Wish::AsConfigured);
    Ok(Reply::message("suppression deleted"))
}
