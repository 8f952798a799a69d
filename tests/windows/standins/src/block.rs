//! How is an answer laid out that the caller frees as one piece of memory?

use core::{ffi::c_void, marker::PhantomData, ptr};

use windows_sys::{
    Win32::{
        Foundation::LocalFree,
        System::Memory::{LMEM_ZEROINIT, LocalAlloc},
    },
    core::PWSTR,
};

/// Rows of one type, and behind them the texts they point to.
pub(crate) struct Block<T> {
    start: *mut u8,
    rows: usize,
    filled: usize,
    texts: usize,
    end: usize,
    of: PhantomData<T>,
}

impl<T: Copy> Block<T> {
    /// Has room for that many rows and, with their ends, units of text.
    #[expect(unsafe_code, reason = "asks Windows for memory")]
    pub(crate) fn with_room(rows: usize, units: usize) -> Option<Self> {
        let texts = rows.checked_mul(size_of::<T>())?;
        let end = texts.checked_add(units.checked_mul(size_of::<u16>())?)?;
        // SAFETY: takes no pointers. LocalAlloc aligns for any type.
        let start = unsafe { LocalAlloc(LMEM_ZEROINIT, end.max(1)) }.cast();
        let block = Self { start, rows, filled: 0, texts, end, of: PhantomData };
        (!start.is_null()).then_some(block)
    }

    /// Copies a text, with its end, and says where it is; nowhere if there is no
    /// room for it.
    #[expect(unsafe_code, reason = "writes into the block")]
    pub(crate) fn text(&mut self, text: &[u16]) -> PWSTR {
        let after = self.texts + size_of_val(text);
        if after > self.end {
            return ptr::null_mut();
        }
        // SAFETY: between `texts` and `end` is ours and free. Rows are of types
        // that hold pointers, so that `texts` is even.
        unsafe {
            let to = self.start.add(self.texts).cast::<u16>();
            to.copy_from_nonoverlapping(text.as_ptr(), text.len());
            self.texts = after;
            to
        }
    }

    /// Adds a row, if there is room for it.
    #[expect(unsafe_code, reason = "writes into the block")]
    pub(crate) fn push(&mut self, row: T) {
        if self.filled < self.rows {
            // SAFETY: the block begins with room for `rows` rows, aligned for any.
            unsafe { self.start.cast::<T>().add(self.filled).write(row) };
            self.filled += 1;
        }
    }

    /// Gives it to whoever will call [`free`].
    pub(crate) fn give(self) -> *mut T {
        self.start.cast()
    }
}

/// Frees a block; `null` is one, too.
#[expect(unsafe_code, reason = "gives memory back")]
pub(crate) fn free(block: *mut c_void) {
    // SAFETY: LocalFree refuses what LocalAlloc did not give. The contract of
    // WTSFreeMemory has the caller not use it again.
    unsafe { LocalFree(block) };
}

/// A text as Windows has it, with its end.
pub(crate) fn wide(text: &str) -> Vec<u16> {
    text.encode_utf16().chain([0]).collect()
}
