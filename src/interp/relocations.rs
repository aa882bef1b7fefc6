//! Redirecting C functions by name: the words through which a loaded object
//! calls other objects' functions are replaced (ELF only).
//!
//! Sources: the System V ABI for x86-64, `dl_iterate_phdr(3)`, glibc `elf/link.h`.

use std::ffi::{CStr, c_char, c_int, c_void};

use libc::{Elf64_Phdr, Elf64_Sym, dl_phdr_info};
use rustc_hash::FxHashMap;

/// A function by its name, and what is called in its place.
pub type Redirection = (&'static CStr, *const ());

/// In which objects calls are redirected.
#[derive(Clone, Copy)]
pub enum Objects {
    /// In the one that contains this address.
    Containing(usize),
    /// In all but this extension, the C library and the dynamic loader.
    Users,
}

/// Redirects calls in the objects that are loaded now. Objects without such calls
/// stay as they are; an object that was redirected before is left alone.
pub fn redirect(objects: Objects, redirections: &[Redirection]) {
    let targets = redirections.iter().map(|(name, target)| (*name, *target as usize)).collect();
    let mut visit = Visit { objects, targets };
    // SAFETY: the callback gets what it expects, and keeps nothing of it.
    unsafe { libc::dl_iterate_phdr(Some(visit_object), (&raw mut visit).cast()) };
}

/// Makes this extension call these functions of the C library directly. A program at a
/// fixed address has others call functions whose address it takes through itself.
pub fn bind_to_libc(names: impl Iterator<Item = &'static CStr>) {
    // SAFETY: looks names up in a library that is loaded anyhow; the handle is kept.
    let found: Vec<Redirection> = unsafe {
        let library = libc::dlopen(c"libc.so.6".as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD);
        if library.is_null() {
            return;
        }
        names.map(|name| (name, libc::dlsym(library, name.as_ptr()).cast_const().cast())).collect()
    };
    let found: Vec<_> = found.into_iter().filter(|(_, address)| !address.is_null()).collect();
    redirect(Objects::Containing(visit_object as *const () as usize), &found);
}

/// How many objects have been loaded so far: grows when there may be new ones.
pub fn generation() -> u64 {
    let mut loads = 0u64;
    unsafe extern "C" fn note(object: *mut dl_phdr_info, _: usize, loads: *mut c_void) -> c_int {
        // SAFETY: the loader describes an object; `loads` is the word above.
        unsafe { *loads.cast() = (*object).dlpi_adds };
        1
    }
    // SAFETY: the callback gets the address of a word, as it expects.
    unsafe { libc::dl_iterate_phdr(Some(note), (&raw mut loads).cast()) };
    loads
}

struct Visit {
    objects: Objects,
    targets: FxHashMap<&'static CStr, usize>,
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

const DT_PLTRELSZ: i64 = 2;
const DT_STRTAB: i64 = 5;
const DT_SYMTAB: i64 = 6;
const DT_RELA: i64 = 7;
const DT_RELASZ: i64 = 8;
const DT_JMPREL: i64 = 23;
const R_X86_64_GLOB_DAT: u64 = 6;
const R_X86_64_JUMP_SLOT: u64 = 7;
const PAGE: usize = 4096;

unsafe extern "C" fn visit_object(
    object: *mut dl_phdr_info,
    _size: usize,
    visit: *mut c_void,
) -> c_int {
    // SAFETY: `visit` is the one of `redirect`; the loader describes an object that
    // stays loaded while it iterates.
    unsafe {
        let visit = &*visit.cast::<Visit>();
        let object = Object::new(&*object);
        match visit.objects {
            Objects::Containing(address) if !object.contains(address) => 0,
            Objects::Containing(_) => {
                object.redirect(&visit.targets);
                1
            }
            Objects::Users => {
                if !object.is_ours_or_libc() {
                    object.redirect(&visit.targets);
                }
                0
            }
        }
    }
}

/// A loaded object.
struct Object<'a> {
    base: usize,
    headers: &'a [Elf64_Phdr],
}

impl<'a> Object<'a> {
    /// # Safety
    /// What the dynamic loader says of an object.
    unsafe fn new(info: &'a dl_phdr_info) -> Self {
        // SAFETY: as the caller promises, the headers are mapped.
        let headers =
            unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum as usize) };
        Object { base: info.dlpi_addr as usize, headers }
    }

    fn at(&self, header: &Elf64_Phdr) -> usize {
        self.base + header.p_vaddr as usize
    }

    fn contains(&self, address: usize) -> bool {
        self.headers.iter().any(|header| {
            header.p_type == libc::PT_LOAD
                && (self.at(header)..self.at(header) + header.p_memsz as usize).contains(&address)
        })
    }

    /// Calls inside the C library and the loader go nowhere else, and ours are meant
    /// as they are.
    fn is_ours_or_libc(&self) -> bool {
        let loader = libc::dl_iterate_phdr as *const () as usize;
        let library = libc::read as *const () as usize;
        let ours = visit_object as *const () as usize;
        // The kernel's own object has no words to replace.
        let kernel = !self.headers.iter().any(|h| h.p_type == libc::PT_DYNAMIC);
        kernel || [loader, library, ours].into_iter().any(|address| self.contains(address))
    }

    /// An entry of the dynamic section that is an address; glibc has made it absolute,
    /// other C libraries have not.
    ///
    /// # Safety
    /// The object is loaded.
    unsafe fn address(&self, tag: i64) -> Option<usize> {
        // SAFETY: as the caller promises.
        let value = unsafe { self.entry(tag) }?;
        Some(if value < self.base { self.base + value } else { value })
    }

    /// # Safety
    /// The object is loaded.
    unsafe fn entry(&self, tag: i64) -> Option<usize> {
        let dynamic = self.headers.iter().find(|header| header.p_type == libc::PT_DYNAMIC)?;
        let mut entry = self.at(dynamic) as *const Dynamic;
        // SAFETY: the dynamic section of a loaded object is mapped, and ends with 0.
        unsafe {
            while (*entry).tag != 0 {
                if (*entry).tag == tag {
                    return Some((*entry).value);
                }
                entry = entry.add(1);
            }
        }
        None
    }

    /// # Safety
    /// The object is loaded, and stays so.
    unsafe fn redirect(&self, targets: &FxHashMap<&'static CStr, usize>) {
        // SAFETY: the tables that the dynamic section points to are mapped; each
        // relocation of these two kinds fills one word, named by its symbol.
        unsafe {
            let (Some(symbols), Some(strings)) = (self.address(DT_SYMTAB), self.address(DT_STRTAB))
            else {
                return;
            };
            for (table, size) in [(DT_JMPREL, DT_PLTRELSZ), (DT_RELA, DT_RELASZ)] {
                let (Some(table), Some(size)) = (self.address(table), self.entry(size)) else {
                    continue;
                };
                let count = size / size_of::<Relocation>();
                for relocation in std::slice::from_raw_parts(table as *const Relocation, count) {
                    let kind = relocation.info & 0xffff_ffff;
                    if kind != R_X86_64_JUMP_SLOT && kind != R_X86_64_GLOB_DAT {
                        continue;
                    }
                    let symbol =
                        (symbols as *const Elf64_Sym).add((relocation.info >> 32) as usize);
                    let name =
                        CStr::from_ptr((strings + (*symbol).st_name as usize) as *const c_char);
                    if let Some(target) = targets.get(name) {
                        write(self.base + relocation.offset, *target);
                    }
                }
            }
        }
    }
}

/// # Safety
/// `slot` is a word of an object's own table of addresses.
unsafe fn write(slot: usize, target: usize) {
    let page = slot & !(PAGE - 1);
    // SAFETY: the table may have been made read-only after it was filled; a word that
    // is aligned is read whole or not at all by calls that happen meanwhile.
    unsafe {
        let slot = slot as *mut usize;
        if *slot == target {
            return;
        }
        let access = libc::PROT_READ | libc::PROT_WRITE;
        if libc::mprotect(page as *mut c_void, PAGE, access) == 0 {
            slot.write_volatile(target);
        }
    }
}
