//! Does this process descend from a listed program? See [`hook::windows::mark`].

use hook::windows::mark::{Mark, Offset};

#[expect(unsafe_code, reason = "the daemon looks it up by its name in the DLL's exports")]
#[unsafe(no_mangle)]
static SESSIONIP_HOOK_MARK: Mark = Mark::new();

/// By which lists? 0: by none.
pub(crate) fn lists() -> u64 {
    SESSIONIP_HOOK_MARK.lists()
}

/// Where the mark is in every process that has loaded this DLL.
pub(crate) fn offset(base: usize) -> Option<Offset> {
    Offset::here(&SESSIONIP_HOOK_MARK, base)
}
