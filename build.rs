//! Reads the layouts of the CPython that the extension is built for.
//!
//! With the `python` feature: asks pyo3's build support which interpreter that
//! is, and lets bindgen read its internal headers through
//! `include/cpython_layout.h`. Without it there is nothing to do.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    #[cfg(feature = "python")]
    python::main();
}

#[cfg(feature = "python")]
mod python {
    use std::path::{Path, PathBuf};
    use std::process::Command;

    /// Every name that Rust sees of CPython's internals.
    const TYPES: &[&str] = &[
        "PyThreadState",
        "_PyThreadStateImpl",
        "_PyInterpreterFrame",
        "PyCodeObject",
        "PyFrameObject",
        "_PyRuntimeState",
        "PyFunctionObject",
        "PyDictKeysObject",
        "PyDictObject",
        "PyDictValues",
        "PyGenObject",
        "PyHeapTypeObject",
        "PySetObject",
        "PyLongObject",
    ];

    pub fn main() {
        pyo3_build_config::use_pyo3_cfgs();
        pyo3_build_config::add_extension_module_link_args();
        println!("cargo:rerun-if-changed=include/cpython_layout.h");
        println!("cargo:rerun-if-env-changed=LIBCLANG_PATH");
        let config = pyo3_build_config::get();
        let version = config.version();
        let python = config.executable().map(str::to_owned).unwrap_or_else(|| {
            fail("cannot tell which Python to build for: set PYO3_PYTHON to its executable")
        });
        if version.major != 3 || !(11..=15).contains(&version.minor) {
            fail(&format!("frontrun supports CPython 3.11 to 3.15, and this is {version}"));
        }
        let free_threaded = config.target_abi().kind().is_free_threaded();
        if free_threaded && version.minor != 13 {
            fail(&format!(
                "of the free-threaded builds frontrun supports that of CPython 3.13, and this \
                 is {version}t"
            ));
        }
        find_libclang(&python);
        let include = ask(&python, "import sysconfig; print(sysconfig.get_path('include'))");
        let platform = ask(&python, "import sysconfig; print(sysconfig.get_path('platinclude'))");
        if !Path::new(&include).join("internal/pycore_frame.h").exists() {
            fail(&format!(
                "the headers of {python} are not in {include}: install its development package \
                 (Debian: python{version}-dev)"
            ));
        }
        let out = PathBuf::from(std::env::var("OUT_DIR").unwrap());
        let mut builder = bindgen::Builder::default()
            .header("include/cpython_layout.h")
            .clang_args([format!("-I{include}"), format!("-I{platform}")])
            .clang_args(["-I".to_owned() + &include + "/internal"])
            .clang_args(["-Iinclude/stubs"])
            .clang_args(builtin_headers())
            .use_core()
            .allowlist_var("FR_.*")
            .allowlist_item("_Py_(RETURN_GENERATOR|CODEUNIT).*")
            .layout_tests(true)
            .derive_debug(false)
            .derive_default(false)
            .generate_comments(false)
            .default_enum_style(bindgen::EnumVariation::Consts);
        for name in TYPES {
            builder = builder.allowlist_type(name);
        }
        let bindings = builder.generate().unwrap_or_else(|e| fail(&format!("bindgen: {e}")));
        bindings.write_to_file(out.join("layout.rs")).expect("OUT_DIR is writable");
    }

    /// bindgen loads libclang at run time: from LIBCLANG_PATH, else from the
    /// `libclang` wheel that pyproject.toml asks for, else from the system.
    fn find_libclang(python: &str) {
        if std::env::var_os("LIBCLANG_PATH").is_some() {
            return;
        }
        let script =
            "import clang, os; print(os.path.join(os.path.dirname(clang.__file__), 'native'))";
        let found = Command::new(python).args(["-c", script]).output();
        if let Ok(output) = found
            && output.status.success()
        {
            let path = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            // SAFETY: a build script's main thread is its only thread.
            unsafe { std::env::set_var("LIBCLANG_PATH", path) };
        }
    }

    /// The wheel has no compiler headers (stddef.h and the like): lend it gcc's.
    fn builtin_headers() -> Vec<String> {
        let cc = std::env::var("CC").unwrap_or_else(|_| "cc".into());
        let output = Command::new(cc).arg("-print-file-name=include").output();
        match output {
            Ok(output) if output.status.success() => {
                vec!["-isystem".into(), String::from_utf8_lossy(&output.stdout).trim().to_owned()]
            }
            _ => vec![],
        }
    }

    fn ask(python: &str, script: &str) -> String {
        let output = Command::new(python)
            .args(["-c", script])
            .output()
            .unwrap_or_else(|e| fail(&format!("cannot run {python}: {e}")));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn fail(message: &str) -> ! {
        eprintln!("error: {message}");
        std::process::exit(1)
    }
}
