//! Threads at the end of the interpreter.
//!
//! Up to 3.13 a thread that asks for the GIL while the interpreter ends is
//! ended by `pthread_exit`, which unwinds its stack. Nothing can be unwound on
//! a carrier: there are frames of C and Rust on stacks of our own. So the call
//! is redirected in the object that holds the interpreter (its relocation is
//! patched, ELF only), and puts a carrier to sleep instead, as 3.14+ does.

#[cfg(not(Py_3_14))]
pub use patched::hang_at_exit;

/// 3.14+ puts such threads to sleep itself.
#[cfg(Py_3_14)]
pub fn hang_at_exit() {}

#[cfg(not(Py_3_14))]
mod patched {
    use std::cell::Cell;
    use std::ffi::{CStr, c_char, c_int, c_void};
    use std::sync::Once;

    thread_local! {
        static IS_CARRIER: Cell<bool> = const { Cell::new(false) };
    }

    /// The calling OS thread sleeps for ever where the interpreter would end it.
    pub fn hang_at_exit() {
        IS_CARRIER.set(true);
        static PATCH: Once = Once::new();
        PATCH.call_once(|| {
            let inside = pyo3_ffi::PyEval_SaveThread as *const () as usize;
            // SAFETY: the callback gets what it expects: the address of a word.
            unsafe { libc::dl_iterate_phdr(Some(visit), &raw const inside as *mut c_void) };
        });
    }

    unsafe extern "C" fn exit_thread(value: *mut c_void) -> ! {
        if IS_CARRIER.get() {
            loop {
                // SAFETY: waits for a signal, whose handler may run here.
                unsafe { libc::pause() };
            }
        }
        // SAFETY: passed on from the caller.
        unsafe { libc::pthread_exit(value) }
    }

    /// `Elf64_Dyn`.
    #[repr(C)]
    struct Dynamic {
        tag: i64,
        value: usize,
    }

    /// `Elf64_Rela`.
    #[repr(C)]
    struct Relocation {
        offset: usize,
        info: u64,
        addend: i64,
    }

    const DT_STRTAB: i64 = 5;
    const DT_SYMTAB: i64 = 6;
    const DT_RELA: i64 = 7;
    const DT_RELASZ: i64 = 8;
    const DT_PLTRELSZ: i64 = 2;
    const DT_JMPREL: i64 = 23;
    const R_X86_64_GLOB_DAT: u64 = 6;
    const R_X86_64_JUMP_SLOT: u64 = 7;
    const PAGE: usize = 4096;

    /// Patches the object that contains the address behind `inside`.
    unsafe extern "C" fn visit(
        object: *mut libc::dl_phdr_info,
        _size: usize,
        inside: *mut c_void,
    ) -> c_int {
        // SAFETY: the dynamic loader describes a loaded object: its headers, its
        // dynamic section and the tables that section points to are mapped.
        unsafe {
            let object = &*object;
            let inside = *inside.cast::<usize>();
            let base = object.dlpi_addr as usize;
            let headers = std::slice::from_raw_parts(object.dlpi_phdr, object.dlpi_phnum as usize);
            let at = |header: &libc::Elf64_Phdr| base + header.p_vaddr as usize;
            let holds = headers.iter().any(|header| {
                header.p_type == libc::PT_LOAD
                    && (at(header)..at(header) + header.p_memsz as usize).contains(&inside)
            });
            let dynamic = headers.iter().find(|header| header.p_type == libc::PT_DYNAMIC);
            let (true, Some(dynamic)) = (holds, dynamic) else { return 0 };
            let entry = |tag: i64| {
                let mut entry = at(dynamic) as *const Dynamic;
                while (*entry).tag != 0 {
                    if (*entry).tag == tag {
                        return Some((*entry).value);
                    }
                    entry = entry.add(1);
                }
                None
            };
            let (Some(symbols), Some(strings)) = (entry(DT_SYMTAB), entry(DT_STRTAB)) else {
                return 1;
            };
            for (table, size) in [(DT_JMPREL, DT_PLTRELSZ), (DT_RELA, DT_RELASZ)] {
                let (Some(table), Some(size)) = (entry(table), entry(size)) else { continue };
                let count = size / size_of::<Relocation>();
                for relocation in std::slice::from_raw_parts(table as *const Relocation, count) {
                    let kind = relocation.info & 0xffff_ffff;
                    if kind != R_X86_64_JUMP_SLOT && kind != R_X86_64_GLOB_DAT {
                        continue;
                    }
                    let symbol =
                        (symbols as *const libc::Elf64_Sym).add((relocation.info >> 32) as usize);
                    let name = (strings + (*symbol).st_name as usize) as *const c_char;
                    if CStr::from_ptr(name) == c"pthread_exit" {
                        write(base + relocation.offset);
                    }
                }
            }
            1
        }
    }

    unsafe fn write(slot: usize) {
        let page = slot & !(PAGE - 1);
        // SAFETY: the slot is a word of the object's own table of addresses, which
        // may have been made read-only after it was filled.
        unsafe {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            if libc::mprotect(page as *mut c_void, 2 * PAGE, access) == 0 {
                *(slot as *mut usize) = exit_thread as *const () as usize;
            }
        }
    }
}
