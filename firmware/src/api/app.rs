//! What every handler can reach.

use std::sync::Arc;

use crate::pf::Pf;
use crate::platform::Platform;
use crate::store::Store;

/// The appliance behind the API. One per process, shared.
pub struct App {
    pub store: Store,
    pub pf: Arc<dyn Pf>,
    pub platform: Arc<dyn Platform>,
}
