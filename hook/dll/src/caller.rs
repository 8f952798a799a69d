//! Who asks, by what the daemon has published?

use crate::identity;
use hook::decide::Caller;
use hook::section::Tables;

/// This process, as decisions know it.
pub(crate) fn caller(tables: Tables<'_>) -> Caller {
    Caller {
        session: identity::session().and_then(|id| tables.session(id)),
        program: identity::listing(tables),
        privileged: identity::is_privileged(),
    }
}
