//! The REST API: one file per area, thin — parse, permit, call, shape the answer. The route table is data:
//! see [`route`]. Every answer is made by a [`Reply`], every refusal by an [`ApiError`].

pub mod app;
pub mod call;
pub mod error;
pub mod reply;
pub mod route;

pub use app::App;
pub use call::{Call, Page};
pub use error::ApiError;
pub use reply::Reply;
pub use route::{Access, Route};
